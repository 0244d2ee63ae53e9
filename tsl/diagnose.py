"""Does thinking longer help *your* model? An answer with an interval, from prompts alone.

The question is put to any model that thinks: a part of every prompt's examples is held back, the model thinks
about the rest, and each step is scored by the labels held back. No true weights are needed. Errors of
divergent chains have heavy tails, so the answer rests on the median of the log error ratio, with an interval
from order statistics that no tail can spoil, and the share of prompts that thinking harms is told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, errors
from tsl.cot import Baseline, Thinker, chain_of_thought
from tsl.prompts import Prompts


@dataclass(frozen=True)
class Diagnosis:
    """Answer of :func:`thinking_helps`.

    Parameters
    ----------
    step : Tensor of shape (k,)
        Steps 1, ..., budget.
    ratio, low, high : Tensors of shape (k,)
        Median over prompts of the held-out error after `step` relative to one step, with an interval that
        covers the true median at all steps together. Below 1 thinking helps.
    harmed : Tensor of shape (k,)
        Share of prompts whose error is larger than after one step.
    best : int
        Step of the lowest median ratio.
    confidence : float
        Coverage of the intervals, over all steps together.
    """

    step: Float[Tensor, " k"]
    ratio: Float[Tensor, " k"]
    low: Float[Tensor, " k"]
    high: Float[Tensor, " k"]
    harmed: Float[Tensor, " k"]
    best: int
    confidence: float

    @property
    def verdict(self) -> str:
        """``"helps"``, ``"hurts"`` or ``"undecided"``: what the whole budget does to a typical prompt."""
        if self.high[-1] < 1:
            return "helps"
        return "hurts" if self.low[-1] > 1 else "undecided"

    def __str__(self) -> str:
        last = int(self.step[-1])
        return (
            f"Thinking for {last} steps {self.verdict if self.verdict != 'undecided' else 'may help or hurt'}: "
            f"the typical error is {self.ratio[-1]:.2g} times that of one step "
            f"({self.confidence:.0%} interval {self.low[-1]:.2g} to {self.high[-1]:.2g}), "
            f"and {self.harmed[-1]:.0%} of prompts get worse. Lowest typical error at step {self.best}."
        )


def thinking_helps(
    model: Thinker | Baseline,
    prompts: Prompts,
    budget: int,
    held_out: int | None = None,
    confidence: float = 0.95,
) -> Diagnosis:
    """Tell whether thinking for up to `budget` steps beats answering at once.

    Parameters
    ----------
    model : Thinker or callable
        Any model or baseline that thinks.
    prompts : Prompts
        B prompts of the kind the model will meet. Their `w` is not used.
    budget : int
        Steps that could be afforded, at least 2.
    held_out : int, optional
        Examples of every prompt to hold back as a test; by default a fifth, at least one. The model thinks
        about the others, so the diagnosis is of prompts that are shorter by as many.
    confidence : float
        Coverage of the intervals over all steps together.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If `budget` < 2, `held_out` leaves no context, or there are too few prompts for the confidence.
    """
    _validate.at_least("budget", budget, 2)
    _validate.fraction("confidence", confidence)
    m = prompts.x.shape[1]
    count = max(1, m // 5) if held_out is None else _validate.positive_int("held_out", held_out)
    if count >= m:
        raise ValueError(f"held_out must be below the prompt's {m} examples, got {count}")
    context = Prompts(prompts.x[:, count:], prompts.y[:, count:], prompts.w)
    chain = chain_of_thought(model, context, budget)
    error = (prompts.y[:, None, :count] - chain @ prompts.x[:, :count].mT).square().mean(-1)[:, 1:]
    # A chain that has overflowed is as bad as can be, and an exact answer as good; neither may turn into NaN.
    tiny, huge = torch.finfo(error.dtype).tiny, torch.finfo(error.dtype).max
    gain = torch.nan_to_num(error, nan=huge, posinf=huge).clamp(min=tiny).log()
    gain = gain - gain[:, :1]
    # Bonferroni over the compared steps: the best one is picked after looking at all of them.
    median, low, high = errors.median_interval(gain, 1 - (1 - confidence) / (budget - 1))
    return Diagnosis(
        step=torch.arange(1, budget + 1, dtype=error.dtype),
        ratio=median.exp(),
        low=low.exp(),
        high=high.exp(),
        harmed=(gain > 0).to(error.dtype).mean(0),
        best=int(median.argmin()) + 1,
        confidence=confidence,
    )
