"""What a practitioner asks: what to train on, whether thinking helps a model, whether a larger budget does in a log.

`plan_training` goes from feature matrices to a mixture of tasks: how hard the target is, what covers it, what to mix, what it
gains. `thinking_helps` puts its question to any model that thinks: a part of every prompt's examples is held back, the
model thinks about the rest, and each step is scored by the labels held back. No true weights are needed. Errors of
divergent chains have heavy tails, so the answer rests on the median of the log error ratio, with an interval
from order statistics that no tail can spoil, and the share of prompts that thinking harms is told beside it.
`budget_helps` reads a log of right and wrong answers at several levels of thinking, question by question.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from tsl import _validate, errors, laws, logs, selection, theory
from tsl.cot import Baseline, Thinker, chain_of_thought
from tsl.prompts import Prompts

SAFE = 0.5  # a direction with Γ < Σ/2 makes thinking diverge (Remark 4.1 of arXiv 2510.03605)
PLANNING = 64  # test prompts that the choice of the mixture averages over
POWER = 0.8  # with which a number of questions is to decide
SPLITS = 20  # ways in which repeats are halved
# Gaussian samples per dimension below which the choice of tasks is unreliable (measured in chapter 13)
FEW = 5
RARE = 10_000  # training prompts that are taken for granted


@dataclass(frozen=True)
class TaskCard:
    """What a candidate task offers to the target.

    Parameters
    ----------
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
    samples, d, examples : int
        Target samples, features, and examples in a test prompt.
    worth : float
        Gaussian samples from which second moments are known as well as from these, heavy tails being less informative.
    coverage : float
        Coverage of the recommended mixture.
    errors : dict of name to Tensor of shape (P, steps + 1)
        Predicted error per weight, E‖ŵ_j − w*‖²/d, of P test prompts after each step, for ``"recommended"``,
        ``"equal weights"`` and the single task that is best on prompts of this length.
    needed : dict of name to int
        For each task in use, training prompts in all after which the share of it is known to a tenth, where that matters.
    """

    tasks: tuple[TaskCard, ...]
    target_hardness: float
    samples: int
    worth: float
    d: int
    examples: int
    coverage: float
    errors: dict[str, Tensor]
    needed: dict[str, int]

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
        if self.worth < FEW * self.d:
            tails = "" if self.worth >= 0.8 * self.samples else f", worth {self.worth:.0f} with lighter tails"
            found.append(f"the target has {self.samples} samples{tails}; at least {FEW * self.d} are advised")
        if self.coverage < SAFE:
            found.append(
                "no mixture of these tasks covers the target: thinking for long will diverge, "
                f"stop after step {self.best_step}"
            )
        elif self.overthinks:
            found.append(
                f"error grows again after step {self.best_step}: stop there, or give longer test prompts"
            )
        else:
            upper = self.errors["recommended"].quantile(0.75, 0)
            if upper[-1] > 1.1 * upper.min():
                found.append(f"for one prompt in four error grows after step {int(upper.argmin())}")
        for name, count in self.needed.items():
            if count > RARE:
                found.append(
                    f"{name} is rare and decides the result: train on {count:,} prompts or more, "
                    "or the promised errors will not come true"
                )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it, with quantiles of the predicted error, and ``"inf"`` for what has overflown."""

        def plain(value: float) -> float | str:
            return value if math.isfinite(value) else str(value)

        quantiles = {"low": 0.1, "median": 0.5, "high": 0.9}
        return {
            "tasks": [asdict(card) | {"hardness": plain(card.hardness)} for card in self.tasks],
            "target": {
                "hardness": plain(self.target_hardness),
                "samples": self.samples,
                "worth": self.worth,
                "features": self.d,
            },
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

    Tensors, arrays and data frames are the same input. Features are taken as they are:
    training draws from the law of the rows (`tsl.laws.rows`), whose second and fourth moments
    the rows give exactly. The rows of the target are a sample of what the model will meet: each test prompt that the plan
    averages over draws from a bootstrap resample of its own, so that choice and prediction allow for what the sample does not
    show. Moments are about zero (the model has no intercept: centre the features first if
    their mean is not of interest), and are not shrunk: shrinking hides how strong the target is in its strong directions,
    which leads to overthinking (measured in chapter 13). Labels are taken to be noiseless. This is our reading of the
    advice to cover the skills that are needed.

    Parameters
    ----------
    tasks : mapping of name to Tensor of shape (n_ℓ, d)
        Features of each candidate training task, a row per sample.
    target : Tensor of shape (N, d)
        Features of the target.
    lengths : int or sequence of int
        Examples in a training prompt, common or for each task.
    examples, steps : int
        Examples m in a test prompt, and thinking steps that can be afforded there: the mixture is chosen for these.
    generator : torch.Generator
        Source of the test prompts that choice and prediction average over.
    prompts : int
        Test prompts that the prediction averages over.
    """
    if not tasks:
        raise ValueError("tasks must name at least one candidate, got none")
    names, target = list(tasks), _rows("target", target)
    matrices = {f"tasks[{name!r}]": _rows(f"tasks[{name!r}]", x) for name, x in tasks.items()}
    for name, x in matrices.items():
        _validate.same_dimension(**{name: x, "target": target})
    unit = _units([*matrices.values(), target])
    *found, goal = (_law(x, unit) for x in (*matrices.values(), target))
    given: Any = [lengths] * len(names) if np.ndim(lengths) == 0 else lengths
    counts = [_validate.positive_int(f"lengths[{index}]", n) for index, n in enumerate(given)]
    examples, steps, prompts = (
        _validate.positive_int(name, value)
        for name, value in (("examples", examples), ("steps", steps), ("prompts", prompts))
    )
    planning = _resampled(target, examples, PLANNING, generator)
    weights = selection.select_tasks(found, counts, goal, steps, planning)

    gammas = [theory.gamma(law, n) for law, n in zip(found, counts, strict=True)]
    mixed = theory.gamma_mixture(found, weights, counts)
    equal = theory.gamma_mixture(found, torch.full_like(weights, 1 / len(weights)), counts)
    single = [errors.propagated_error(planning, gamma, steps)[:, -1].mean().item() for gamma in gammas]
    best = min(range(len(single)), key=single.__getitem__)
    rivals = {"recommended": mixed, "equal weights": equal, f"only {names[best]}": gammas[best]}
    grams = _resampled(target, examples, prompts, generator)
    curves = {name: errors.propagated_error(grams, gamma, steps) / goal.d for name, gamma in rivals.items()}
    cards = tuple(
        TaskCard(name, n, _hardness(law), _coverage(gamma, goal.second), weight)
        for name, n, law, gamma, weight in zip(names, counts, found, gammas, weights.tolist(), strict=True)
    )
    covered, needed = _coverage(mixed, goal.second), _needed_prompts(names, found, counts, weights, unit)
    worth = _worth(target / unit)
    return Plan(cards, _hardness(goal), len(target), worth, goal.d, examples, covered, curves, needed)


def _rows(name: str, features: Any) -> Float[Tensor, "N d"]:
    rows = _validate.rows(name, features).double()
    if len(rows) < 2:
        raise ValueError(f"{name} must have at least 2 rows, got {len(rows)}")
    if not rows.any():
        raise ValueError(f"{name} must not be zero everywhere, got {len(rows)} rows of zeros")
    return rows


def _units(matrices: Sequence[Tensor]) -> Float[Tensor, " d"]:
    """Root mean square of each feature, over the target and all tasks; 1 where it is always zero."""
    squares = torch.stack([x.square().mean(0) for x in matrices]).mean(0)
    return torch.where(squares > 0, squares, 1).sqrt()


def _law(x: Tensor, unit: Tensor) -> laws.Law:
    """Law of the rows. A direction without samples counts as very faint, not as absent, so that every mixture has an inverse."""
    scaled, both = laws.rows(x / unit, jitter=1e-9), torch.outer(unit, unit)
    return laws.Law(
        scaled.second * both,
        lambda middle: scaled.fourth(middle * both) * both,
        lambda size, n, generator: scaled.draw(size, n, generator) * unit,
    )


def _resampled(x: Tensor, m: int, size: int, generator: torch.Generator) -> Float[Tensor, "size d d"]:
    """Σ̂ of prompts of m rows, each prompt from a bootstrap resample of the rows that is its own."""
    grams = []
    for _ in range(size):
        sample = torch.randint(len(x), (len(x),), generator=generator)
        prompt = x[sample[torch.randint(len(x), (m,), generator=generator)]]
        grams.append(prompt.mT @ prompt / m)
    return torch.stack(grams)


def _worth(x: Tensor) -> float:
    """Number of Gaussian samples whose second moments are as exact.

    N samples z of covariance I have E‖ẑzᵀ − I‖_F² = (E‖z‖⁴ − d)/N, which is d(d + 1)/N for Gaussian ones.
    """
    left, size, _ = torch.linalg.svd(x, full_matrices=False)
    left = left[:, size > 1e-6 * size[0]]
    rank = left.shape[1]
    fourth = len(x) * left.square().sum(1).square().sum().item()  # mean of ‖z‖⁴, z = √N × a row of U
    return len(x) * rank * (rank + 1) / max(fourth - rank, rank * (rank + 1))


def _needed_prompts(
    names: Sequence[str], found: Sequence[laws.Law], lengths: Sequence[int], weights: Tensor, unit: Tensor
) -> dict[str, int]:
    """Training prompts, for each task in use, after which E[Σ̂²] is known to a tenth in the direction that depends on it most.

    Of B prompts a task has πB ± √(πB), and of E[Σ̂²] a share s in that direction: the relative error is s/√(πB).
    """
    squares = [
        theory.second_moment(law, n) / torch.outer(unit, unit) for law, n in zip(found, lengths, strict=True)
    ]
    parts = weights[:, None, None] * torch.stack(squares)
    root = torch.linalg.inv(torch.linalg.cholesky(parts.sum(0)))
    shares = torch.linalg.eigvalsh(root @ parts @ root.mT)[:, -1]
    return {
        name: math.ceil(100 * share**2 / weight)
        for name, share, weight in zip(names, shares.tolist(), weights.tolist(), strict=True)
        if weight > 0
    }


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
    prompts : Prompts
        B prompts of the kind the model will meet. Their `w` is not used.
    held_out : int, optional
        Examples of every prompt to hold back as a test; by default a fifth, at least one. The model thinks
        about the others, so the diagnosis is of prompts that are shorter by as many.
    confidence : float
        Coverage of the intervals over all steps together.
    """
    budget, confidence = _validate.at_least("budget", budget, 2), _validate.fraction("confidence", confidence)
    _validate.instance("prompts", prompts, Prompts)
    m = prompts.x.shape[1]
    count = max(1, m // 5) if held_out is None else _validate.positive_int("held_out", held_out)
    if count >= m:
        raise ValueError(f"held_out must be below the prompt's {m} examples, got {count}")
    context = Prompts(prompts.x[:, count:], prompts.y[:, count:], prompts.w)
    chain = chain_of_thought(model, context, budget)
    chain, x, y = _validate.together(chain=chain, x=prompts.x[:, :count], y=prompts.y[:, :count])
    error = (y[:, None] - chain @ x.mT).square().mean(-1)[:, 1:]
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


@dataclass(frozen=True)
class LevelShares:
    """Answers of one model at one level, to the questions that all levels have.

    Parameters
    ----------
    right, low, high : float
        Mean share right of a question, with Wilson's interval (of this share alone), its width by the spread between questions.
    wrong, skipped : float
        Shares wrong and not attempted.
    tokens : float
        Mean of an answer; NaN where unknown.
    """

    level: str
    right: float
    low: float
    high: float
    wrong: float
    skipped: float
    tokens: float


@dataclass(frozen=True)
class Comparison:
    """Two levels of one model, on the questions that both have.

    Parameters
    ----------
    source, target : str
        Levels, `source` that with less thinking.
    right_from, right_to : float
        Mean share right of a question at either level.
    wrong, skipped : float
        Changes of the shares wrong and not attempted.
    gained, lost : int
        Questions that are right more often at the target, and less often; the others are tied.
    low, high : float
        Of the difference right_to − right_from: holds for all comparisons of a report together (Bonferroni); cut at 0 where
        Holm's steps decide and it does not.
    pvalue : float
        Adjusted for all comparisons of a report (Holm).
    outcome : str
        ``"helps"``, ``"hurts"`` or ``"undecided"``.
    needed : int or None
        Questions that would decide with probability 0.8, were the difference what it looks like; None where it is
        decided, or where nothing differs.
    per_doubling : float or None
        Gain in share right per doubling of tokens; None where tokens are unknown or do not grow.
    """

    model: str
    benchmark: str
    source: str
    target: str
    questions: int
    right_from: float
    right_to: float
    wrong: float
    skipped: float
    gained: int
    lost: int
    low: float
    high: float
    pvalue: float
    outcome: str
    needed: int | None
    per_doubling: float | None

    def to_dict(self) -> dict[str, Any]:
        """As a plain dictionary, in the words of a log."""
        kept = ("questions", "right_from", "right_to", "gained", "lost", "low", "high", "outcome")
        names = {"model": self.model, "benchmark": self.benchmark, "from": self.source, "to": self.target}
        return names | {name: getattr(self, name) for name in kept}


@dataclass(frozen=True)
class Oracle:
    """What choosing the best level for every question would add to the best common level.

    Parameters
    ----------
    naive : float
        Gain in share right if each question's best level is picked and judged by the same answers: too large, as luck is picked.
    split : float or None
        Level picked by one half of the repeats, judged by the other: free of that optimism; None without repeats.
    low, high : float or None
        Student's interval of `split`, over questions.
    """

    naive: float
    split: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BudgetCase:
    """One model on one benchmark.

    Parameters
    ----------
    questions : int
        That all levels have.
    levels : tuple of LevelShares
        From least thinking to most.
    best : str
        The level that is right most often, the least thinking one of several.
    """

    model: str
    benchmark: str
    questions: int
    levels: tuple[LevelShares, ...]
    best: str
    oracle: Oracle


@dataclass(frozen=True)
class BudgetReport:
    """Report of `budget_helps`; print it.

    Parameters
    ----------
    comparisons : tuple of Comparison
        Neighbouring levels, and first against last.
    warnings : tuple of logs.Warned
        What is wrong with the log.
    confidence : float
        Of all outcomes together, and of all intervals of differences together.
    """

    cases: tuple[BudgetCase, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[logs.Warned, ...]
    confidence: float

    @property
    def correction(self) -> str:
        """What outcomes and intervals promise, in words."""
        count = len(self.comparisons)
        if not count:
            return "There is nothing to compare."
        sure = f"{self.confidence:.0%}"
        return (
            f"With {sure} probability no “helps” or “hurts” among all {count} comparisons is wrong (exact test of flipped signs, "
            f"repeats of a question averaged, Holm's correction). With {sure} probability all intervals of differences hold "
            "(Tango's score interval, Bonferroni's correction; cut at 0 where the outcome is decided)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Comparisons and warnings, ready for JSON."""
        return {
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "warnings": [warning._asdict() for warning in self.warnings],
        }

    def details(self) -> dict[str, Any]:
        """All of the report, ready for JSON: what is unknown is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(entry) for key, entry in value.items()}
            if isinstance(value, list | tuple):
                return [plain(entry) for entry in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        warnings = [warning._asdict() for warning in self.warnings]
        return plain(asdict(self) | {"warnings": warnings, "correction": self.correction})

    def __str__(self) -> str:
        lines = []
        for case in self.cases:
            title = " on ".join(name for name in (case.model, case.benchmark) if name) or "The log"
            lines += [f"{title}: {case.questions} questions", *_level_table(case)]
            own = [c for c in self.comparisons if (c.model, c.benchmark) == (case.model, case.benchmark)]
            lines += [_told(comparison) for comparison in own]
            best = max(case.levels, key=lambda shares: shares.right)
            gain = case.oracle.naive if case.oracle.split is None else case.oracle.split
            kind = "at most, for luck is in it" if case.oracle.split is None else "luck removed"
            lines += [
                f"  best for all: {case.best} ({best.right:.1%}); best for each: {gain:+.1%} ({kind})",
                "",
            ]
        told: dict[str, list[str]] = {}
        for warning in self.warnings:
            told.setdefault(warning.text, []).append(f"{warning.model} {warning.benchmark}".strip())
        lines.append(self.correction)
        lines += [f"Warning: {', '.join(filter(None, where))}: {text}." for text, where in told.items()]
        return "\n".join(lines)


def budget_helps(log: logs.Log | pd.DataFrame, confidence: float = 0.95) -> BudgetReport:
    """Tell, question by question, whether more thinking helps, hurts, or whether the log cannot say.

    Parameters
    ----------
    log : Log or DataFrame
        A table as `tsl.logs.understand` takes it, or what that made of one.
    confidence : float
        Probability with which all outcomes together are right, if the questions are a sample of those that matter.

    Notes
    -----
    Repeats of a question depend on each other, so questions are the units: repeats are averaged first. With x_q the
    difference of a question's shares right, the test flips the signs of x_q, and Tango's interval for counts is taken in units of
    s = Σ x_q²/Σ abs x_q, the typical size of a change: s = 1 without repeats, and in general the variance is that of x_q.
    """
    _validate.fraction("confidence", confidence)
    if isinstance(log, pd.DataFrame):
        log = logs.understand(log)
    _validate.instance("log", log, logs.Log)
    every = [part for case in log.cases for part in (case, *_groups(case, log.groups))]
    cases, pairs, warnings = [], [], list(log.warnings)
    for case in every:
        answers = _answers(case)
        common = [level for level in case.levels if level in answers]
        shared = answers[common[0]].index
        for level in common[1:]:
            shared = shared.intersection(answers[level].index)
        found = [
            pair
            for low, high in _pairs(common)
            if len((pair := _paired(case, answers, low, high)).change) > 1
        ]
        if len(common) < 2 or len(shared) < 2 or not found:
            text = "fewer than two questions are asked at all levels: nothing to compare"
            warnings.append(logs.Warned(case.model, case.benchmark, text))
            continue
        pairs += found
        cases.append(_budget_case(case, {level: answers[level].loc[shared] for level in common}))
    pvalues = errors.holm([errors.sign_flip_pvalue(pair.change.tolist()) for pair in pairs])
    level = 1 - (1 - confidence) / max(len(pairs), 1)
    compared = [_judged(pair, p, confidence, level) for pair, p in zip(pairs, pvalues, strict=True)]
    return BudgetReport(tuple(cases), tuple(compared), tuple(warnings), confidence)


@dataclass(frozen=True)
class _Pair:
    """Answers to the same questions at two levels; `change` is the difference of a question's shares right."""

    case: logs.Case
    source: str
    target: str
    before: pd.DataFrame
    after: pd.DataFrame
    tokens: tuple[float, float]

    @property
    def change(self) -> np.ndarray:
        return (self.after["right"] - self.before["right"]).round(9).to_numpy()


def _groups(case: logs.Case, groups: Sequence[str]) -> list[logs.Case]:
    return [part for group in groups for part in logs.by_group(case, group)]


def _answers(case: logs.Case) -> dict[str, pd.DataFrame]:
    """For each level, shares right, wrong and skipped of every question, over its repeats."""
    means = case.rows.groupby(["level", "question"])[["right", "wrong", "skipped", "tokens"]].mean()
    return {str(level): part.droplevel(0) for level, part in means.groupby(level=0)}


def _pairs(levels: Sequence[str]) -> list[tuple[str, str]]:
    """Neighbours, and first against last."""
    ends = [(levels[0], levels[-1])] if len(levels) > 2 else []
    return [*itertools.pairwise(levels), *ends]


def _paired(case: logs.Case, answers: dict[str, pd.DataFrame], source: str, target: str) -> _Pair:
    shared = answers[source].index.intersection(answers[target].index)
    before, after = answers[source].loc[shared], answers[target].loc[shared]
    return _Pair(case, source, target, before, after, (before["tokens"].mean(), after["tokens"].mean()))


def _judged(pair: _Pair, pvalue: float, confidence: float, level: float) -> Comparison:
    change, n = pair.change, len(pair.change)
    up, down, square = change[change > 0].sum(), -change[change < 0].sum(), (change**2).sum()
    size = square / (up + down) if up + down else 1.0
    _, low, high = (
        size * end for end in errors.paired_difference(float(up / size), float(down / size), n, level)
    )
    outcome = "undecided" if pvalue > 1 - confidence else "helps" if up > down else "hurts"
    if outcome == "undecided":  # the exact test is the stricter one
        low, high = min(low, 0.0), max(high, 0.0)
    else:
        low, high = (max(low, 0.0), high) if outcome == "helps" else (low, min(high, 0.0))
    few, many = pair.tokens
    doublings = math.log2(many / few) if many > 1.05 * few > 0 else math.nan
    mean = float(change.mean())
    return Comparison(
        model=pair.case.model,
        benchmark=pair.case.benchmark,
        source=pair.source,
        target=pair.target,
        questions=n,
        right_from=float(pair.before["right"].mean()),
        right_to=float(pair.after["right"].mean()),
        wrong=float((pair.after["wrong"] - pair.before["wrong"]).mean()),
        skipped=float((pair.after["skipped"] - pair.before["skipped"]).mean()),
        gained=int((change > 0).sum()),
        lost=int((change < 0).sum()),
        low=low,
        high=high,
        pvalue=pvalue,
        outcome=outcome,
        needed=_needed(mean, float(square) / n, 1 - level) if outcome == "undecided" else None,
        per_doubling=None if math.isnan(doublings) else mean / doublings,
    )


def _needed(difference: float, square: float, error: float) -> int | None:
    """Questions for which a two-sided test of that error finds this mean difference, its mean square being `square`.

    R. J. Connor, Biometrics 43, 207 (1987), with the mean square in place of the share of changed answers.
    """
    if difference == 0:
        return None
    null, power = stats.norm.isf(error / 2), stats.norm.isf(1 - POWER)
    spread = null * math.sqrt(square) + power * math.sqrt(max(square - difference**2, 0.0))
    return math.ceil((spread / difference) ** 2)


def _budget_case(case: logs.Case, answers: dict[str, pd.DataFrame]) -> BudgetCase:
    right = np.stack([part["right"].to_numpy() for part in answers.values()], axis=1)
    best = int(right.mean(0).argmax())
    naive = float(right.max(1).mean() - right[:, best].mean())
    shares = tuple(_level_shares(level, part) for level, part in answers.items())
    questions = next(iter(answers.values())).index
    oracle = _split_oracle(case.rows[case.rows["question"].isin(questions)], list(answers), naive)
    return BudgetCase(case.model, case.benchmark, len(right), shares, shares[best].level, oracle)


def _level_shares(level: str, answers: pd.DataFrame) -> LevelShares:
    right = answers["right"].to_numpy()
    mean, spread = float(right.mean()), float(right.var())
    # As many single answers vary as much.
    size = len(right) * (mean * (1 - mean) / spread if spread > 0 else 1.0)
    z = float(stats.norm.ppf(0.975))
    middle = (mean + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(mean * (1 - mean) / size + z**2 / (4 * size**2))
    wrong, skipped, tokens = (float(answers[name].mean()) for name in ("wrong", "skipped", "tokens"))
    return LevelShares(level, mean, max(middle - half, 0.0), min(middle + half, 1.0), wrong, skipped, tokens)


def _split_oracle(rows: pd.DataFrame, levels: list[str], naive: float) -> Oracle:
    """Pick each question's level by half of its repeats, judge by the other half; ties go to the best common level."""
    question, names = pd.factorize(rows["question"])
    cell = question * len(levels) + pd.Categorical(rows["level"], levels).codes
    count = np.bincount(cell, minlength=len(names) * len(levels))
    if count.min() < 2:
        return Oracle(naive)
    generator = np.random.default_rng(0)
    every, gains = np.arange(len(names)), np.zeros(len(names))
    for _ in range(SPLITS):
        order = np.lexsort((generator.random(len(cell)), cell))
        place = np.arange(len(cell)) - (np.cumsum(count) - count)[cell[order]]
        first = place < count[cell[order]] // 2
        right = rows["right"].to_numpy()[order]
        halves = [
            np.bincount(cell[order][half], right[half], len(count)) / np.bincount(cell[order][half])
            for half in (first, ~first)
        ]
        pick, judge = (half.reshape(len(names), len(levels)) for half in halves)
        for seen, unseen in ((pick, judge), (judge, pick)):
            best = seen.mean(0).argmax()
            chosen = np.where(seen.max(1) > seen[:, best], seen.argmax(1), best)
            gains += (unseen[every, chosen] - unseen[:, best]) / (2 * SPLITS)
    mean, low, high = errors.mean_interval(torch.as_tensor(gains))
    return Oracle(naive, mean.item(), low.item(), high.item())


def _level_table(case: BudgetCase) -> list[str]:
    width = max(len("level"), *(len(shares.level) for shares in case.levels))
    abstains = any(shares.skipped > 0 for shares in case.levels)
    lines = [
        f"  {'level':<{width}}  right  95 % interval" + "  wrong  not attempted" * abstains + "   tokens"
    ]
    for s in case.levels:
        more = f"  {s.wrong:>5.1%}  {s.skipped:>13.1%}" if abstains else ""
        tokens = "—" if math.isnan(s.tokens) else f"{s.tokens:,.0f}"
        lines.append(
            f"  {s.level:<{width}}  {s.right:>5.1%}  {s.low:>5.1%} to {s.high:<5.1%}{more}  {tokens:>7}"
        )
    return lines


def _told(c: Comparison) -> str:
    text = (
        f"  {c.source} → {c.target}: {c.outcome}, {c.right_to - c.right_from:+.1%} ({c.low:+.1%} to {c.high:+.1%}), "
        f"gained {c.gained}, lost {c.lost}, tied {c.questions - c.gained - c.lost}"
    )
    if c.skipped:
        text += f"; wrong {c.wrong:+.1%}, not attempted {c.skipped:+.1%}"
    if c.outcome == "undecided":
        text += f"; {c.needed:,} questions would decide" if c.needed else "; nothing differs"
    if c.per_doubling is not None:
        text += f"; {c.per_doubling:+.1%} per doubling of tokens"
    return text
