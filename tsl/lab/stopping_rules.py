"""Rules that stop thinking, held against the best fixed step: what each costs over many prompts, with bootstrap samples of these.

A rule sees a chain and its prompt, not the truth. The *oracle* stops every prompt where its error is least; the best fixed
step is one for all prompts of a setting, and nobody knows it either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tsl import errors, stopping
from tsl.prompts import Prompts

RULES = ("oracle", "posterior", "residual", "increments", "cross-validation", "GCV")

Think = Callable[[Prompts, int], Tensor]


def decide(
    think: Think, gamma: Float[Tensor, "d d"], test: Prompts, steps: int
) -> tuple[Float[Tensor, "B k"], dict[str, Tensor]]:
    """Error of every step of a chain, and the step at which each of `RULES` stops each prompt.

    Parameters
    ----------
    think : callable
        ``think(prompts, steps)`` gives chains; GCV (generalised cross-validation) takes them to be those of Γ⁻¹.
    gamma : Tensor of shape (d, d)
        Γ of the model.
    test : Prompts
        B test prompts, whose weights only the oracle looks at.
    steps : int
        Last step.

    Returns
    -------
    error : Tensor of shape (B, steps + 1)
    chosen : dict of rule to Tensor of shape (B,)
    """
    chain = think(test, steps)
    error, residual = errors.squared_error(chain, test.w), stopping.residual(chain, test)
    trace = smoother_trace(gamma, test.moments().gram, steps)
    gcv = residual / (1 - trace / test.x.shape[1]).square().clamp(min=1e-6)
    return error, {
        "oracle": error.argmin(1),
        "posterior": stopping.stop_step(chain, test),
        "residual": stopping.first_turn(residual),
        "increments": stopping.divergence_step(chain),
        "cross-validation": stopping.first_turn(stopping.held_out_error(think, test, steps), patience=2),
        "GCV": stopping.first_turn(gcv, patience=2),
    }


def smoother_trace(
    gamma: Float[Tensor, "d d"], gram: Float[Tensor, "B d d"], steps: int
) -> Float[Tensor, "B k"]:
    """Trace of the map from labels to fitted values after each step: the effective number of weights fitted."""
    rates = 1 - torch.linalg.eigvals(torch.linalg.solve(gamma, gram)).real
    step = torch.arange(steps + 1, dtype=gram.dtype, device=gram.device)[:, None]
    return (1 - rates[:, None, :] ** step).sum(-1)


def resample(size: int, count: int, generator: torch.Generator) -> Int[Tensor, "draws size"]:
    """Indices of prompts: the prompts themselves in row 0, then `count` bootstrap samples of them."""
    drawn = torch.randint(size, (count, size), generator=generator, device=generator.device)
    return torch.cat([torch.arange(size, device=generator.device)[None], drawn])


def regret(
    error: Float[Tensor, "B k"], step: Int[Tensor, " B"], draws: Int[Tensor, "draws B"]
) -> dict[str, Tensor]:
    """What stopping at a step of each prompt's own costs.

    Parameters
    ----------
    error : Tensor of shape (B, steps + 1)
        Error of every step.
    step : Tensor of shape (B,)
        Where a rule stops each prompt.
    draws : Tensor of shape (draws, B)
        See `resample`.

    Returns
    -------
    dict of Tensors of shape (draws,)
        Error at the rule's step over that of the best fixed one, in the ``median`` and in the ``mean`` over prompts; its
        mean over the better of one step and all (``ends``); of prompts for which thinking to the end was right, the share
        that was stopped (``alarm``) and the error with the rule over that of the end (``alarm cost``).
    """
    last = error.shape[1] - 1
    mean, median = error[draws].mean(1), error[draws].median(1).values  # (draws, steps + 1)
    fine = (error.argmin(1) == last).double()
    picked = error.gather(1, step[:, None])[:, 0]
    return {
        "median": picked[draws].median(1).values / median.min(1).values,
        "mean": picked[draws].mean(1) / mean.min(1).values,
        "ends": picked[draws].mean(1) / torch.minimum(mean[:, 1], mean[:, last]),
        "alarm": (fine * (step < last))[draws].sum(1) / fine[draws].sum(1),
        "alarm cost": (fine * picked)[draws].sum(1) / (fine * error[:, last])[draws].sum(1),
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
