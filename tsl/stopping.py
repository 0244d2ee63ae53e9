"""When to stop thinking, judged from the chain and the prompt alone.

Every rule is a score of the chain's steps and one decision, :func:`first_turn`: think on until the score has
risen for `patience` steps, then answer with its lowest point so far. No rule sees a label outside the prompt,
and none looks further ahead than its patience.

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

# What `posterior_mean` weighs when nobody tells it σ or τ: noise as a fraction of the weights' scale, and that scale.
NOISE_GRID = torch.logspace(-3, 1, 41, dtype=torch.float64)
SCALE_GRID = torch.logspace(-1, 1, 9, dtype=torch.float64)


def _check_chain(chain: Tensor, least: int) -> None:
    if chain.dim() != 3 or chain.shape[1] < least:
        raise ValueError(f"chain must have shape (B, k, d) with k >= {least}, got {tuple(chain.shape)}")


def _check_pair(chain: Tensor, prompts: Prompts) -> None:
    _check_chain(chain, 1)
    if (chain.shape[0], chain.shape[2]) != tuple(prompts.w.shape):
        raise ValueError(
            f"chain and prompts must agree in B and d, got {tuple(chain.shape)} and {tuple(prompts.w.shape)}"
        )


def increment_ratio(chain: Float[Tensor, "B k d"]) -> Float[Tensor, "B r"]:
    """Growth of successive changes of mind, ‖Δ_{i+1}‖ / ‖Δ_i‖ with Δ_i = ŵ_{i+1} − ŵ_i.

    Parameters
    ----------
    chain : Tensor of shape (B, steps + 1, d)
        Estimates ŵ_0, ..., ŵ_steps, with at least two steps.

    Returns
    -------
    Tensor of shape (B, steps - 1)
        Tends to the spectral radius of I − Γ⁻¹Σ̂: above 1 the chain diverges. A chain that has come to rest
        (Δ_i = 0) gets 0.
    """
    _check_chain(chain, 3)
    size = chain.diff(dim=1).norm(dim=-1)
    return torch.where(size[:, :-1] > 0, size[:, 1:] / size[:, :-1], torch.zeros_like(size[:, 1:]))


def divergence_step(chain: Float[Tensor, "B k d"]) -> Int[Tensor, " B"]:
    """Step that the smallest increment leads away from, once the next is larger; the last of all if none is. Uses no label.

    One step short of the last before growth, and so 0 where growth begins at once. Going on by that step is often better for
    a typical prompt, but not in the mean, which belongs to the prompts whose first step overshoots already.

    Parameters
    ----------
    chain : Tensor of shape (B, steps + 1, d)
        Estimates, with at least two steps.

    Returns
    -------
    Tensor of shape (B,)
        Step at which each prompt stops.
    """
    grows = increment_ratio(chain) > 1
    return torch.where(grows.any(1), grows.int().argmax(1), chain.shape[1] - 1)


def residual(chain: Float[Tensor, "B k d"], prompts: Prompts) -> Float[Tensor, "B k"]:
    """Mean squared residual of the prompt's own examples after each step, ‖y − Xŵ_j‖²/m.

    Parameters
    ----------
    chain : Tensor of shape (B, steps + 1, d)
        Estimates.
    prompts : Prompts
        The prompts they came from.
    """
    _check_pair(chain, prompts)
    return (prompts.y[:, None] - chain @ prompts.x.mT).square().mean(-1)


def held_out_error(
    model: Thinker | Baseline, prompts: Prompts, steps: int, folds: int = 5
) -> Float[Tensor, "B k"]:
    """Cross-validation inside the context: error on examples that the model was not shown, for any model.

    The prompt is cut into folds; the model thinks about all but one and predicts the labels of the one left
    out.

    Parameters
    ----------
    model : Thinker or callable
        Any model that thinks.
    prompts : Prompts
        Prompts of at least `folds` examples.
    steps : int
        Steps k, at least 0.
    folds : int
        Parts, at least 2.

    Returns
    -------
    Tensor of shape (B, steps + 1)
        Mean squared error of the held-out labels, in units of y².

    Raises
    ------
    ValueError
        If there are fewer examples than folds.
    """
    m = prompts.x.shape[1]
    if _validate.at_least("folds", folds, 2) > m:
        raise ValueError(f"folds must be <= the prompt's {m} examples, got {folds}")
    _validate.at_least("steps", steps, 0)
    total = torch.zeros((len(prompts.w), steps + 1), dtype=prompts.y.dtype, device=prompts.y.device)
    fold = torch.arange(m, device=prompts.y.device) % folds
    for part in range(folds):
        kept, out = fold != part, fold == part
        chain = chain_of_thought(model, Prompts(prompts.x[:, kept], prompts.y[:, kept], prompts.w), steps)
        total += (prompts.y[:, None, out] - chain @ prompts.x[:, out].mT).square().sum(-1)
    return total / m


def posterior_mean(
    prompts: Prompts, noise: float | None = None, scale: float | None = 1.0
) -> Float[Tensor, "B d"]:
    """Mean of w given the prompt, for weights w ~ N(0, τ² I) and label noise N(0, σ²).

    For given τ and σ this is ridge regression with penalty σ²/τ². What is not given is averaged out: the values of
    `NOISE_GRID` and `SCALE_GRID` are weighed by the probability that they give to the labels. A prompt often cannot
    tell noise from signal (never, if m ≤ d), and averaging over what it cannot tell is safer than choosing.

    Parameters
    ----------
    prompts : Prompts
        B prompts of m examples; m < d is allowed.
    noise : float, optional
        Standard deviation σ of the label noise if it is known, 0 for exact labels.
    scale : float, optional
        Standard deviation τ of a weight; None if it is unknown too.
    """
    left, singular, right = torch.linalg.svd(prompts.x, full_matrices=False)
    signal = torch.einsum("bmr,bm->br", left, prompts.y)
    tau = SCALE_GRID.to(singular)
    if scale is not None or noise == 0:  # exact labels leave no room for the prior's scale
        tau = torch.full_like(tau[:1], _validate.positive("scale", 1.0 if scale is None else scale))
    if noise is None:
        sigma = (NOISE_GRID.to(singular)[:, None] * tau).reshape(-1)
        tau = tau.repeat(len(NOISE_GRID))
    else:
        sigma = torch.full_like(tau, _validate.non_negative("noise", noise))
    power = (tau[:, None] * singular[:, None]).square()  # (B, N, r) for N pairs of a scale and a noise level
    total = power + sigma[:, None].square()
    floor = torch.finfo(singular.dtype).eps * power.amax(-1, keepdim=True) * max(prompts.x.shape[1:])
    filtered = torch.where(power > floor, power / total, 0)
    if len(tau) > 1:
        unseen = prompts.x.shape[1] - singular.shape[1]  # directions of label space that no weight can reach
        rest = (prompts.y.square().sum(-1) - signal.square().sum(-1)).clamp(min=0)
        surprise = (total.log() + signal.square()[:, None] / total).sum(
            -1
        )  # −2 log probability, up to a constant
        surprise = surprise + 2 * unseen * sigma.log() + rest[:, None] / sigma.square()
        belief = torch.softmax(-surprise / 2, dim=-1)  # flat prior over log σ/τ and log τ
        filtered = torch.einsum("bn,bnr->br", belief, filtered)
    else:
        filtered = filtered[:, 0]
    inverse = torch.where(singular > 0, 1 / singular, 0)
    return torch.einsum("brd,br->bd", right, filtered * inverse * signal)


def first_turn(score: Float[Tensor, "B k"], patience: int = 1) -> Int[Tensor, " B"]:
    """Step of the lowest score, decided online: thinking ends once `patience` steps brought no better one.

    Parameters
    ----------
    score : Tensor of shape (B, steps + 1)
        Anything that should be small.
    patience : int
        Steps past the turn before giving up, at least 1.

    Returns
    -------
    Tensor of shape (B,)
        Index into the steps axis.
    """
    _validate.positive_int("patience", patience)
    if score.dim() != 2 or score.shape[1] < 1:
        raise ValueError(f"score must have shape (B, k) with k >= 1, got {tuple(score.shape)}")
    best, lowest = torch.zeros_like(score[:, 0], dtype=torch.long), score[:, 0].clone()
    for step in range(1, score.shape[1]):
        better = (score[:, step] < lowest) & (step - best <= patience)
        best, lowest = torch.where(better, step, best), torch.where(better, score[:, step], lowest)
    return best


def stop_step(
    chain: Float[Tensor, "B k d"], prompts: Prompts, noise: float | None = None, scale: float | None = 1.0
) -> Int[Tensor, " B"]:
    """Step at which each prompt should stop thinking: the one closest to what the prompt itself supports.

    Given the prompt, the expected error of an estimate is E[‖ŵ − w‖²] = ‖ŵ − w̄‖² + constant, where w̄ is the
    posterior mean: among the steps of a chain the closest to w̄ is the best choice on average, with or
    without noise and for m < d (our rule). It stops online, at most two steps past the turn.

    Parameters
    ----------
    chain : Tensor of shape (B, steps + 1, d)
        Estimates.
    prompts : Prompts
        The prompts they came from. Their `w` is not used.
    noise : float, optional
        Standard deviation σ of the label noise, if known.
    scale : float, optional
        Standard deviation of a weight: 1 for the tasks of this book, None if it is unknown.

    Returns
    -------
    Tensor of shape (B,)
        Index into the steps axis, 0 ... steps.
    """
    _check_pair(chain, prompts)
    centre = posterior_mean(prompts, noise, scale)
    return first_turn((chain - centre[:, None]).square().sum(-1), patience=2)
