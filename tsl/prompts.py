"""In-context linear regression: prompts of examples, and the two moments of a prompt that a linear model can see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _draw, _validate, laws
from tsl.covariance import _bartlett
from tsl.laws import Law


def _settle(batch: Moments | Prompts, *known: str) -> None:
    """Make the fields of a batch tensors of one type; those in `known` are finite, NaN in `w` stands for unknown weights."""
    names = [field.name for field in fields(batch)]
    for name, value in zip(names, _validate.together(**{n: getattr(batch, n) for n in names}), strict=True):
        object.__setattr__(batch, name, _validate.finite(name, value) if name in known else value)


@dataclass(frozen=True)
class Moments:
    """What linear self-attention sees of a prompt: Σ̂ = XᵀX/n, b = Xᵀy/n, and the weights to find.

    Parameters
    ----------
    gram : Tensor of shape (B, d, d)
        Empirical covariance Σ̂ of the features.
    cross : Tensor of shape (B, d)
        b = Xᵀy/n; equal to Σ̂w* when labels are noiseless.
    w : Tensor of shape (B, d)
        True weights w*; NaN where they are not known.
    """

    gram: Float[Tensor, "B d d"]
    cross: Float[Tensor, "B d"]
    w: Float[Tensor, "B d"]

    def __post_init__(self) -> None:
        _settle(self, "gram", "cross")
        size, d = tuple(self.w.shape) if self.w.dim() == 2 else (-1, -1)
        if self.gram.shape != (size, d, d) or self.cross.shape != (size, d):
            raise ValueError(
                "gram, cross and w must have shapes (B, d, d), (B, d) and (B, d), got "
                f"{tuple(self.gram.shape)}, {tuple(self.cross.shape)} and {tuple(self.w.shape)}"
            )


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts: n examples (x_i, y_i) each, and the weights that made the labels.

    Parameters
    ----------
    x : Tensor of shape (B, n, d)
        Features, a row per example.
    y : Tensor of shape (B, n)
        Labels, y_i = ⟨w*, x_i⟩ (+ noise).
    w : Tensor of shape (B, d)
        True weights w*; NaN where they are not known.
    """

    x: Float[Tensor, "B n d"]
    y: Float[Tensor, "B n"]
    w: Float[Tensor, "B d"]

    def __post_init__(self) -> None:
        _settle(self, "x", "y")
        size, n, d = tuple(self.x.shape) if self.x.dim() == 3 else (-1, -1, -1)
        if self.y.shape != (size, n) or self.w.shape != (size, d) or n < 1:
            raise ValueError(
                "x, y and w must have shapes (B, n, d), (B, n) and (B, d) with n >= 1, got "
                f"{tuple(self.x.shape)}, {tuple(self.y.shape)} and {tuple(self.w.shape)}"
            )

    def to(self, device: torch.device | str) -> Prompts:
        """The same prompts on a device."""
        return Prompts(self.x.to(device), self.y.to(device), self.w.to(device))

    def moments(self) -> Moments:
        """Σ̂ and b of each prompt."""
        n = self.x.shape[1]
        return Moments(self.x.mT @ self.x / n, torch.einsum("bnd,bn->bd", self.x, self.y) / n, self.w)


def sample_prompts(
    law: Law | Float[Tensor, "d d"],
    n: int,
    size: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Prompts:
    """Draw prompts with features of a law, w* ~ N(0, I) and y = ⟨w*, x⟩ + noise · N(0, 1).

    Parameters
    ----------
    law : Law, or Tensor of shape (d, d)
        Features: a law, or the covariance of Gaussian ones (Λ in training, Σ at test time).
    n, size : int
        Examples in each prompt, and number of prompts B.
    noise : float
        Standard deviation σ of the label noise, in units of y. The paper is noiseless; noise is our extension.
    generator : torch.Generator, optional
        Source of randomness; on the processor a seed means the same prompts on every device.
    """
    law = laws.of("law", law)
    n, size = _validate.positive_int("n", n), _validate.positive_int("size", size)
    noise = _validate.non_negative("noise", noise)
    _validate.generator("generator", generator)
    x = law.draw(size, n, generator)
    w = _draw.normal((size, law.d), generator, x)
    y = torch.einsum("bnd,bd->bn", x, w)
    if noise:
        y = y + noise * _draw.normal(y.shape, generator, x)
    return Prompts(x, y, w)


def sample_moments(
    law: Law | Float[Tensor, "d d"],
    m: int,
    size: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Moments:
    """Draw the moments of prompts as `sample_prompts` would have: without the features if these are Gaussian, whatever m is.

    Given the features, Xᵀε/m with ε ~ N(0, σ²I) is N(0, σ²Σ̂/m), as is (σ/m) H ε for any H with HHᵀ = XᵀX: Bartlett's
    half of `covariance.wishart` does for both. Other laws are drawn a part at a time, so that memory need not hold all
    the features.
    """
    law = laws.of("law", law)
    m, size = _validate.positive_int("m", m), _validate.positive_int("size", size)
    noise = _validate.non_negative("noise", noise)
    _validate.generator("generator", generator)
    if law.kappa != 1:
        part = max(1, _ELEMENTS // (m * law.d))
        starts = range(0, size, part)
        return join(
            [sample_prompts(law, m, min(part, size - at), noise, generator).moments() for at in starts]
        )
    half = _bartlett(law.second, [m], size, generator)[0]
    gram = half @ half.mT / m
    w = _draw.normal((size, law.d), generator, gram)
    cross = torch.einsum("bij,bj->bi", gram, w)
    if noise:
        white = _draw.normal((size, half.shape[-1]), generator, gram)
        cross = cross + noise / m * torch.einsum("bij,bj->bi", half, white)
    return Moments(gram, cross, w)


#: Entries of features held in memory at a time (32 MB).
_ELEMENTS = 4_000_000


def join(parts: Sequence[Moments]) -> Moments:
    """One batch out of several, at least one."""
    if not parts:
        raise ValueError("parts must hold at least one batch, got none")
    return Moments(*(torch.cat([getattr(part, name) for part in parts]) for name in ("gram", "cross", "w")))


@dataclass(frozen=True)
class TaskMixture:
    """A training set of several tasks: task ℓ is drawn with probability π_ℓ and has its own features and prompt length.

    Parameters
    ----------
    tasks : sequence of Law or Tensors of shape (d, d), or Tensor of shape (T, d, d)
        Features of each task: laws, or covariances Λ_ℓ of Gaussian ones.
    probs : sequence of floats
        Probabilities π_ℓ; non-negative, summing to 1.
    lengths : sequence of ints
        Prompt length n_ℓ of each task.
    """

    tasks: Sequence[Law | Tensor] | Tensor
    probs: Sequence[float] | Tensor
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        laws.mixture(self.tasks, self.probs, self.lengths)

    def _drawn(self, size: int, generator: torch.Generator | None) -> Iterator[tuple[Law, int, int]]:
        """Law, prompt length and number of prompts of each task that was drawn."""
        size = _validate.positive_int("size", size)
        _validate.generator("generator", generator)
        found, weights, lengths = laws.mixture(self.tasks, self.probs, self.lengths)
        device = generator.device if generator is not None else None
        probs = torch.tensor(weights, dtype=torch.float64, device=device)
        drawn = torch.multinomial(probs, size, replacement=True, generator=generator)
        counts = torch.bincount(drawn, minlength=len(found)).tolist()
        return (task for task in zip(found, lengths, counts, strict=True) if task[2])

    def sample(self, size: int, generator: torch.Generator | None = None) -> list[Prompts]:
        """Draw prompts, each from a task drawn with its probability: a batch for each task that was drawn, as lengths differ."""
        drawn = self._drawn(size, generator)
        return [sample_prompts(law, n, count, generator=generator) for law, n, count in drawn]

    def sample_moments(self, size: int, generator: torch.Generator | None = None) -> Moments:
        """Draw the moments of prompts, each from a task drawn with its probability, in one batch ordered by task."""
        drawn = self._drawn(size, generator)
        return join([sample_moments(law, n, count, generator=generator) for law, n, count in drawn])


def one_batch(groups: Sequence[Prompts]) -> Prompts:
    """Join prompts of different lengths into one batch that linear attention cannot tell from them.

    Short prompts are padded with zero examples up to the longest, of length N, and scaled by √(N/n), which
    leaves the moments XᵀX/n and Xᵀy/n as they were. For what `TaskMixture.sample` returns.
    """
    if not groups:
        raise ValueError("groups must hold at least one batch of prompts, got none")
    _validate.same_dimension(**{f"groups[{index}]": group.w for index, group in enumerate(groups)})
    longest = max(group.x.shape[1] for group in groups)
    xs, ys = [], []
    for group in groups:
        n = group.x.shape[1]
        scale = math.sqrt(longest / n)
        xs.append(torch.nn.functional.pad(scale * group.x, (0, 0, 0, longest - n)))
        ys.append(torch.nn.functional.pad(scale * group.y, (0, longest - n)))
    return Prompts(torch.cat(xs), torch.cat(ys), torch.cat([group.w for group in groups]))
