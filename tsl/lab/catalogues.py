"""Catalogues of training tasks after the paper's Section 4: easy or hard, short or long, each with its own axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsl import _validate, covariance

KINDS = ("easy-short", "easy-long", "hard-short", "hard-long")
EASY, HARD = 0.2, 0.8  # spectral exponents alpha
SHORT, LONG = 20, 100  # B, read as the length of a training prompt


@dataclass(frozen=True)
class Catalogue:
    """Training tasks on offer, each easy or hard and short or long.

    Parameters
    ----------
    covs : Tensor of shape (T, d, d)
        Feature covariance Λ_ℓ of each task.
    lengths, hard : tuple of int, Tensor of shape (T,) of bool
        Prompt length n_ℓ of each task, and whether it is a hard one.
    """

    covs: Float[Tensor, "T d d"]
    lengths: tuple[int, ...]
    hard: Bool[Tensor, " T"]

    def __post_init__(self) -> None:
        if self.covs.dim() != 3 or not len(self.covs) == len(self.lengths) == len(self.hard) >= 1:
            raise ValueError(
                "covs, lengths and hard must name the same tasks, at least one, got "
                f"{tuple(self.covs.shape)}, {len(self.lengths)} and {tuple(self.hard.shape)}"
            )

    @property
    def kind(self) -> Tensor:
        """Index into `KINDS` of each task."""
        long = torch.tensor(self.lengths, device=self.hard.device) > (SHORT + LONG) / 2
        return 2 * self.hard.long() + long.long()

    def masses(self, weights: Float[Tensor, " T"]) -> Float[Tensor, " 4"]:
        """Total weight of each of the four `KINDS`."""
        return torch.zeros(4, dtype=weights.dtype, device=weights.device).index_add_(0, self.kind, weights)

    def only(self, keep: Bool[Tensor, " T"]) -> Catalogue:
        """The tasks marked by `keep`; ValueError if there are none."""
        chosen = torch.nonzero(keep).flatten().tolist()
        return Catalogue(self.covs[chosen], tuple(self.lengths[i] for i in chosen), self.hard[chosen])

    def top_one(self) -> Catalogue:
        """The same tasks in other units: every largest eigenvalue is 1."""
        return Catalogue(self.covs / torch.linalg.eigvalsh(self.covs)[:, -1:, None], self.lengths, self.hard)

    def seen(self, generator: torch.Generator) -> Catalogue:
        """The same tasks as one prompt of each shows them: empirical covariances of n_ℓ examples."""
        pairs = zip(self.covs, self.lengths, strict=True)
        shown = [covariance.wishart(cov, n, 1, generator) for cov, n in pairs]
        return Catalogue(torch.cat(shown), self.lengths, self.hard)

    def uniform(self, keep: Bool[Tensor, " T"] | None = None) -> Float[Tensor, " T"]:
        """Equal weights on the tasks marked by `keep` (by default all), zero elsewhere; ValueError if none is marked."""
        mask = (torch.ones_like(self.hard) if keep is None else keep).to(self.covs.dtype)
        if not mask.any():
            raise ValueError(f"keep must mark at least one of the {len(mask)} tasks, got none")
        return mask / mask.sum()


def catalogue(
    d: int,
    copies: int,
    frame: Callable[[int, torch.Generator], Tensor],
    generator: torch.Generator,
    jitter: float = 0.05,
) -> Catalogue:
    """Draw a catalogue: `copies` tasks of each of the four kinds, each with its own eigenbasis and exponent.

    Tasks stand in the order of `KINDS`. The exponents 0.2 and 0.8 and the lengths 20 and 100 are the paper's; the
    random eigenbases, the jitter and the common trace d are our choice.

    Parameters
    ----------
    d, copies, generator
        Feature dimension, tasks of each kind, and source of randomness.
    frame : callable
        ``frame(d, generator)`` draws the orthogonal matrix whose columns are a task's eigenvectors, from the strongest
        to the weakest: `turned`, `shuffled` or `unrelated`.
    jitter : float
        Half width of the uniform disturbance of the spectral exponent, between 0 and 0.2.
    """
    _validate.positive_int("d", d)
    _validate.positive_int("copies", copies)
    if not 0 <= jitter <= EASY:
        raise ValueError(f"jitter must lie between 0 and {EASY}, got {jitter!r}")
    covs = []
    for alpha in (EASY, HARD):
        for _ in range(2 * copies):
            shift = (2 * torch.rand((), generator=generator, device=generator.device).item() - 1) * jitter
            basis = frame(d, generator)
            cov = basis @ covariance.power_law(d, alpha + shift, trace=float(d)).to(basis) @ basis.mT
            covs.append((cov + cov.mT) / 2)
    lengths = ((SHORT,) * copies + (LONG,) * copies) * 2
    hard = torch.arange(4 * copies, device=generator.device) >= 2 * copies
    return Catalogue(torch.stack(covs), lengths, hard)


def turned(angle: float) -> Callable[[int, torch.Generator], Tensor]:
    """Eigenbases near the standard one: each axis turns by about `angle` radians in a random direction."""
    _validate.non_negative("angle", angle)

    def frame(d: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn((d, d), generator=generator, dtype=torch.float64, device=generator.device)
        skew = (noise - noise.mT) / math.sqrt(2 * max(d - 1, 1))  # rows of mean square norm 1
        return torch.linalg.matrix_exp(angle * skew)

    return frame


def shuffled(d: int, generator: torch.Generator) -> Tensor:
    """Eigenbases that permute the standard axes: every task is strong in other skills, and all commute."""
    order = torch.randperm(d, generator=generator, device=generator.device)
    return torch.eye(d, dtype=torch.float64, device=generator.device)[:, order]


def unrelated(d: int, generator: torch.Generator) -> Tensor:
    """Eigenbases drawn uniformly from the orthogonal group (Haar measure)."""
    return covariance.haar(d, generator)


FAMILIES = {
    "aligned": (turned(0.2), 3),
    "skills": (shuffled, 8),
}  # name -> (frame, copies) as `catalogue` takes them
