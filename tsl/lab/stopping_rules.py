"""Rules that stop thinking, held against the best fixed step: what each costs over many prompts, with bootstrap samples of these.

A rule sees a chain and its prompt, not the truth. The *oracle* stops every prompt where its error is least; the best fixed
step is one for all prompts of a setting, and nobody knows it either. The posterior mean w̄ is no step of a chain at all: it is
what a reader who can solve the task would answer, and stands in every table beside the rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tsl import cot, errors, lsa, prompts, stopping
from tsl.cot import Baseline, Thinker
from tsl.prompts import Prompts

RULES = ("oracle", "w̄ itself", "posterior", "held out", "residual", "increments")
#: Those that do not need the task solved.
UNSOLVED = ("held out", "residual", "increments")


def answers(
    model: Thinker | Baseline, test: Prompts, steps: int
) -> tuple[Float[Tensor, "B k"], dict[str, Float[Tensor, " B"]]]:
    """Error of every step of a model's chains, and of what each of `RULES` answers.

    Parameters
    ----------
    model : object with a method think, or callable
        See `tsl.cot.chain_of_thought`.
    test : Prompts
        B test prompts of at least two examples, whose weights only the errors and the oracle look at.
    steps : int
        Last step.

    Returns
    -------
    error : Tensor of shape (B, steps + 1)
    answered : dict of rule to Tensor of shape (B,)
    """
    chain = cot.chain_of_thought(model, test, steps)
    error = errors.squared_error(chain, test.w)
    centre = stopping.posterior_mean(test)
    chosen = {
        "oracle": error.argmin(1),
        "posterior": stopping.first_turn((chain - centre[:, None]).square().sum(-1), patience=2),
        "held out": stopping.first_turn(stopping.held_out_error(model, test, steps), patience=2),
        "residual": stopping.first_turn(stopping.residual(chain, test)),
        "increments": stopping.divergence_step(chain),
    }
    answered = {rule: error.gather(1, step[:, None])[:, 0] for rule, step in chosen.items()}
    answered["w̄ itself"] = errors.squared_error(centre[:, None], test.w)[:, 0]
    return error, {rule: answered[rule] for rule in RULES}


def resample(size: int, count: int, generator: torch.Generator) -> Int[Tensor, "draws size"]:
    """Indices of prompts: the prompts themselves in row 0, then `count` bootstrap samples of them."""
    drawn = torch.randint(size, (count, size), generator=generator, device=generator.device)
    return torch.cat([torch.arange(size, device=generator.device)[None], drawn])


def regret(
    error: Float[Tensor, "B k"], answered: Float[Tensor, " B"], draws: Int[Tensor, "draws B"]
) -> dict[str, Tensor]:
    """What a rule's answers cost: their error over that of the best fixed step.

    Parameters
    ----------
    error : Tensor of shape (B, steps + 1)
        Error of every step.
    answered : Tensor of shape (B,)
        Error of the rule's answer to each prompt.
    draws : Tensor of shape (draws, B)
        See `resample`.

    Returns
    -------
    dict of Tensors of shape (draws,)
        In the ``mean`` and in the ``median`` over prompts. Each has a best fixed step of its own.
    """
    mean, median = error[draws].mean(1), error[draws].median(1).values  # (draws, steps + 1)
    picked = answered[draws]
    return {
        "mean": picked.mean(1) / mean.min(1).values,
        "median": picked.median(1).values / median.min(1).values,
    }


def tabulate(rows: Iterable[dict[str, dict[str, Tensor]]]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Regrets of many settings by rule and quantity: arrays of shape (settings, draws)."""
    every = list(rows)
    return {
        rule: {key: torch.stack([row[rule][key] for row in every]).numpy() for key in every[0][rule]}
        for rule in every[0]
    }


def middle(values: NDArray[np.float64], digits: int = 2) -> str:
    """Median over settings of (settings, draws), with half the width of its 95 % bootstrap interval over prompts."""
    over_settings = np.nanmedian(values, axis=0)
    low, high = np.quantile(over_settings[1:], [0.025, 0.975])
    return f"{over_settings[0]:.{digits}f}\u00a0±\u00a0{(high - low) / 2:.{digits}f}"  # on one line


@dataclass(frozen=True)
class Setting:
    """A linear task on which rules are tried, in units of one's choice.

    Parameters
    ----------
    train, test : Tensor of shape (d, d)
        Λ and Σ, before `features`.
    n, m : int
        Examples in a training prompt and in a test prompt.
    noise : float
        Scale of the label noise over the signal's standard deviation for weights N(0, I) and features in unit 1.
    kind : {"gaussian", "outliers", "cauchy"}
        Law of the noise; ``outliers`` is ten times as loud on a tenth of the labels and a tenth as loud on the others.
    weights, features : float
        Unit of the weights (the noise stays as it is) and of the features (the noise follows them).
    """

    train: Float[Tensor, "d d"]
    test: Float[Tensor, "d d"]
    n: int
    m: int
    noise: float = 0.0
    kind: str = "gaussian"
    weights: float = 1.0
    features: float = 1.0

    def model(self) -> Baseline:
        """Linear self-attention as training leaves it, by its recursion."""
        gamma = lsa.learned_gamma(self.train * self.features**2, self.n)
        return lambda part, steps: cot.pseudo_newton(part.moments(), gamma, steps)

    def draw(self, size: int, generator: torch.Generator) -> Prompts:
        """Test prompts."""
        clean = prompts.sample_prompts(self.test, self.m, size, generator=generator)
        blur = torch.empty_like(clean.y).normal_(generator=generator)
        chance = torch.empty_like(blur).uniform_(generator=generator)
        if self.kind == "outliers":
            blur = torch.where(chance < 0.1, 10 * blur, 0.1 * blur)
        elif self.kind == "cauchy":
            blur = (math.pi * (chance - 0.5)).tan()
        loud = self.noise * torch.trace(self.test).sqrt()
        y = self.features * (self.weights * clean.y + loud * blur)
        return Prompts(self.features * clean.x, y, self.weights * clean.w)


def unit_spectrum(name: str, d: int) -> Float[Tensor, "d d"]:
    """Diagonal covariance of trace d.

    ``isotropic``; ``spiked``: one direction of ten times the others' variance; ``exponential``: λ_i ∝ e^{−5i/d}.
    """
    values = {
        "isotropic": torch.ones(d),
        "spiked": torch.tensor([10.0] + [1.0] * (d - 1)),
        "exponential": torch.exp(-5 * torch.arange(d) / d),
    }[name].double()
    return torch.diag(values * d / values.sum())


def fresh_settings() -> dict[str, list[Setting]]:
    """Settings that no rule was made for, by what is special about them; a setting can stand in several rows.

    Test prompts have half, 1.2 and 4 times as many examples as dimensions.
    """
    names = ("spiked", "exponential", "isotropic")
    rows: dict[str, list[Setting]] = {name: [] for name in (*names, "d = 3", "d = 40", "m < d")}
    for name in names:
        for d in (3, 40):
            cov = unit_spectrum(name, d)
            for m in (d // 2 + d % 2, round(1.2 * d), 4 * d):
                for noise in (0.0, 0.2, 1.0):
                    setting = Setting(cov, cov, 2 * d, m, noise)
                    for row in (name, f"d = {d}", *(["m < d"] if m < d else [])):
                        rows[row].append(setting)
    rows["trained on another spectrum"] = [
        Setting(unit_spectrum(name, 10), unit_spectrum(other, 10), 40, m, 0.2)
        for name, other in (
            ("exponential", "isotropic"),
            ("isotropic", "exponential"),
            ("spiked", "isotropic"),
        )
        for m in (6, 12, 40)
    ]
    changes = {
        "weights × 10": {"weights": 10.0, "noise": 0.16},
        "weights × 0.1": {"weights": 0.1, "noise": 0.16},
        "features × 10⁴": {"features": 1e4, "noise": 0.2},
        "features × 10⁻⁴": {"features": 1e-4, "noise": 0.2},
        "features × 10⁻⁴, exact labels": {"features": 1e-4},
        "outliers": {"kind": "outliers", "noise": 0.3},
        "Cauchy noise": {"kind": "cauchy", "noise": 0.1},
    }
    for row, change in changes.items():
        covs = [unit_spectrum(name, 10) for name in names]
        rows[row] = [Setting(cov, cov, 10, m, **change) for cov in covs for m in (6, 12, 40)]  # type: ignore[arg-type]
    return rows
