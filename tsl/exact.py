"""Exact finite-context expectations, from the moments of the Wishart distribution.

At finite ``m`` the error after ``k`` steps is a polynomial in a Wishart matrix, and its mean is carried by rare prompts whose top
eigenvalue is large: a Monte Carlo average can be wrong by orders of magnitude and look calm. Polynomials of a Wishart matrix have
exact means. Two routes that share no code:

* :func:`isotropic_error`, for Γ = g I and Σ = I and any number of steps: zonal polynomials in rational arithmetic;
* :func:`expected_error`, for any Γ and Σ and up to ``MAX_STEPS`` steps: integration by parts on words of matrices.
"""

import math
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import comb

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.covariance import square_root

MAX_STEPS = 6

# A cyclic product tr(s_1 W s_2 W …): the tuple holds the spacers s_i, each a string of the letters C, D, S.
Word = tuple[str, ...]


@lru_cache(maxsize=256)
def _hook_like(p: int) -> list[tuple[int, int, int, Fraction]]:
    """Partitions (a, b, 1, …, 1) of ``p``, with the number of ones and with 2p θ_λ / j_λ, see `trace_moment`.

    No other zonal polynomial overlaps with the power sum tr Wᵖ.
    """
    shapes = [(p, 0, 0)]
    shapes += [(p - b - ones, b, ones) for b in range(1, p // 2 + 1) for ones in range(p - 2 * b + 1)]
    found = []
    for a, b, ones in shapes:
        rows = [a, *([b] if b else []), *([1] * ones)]
        columns = [len(rows), *([2] * (b - 1)), *([1] * (a - max(b, 1)))]
        theta, hooks = 1, 1
        for i, row in enumerate(rows):
            for j in range(row):
                arm, leg = row - j - 1, columns[j] - i - 1
                hooks *= (2 * arm + leg + 1) * (2 * arm + leg + 2)
                theta *= 2 * j - i if i or j else 1
        found.append((a, b, ones, Fraction(2 * p * theta, hooks)))
    return found


@lru_cache(maxsize=4096)
def trace_moment(d: int, m: int, p: int) -> Fraction:
    """Exact E tr Wᵖ for W = XᵀX, X an m × d matrix of independent standard normals.

    Notes
    -----
    With α = 2, the power sum expands in Jack (zonal) polynomials as p_p = Σ_λ (2p θ_λ / j_λ) J_λ,
    where θ_λ is the product of the contents 2(j−1) − (i−1) over all cells but the first and j_λ the product
    of both hook lengths (Macdonald, *Symmetric functions and Hall polynomials*, VI.10). Zonal polynomials are
    eigenfunctions of the Wishart average: E J_λ(W) = Π_cells (d + content)(m + content). Everything is rational;
    m < d is allowed.
    """
    d, m, p = (_validate.positive_int(name, value) for name, value in (("d", d), ("m", m), ("p", p)))
    # Π (d + content)(m + content) over the first cells of row one, of row two, and of the first column below them.
    first, second, below = (
        list(accumulate(contents, lambda product, c: product * (d + c) * (m + c), initial=1))
        for contents in (range(0, 2 * p, 2), range(-1, p - 1, 2), range(-2, -p, -1))
    )
    return sum(
        (weight * (first[a] * second[b] * below[ones]) for a, b, ones, weight in _hook_like(p)), Fraction(0)
    )


def isotropic_error(d: int, m: int, g: float, steps: int, noise: float = 0.0) -> Float[Tensor, " k"]:
    """Exact mean error E‖ŵ_k − w‖² of pseudo-Newton thinking when Γ = g I and Σ = I, for every step up to ``steps``.

    The mean is over prompts of m examples, weights w ~ N(0, I) and label noise of standard deviation σ; d at step 0 and infinite
    beyond 10³⁰⁸. An isotropic training task of length n has g = 1 + (1 + d)/n.

    Notes
    -----
    An eigenvalue x of Σ̂ contributes (1 − x/g)^{2k} + (σ²/m)(1 − (1 − x/g)^k)²/x. Both are polynomials in x
    whose terms alternate in sign and cancel badly in floating point, so the sum is rational and rounded once.
    However large g is, the mean diverges as k → ∞ at every finite m: eigenvalues of Σ̂ have no upper bound.
    """
    d, m = _validate.positive_int("d", d), _validate.positive_int("m", m)
    steps = _validate.at_least("steps", steps, 0)
    g, noise = _validate.positive("g", g), _validate.non_negative("noise", noise)
    scale = -1 / (m * Fraction(g))
    # power[p] = (−1)^p E tr (Σ̂/g)^p, the sign being that of the binomial expansions below
    power = [Fraction(d)] + [scale**p * trace_moment(d, m, p) for p in range(1, 2 * steps + 1)]
    variance = Fraction(noise) ** 2 / (m * Fraction(g))
    errors = []
    for k in range(steps + 1):
        bias = sum((comb(2 * k, p) * power[p] for p in range(2 * k + 1)), Fraction(0))
        # (1 − 2(1−u)^k + (1−u)^{2k})/u with u = x/g: the constant term cancels, so one power of u divides out
        spread = Fraction(0)
        for p in range(1, 2 * k + 1):
            spread += (2 * comb(k, p) - comb(2 * k, p)) * power[p - 1]
        errors.append(_float(bias + variance * spread))
    return torch.tensor(errors, dtype=torch.float64)


def _float(value: Fraction) -> float:
    """Nearest double; infinity beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _transpose(word: Word) -> Word:
    """Spacers of the transposed product: the letters and W are symmetric, so the order turns round."""
    return tuple(spacer[::-1] for spacer in reversed(word))


def _join(left: Word, right: Word) -> Word:
    """Spacers of the product of two open words: the last of one and the first of the other become one."""
    return (*left[:-1], left[-1] + right[0], *right[1:])


def _canonical(word: Word) -> Word:
    """One representative of a closed word: rotation and transposition leave its trace unchanged."""
    return min(w[i:] + w[:i] for w in (word, _transpose(word)) for i in range(len(word)))


class _WishartWords:
    """E Π_j tr(W c_1 W c_2 … W c_N)_j for W ~ Wishart_d(I, m), by Stein's identity, each product met once.

    With W = XᵀX and F an open word c_1 W … W c_N, integrating one X by parts gives E tr(WF)·R = m E tr(F)·R +
    Σ_{F = PWQ} E[tr(PᵀWQ) + tr(PW) tr(Q)]·R + E tr(W(G + Gᵀ)Fᵀ)·…, the last term for every W of every other
    trace tr(WG) in R.
    """

    def __init__(self, letters: dict[str, Tensor], m: int) -> None:
        self.letters, self.m = letters, m
        self.traces: dict[str, float] = {}
        self.means: dict[tuple[Word, ...], float] = {(): 1.0}

    def mean(self, *words: Word) -> float:
        """Mean of a product of traces, every word closed and with at least one W."""
        key = tuple(sorted(_canonical(word) for word in words))
        if key not in self.means:
            self.means[key] = self._by_parts(key[0], key[1:])
        return self.means[key]

    def _open(self, word: Word, *others: Word) -> float:
        """Mean of tr(c_1 W … W c_N) times other traces: one W fewer than spacers."""
        if len(word) > 1:
            return self.mean((*word[1:-1], word[-1] + word[0]), *others)
        spacer = word[0]
        if spacer not in self.traces:
            product = torch.eye(len(self.letters["C"])).to(self.letters["C"])
            for letter in spacer:
                product = product @ self.letters[letter]
            self.traces[spacer] = float(product.trace())
        return self.traces[spacer] * self.mean(*others)

    def _by_parts(self, word: Word, others: tuple[Word, ...]) -> float:
        total = self.m * self._open(word, *others)
        for i in range(1, len(word)):
            head, tail = word[:i], word[i:]  # F = P W Q
            total += self.mean(_join(tail, _transpose(head)), *others)
            total += self._open(tail, head, *others)
        for j, other in enumerate(others):
            rest = others[:j] + others[j + 1 :]
            for i in range(len(other)):
                opened = other[i:] + other[:i]
                for g in (opened, _transpose(opened)):
                    total += self.mean(_join(g, _transpose(word)), *rest)
        return total


def expected_error(
    gamma: Float[Tensor, "d d"], cov: Float[Tensor, "d d"], m: int, steps: int
) -> Float[Tensor, " k"]:
    """Exact mean error E‖ŵ_k − w‖² = E‖(I − Γ⁻¹Σ̂)^k‖_F² for w ~ N(0, I), noiseless, with three digits at least.

    Γ is positive definite, Σ the covariance of the test features, m the examples in a test prompt. An entry for every step up to
    ``steps``, which is at most ``MAX_STEPS``.

    Raises
    ------
    ValueError
        If the terms of a step cancel so far that fewer than three digits are left, as they do where the error is very small.

    Notes
    -----
    The squared norm is Σ_ij (−1)^{i+j} C(k,i) C(k,j) m^{−i−j} tr[(W'A)^i (AW')^j] with A = Γ⁻¹
    and W' = Σ^½ W Σ^½. Moving the roots onto the spacers leaves W white and three letters: C = Σ^½AΣ^½, D =
    Σ^½A²Σ^½ where the two A meet, and S = Σ where the two W' meet.
    """
    gamma = _validate.covariance("gamma", gamma).double()
    cov = _validate.covariance("cov", cov).double()
    root, m = square_root(cov), _validate.positive_int("m", m)
    _validate.same_dimension(gamma=gamma, cov=cov)
    if _validate.at_least("steps", steps, 0) > MAX_STEPS:
        raise ValueError(f"steps must be <= {MAX_STEPS}, got {steps}: the number of words explodes beyond it")
    d = len(cov)
    lowest = torch.linalg.eigvalsh(gamma)[0].item()
    if lowest <= 0:
        raise ValueError(f"gamma must be positive definite, got a smallest eigenvalue of {lowest:.3g}")
    inverse = torch.linalg.inv(_validate.invertible("gamma", gamma))
    half = root @ inverse
    words = _WishartWords({"C": half @ root, "D": half @ half.mT, "S": cov}, m)

    def moment(i: int, j: int) -> float:
        if i + j == 0:
            return float(d)
        if min(i, j) == 0:  # (AW')^j alone: only C between the W's
            return words.mean(("C",) * (i + j)) / m ** (i + j)
        return words.mean(("C",) * (i - 1) + ("D",) + ("C",) * (j - 1) + ("S",)) / m ** (i + j)

    errors = []
    for k in range(steps + 1):
        terms = [
            (-1) ** (i + j) * comb(k, i) * comb(k, j) * moment(i, j)
            for i in range(k + 1)
            for j in range(k + 1)
        ]
        error, lost = math.fsum(terms), 4 * torch.finfo(torch.float64).eps * math.fsum(map(abs, terms))
        if error < 1e3 * lost:
            raise ValueError(
                f"steps must be < {k} for these gamma, cov and m={m}: the terms of step {k} cancel, and what is left "
                f"({error:.3g}) is below what rounding adds ({lost:.1g}); see theory.cot_error for such long prompts"
            )
        errors.append(error)
    return torch.tensor(errors, dtype=torch.float64)
