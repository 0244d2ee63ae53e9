"""Repetitions of an experiment, and the random problems of chapter 7."""

import pytest
import torch

from tsl import covariance
from tsl.lab.selection_study import random_problem, repeat


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


def test_weights_of_a_single_task_name_it():
    problem = random_problem(3, 5, torch.Generator().manual_seed(0))
    assert [weights.tolist() for weights in problem.single.values()] == [[1, 0], [0, 1]]
    assert list(problem.single) == list(problem.offer) == ["task 0", "task 1"]
