"""One point of the grid: what is measured is what it says, against models whose chains are known."""

import pytest
import torch

from tsl import baselines, cot, exact, theory
from tsl.lab import records, transformers
from tsl.prompts import sample_prompts


class Newton:
    """A thinker that follows the recursion of the linear theory with a known scalar preconditioner."""

    def __init__(self, g: float) -> None:
        self.g = g

    def think(self, prompts, steps):
        return cot.pseudo_newton(prompts.moments(), self.g * torch.eye(3, dtype=torch.float64), steps)


def test_the_closest_newton_chain_of_a_newton_chain_is_itself():
    prompts = transformers.exam(transformers.Cell(prompts=300), 0.0, 20)
    g = float(torch.logspace(-0.5, 1.0, 61)[30])
    found = transformers.evaluate(Newton(g), prompts, 6)
    assert found["gamma"] == pytest.approx(g)
    assert max(found["distance"]) < 1e-20
    assert found["newton"] == pytest.approx(found["error"])


def test_curves_of_the_exact_answer_are_zero_from_step_one():
    prompts = transformers.exam(transformers.Cell(prompts=200), 0.0, 20)

    class Exact:
        def think(self, prompts, steps):
            return baselines.ols(prompts, steps)

    found = transformers.evaluate(Exact(), prompts, 4)
    assert found["error"][0] == pytest.approx(prompts.w.square().sum(-1).mean().item())
    assert max(found["error"][1:]) < 1e-12
    assert found["stops"] == pytest.approx([0.0] * len(transformers.STOPS), abs=1e-6)


def test_every_model_sits_the_same_exam():
    first, second = (
        transformers.exam(transformers.Cell(n=n, seed=seed), 1.0, 8) for n, seed in [(5, 0), (9, 3)]
    )
    assert torch.equal(first.x, second.x)


def test_lsa_trained_by_the_same_loop_finds_the_preconditioner_of_the_theory():
    # Direct prediction (chain = 1) is the setting of Theorem 3.1: V31 tends to -1/c times the inverse of Γ.
    settings = transformers.Cell(d=2, n=6, chain=1, kind="lsa", steps=1500, batch=256, learning_rate=2e-2)
    model, history = transformers.train(settings)
    target = torch.linalg.inv(theory.gamma(torch.eye(2, dtype=torch.float64), 6))
    found = model.layer.preconditioner()
    assert (found - target).norm() < 0.05 * target.norm()
    assert history.losses[-1] < history.losses[0]


def test_the_lsa_thinker_answers_a_chain_as_it_thinks():
    model = transformers.LSAThinker(3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.layer.value.add_(0.1 * torch.randn(8, 8, generator=generator, dtype=torch.float64))
    prompts = sample_prompts(torch.eye(3, dtype=torch.float64), 5, 4, generator=generator)
    chain = model.think(prompts, 1)
    torch.testing.assert_close(model(prompts, chain[:, :1])[:, 0], chain[:, 1])


def test_a_point_is_trained_tested_and_told_in_one_line(tmp_path):
    settings = transformers.settings(
        d=2, n=4, steps=120, layers=1, width=8, think=5, prompts=50, tests=((0.0, 4), (1.0, 8)), seed=1
    )
    found = transformers.job(settings, tmp_path)
    again = transformers.job(settings, tmp_path)  # from its checkpoint
    assert found == again
    assert [(test["alpha"], test["m"], len(test["error"])) for test in found["tests"]] == [
        (0.0, 4, 6),
        (1.0, 8, 6),
    ]
    assert len(found["losses"]) == 60
    text = transformers.headline({"settings": settings, "result": found})
    assert "n=4" in text
    assert "at step 5" in text


def test_what_evaluation_returns_is_what_its_docstring_lists():
    found = transformers.evaluate(Newton(2.0), transformers.exam(transformers.Cell(prompts=20), 0.0, 20), 3)
    listed = [
        line
        for line in transformers.evaluate.__doc__.split("Returns")[1].splitlines()
        if line.strip().startswith("``")
    ]
    assert sorted(name for line in listed for name in line.split("``")[1::2]) == sorted(found)


def test_thinking_in_parallel_is_measured_on_the_prompts_of_the_chain():
    prompts = transformers.exam(transformers.Cell(prompts=transformers.FEW), 0.0, 20)
    found = transformers.evaluate(Newton(2.0), prompts, 9)
    assert found["alone"] == pytest.approx(found["error"])
    assert [len(found[name]) for name in ("mean", "vote")] == [4, 4]
    # One chain about a half is the Newton chain about a prompt of half the length; two differ where examples do.
    one, two = (torch.tensor(found["mean"][index]) for index in (0, 1))
    assert len(one) == transformers.SHORT_CHAIN + 1
    assert (one[:3] / exact.isotropic_error(3, 10, 2.0, 2) - 1).abs().max() < 0.5
    assert (two[1:] < one[1:]).all()
    assert found["vote"][1] == pytest.approx(found["mean"][1])  # the median of two is their mean


def test_a_window_as_long_as_the_chain_changes_nothing_and_is_only_for_transformers():
    cell = transformers.Cell(prompts=40, layers=1, width=8)
    prompts = transformers.exam(cell, 0.0, 6)
    model = cell.model()
    whole = transformers.evaluate(model, prompts, 5)["error"]
    assert transformers.windowed(model, prompts, 5, 5)["windowed"] == pytest.approx(whole)
    assert transformers.windowed(model, prompts, 5, 1) == {}
    assert transformers.windowed(transformers.LSAThinker(3), prompts, 5, 4) == {}


def test_settings_are_checked_by_name_and_have_one_spelling(refuses):
    with refuses(r"fields of Cell .*got colour"):
        transformers.settings(colour="red")
    assert transformers.settings(n=7)["n"] == 7
    assert records.key(transformers.settings(alpha=1)) == records.key(
        transformers.settings(seed=0, alpha=1.0)
    )
    assert transformers.settings(**transformers.PAPER)["layers"] == 12


def record(n, seed, error):
    tests = [{"m": m, "alpha": 0.0, "error": [value, value / 2]} for m, value in error.items()]
    result = {"tests": tests, "training_seconds": 60.0 * seed}
    asked = transformers.settings(d=2, n=n, seed=seed, think=3, prompts=40)
    return records.make_record(asked, result, 1.0, "c0de")


def test_curves_of_records_are_those_of_the_test_asked_for(refuses):
    runs = [record(4, seed, {8: 1.0 + seed, 16: 10.0}) for seed in (1, 2)]
    assert transformers.curve(runs, 8).tolist() == [[2.0, 1.0], [3.0, 1.5]]
    assert transformers.curve(runs, 16)[0].tolist() == [10.0, 5.0]
    with refuses(r"tested on m=9 and alpha=0\.0, got 0 of 2"):
        transformers.curve(runs, 9)
    groups = transformers.grouped([*runs, record(5, 1, {})], "n", "alpha")
    assert {key: len(found) for key, found in groups.items()} == {(4, 0.0): 2, (5, 0.0): 1}
    assert transformers.origin(runs).startswith("2 stored records, trained for a median of 2 min on ")
    assert transformers.origin(runs[:1]).startswith("One stored record, trained for 1 min on ")


def test_the_linear_theory_of_a_record_is_that_of_its_training_on_the_same_exam():
    (run,) = [record(4, 1, {})]
    gamma = theory.gamma(torch.eye(2, dtype=torch.float64), 4)
    grams = transformers.exam(transformers.Cell(d=2, prompts=40), 1.0, 8).moments().gram
    steps = [torch.linalg.matrix_power(torch.eye(2) - torch.linalg.solve(gamma, grams), k) for k in range(4)]
    wanted = torch.stack([step.square().sum((1, 2)).mean() for step in steps])
    torch.testing.assert_close(transformers.linear_theory([run], 8, alpha=1.0), wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mlp"}, "kind must be 'gpt' or 'lsa', got 'mlp'"),
        ({"kind": ["gpt"]}, "kind must be 'gpt' or 'lsa'"),
        ({"d": 0}, "d must be an integer >= 1, got 0"),
        ({"n": 4.0}, "n must be an integer >= 1, got 4.0"),
        ({"alpha": "x"}, "alpha must be a finite number >= 0, got 'x'"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"chain": 0}, "chain"),
        ({"attention": "hard"}, "attention must be 'softmax' or 'linear', got 'hard'"),
        ({"encoding": "bytes"}, "encoding must be 'pairs' or 'interleaved', got 'bytes'"),
        ({"heads": 3}, "heads must be at least 1 and divide width=32, got heads=3"),
        ({"heads": 0}, "heads"),
        ({"layers": True}, "layers"),
        ({"width": "x"}, "width must be an integer >= 1, got 'x'"),
        ({"steps": -3}, "steps must be an integer >= 1, got -3"),
        ({"batch": "q"}, "batch must be an integer >= 1, got 'q'"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a finite number > 0, got '1e-3'"),
        ({"curriculum": 1.5}, r"curriculum must lie in \[0, 1\], got 1.5"),
        ({"curriculum": None}, "curriculum"),
        ({"precision": "fp8"}, "precision must be 'fp32' or 'bf16', got 'fp8'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"tests": [(0.0, 20.9)]}, r"m of tests\[0\] must be an integer >= 1, got 20.9"),
        ({"tests": [(0.0, 4), ("x", 4)]}, r"alpha of tests\[1\] must be a finite number >= 0, got 'x'"),
        ({"tests": [4]}, r"tests\[0\] must be a pair"),
        ({"tests": ()}, "tests must be a sequence of at least one pair"),
        ({"tests": "04"}, "tests must be a sequence"),
        ({"think": 0}, "think"),
        ({"prompts": 0}, "prompts"),
    ],
)
def test_bad_settings_are_named_before_anything_runs(settings, message, refuses):
    for make in (transformers.Cell, transformers.settings):
        with refuses(message):
            make(**settings)
