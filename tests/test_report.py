"""The training plan: right where the answer is known, and its predictions come true."""

import pytest
import torch

from tsl import covariance, errors, lsa, prompts, report, theory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(cov: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    noise = torch.randn((count, len(cov)), generator=generator(seed), dtype=torch.float64)
    return noise @ covariance.square_root(cov)


def law(alpha: float, d: int = 8) -> torch.Tensor:
    return covariance.power_law(d, alpha, trace=float(d))


def plan(tasks, target, seed=100, count=4000, **kwargs):
    matrices = {name: features(cov, count, index) for index, (name, cov) in enumerate(tasks.items())}
    chosen = {"lengths": 100, "examples": 400, "steps": 6, "generator": generator(seed)} | kwargs
    return report.plan_training(matrices, features(target, count, 99), **chosen)


def test_the_task_that_equals_the_target_gets_the_weight():
    made = plan({"same": law(0.8), "easy": law(0.1), "reversed": law(0.8).flip(0, 1)}, law(0.8))
    assert made.tasks[0].weight > 0.9
    assert made.weights.sum().item() == pytest.approx(1)
    assert not made.warnings


def test_complementary_specialists_are_mixed_although_neither_covers_the_target():
    wide, spike = torch.full((4,), 1.9), torch.full((4,), 0.02)
    left, right = torch.diag(torch.cat([wide, spike]).double()), torch.diag(torch.cat([spike, wide]).double())
    made = plan({"left": left, "right": right}, torch.eye(8, dtype=torch.float64))
    assert all(card.coverage < report.SAFE for card in made.tasks)
    assert made.coverage > report.SAFE
    assert (
        0.002 < made.weights.min() < 0.2
    )  # far from equal: the strong directions of a rare task dominate E[Σ̂²]
    recommended, equal, alone = (curve.median(0).values for curve in made.errors.values())
    assert recommended[-1] < equal[-1] < 0.1 * equal[1]
    assert alone[-1] > alone[1] > recommended[1]


def test_an_uncovered_target_draws_a_warning_and_thinking_is_not_recommended():
    skewed = torch.diag(torch.tensor([4, 3, 0.5, 0.3, 0.1, 0.05, 0.03, 0.02], dtype=torch.float64))
    made = plan({"skewed": skewed}, torch.eye(8, dtype=torch.float64), lengths=30)
    assert made.coverage < report.SAFE
    assert any("covers" in text for text in made.warnings)
    assert made.overthinks
    assert made.best_step <= 1


def test_coverage_and_hardness_are_those_of_theory():
    made = plan({"one": law(0.5)}, law(0.8), count=200_000)
    top = torch.linalg.eigvals(torch.linalg.solve(theory.gamma(law(0.5), 100), law(0.8))).real.max().item()
    assert made.tasks[0].coverage == pytest.approx(1 / top, rel=0.02)
    assert made.tasks[0].hardness == pytest.approx(covariance.hardness(law(0.5)), rel=0.02)
    assert made.target_hardness == pytest.approx(covariance.hardness(law(0.8)), rel=0.02)


def test_predicted_error_comes_true_for_a_model_trained_on_the_recommended_mixture():
    covs = {"a": law(0.8), "b": law(0.8).flip(0, 1), "c": law(0.3)}
    made = plan(covs, law(0.5), count=20_000)
    mixture = prompts.TaskMixture(list(covs.values()), made.weights, [100] * 3)
    learned = lsa.empirical_optimum(mixture.sample_moments(100_000, generator(5)))
    grams = covariance.wishart(law(0.5), 400, 2000, generator(6))
    measured = errors.propagated_error(grams, torch.linalg.inv(learned), 6).median(0).values / 8
    predicted = made.errors["recommended"].median(0).values
    torch.testing.assert_close(measured[:4], predicted[:4], rtol=0.15, atol=1e-6)


def test_few_samples_draw_a_warning_and_still_give_a_plan():
    made = plan({"same": law(0.8), "easy": law(0.1)}, law(0.8), count=12)
    assert any("samples" in text for text in made.warnings)
    assert made.weights.sum().item() == pytest.approx(1)


def test_the_report_names_every_task_and_states_the_benefit():
    made = plan({"same": law(0.8), "easy": law(0.1)}, law(0.8))
    text = str(made)
    assert all(name in text for name in ("same", "easy", "recommended", "equal weights", "hardness"))
    middle, low, high = made.benefit
    assert 1 < low <= middle <= high
    assert f"divides the error of one step by {middle:.3g}" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {}}, "tasks must"),
        ({"tasks": {"a": torch.zeros(1, 3)}}, "at least 2 rows"),
        ({"tasks": {"a": torch.full((4, 3), float("nan"))}}, "finite"),
        ({"tasks": {"a": torch.ones(4, 2)}}, "dimension"),
        ({"lengths": 0}, r"lengths\[0\] must"),
        ({"lengths": [5, 5]}, "lengths"),
        ({"examples": 0}, "examples must"),
        ({"steps": 0}, "steps must"),
    ],
)
def test_bad_input_is_named(change, message):
    base = {
        "tasks": {"a": features(law(0.2, 3), 20, 0)},
        "target": features(law(0.2, 3), 20, 1),
        "lengths": 10,
        "examples": 10,
        "steps": 2,
        "generator": generator(),
    }
    with pytest.raises(ValueError, match=message):
        report.plan_training(**(base | change))
