"""Checks of arguments, shared by every module: each raises a ``ValueError`` that names the argument and what is allowed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def positive_int(name: str, value: Any) -> int:
    """Return `value` if it is an integer of at least 1."""
    return at_least(name, value, 1)


def at_least(name: str, value: Any, lowest: int) -> int:
    """Return `value` if it is an integer of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < lowest:
        raise ValueError(f"{name} must be an integer >= {lowest}, got {value!r}")
    return int(value)


def non_negative(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number of at least 0."""
    return _number(name, value, strict=False)


def positive(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number above 0."""
    return _number(name, value, strict=True)


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float if it lies strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def share(name: str, value: Any, whole: bool = True) -> float:
    """Return `value` as a float if it is a number from 0 to 1, and not 1 unless `whole` allows it."""
    number = _float(value)
    if not (0 <= number < 1 or (whole and number == 1)):
        raise ValueError(f"{name} must lie in [0, 1{']' if whole else ')'}, got {value!r}")
    return number


def signed_share(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number from -1 to 1."""
    number = _float(value)
    if not -1 <= number <= 1:
        raise ValueError(f"{name} must lie in [-1, 1], got {value!r}")
    return number


def choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise unless `value` is one of the allowed texts."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")


def divides(name: str, value: int, whole_name: str, whole: int) -> None:
    """Raise unless `value` is an integer of at least 1 that divides `whole`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or whole % value:
        raise ValueError(f"{name} must be at least 1 and divide {whole_name}={whole}, got {name}={value!r}")


def _number(name: str, value: Any, strict: bool) -> float:
    number = _float(value)
    if not math.isfinite(number) or number < 0 or (strict and number == 0):
        raise ValueError(f"{name} must be a finite number {'>' if strict else '>='} 0, got {value!r}")
    return number


def _float(value: Any) -> float:
    """`value` as a float; NaN for what is no number, such as True and a text that reads like one."""
    if isinstance(value, bool | str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def floating(name: str, value: Any) -> Tensor:
    """Return `value` if it is a floating-point tensor."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {_describe(value)}")
    return value


def finite(name: str, value: Any) -> Tensor:
    """Return `value` if it is a floating-point tensor without NaN or infinity."""
    if not torch.isfinite(floating(name, value)).all():
        raise ValueError(f"{name} must be finite, got entries that are NaN or infinite")
    return value


def matrices(name: str, value: Any) -> Tensor:
    """Return `value` if it is a finite floating tensor of shape (B, d, d), with one batch axis or more."""
    if square(name, value, batch=True).dim() < 3:
        raise ValueError(f"{name} must have shape (B, d, d), got {tuple(value.shape)}")
    return value


def square(name: str, value: Any, batch: bool = False) -> Tensor:
    """Return `value` if it is a finite floating (d, d) tensor, or (..., d, d) where `batch` allows it."""
    floating(name, value)
    few = value.dim() < 2 or (value.dim() > 2 and not batch)
    if few or value.shape[-1] != value.shape[-2] or value.shape[-1] < 1:
        allowed = "(d, d) or (B, d, d)" if batch else "(d, d)"
        raise ValueError(f"{name} must have shape {allowed}, got {tuple(value.shape)}")
    return finite(name, value)


def invertible(name: str, value: Any, batch: bool = False) -> Tensor:
    """Return `value` if it is a finite (d, d) tensor, or (B, d, d) where `batch` allows it, not singular up to rounding."""
    square(name, value, batch)
    singular = torch.linalg.svdvals(value)
    if (singular[..., -1] <= value.shape[-1] * torch.finfo(value.dtype).eps * singular[..., 0]).any():
        raise ValueError(f"{name} must be invertible, got a singular matrix")
    return value


def covariance(name: str, value: Any, batch: bool = False) -> Tensor:
    """Return `value` if it is finite, symmetric and positive semi-definite, (d, d) or (B, d, d) where `batch` allows it."""
    cov = square(name, value, batch)
    scale = cov.abs().amax((-1, -2)).clamp(min=torch.finfo(cov.dtype).tiny)
    slack = 64 * torch.finfo(cov.dtype).eps * scale * cov.shape[-1]
    gap = (cov - cov.mT).abs().amax((-1, -2))
    if (gap > slack).any():
        raise ValueError(f"{name} must be symmetric, got a largest asymmetry of {gap.max().item():.3g}")
    lowest = torch.linalg.eigvalsh(cov)[..., 0]
    if (lowest < -slack).any():
        least = lowest.min().item()
        raise ValueError(f"{name} must be positive semi-definite, got a smallest eigenvalue of {least:.3g}")
    return cov


def rows(name: str, value: Any) -> Tensor:
    """Return `value` if it is a feature matrix: finite, floating, (N, d), not empty."""
    if finite(name, value).dim() != 2 or value.numel() == 0:
        raise ValueError(f"{name} must be a feature matrix of shape (N, d), got shape {tuple(value.shape)}")
    return value


def same_dimension(**named: Tensor) -> None:
    """Raise unless the last axes of all the given tensors agree."""
    sizes = {name: value.shape[-1] for name, value in named.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has d={d}" for name, d in sizes.items())
        raise ValueError(f"{' and '.join(sizes)} must share the dimension d, got {listed}")


def probabilities(name: str, value: Sequence[float] | Tensor, count: int) -> Tensor:
    """Return `value` as a float64 tensor of `count` non-negative entries that sum to 1."""
    try:
        probs = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must hold {count} probabilities, got {value!r}") from None
    if probs.shape != (count,):
        raise ValueError(f"{name} must hold {count} probabilities, got shape {tuple(probs.shape)}")
    if not torch.isfinite(probs).all() or (probs < 0).any() or abs(probs.sum().item() - 1) > 1e-8:
        raise ValueError(f"{name} must be non-negative and sum to 1, got {probs.tolist()}")
    return probs


def generator(name: str, value: Any) -> torch.Generator | None:
    """Return `value` if it is a torch.Generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise ValueError(f"{name} must be a torch.Generator, got {value!r}")
    return value


def instance(name: str, value: Any, kind: type) -> None:
    """Raise unless `value` is an instance of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {_describe(value)}")


def _describe(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else repr(value)
