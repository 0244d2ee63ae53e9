"""The two exact routes against each other, against closed forms, and against draws."""

import math

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import cot, covariance, errors, exact, prompts, theory


@settings(deadline=None)
@given(m=st.integers(1, 30), p=st.integers(1, 8))
def test_one_dimension_gives_the_moments_of_chi_square(m: int, p: int) -> None:
    assert exact.trace_moment(1, m, p) == math.prod(m + 2 * j for j in range(p))


@settings(deadline=None)
@given(d=st.integers(1, 30), p=st.integers(1, 8))
def test_one_example_gives_the_moments_of_a_squared_norm(d: int, p: int) -> None:
    # W = x xᵀ has one eigenvalue, ‖x‖²
    assert exact.trace_moment(d, 1, p) == math.prod(d + 2 * j for j in range(p))


@settings(deadline=None)
@given(d=st.integers(1, 12), m=st.integers(1, 12), p=st.integers(1, 10))
def test_moments_are_symmetric_in_dimension_and_length(d: int, m: int, p: int) -> None:
    # XᵀX and XXᵀ share their non-zero eigenvalues
    assert exact.trace_moment(d, m, p) == exact.trace_moment(m, d, p)


def test_known_low_moments() -> None:
    for d, m in [(2, 3), (5, 4), (7, 20)]:
        assert exact.trace_moment(d, m, 1) == d * m
        assert exact.trace_moment(d, m, 2) == d * m * (d + m + 1)
        assert exact.trace_moment(d, m, 3) == d * m * (d**2 + m**2 + 3 * d * m + 3 * d + 3 * m + 4)


@settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 6), m=st.integers(1, 12), g=st.floats(0.5, 4))
def test_the_two_routes_agree(d: int, m: int, g: float) -> None:
    identity = torch.eye(d, dtype=torch.float64)
    by_parts = exact.expected_error(g * identity, identity, m, 3)
    zonal = exact.isotropic_error(d, m, g, 3)
    torch.testing.assert_close(by_parts, zonal, rtol=1e-9, atol=1e-9 * float(zonal.max()))


def test_the_two_routes_agree_on_longer_chains() -> None:
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(
        exact.expected_error(1.3 * identity, identity, 5, 4),
        exact.isotropic_error(3, 5, 1.3, 4),
    )


@settings(max_examples=20, deadline=None)
@given(d=st.integers(2, 6), n=st.integers(1, 50), m=st.integers(1, 50), seed=st.integers(0, 1000))
def test_one_step_is_the_direct_error(d: int, n: int, m: int, seed: int) -> None:
    gamma = theory.gamma(covariance.rotate(covariance.power_law(d, 1.0), generator(seed)), n)
    cov = covariance.rotate(covariance.power_law(d, 0.5), generator(seed + 1))
    measured = exact.expected_error(gamma, cov, m, 1)[1].item()
    assert measured == pytest.approx(theory.direct_error(gamma, cov, m), rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(d=st.integers(1, 8), n=st.integers(1, 50), m=st.integers(1, 50), noise=st.floats(0, 3))
def test_one_noisy_step_is_the_direct_error(d: int, n: int, m: int, noise: float) -> None:
    cov = torch.eye(d, dtype=torch.float64)
    measured = exact.isotropic_error(d, m, 1 + (1 + d) / n, 1, noise)[1].item()
    assert measured == pytest.approx(theory.direct_error(theory.gamma(cov, n), cov, m, noise), rel=1e-9)


def test_two_dimensions_by_quadrature_over_the_eigenvalues() -> None:
    # joint density of the two eigenvalues of W, m = 5: |x − y| (xy)^{(m−3)/2} exp(−(x + y)/2), up to a constant
    m, g, k = 5, 1.3, 6
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(400))
    top = 120.0
    # y = x t with 0 < t < 1 keeps the integrand smooth on the half plane x > y
    x, wx = (nodes + 1) * top / 2, weights * top / 2
    t, wt = (nodes + 1) / 2, weights / 2
    larger, smaller = x[:, None], x[:, None] * t
    density = (larger - smaller) * (larger * smaller) ** ((m - 3) / 2) * torch.exp(-(larger + smaller) / 2)
    density = density * larger * wx[:, None] * wt
    density = density / density.sum()
    value = (density * ((1 - larger / (m * g)) ** (2 * k) + (1 - smaller / (m * g)) ** (2 * k))).sum().item()
    assert exact.isotropic_error(2, m, g, k)[k].item() == pytest.approx(value, rel=1e-9)


def test_large_dimension_tends_to_marchenko_pastur() -> None:
    gaps = []
    for d in (10, 40, 160):
        mean = exact.isotropic_error(d, 4 * d, 1.6, 4)[4].item() / d
        gaps.append(abs(mean / theory.marchenko_pastur_error(0.25, 1.6, 4) - 1))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]  # the correction is of order 1/d
    assert gaps[2] < 0.02


def test_long_context_tends_to_the_limit() -> None:
    gamma = theory.gamma(covariance.power_law(4, 1.0), 8)
    cov = covariance.rotate(covariance.power_law(4, 0.5), generator(0))
    mean = exact.expected_error(gamma, cov, 10**7, 4)
    limit = [theory.cot_error_limit(gamma, cov, k) for k in range(5)]
    torch.testing.assert_close(mean, torch.tensor(limit, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_draws_scatter_around_the_exact_mean_when_nothing_commutes() -> None:
    gamma = theory.gamma(covariance.power_law(4, 1.0), 8)
    cov = covariance.rotate(covariance.power_law(4, 0.5), generator(1)) / 2
    mean = exact.expected_error(gamma, cov, 12, 3)
    drawn = errors.propagated_error(covariance.wishart(cov, 12, 200_000, generator(2)), gamma, 3)
    z = (drawn.mean(0) - mean)[1:] / errors.standard_error(drawn)[1:]
    assert z.abs().max() < 4
    assert (errors.standard_error(drawn)[1:] < 0.02 * mean[1:]).all()  # so that the test has power


def test_draws_scatter_around_the_exact_mean_with_noise() -> None:
    d, n, m, sigma = 5, 6, 20, 0.7
    identity = torch.eye(d, dtype=torch.float64)
    gamma = theory.gamma(identity, n)
    moments = prompts.sample_moments(identity, m, 100_000, sigma, generator(3))
    drawn = errors.squared_error(cot.pseudo_newton(moments, gamma, 8), moments.w)
    mean = exact.isotropic_error(d, m, 1 + (1 + d) / n, 8, sigma)
    assert ((drawn.mean(0) - mean) / errors.standard_error(drawn)).abs().max() < 4


def test_the_mean_diverges_in_the_end_where_the_limit_of_many_dimensions_converges() -> None:
    d, m, n, steps = 10, 50, 30, 24
    g = 1 + (1 + d) / n
    mean = exact.isotropic_error(d, m, g, steps)
    limit = [theory.marchenko_pastur_error(d / m, g, k) for k in range(steps + 1)]
    assert limit == sorted(limit, reverse=True)
    assert mean.argmin() < 16
    assert mean[-1] > 10 * d  # although the spectrum's edge lies inside the region of convergence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, "d must be"),
        ({"m": 0}, "m must be"),
        ({"g": 0.0}, "g must be"),
        ({"steps": -1}, "steps must be"),
        ({"noise": -0.1}, "noise must be"),
    ],
)
def test_isotropic_error_names_what_is_wrong(change: dict, message: str, refuses) -> None:
    with refuses(message):
        exact.isotropic_error(**({"d": 2, "m": 3, "g": 1.5, "steps": 2, "noise": 0.0} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 0}, "m must be"),
        ({"steps": 7}, "steps must be <= 6"),
        ({"gamma": torch.zeros(2, 2, dtype=torch.float64)}, "gamma must be positive definite"),
        ({"cov": torch.eye(3, dtype=torch.float64)}, "must share the dimension"),
    ],
)
def test_expected_error_names_what_is_wrong(change: dict, message: str, refuses) -> None:
    identity = torch.eye(2, dtype=torch.float64)
    with refuses(message):
        exact.expected_error(**({"gamma": identity, "cov": identity, "m": 3, "steps": 2} | change))


def test_what_no_double_can_hold_is_infinite():
    assert exact.isotropic_error(2, 1, 1e-6, 30)[-1] == math.inf


@pytest.mark.parametrize(("n", "m", "k"), [(30, 10**7, 5), (100, 10**4, 4), (3000, 400, 4)])
def test_the_general_route_keeps_its_digits(n: int, m: int, k: int) -> None:
    g, eye = 1 + 7 / n, torch.eye(6, dtype=torch.float64)
    truth = exact.isotropic_error(6, m, g, k)
    torch.testing.assert_close(exact.expected_error(g * eye, eye, m, k), truth, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("n", "m", "k"), [(3000, 10**5, 6), (3000, 10**7, 6), (300, 10**9, 6)])
def test_the_general_route_says_when_it_has_no_digits_left(n: int, m: int, k: int, refuses) -> None:
    g, eye = 1 + 7 / n, torch.eye(6, dtype=torch.float64)
    with refuses("steps must be <"):
        exact.expected_error(g * eye, eye, m, k)
