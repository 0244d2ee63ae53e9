"""Thinking longer or in parallel: one chain of thought against the mean of several short ones that read as much.

A thought reads every example of its prompt, so a chain of k thoughts about m examples reads k m of them, and that is what is
held equal. Chains about one prompt differ because each sees a part of it, or because thoughts are noisy, as they are
where a model samples its tokens.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, cot, exact
from tsl.cot import Thinker
from tsl.prompts import Moments, Prompts


def split(prompts: Prompts, parts: int) -> Prompts:
    """Each prompt cut into ``parts`` of equal length, one after the other: (B · parts) prompts of m/parts examples."""
    B, m, d = prompts.x.shape
    _validate.divides("parts", parts, "m", m)
    return Prompts(
        prompts.x.reshape(B * parts, m // parts, d),
        prompts.y.reshape(B * parts, m // parts),
        prompts.w.repeat_interleave(parts, 0),
    )


def random_halves(prompts: Prompts, count: int, generator: torch.Generator) -> Prompts:
    """``count`` random halves of each prompt's examples, drawn one by one without replacement: (B · count) prompts."""
    _validate.positive_int("count", count)
    B, m, d = prompts.x.shape
    if m < 2:
        raise ValueError(f"prompts must have at least 2 examples, got {m}")
    half = torch.rand((B, count, m), generator=generator).argsort(-1)[..., : m // 2]
    x = prompts.x[:, None].expand(B, count, m, d).gather(2, half[..., None].expand(*half.shape, d))
    y = prompts.y[:, None].expand(B, count, m).gather(2, half)
    return Prompts(x.flatten(0, 1), y.flatten(0, 1), prompts.w.repeat_interleave(count, 0))


def chains_about_halves(
    model: Thinker, prompts: Prompts, count: int, steps: int, generator: torch.Generator
) -> Float[Tensor, "B count k d"]:
    """Chains of a model about random halves of each prompt."""
    halves = random_halves(prompts, count, generator)
    return cot.chain_of_thought(model, halves, steps).unflatten(0, (len(prompts.w), count))


def noisy_chains(
    moments: Moments,
    gamma: Float[Tensor, "d d"],
    steps: int,
    count: int,
    noise: float,
    generator: torch.Generator,
) -> Float[Tensor, "B count k d"]:
    """Pseudo-Newton chains with noisy thoughts, ŵ ← ŵ − Γ⁻¹(Σ̂ŵ − b) + ε with ε ~ N(0, τ² I) drawn for each thought.

    ``noise`` is τ, in units of a weight; ``count`` chains think about each prompt from ŵ₀ = 0.
    """
    _validate.positive_int("count", count)
    _validate.non_negative("noise", noise)
    step = torch.linalg.solve(gamma, moments.gram)
    drift = torch.linalg.solve(gamma, moments.cross[..., None])[:, None, :, 0]
    chain = [moments.w.new_zeros(len(moments.w), count, moments.w.shape[1])]
    for _ in range(steps):
        thought = chain[-1] - torch.einsum("bij,bcj->bci", step, chain[-1]) + drift
        jitter = torch.randn(thought.shape, generator=generator, dtype=thought.dtype)
        chain.append(thought + noise * jitter)
    return torch.stack(chain, 2)


def together(chains: Float[Tensor, "B count k d"], count: int, vote: bool = False) -> Float[Tensor, "B k d"]:
    """What the first ``count`` chains say together at each step: their mean or, as a vote, the median of each coordinate."""
    if _validate.positive_int("count", count) > chains.shape[1]:
        raise ValueError(f"count must be at most the {chains.shape[1]} chains, got {count}")
    return chains[:, :count].quantile(0.5, 1) if vote else chains[:, :count].mean(1)


def mean_contraction(d: int, m: int, g: float, steps: int) -> Float[Tensor, " k"]:
    """Exact E tr (I − Σ̂/g)^j / d for every step: what is still missing of w* in the mean of very many chains about parts."""
    power = [Fraction(d)] + [
        exact.trace_moment(d, m, p) / (m * Fraction(g)) ** p for p in range(1, steps + 1)
    ]
    signed = [(-1) ** p * value for p, value in enumerate(power)]
    return torch.tensor(
        [float(sum(math.comb(k, p) * signed[p] for p in range(k + 1)) / d) for k in range(steps + 1)],
        dtype=torch.float64,
    )


def error_of_parts(
    d: int, m: int, g: float, steps: int, parts: int, noise: float = 0.0
) -> Float[Tensor, " k"]:
    """Exact mean error of the mean of chains about the parts of a prompt, Γ = g I and Σ = I, labels of noise σ.

    Parts share only w*, so two chains agree in their expectation alone: with the error e_j of one chain about m/parts examples
    (`exact.isotropic_error`) and its mean contraction c_j, the mean of p chains has e_j/p + (1 − 1/p) d c_j².
    """
    _validate.divides("parts", parts, "m", m)
    one = exact.isotropic_error(d, m // parts, g, steps, noise)
    return one / parts + (1 - 1 / parts) * d * mean_contraction(d, m // parts, g, steps).square()


def error_with_noisy_thoughts(
    d: int, m: int, g: float, steps: int, count: int, noise: float
) -> Float[Tensor, " k"]:
    """Exact mean error of the mean of ``count`` chains about one whole prompt, Γ = g I and Σ = I, thoughts of noise τ.

    The noise of a thought is thought about by all that follow: it adds τ² Σ_{i<j} e_i/count to the error e_j of exact thoughts.
    """
    bias = exact.isotropic_error(d, m, g, steps)
    spread = torch.cat([bias.new_zeros(1), bias.cumsum(0)[:-1]])
    return bias + noise**2 * spread / count


def break_even_noise(d: int, m: int, g: float, steps: int, count: int) -> float:
    """Noise τ of a thought beyond which ``count`` chains of ``steps`` thoughts beat one of count · steps, exactly."""
    bias = exact.isotropic_error(d, m, g, count * steps)
    spread = torch.cat([bias.new_zeros(1), bias.cumsum(0)[:-1]])
    lost = bias[steps] - bias[-1]
    return (lost / (spread[-1] - spread[steps] / count)).clamp(min=0).sqrt().item()
