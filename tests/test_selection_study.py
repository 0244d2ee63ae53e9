"""Repetitions of an experiment, and the random problems of chapter 7."""

import pytest
import torch
from helpers import generator

from tsl import advice, covariance
from tsl.lab.selection_study import digit_pair, digit_rows, random_problem, repeat, try_plan


def test_repeat_stacks_results_of_any_form():
    def experiment(scale, replica):
        return {"curve": scale * replica * torch.ones(2)}, replica

    found, index = repeat(3, experiment, 10)
    assert found["curve"].tolist() == [[0, 0], [10, 10], [20, 20]]
    assert index.tolist() == [0, 1, 2]


def test_a_random_problem_shows_features_of_what_it_is():
    seen = [random_problem(4, 20_000, torch.Generator().manual_seed(seed)) for seed in range(8)]
    for problem in seen:
        assert len(problem.tasks.covs) == 2
        assert 6 <= problem.context <= 128
        assert problem.goal.trace().item() == pytest.approx(4)
        truth = dict(zip(problem.offer, problem.tasks.covs, strict=True)) | {"goal": problem.goal}
        for name, rows in (problem.offer | {"goal": problem.rows}).items():
            white = rows @ torch.linalg.inv(covariance.square_root(truth[name]))
            torch.testing.assert_close(white.mT @ white / len(rows), torch.eye(4).double(), atol=0.06, rtol=0)
    assert len({problem.context for problem in seen}) > 4


def test_digits_of_a_pair_are_split_between_planning_and_test_and_not_on_offer():
    offer, seen, held_out = digit_pair((3, 8), generator(0))
    pixels, labels = digit_rows()
    assert list(offer) == [f"digit {digit}" for digit in (0, 1, 2, 4, 5, 6, 7, 9)]
    both = torch.cat([seen, held_out])
    assert abs(len(seen) - len(held_out)) <= 1
    wanted = pixels[(labels == 3) | (labels == 8)]
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, wanted.tolist()))
    other = digit_pair((3, 8), generator(1))[1]
    assert not torch.equal(seen, other)


def test_a_plan_is_tried_with_its_own_mixtures():
    """Promises come true where the rows are many and Gaussian; the single task gets all the weight."""
    goal, far = covariance.power_law(4, 0.5, trace=4.0), covariance.power_law(4, 0.5, trace=4.0).flip(0, 1)
    rows = [
        torch.randn((20_000, 4), generator=generator(i), dtype=torch.float64) @ covariance.square_root(cov)
        for i, cov in enumerate((goal, goal, far))
    ]
    plan = advice.plan_training({"far": rows[2], "same": rows[1]}, rows[0], 60, 200, 5, generator(4))
    found = try_plan(plan, [far, goal], goal, generator(5), training=20_000, tests=1000)
    assert list(found) == ["recommended", "equal weights", "best single task"]
    for curves in found.values():
        torch.testing.assert_close(curves["measured"], curves["promised"], rtol=0.2, atol=1e-6)
    direct = {name: curves["measured"][1] for name, curves in found.items()}
    assert direct["best single task"] < 0.9 * direct["equal weights"]


@pytest.mark.parametrize("pair", [(3, 3), (3,), (3, 10), (1, 2, 3)])
def test_a_pair_is_two_digits(pair, refuses):
    with refuses("pair must be two different digits"):
        digit_pair(pair, generator())
