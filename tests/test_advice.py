"""What a practitioner asks: right where the answer is known, silent where it cannot know, and predictions come true."""

import pytest
import torch
from scipy import stats

from tsl import advice, cot, covariance, errors, lsa, prompts, theory


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
    return advice.plan_training(matrices, features(target, count, 99), **chosen)


def test_the_task_that_equals_the_target_gets_the_weight():
    made = plan({"same": law(0.8), "easy": law(0.1), "reversed": law(0.8).flip(0, 1)}, law(0.8))
    assert made.tasks[0].weight > 0.9
    assert made.weights.sum().item() == pytest.approx(1)
    assert not made.warnings


def test_complementary_specialists_are_mixed_although_neither_covers_the_target():
    wide, spike = torch.full((4,), 1.9), torch.full((4,), 0.02)
    left, right = torch.diag(torch.cat([wide, spike]).double()), torch.diag(torch.cat([spike, wide]).double())
    made = plan({"left": left, "right": right}, torch.eye(8, dtype=torch.float64))
    assert all(card.coverage < advice.SAFE for card in made.tasks)
    assert made.coverage > advice.SAFE
    assert (
        0.002 < made.weights.min() < 0.2
    )  # far from equal: the strong directions of a rare task dominate E[Σ̂²]
    recommended, equal, alone = (curve.median(0).values for curve in made.errors.values())
    assert recommended[-1] < equal[-1] < 0.1 * equal[1]
    assert alone[-1] > alone[1] > recommended[1]


def test_an_uncovered_target_draws_a_warning_and_thinking_is_not_recommended():
    skewed = torch.diag(torch.tensor([4, 3, 0.5, 0.3, 0.1, 0.05, 0.03, 0.02], dtype=torch.float64))
    made = plan({"skewed": skewed}, torch.eye(8, dtype=torch.float64), lengths=30)
    assert made.coverage < advice.SAFE
    assert any("covers" in text for text in made.warnings)
    assert made.overthinks
    assert made.best_step <= 1


def test_a_plan_whose_errors_overflow_says_so_and_can_be_printed():
    skewed = torch.diag(torch.tensor([1e4, 1, 1e-4], dtype=torch.float64))
    made = plan({"skewed": skewed}, torch.eye(3, dtype=torch.float64), lengths=10**6, steps=200)
    assert made.errors["recommended"][:, -1].isinf().all()
    assert made.overthinks
    assert made.best_step <= 1
    assert "inf" in str(made)


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
        advice.plan_training(**(base | change))


def model(gamma: torch.Tensor):
    return lambda batch, steps: cot.pseudo_newton(batch.moments(), gamma, steps)


IDENTITY = torch.eye(5, dtype=torch.float64)


def test_converging_chain_helps() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(0))
    found = advice.thinking_helps(model(theory.gamma(IDENTITY, 10)), batch, 8)
    assert found.verdict == "helps"
    assert found.best == 8
    assert "helps" in str(found)


def test_diverging_chain_hurts() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(1))
    found = advice.thinking_helps(model(theory.gamma(covariance.power_law(5, 1.0), 30)), batch, 8)
    assert found.verdict == "hurts"
    assert found.harmed[-1] > 0.9
    assert found.low[-1] > 1


def test_chain_that_stands_still_is_undecided() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 100, generator=generator(2))
    guesses = torch.randn(100, 7, 5, dtype=torch.float64, generator=generator(3))
    found = advice.thinking_helps(lambda _, steps: guesses[:, : steps + 1], batch, 6)
    assert found.verdict == "undecided"
    assert ((found.low <= 1) & (found.high >= 1)).all()


def test_true_weights_and_overflow_do_not_matter() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 50, generator=generator(4))
    blind = prompts.Prompts(batch.x, batch.y, torch.full_like(batch.w, torch.nan))
    chain = torch.full((50, 5, 5), torch.inf, dtype=torch.float64)
    chain[:, :2] = 0
    found = advice.thinking_helps(lambda *_: chain, blind, 4)
    assert found.verdict == "hurts"
    assert not torch.isnan(found.low).any()


def test_simultaneous_error_rate_is_kept_when_nothing_changes() -> None:
    wrong = 0
    for trial in range(200):
        noise = torch.randn(60, 6, 3, dtype=torch.float64, generator=generator(100 + trial))
        batch = prompts.sample_prompts(torch.eye(3, dtype=torch.float64), 10, 60, generator=generator(trial))
        found = advice.thinking_helps(
            lambda _, steps, noise=noise: noise[:, : steps + 1], batch, 5, held_out=2
        )
        wrong += bool(((found.low > 1) | (found.high < 1)).any())
    assert stats.binomtest(wrong, 200, 0.05, alternative="greater").pvalue > 1e-3


def test_bad_questions_are_named() -> None:
    batch = prompts.sample_prompts(IDENTITY, 4, 30, generator=generator(6))
    think = model(IDENTITY)
    with pytest.raises(ValueError, match="budget must be"):
        advice.thinking_helps(think, batch, 1)
    with pytest.raises(ValueError, match="held_out must be below"):
        advice.thinking_helps(think, batch, 3, held_out=4)
    with pytest.raises(ValueError, match="confidence must lie"):
        advice.thinking_helps(think, batch, 10, confidence=-3.0)
