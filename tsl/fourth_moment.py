"""The theory without the Gaussian assumption: second and fourth moments of the features say it all.

Let x_1, ..., x_n be independent draws of any law with finite fourth moments, centred or not, and put

    Λ = E[x xᵀ],    F(S) = E[x xᵀ S x xᵀ],    K = F(I) = E[‖x‖² x xᵀ].

In Σ̂ = (1/n) Σ_i x_i x_iᵀ the n pairs i = j and the n(n − 1) pairs i ≠ j contribute differently to Σ̂SΣ̂,
hence

    E[Σ̂ S Σ̂] = (1 − 1/n) ΛSΛ + (1/n) F(S),    E[Σ̂²] = (1 − 1/n) Λ² + (1/n) K.        (1)

The mean of x appears nowhere: Λ is the second moment about zero. Gaussian features of mean zero have K = 2Λ²
+ tr(Λ) Λ, and (1) is then the formula of the paper. The optimum of the one-step loss E‖w − AΣ̂w‖² over A
solves A E[Σ̂²] = E[Σ̂], so training finds A = Γ⁻¹,

    Γ = E[Σ̂²] E[Σ̂]⁻¹ = (1 − 1/n) Λ + (1/n) KΛ⁻¹.        (2)

Γ is symmetric only where K and Λ commute, as they do for Gaussian and elliptical laws but not for real data.

With B = Λ⁻¹KΛ⁻¹, (2) reads Γ = Λ(I + (B − I)/n). Let h_1, ..., h_d be the eigenvalues of B − I; none is
negative, since K ≥ Λ² for every law. On prompts of m examples from the training law the direct error depends
on them alone:

    E‖ŵ − w*‖² = Σ_i h_i (h_i + n²/m) / (n + h_i)²,    which is Σ_i h_i / (n + h_i) when m = n.        (3)

For Gaussian features h_i = 1 + tr(Λ)/λ_i, so max_i h_i − 1 is the paper's hardness. It keeps its role for
every law: the bounds of Theorem 3.3 and Corollary 3.5 hold word for word with max_i h_i − 1 in place of
tr(Λ)/λ_min. All of this is our extension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.covariance import hardness as gaussian_hardness


@dataclass(frozen=True)
class FeatureLaw:
    """The moments of a law of features that the theory uses.

    Parameters
    ----------
    second : Tensor of shape (d, d)
        Λ = E[x xᵀ], about zero.
    fourth : callable
        The linear map S ↦ E[x xᵀ S x xᵀ] on (d, d) tensors. A map, not the d⁴ numbers behind it.
    """

    second: Float[Tensor, "d d"]
    fourth: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        _validate.covariance("second", self.second)


def gaussian(cov: Float[Tensor, "d d"]) -> FeatureLaw:
    """Law N(0, cov): E[x xᵀ S x xᵀ] = ΛSΛ + ΛSᵀΛ + tr(SΛ) Λ (Isserlis).

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance.

    Returns
    -------
    FeatureLaw

    Raises
    ------
    ValueError
        If `cov` is not a covariance.
    """
    return elliptical(cov, 1.0)


def elliptical(cov: Float[Tensor, "d d"], kappa: float) -> FeatureLaw:
    """Law of x = √u z with z ~ N(0, cov) and an independent scale u ≥ 0, E u = 1, E u² = kappa.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance.
    kappa : float
        E u², at least 1; 1 is Gaussian. Student's t with ν > 4 degrees of freedom has (ν − 2)/(ν − 4).

    Returns
    -------
    FeatureLaw

    Raises
    ------
    ValueError
        If `cov` is not a covariance or `kappa` < 1.
    """
    _validate.covariance("cov", cov)
    if _validate.positive("kappa", kappa) < 1:
        raise ValueError(f"kappa must be at least 1, since E u² >= (E u)², got {kappa!r}")

    def fourth(middle: Tensor) -> Tensor:
        return kappa * (cov @ (middle + middle.mT) @ cov + torch.trace(middle @ cov) * cov)

    return FeatureLaw(cov, fourth)


def empirical(x: Float[Tensor, "N d"]) -> FeatureLaw:
    """Law that draws the rows of a feature matrix with equal probability, with replacement.

    The moments are exact averages over the N rows: nothing is estimated, because the rows *are* the
    population.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Feature matrix, a row per observation; centred or not.

    Returns
    -------
    FeatureLaw

    Raises
    ------
    ValueError
        If `x` is not a finite (N, d) tensor.
    """
    if _validate.finite("x", x).dim() != 2 or x.numel() == 0:
        raise ValueError(f"x must be a feature matrix of shape (N, d), got shape {tuple(x.shape)}")
    count = x.shape[0]

    def fourth(middle: Tensor) -> Tensor:
        return (x * ((x @ middle) * x).sum(1, keepdim=True)).mT @ x / count

    return FeatureLaw(x.mT @ x / count, fourth)


def mean_square(law: FeatureLaw, n: int, middle: Tensor | None = None) -> Float[Tensor, "d d"]:
    """E[Σ̂ S Σ̂] = (1 − 1/n) ΛSΛ + (1/n) E[x xᵀ S x xᵀ] for n independent features; equation (1).

    Parameters
    ----------
    law : FeatureLaw
        Law of the features.
    n : int
        Examples in a prompt, at least 1.
    middle : Tensor of shape (d, d), optional
        S; by default the identity, which gives E[Σ̂²].

    Returns
    -------
    Tensor of shape (d, d)

    Raises
    ------
    ValueError
        If `n` < 1 or the shapes disagree.
    """
    _validate.positive_int("n", n)
    middle = _identity(law) if middle is None else _validate.square("middle", middle)
    _validate.same_dimension(middle=middle, law=law.second)
    return (1 - 1 / n) * law.second @ middle @ law.second + law.fourth(middle) / n


def gamma(law: FeatureLaw, n: int, noise: float = 0.0) -> Float[Tensor, "d d"]:
    """Γ = (1 − 1/n) Λ + (1/n)(KΛ⁻¹ + σ² I), the inverse of the trained preconditioner; equation (2).

    Parameters
    ----------
    law : FeatureLaw
        Law of the training features; its second moment must be non-singular (see `tsl.features.compress`).
    n : int
        Examples in a training prompt, at least 1.
    noise : float
        Standard deviation σ of the label noise in training.

    Returns
    -------
    Tensor of shape (d, d)
        In general not symmetric.

    Raises
    ------
    ValueError
        If `n` < 1, `noise` < 0 or the second moment is singular.
    """
    return gamma_mixture([law], [1.0], [n], noise)


def gamma_mixture(
    laws: Sequence[FeatureLaw], probs: Sequence[float] | Tensor, lengths: Sequence[int], noise: float = 0.0
) -> Float[Tensor, "d d"]:
    """Γ = E[Σ̂²] E[Σ̂]⁻¹ when a prompt comes from law ℓ, with n_ℓ examples, with probability π_ℓ.

    Parameters
    ----------
    laws : sequence of FeatureLaw
        Law of the features of each task.
    probs : sequence of floats
        Probability π_ℓ of each task.
    lengths : sequence of ints
        Prompt length n_ℓ of each task.
    noise : float
        Standard deviation σ of the label noise in training.

    Returns
    -------
    Tensor of shape (d, d)

    Raises
    ------
    ValueError
        If the arguments disagree in length, an entry is not allowed or E[Σ̂] is singular.
    """
    if len(laws) < 1 or len(lengths) != len(laws):
        counts = f"{len(laws)} and {len(lengths)}"
        raise ValueError(f"laws and lengths must name the same tasks, at least one, got {counts}")
    weights = _validate.probabilities("probs", probs, len(laws)).tolist()
    variance = _validate.non_negative("noise", noise) ** 2
    first, second = torch.zeros_like(laws[0].second), torch.zeros_like(laws[0].second)
    for law, weight, n in zip(laws, weights, lengths, strict=True):
        first = first + weight * law.second
        second = second + weight * (mean_square(law, n) + variance / n * law.second)
    return torch.linalg.solve(_non_singular("laws", first), second, left=False)


def hardness_spectrum(law: FeatureLaw) -> Float[Tensor, " d"]:
    """The numbers h_i of equation (3): eigenvalues of Λ⁻¹KΛ⁻¹ − I, in ascending order.

    Parameters
    ----------
    law : FeatureLaw
        Law of the features; its second moment must be non-singular.

    Returns
    -------
    Tensor of shape (d,)
        Non-negative; 1 + tr(Λ)/λ_i for Gaussian features.

    Raises
    ------
    ValueError
        If the second moment is singular.
    """
    inverse = torch.linalg.inv(_non_singular("law.second", law.second))
    ratio = inverse @ law.fourth(_identity(law)) @ inverse
    # K ≥ Λ² for every law, so a negative value is rounding.
    return (torch.linalg.eigvalsh((ratio + ratio.mT) / 2) - 1).clamp(min=0)


def hardness(law: FeatureLaw) -> float:
    """Hardness of any law, max_i h_i − 1: tr(Λ)/λ_min(Λ) when the features are Gaussian.

    It is the largest E[‖x‖² ⟨u, Λ⁻¹x⟩²] over unit directions u, less 2: large where a direction is weak, or
    where it is active only in rare rows that are long.

    Parameters
    ----------
    law : FeatureLaw
        Law of the features; its second moment must be non-singular.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the second moment is singular.
    """
    return hardness_spectrum(law)[-1].item() - 1


def direct_error(gamma: Float[Tensor, "d d"], law: FeatureLaw, m: int) -> float:
    """Exact error of one step on prompts of m features of any law: d − 2 tr(AΣ) + tr(A E[Σ̂²] Aᵀ), A = Γ⁻¹.

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model, of whatever law it was trained on.
    law : FeatureLaw
        Law of the test features; its second moment Σ may be singular.
    m : int
        Examples in a test prompt, at least 1.

    Returns
    -------
    float
        E‖ŵ_1 − w*‖² over prompts and w* ~ N(0, I).

    Raises
    ------
    ValueError
        If `m` < 1 or the shapes disagree.
    """
    return cot_error(gamma, law, m, 1)[1].item()


def matched_direct_error(law: FeatureLaw, n: int, m: int) -> float:
    """Direct error when training and test share a law, from its hardness spectrum alone; equation (3).

    Parameters
    ----------
    law : FeatureLaw
        Law of the features; its second moment must be non-singular.
    n, m : int
        Examples in a training and in a test prompt, at least 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a length is below 1 or the second moment is singular.
    """
    _validate.positive_int("n", n)
    _validate.positive_int("m", m)
    h = hardness_spectrum(law)
    return (h * (h + n**2 / m) / (n + h).square()).sum().item()


def cot_error_bound(law: FeatureLaw, n: int, k: int) -> float:
    """Scaling law for any law of features, d (1 + n/(1 + Hard))^(−2k) with the hardness of that law.

    It bounds the error after k steps on unlimited test prompts (m → ∞) from the training law.

    Parameters
    ----------
    law : FeatureLaw
        Law of the training and test features.
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
        If `n` < 1, `k` < 0 or the second moment is singular.
    """
    _validate.positive_int("n", n)
    _validate.at_least("k", k, 0)
    return law.second.shape[0] * (1 + n / (1 + hardness(law))) ** (-2 * k)


def cot_error(gamma: Float[Tensor, "d d"], law: FeatureLaw, m: int, steps: int) -> Float[Tensor, " k"]:
    """Error after 0, ..., `steps` steps: exact at steps 0 and 1, to first order in 1/m beyond.

    With T = I − AΣ and E = Σ̂ − Σ, expand ‖(T − AE)^k‖_F² to second order in E and average with m E[E S E] =
    F(S) − ΣSΣ:

        ‖T^k‖² + Σ_{i,j<k} ⟨Tʲ A, Tⁱ A E[E R_i R_jᵀ E]⟩ + 2 Σ_{i+j+l=k−2} ⟨T^k, Tⁱ A E[E Tʲ A E] Tˡ⟩,

    where R_i = T^{k−1−i} and ⟨P, Q⟩ = tr(PᵀQ).

    The terms left out are of order 1/m² and use moments of order six and more: they are what makes error grow
    again in long chains.

    Parameters
    ----------
    gamma : Tensor of shape (d, d)
        Γ of the trained model, of whatever law it was trained on.
    law : FeatureLaw
        Law of the test features.
    m : int
        Examples in a test prompt, at least 1.
    steps : int
        Number of steps k, at least 0. The cost grows as k² evaluations of the fourth moment for each k.

    Returns
    -------
    Tensor of shape (steps + 1,)
        E‖ŵ_k − w*‖² over prompts and w* ~ N(0, I).

    Raises
    ------
    ValueError
        If `m` < 1, `steps` < 0, Γ is singular or the shapes disagree.
    """
    _validate.at_least("steps", steps, 0)
    _validate.positive_int("m", m)
    _validate.invertible("gamma", gamma)
    _validate.same_dimension(gamma=gamma, law=law.second)
    inverse = torch.linalg.inv(gamma)
    powers = [_identity(law)]
    for _ in range(steps):
        powers.append((_identity(law) - inverse @ law.second) @ powers[-1])

    def noise(middle: Tensor) -> Tensor:
        return mean_square(law, m, middle) - law.second @ middle @ law.second

    # Neither family of averages depends on k: the first is indexed by two powers of T, the second by one.
    outer = {(a, b): noise(powers[a] @ powers[b].mT) for a in range(steps) for b in range(a + 1)}
    inner = [noise(powers[j] @ inverse) for j in range(steps - 1)]
    errors = []
    for k in range(steps + 1):
        total = powers[k].square().sum()
        for i in range(k):
            for j in range(k):
                a, b = k - 1 - i, k - 1 - j
                average = outer[a, b] if a >= b else outer[b, a].mT
                total = total + torch.trace(powers[i] @ inverse @ average @ inverse.mT @ powers[j].mT)
        for j in range(k - 1):
            core = inverse @ inner[j]
            for i in range(k - 1 - j):
                total = total + 2 * torch.trace(powers[i] @ core @ powers[k - 2 - i - j] @ powers[k].mT)
        errors.append(total)
    return torch.stack(errors)


def _identity(law: FeatureLaw) -> Tensor:
    return torch.eye(law.second.shape[0], dtype=law.second.dtype, device=law.second.device)


def _non_singular(name: str, second: Tensor) -> Tensor:
    if math.isinf(gaussian_hardness(second)):
        raise ValueError(f"{name} must have a non-singular second moment, got a singular one")
    return second
