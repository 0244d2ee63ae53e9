"""The practical box: right where the answer is known, silent where it cannot know."""

import pytest
import torch
from scipy import stats

from tsl import cot, covariance, diagnose, errors, prompts, theory


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(gamma: torch.Tensor):
    return lambda batch, steps: cot.pseudo_newton(batch.moments(), gamma, steps)


IDENTITY = torch.eye(5, dtype=torch.float64)


def test_converging_chain_helps() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(0))
    found = diagnose.thinking_helps(model(theory.gamma(IDENTITY, 10)), batch, 8)
    assert found.verdict == "helps"
    assert found.best == 8
    assert "helps" in str(found)


def test_diverging_chain_hurts() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(1))
    found = diagnose.thinking_helps(model(theory.gamma(covariance.power_law(5, 1.0), 30)), batch, 8)
    assert found.verdict == "hurts"
    assert found.harmed[-1] > 0.9
    assert found.low[-1] > 1


def test_chain_that_stands_still_is_undecided() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 100, generator=generator(2))
    guesses = torch.randn(100, 7, 5, dtype=torch.float64, generator=generator(3))
    found = diagnose.thinking_helps(lambda _, steps: guesses[:, : steps + 1], batch, 6)
    assert found.verdict == "undecided"
    assert ((found.low <= 1) & (found.high >= 1)).all()


def test_true_weights_and_overflow_do_not_matter() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 50, generator=generator(4))
    blind = prompts.Prompts(batch.x, batch.y, torch.full_like(batch.w, torch.nan))
    chain = torch.full((50, 5, 5), torch.inf, dtype=torch.float64)
    chain[:, :2] = 0
    found = diagnose.thinking_helps(lambda *_: chain, blind, 4)
    assert found.verdict == "hurts"
    assert not torch.isnan(found.low).any()


def test_interval_of_the_median_covers_it_for_cauchy_tails() -> None:
    trials, size = 2000, 41
    uniform = torch.rand(size, trials, dtype=torch.float64, generator=generator(5))
    values = torch.tan(torch.pi * (uniform - 0.5)) + 3.0  # Cauchy around 3, no mean
    median, low, high = errors.median_interval(values, 0.9)
    covered = ((low <= 3) & (high >= 3)).sum().item()
    assert stats.binomtest(covered, trials, 0.9).pvalue > 1e-4 or covered > 0.9 * trials
    assert covered < 0.95 * trials  # conservative, but not empty
    assert ((low <= median) & (median <= high)).all()


def test_simultaneous_error_rate_is_kept_when_nothing_changes() -> None:
    wrong = 0
    for trial in range(200):
        noise = torch.randn(60, 6, 3, dtype=torch.float64, generator=generator(100 + trial))
        batch = prompts.sample_prompts(torch.eye(3, dtype=torch.float64), 10, 60, generator=generator(trial))
        found = diagnose.thinking_helps(
            lambda _, steps, noise=noise: noise[:, : steps + 1], batch, 5, held_out=2
        )
        wrong += bool(((found.low > 1) | (found.high < 1)).any())
    assert stats.binomtest(wrong, 200, 0.05, alternative="greater").pvalue > 1e-3


def test_bad_input_is_named() -> None:
    batch = prompts.sample_prompts(IDENTITY, 4, 30, generator=generator(6))
    think = model(IDENTITY)
    with pytest.raises(ValueError, match="budget must be"):
        diagnose.thinking_helps(think, batch, 1)
    with pytest.raises(ValueError, match="held_out must be below"):
        diagnose.thinking_helps(think, batch, 3, held_out=4)
    with pytest.raises(ValueError, match="confidence must lie"):
        diagnose.thinking_helps(think, batch, 10, confidence=-3.0)
    with pytest.raises(ValueError, match="confidence must lie"):
        errors.median_interval(batch.w, 1.0)
    with pytest.raises(ValueError, match="must hold at least"):
        errors.median_interval(batch.w[:3])
