"""Many configurations at once: error curves for a grid of (Λ, n, Σ, m, seed) from one batched eigenproblem.

A loop over configurations spends its time in the overhead of small matrix products. Here every replica of
every configuration is a row of one tensor, and all steps come from one eigendecomposition: with S = Γ^{-½} Σ̂
Γ^{-½} = U diag(s) Uᵀ,

    (I − Γ⁻¹Σ̂)^k = Γ^{-½} U diag((1 − s)^k) Uᵀ Γ^{½},

so that the error after k steps is a quadratic form in the vector (1 − s)^k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate

# Entries of the largest tensor that `error_curves` makes at once: a quarter of a gigabyte.
_ELEMENTS = 2**25


def _power(matrix: Float[Tensor, "C d d"], exponent: float) -> Float[Tensor, "C d d"]:
    spectrum, vectors = torch.linalg.eigh(matrix)
    return (vectors * spectrum.clamp(min=0).pow(exponent).unsqueeze(-2)) @ vectors.mT


def bartlett(
    d: int, lengths: Sequence[int], replicas: int, generator: torch.Generator | None = None
) -> Float[Tensor, "C R d d"]:
    """Factors T with TTᵀ/m an empirical covariance of m white features, for many m in one tensor.

    Parameters
    ----------
    d : int
        Feature dimension, at least 1.
    lengths : sequence of C ints
        Test prompt length m of each configuration, at least 1; m < d is allowed.
    replicas : int
        Independent draws R of each.
    generator : torch.Generator, optional
        Source of randomness.

    Returns
    -------
    Tensor of shape (C, replicas, d, d), float64
        Already divided by √m.

    Raises
    ------
    ValueError
        If a count is below 1.

    Notes
    -----
    Bartlett: T is lower triangular, T_ij ~ N(0, 1) below the diagonal and T_jj² ~ χ²(m − j + 1); columns
    beyond m are zero.
    """
    _validate.positive_int("d", d)
    _validate.positive_int("replicas", replicas)
    for index, length in enumerate(lengths):
        _validate.positive_int(f"lengths[{index}]", length)
    device = generator.device if generator is not None else None
    kind: dict[str, Any] = {"dtype": torch.float64, "device": device}
    m = torch.as_tensor(list(lengths), **kind)
    freedom = m[:, None] - torch.arange(d, **kind)  # (C, d)
    shape = (freedom.clamp(min=1) / 2)[:, None].expand(-1, replicas, -1).contiguous()
    factor = torch.zeros((len(m), replicas, d, d), **kind)
    chi_square = 2 * torch._standard_gamma(shape, generator=generator)
    torch.diagonal(factor, dim1=-2, dim2=-1).copy_(chi_square.sqrt())
    rows, columns = torch.tril_indices(d, d, -1, device=device)
    factor[..., rows, columns] = torch.randn((len(m), replicas, len(rows)), generator=generator, **kind)
    return factor * ((freedom > 0) / m[:, None].sqrt())[:, None, None, :]


def error_curves(
    gammas: Float[Tensor, "C d d"],
    covs: Float[Tensor, "C d d"],
    lengths: Sequence[int],
    steps: int,
    replicas: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "C R k"]:
    """Error after every step, averaged exactly over weights, for draws of Σ̂ in many configurations.

    Parameters
    ----------
    gammas : Tensor of shape (C, d, d)
        Γ of the trained model in each configuration, symmetric and positive definite. That of a mixture of tasks is
        symmetric only if they commute; for others see `tsl.errors.propagated_error`.
    covs : Tensor of shape (C, d, d)
        Covariance Σ of the test features in each configuration.
    lengths : sequence of C ints
        Test prompt length m of each configuration.
    steps : int
        Last step, at least 0.
    replicas : int
        Independent test prompts R of each configuration.
    generator : torch.Generator, optional
        Source of randomness, on the device of `gammas`.

    Returns
    -------
    Tensor of shape (C, replicas, steps + 1), float64
        Entry j is ‖(I − Γ⁻¹Σ̂)^j‖_F² = E_w‖ŵ_j − w‖²: the noiseless recursion of Proposition 3.2 of
        arXiv 2510.03605.

    Raises
    ------
    ValueError
        If shapes disagree, a count is out of range, a Γ is not symmetric and positive definite, or a Σ is no covariance.
    """
    _validate.covariance("gammas", gammas, batch=True)
    _validate.covariance("covs", covs, batch=True)
    _validate.at_least("steps", steps, 0)
    if gammas.dim() != 3 or gammas.shape != covs.shape or len(lengths) != len(gammas):
        raise ValueError(
            "gammas, covs and lengths must describe the same C configurations, got shapes "
            f"{tuple(gammas.shape)} and {tuple(covs.shape)} and {len(lengths)} lengths"
        )
    part = max(1, _ELEMENTS // (_validate.positive_int("replicas", replicas) * gammas.shape[-1] ** 2))
    if len(gammas) > part:  # more than memory should hold at once
        cuts = [slice(start, start + part) for start in range(0, len(gammas), part)]
        return torch.cat(
            [error_curves(gammas[c], covs[c], lengths[c], steps, replicas, generator) for c in cuts]
        )
    gammas, covs = gammas.double(), covs.double()
    lowest = torch.linalg.eigvalsh(gammas)[:, 0].min().item()
    if lowest <= 0:
        raise ValueError(f"gammas must be positive definite, got a smallest eigenvalue of {lowest:.3g}")
    whitened = _power(gammas, -0.5) @ _power(covs, 0.5)
    d = gammas.shape[-1]
    # Products with a matrix of the configuration run over all its replicas at once, as one tall product.
    rows = bartlett(d, lengths, replicas, generator).mT.reshape(len(lengths), replicas * d, d) @ whitened.mT
    rows = rows.reshape(len(lengths), replicas, d, d)
    spectrum, vectors = torch.linalg.eigh(rows.mT @ rows)
    modes = vectors.mT.reshape(len(lengths), replicas * d, d)  # a row per eigenvector
    overlap = ((modes @ torch.linalg.inv(gammas)).reshape(vectors.shape) @ vectors) * (
        (modes @ gammas).reshape(vectors.shape) @ vectors
    )
    rates = (1 - spectrum).unsqueeze(-2)  # (C, R, 1, d)
    powers = torch.cat([torch.ones_like(rates), rates.expand(-1, -1, steps, -1).cumprod(-2)], -2)
    return ((powers @ overlap) * powers).sum(-1)
