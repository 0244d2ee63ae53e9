"""Random numbers, drawn where their generator is and moved to where they are needed: a seed means the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def normal(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Standard normal numbers of a tensor's type, on its device."""
    drawn = torch.randn(shape, generator=generator, dtype=like.dtype, device=_where(generator, like.device))
    return drawn.to(like.device)


def gamma(shapes: Tensor, generator: torch.Generator | None) -> Tensor:
    """A gamma variable of scale one for each shape parameter."""
    there = shapes.to(_where(generator, shapes.device)).contiguous()
    return torch._standard_gamma(there, generator=generator).to(shapes.device)


def integers(
    below: int, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Integers 0, …, below − 1."""
    return torch.randint(below, shape, generator=generator, device=_where(generator, device)).to(device)


def _where(generator: torch.Generator | None, device: torch.device) -> torch.device:
    return device if generator is None else generator.device
