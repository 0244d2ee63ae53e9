"""What is foreseen for one setting: the causes of overthinking by name, and errors that come true."""

import pytest
import torch
from helpers import generator

from tsl import cot, covariance, errors, exact, forecast, laws, lsa, prompts, theory

EYE = torch.eye(6, dtype=torch.float64)


def test_a_well_trained_model_on_long_prompts_has_no_reason_to_stop():
    made = forecast.foresee(EYE, EYE, 10, 200, 12, generator())
    assert made.best_step == 12
    assert not made.overthinks
    assert made.reasons == ()
    assert "does not hurt" in str(made)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((covariance.power_law(6, 1.0), EYE, 30, 400, 12), "training lacked"),
        ((EYE, EYE, 100, 8, 30), "too short"),
        ((EYE, EYE, 10, 12, 60), "noisy"),
    ],
)
def test_each_cause_of_overthinking_is_named(arguments, cause):
    noise = 2.0 if cause == "noisy" else 0.0
    made = forecast.foresee(*arguments, generator(), noise)
    assert made.overthinks
    assert len(made.reasons) == 1
    assert cause in made.reasons[0]
    assert cause in str(made)


@pytest.mark.parametrize("scale", [1.0, 25.0])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_mean_is_that_of_prompts_and_does_not_depend_on_units(scale, noise):
    """Features in other units, with labels and noise in the units that follow: the same errors."""
    made = forecast.foresee(scale * EYE, scale * EYE, 10, 30, 5, generator(), noise * scale**0.5)
    torch.testing.assert_close(
        made.mean, exact.isotropic_error(6, 30, theory.gamma(EYE, 10, noise)[0, 0].item(), 5, noise)
    )
    model = lsa.LinearSelfAttention.from_gamma(theory.gamma(scale * EYE, 10, noise * scale**0.5))
    batch = prompts.sample_prompts(scale * EYE, 30, 20_000, noise * scale**0.5, generator(1))
    measured = errors.squared_error(cot.chain_of_thought(model, batch, 5), batch.w)
    assert errors.z_scores(measured, made.mean)[1:].abs().max() < 4.5
    torch.testing.assert_close(measured.median(0).values, made.typical, rtol=0.1, atol=0)


def test_means_reach_as_far_as_a_formula_does():
    tilted = covariance.rotate(covariance.power_law(6, 0.5), generator(3))
    long = forecast.foresee(tilted, EYE, 10, 50, 8, generator())
    assert len(long.mean) == exact.MAX_STEPS
    noisy = forecast.foresee(tilted, EYE, 10, 50, 8, generator(), noise=1.0)
    heavy = forecast.foresee(tilted, laws.student(EYE, 9.0), 10, 50, 8, generator())
    for made in (noisy, heavy):
        assert len(made.mean) == 2
    assert heavy.mean[1] > long.mean[1]
    assert all(part in str(long) for part in ("Theorem 3.1", "exact.expected_error", "–"))


def test_bad_input_is_named(refuses):
    for change, message in (
        ({"n": 0}, "n must"),
        ({"m": 0}, "m must"),
        ({"steps": 0}, "steps must"),
        ({"noise": -1.0}, "noise"),
    ):
        with refuses(message):
            forecast.foresee(
                **({"train": EYE, "test": EYE, "n": 5, "m": 5, "steps": 3, "generator": generator()} | change)
            )
    with refuses("dimension d"):
        forecast.foresee(EYE, torch.eye(2, dtype=torch.float64), 5, 5, 3, generator())
