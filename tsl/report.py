"""From feature matrices to a plan: how hard the target is, what covers it, what to mix, what it gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, covariance, errors, selection, theory

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
        tr(Λ)/λ_min(Λ).
    coverage : float
        1/|λ|_max(Γ⁻¹Σ) of a model trained on this task alone: how much of the target's variance training saw,
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
        """Error of one step over the error of the best step: median and 10–90 % of prompts. 1 means none."""
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

    Covariances are second moments about zero (the model has no intercept: centre the features first if their
    mean is not of interest). They are not shrunk: shrinking hides how strong the target is in its strong
    directions, which leads to overthinking (measured in chapter 7). Features are taken to be Gaussian and labels
    noiseless. This is our reading of the advice to cover the skills that are needed.

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
        Source of the test prompts that the prediction averages over.
    prompts : int
        Number of these.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If there is no task, a matrix has fewer than two rows or is not finite, the numbers of features
        disagree, or a count is below 1.
    """
    if not tasks:
        raise ValueError("tasks must name at least one candidate, got none")
    covs = torch.stack([_second_moment(f"tasks[{name!r}]", x, target) for name, x in tasks.items()])
    sigma = _second_moment("target", target, target)
    counts = [lengths] * len(tasks) if isinstance(lengths, int) else list(lengths)
    for name, value in (("examples", examples), ("steps", steps), ("prompts", prompts)):
        _validate.positive_int(name, value)
    planning = covariance.wishart(sigma, examples, PLANNING, generator)
    weights = selection.select_tasks(covs, counts, sigma, steps, planning)

    gammas = [theory.gamma(cov, n) for cov, n in zip(covs, counts, strict=True)]
    mixed = theory.gamma_mixture(list(covs), weights, counts)
    equal = theory.gamma_mixture(list(covs), torch.full_like(weights, 1 / len(weights)), counts)
    grams = covariance.wishart(sigma, examples, prompts, generator)
    single = [errors.propagated_error(planning, gamma, steps)[:, -1].mean().item() for gamma in gammas]
    best = min(range(len(single)), key=single.__getitem__)
    names = list(tasks)
    rivals = {"recommended": mixed, "equal weights": equal, f"only {names[best]}": gammas[best]}
    curves = {
        name: errors.propagated_error(grams, gamma, steps) / len(sigma) for name, gamma in rivals.items()
    }
    cards = tuple(
        TaskCard(name, n, covariance.hardness(cov), _coverage(gamma, sigma), weight)
        for name, n, cov, gamma, weight in zip(names, counts, covs, gammas, weights.tolist(), strict=True)
    )
    return Plan(
        cards, covariance.hardness(sigma), len(target), len(sigma), examples, _coverage(mixed, sigma), curves
    )


def _second_moment(name: str, features: Tensor, like: Tensor) -> Tensor:
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) < 2:
        raise ValueError(
            f"{name} must be a matrix of at least 2 rows, got {getattr(features, 'shape', features)!r}"
        )
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got entries that are NaN or infinite")
    _validate.same_dimension(**{name: features, "target": like})
    x = features.double()
    moment = x.mT @ x / len(x)
    # A direction without samples counts as very faint, not as absent, so that every mixture has an inverse.
    floor = 1e-9 * moment.diagonal().mean().clamp(min=torch.finfo(x.dtype).tiny)
    return moment + floor * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)


def _short(value: float) -> str:
    """Two significant digits: ``0.83``, ``270``, ``2e15``."""
    mantissa, exponent = f"{value:.1e}".split("e")
    plain = -4 <= int(exponent) <= 4
    return f"{float(f'{value:.2g}'):g}" if plain else f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _coverage(gamma: Tensor, target: Tensor) -> float:
    return 1 / torch.linalg.eigvals(torch.linalg.solve(gamma, target)).abs().max().item()
