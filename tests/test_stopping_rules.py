"""Regrets of stopping rules: definitions by hand, the oracle as the limit, and the settings they are tried on."""

import pytest
import torch
from helpers import generator

from tsl import cot, covariance, errors, prompts, theory
from tsl.lab import stopping_rules

EYE = torch.eye(4, dtype=torch.float64)


def test_regret_of_three_prompts_by_hand():
    error = torch.tensor([[9.0, 4.0, 1.0], [9.0, 2.0, 8.0], [9.0, 3.0, 2.0]], dtype=torch.float64)
    answered = torch.tensor([4.0, 2.0, 2.0], dtype=torch.float64)
    found = stopping_rules.regret(error, answered, torch.arange(3)[None])
    # Fixed steps have means 9, 3, 11/3 and medians 9, 3, 2.
    assert {key: value.item() for key, value in found.items()} == {"median": 2 / 2, "mean": (8 / 3) / 3}


def test_no_rule_beats_the_oracle_and_every_rule_is_there():
    gamma = theory.gamma(EYE, 20)
    test = prompts.sample_prompts(EYE, 6, 200, noise=0.5, generator=generator())

    def think(part, steps):
        return cot.pseudo_newton(part.moments(), gamma, steps)

    error, answered = stopping_rules.answers(think, test, 10)
    torch.testing.assert_close(error, errors.squared_error(think(test, 10), test.w))
    assert tuple(answered) == stopping_rules.RULES
    draws = stopping_rules.resample(200, 5, generator(1))
    regrets = {rule: stopping_rules.regret(error, found, draws) for rule, found in answered.items()}
    for rule in set(stopping_rules.RULES) - {"w̄ itself"}:
        assert (answered[rule] >= answered["oracle"]).all()
    assert (regrets["oracle"]["mean"] <= 1).all()
    assert (answered["w̄ itself"].mean() < answered["posterior"].mean()).item()
    table = stopping_rules.tabulate([regrets, regrets])
    assert table["held out"]["mean"].shape == (2, 6)
    assert "±" in stopping_rules.middle(table["posterior"]["mean"])


def test_answers_do_not_see_the_truth():
    test = prompts.sample_prompts(EYE, 6, 30, noise=0.5, generator=generator(2))
    moved = prompts.Prompts(test.x, test.y, test.w + 1e-6)

    def think(part, steps):
        return cot.pseudo_newton(part.moments(), theory.gamma(EYE, 20), steps)

    _, one = stopping_rules.answers(think, test, 8)
    _, other = stopping_rules.answers(think, moved, 8)
    for rule in stopping_rules.RULES:
        torch.testing.assert_close(one[rule], other[rule], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "outliers", "cauchy"])
def test_a_setting_draws_what_it_says(kind: str):
    cov = covariance.power_law(4, 1.0)
    setting = stopping_rules.Setting(cov, cov, 8, 400, 0.5, kind, weights=10.0, features=1e-3)
    batch = setting.draw(200, generator(3))
    moments = batch.moments()
    torch.testing.assert_close(moments.gram.mean(0) / 1e-6, cov, rtol=0, atol=0.02)
    assert batch.w.std().item() == pytest.approx(10, rel=0.1)
    noise = (batch.y - torch.einsum("bmd,bd->bm", batch.x, batch.w)) / (1e-3 * 0.5 * torch.trace(cov).sqrt())
    middle = noise.abs().median().item()
    assert middle == pytest.approx({"gaussian": 0.674, "outliers": 0.077, "cauchy": 1.0}[kind], rel=0.1)
    # The model is that of the same units: one thought of it scales as the weights do.
    plain = stopping_rules.Setting(cov, cov, 8, 400, 0.5, kind, weights=10.0)
    scaled = prompts.Prompts(1e3 * batch.x, 1e3 * batch.y, batch.w)
    torch.testing.assert_close(setting.model()(batch, 3), plain.model()(scaled, 3))


def test_fresh_settings_are_of_equal_trace_and_some_are_short():
    rows = stopping_rules.fresh_settings()
    for settings in rows.values():
        for setting in settings:
            assert torch.trace(setting.test).item() == pytest.approx(len(setting.test))
            assert setting.m >= 2
    assert all(setting.m < len(setting.test) for setting in rows["m < d"])
    assert len(rows["m < d"]) == 18
