"""Classical solvers of the least-squares problem a prompt poses, in the call shape of a thinking model.

Every solver takes B prompts of m examples in dimension d and a number of steps and returns the chain ŵ_0, ..., ŵ_steps of
shape (B, steps + 1, d). Solvers that do not iterate repeat their answer from step 1 on. All minimise ‖y − Xw‖²/(2m), whose
gradient is Σ̂w − b.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.prompts import Moments, Prompts


def _constant(answer: Tensor, steps: int) -> Tensor:
    """Chain that jumps from zero to `answer` in its first step and stays there."""
    chain = answer[:, None].repeat(1, steps + 1, 1)
    chain[:, 0] = 0
    return chain


def _moments(prompts: Prompts, steps: int) -> Moments:
    """Σ̂ and b of the prompts, after checking the arguments that all solvers share."""
    _validate.at_least("steps", steps, 0)
    _validate.instance("prompts", prompts, Prompts)
    return prompts.moments()


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.einsum("...ij,...j->...i", matrix, vector)


def ols(prompts: Prompts, steps: int = 1) -> Float[Tensor, "B k d"]:
    """Ordinary least squares of least norm, the pseudo-inverse solution; m < d gives the least-norm interpolant."""
    _moments(prompts, steps)
    return _constant(_apply(torch.linalg.pinv(prompts.x), prompts.y), steps)


def ridge(prompts: Prompts, steps: int = 1, penalty: float = 1.0) -> Float[Tensor, "B k d"]:
    """Ridge regression, (XᵀX + penalty · I)⁻¹Xᵀy, with the penalty in units of y².

    With w* ~ N(0, I) and label noise of standard deviation σ, `penalty` = σ² gives the posterior mean, the best there is.
    """
    penalty = _validate.positive("penalty", penalty)
    moments, m = _moments(prompts, steps), prompts.x.shape[1]
    identity = torch.eye(moments.gram.shape[-1], dtype=moments.gram.dtype, device=moments.gram.device)
    return _constant(torch.linalg.solve(moments.gram + penalty / m * identity, moments.cross), steps)


def gradient_descent(
    prompts: Prompts, steps: int, learning_rate: float | None = None
) -> Float[Tensor, "B k d"]:
    """Gradient descent from zero, ŵ ← ŵ − η(Σ̂ŵ − b), with the learning rate η.

    By default η is the best constant step of each prompt, 2 / (λ_max + λ_min) over the non-zero eigenvalues of Σ̂: an oracle that
    linear self-attention does not have.
    """
    moments = _moments(prompts, steps)
    if learning_rate is None:
        spectrum = torch.linalg.eigvalsh(moments.gram)
        zero = spectrum.shape[1] * torch.finfo(spectrum.dtype).eps * spectrum[:, -1:]  # up to rounding
        rate = 2 / (spectrum[:, -1] + torch.where(spectrum > zero, spectrum, torch.inf).amin(1))
    else:
        rate = torch.full_like(moments.w[:, 0], _validate.positive("learning_rate", learning_rate))
    chain = [torch.zeros_like(moments.w)]
    for _ in range(steps):
        chain.append(chain[-1] - rate[:, None] * _residual(moments, chain[-1]))
    return torch.stack(chain, dim=1)


def newton(prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
    """Newton's method from zero, ŵ ← ŵ − Σ̂⁺(Σ̂ŵ − b): it lands on the least-squares solution in one step."""
    moments = _moments(prompts, steps)
    inverse = torch.linalg.pinv(moments.gram, hermitian=True)
    chain = [torch.zeros_like(moments.w)]
    for _ in range(steps):
        chain.append(chain[-1] - _apply(inverse, _residual(moments, chain[-1])))
    return torch.stack(chain, dim=1)


def conjugate_gradient(prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
    """Conjugate gradient from zero on Σ̂w = b: the best polynomial method, exact after min(d, m) steps."""
    moments = _moments(prompts, steps)
    x, m = prompts.x, prompts.x.shape[1]
    w = torch.zeros_like(moments.w)
    # Residuals of the labels are carried along, not those of Σ̂w = b: products with Σ̂ would let rounding errors leave the
    # span of the features, where Σ̂ cannot see them and, with m < d, they grow.
    unexplained = prompts.y
    gradient = direction = moments.cross
    energy = gradient.square().sum(-1)
    # Below rounding a solved prompt has nothing left to do; going on would divide noise by noise.
    floor = energy * torch.finfo(w.dtype).eps ** 2
    chain = [w]
    for _ in range(steps):
        image = _apply(x, direction)
        curvature = image.square().sum(-1) / m
        active = (energy > floor) & (curvature > 0)
        length = torch.where(active, energy / torch.where(active, curvature, 1.0), 0.0)
        w = w + length[:, None] * direction
        unexplained = unexplained - length[:, None] * image
        gradient = _apply(x.mT, unexplained) / m
        fresh = gradient.square().sum(-1)
        direction = (
            gradient + torch.where(active, fresh / torch.where(active, energy, 1.0), 0.0)[:, None] * direction
        )
        energy = torch.where(active, fresh, energy)
        chain.append(w)
    return torch.stack(chain, dim=1)


def _residual(moments: Moments, w: Tensor) -> Tensor:
    """Gradient Σ̂w − b of the in-context least-squares loss."""
    return _apply(moments.gram, w) - moments.cross
