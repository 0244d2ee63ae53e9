"""Predictions: what training learns, what one step costs, what k steps give, and when thinking stops helping.

Everything here is a closed formula or a one-dimensional integral; nothing is sampled. Errors are E‖ŵ − w*‖²
with w* ~ N(0, I_d), so that an answer of zero costs d, unless a docstring says otherwise. Throughout, ``law`` is a law or a
covariance of features, of training and test where there is one only; ``gamma`` is Γ of the trained model, whatever it was
trained on; ``n`` and ``m`` are the examples of a training and of a test prompt, ``k`` steps of thinking, ``noise`` is σ.

A feature law (`tsl.laws`; a bare covariance means the Gaussian one) enters by its second and fourth moments,

    Λ = E[x xᵀ],    F(S) = E[x xᵀ S x xᵀ],    K = F(I) = E[‖x‖² x xᵀ].

In Σ̂ = (1/n) Σ_i x_i x_iᵀ the n pairs i = j and the n(n − 1) pairs i ≠ j contribute differently to Σ̂SΣ̂, hence

    E[Σ̂ S Σ̂] = (1 − 1/n) ΛSΛ + (1/n) F(S),    E[Σ̂²] = (1 − 1/n) Λ² + (1/n) K.        (1)

The mean of x appears nowhere. Gaussian features of mean zero have K = 2Λ² + tr(Λ) Λ, and (1) is then the formula of
arXiv 2510.03605. The optimum of the one-step loss E‖w − AΣ̂w‖² over A solves A E[Σ̂²] = E[Σ̂], so training finds A = Γ⁻¹,

    Γ = E[Σ̂²] E[Σ̂]⁻¹ = (1 − 1/n) Λ + (1/n) KΛ⁻¹,        (2)

symmetric only where K and Λ commute, as they do for Gaussian and elliptical laws but not for real data. With
Γ = Λ(I + H/n), H = Λ⁻¹KΛ⁻¹ − I, let h_1, ..., h_d be the eigenvalues of H; none is negative, since K ≥ Λ² for every law.
On prompts of m examples from the training law the direct error depends on them alone:

    E‖ŵ − w*‖² = Σ_i h_i (h_i + n²/m) / (n + h_i)²,    which is Σ_i h_i / (n + h_i) when m = n.        (3)

For Gaussian features h_i = 1 + tr(Λ)/λ_i, so max_i h_i − 1 is the paper's hardness. It keeps its role for every law: the
bounds of Theorem 3.3 and Corollary 3.5 hold word for word with max_i h_i − 1 in place of tr(Λ)/λ_min (our extension).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from tsl import _validate, laws
from tsl.laws import Law

#: A law of features, or the covariance of a Gaussian one.
Features = Law | Float[Tensor, "d d"]


def second_moment(law: Features, n: int, middle: Tensor | None = None) -> Float[Tensor, "d d"]:
    """E[Σ̂ S Σ̂] for n independent features, equation (1); E[Σ̂²] by default.

    Parameters
    ----------
    middle : Tensor of shape (d, d), optional
        S, by default the identity.
    """
    law, n = laws.of("law", law), _validate.positive_int("n", n)
    middle = _identity(law.second) if middle is None else _validate.square("middle", middle)
    _validate.same_dimension(middle=middle, law=law.second)
    return (1 - 1 / n) * law.second @ middle @ law.second + law.fourth(middle) / n


def gamma(law: Features, n: int, noise: float = 0.0) -> Float[Tensor, "d d"]:
    """Γ of Theorem 3.1, equation (2): training fixes the preconditioner Γ⁻¹. Gaussian: (1 + 1/n)Λ + ((tr Λ + σ²)/n) I.

    The label noise σ² is our extension; the paper has σ = 0.

    Parameters
    ----------
    law : Law, or Tensor of shape (d, d)
        Training features. A law that is not elliptical must have a non-singular Λ (see `tsl.lab.datasets.compress`).
    """
    law = laws.of("law", law)
    if law.kappa is None or math.isinf(law.kappa):
        return gamma_mixture([law], [1.0], [n], noise)
    n = _validate.positive_int("n", n)
    variance = _validate.non_negative("noise", noise) ** 2
    scale = 1 - 1 / n + 2 * law.kappa / n
    return scale * law.second + (law.kappa * torch.trace(law.second) + variance) / n * _identity(law.second)


def gamma_mixture(
    tasks: Sequence[Features] | Float[Tensor, "T d d"],
    probs: Sequence[float] | Tensor,
    lengths: Sequence[int],
    noise: float = 0.0,
) -> Float[Tensor, "d d"]:
    """Γ = E[Σ̂²] E[Σ̂]⁻¹ of training on several tasks (our derivation, from the normal equations of the loss).

    Parameters
    ----------
    tasks : sequence of Law or Tensors of shape (d, d), or Tensor of shape (T, d, d)
        Features of each task.
    probs : sequence of T floats
        Probability π_ℓ of each task.
    lengths : sequence of T ints
        Prompt length n_ℓ of each task.
    noise : float
        Standard deviation σ of the label noise in training.

    Returns
    -------
    Tensor of shape (d, d)
        Not symmetric unless the Λ_ℓ commute.

    Raises
    ------
    ValueError
        If E[Σ̂] is singular: no task covers some direction.
    """
    found, weights, counts = laws.mixture(tasks, probs, lengths)
    variance = _validate.non_negative("noise", noise) ** 2
    first, second = torch.zeros_like(found[0].second), torch.zeros_like(found[0].second)
    for p, law, n in zip(weights, found, counts, strict=True):
        first = first + p * law.second
        second = second + p * (second_moment(law, n) + variance / n * law.second)
    return torch.linalg.solve(_non_singular("tasks", first), second, left=False)


def hardness_spectrum(law: Features) -> Float[Tensor, " d"]:
    """The numbers h_i of equation (3), in ascending order; ``hardness_spectrum(law)[-1] - 1`` is the hardness of the law.

    The hardness is the largest E[‖x‖² ⟨u, Λ⁻¹x⟩²] over unit directions u, less 2: large where a direction is weak, or where
    it is active only in rare rows that are long.

    Parameters
    ----------
    law : Law, or Tensor of shape (d, d)
        Features. A law that is not elliptical must have a non-singular Λ.

    Returns
    -------
    Tensor of shape (d,)
        Non-negative; 1 + tr(Λ)/λ_i for Gaussian features, infinite where λ_i is zero up to rounding.
    """
    law = laws.of("law", law)
    if law.hard is not None:
        return law.hard().clamp(min=0)  # K ≥ Λ² for every law, so a negative value is rounding
    inverse = torch.linalg.inv(_non_singular("law", law.second))
    ratio = inverse @ law.fourth(_identity(law.second)) @ inverse
    return (torch.linalg.eigvalsh((ratio + ratio.mT) / 2) - 1).clamp(min=0)


def direct_error(gamma: Float[Tensor, "d d"], law: Features, m: int, noise: float = 0.0) -> float:
    """Exact error of the direct answer, one step from ŵ_0 = 0, on prompts of m examples.

    ‖I − AΛ‖_F² + (1/m) tr[A (K − Λ² + σ²Λ) Aᵀ] with A = Γ⁻¹; Gaussian, without noise, the formula of Proposition 5.1 of
    arXiv 2603.01293.

    Parameters
    ----------
    law : Law, or Tensor of shape (d, d)
        Test features; Λ may be singular.
    """
    law, gamma = laws.of("law", law), _validate.invertible("gamma", gamma)
    m, variance = _validate.positive_int("m", m), _validate.non_negative("noise", noise) ** 2
    step = _pair(gamma, law=law)
    eye = _identity(step)
    spread = law.fourth(eye) - law.second @ law.second + variance * law.second
    answer = torch.linalg.solve(gamma, torch.linalg.solve(gamma, spread).mT)
    return ((eye - step).square().sum() + torch.trace(answer) / m).item()


def matched_direct_error(law: Features, n: int, m: int) -> float:
    """Direct error when training and test share a law, from its hardness spectrum alone: equation (3)."""
    n, m = _validate.positive_int("n", n), _validate.positive_int("m", m)
    h = hardness_spectrum(law)
    seen = n / (n + h)  # 0 where h is infinite
    return ((1 - seen) * (1 - seen + seen * n / m)).sum().item()


def direct_error_bound(law: Features, n: int, m: int) -> float:
    """Bound on the direct error when Σ = Λ, (d/n²)(1 + Hard)² + (d/m)(1 + Hard) (Theorem 3.3 of arXiv 2510.03605)."""
    n, m = _validate.positive_int("n", n), _validate.positive_int("m", m)
    hard = hardness_spectrum(law)
    d, most = len(hard), hard[-1].item()
    return d / n**2 * most**2 + d / m * most


def cot_error_limit(gamma: Float[Tensor, "d d"], law: Features, k: int) -> float:
    """Error after k steps with unlimited test context (m → ∞, so Σ̂ = Σ): ‖(I − Γ⁻¹Σ)^k‖_F²."""
    _validate.at_least("k", k, 0)
    step = _pair(gamma, law=law)
    error = torch.linalg.matrix_power(_identity(step) - step, k).square().sum().item()
    return math.inf if math.isnan(error) else error  # what has overflown is infinite, not unknown


def overthinking_trace(gamma: Float[Tensor, "d d"], law: Features, k: int) -> float:
    """What the paper says governs thinking off the training spectrum: tr((I − Γ^{−½}ΣΓ^{−½})^{2k}), Γ positive definite.

    Equal to `cot_error_limit` where Γ and Σ commute. Where they do not it is smaller, by a factor of at most ½(κ + 1/κ), κ the
    condition number of Γ (ours).
    """
    _validate.at_least("k", k, 0)
    rates = 1 - torch.linalg.eigvals(_pair(gamma, law=law)).real
    return (rates ** (2 * k)).sum().item()


def cot_error_bound(law: Features, n: int, k: int) -> float:
    """Leading term of the scaling law, d (1 + n / (1 + Hard))^(−2k), for Σ = Λ (Corollary 3.5 of arXiv 2510.03605).

    It bounds `cot_error_limit`, with equality for isotropic Gaussian features. At finite m it is not a bound.
    """
    n, k = _validate.positive_int("n", n), _validate.at_least("k", k, 0)
    hard = hardness_spectrum(law)
    return len(hard) * math.exp(-2 * k * math.log1p(n / hard[-1].item()))


def required_context(law: Features, k: int, eps: float) -> float:
    """Training examples that k steps need to reach an error eps: n ≥ (1 + Hard)((d/eps)^(1/2k) − 1), from Corollary 3.5.

    Returns
    -------
    float
        Not rounded; 0 where eps ≥ d, which the answer ŵ = 0 already reaches.
    """
    k, eps = _validate.positive_int("k", k), _validate.positive("eps", eps)
    hard = hardness_spectrum(law)
    if eps >= len(hard):
        return 0.0
    return hard[-1].item() * math.expm1((math.log(len(hard)) - math.log(eps)) / (2 * k))


def cot_error(gamma: Float[Tensor, "d d"], law: Features, m: int, steps: int) -> Float[Tensor, " k"]:
    """Error after 0, ..., `steps` steps: exact at steps 0 and 1, to first order in 1/m beyond.

    With T = I − AΣ and E = Σ̂ − Σ, expand ‖(T − AE)^k‖_F² to second order in E and average with m E[E S E] =
    F(S) − ΣSΣ:

        ‖T^k‖² + Σ_{i,j<k} ⟨Tʲ A, Tⁱ A E[E R_i R_jᵀ E]⟩ + 2 Σ_{i+j+l=k−2} ⟨T^k, Tⁱ A E[E Tʲ A E] Tˡ⟩,

    where R_i = T^{k−1−i} and ⟨P, Q⟩ = tr(PᵀQ). The terms left out are of order 1/m² and use moments of order six and more:
    they are what makes error grow again in long chains. For Gaussian features `tsl.exact` has no such limit.

    Parameters
    ----------
    steps : int
        Number of steps k, at least 0. The cost grows as k² evaluations of the fourth moment for each k.
    """
    law, gamma = laws.of("law", law), _validate.invertible("gamma", gamma)
    m, steps = _validate.positive_int("m", m), _validate.at_least("steps", steps, 0)
    step = _pair(gamma, law=law)
    inverse = torch.linalg.inv(gamma)
    powers = [_identity(step)]
    for _ in range(steps):
        powers.append((_identity(step) - step) @ powers[-1])
    # What overflows is infinite, and so is all that follows.
    reach = next((k - 1 for k, power in enumerate(powers) if not power.square().sum().isfinite()), steps)
    lost, steps = steps - reach, reach

    def noise(middle: Tensor) -> Tensor:
        return second_moment(law, m, middle) - law.second @ middle @ law.second

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
    curve = torch.cat([torch.stack(errors), torch.full((lost,), torch.inf).to(step)])
    return torch.where(curve.isnan(), torch.inf, curve)


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
    """
    gamma = _validate.covariance("gamma", gamma).double()
    m = _validate.positive_int("m", m)
    _pair(gamma, cov=cov)
    t = _rates(gamma, _validate.covariance("cov", cov).double())
    top = t.max().item()
    if top == 0:
        return 0.0
    t = t / top

    def slope(u: float) -> float:  # of the objective in u = −s t_max in (0, 1), where it is convex
        return ((t / (1 - t * u)).square().sum() / m).item() - 1 / u**2

    u = optimize.brentq(slope, 1e-12, 1 - 1e-15, xtol=1e-15)
    return top * (1 / u + ((t / (1 - t * u)).sum() / m).item())


def overthinks(gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], m: int | None = None) -> bool:
    """Whether the error grows without limit when thinking goes on: whether 1 − λ(Γ⁻¹Σ̂) leaves [−1, 1].

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
    """
    if m is not None:
        return spectrum_edge(gamma, cov, m) > 2
    step = _pair(gamma, cov=cov)
    cov, gamma = _validate.covariance("cov", cov), _validate.invertible("gamma", gamma)
    if torch.equal(gamma, gamma.mT) and torch.linalg.eigvalsh(gamma)[0] > 0:
        t = _rates(gamma, cov.double()) + 0j
    else:
        t = torch.linalg.eigvals(step)
    # A direction without variance has rate 1 exactly: what rounding can add to it must not count.
    unseen = len(cov) * torch.finfo(cov.dtype).eps * torch.linalg.cond(gamma)
    return bool((((1 - t).abs() > 1 + 1e-12) & (t.abs() > unseen)).any())


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
    """
    ratio = _validate.positive("ratio", ratio)
    g = _validate.positive("g", g)
    k = _validate.at_least("k", k, 0)
    # x = 1 + c − 2√c cos θ turns the density into 2 sin²θ / (π x) dθ, smooth and periodic: the midpoint rule converges fast.
    count = 8192
    theta = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    x = 1 + ratio - 2 * math.sqrt(ratio) * torch.cos(theta)
    density, left = 2 * torch.sin(theta).square() / x, (1 - x / g) ** (2 * k)
    if abs(math.log(ratio)) > 0.02:
        bulk = (density * left).sum().item() / count
    else:  # the density is too steep for the rule near x = 0, but its mass is known, and left − 1 vanishes there
        bulk = min(1.0, 1 / ratio) + (density * (left - 1)).sum().item() / count
    return bulk + max(0.0, 1 - 1 / ratio)


def depth_law(ratio: float, g: float, k: int) -> float:
    """Leading term of `marchenko_pastur_error` after many steps, from the edges of the spectrum alone (our derivation).

    Parameters
    ----------
    ratio, g, k : float, float, int
        c = d/m, Γ = g I and at least one step, as there.

    Returns
    -------
    float
        E‖ŵ_k − w*‖² / d, with a relative error of order 1/k where k λ₋ is large against g, or c = 1.

    Notes
    -----
    At a distance s inside of an edge λ± = (1 ± √c)² the density is c^(−3/4) √s / (πλ±), and (1 − x/g)^{2k} falls as
    (1 − λ/g)^{2k} exp(−2ks/abs(g − λ)), so that an edge which is the worst eigenvalue on its side of g contributes

        c^(−3/4) Γ(3/2) / (πλ) · (abs(g − λ)/2k)^{3/2} · (1 − λ/g)^{2k}.

    At c = 1 the lower edge is 0 and the density there 1/(π√s), which gives √(g/2πk): a power of k, and no more than that.
    For c > 1 the unseen share 1 − 1/c stays. Past λ₊ = 2g the upper edge grows.
    """
    ratio, g = _validate.positive("ratio", ratio), _validate.positive("g", g)
    _validate.positive_int("k", k)
    root = math.sqrt(ratio)
    low, high = (1 - root) ** 2, (1 + root) ** 2
    total = max(0.0, 1 - 1 / ratio)
    if ratio == 1:
        total += math.sqrt(g / (2 * math.pi * k))
    for edge, decides in ((low, 0 < low < g), (high, high > g)):
        if decides:
            weight = ratio**-0.75 * math.gamma(1.5) / (math.pi * edge)
            rate = torch.tensor(1 - edge / g, dtype=torch.float64)  # its power may overflow, to infinity
            total += weight * (abs(g - edge) / (2 * k)) ** 1.5 * (rate ** (2 * k)).item()
    return total


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _rates(gamma: Tensor, cov: Tensor) -> Float[Tensor, " d"]:
    """Eigenvalues of Γ⁻¹Σ for positive definite Γ, real as those of L⁻¹ΣL⁻ᵀ with LLᵀ = Γ; none is below zero."""
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(gamma), cov, upper=False)
    similar = torch.linalg.solve_triangular(torch.linalg.cholesky(gamma), half.mT, upper=False)
    return torch.linalg.eigvalsh((similar + similar.mT) / 2).clamp(min=0)


def _pair(gamma: Tensor, **features: Features) -> Tensor:
    """Γ⁻¹Σ, after checking both; the features come under the name by which the caller knows them."""
    gamma = _validate.invertible("gamma", gamma)
    ((name, value),) = features.items()
    second = laws.of(name, value).second
    _validate.same_dimension(gamma=gamma, **{name: second})
    return torch.linalg.solve(gamma, second)


def _non_singular(name: str, second: Tensor) -> Tensor:
    """Return a second moment if it covers every direction."""
    unit = second.diagonal().clamp(min=0).sqrt()
    unit = torch.where(unit > 0, unit, 1)  # features in unlike units do not look singular
    spectrum = torch.linalg.eigvalsh(second / torch.outer(unit, unit))
    if spectrum[0] <= len(second) * torch.finfo(second.dtype).eps * spectrum[-1]:
        raise ValueError(f"{name} must cover every direction, got a singular second moment")
    return second
