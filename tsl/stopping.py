"""When to stop thinking, judged from the chain and the prompt alone.

Every rule is a score of the chain's steps and one decision, :func:`first_turn`: think on until the score has
risen for `patience` steps, then answer with its lowest point so far. No rule sees a label outside the prompt,
and none looks further ahead than its patience. No rule knows a unit: features, labels and weights may be in any.

Three scores do not need the task solved: the increments of the chain, the residual of the prompt's own examples, and
the error on examples held out of it. The fourth does: the distance to the posterior mean w̄ of the weights, which is
itself an answer. With exact labels and m ≥ d it is w* itself, and the rule that follows it is the oracle: a ceiling.

For linear self-attention two scores turn at most once. With noiseless labels the squared residual is
Σ_j c_j (1 − μ_j)^{2k}, with c_j ≥ 0 and μ_j the eigenvalues of XΓ⁻¹Xᵀ/m. A sum of exponentials in k is log-convex,
so the first rise is the only one and waiting one step decides. The same is true of ‖Γ^½Δ_k‖, noise or not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tsl import _validate
from tsl.cot import Baseline, Thinker, chain_of_thought
from tsl.prompts import Prompts

# What `posterior_mean` weighs when nobody tells it the noise: standard deviation of the noise over that of the signal.
NOISE_TO_SIGNAL = torch.logspace(-8, 3, 89, dtype=torch.float64)


def _check_chain(chain: Tensor, least: int) -> Tensor:
    chain = _validate.floating("chain", chain)
    if chain.dim() != 3 or chain.shape[1] < least:
        raise ValueError(f"chain must have shape (B, k, d) with k >= {least}, got {tuple(chain.shape)}")
    return chain


def _check_pair(chain: Tensor, prompts: Prompts) -> Tensor:
    _validate.instance("prompts", prompts, Prompts)
    chain = _check_chain(chain, 1)
    if (chain.shape[0], chain.shape[2]) != tuple(prompts.w.shape):
        raise ValueError(
            f"chain and prompts must agree in B and d, got {tuple(chain.shape)} and {tuple(prompts.w.shape)}"
        )
    return chain


def increment_ratio(chain: Float[Tensor, "B k d"]) -> Float[Tensor, "B r"]:
    """Growth of successive changes of mind, ‖Δ_{i+1}‖ / ‖Δ_i‖ with Δ_i = ŵ_{i+1} − ŵ_i, of shape (B, steps − 1).

    Tends to the spectral radius of I − Γ⁻¹Σ̂: above 1 the chain diverges. A chain that has come to rest (Δ_i = 0) gets 0.
    """
    chain = _check_chain(chain, 3)
    size = chain.diff(dim=1).norm(dim=-1)
    return torch.where(size[:, :-1] > 0, size[:, 1:] / size[:, :-1], torch.zeros_like(size[:, 1:]))


def divergence_step(chain: Float[Tensor, "B k d"]) -> Int[Tensor, " B"]:
    """Step that the smallest increment leads away from, once the next is larger; the last of all if none is. Uses no label.

    One step short of the last before growth, and so 0 where growth begins at once. Going on by that step is often better for
    a typical prompt, but not in the mean, which belongs to the prompts whose first step overshoots already.
    """
    grows = increment_ratio(chain) > 1
    return torch.where(grows.any(1), grows.int().argmax(1), chain.shape[1] - 1)


def residual(chain: Float[Tensor, "B k d"], prompts: Prompts) -> Float[Tensor, "B k"]:
    """Mean squared residual of the prompt's own examples after each step, ‖y − Xŵ_j‖²/m."""
    chain = _check_pair(chain, prompts)
    chain, x, y = _validate.together(chain=chain, x=prompts.x, y=prompts.y)
    return (y[:, None] - chain @ x.mT).square().mean(-1)


def held_out_error(
    model: Thinker | Baseline, prompts: Prompts, steps: int, folds: int = 20
) -> Float[Tensor, "B k"]:
    """Cross-validation inside the context: mean squared error of labels that the model was not shown, in units of y².

    The prompt, of at least two examples, is cut into folds (one for each example if there are fewer than `folds`); the model
    thinks about all but one and predicts the labels of the one left out. Few folds hide much: a model thinks otherwise about
    a prompt that is a fifth shorter.
    """
    _validate.instance("prompts", prompts, Prompts)
    _validate.at_least("folds", folds, 2)
    _validate.at_least("steps", steps, 0)
    m = prompts.x.shape[1]
    if m < 2:
        raise ValueError(f"prompts must hold at least 2 examples, one to hold out, got {m}")
    total = torch.zeros((len(prompts.w), steps + 1), dtype=prompts.y.dtype, device=prompts.y.device)
    folds = min(folds, m)
    fold = torch.arange(m, device=prompts.y.device) % folds
    for part in range(folds):
        kept, out = fold != part, fold == part
        chain = chain_of_thought(model, Prompts(prompts.x[:, kept], prompts.y[:, kept], prompts.w), steps)
        chain, x, y = _validate.together(chain=chain, x=prompts.x[:, out], y=prompts.y[:, out])
        total = total + (y[:, None] - chain @ x.mT).square().sum(-1)
    return total / m


def posterior_mean(prompts: Prompts, ratio: float | None = None) -> Float[Tensor, "B d"]:
    """Mean w̄ of w given the prompt, for weights w ~ N(0, τ²I) and label noise N(0, σ²), neither of them known.

    For a given ratio σ/τ it is ridge regression with the penalty (σ/τ)². What is not given is averaged out. The common
    scale of τ and σ integrates in closed form: with log τ flat, the probability of the labels is, up to a constant,
    det(C)^{-½} (yᵀC⁻¹y)^{-m/2} with C = XXᵀ + (σ/τ)²I. Noise over signal, ν = (σ/τ)/√(‖X‖²/m), gets the weight ν/(1 + ν²) on
    `NOISE_TO_SIGNAL`, a half-Cauchy law, the same for ν and 1/ν. So features, labels and weights may be in any
    unit: w̄ turns and scales with them. A prompt often cannot tell noise from signal (hardly ever, if m ≤ d), and averaging
    over what it cannot tell is safer than choosing.

    Parameters
    ----------
    ratio : float, optional
        σ/τ if it is known, 0 for exact labels.
    """
    _validate.instance("prompts", prompts, Prompts)
    m, d = prompts.x.shape[1:]
    unit = prompts.x.flatten(1).norm(dim=1, keepdim=True) / m**0.5  # (B, 1); of the signal, for τ = 1
    size = prompts.y.norm(dim=1, keepdim=True)
    unit, size = torch.where(unit > 0, unit, 1.0), torch.where(size > 0, size, 1.0)
    left, singular, right = torch.linalg.svd(prompts.x / unit[..., None], full_matrices=False)
    y = prompts.y / size
    signal = torch.einsum("bmr,bm->br", left, y)
    power = singular.square()
    eps = torch.finfo(power.dtype).eps
    seen = singular > eps * max(m, d) * singular[:, :1]
    if ratio is None:
        grid = NOISE_TO_SIGNAL.to(power)
        total = power[:, None] + grid.square()[:, None]  # (B, N, r), eigenvalues of C
        unseen = m - singular.shape[1]  # directions of label space that no weight can reach
        rest = (y.square().sum(-1) - signal.square().sum(-1)).clamp(min=100 * eps)  # exact up to rounding
        fit = (signal.square()[:, None] / total).sum(-1)
        if unseen:
            fit = fit + rest[:, None] / grid.square()
        fit = fit.clamp(min=torch.finfo(power.dtype).tiny)  # all labels zero
        surprise = total.log().sum(-1) + 2 * unseen * grid.log() + m * fit.log()  # −2 log probability
        belief = torch.softmax(-surprise / 2 + (grid / (1 + grid.square())).log(), dim=-1)
        kept = torch.einsum("bn,bnr->br", belief, power[:, None] / total)
    else:
        noise = (_validate.non_negative("ratio", ratio) / unit).square()
        kept = power / (power + noise)
    answer = torch.where(seen, kept * signal / singular, 0.0)
    return torch.einsum("brd,br->bd", right, answer) * size / unit


def first_turn(score: Float[Tensor, "B k"], patience: int = 1) -> Int[Tensor, " B"]:
    """Step of the lowest score, decided online: thinking ends once `patience` steps brought no better one."""
    _validate.positive_int("patience", patience)
    if score.dim() != 2 or score.shape[1] < 1:
        raise ValueError(f"score must have shape (B, k) with k >= 1, got {tuple(score.shape)}")
    best, lowest = torch.zeros_like(score[:, 0], dtype=torch.long), score[:, 0].clone()
    for step in range(1, score.shape[1]):
        better = (score[:, step] < lowest) & (step - best <= patience)
        best, lowest = torch.where(better, step, best), torch.where(better, score[:, step], lowest)
    return best


def stop_step(
    chain: Float[Tensor, "B k d"], prompts: Prompts, ratio: float | None = None
) -> Int[Tensor, " B"]:
    """Step at which each prompt should stop thinking: the one closest to what the prompt itself supports.

    Given the prompt, the expected error of an estimate is E[‖ŵ − w‖²] = ‖ŵ − w̄‖² + constant, where w̄ is the
    posterior mean: among the steps of a chain the closest to w̄ is the best choice on average, with or
    without noise and for m < d (our rule). It stops online, at most four steps past the turn: the
    distance of a chain that converges can rise for a while. The prompts' `w` is not used;
    `ratio` is that of `posterior_mean`. Where w̄ can be had it is the better answer: the rule says what a reader of the
    chain could reach. `held_out_error` and `residual`, with `first_turn`, do not need it.
    """
    chain = _check_pair(chain, prompts)
    centre = posterior_mean(prompts, ratio)
    return first_turn((chain - centre[:, None]).square().sum(-1), patience=4)
