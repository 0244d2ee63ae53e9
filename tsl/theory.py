"""Predictions: what training learns, what one step costs, what k steps give, and when thinking stops helping.

Everything here is a closed formula or a one-dimensional integral; nothing is sampled. Errors are E‖ŵ − w*‖²
with w* ~ N(0, I_d), so that an answer of zero costs d, unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.covariance import hardness


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _pair(gamma: Tensor, cov: Tensor) -> Tensor:
    """Γ⁻¹Σ, after checking both."""
    _validate.invertible("gamma", gamma)
    _validate.covariance("cov", cov)
    _validate.same_dimension(gamma=gamma, cov=cov)
    return torch.linalg.solve(gamma, cov)


def second_moment(cov: Float[Tensor, "d d"], n: int) -> Float[Tensor, "d d"]:
    """E[Σ̂²] = (1 + 1/n)Λ² + (tr Λ / n)Λ for n Gaussian features.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Feature covariance Λ.
    n : int
        Examples in a prompt, at least 1.

    Returns
    -------
    Tensor of shape (d, d)

    Raises
    ------
    ValueError
        If `cov` is not a covariance or `n` < 1.
    """
    _validate.covariance("cov", cov)
    _validate.positive_int("n", n)
    return (1 + 1 / n) * cov @ cov + torch.trace(cov) / n * cov


def gamma(cov: Float[Tensor, "d d"], n: int, noise: float = 0.0) -> Float[Tensor, "d d"]:
    """Γ(Λ, n) = (1 + 1/n)Λ + ((tr Λ + σ²)/n) I: training fixes the preconditioner Γ⁻¹.

    This is Theorem 3.1 of arXiv 2510.03605. The label noise σ² is our extension; the paper has σ = 0.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance Λ of the training features.
    n : int
        Examples in a training prompt, at least 1.
    noise : float
        Standard deviation σ of the label noise in training.

    Returns
    -------
    Tensor of shape (d, d)

    Raises
    ------
    ValueError
        If `cov` is not a covariance, `n` < 1 or `noise` < 0.
    """
    _validate.covariance("cov", cov)
    _validate.positive_int("n", n)
    noise = _validate.non_negative("noise", noise)
    return (1 + 1 / n) * cov + (torch.trace(cov) + noise**2) / n * _identity(cov)


def gamma_mixture(
    covs: Sequence[Float[Tensor, "d d"]], probs: Sequence[float] | Tensor, lengths: Sequence[int]
) -> Float[Tensor, "d d"]:
    """Γ = E[Σ̂²] E[Σ̂]⁻¹ of training on several tasks (our derivation from the normal equations of the loss).

    Parameters
    ----------
    covs : sequence of Tensors of shape (d, d)
        Covariance Λ_ℓ of each task.
    probs : sequence of floats
        Probability π_ℓ of each task.
    lengths : sequence of ints
        Prompt length n_ℓ of each task.

    Returns
    -------
    Tensor of shape (d, d)
        Not symmetric unless the Λ_ℓ commute.

    Raises
    ------
    ValueError
        If the arguments disagree in length, an entry is not allowed, or E[Σ̂] is singular (no task covers some direction).
    """
    weights = _validate.tasks(covs, probs, lengths).tolist()
    first = torch.stack([p * cov for p, cov in zip(weights, covs, strict=True)]).sum(0)
    second = torch.stack(
        [p * second_moment(c, n) for p, c, n in zip(weights, covs, lengths, strict=True)]
    ).sum(0)
    if math.isinf(hardness(first)):
        raise ValueError("covs and probs must cover every direction, got a singular mean covariance")
    return torch.linalg.solve(first, second, left=False)


def direct_error(gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], m: int, noise: float = 0.0) -> float:
    """Exact error of the direct answer, one step from ŵ_0 = 0, on prompts of m Gaussian examples (our formula).

    ‖I − A Σ‖_F² + (1/m)[tr(A Σ² Aᵀ) + tr(A Σ Aᵀ) (tr Σ + σ²)] with A = Γ⁻¹.

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model.
    cov : Tensor of shape (d, d)
        Covariance Σ of the test features.
    m : int
        Examples in a test prompt, at least 1.
    noise : float
        Standard deviation σ of the label noise at test time.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not allowed or the shapes disagree.
    """
    _validate.positive_int("m", m)
    noise = _validate.non_negative("noise", noise)
    step = _pair(gamma, cov)
    spread = torch.trace(torch.linalg.solve(gamma, step.mT))  # tr(A Σ Aᵀ)
    bias = (_identity(cov) - step).square().sum()
    return (bias + (step.square().sum() + spread * (torch.trace(cov) + noise**2)) / m).item()


def direct_error_bound(cov: Float[Tensor, "d d"], n: int, m: int) -> float:
    """Bound on the direct error when Σ = Λ, (d/n²)(1 + Hard)² + (d/m)(1 + Hard) (Theorem 3.3 of arXiv 2510.03605).

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance Λ of training and test features.
    n, m : int
        Examples in a training and in a test prompt, at least 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    hard = 1 + hardness(cov)
    _validate.positive_int("n", n)
    _validate.positive_int("m", m)
    d = cov.shape[0]
    return d / n**2 * hard**2 + d / m * hard


def cot_error_limit(gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], k: int) -> float:
    """Error after k steps with unlimited test context (m → ∞, so Σ̂ = Σ): ‖(I − Γ⁻¹Σ)^k‖_F².

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model.
    cov : Tensor of shape (d, d)
        Covariance Σ of the test features.
    k : int
        Steps, at least 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not allowed or the shapes disagree.
    """
    _validate.at_least("k", k, 0)
    step = _pair(gamma, cov)
    return torch.linalg.matrix_power(_identity(step) - step, k).square().sum().item()


def cot_error_bound(cov: Float[Tensor, "d d"], n: int, k: int) -> float:
    """Leading term of the scaling law, d (1 + n / (1 + Hard))^(−2k), for Σ = Λ (Corollary 3.5 of arXiv 2510.03605).

    It bounds `cot_error_limit`, with equality for isotropic features. At finite m it is not a bound.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance Λ of training and test features.
    n : int
        Examples in a training prompt, at least 1.
    k : int
        Steps, at least 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    _validate.positive_int("n", n)
    _validate.at_least("k", k, 0)
    hard = 1 + hardness(cov)
    return cov.shape[0] * (1 + n / hard) ** (-2 * k)


def required_context(cov: Float[Tensor, "d d"], k: int, eps: float) -> float:
    """Training examples that k steps need to reach an error eps: n ≥ (1 + Hard)((d/eps)^(1/2k) − 1), from Corollary 3.5.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance Λ of training and test features.
    k : int
        Steps, at least 1.
    eps : float
        Target error, above 0.

    Returns
    -------
    float
        Not rounded; 0 where eps ≥ d, which the answer ŵ = 0 already reaches.

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    _validate.positive_int("k", k)
    eps = _validate.positive("eps", eps)
    hard, d = 1 + hardness(cov), cov.shape[0]
    return max(0.0, hard * ((d / eps) ** (1 / (2 * k)) - 1))


def spectrum_edge(gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], m: int) -> float:
    """Upper edge of the spectrum of Γ⁻¹Σ̂ for d, m large at a fixed ratio (Silverstein and Choi, 1995).

    With t_i the eigenvalues of Γ⁻¹Σ the edge is the minimum over −1/t_max < s < 0 of −1/s + (1/m) Σ_i t_i / (1 + t_i s). In the
    isotropic case it is (1 + √(d/m))² t.

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model, symmetric positive definite.
    cov : Tensor of shape (d, d)
        Covariance Σ of the test features.
    m : int
        Examples in a test prompt, at least 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not allowed or the shapes disagree.
    """
    _validate.covariance("gamma", gamma)
    _validate.positive_int("m", m)
    # Γ⁻¹Σ is similar to a symmetric matrix, so its eigenvalues are real.
    t = torch.linalg.eigvals(_pair(gamma, cov)).real.clamp(min=0)
    top = t.max().item()
    if top == 0:
        return 0.0
    low, high = 0.0, 1.0  # s = −u / t_max with u in (0, 1); the objective is convex there

    def slope(u: float) -> float:
        return (-(top / u**2) + (t.square() / (1 - t * (u / top)).square()).sum() / (m * top)).item()

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    u = (low + high) / 2
    return (top / u + (t / (1 - t * (u / top))).sum() / m).item()


def overthinks(gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], m: int | None = None) -> bool:
    """Whether the error grows without limit when thinking goes on: whether some |1 − λ(Γ⁻¹Σ̂)| exceeds 1.

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model.
    cov : Tensor of shape (d, d)
        Covariance Σ of the test features.
    m : int, optional
        Examples in a test prompt. By default unlimited, and the eigenvalues of Γ⁻¹Σ decide (Remark 4.1 of arXiv
        2510.03605); with m the upper edge of the spectrum of Γ⁻¹Σ̂ decides, which is exact as d and m grow together
        (our extension).

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If an argument is not allowed or the shapes disagree.
    """
    if m is not None:
        return spectrum_edge(gamma, cov, m) > 2
    rate = torch.linalg.eigvals(_identity(cov) - _pair(gamma, cov)).abs().max().item()
    # A direction without variance has rate 1 exactly: what rounding can add to it must not count.
    slack = len(cov) * torch.finfo(cov.dtype).eps * torch.linalg.cond(gamma).item()
    return rate > 1 + slack


def marchenko_pastur_error(ratio: float, g: float, k: int) -> float:
    """Error per dimension after k steps for isotropic features, ∫ (1 − x/g)^{2k} dμ(x), in the limit d/m → ratio.

    μ is the Marchenko–Pastur law with an atom of mass 1 − 1/ratio at zero where ratio > 1. For Λ = Σ = I, g = 1 + (1 + d)/n.

    Parameters
    ----------
    ratio : float
        d/m, above 0.
    g : float
        Γ = g I, above 0.
    k : int
        Steps, at least 0.

    Returns
    -------
    float
        E‖ŵ_k − w*‖² / d.

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    ratio = _validate.positive("ratio", ratio)
    g = _validate.positive("g", g)
    _validate.at_least("k", k, 0)
    # x = 1 + c − 2√c cos θ turns the density into 2 sin²θ / (π x) dθ, smooth and periodic: the midpoint rule converges fast.
    count = 8192
    theta = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    x = 1 + ratio - 2 * math.sqrt(ratio) * torch.cos(theta)
    bulk = (2 * torch.sin(theta).square() / x * (1 - x / g) ** (2 * k)).sum().item() / count
    return bulk + max(0.0, 1 - 1 / ratio)
