"""The choice of training tasks as an experiment: repetitions, and random problems that a plan of training is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import default_collate

from tsl import _validate, covariance
from tsl.lab.catalogues import Catalogue, catalogue, turned


def repeat(replicas: int, experiment: Callable[..., Any], *args: Any) -> Any:
    """Results of ``experiment(*args, replica)`` for replica 0, 1, ..., stacked.

    Parameters
    ----------
    replicas : int
        How many, at least 1.
    experiment : callable
        Returns a number, a tensor, or dicts and tuples of these, of the same form for each replica.
    *args
        Its arguments before the replica's number.

    Returns
    -------
    In the form of one result; every tensor has a new first axis, of replicas, and every number is a tensor of them.
    """
    _validate.positive_int("replicas", replicas)
    return default_collate([experiment(*args, replica) for replica in range(replicas)])


@dataclass(frozen=True)
class Problem:
    """A target with two tasks on offer, as they are and as a practitioner sees them.

    Parameters
    ----------
    goal : Tensor of shape (d, d)
        Covariance of the target.
    tasks : Catalogue
        Two of the four kinds.
    context : int
        Examples in a test prompt, between 1.6 and 32 for each dimension.
    rows : Tensor of shape (N, d)
        Features of the target.
    offer : dict of name to Tensor of shape (N, d)
        Features of each task.
    """

    goal: Float[Tensor, "d d"]
    tasks: Catalogue
    context: int
    rows: Float[Tensor, "N d"]
    offer: dict[str, Tensor]

    @property
    def single(self) -> dict[str, Tensor]:
        """Weights of training on one task alone, by its name."""
        return dict(zip(self.offer, torch.eye(len(self.offer), dtype=self.goal.dtype), strict=True))


def random_problem(d: int, count: int, generator: torch.Generator) -> Problem:
    """Draw a problem: the exponent of its target, how far the tasks' axes are turned, and the length of test prompts.

    Parameters
    ----------
    d : int
        Feature dimension.
    count : int
        Rows of features of the target and of each task.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    Problem
        Exponent uniform in [0, 1], angle uniform in [0, 2], context log-uniform.
    """
    _validate.positive_int("count", count)
    length, exponent, angle = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    goal = covariance.power_law(d, exponent, trace=float(d))
    tasks = catalogue(d, 1, turned(2 * angle), generator)
    tasks = tasks.only(torch.randperm(4, generator=generator) < 2)
    rows, *offered = [
        torch.randn((count, d), generator=generator, dtype=torch.float64) @ covariance.square_root(cov)
        for cov in (goal, *tasks.covs)
    ]
    offer = {f"task {index}": features for index, features in enumerate(offered)}
    return Problem(goal, tasks, int(d * 10 ** (0.2 + 1.3 * length)), rows, offer)
