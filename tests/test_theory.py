"""Formulas against Monte Carlo (|z| <= 4.5, fixed seeds) and against derivations that share no code with them."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from tsl import cot, covariance, errors, exact, lsa, prompts, theory

spectra = st.lists(st.floats(0.05, 5.0), min_size=1, max_size=6)


def turned(spectrum: list[float], seed: int = 0) -> torch.Tensor:
    return covariance.rotate(torch.diag(torch.tensor(spectrum, dtype=torch.float64)), generator(seed))


def fourth_moments(cov: torch.Tensor) -> torch.Tensor:
    """E[x_a x_b x_c x_e] for x ~ N(0, cov): the sum over the three pairings of Isserlis' theorem, entry by entry."""
    d = len(cov)
    tensor = torch.zeros(d, d, d, d, dtype=torch.float64)
    for a, b, c, e in itertools.product(range(d), repeat=4):
        tensor[a, b, c, e] = cov[a, b] * cov[c, e] + cov[a, c] * cov[b, e] + cov[a, e] * cov[b, c]
    return tensor


def moment_of_pairs(cov: torch.Tensor, m: int) -> torch.Tensor:
    """E[Σ̂_ab Σ̂_ce] for m Gaussian examples: m pairs of an example with itself, m(m − 1) of different ones."""
    return fourth_moments(cov) / m + (1 - 1 / m) * torch.einsum("ab,ce->abce", cov, cov)


def z(samples: torch.Tensor, expected: float | torch.Tensor) -> float:
    return ((samples.mean(0) - expected).abs() / errors.standard_error(samples)).max().item()


@settings(deadline=None, max_examples=30)
@given(spectrum=spectra, n=st.integers(1, 50), seed=st.integers(0, 1000))
def test_second_moment_is_the_sum_over_pairings(spectrum, n, seed):
    cov = turned(spectrum, seed)
    torch.testing.assert_close(
        theory.second_moment(cov, n),
        torch.einsum("abbe->ae", moment_of_pairs(cov, n)),
        rtol=1e-10,
        atol=1e-12,
    )


@settings(deadline=None, max_examples=30)
@given(spectrum=spectra, n=st.integers(1, 50), noise=st.floats(0, 2), seed=st.integers(0, 1000))
def test_gamma_solves_the_normal_equations_of_training(spectrum, n, noise, seed):
    # A = Γ⁻¹ is best when E[(w − A b)bᵀ] = 0, with E[w bᵀ] = Λ and E[b bᵀ] = E[Σ̂²] + σ²Λ/n.
    cov = turned(spectrum, seed)
    second = torch.einsum("abbe->ae", moment_of_pairs(cov, n)) + noise**2 / n * cov
    torch.testing.assert_close(
        torch.linalg.solve(theory.gamma(cov, n, noise), second), cov, rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_gamma_is_the_minimiser_of_the_loss_on_sampled_prompts(noise):
    cov, n = turned([1.0, 0.5, 0.2]), 6
    batch = prompts.sample_prompts(cov, n, 200_000, noise=noise, generator=generator(1))
    b = batch.moments().cross
    best = torch.linalg.inv(theory.gamma(cov, n, noise))
    # At the minimiser the residual of the regression of w on b is uncorrelated with b.
    residual = batch.w - b @ best.mT
    assert z(residual[:, :, None] * b[:, None, :], 0.0) < 4.5
    # The minimiser without noise is distinguishable here, so that the test can fail.
    if noise:
        wrong = batch.w - b @ torch.linalg.inv(theory.gamma(cov, n)).mT
        assert z(wrong[:, :, None] * b[:, None, :], 0.0) > 10


def test_gamma_tends_to_the_covariance_for_long_prompts_and_to_the_trace_for_short_ones():
    cov = turned([2.0, 1.0, 0.1])
    torch.testing.assert_close(theory.gamma(cov, 10**9), cov, rtol=0, atol=1e-7)
    torch.testing.assert_close(theory.gamma(cov, 1), 2 * cov + 3.1 * torch.eye(3, dtype=torch.float64))


@settings(deadline=None, max_examples=30)
@given(spectrum=spectra, n=st.integers(1, 40), scale=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_gamma_is_equivariant_under_units_and_rotations(spectrum, n, scale, seed):
    cov = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    q = torch.linalg.qr(torch.randn(cov.shape, generator=generator(seed), dtype=torch.float64)).Q
    torch.testing.assert_close(theory.gamma(scale * cov, n), scale * theory.gamma(cov, n))
    rotated = q @ cov @ q.mT
    torch.testing.assert_close(theory.gamma((rotated + rotated.mT) / 2, n), q @ theory.gamma(cov, n) @ q.mT)


def test_gamma_of_a_mixture_is_the_minimiser_over_its_prompts():
    covs, probs, lengths = (
        [turned([2.0, 0.3], 1), turned([1.0, 1.0], 2), turned([0.2, 3.0], 3)],
        [0.5, 0.2, 0.3],
        [4, 20, 9],
    )
    gamma = theory.gamma_mixture(covs, probs, lengths)
    moments = prompts.TaskMixture(covs, probs, lengths).sample_moments(300_000, generator(4))
    residual = moments.w - moments.cross @ torch.linalg.inv(gamma).mT
    assert z(residual[:, :, None] * moments.cross[:, None, :], 0.0) < 4.5
    # Averaging the Γ of the tasks is another matrix, and measurably not the minimiser.
    naive = sum(p * theory.gamma(c, n) for p, c, n in zip(probs, covs, lengths, strict=True))
    residual = moments.w - moments.cross @ torch.linalg.inv(naive).mT
    assert z(residual[:, :, None] * moments.cross[:, None, :], 0.0) > 10


@settings(deadline=None, max_examples=25)
@given(spectrum=spectra, n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_mixture_of_one_task_or_of_copies_is_the_task(spectrum, n, seed):
    cov = turned(spectrum, seed)
    alone = theory.gamma(cov, n)
    torch.testing.assert_close(theory.gamma_mixture([cov], [1.0], [n]), alone, rtol=1e-8, atol=1e-10)
    copies = theory.gamma_mixture([cov, cov, 3 * cov], [0.25, 0.75, 0.0], [n, n, 7])
    torch.testing.assert_close(copies, alone, rtol=1e-8, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(train=spectra, n=st.integers(1, 30), m=st.integers(1, 60), noise=st.floats(0, 2), data=st.data())
def test_direct_error_is_the_contraction_of_the_fourth_moment_tensor(train, n, m, noise, data):
    d = len(train)
    cov = turned(data.draw(st.lists(st.floats(0.05, 5.0), min_size=d, max_size=d)), 1)
    gamma = theory.gamma(turned(train, 2), n)
    a = torch.linalg.inv(gamma)
    # E‖AΣ̂ − I‖² + σ² E tr(AΣ̂Aᵀ)/m, written out in indices.
    quadratic = torch.einsum(
        "ia,abce,ie,bc->", a, moment_of_pairs(cov, m), a, torch.eye(d, dtype=torch.float64)
    )
    expected = quadratic - 2 * (a @ cov).trace() + d + noise**2 / m * (a @ cov @ a.mT).trace()
    assert theory.direct_error(gamma, cov, m, noise) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(("m", "noise"), [(25, 0.0), (3, 0.0), (12, 1.0)])
def test_direct_error_by_monte_carlo(m, noise):
    train, test = turned([1.0, 0.5, 0.33, 0.25], 3), turned([0.7, 0.7, 0.6, 0.1], 4)
    gamma = theory.gamma(train, 12)
    batch = prompts.sample_prompts(test, m, 100_000, noise=noise, generator=generator(5))
    first = cot.chain_of_thought(lsa.LinearSelfAttention.from_gamma(gamma), batch, 1)
    error = errors.squared_error(first, batch.w)[:, 1]
    assert z(error, theory.direct_error(gamma, test, m, noise)) < 4.5


def test_direct_error_by_monte_carlo_for_a_preconditioner_that_is_not_symmetric():
    gamma = torch.tensor([[1.5, 0.6], [-0.2, 1.1]], dtype=torch.float64)
    cov = turned([1.0, 0.4], 6)
    moments = prompts.sample_moments(cov, 5, 200_000, noise=0.5, generator=generator(6))
    error = errors.squared_error(cot.pseudo_newton(moments, gamma, 1), moments.w)[:, 1]
    assert z(error, theory.direct_error(gamma, cov, 5, 0.5)) < 4.5


def test_trained_gamma_has_the_least_direct_error_at_its_own_context():
    cov, n = turned([1.0, 0.4, 0.1]), 9
    gamma = theory.gamma(cov, n)
    best = theory.direct_error(gamma, cov, n)
    for seed in range(20):
        nudge = 0.05 * torch.randn(3, 3, generator=generator(seed), dtype=torch.float64)
        assert theory.direct_error(gamma + nudge, cov, n) > best


@given(spectrum=spectra, n=st.integers(1, 200), m=st.integers(1, 200))
@settings(deadline=None)
def test_bound_of_theorem_3_3_holds_for_the_exact_error(spectrum, n, m):
    cov = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    assert theory.direct_error(theory.gamma(cov, n), cov, m) <= theory.direct_error_bound(cov, n, m) * (
        1 + 1e-9
    )


def test_bound_of_theorem_3_3_is_the_formula():
    cov = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64))  # Hard = 7
    assert theory.direct_error_bound(cov, 10, 20) == pytest.approx(3 / 100 * 64 + 3 / 20 * 8)
    assert math.isinf(theory.direct_error_bound(torch.diag(torch.tensor([1.0, 0.0])), 5, 5))


@settings(deadline=None)
@given(spectrum=spectra, n=st.integers(1, 100), k=st.integers(0, 12))
def test_scaling_law_bounds_the_limit_and_is_exact_for_isotropic_features(spectrum, n, k):
    cov = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    exact = theory.cot_error_limit(theory.gamma(cov, n), cov, k)
    # The eigenvalues of I − Γ⁻¹Λ are 1 − λ/γ(λ) = (λ + tr Λ)/((n + 1)λ + tr Λ).
    modes = [((s + sum(spectrum)) / ((n + 1) * s + sum(spectrum))) ** (2 * k) for s in spectrum]
    assert exact == pytest.approx(sum(modes), rel=1e-9)
    assert exact <= theory.cot_error_bound(cov, n, k) * (1 + 1e-9)
    isotropic = spectrum[0] * torch.eye(len(spectrum), dtype=torch.float64)
    assert theory.cot_error_limit(theory.gamma(isotropic, n), isotropic, k) == pytest.approx(
        theory.cot_error_bound(isotropic, n, k), rel=1e-9
    )


def test_limit_is_what_long_prompts_give():
    train, test = turned([1.0, 0.5, 0.2], 1), turned([0.6, 0.5, 0.4], 2)
    gamma = theory.gamma(train, 15)
    gram = covariance.wishart(test, 10**9, 50, generator(7))
    measured = errors.propagated_error(gram, gamma, 6).mean(0)
    for k in range(7):
        assert measured[k].item() == pytest.approx(theory.cot_error_limit(gamma, test, k), rel=1e-3)


@settings(deadline=None)
@given(spectrum=spectra, k=st.integers(1, 10), share=st.floats(1e-6, 0.999))
def test_required_context_inverts_the_scaling_law(spectrum, k, share):
    cov = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    eps = share * len(spectrum)
    n = theory.required_context(cov, k, eps)
    # The bound at a real n, written out: at the required context it equals eps.
    hard = sum(spectrum) / min(spectrum)
    assert len(spectrum) * (1 + n / (1 + hard)) ** (-2 * k) == pytest.approx(eps, rel=1e-8)
    above = max(1, math.ceil(n))
    assert theory.cot_error_bound(cov, above, k) <= eps * (1 + 1e-9)
    if above > 1:
        assert theory.cot_error_bound(cov, above - 1, k) > eps * (1 - 1e-9)
    assert theory.required_context(cov, k + 1, eps) <= n
    assert theory.required_context(cov, k, float(len(spectrum))) == 0


def test_required_context_of_a_task_that_cannot_be_learned_is_infinite():
    cov = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert math.isinf(theory.required_context(cov, 3, 0.1))
    assert theory.required_context(cov, 3, 5.0) == 0
    assert theory.cot_error_bound(cov, 10, 3) == 2


@settings(deadline=None)
@given(scale=st.floats(0.1, 5), d=st.integers(1, 30), m=st.integers(1, 100))
def test_edge_of_isotropic_features_is_marchenko_pasturs(scale, d, m):
    eye = torch.eye(d, dtype=torch.float64)
    edge = theory.spectrum_edge(eye, scale * eye, m)
    assert edge == pytest.approx(scale * (1 + math.sqrt(d / m)) ** 2, rel=1e-9)


@pytest.mark.parametrize(("alpha", "m"), [(0.0, 800), (0.5, 800), (1.0, 600), (0.3, 150)])
def test_edge_against_the_largest_eigenvalue_of_a_big_wishart_matrix(alpha, m):
    d = 300
    train, test = covariance.power_law(d, alpha), covariance.power_law(d, alpha / 2)
    gamma = theory.gamma(train, 500)
    edge = theory.spectrum_edge(gamma, test, m)
    half = torch.diag(gamma.diagonal() ** -0.5)
    top = torch.linalg.eigvalsh(half @ covariance.wishart(test, m, 4, generator(8)) @ half)[:, -1]
    # Fluctuations about the edge are of the order m^(−2/3).
    assert top.mean().item() == pytest.approx(edge, rel=0.06)


def test_edge_tends_to_the_population_for_long_prompts_and_is_zero_without_features():
    gamma, cov = theory.gamma(turned([1.0, 0.3], 1), 10), turned([0.5, 0.4], 2)
    population = torch.linalg.eigvals(torch.linalg.solve(gamma, cov)).real.max().item()
    assert theory.spectrum_edge(gamma, cov, 10**9) == pytest.approx(population, rel=1e-3)
    assert theory.spectrum_edge(gamma, torch.zeros_like(cov), 5) == 0


def test_the_edge_of_features_in_single_precision_is_found_in_double():
    gamma, cov = (
        matrix.float() for matrix in (theory.gamma(turned([1.0, 0.3], 1), 10), turned([0.5, 0.4], 2))
    )
    assert theory.spectrum_edge(gamma, cov, 5) == theory.spectrum_edge(gamma.double(), cov.double(), 5)


def test_overthinking_means_that_the_error_grows_without_limit():
    train, test = covariance.power_law(10, 1.0), torch.eye(10, dtype=torch.float64)
    for n, expected in ((1, False), (3, False), (10, True), (30, True)):
        gamma = theory.gamma(train, n)
        late = [theory.cot_error_limit(gamma, test, k) for k in (100, 200)]
        assert theory.overthinks(gamma, test) is expected
        assert (late[1] > late[0] > 10) is expected
    # Training and test alike never overthink with unlimited context, whatever the spectrum; a singular one stands still.
    for spectrum in ([1.0, 0.1, 0.01], [1.0, 0.0, 0.0]):
        cov = turned(spectrum)
        assert not theory.overthinks(theory.gamma(cov, 20), cov)


def test_short_test_prompts_overthink_past_the_edge():
    d, n = 60, 120
    eye = torch.eye(d, dtype=torch.float64)
    gamma = theory.gamma(eye, n)  # g = 1 + 61/120, so that (1 + √(d/m))² = 2g at d/m = 0.54
    g = 1 + (1 + d) / n
    critical = d / (math.sqrt(2 * g) - 1) ** 2
    for m, expected in ((int(0.75 * critical), True), (int(1.35 * critical), False)):
        assert theory.overthinks(gamma, eye, m) is expected
        curve = (
            errors.propagated_error(covariance.wishart(eye, m, 40, generator(9)), gamma, 300).median(0).values
        )
        assert (curve[300] > curve[150]).item() is expected


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.9, 1.0, 1.7, 6.0])
@pytest.mark.parametrize("g", [1.05, 2.0])
def test_marchenko_pastur_error_is_the_integral_over_the_density(ratio, g):
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2

    def density(x: float) -> float:
        return math.sqrt(max(0.0, (high - x) * (x - low))) / (2 * math.pi * ratio * x)

    for k in (0, 1, 2, 5, 9):
        bulk = integrate.quad(
            lambda x, k=k: density(x) * (1 - x / g) ** (2 * k), low, high, limit=500, epsabs=1e-12
        )[0]
        expected = bulk + max(0.0, 1 - 1 / ratio)
        assert theory.marchenko_pastur_error(ratio, g, k) == pytest.approx(expected, rel=2e-6)


def test_marchenko_pastur_error_matches_the_exact_first_step_and_large_matrices():
    d, m, n = 100, 400, 400
    eye = torch.eye(d, dtype=torch.float64)
    g, gamma = 1 + (1 + d) / n, theory.gamma(eye, n)
    # One step: E‖I − Σ̂/g‖²/d = (1 − 1/g)² + (1 + (d + 1)/m − 1)/g², Marchenko–Pastur's up to 1/m.
    assert theory.marchenko_pastur_error(d / m, g, 1) == pytest.approx(
        (1 - 1 / g) ** 2 + d / m / g**2, rel=1e-9
    )
    assert theory.direct_error(gamma, eye, m) / d == pytest.approx(
        (1 - 1 / g) ** 2 + (d + 1) / m / g**2, rel=1e-9
    )
    for size, tolerance in ((100, 0.14), (300, 0.06)):  # corrections are of order 1/m
        eye, n = torch.eye(size, dtype=torch.float64), 4 * size
        gram = covariance.wishart(eye, n, 8000 // size, generator(10))
        measured = errors.propagated_error(gram, theory.gamma(eye, n), 8).mean(0) / size
        for k in (1, 2, 4, 8):
            predicted = theory.marchenko_pastur_error(1 / 4, 1 + (1 + size) / n, k)
            assert measured[k].item() == pytest.approx(predicted, rel=tolerance)


def test_marchenko_pastur_error_is_finite_without_a_spectral_gap_and_grows_past_the_edge():
    curve = np.array([theory.marchenko_pastur_error(0.5, 1.2, k) for k in range(40)])
    assert curve[0] == pytest.approx(1)
    assert curve[39] > curve[20] > curve[3]  # (1 + √½)² = 2.9 > 2.4
    assert theory.marchenko_pastur_error(4.0, 10.0, 400) == pytest.approx(
        0.75, abs=2e-3
    )  # m < d: never seen directions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_direction_without_variance_is_no_overthinking(dtype):
    """There I − Γ⁻¹Σ has the eigenvalue 1 exactly, and rounding puts it on either side."""
    flat = torch.diag(torch.tensor([1.0, 0.5, 0.2, 0.0], dtype=dtype))
    for seed in range(50):
        cov = covariance.rotate(flat, torch.Generator().manual_seed(seed))
        assert not theory.overthinks(theory.gamma(cov, 10), cov)
        assert theory.overthinks(theory.gamma(cov, 10) / 4, cov)


@settings(max_examples=30, deadline=None)
@given(train=spectra, seed=st.integers(0, 1000), k=st.integers(0, 8), n=st.integers(2, 60))
def test_trace_of_overthinking_is_below_the_error_by_no_more_than_the_condition_allows(
    train: list[float], seed: int, k: int, n: int
) -> None:
    """tr S^{2k} ≤ ‖(I − Γ⁻¹Σ)^k‖² ≤ ½(κ + 1/κ) tr S^{2k}, with equality on the left where Γ and Σ commute."""
    gamma = theory.gamma(torch.diag(torch.tensor(train, dtype=torch.float64)), n)
    cov = turned(train[::-1], seed)
    trace, error = theory.overthinking_trace(gamma, cov, k), theory.cot_error_limit(gamma, cov, k)
    kappa = torch.linalg.cond(gamma).item()
    assert trace <= error * (1 + 1e-9) + 1e-12
    assert error <= 0.5 * (kappa + 1 / kappa) * trace * (1 + 1e-9) + 1e-12
    root = torch.linalg.inv(covariance.square_root(gamma))
    step = torch.eye(len(train), dtype=torch.float64) - root @ cov @ root
    assert trace == pytest.approx(torch.linalg.matrix_power(step, 2 * k).trace().item(), rel=1e-8, abs=1e-12)
    aligned = torch.diag(torch.tensor(train[::-1], dtype=torch.float64))
    same = theory.cot_error_limit(gamma, aligned, k)
    assert theory.overthinking_trace(gamma, aligned, k) == pytest.approx(same, rel=1e-8, abs=1e-12)


def test_chains_on_endless_prompts_err_as_the_limit_says() -> None:
    """At m = 10⁸ only w is sampled: the same algebra on both sides, and therefore no evidence in a chapter."""
    gamma = theory.gamma(covariance.power_law(4, 1.0), 20)
    cov = turned([1.0, 0.5, 2.0, 0.1])
    found = cot.sampled_errors(gamma, cov, 10**8, 6, 4000, generator=generator(7))
    expected = [theory.cot_error_limit(gamma, cov, k) for k in range(7)]
    assert errors.z_scores(found[:, 1:], torch.tensor(expected[1:])).abs().max() < 4.5


@pytest.mark.parametrize(
    ("ratio", "g"), [(1.0, 2.5), (1.0, 1.8), (0.25, 1.6), (0.25, 1.25), (0.25, 1.1), (0.1, 1.2), (2.0, 3.2)]
)
def test_the_law_of_depth_is_what_marchenko_pastur_leaves_after_many_steps(ratio, g):
    # Below and above 1 + c, where the other edge decides; at m = d; with more dimensions than examples; past 2g.
    gaps = [
        theory.marchenko_pastur_error(ratio, g, k) / theory.depth_law(ratio, g, k) - 1 for k in (100, 400)
    ]
    assert abs(gaps[0]) < 0.06
    assert abs(gaps[1]) < 0.3 * abs(gaps[0]) + 1e-6  # of order 1/k


def test_the_laws_of_depth_are_the_formulas():
    assert theory.depth_law(1.0, 2.5, 50) == pytest.approx(math.sqrt(2.5 / (100 * math.pi)), rel=1e-6)
    low, g, k = 0.25, 1.6, 200
    expected = 0.25**-0.75 / (math.pi * low) * math.sqrt(math.pi) / 2
    expected *= ((g - low) / (2 * k)) ** 1.5 * (1 - low / g) ** (2 * k)
    assert theory.depth_law(0.25, g, k) == pytest.approx(expected, rel=1e-6)
    assert theory.marchenko_pastur_error(0.25, g, k) / expected == pytest.approx(0.975, abs=0.001)


def test_the_law_of_depth_against_exact_means_of_a_square_prompt():
    # At d = m = 60, before rare prompts past the upper edge decide the mean.
    mean = exact.isotropic_error(60, 60, 4.0, 20) / 60
    law = [theory.depth_law(1.0, 4.0, k) for k in (10, 20)]
    torch.testing.assert_close(mean[[10, 20]], torch.tensor(law, dtype=torch.float64), rtol=0.04, atol=0)


def test_what_overflows_is_infinite_and_not_unknown():
    eye = torch.eye(3, dtype=torch.float64)
    assert theory.cot_error_limit(0.1 * eye, eye + 0.1, 10**4) == math.inf
    assert theory.depth_law(1.0, 0.1, 10**4) == math.inf
    curve = theory.cot_error(1e-30 * eye, eye + 0.1, 5, 9)
    assert len(curve) == 10
    assert curve[1].item() == pytest.approx(theory.direct_error(1e-30 * eye, eye + 0.1, 5))
    assert (curve == math.inf).tolist() == [False] * 6 + [True] * 4
    one = torch.diag(torch.tensor([1e-30, 1.0, 1.0], dtype=torch.float64))  # the others go on converging
    assert theory.cot_error(one, eye, 5, 9).isinf().tolist() == [False] * 6 + [True] * 4
    assert theory.marchenko_pastur_error(1.0, 0.1, 10**4) == math.inf


@settings(deadline=None, max_examples=50)
@given(spectrum=spectra, n=st.integers(1, 60), k=st.integers(1, 6))
def test_k_steps_with_n_examples_are_never_worse_than_one_with_kn(spectrum, n, k):
    cov = turned(spectrum)
    think = theory.cot_error_limit(theory.gamma(cov, n), cov, k)
    assert think <= theory.cot_error_limit(theory.gamma(cov, k * n), cov, 1) * (1 + 1e-9)


@pytest.mark.parametrize(("n", "k"), [(10, 2), (10, 6), (30, 1), (30, 4)])
def test_the_first_correction_of_the_law_is_k_times_2k_minus_1_times_n_squared(n, k):
    d, g = 10, 1 + 11 / n
    corrections = []
    for m in (10**6, 10**7):
        law = theory.cot_error_bound(torch.eye(d, dtype=torch.float64), n, k)
        excess = exact.isotropic_error(d, m, g, k)[k].item() / law - 1
        corrections.append(excess * (1 + d) * m / (k * (2 * k - 1) * n**2))
    assert corrections[1] == pytest.approx(1, rel=2e-3)
    assert abs(corrections[1] - 1) <= 0.2 * abs(corrections[0] - 1) + 1e-6


def test_a_preconditioner_that_is_not_symmetric_overthinks_when_its_chain_grows():
    found = set()
    for seed in range(60):
        gamma = (
            torch.eye(3, dtype=torch.float64) + 0.8 * torch.randn(3, 3, generator=generator(seed)).double()
        )
        cov = turned([1.0, 0.6, 0.3], seed)
        step = torch.eye(3, dtype=torch.float64) - torch.linalg.inv(gamma) @ cov
        late = [torch.linalg.matrix_power(step, k).norm().item() for k in (20, 40)]
        if abs(math.log(late[1] / late[0])) < 0.5:
            continue  # too near the edge to tell by looking
        found.add(theory.overthinks(gamma, cov))
        assert theory.overthinks(gamma, cov) is (late[1] > late[0]), seed
    assert found == {True, False}
    # Symmetric, but with a direction that walks away from the answer.
    assert theory.overthinks(torch.diag(torch.tensor([2.0, -2.0])).double(), torch.eye(2).double())


@pytest.mark.parametrize("ratio", [0.3, 0.985, 0.995, 1.005, 1.015, 1.5])
def test_the_law_of_marchenko_and_pastur_has_mass_one_and_a_mean_of_one(ratio):
    assert theory.marchenko_pastur_error(ratio, 1.7, 0) == pytest.approx(1, abs=1e-9)
    # ∫ (1 − x/g)² dμ = 1 − 2/g + (1 + c)/g²
    expected = 1 - 2 / 1.7 + (1 + ratio) / 1.7**2
    assert theory.marchenko_pastur_error(ratio, 1.7, 1) == pytest.approx(expected, rel=1e-7)
