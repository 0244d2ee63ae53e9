"""What a practitioner asks: what to train on (`plan_training`), and whether thinking helps a model (`thinking_helps`).

`plan_training` goes from feature matrices to a mixture of tasks: how hard the target is, what covers it, what to mix, what it
gains. `thinking_helps` puts its question to any model that thinks: a part of every prompt's examples is held back, the
model thinks about the rest, and each step is scored by the labels held back. No true weights are needed. Errors of
divergent chains have heavy tails, so the answer rests on the median of the log error ratio, with an interval
from order statistics that no tail can spoil, and the share of prompts that thinking harms is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, errors, laws, selection, theory
from tsl.cot import Baseline, Thinker, chain_of_thought
from tsl.prompts import Prompts, sample_moments

SAFE = 0.5  # a direction with Γ < Σ/2 makes thinking diverge (Remark 4.1 of arXiv 2510.03605)
PLANNING = 64  # test prompts that the choice of the mixture averages over
FEW = 5  # samples per dimension below which the choice of tasks is unreliable (measured in chapter 7)


@dataclass(frozen=True)
class TaskCard:
    """What a candidate task offers to the target.

    Parameters
    ----------
    name : str
    length : int
        Examples in a training prompt of this task.
    hardness : float
        Of the law of its rows (`tsl.theory.hardness_spectrum`); tr(Λ)/λ_min(Λ) if they were Gaussian.
    coverage : float
        1/max abs λ(Γ⁻¹Σ) of a model trained on this task alone: how much of the target's variance training saw,
        in the direction where it saw least. Below one half such a model overthinks.
    weight : float
        Recommended probability.
    """

    name: str
    length: int
    hardness: float
    coverage: float
    weight: float


@dataclass(frozen=True)
class Plan:
    """Report of `plan_training`; print it.

    Parameters
    ----------
    tasks : tuple of TaskCard
    target_hardness : float
    samples, d : int
        Target samples, and features.
    examples : int
        Examples in a test prompt.
    coverage : float
        Coverage of the recommended mixture.
    errors : dict of name to Tensor of shape (P, steps + 1)
        Predicted error per weight, E‖ŵ_j − w*‖²/d, of P test prompts after each step, for ``"recommended"``,
        ``"equal weights"`` and the single task that is best on prompts of this length.
    """

    tasks: tuple[TaskCard, ...]
    target_hardness: float
    samples: int
    d: int
    examples: int
    coverage: float
    errors: dict[str, Tensor]

    @property
    def weights(self) -> Float[Tensor, " T"]:
        """Recommended probabilities, in the order of the tasks."""
        return torch.tensor([card.weight for card in self.tasks], dtype=torch.float64)

    @property
    def best_step(self) -> int:
        """Step at which the median error of the recommended mixture is least."""
        return int(self.errors["recommended"].median(0).values.argmin())

    @property
    def benefit(self) -> tuple[float, float, float]:
        """Error of one step over the error of the best step, as median and 10–90 % of prompts. 1 means none."""
        curve = self.errors["recommended"]
        quantiles = torch.quantile(
            curve[:, 1] / curve[:, max(self.best_step, 1)], curve.new_tensor([0.5, 0.1, 0.9])
        )
        middle, low, high = quantiles.tolist()
        return middle, low, high

    @property
    def overthinks(self) -> bool:
        """Whether the last step of the plan is worse than the best one by a tenth or more."""
        curve = self.errors["recommended"].median(0).values
        return bool(curve[-1] > 1.1 * curve[self.best_step])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader should not overlook."""
        found = []
        if self.samples < FEW * self.d:
            found.append(f"the target has {self.samples} samples; at least {FEW * self.d} are advised")
        if self.coverage < SAFE:
            found.append("no mixture of these tasks covers the target: thinking for long will diverge")
        elif self.overthinks:
            found.append(
                f"error grows again after step {self.best_step}: stop there, or give longer test prompts"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it, with quantiles of the predicted error, and ``"inf"`` for what has overflown."""

        def plain(value: float) -> float | str:
            return value if math.isfinite(value) else str(value)

        quantiles = {"low": 0.1, "median": 0.5, "high": 0.9}
        return {
            "tasks": [asdict(card) | {"hardness": plain(card.hardness)} for card in self.tasks],
            "target": {"hardness": plain(self.target_hardness), "samples": self.samples, "features": self.d},
            "examples": self.examples,
            "coverage": self.coverage,
            "best_step": self.best_step,
            "benefit": {
                key: plain(self.benefit[index]) for key, index in (("low", 1), ("median", 0), ("high", 2))
            },
            "overthinks": self.overthinks,
            "errors": {
                name: {
                    key: [plain(value) for value in curve.quantile(q, 0).tolist()]
                    for key, q in quantiles.items()
                }
                for name, curve in self.errors.items()
            },
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        width = max(len("task"), *(len(card.name) for card in self.tasks))
        lines = [
            f"Target: {self.d} features, {self.samples} samples, hardness {self.target_hardness:.0f}.",
            f"Test prompts of {self.examples} examples.",
            "",
            f"{'task':<{width}}  prompt  hardness  coverage  weight",
        ]
        lines += [
            f"{c.name:<{width}}  {c.length:>6}  {c.hardness:>8.0f}  {c.coverage:>8.2f}  {c.weight:>6.2f}"
            for c in self.tasks
        ]
        lines += [f"{'mixture':<{width}}  {'':>6}  {'':>8}  {self.coverage:>8.2f}  {1:>6.2f}", ""]
        last = next(iter(self.errors.values())).shape[1] - 1
        shown = sorted({step for step in (1, 2, 4, 10, 20, self.best_step, last) if 1 <= step <= last})
        width = max(len("median error, k ="), *(len(name) for name in self.errors))
        lines.append(f"{'median error, k =':<{width}}" + "".join(f"  {step:>7}" for step in shown))
        for name, curve in self.errors.items():
            medians = curve.median(0).values
            lines.append(
                f"{name:<{width}}" + "".join(f"  {_short(medians[step].item()):>7}" for step in shown)
            )
        middle, low, high = self.benefit
        lines += [
            "",
            f"Thinking for {self.best_step} steps divides the error of one step by {middle:.3g}\n"
            f"({low:.3g} to {high:.3g} for 80 % of prompts)."
            if self.best_step > 1
            else "Thinking beyond one step does not help.",
        ]
        return "\n".join(lines + [f"Warning: {text}." for text in self.warnings])


def plan_training(
    tasks: Mapping[str, Float[Tensor, "n d"]],
    target: Float[Tensor, "N d"],
    lengths: int | Sequence[int],
    examples: int,
    steps: int,
    generator: torch.Generator,
    prompts: int = 200,
) -> Plan:
    """Recommend a training mixture for a target, and predict what thinking will gain.

    Features are taken as they are: training and test draw from the law of the rows (`tsl.laws.rows`), whose second and
    fourth moments the rows give exactly. Moments are about zero (the model has no intercept: centre the features first if
    their mean is not of interest), and are not shrunk: shrinking hides how strong the target is in its strong directions,
    which leads to overthinking (measured in chapter 7). Labels are taken to be noiseless. This is our reading of the
    advice to cover the skills that are needed.

    Parameters
    ----------
    tasks : mapping of name to Tensor of shape (n_ℓ, d)
        Features of each candidate training task, a row per sample.
    target : Tensor of shape (N, d)
        Features of the target.
    lengths : int or sequence of int
        Examples in a training prompt, common or for each task.
    examples : int
        Examples m in a test prompt.
    steps : int
        Thinking steps that can be afforded at test time; the mixture is chosen for these, and for prompts of
        `examples` examples.
    generator : torch.Generator
        Source of the test prompts that choice and prediction average over.
    prompts : int
        Number of these.

    Returns
    -------
    Plan
    """
    if not tasks:
        raise ValueError("tasks must name at least one candidate, got none")
    names = list(tasks)
    found = [_law(f"tasks[{name!r}]", x, target) for name, x in tasks.items()]
    goal = _law("target", target, target)
    counts = [lengths] * len(names) if isinstance(lengths, int) else list(lengths)
    for name, value in (("examples", examples), ("steps", steps), ("prompts", prompts)):
        _validate.positive_int(name, value)
    planning = sample_moments(goal, examples, PLANNING, generator=generator).gram
    weights = selection.select_tasks(found, counts, goal, steps, planning)

    gammas = [theory.gamma(law, n) for law, n in zip(found, counts, strict=True)]
    mixed = theory.gamma_mixture(found, weights, counts)
    equal = theory.gamma_mixture(found, torch.full_like(weights, 1 / len(weights)), counts)
    single = [errors.propagated_error(planning, gamma, steps)[:, -1].mean().item() for gamma in gammas]
    best = min(range(len(single)), key=single.__getitem__)
    rivals = {"recommended": mixed, "equal weights": equal, f"only {names[best]}": gammas[best]}
    grams = sample_moments(goal, examples, prompts, generator=generator).gram
    curves = {name: errors.propagated_error(grams, gamma, steps) / goal.d for name, gamma in rivals.items()}
    cards = tuple(
        TaskCard(name, n, _hardness(law), _coverage(gamma, goal.second), weight)
        for name, n, law, gamma, weight in zip(names, counts, found, gammas, weights.tolist(), strict=True)
    )
    covered = _coverage(mixed, goal.second)
    return Plan(cards, _hardness(goal), len(target), goal.d, examples, covered, curves)


def _law(name: str, features: Tensor, like: Tensor) -> laws.Law:
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) < 2:
        raise ValueError(
            f"{name} must be a matrix of at least 2 rows, got {getattr(features, 'shape', features)!r}"
        )
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got entries that are NaN or infinite")
    _validate.same_dimension(**{name: features, "target": like})
    x = features.double()
    # A direction without samples counts as very faint, not as absent, so that every mixture has an inverse.
    faint = 1e-9 * x.square().mean().clamp(min=torch.finfo(x.dtype).tiny)
    return laws.rows(x, jitter=faint.item())


def _hardness(law: laws.Law) -> float:
    return theory.hardness_spectrum(law)[-1].item() - 1


def _short(value: float) -> str:
    """Two significant digits: ``0.83``, ``270``, ``2e15``, ``inf``."""
    if not math.isfinite(value):
        return f"{value}"
    mantissa, exponent = f"{value:.1e}".split("e")
    plain = -4 <= int(exponent) <= 4
    return f"{float(f'{value:.2g}'):g}" if plain else f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _coverage(gamma: Tensor, target: Tensor) -> float:
    return 1 / torch.linalg.eigvals(torch.linalg.solve(gamma, target)).abs().max().item()


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
