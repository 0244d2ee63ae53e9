"""Checks of arguments, shared by every module: each raises a ``ValueError`` that names the argument and what is allowed.

What is meant is accepted: tensors, arrays, data frames and nested sequences of real numbers are the same input, any integer type
is an integer. Each check returns the value in the form that the code goes on with, so callers keep what it returns.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int if it is an integer of at least 1."""
    return at_least(name, value, 1)


def at_least(name: str, value: Any, lowest: int) -> int:
    """Return `value` as an int if it is an integer of at least `lowest`; integers of NumPy would overflow in silence."""
    number = _integer(value)
    if number is None or number < lowest:
        raise ValueError(f"{name} must be an integer >= {lowest}, got {value!r}")
    if number >= 2**63:
        raise ValueError(f"{name} must be below 2**63, got {value!r}")
    return number


def non_negative(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number of at least 0."""
    return _number(name, value, strict=False)


def positive(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number above 0."""
    return _number(name, value, strict=True)


def number(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number, infinite ones included."""
    found = _float(value)
    if math.isnan(found):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return found


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float if it lies strictly between 0 and 1."""
    number = _float(value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return number


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
    number = _integer(value)
    if number is None or number < 1 or whole % number:
        raise ValueError(f"{name} must be at least 1 and divide {whole_name}={whole}, got {name}={value!r}")


def _number(name: str, value: Any, strict: bool) -> float:
    number = _float(value)
    if not math.isfinite(number) or number < 0 or (strict and number == 0):
        raise ValueError(f"{name} must be a finite number {'>' if strict else '>='} 0, got {value!r}")
    return number


def _float(value: Any) -> float:
    """`value` as a float; NaN for what is no number, such as True, an array and a text that reads like a number."""
    if _is_flag(value) or isinstance(value, str | bytes) or getattr(value, "ndim", 0) > 0:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _integer(value: Any) -> int | None:
    """`value` as an int, None if it is no integer: True and 2.0 are none."""
    if _is_flag(value) or getattr(value, "ndim", 0) > 0 or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of floats
        return None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) in (np.bool_, torch.bool)


def floating(name: str, value: Any, gradient: bool = False) -> Tensor:
    """Return `value` as a floating-point tensor that asks for no gradient, unless `gradient` lets it keep one, for a loss.

    Tensors stay on their device. float32 stays float32, whatever else holds real numbers becomes float64.
    """
    if isinstance(value, list | tuple) and any(isinstance(entry, Tensor) for entry in value):
        try:
            value = torch.stack([floating(name, entry) for entry in value])
        except (RuntimeError, TypeError):
            raise _no_numbers(name, value) from None
    if isinstance(value, Tensor):
        found = value if gradient else value.detach()
        found = found.to_dense() if value.layout != torch.strided else found
        if found.dtype == torch.bool or found.is_complex():
            raise _no_numbers(name, value)
        return found if found.dtype in (torch.float32, torch.float64) else found.double()
    if value is None:
        raise _no_numbers(name, value)
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have all its entries, got some that are masked")
    try:
        array = np.asarray(value)
        array = array.astype(np.float64) if array.dtype == object else array
    except (TypeError, ValueError):
        raise _no_numbers(name, value) from None
    if array.dtype.kind not in "iuf":
        raise _no_numbers(name, value)
    return torch.from_numpy(array.astype(np.float32 if array.dtype == np.float32 else np.float64))


def _no_numbers(name: str, value: Any) -> ValueError:
    return ValueError(
        f"{name} must be a tensor (or array, data frame, list) of real numbers, got {_describe(value)}"
    )


def together(gradient: bool = False, **named: Any) -> list[Tensor]:
    """Return the values as floating-point tensors of one type, float64 if any of them is; `gradient` as for `floating`."""
    found = {name: floating(name, value, gradient) for name, value in named.items()}
    devices = {name: str(value.device) for name, value in found.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{' and '.join(found)} must be on one device, got {listed}")
    common = torch.float64 if any(value.dtype == torch.float64 for value in found.values()) else torch.float32
    return [value.to(common) for value in found.values()]


def finite(name: str, value: Any) -> Tensor:
    """Return `value` as a floating-point tensor if it holds no NaN or infinity."""
    found = floating(name, value)
    # Their sum says so at a twentieth of the cost, unless it overflows.
    if not (math.isfinite(found.detach().sum()) or torch.isfinite(found).all()):
        raise ValueError(f"{name} must be finite, got entries that are NaN or infinite")
    return found


#: Squares of what is larger or smaller, and squares of these, leave the range of a double.
_LARGEST = 1e75


def _in_range(name: str, value: Tensor) -> Tensor:
    """Return `value` if its size lets the theory square it, and square that, without overflow or underflow."""
    size = value.abs().amax((-1, -2))
    if ((size > _LARGEST) | ((size < 1 / _LARGEST) & (size > 0))).any():
        worst = size[(size > _LARGEST) | (size < 1 / _LARGEST)].max().item()
        raise ValueError(
            f"{name} must have a largest entry between {1 / _LARGEST:g} and {_LARGEST:g}, got {worst:.3g}: choose other units"
        )
    return value


def matrices(name: str, value: Any) -> Tensor:
    """Return `value` as a finite float64 tensor of shape (B, d, d), with one batch axis or more."""
    found = square(name, value, batch=True)
    if found.dim() < 3:
        raise ValueError(f"{name} must have shape (B, d, d), got {tuple(found.shape)}")
    return found


def square(name: str, value: Any, batch: bool = False, gradient: bool = False) -> Tensor:
    """Return `value` as a finite float64 (d, d) tensor, or (..., d, d) where `batch` allows it."""
    return _square(name, value, batch, gradient).double()


def _square(name: str, value: Any, batch: bool, gradient: bool = False) -> Tensor:
    found = floating(name, value, gradient)
    few = found.dim() < 2 or (found.dim() > 2 and not batch)
    if few or found.shape[-1] != found.shape[-2] or found.shape[-1] < 1:
        allowed = "(d, d) or (B, d, d)" if batch else "(d, d)"
        raise ValueError(f"{name} must have shape {allowed}, got {tuple(found.shape)}")
    finite(name, found)
    return found


def invertible(name: str, value: Any, batch: bool = False) -> Tensor:
    """Return `value` as a float64 (d, d) tensor, or (B, d, d) where `batch` allows it, if it is not singular up to rounding."""
    found = _in_range(name, square(name, value, batch))
    unit = found.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    unit = torch.where(unit > 0, unit, 1)  # features in unlike units do not look singular
    singular = torch.linalg.svdvals(found / unit.unsqueeze(-1) / unit.unsqueeze(-2))
    if (singular[..., -1] <= found.shape[-1] * torch.finfo(found.dtype).eps * singular[..., 0]).any():
        raise ValueError(f"{name} must be invertible, got a singular matrix")
    return found


def covariance(name: str, value: Any, batch: bool = False) -> Tensor:
    """Return `value` as a tensor if it is symmetric and positive semi-definite, (d, d) or (B, d, d) where `batch` allows it.

    float32 stays float32, for what is drawn from it; its rounding is allowed for, and theory goes on with ``.double()``.
    """
    cov = _in_range(name, _square(name, value, batch))
    scale = cov.abs().amax((-1, -2))
    slack = 64 * torch.finfo(cov.dtype).eps * scale * cov.shape[-1]
    gap = (cov - cov.mT).abs().amax((-1, -2))
    if (gap > slack).any():
        raise ValueError(
            f"{_worst(name, gap)} must be symmetric, got a largest asymmetry of {gap.max().item():.3g}"
        )
    lowest = torch.linalg.eigvalsh(cov.double())[..., 0]
    if (lowest < -slack).any():
        where, least = _worst(name, -lowest), lowest.min().item()
        raise ValueError(f"{where} must be positive semi-definite, got a smallest eigenvalue of {least:.3g}")
    return cov


def _worst(name: str, faults: Tensor) -> str:
    """The name of a matrix, or of the worst of a batch of them."""
    return f"{name}[{int(faults.argmax())}]" if faults.dim() else name


def rows(name: str, value: Any) -> Tensor:
    """Return `value` as a tensor if it is a feature matrix: finite, (N, d), not empty. float32 stays float32."""
    found = finite(name, value)
    if found.dim() != 2 or found.numel() == 0:
        raise ValueError(f"{name} must be a feature matrix of shape (N, d), got shape {tuple(found.shape)}")
    return _in_range(name, found)


def same_dimension(**named: Tensor) -> None:
    """Raise unless the last axes of all the given tensors agree."""
    sizes = {name: value.shape[-1] for name, value in named.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has d={d}" for name, d in sizes.items())
        raise ValueError(f"{' and '.join(sizes)} must share the dimension d, got {listed}")


def probabilities(name: str, value: Any, count: int) -> Tensor:
    """Return `value` as a float64 tensor of `count` non-negative entries that sum to 1, to the precision of what was given."""
    try:
        given = floating(name, value)
    except ValueError:
        raise ValueError(f"{name} must hold {count} probabilities, got {value!r}") from None
    slack, probs = 1e-8 if given.dtype == torch.float64 else 1e-5, given.double()
    if probs.shape != (count,):
        raise ValueError(f"{name} must hold {count} probabilities, got shape {tuple(probs.shape)}")
    if not torch.isfinite(probs).all() or (probs < 0).any() or abs(probs.sum().item() - 1) > slack:
        raise ValueError(f"{name} must be non-negative and sum to 1, got {probs.tolist()}")
    return probs if abs(probs.sum().item() - 1) < 1e-14 else probs / probs.sum()


def lengths(name: str, value: Any, count: int, least: int = 1) -> list[int]:
    """Return `value` as a list of `count` integers of at least `least`: a sequence, an array or a tensor."""
    entries = _entries(value)
    if entries is None or len(entries) != count:
        raise ValueError(f"{name} must hold one for each of {count} tasks, got {value!r}")
    return [at_least(f"{name}[{index}]", entry, least) for index, entry in enumerate(entries)]


def _entries(value: Any) -> list[Any] | None:
    """Entries of a sequence, an array or a tensor; None for what has none, in an order of its own."""
    ordered = isinstance(value, Sequence) or getattr(value, "ndim", 0) > 0
    return list(value) if ordered and not isinstance(value, str) else None


def sequence(name: str, value: Any, of: str) -> list[Any]:
    """Return the entries of a sequence, an array or a tensor, at least one."""
    entries = _entries(value)
    if not entries:
        raise ValueError(f"{name} must be a sequence of at least one {of}, got {_describe(value)}")
    return entries


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
    """A value in a few words, on one line."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} of shape {tuple(value.shape)}"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
