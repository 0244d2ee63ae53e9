"""Chain of thought at test time: append the model's own estimate and run it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.errors import squared_error
from tsl.laws import Law
from tsl.prompts import Moments, Prompts, sample_moments


@runtime_checkable
class Thinker(Protocol):
    """A model that can think: `think` returns the chain ŵ_0, ..., ŵ_steps of each prompt, of shape (B, steps + 1, d)."""

    def think(self, prompts: Prompts, steps: int) -> Tensor: ...


Baseline = Callable[[Prompts, int], Tensor]


def chain_of_thought(model: Thinker | Baseline, prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
    """Chain ŵ_0, ..., ŵ_steps of a model with a method ``think(prompts, steps)``, or of a baseline ``model(prompts, steps)``."""
    steps = _validate.at_least("steps", steps, 0)
    _validate.instance("prompts", prompts, Prompts)
    think = getattr(model, "think", model)
    if not callable(think):
        raise ValueError(f"model must have a method think or be callable, got {model!r}")
    chain: Tensor = think(prompts, steps)
    expected = (prompts.w.shape[0], steps + 1, prompts.w.shape[1])
    if chain.shape != expected:
        raise ValueError(f"model must return a chain of shape {expected}, got {tuple(chain.shape)}")
    return chain


def pseudo_newton(moments: Moments, gamma: Float[Tensor, "*B d d"], steps: int) -> Float[Tensor, "B k d"]:
    """Fast path of chain of thought for linear self-attention: ŵ_{i+1} = ŵ_i − Γ⁻¹(Σ̂ŵ_i − b) from ŵ_0 = 0.

    This is Proposition 3.2 of arXiv 2510.03605 with b = Xᵀy/m in place of Σ̂w*, which also covers noisy labels. It costs k d²
    operations a prompt, whatever m. Γ, of shape (d, d) or (B, d, d), is the inverse of the preconditioner, shared or one for each
    prompt; the chain has shape (B, steps + 1, d).
    """
    steps = _validate.at_least("steps", steps, 0)
    _validate.instance("moments", moments, Moments)
    gamma = _validate.invertible("gamma", gamma, batch=True)
    _validate.same_dimension(gamma=gamma, w=moments.w)
    if gamma.dim() == 3 and len(gamma) != len(moments.w):
        raise ValueError(
            f"gamma must hold one matrix or one for each of {len(moments.w)} prompts, got {len(gamma)}"
        )
    step = torch.linalg.solve(gamma, moments.gram.double())
    drift = torch.linalg.solve(gamma, moments.cross.double().unsqueeze(-1)).squeeze(-1)
    chain = [torch.zeros_like(drift)]
    for _ in range(steps):
        chain.append(chain[-1] - torch.einsum("bij,bj->bi", step, chain[-1]) + drift)
    return torch.stack(chain, dim=1)


def chain_lessons(moments: Moments, damping: float, length: int) -> Moments:
    """Lessons of training on chains: from every thought of ŵ*_i = (1 − (1 − η)^i) w*, i < length, the next one is to be found.

    A model that adds A r to a thought ŵ, r = b − Σ̂ŵ, is to add ŵ*_{i+1} − ŵ*_i. Of each prompt this makes `length` lessons with
    r for b and that step for w, for `tsl.lsa.empirical_optimum`. Training for the direct answer is η = 1 with one lesson. With
    exact labels every lesson says the same, A = ηΓ⁻¹ (after Theorem 4.1 of arXiv 2603.01293). Label noise stays as loud while
    the steps shrink: A = ηΓ⁻¹ with σ² · length / Σ_i (1 − η)^{2i} for σ² (ours).

    Parameters
    ----------
    damping : float
        η, above 0 and at most 1.
    """
    _validate.instance("moments", moments, Moments)
    if not 0 < _validate.positive("damping", damping) <= 1:
        raise ValueError(f"damping must lie in (0, 1], got {damping!r}")
    left = [(1 - damping) ** i for i in range(_validate.positive_int("length", length))]
    seen = torch.einsum("bij,bj->bi", moments.gram, moments.w)
    return Moments(
        moments.gram.repeat(length, 1, 1),
        torch.cat([moments.cross - (1 - share) * seen for share in left]),
        torch.cat([damping * share * moments.w for share in left]),
    )


def sampled_errors(
    gamma: Float[Tensor, "d d"],
    law: Law | Float[Tensor, "d d"],
    m: int,
    steps: int,
    size: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "size k"]:
    """Squared error ‖ŵ_j − w*‖² of every step on fresh prompts (`sample_moments`), by `pseudo_newton`."""
    moments = sample_moments(law, m, size, noise, generator)
    return squared_error(pseudo_newton(moments, gamma, steps), moments.w)
