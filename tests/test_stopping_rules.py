"""Regrets of stopping rules: definitions by hand, the oracle as the limit, and the trace that GCV needs."""

import torch
from helpers import generator

from tsl import cot, covariance, prompts, theory
from tsl.lab import stopping_rules

EYE = torch.eye(4, dtype=torch.float64)


def test_regret_of_three_prompts_by_hand():
    error = torch.tensor([[9.0, 4.0, 1.0], [9.0, 2.0, 8.0], [9.0, 3.0, 2.0]], dtype=torch.float64)
    step = torch.tensor([1, 1, 2])
    draws = torch.arange(3)[None]
    found = {key: value.item() for key, value in stopping_rules.regret(error, step, draws).items()}
    # Chosen errors 4, 2, 2; fixed steps have means 9, 3, 11/3 and medians 9, 3, 2; the end is right for prompts 0 and 2.
    expected = {
        "median": 2 / 2,
        "mean": (8 / 3) / 3,
        "ends": (8 / 3) / 3,
        "alarm": 1 / 2,
        "alarm cost": 6 / 3,
    }
    assert found == expected


def test_no_rule_beats_the_oracle_and_every_rule_is_there():
    gamma = theory.gamma(EYE, 20)
    test = prompts.sample_prompts(EYE, 6, 200, noise=0.5, generator=generator())

    def think(part, steps):
        return cot.pseudo_newton(part.moments(), gamma, steps)

    error, chosen = stopping_rules.decide(think, gamma, test, 10)
    assert tuple(chosen) == stopping_rules.RULES
    draws = stopping_rules.resample(200, 5, generator(1))
    regrets = {rule: stopping_rules.regret(error, step, draws) for rule, step in chosen.items()}
    for rule in stopping_rules.RULES:
        assert (regrets[rule]["mean"] >= regrets["oracle"]["mean"] - 1e-12).all()
    assert (regrets["oracle"]["mean"] <= 1).all()
    table = stopping_rules.tabulate([regrets, regrets])
    assert table["GCV"]["mean"].shape == (2, 6)
    assert "±" in stopping_rules.middle(table["posterior"]["mean"])


def test_trace_of_the_smoother_is_that_of_the_map_from_labels_to_fits():
    gamma = theory.gamma(covariance.power_law(4, 0.5), 9)
    x = prompts.sample_prompts(EYE, 7, 1, generator=generator(2)).x
    labels = torch.eye(7, dtype=torch.float64)
    each = prompts.Prompts(x.expand(7, 7, 4), labels, torch.full((7, 4), torch.nan, dtype=torch.float64))
    chain = cot.pseudo_newton(each.moments(), gamma, 5)  # row i: the answer to label i alone
    fits = chain @ x[0].mT
    trace = torch.stack([fits[i, :, i] for i in range(7)]).sum(0)
    found = stopping_rules.smoother_trace(gamma, each.moments().gram[:1], 5)[0]
    torch.testing.assert_close(found, trace)
