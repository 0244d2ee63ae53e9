"""In-context linear regression: prompts of examples, and the two moments of a prompt that a linear model can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.covariance import square_root, wishart


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

    Raises
    ------
    ValueError
        If the shapes disagree or an entry of Σ̂ or b is not finite.
    """

    gram: Float[Tensor, "B d d"]
    cross: Float[Tensor, "B d"]
    w: Float[Tensor, "B d"]

    def __post_init__(self) -> None:
        _validate.finite("gram", self.gram)
        _validate.finite("cross", self.cross)
        _validate.floating("w", self.w)  # NaN stands for weights that nobody knows
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

    Raises
    ------
    ValueError
        If the shapes disagree, there is no example or an entry of x or y is not finite.
    """

    x: Float[Tensor, "B n d"]
    y: Float[Tensor, "B n"]
    w: Float[Tensor, "B d"]

    def __post_init__(self) -> None:
        _validate.finite("x", self.x)
        _validate.finite("y", self.y)
        _validate.floating("w", self.w)  # NaN stands for weights that nobody knows
        size, n, d = tuple(self.x.shape) if self.x.dim() == 3 else (-1, -1, -1)
        if self.y.shape != (size, n) or self.w.shape != (size, d) or n < 1:
            raise ValueError(
                "x, y and w must have shapes (B, n, d), (B, n) and (B, d) with n >= 1, got "
                f"{tuple(self.x.shape)}, {tuple(self.y.shape)} and {tuple(self.w.shape)}"
            )

    def moments(self) -> Moments:
        """Σ̂ and b of each prompt.

        Returns
        -------
        Moments
        """
        n = self.x.shape[1]
        return Moments(self.x.mT @ self.x / n, torch.einsum("bnd,bn->bd", self.x, self.y) / n, self.w)


def sample_prompts(
    cov: Float[Tensor, "d d"], n: int, size: int, noise: float = 0.0, generator: torch.Generator | None = None
) -> Prompts:
    """Draw prompts with x ~ N(0, cov), w* ~ N(0, I) and y = ⟨w*, x⟩ + noise · N(0, 1).

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Feature covariance (Λ in training, Σ at test time).
    n : int
        Examples in each prompt, at least 1.
    size : int
        Number of prompts B, at least 1.
    noise : float
        Standard deviation σ of the label noise, in units of y. The paper is noiseless; noise is our extension.
    generator : torch.Generator, optional
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Prompts

    Raises
    ------
    ValueError
        If `cov` is not a covariance, a size is below 1 or `noise` is negative.
    """
    root = square_root(cov)
    _validate.positive_int("n", n)
    _validate.positive_int("size", size)
    noise = _validate.non_negative("noise", noise)
    _validate.generator("generator", generator)
    d = cov.shape[0]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=cov.dtype, device=cov.device)

    x, w = normal(size, n, d) @ root, normal(size, d)
    y = torch.einsum("bnd,bd->bn", x, w)
    if noise:
        y = y + noise * normal(size, n)
    return Prompts(x, y, w)


def sample_moments(
    cov: Float[Tensor, "d d"], m: int, size: int, noise: float = 0.0, generator: torch.Generator | None = None
) -> Moments:
    """Draw the moments of prompts exactly as `sample_prompts` would have, at a cost that does not depend on m.

    Given the features, Xᵀε/m with ε ~ N(0, σ²I) is N(0, σ²Σ̂/m), so that Σ̂ and w* suffice.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Feature covariance.
    m : int
        Examples in each prompt, at least 1.
    size : int
        Number of prompts B, at least 1.
    noise : float
        Standard deviation σ of the label noise.
    generator : torch.Generator, optional
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If `cov` is not a covariance, a size is below 1 or `noise` is negative.
    """
    noise = _validate.non_negative("noise", noise)
    gram = wishart(cov, m, size, generator)
    w = torch.randn((size, cov.shape[0]), generator=generator, dtype=cov.dtype, device=cov.device)
    cross = torch.einsum("bij,bj->bi", gram, w)
    if noise:
        # Any F with F Fᵀ = Σ̂ will do; the eigendecomposition also covers singular Σ̂ (m < d).
        spectrum, vectors = torch.linalg.eigh(gram)
        white = torch.randn(w.shape, generator=generator, dtype=cov.dtype, device=cov.device)
        cross = cross + noise / m**0.5 * torch.einsum(
            "bij,bj->bi", vectors, spectrum.clamp(min=0).sqrt() * white
        )
    return Moments(gram, cross, w)


@dataclass(frozen=True)
class TaskMixture:
    """A training set of several tasks: task ℓ is drawn with probability π_ℓ and has its own covariance and prompt length.

    Parameters
    ----------
    covs : sequence of Tensors of shape (d, d)
        Feature covariance Λ_ℓ of each task.
    probs : sequence of floats
        Probabilities π_ℓ; non-negative, summing to 1.
    lengths : sequence of ints
        Prompt length n_ℓ of each task.

    Raises
    ------
    ValueError
        If the three disagree in length, or an entry is not allowed.
    """

    covs: Sequence[Tensor]
    probs: Sequence[float] | Tensor
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        _validate.tasks(self.covs, self.probs, self.lengths)

    def _counts(self, size: int, generator: torch.Generator | None) -> list[int]:
        _validate.positive_int("size", size)
        _validate.generator("generator", generator)
        probs = torch.as_tensor(self.probs, dtype=torch.float64)
        device = generator.device if generator is not None else None
        drawn = torch.multinomial(probs.to(device), size, replacement=True, generator=generator)
        return torch.bincount(drawn, minlength=len(self.covs)).tolist()

    def sample(self, size: int, generator: torch.Generator | None = None) -> list[Prompts]:
        """Draw prompts, each from a task drawn with its probability.

        Parameters
        ----------
        size : int
            Number of prompts over all tasks, at least 1.
        generator : torch.Generator, optional
            Source of randomness.

        Returns
        -------
        list of Prompts
            Grouped by task, since lengths differ; tasks that were not drawn are left out.

        Raises
        ------
        ValueError
            If `size` < 1.
        """
        return [
            sample_prompts(cov, length, count, generator=generator)
            for cov, length, count in zip(self.covs, self.lengths, self._counts(size, generator), strict=True)
            if count
        ]

    def sample_moments(self, size: int, generator: torch.Generator | None = None) -> Moments:
        """Draw the moments of prompts, each from a task drawn with its probability.

        Parameters
        ----------
        size : int
            Number of prompts over all tasks, at least 1.
        generator : torch.Generator, optional
            Source of randomness.

        Returns
        -------
        Moments
            One batch, ordered by task.

        Raises
        ------
        ValueError
            If `size` < 1.
        """
        parts = [
            sample_moments(cov, length, count, generator=generator)
            for cov, length, count in zip(self.covs, self.lengths, self._counts(size, generator), strict=True)
            if count
        ]
        return Moments(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("gram", "cross", "w"))
        )
