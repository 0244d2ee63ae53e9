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
    """Squared error ‖ŵ_j − w*‖² of every estimate of a chain.

    Parameters
    ----------
    chain : Tensor of shape (B, steps + 1, d)
        Estimates ŵ_0, ..., ŵ_steps.
    w : Tensor of shape (B, d)
        True weights.
    """
    _validate.floating("chain", chain)
    _validate.floating("w", w)
    if chain.dim() != 3 or w.shape != (chain.shape[0], chain.shape[2]):
        raise ValueError(
            f"chain and w must have shapes (B, k, d) and (B, d), got {tuple(chain.shape)} and {tuple(w.shape)}"
        )
    return (chain - w[:, None]).square().sum(-1)


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
    steps : int
        Number of steps k, at least 0.

    Returns
    -------
    Tensor of shape (..., steps + 1)
        Entry j is E_w ‖ŵ_j − w*‖²; entry 0 is d. Infinite once it overflows.
    """
    _validate.at_least("steps", steps, 0)
    _validate.matrices("gram", gram)
    _validate.invertible("gamma", gamma, batch=True)
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
    _validate.same_dimension(found=found, target=target)
    if not target.any():
        raise ValueError("target must not be zero, got zeros")
    return torch.linalg.matrix_norm(found - target) / torch.linalg.matrix_norm(target)


def standard_error(values: Tensor, dim: int = 0) -> Tensor:
    """Standard error of the mean of independent `values` along `dim`.

    Parameters
    ----------
    values : Tensor
        At least two independent values along `dim`.
    dim : int
        Axis of replicas.

    Returns
    -------
    Tensor without the axis `dim`.
    """
    count = _replicas(values, dim)
    if count < 2:
        raise ValueError(f"values must hold at least 2 replicas along dim={dim}, got {count}")
    return values.std(dim) / count**0.5


def mean_interval(values: Tensor, dim: int = 0, confidence: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of independent values with Student's confidence interval.

    Parameters
    ----------
    values : Tensor
        Independent replicas along `dim`, at least two.
    dim : int
        Axis of replicas.
    confidence : float
        Coverage, between 0 and 1.

    Returns
    -------
    mean, low, high : Tensors without the axis `dim`.
    """
    _validate.fraction("confidence", confidence)
    half = standard_error(values, dim) * float(stats.t.ppf((1 + confidence) / 2, _replicas(values, dim) - 1))
    mean = values.mean(dim)
    return mean, mean - half, mean + half


def z_scores(values: Tensor, expected: Any, dim: int = 0) -> Tensor:
    """Distance of the mean of independent values from what was expected, in standard errors.

    Parameters
    ----------
    values : Tensor
        Independent replicas along `dim`, at least two.
    expected : number, sequence or Tensor
        Prediction, of the shape of ``values.mean(dim)``.
    dim : int
        Axis of replicas.

    Returns
    -------
    Tensor without the axis `dim`
        Signed; 0 where all replicas equal the prediction.
    """
    spread, mean = standard_error(values, dim), values.mean(dim)
    try:
        target = torch.as_tensor(expected, dtype=values.dtype, device=values.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"expected must hold numbers, got {expected!r}") from None
    if target.shape not in ((), mean.shape):
        raise ValueError(f"expected must have shape {tuple(mean.shape)}, got shape {tuple(target.shape)}")
    gap = mean - target
    return torch.where(gap == 0, 0, gap / spread)


def geometric_mean(values: Tensor, dim: int = 0) -> Tensor:
    """Geometric mean of positive values along an axis."""
    logs = _logarithm("values", values)
    _replicas(logs, dim)
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
    """Ratio of the geometric means of two independent samples, with Student's two-sample interval.

    Parameters
    ----------
    above, below : Tensors of shape (R,) and (S,)
        Positive values, at least two each; one variance of their logarithms is assumed.
    confidence : float
        Coverage, between 0 and 1.

    Returns
    -------
    ratio, low, high : float
    """
    _validate.fraction("confidence", confidence)
    upper, lower = _logarithm("above", above), _logarithm("below", below)
    for name, logs in (("above", upper), ("below", lower)):
        if len(logs) < 2:
            raise ValueError(f"{name} must hold at least 2 replicas, got {len(logs)}")
    interval = stats.ttest_ind(upper.cpu(), lower.cpu()).confidence_interval(confidence)
    return (upper.mean() - lower.mean()).exp().item(), math.exp(interval.low), math.exp(interval.high)


def median_interval(values: Float[Tensor, "B k"], confidence: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Median over prompts with a distribution-free interval from order statistics.

    Parameters
    ----------
    values : Tensor of shape (B, k)
        Independent values along the first axis, whatever their tails.
    confidence : float
        Coverage of each column's interval, between 0 and 1; the interval is conservative.

    Returns
    -------
    median, low, high : Tensors of shape (k,)

    Notes
    -----
    The number of values below the true median is Binomial(B, ½), so the r-th smallest and the r-th largest
    value enclose the median with probability at least 1 − 2 P(Binomial < r).
    """
    _validate.fraction("confidence", confidence)
    size = values.shape[0]
    rank = int(
        stats.binom.ppf((1 - confidence) / 2, size, 0.5)
    )  # largest r with P(Binomial < r) within the tail
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
    """Difference of two shares of the same questions, with Tango's score interval.

    Parameters
    ----------
    gained, lost : float
        Questions that are right at the second level alone, and at the first alone; together at most `questions`.
        Halves and other parts of a question are allowed.
    questions : int
        Questions asked at both levels.
    confidence : float
        Coverage, between 0 and 1.

    Returns
    -------
    difference, low, high : float
        Of the share right at the second level minus that at the first.

    Notes
    -----
    The interval holds every Δ that the score test does not reject: gained − lost − nΔ is at most z (n (2q + Δ(1 − Δ)))^½,
    where q is the likeliest share lost if the difference is Δ (T. Tango, Statistics in Medicine 17, 891, 1998). At
    Δ = 0 it is McNemar's test. Unlike Wald's interval it keeps its coverage where few questions change, or none.
    """
    _validate.fraction("confidence", confidence)
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

    Parameters
    ----------
    pvalues : sequence of float
        One for each comparison that is looked at, in any order; they may depend on each other.

    Returns
    -------
    list of float
        In the order of `pvalues` (S. Holm, Scandinavian Journal of Statistics 6, 65, 1979).
    """
    values = [_validate.share(f"pvalues[{index}]", value) for index, value in enumerate(pvalues)]
    adjusted, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = least
    return adjusted


def sign_flip_pvalue(differences: Sequence[float | int]) -> float:
    """Chance of a sum as far from 0 as this one if every difference could as well have had the other sign.

    Parameters
    ----------
    differences : sequence of float
        One for each question, in [−1, 1]: share right at the second level minus that at the first. Differences of
        repeated answers are averaged before, so that repeats of a question count as one.

    Returns
    -------
    float
        Two-sided and exact; for differences of −1, 0 and 1 it is McNemar's exact test. Differences that are no
        multiples of a common 1/L, L ≤ 240, are rounded to 1/240.

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
    law = np.fft.fft(waves).real / len(
        grid
    )  # of the sum, modulo the grid's length, which is beyond its reach
    total = np.minimum(grid, len(grid) - grid)
    return float(np.clip(law[total >= abs(sizes.sum())].sum(), 2.0 ** -min(len(x), 60), 1.0))


def _logarithm(name: str, values: Tensor) -> Tensor:
    if not (_validate.floating(name, values) > 0).all():
        raise ValueError(f"{name} must be positive, got a smallest one of {values.min().item():.3g}")
    return values.log()


def _replicas(values: Tensor, dim: int) -> int:
    """Length of the axis of replicas, after checking that there is such an axis."""
    _validate.floating("values", values)
    if isinstance(dim, bool) or not isinstance(dim, int) or not -values.dim() <= dim < values.dim():
        raise ValueError(f"dim must be an axis of values, which has {values.dim()}, got {dim!r}")
    return values.shape[dim]
