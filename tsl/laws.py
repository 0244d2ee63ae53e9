"""Laws of features: what the theory knows of them, and how to draw from them.

The theory needs two moments of a law and nothing else, whether it is Gaussian or not, centred or not:

    Λ = E[x xᵀ],    F(S) = E[x xᵀ S x xᵀ].

Wherever a law is asked for, a bare covariance means the Gaussian one. Laws other than the Gaussian are our extension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _draw, _validate
from tsl.covariance import _root

#: Draws (size, n, d) features: `size` prompts of `n` each.
Draw = Callable[[int, int, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class Law:
    """A law of features; see `gaussian`, `student` and `rows`.

    Parameters
    ----------
    second : Tensor of shape (d, d)
        Λ = E[x xᵀ], about zero; float64, whatever the type of what is drawn.
    fourth : callable
        The linear map S ↦ E[x xᵀ S x xᵀ] on (d, d) tensors. A map, not the d⁴ numbers behind it.
    draw : callable
        ``draw(size, n, generator)`` gives features of shape (size, n, d).
    hard : callable, optional
        ``hard()`` gives the eigenvalues of Λ⁻¹F(I)Λ⁻¹ − I, for a law that knows a better way to them than these inverses.
    kappa : float, optional
        E u², if x = √u z with z ~ N(0, Λ) and an independent scale u of mean 1; 1 is Gaussian. F(I)Λ⁻¹ then has a
        closed form that a singular Λ does not spoil.
    """

    second: Float[Tensor, "d d"]
    fourth: Callable[[Tensor], Tensor]
    draw: Draw
    hard: Callable[[], Tensor] | None = None
    kappa: float | None = None

    @property
    def d(self) -> int:
        """Dimension of the features."""
        return self.second.shape[-1]


def gaussian(cov: Float[Tensor, "d d"]) -> Law:
    """N(0, cov): F(S) = ΛSΛ + ΛSᵀΛ + tr(SΛ) Λ (Isserlis)."""
    return _gaussian(_validate.covariance("cov", cov))


def _gaussian(cov: Tensor) -> Law:
    return _elliptical(cov, 1.0)


def student(cov: Float[Tensor, "d d"], dof: float) -> Law:
    """Student's multivariate t, scaled to covariance `cov`: F is that of a Gaussian times κ = (ν − 2)/(ν − 4).

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance.
    dof : float
        Degrees of freedom ν, above 2, or there is no covariance; without a fourth moment, up to 4, features can be drawn
        but not predicted. Infinity is Gaussian.
    """
    if dof == float("inf"):
        return gaussian(cov)
    cov, dof = _validate.covariance("cov", cov), _validate.number("dof", dof)
    if not dof > 2:
        raise ValueError(f"dof must be above 2, or the law has no covariance, got {dof!r}")

    kappa = (dof - 2) / (dof - 4) if dof > 4 else float("inf")
    return _elliptical(cov, kappa, partial(_student_scale, dof, cov))


def _elliptical(cov: Tensor, kappa: float, stretch: Callable[..., Tensor] | None = None) -> Law:
    """The law of s z, z ~ N(0, cov), with a scale s that `stretch` draws for a shape; none is Gaussian."""
    second = cov.double()
    parts = partial(_fourth, second, kappa), partial(_features, cov, stretch), partial(_hard, second, kappa)
    return Law(second, *parts, kappa)


def _fourth(second: Tensor, kappa: float, middle: Tensor) -> Tensor:
    _predictable(kappa)
    return kappa * (second @ (middle + middle.mT) @ second + torch.trace(middle @ second) * second)


def _features(
    cov: Tensor,
    stretch: Callable[..., Tensor] | None,
    size: int,
    n: int,
    generator: torch.Generator | None,
) -> Tensor:
    x = _draw.normal((size, n, len(cov)), generator, cov) @ _root(cov)
    return x if stretch is None else x * stretch((size, n, 1), generator)


def _hard(second: Tensor, kappa: float) -> Tensor:
    _predictable(kappa)
    spectrum = torch.linalg.eigvalsh(second).flip(0)
    floor = len(second) * torch.finfo(second.dtype).eps * spectrum[0]
    return torch.where(spectrum > floor, kappa * (2 + spectrum.sum() / spectrum) - 1, torch.inf)


def _predictable(kappa: float) -> None:
    if kappa == float("inf"):
        raise ValueError("dof must be above 4 for a prediction: the law has no fourth moment")


def _student_scale(
    dof: float, like: Tensor, shape: tuple[int, ...], generator: torch.Generator | None
) -> Tensor:
    half = torch.full(shape, dof / 2, dtype=like.dtype, device=like.device)
    return torch.sqrt((dof / 2 - 1) / _draw.gamma(half, generator))


def rows(x: Float[Tensor, "N d"], jitter: float = 0.0) -> Law:
    """The law that draws the rows of a feature matrix with equal probability, with replacement.

    The moments are exact averages over the N rows: nothing is estimated, because the rows *are* the population. With
    replacement the rows of a prompt are independent, as the theory asks; a prompt may therefore hold a row twice.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Feature matrix, a row per observation; centred or not.
    jitter : float
        Variance of an independent Gaussian that is added to every row when predicting, so that a direction in which no row
        varies counts as very faint and not as absent.
    """
    x, jitter = _validate.rows("x", x), _validate.non_negative("jitter", jitter)
    exact = x.double()
    eye = torch.eye(x.shape[1], dtype=exact.dtype, device=x.device)
    plain = exact.mT @ exact / len(x)

    def fourth(middle: Tensor) -> Tensor:
        found = (exact * ((exact @ middle) * exact).sum(1, keepdim=True)).mT @ exact / len(x)
        if jitter:  # with x + e, e ~ N(0, jitter I): the terms of second and of fourth order in e
            both = middle + middle.mT
            found = found + jitter * (both @ plain + plain @ both)
            found = found + jitter * (torch.trace(middle @ plain) * eye + torch.trace(middle) * plain)
            found = found + jitter**2 * (both + torch.trace(middle) * eye)
        return found

    def draw(size: int, n: int, generator: torch.Generator | None) -> Tensor:
        return x[_draw.integers(len(x), (size, n), generator, x.device)]

    def hard() -> Tensor:
        # Λ⁻¹F(I)Λ⁻¹ = MᵀM with M = √N diag(‖x‖) U S⁻¹Vᵀ for X = USVᵀ: no square of a condition number.
        left, size, _ = torch.linalg.svd(exact, full_matrices=False)
        if len(size) < x.shape[1] or size[-1] <= max(x.shape) * torch.finfo(exact.dtype).eps * size[0]:
            raise ValueError("law must have a non-singular second moment, got a singular one")
        root = len(x) ** 0.5 * exact.norm(dim=1, keepdim=True) * left / size
        return torch.linalg.svdvals(root).flip(0).square() - 1

    return Law(plain + jitter * eye, fourth, draw, None if jitter else hard)


def standardise(x: Float[Tensor, "N d"], reference: Tensor | None = None) -> Float[Tensor, "N d"]:
    """Subtract the mean and divide by the standard deviation of each feature.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    reference : Tensor of shape (M, d), optional
        Rows that define mean and deviation, such as the training rows; by default `x` itself.

    Returns
    -------
    Tensor of shape (N, d)
        No units; float64. A feature that is constant in the reference is only centred.
    """
    x = _validate.rows("x", x).double()
    reference = x if reference is None else _validate.rows("reference", reference).double()
    _validate.same_dimension(x=x, reference=reference)
    return (x - reference.mean(0)) / _spread(reference.std(0, correction=0), reference)


def unit_range(x: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
    """Map each feature to [0, 1] by its smallest and largest value. The result is not centred.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.

    Returns
    -------
    Tensor of shape (N, d)
        No units; float64. A constant feature becomes 0.
    """
    x = _validate.rows("x", x).double()
    low, high = x.aminmax(dim=0)
    return (x - low) / _spread(high - low, x)


def of(name: str, value: Any) -> Law:
    """`value` as a law: itself, or the Gaussian of a covariance."""
    if isinstance(value, Law):
        return value
    return _gaussian(_validate.covariance(name, value))


def each(name: str, values: Any) -> list[Law]:
    """Laws of the same dimension, at least one, from a sequence of laws and covariances or a tensor of shape (T, d, d)."""
    if isinstance(values, Tensor) and values.dim() == 3 and len(values):
        return [_gaussian(cov) for cov in _validate.covariance(name, values, batch=True)]
    entries = _validate.sequence(name, values, "law or covariance")
    found = [of(f"{name}[{index}]", value) for index, value in enumerate(entries)]
    _validate.same_dimension(**{f"{name}[{index}]": law.second for index, law in enumerate(found)})
    return found


def mixture(tasks: Any, probs: Any, lengths: Any) -> tuple[list[Law], list[float], list[int]]:
    """Laws, probabilities and prompt lengths of a mixture of tasks, after checking that the three name the same tasks."""
    found = each("tasks", tasks)
    counts = _validate.lengths("lengths", lengths, len(found))
    return found, _validate.probabilities("probs", probs, len(found)).tolist(), counts


def _spread(scale: Tensor, x: Tensor) -> Tensor:
    """`scale` of every feature of x; 1 where it is zero up to the rounding of a mean, for a feature that does not vary."""
    rounding = 16 * torch.finfo(x.dtype).eps * x.abs().amax(0)
    return torch.where(scale > rounding, scale, torch.ones_like(scale))
