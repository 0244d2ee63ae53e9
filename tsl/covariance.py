"""Feature covariances: spectra, rotations, hardness, and empirical covariances drawn directly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _draw, _validate


def power_law(d: int, alpha: float, trace: float | None = None) -> Float[Tensor, "d d"]:
    """Diagonal covariance with eigenvalues proportional to i^(-alpha), i = 1, ..., d.

    `alpha` = 0 gives the isotropic covariance, larger values are harder. `trace` is the total variance to rescale to; by default
    the largest eigenvalue is 1.
    """
    d, alpha = _validate.positive_int("d", d), _validate.non_negative("alpha", alpha)
    spectrum = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    if trace is not None:
        spectrum = spectrum * (_validate.positive("trace", trace) / spectrum.sum())
    return torch.diag(spectrum)


def haar(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Draw a matrix uniformly (Haar measure) from the orthogonal group, on the device of the generator."""
    d = _validate.positive_int("d", d)
    _validate.instance("generator", generator, torch.Generator)
    kind: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
    q, r = torch.linalg.qr(torch.randn((d, d), generator=generator, **kind))
    return q * torch.sign(torch.diagonal(r))  # without the signs QR is not Haar distributed


def rotate(cov: Float[Tensor, "d d"], generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Conjugate a covariance by a rotation drawn by `haar`: its spectrum, hence its hardness, is kept."""
    cov = _validate.covariance("cov", cov)
    q = haar(len(cov), generator).to(cov)
    rotated = q @ cov @ q.mT
    return (rotated + rotated.mT) / 2


def hardness(cov: Float[Tensor, "d d"]) -> float:
    """Hardness of a task, tr(Λ) / λ_min(Λ) (Definition in Section 3 of arXiv 2510.03605).

    At least d, with equality for isotropic features; infinite when the smallest eigenvalue is zero up to rounding.
    """
    spectrum = torch.linalg.eigvalsh(_validate.covariance("cov", cov).double())
    lowest, total = spectrum[0].item(), spectrum.sum().item()
    floor = len(spectrum) * torch.finfo(spectrum.dtype).eps * spectrum[-1].item()
    return total / lowest if lowest > floor else math.inf


def square_root(cov: Float[Tensor, "*C d d"]) -> Float[Tensor, "*C d d"]:
    """Symmetric square root R, R Rᵀ = cov, of a covariance or a batch of them; they may be singular."""
    return _root(_validate.covariance("cov", cov, batch=True))


def _root(cov: Tensor) -> Tensor:
    spectrum, vectors = torch.linalg.eigh(cov)
    return (vectors * spectrum.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT


def wishart(
    cov: Float[Tensor, "*C d d"],
    m: int | Sequence[int],
    size: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*S d d"]:
    """Empirical covariances Σ̂ = X Xᵀ / m of m Gaussian features, drawn without drawing the features.

    Bartlett's decomposition: X = R G with R Rᵀ = Σ, and G Gᵀ = T Tᵀ in law, where T is lower trapezoidal with
    independent entries, T_ii² ~ χ²(m − i + 1) and T_ij ~ N(0, 1) below the diagonal. The cost does not depend on
    m, and m < d is allowed.

    Parameters
    ----------
    cov : Tensor of shape (d, d) or (C, d, d)
        Population covariance Σ, or one for each of C lengths; it may be singular.
    m : int, or sequence or tensor of C ints
        Number of features behind each matrix.
    generator : torch.Generator, optional
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Tensor of shape (size, d, d), or (C, size, d, d) for a sequence of lengths
        Symmetric, positive semi-definite, with mean `cov`.
    """
    cov = _validate.covariance("cov", cov, batch=True)
    one = not isinstance(m, Sequence) and not getattr(m, "ndim", 0)
    given = [m] if one or isinstance(m, str) else _validate.sequence("m", m, "length")
    lengths = [_validate.positive_int("m", length) for length in given]
    if cov.dim() > 2 and (one or cov.dim() > 3 or len(cov) != len(lengths)):
        raise ValueError(f"m must hold a length for each of {len(cov)} covariances, got {m!r}")
    size = _validate.positive_int("size", size)
    _validate.generator("generator", generator)
    half = _bartlett(cov, lengths, size, generator)
    gram = half @ half.mT / torch.tensor(lengths, dtype=cov.dtype, device=cov.device)[:, None, None, None]
    return gram[0] if one else gram


def _bartlett(cov: Tensor, lengths: Sequence[int], size: int, generator: torch.Generator | None) -> Tensor:
    """Halves H of shape (C, size, d, min(d, max m)) with H Hᵀ = X Xᵀ in law, X of m features: H = R T, as in `wishart`."""
    d, rank = cov.shape[-1], min(cov.shape[-1], max(lengths))
    kind: dict[str, Any] = {"dtype": cov.dtype, "device": cov.device}
    freedom = torch.tensor(lengths, **kind)[:, None, None] - torch.arange(rank, **kind)
    freedom = freedom.expand(-1, size, -1)
    factor = _draw.normal((len(lengths), size, d, rank), generator, cov).tril(-1)
    chi_square = 2 * _draw.gamma(freedom.clamp(min=1) / 2, generator)
    torch.diagonal(factor, dim1=-2, dim2=-1).copy_(chi_square.sqrt())
    return _root(cov).unsqueeze(-3) @ (factor * (freedom > 0).unsqueeze(-2))  # m features span m columns
