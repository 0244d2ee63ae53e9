"""Covariances: spectra, Haar rotations, hardness, and Wishart matrices drawn without their features."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsl import covariance, exact, theory


def z_scores(samples: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Distance of a mean over axis 0 from its expectation, in standard errors."""
    return (samples.mean(0) - expected).abs() / (samples.std(0) / len(samples) ** 0.5)


@given(d=st.integers(1, 12), alpha=st.floats(0, 3), trace=st.one_of(st.none(), st.floats(1e-3, 1e3)))
def test_power_law_has_the_stated_spectrum(d, alpha, trace):
    cov = covariance.power_law(d, alpha, trace)
    spectrum = np.array([i**-alpha for i in range(1, d + 1)])
    if trace is not None:
        spectrum *= trace / spectrum.sum()
    np.testing.assert_allclose(np.diag(np.diag(cov.numpy())), cov.numpy())
    np.testing.assert_allclose(np.diag(cov.numpy()), spectrum, rtol=1e-12)


@settings(deadline=None)
@given(d=st.integers(1, 8), alpha=st.floats(0, 2), seed=st.integers(0, 10**6))
def test_rotation_keeps_spectrum_and_hardness(d, alpha, seed):
    cov = covariance.power_law(d, alpha)
    turned = covariance.rotate(cov, generator(seed))
    assert torch.equal(turned, turned.mT)
    torch.testing.assert_close(torch.linalg.eigvalsh(turned), cov.diagonal().sort().values)
    assert covariance.hardness(turned) == pytest.approx(covariance.hardness(cov), rel=1e-9)


def test_rotations_are_haar_distributed():
    # A column of a Haar matrix is uniform on the sphere: its first coordinate squared is Beta(1/2, (d − 1)/2). The first
    # entry of the rotated projector e₁e₁ᵀ is that square.
    d, draws = 4, 3000
    projector = torch.diag(torch.tensor([1.0] + [0.0] * (d - 1), dtype=torch.float64))
    source = generator(5)
    entries = torch.stack(
        [covariance.rotate(projector, source)[[0, 0], [0, 1]] for _ in range(draws)]
    ).numpy()
    assert stats.kstest(entries[:, 0], stats.beta(0.5, (d - 1) / 2).cdf).pvalue > 1e-4
    # q₁q₂ is symmetric about zero; QR without the correction of signs is not.
    assert stats.ks_2samp(entries[:, 1], -entries[:, 1]).pvalue > 1e-4


def test_hardness_is_trace_over_smallest_eigenvalue():
    assert covariance.hardness(
        torch.diag(torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64))
    ) == pytest.approx(13)
    assert covariance.hardness(3 * torch.eye(7, dtype=torch.float64)) == pytest.approx(7)
    assert math.isinf(covariance.hardness(torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))))
    assert math.isinf(covariance.hardness(torch.zeros(3, 3, dtype=torch.float64)))
    # Singular up to rounding only: a rotation must not turn infinity into 10^16.
    singular = covariance.rotate(torch.diag(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)), generator())
    assert math.isinf(covariance.hardness(singular))


@given(d=st.integers(1, 10), alpha=st.floats(0, 3), scale=st.floats(1e-3, 1e3))
def test_hardness_is_at_least_d_and_free_of_units(d, alpha, scale):
    cov = covariance.power_law(d, alpha)
    hard = covariance.hardness(cov)
    assert hard >= d * (1 - 1e-12)
    assert covariance.hardness(scale * cov) == pytest.approx(hard, rel=1e-9)
    assert covariance.hardness(covariance.power_law(d, alpha + 0.5)) >= hard * (1 - 1e-12)


@pytest.mark.parametrize("spectrum", [[2.0, 1.0, 0.3], [1.0, 0.0, 0.0]])
def test_square_root_squares_to_the_covariance(spectrum):
    cov = covariance.rotate(torch.diag(torch.tensor(spectrum, dtype=torch.float64)), generator(2))
    root = covariance.square_root(cov)
    torch.testing.assert_close(root @ root.mT, cov)
    torch.testing.assert_close(root, root.mT)
    assert torch.linalg.eigvalsh(root).min() > -1e-12


@pytest.mark.parametrize(("d", "m"), [(3, 9), (4, 4), (5, 2), (1, 1), (3, 1)])
def test_wishart_has_the_mean_and_second_moment_of_gaussian_features(d, m):
    cov = covariance.rotate(covariance.power_law(d, 1.0), generator(1))
    draws = covariance.wishart(cov, m, 60_000, generator(2))
    assert z_scores(draws, cov).max() < 4.5
    # E[Σ̂²] by Isserlis' theorem, index by index: E[x_a x_b y_b y_c] over equal and different examples.
    second = torch.zeros(d, d, dtype=torch.float64)
    for a, b, c in itertools.product(range(d), repeat=3):
        same = cov[a, b] * cov[b, c] + cov[a, b] * cov[b, c] + cov[a, c] * cov[b, b]
        second[a, c] += (m * same + m * (m - 1) * cov[a, b] * cov[b, c]) / m**2
    assert z_scores(draws @ draws, second).max() < 4.5
    torch.testing.assert_close(theory.second_moment(cov, m), second)


@pytest.mark.parametrize(("d", "m"), [(4, 7), (4, 3), (3, 3)])
def test_wishart_is_distributed_as_the_moments_of_drawn_features(d, m):
    cov = covariance.rotate(covariance.power_law(d, 0.7), generator(3))
    size = 8000
    direct = covariance.wishart(cov, m, size, generator(4))
    x = torch.randn(size, m, d, generator=generator(5), dtype=torch.float64) @ covariance.square_root(cov)
    drawn = x.mT @ x / m
    statistics = {
        "trace": lambda s: s.diagonal(dim1=1, dim2=2).sum(1),
        "largest eigenvalue": lambda s: torch.linalg.eigvalsh(s)[:, -1],
        "smallest non-zero eigenvalue": lambda s: torch.linalg.eigvalsh(s)[:, max(0, d - m)],
        "an entry off the diagonal": lambda s: s[:, 0, -1],
    }
    for name, statistic in statistics.items():
        pvalue = stats.ks_2samp(statistic(direct).numpy(), statistic(drawn).numpy()).pvalue
        assert pvalue > 1e-4, f"{name}: p = {pvalue:.2g}"


def test_wishart_diagonal_is_chi_square():
    cov = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    draws = covariance.wishart(cov, 6, 20_000, generator(6))
    for i in range(2):
        values = (6 * draws[:, i, i] / cov[i, i]).numpy()
        assert stats.kstest(values, stats.chi2(6).cdf).pvalue > 1e-4


@given(d=st.integers(1, 7), m=st.integers(1, 10), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_wishart_is_symmetric_positive_and_of_the_right_rank(d, m, seed):
    draw = covariance.wishart(covariance.power_law(d, 0.5), m, 1, generator(seed))[0]
    torch.testing.assert_close(draw, draw.mT, rtol=0, atol=0)
    spectrum = torch.linalg.eigvalsh(draw)
    assert spectrum.min() > -1e-12 * spectrum.max()
    assert (spectrum > 1e-12 * spectrum.max()).sum() == min(d, m)


def test_wishart_of_a_singular_covariance_stays_in_its_range():
    cov = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))
    draws = covariance.wishart(cov, 5, 100, generator())
    assert draws[:, 2].abs().max() == 0


def test_wishart_concentrates_as_m_grows():
    cov = covariance.power_law(3, 1.0)
    spread = [
        (covariance.wishart(cov, m, 4000, generator(7)) - cov).square().sum((1, 2)).mean().item()
        for m in (10, 1000, 10**9)
    ]
    # E‖Σ̂ − Σ‖² = (tr Σ² + (tr Σ)²)/m exactly, also for a prompt far too long to be drawn.
    exact = (cov.square().sum() + cov.trace() ** 2).item()
    np.testing.assert_allclose(np.array(spread) * np.array([10, 1000, 10**9]), exact, rtol=0.1)


def test_same_seed_same_matrices():
    cov = covariance.power_law(4, 1.0)
    first, again, other = (covariance.wishart(cov, 5, 3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_for_many_lengths_have_the_moments_of_a_wishart_matrix_on_both_sides_of_d():
    lengths = [2, 5, 40]
    gram = covariance.wishart(torch.eye(5, dtype=torch.float64), lengths, 100_000, generator(4))
    assert gram.shape == (3, 100_000, 5, 5)
    expected = torch.eye(5, dtype=torch.float64).expand(3, 5, 5)
    torch.testing.assert_close(gram.mean(1), expected, atol=0.02, rtol=0)
    for index, m in enumerate(lengths):
        assert int(torch.linalg.matrix_rank(gram[index, 0])) == min(m, 5)
        square = gram[index].square().sum((-1, -2)).mean().item()
        assert square == pytest.approx(float(exact.trace_moment(5, m, 2)) / m**2, rel=0.02)


def test_each_length_may_have_a_covariance_of_its_own(refuses):
    covs = torch.stack(
        [covariance.power_law(3, 1.0), covariance.rotate(covariance.power_law(3, 0.5), generator(1))]
    )
    gram = covariance.wishart(covs, [4, 9], 50_000, generator(2))
    z = (gram.mean(1) - covs) / (gram.std(1) / 50_000**0.5)
    assert z.nan_to_num(0).abs().max() < 4.5
    with refuses("m must hold a length for each of 2"):
        covariance.wishart(covs, [4, 9, 3], 2)
    with refuses("m must be an integer >= 1"):
        covariance.wishart(covs[0], [4, 0], 2)


def test_draws_of_one_length_tell_nothing_of_those_of_another():
    gram = covariance.wishart(torch.eye(3, dtype=torch.float64), [4, 4], 60_000, generator(9))
    first, second = gram[:, :, 0, 0] - 1
    assert z_scores(first * second, torch.zeros((), dtype=torch.float64)) < 4.5
