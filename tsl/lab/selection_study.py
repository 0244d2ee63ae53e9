"""The choice of training tasks as an experiment: repetitions, and problems that a plan of training is tried on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor
from torch.utils.data import default_collate

from tsl import _validate, advice, covariance, errors, laws, lsa, prompts
from tsl.lab.catalogues import Catalogue, catalogue, turned
from tsl.theory import Features


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


@functools.cache
def digit_rows() -> tuple[Float[Tensor, "N 10"], Tensor]:
    """Handwritten digits (scikit-learn) in ten principal components, and which digit each is."""
    digits = load_digits()
    pixels = PCA(10, svd_solver="full").fit_transform(digits.data / 16)
    return torch.as_tensor(pixels), torch.as_tensor(digits.target)


def digit_pair(pair: Sequence[int], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A problem of real features: the target is two digits, the tasks on offer are the eight others.

    Returns
    -------
    dict of name to Tensor, Tensor, Tensor
        Rows of each task; half of the target's rows, drawn at random, to plan with; and the other half to test on.
    """
    if len(set(pair)) != 2 or not set(pair) <= set(range(10)):
        raise ValueError(f"pair must be two different digits, got {pair!r}")
    pixels, labels = digit_rows()
    offer = {f"digit {digit}": pixels[labels == digit] for digit in range(10) if digit not in pair}
    wanted = pixels[(labels == pair[0]) | (labels == pair[1])]
    order = torch.randperm(len(wanted), generator=generator)
    half = len(wanted) // 2
    return offer, wanted[order[:half]], wanted[order[half:]]


def try_plan(
    plan: advice.Plan,
    tasks: Sequence[Features] | Tensor,
    goal: Features,
    generator: torch.Generator,
    training: int = 4000,
    tests: int = 400,
) -> dict[str, dict[str, Tensor]]:
    """Train as a plan recommends, on all tasks equally and on its best single task, and let the models think on the target.

    Parameters
    ----------
    plan : Plan
        For these tasks.
    tasks, goal
        Features of each task, from which training prompts are drawn, and of the target, which the plan need not have seen.
    generator : torch.Generator
        Source of all prompts.
    training, tests : int
        Prompts of the training set, whose loss is minimised, and of the test.

    Returns
    -------
    dict of dict of Tensor
        For ``"recommended"``, ``"equal weights"`` and ``"best single task"``: the ``"measured"`` and the ``"promised"`` median
        error per weight after 0, 1, ..., steps.
    """
    lengths = [card.length for card in plan.tasks]
    found = {}
    fresh = prompts.sample_moments(laws.of("goal", goal), plan.examples, tests, generator=generator).gram
    for name, curves in plan.errors.items():
        weights = plan.weights if name == "recommended" else torch.full_like(plan.weights, 1 / len(lengths))
        kind = name
        if name.startswith("only "):
            kind = "best single task"
            weights = torch.tensor([float(name == f"only {card.name}") for card in plan.tasks]).double()
        sample = prompts.TaskMixture(tasks, weights, lengths).sample_moments(training, generator)
        gamma = torch.linalg.inv(lsa.empirical_optimum(sample))
        measured = errors.propagated_error(fresh, gamma, curves.shape[1] - 1) / plan.d
        found[kind] = {"measured": measured.median(0).values, "promised": curves.median(0).values}
    return found
