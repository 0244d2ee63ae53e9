"""Feature covariances: spectra, rotations, hardness, and empirical covariances drawn directly."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate


def power_law(d: int, alpha: float, trace: float | None = None) -> Float[Tensor, "d d"]:
    """Diagonal covariance with eigenvalues proportional to i^(-alpha), i = 1, ..., d.

    Parameters
    ----------
    d : int
        Feature dimension, at least 1.
    alpha : float
        Spectral exponent, at least 0; 0 gives the isotropic covariance, larger values are harder.
    trace : float, optional
        Total variance to rescale to. By default the largest eigenvalue is 1.

    Returns
    -------
    Tensor of shape (d, d), float64.

    Raises
    ------
    ValueError
        If `d` < 1, `alpha` < 0 or `trace` <= 0.
    """
    _validate.positive_int("d", d)
    _validate.non_negative("alpha", alpha)
    spectrum = torch.arange(1, d + 1, dtype=torch.float64) ** -float(alpha)
    if trace is not None:
        spectrum = spectrum * (_validate.positive("trace", trace) / spectrum.sum())
    return torch.diag(spectrum)


def haar(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Draw a matrix uniformly (Haar measure) from the orthogonal group.

    Parameters
    ----------
    d : int
        Dimension, at least 1.
    generator : torch.Generator
        Source of randomness; the matrix lies on its device.

    Returns
    -------
    Tensor of shape (d, d), float64.

    Raises
    ------
    ValueError
        If `d` < 1 or `generator` is not a generator.
    """
    _validate.positive_int("d", d)
    _validate.instance("generator", generator, torch.Generator)
    kind: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
    q, r = torch.linalg.qr(torch.randn((d, d), generator=generator, **kind))
    return q * torch.sign(torch.diagonal(r))  # without the signs QR is not Haar distributed


def rotate(cov: Float[Tensor, "d d"], generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Conjugate a covariance by a rotation drawn uniformly (Haar measure) from the orthogonal group.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance; its spectrum, hence its hardness, is kept.
    generator : torch.Generator
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Tensor of shape (d, d).

    Raises
    ------
    ValueError
        If `cov` is not a covariance or `generator` not a generator.
    """
    _validate.covariance("cov", cov)
    q = haar(len(cov), generator).to(cov)
    rotated = q @ cov @ q.mT
    return (rotated + rotated.mT) / 2


def hardness(cov: Float[Tensor, "d d"]) -> float:
    """Hardness of a task, tr(Λ) / λ_min(Λ) (Definition in Section 3 of arXiv 2510.03605).

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Feature covariance Λ.

    Returns
    -------
    float
        At least d, with equality for isotropic features; infinite when the smallest eigenvalue is zero up to rounding.

    Raises
    ------
    ValueError
        If `cov` is not a covariance.
    """
    spectrum = torch.linalg.eigvalsh(_validate.covariance("cov", cov))
    lowest, total = spectrum[0].item(), spectrum.sum().item()
    floor = cov.shape[0] * torch.finfo(cov.dtype).eps * spectrum[-1].item()
    return total / lowest if lowest > floor else math.inf


def square_root(cov: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Symmetric square root of a covariance, which may be singular.

    Parameters
    ----------
    cov : Tensor of shape (d, d)

    Returns
    -------
    Tensor of shape (d, d)
        R with R Rᵀ = cov.

    Raises
    ------
    ValueError
        If `cov` is not a covariance.
    """
    spectrum, vectors = torch.linalg.eigh(_validate.covariance("cov", cov))
    return (vectors * spectrum.clamp(min=0).sqrt()) @ vectors.mT


def wishart(
    cov: Float[Tensor, "d d"], m: int, size: int, generator: torch.Generator | None = None
) -> Float[Tensor, "size d d"]:
    """Empirical covariances Σ̂ = X Xᵀ / m of m Gaussian features, drawn without drawing the features.

    Bartlett's decomposition: X = R G with R Rᵀ = Σ, and G Gᵀ = T Tᵀ in law, where T is lower trapezoidal with
    independent entries,
    T_ii² ~ χ²(m − i + 1) and T_ij ~ N(0, 1) below the diagonal. The cost does not depend on m, and m < d is allowed.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Population covariance Σ; it may be singular.
    m : int
        Number of features behind each matrix, at least 1.
    size : int
        Number of matrices, at least 1.
    generator : torch.Generator, optional
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Tensor of shape (size, d, d)
        Symmetric, positive semi-definite, with mean `cov`.

    Raises
    ------
    ValueError
        If `cov` is not a covariance, or a size is below 1.
    """
    root = square_root(cov)
    _validate.positive_int("m", m)
    _validate.positive_int("size", size)
    _validate.generator("generator", generator)
    d = cov.shape[0]
    rank = min(d, m)
    factor = torch.randn((size, d, rank), generator=generator, dtype=cov.dtype, device=cov.device).tril(-1)
    shape = (m - torch.arange(rank, dtype=cov.dtype, device=cov.device)) / 2
    chi_square = 2 * torch._standard_gamma(shape.expand(size, rank).contiguous(), generator=generator)
    torch.diagonal(factor, dim1=-2, dim2=-1).copy_(chi_square.sqrt())
    half = root @ factor
    return half @ half.mT / m
