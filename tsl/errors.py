"""How far an estimate is from the truth, and how sure we are of an average over prompts or seeds."""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy import stats
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

    Returns
    -------
    Tensor of shape (B, steps + 1)

    Raises
    ------
    ValueError
        If the shapes disagree.
    """
    _validate.floating("chain", chain)
    _validate.floating("w", w)
    if chain.dim() != 3 or w.shape != (chain.shape[0], chain.shape[2]):
        raise ValueError(
            f"chain and w must have shapes (B, k, d) and (B, d), got {tuple(chain.shape)} and {tuple(w.shape)}"
        )
    return (chain - w[:, None]).square().sum(-1)


def propagated_error(
    gram: Float[Tensor, "B d d"], gamma: Float[Tensor, "*B d d"], steps: int
) -> Float[Tensor, "B k"]:
    """Error after each step of the pseudo-Newton iteration, averaged exactly over w* ~ N(0, I): ‖(I − Γ⁻¹Σ̂)^j‖_F².

    Parameters
    ----------
    gram : Tensor of shape (B, d, d)
        Empirical covariances Σ̂ of noiseless prompts.
    gamma : Tensor of shape (d, d) or (B, d, d)
        Γ, the inverse of the preconditioner.
    steps : int
        Number of steps k, at least 0.

    Returns
    -------
    Tensor of shape (B, steps + 1)
        Entry j is E_w ‖ŵ_j − w*‖²; entry 0 is d.

    Raises
    ------
    ValueError
        If `steps` < 0 or the shapes disagree.
    """
    _validate.at_least("steps", steps, 0)
    if _validate.square("gram", gram, batch=True).dim() != 3:
        raise ValueError(f"gram must have shape (B, d, d), got {tuple(gram.shape)}")
    _validate.invertible("gamma", gamma, batch=True)
    _validate.same_dimension(gram=gram, gamma=gamma)
    if gamma.dim() == 3 and gram.shape != gamma.shape:
        raise ValueError(
            f"gamma must hold one matrix or one for each of {len(gram)} prompts, got {len(gamma)}"
        )
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    step = identity - torch.linalg.solve(gamma, gram)
    power = identity.expand_as(step)
    errors = [power.square().sum((-1, -2))]
    for _ in range(steps):
        power = step @ power
        errors.append(power.square().sum((-1, -2)))
    return torch.stack(errors, dim=-1)


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

    Raises
    ------
    ValueError
        If `values` has no axis `dim`, or fewer than two values along it.
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

    Raises
    ------
    ValueError
        If `confidence` is not inside (0, 1) or there are fewer than two replicas.
    """
    _validate.fraction("confidence", confidence)
    half = standard_error(values, dim) * float(stats.t.ppf((1 + confidence) / 2, _replicas(values, dim) - 1))
    mean = values.mean(dim)
    return mean, mean - half, mean + half


def _replicas(values: Tensor, dim: int) -> int:
    """Length of the axis of replicas, after checking that there is such an axis."""
    _validate.floating("values", values)
    if isinstance(dim, bool) or not isinstance(dim, int) or not -values.dim() <= dim < values.dim():
        raise ValueError(f"dim must be an axis of values, which has {values.dim()}, got {dim!r}")
    return values.shape[dim]
