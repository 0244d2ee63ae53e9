"""How far an estimate is from the truth, and how sure we are of an average over prompts or seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize, stats
from torch import Tensor

from tsl import _validate


def squared_error(chain: Float[Tensor, "B k d"], w: Float[Tensor, "B d"]) -> Float[Tensor, "B k"]:
    """Squared error ‖ŵ_j − w*‖² of every estimate ŵ_0, ..., ŵ_steps of a chain.

    Infinite where the chain has overflown; NaN only where the weights are not known.
    """
    chain, w = _validate.together(gradient=True, chain=chain, w=w)
    if chain.dim() != 3 or w.shape != (chain.shape[0], chain.shape[2]):
        raise ValueError(
            f"chain and w must have shapes (B, k, d) and (B, d), got {tuple(chain.shape)} and {tuple(w.shape)}"
        )
    error = (chain - w[:, None]).square().sum(-1)
    return torch.where(error.isnan() & ~w.isnan().any(-1, keepdim=True), torch.inf, error)


def propagated_error(
    gram: Float[Tensor, "*B d d"], gamma: Float[Tensor, "*C d d"], steps: int
) -> Float[Tensor, "*S k"]:
    """Error after each step of the pseudo-Newton iteration, averaged exactly over w* ~ N(0, I): ‖(I − Γ⁻¹Σ̂)^j‖_F².

    Parameters
    ----------
    gram : Tensor of shape (..., d, d)
        Empirical covariances Σ̂ of noiseless prompts, in a batch of any shape.
    gamma : Tensor of shape (..., d, d)
        Γ, the inverse of the preconditioner: one, or a batch that broadcasts against that of `gram`.

    Returns
    -------
    Tensor of shape (..., steps + 1)
        Entry j is E_w ‖ŵ_j − w*‖²; entry 0 is d. Infinite once it overflows.
    """
    steps = _validate.at_least("steps", steps, 0)
    gram, gamma = _validate.matrices("gram", gram), _validate.invertible("gamma", gamma, batch=True)
    _validate.same_dimension(gram=gram, gamma=gamma)
    try:
        shape = torch.broadcast_shapes(gram.shape, gamma.shape)
    except RuntimeError:
        raise ValueError(
            f"gamma must hold one matrix or a batch that broadcasts against gram's {tuple(gram.shape)}, "
            f"got {tuple(gamma.shape)}"
        ) from None
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # Expanded, because `solve` reads a batch with one axis less than that of gamma as vectors where the sizes agree.
    step = identity - torch.linalg.solve(gamma, gram.expand(shape))
    power = identity.expand_as(step)
    errors = [power.square().sum((-1, -2))]
    for _ in range(steps):
        power = step @ power
        errors.append(power.square().sum((-1, -2)))
    curves = torch.stack(errors, dim=-1)
    return torch.where(curves.isnan(), torch.inf, curves)  # what has overflown is infinite, not unknown


def relative_distance(found: Float[Tensor, "*B d d"], target: Float[Tensor, "d d"]) -> Float[Tensor, "*B"]:
    """Frobenius distance of a matrix, or of a batch of them, from a target, in units of the target's norm."""
    found, target = _validate.together(found=found, target=target)
    _validate.same_dimension(found=found, target=target)
    if not target.any():
        raise ValueError("target must not be zero, got zeros")
    return torch.linalg.matrix_norm(found - target) / torch.linalg.matrix_norm(target)


def standard_error(values: Tensor, dim: int = 0) -> Tensor:
    """Standard error of the mean of at least two independent values along `dim`; infinite where one of them is."""
    values, count = _replicas(values, dim)
    if count < 2:
        raise ValueError(f"values must hold at least 2 replicas along dim={dim}, got {count}")
    spread = values.std(dim) / count**0.5
    return torch.where(values.isinf().any(dim) & ~values.isnan().any(dim), torch.inf, spread)


def mean_interval(values: Tensor, dim: int = 0, confidence: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of at least two independent values along `dim`, and both ends of Student's confidence interval."""
    confidence = _validate.fraction("confidence", confidence)
    values, count = _replicas(values, dim)
    half = standard_error(values, dim) * float(stats.t.ppf((1 + confidence) / 2, count - 1))
    mean = values.mean(dim)
    return mean, mean - half, mean + half


def z_scores(values: Tensor, expected: Any, dim: int = 0) -> Tensor:
    """Signed distance of the mean of independent values along `dim` from what was expected, in standard errors.

    `expected` is a number, or numbers in the shape of ``values.mean(dim)``. 0 where all replicas equal the prediction.
    """
    values, _ = _replicas(values, dim)
    spread, mean = standard_error(values, dim), values.mean(dim)
    target = _validate.floating("expected", expected).to(values)
    if target.shape not in ((), mean.shape):
        raise ValueError(f"expected must have shape {tuple(mean.shape)}, got shape {tuple(target.shape)}")
    gap = mean - target
    return torch.where(gap == 0, 0, gap / spread)


def geometric_mean(values: Tensor, dim: int = 0) -> Tensor:
    """Geometric mean of positive values along an axis."""
    logs, _ = _replicas(_logarithm("values", values), dim)
    return logs.mean(dim).exp()


def geometric_interval(
    values: Tensor, dim: int = 0, confidence: float = 0.95
) -> tuple[Tensor, Tensor, Tensor]:
    """Geometric mean of positive values with Student's interval of their logarithm: one bad replica does not decide.

    Arguments and result as for `mean_interval`.
    """
    logs = _logarithm("values", values)
    middle, low, high = (end.exp() for end in mean_interval(logs, dim, confidence))
    return middle, low, high


def ratio_interval(above: Tensor, below: Tensor, confidence: float = 0.95) -> tuple[float, float, float]:
    """Ratio of the geometric means of two independent samples, and both ends of Student's two-sample interval.

    Both are vectors of at least two positive values; one variance of their logarithms is assumed.
    """
    confidence = _validate.fraction("confidence", confidence)
    upper, lower = _logarithm("above", above), _logarithm("below", below)
    for name, logs in (("above", upper), ("below", lower)):
        if logs.dim() != 1:
            raise ValueError(f"{name} must be a vector, got shape {tuple(logs.shape)}")
        if len(logs) < 2:
            raise ValueError(f"{name} must hold at least 2 replicas, got {len(logs)}")
    interval = stats.ttest_ind(upper.cpu(), lower.cpu()).confidence_interval(confidence)
    return (upper.mean() - lower.mean()).exp().item(), math.exp(interval.low), math.exp(interval.high)


def median_interval(values: Float[Tensor, "B k"], confidence: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Median over prompts, and both ends of a distribution-free interval from order statistics.

    Values are independent along the first axis, whatever their tails. Each column's interval covers its median with at least the
    probability `confidence`.

    Notes
    -----
    The number of values below the true median is Binomial(B, ½), so the r-th smallest and the r-th largest
    value enclose the median with probability at least 1 − 2 P(Binomial < r).
    """
    confidence, values = (
        _validate.fraction("confidence", confidence),
        _validate.floating("values", values).double(),
    )
    if values.dim() < 1 or values.isnan().any():
        raise ValueError(f"values must be numbers along a first axis, got NaN or shape {tuple(values.shape)}")
    size = values.shape[0]
    # Largest r with P(Binomial < r) within the tail.
    rank = int(stats.binom.ppf((1 - confidence) / 2, size, 0.5))
    if rank < 1:
        least = math.ceil(math.log2(2 / (1 - confidence)))
        raise ValueError(
            f"values must hold at least {least} prompts for {confidence:.4g} coverage, got {size}"
        )
    ordered = values.sort(dim=0).values
    return values.quantile(0.5, dim=0), ordered[rank - 1], ordered[size - rank]


def paired_difference(
    gained: float | int, lost: float | int, questions: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Share right at a second level minus that at the first, of the same questions, and both ends of Tango's interval.

    Parameters
    ----------
    gained, lost : float
        Questions that are right at the second level alone, and at the first alone; together at most `questions`.
        Halves and other parts of a question are allowed.

    Notes
    -----
    The interval holds every Δ that the score test does not reject: gained − lost − nΔ is at most z (n (2q + Δ(1 − Δ)))^½,
    where q is the likeliest share lost if the difference is Δ (T. Tango, Statistics in Medicine 17, 891, 1998). At
    Δ = 0 it is McNemar's test. Unlike Wald's interval it keeps its coverage where few questions change, or none.
    """
    confidence = _validate.fraction("confidence", confidence)
    n = _validate.positive_int("questions", questions)
    b, c = _validate.non_negative("gained", gained), _validate.non_negative("lost", lost)
    if b + c > n:
        raise ValueError(f"gained and lost must sum to at most questions={n}, got {gained!r} and {lost!r}")
    z = float(stats.norm.ppf((1 + confidence) / 2))

    def score(delta: float) -> float:
        linear = (2 * n - b + c) * delta - b - c
        root = math.sqrt(max(linear**2 + 8 * n * c * delta * (1 - delta), 0.0))
        q = (root - linear) / (4 * n)
        spread = math.sqrt(max(n * (2 * q + delta * (1 - delta)), 0.0))
        return b - c - n * delta - math.copysign(z, b - c - n * delta) * spread

    middle = (b - c) / n

    def limit(end: float) -> float:
        near = middle + math.copysign(1e-9, end - middle)
        if abs(middle - end) < 1e-9 or score(near) * score(end) > 0:
            return end
        return float(optimize.brentq(score, near, end, xtol=1e-12))

    return middle, limit(-1.0), limit(1.0)


def holm(pvalues: Sequence[float | int]) -> list[float]:
    """Holm's adjusted p-values: rejecting those of at most α errs in any of them with probability at most α.

    One for each comparison that is looked at, in any order, which is kept; they may depend on each other (S. Holm, Scandinavian
    Journal of Statistics 6, 65, 1979).
    """
    values = [_validate.share(f"pvalues[{index}]", value) for index, value in enumerate(pvalues)]
    adjusted, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = least
    return adjusted


def sign_flip_pvalue(differences: Sequence[float | int]) -> float:
    """Chance of a sum as far from 0 as this one if every difference could as well have had the other sign.

    Two-sided and exact; for differences of −1, 0 and 1 it is McNemar's exact test. Differences that are no multiples of a common
    1/L, L ≤ 240, are rounded to 1/240.

    Parameters
    ----------
    differences : sequence of float
        One for each question, in [−1, 1]: share right at the second level minus that at the first. Differences of
        repeated answers are averaged before, so that repeats of a question count as one.

    Notes
    -----
    If levels could be exchanged, the sum is Σ ± x_i with independent fair signs. On a lattice its law is the Fourier
    transform of its characteristic function ∏ cos(x_i t).
    """
    x = np.asarray(
        [_validate.signed_share(f"differences[{i}]", value) for i, value in enumerate(differences)]
    )
    x = x[x != 0]
    whole = (np.abs(x * scale - np.rint(x * scale)).max(initial=0) < 1e-6 for scale in range(1, 241))
    sizes = np.rint(x * next((scale for scale, fits in enumerate(whole, 1) if fits), 240)).astype(int)
    steps, counts = np.unique(np.abs(sizes), return_counts=True)
    reach = int(steps @ counts)
    grid = np.arange(2 * reach + 1)
    waves = np.ones(len(grid))
    for step, count in zip(steps, counts, strict=True):
        waves *= np.cos(2 * np.pi * ((grid * step) % len(grid)) / len(grid)) ** count
    # Of the sum, modulo the grid's length, which is beyond its reach.
    law = np.fft.fft(waves).real / len(grid)
    total = np.minimum(grid, len(grid) - grid)
    return float(np.clip(law[total >= abs(sizes.sum())].sum(), 2.0 ** -min(len(x), 60), 1.0))


def _logarithm(name: str, values: Tensor) -> Tensor:
    found = _validate.floating(name, values).double()
    if found.numel() == 0 or not (found > 0).all():
        least = found.min().item() if found.numel() else math.nan
        raise ValueError(f"{name} must be positive, got a smallest one of {least:.3g}")
    return found.log()


def _replicas(values: Any, dim: int) -> tuple[Tensor, int]:
    """Values as a tensor, and the length of the axis of replicas, after checking that there is such an axis."""
    found = _validate.floating("values", values).double()
    if isinstance(dim, bool) or not isinstance(dim, int) or not -found.dim() <= dim < found.dim():
        raise ValueError(f"dim must be an axis of values, which has {found.dim()}, got {dim!r}")
    return found, found.shape[dim]
