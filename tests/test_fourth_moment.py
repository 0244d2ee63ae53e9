"""The non-Gaussian theory against Isserlis, brute force over all prompts and Monte Carlo."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import covariance, errors, features, fourth_moment, theory


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def skewed_rows(count=7, d=3, seed=0):
    """A small population that is neither centred, symmetric nor elliptical."""
    normal = torch.randn((count, d), generator=generator(seed), dtype=torch.float64)
    return normal.exp() @ torch.randn((d, d), generator=generator(seed + 1), dtype=torch.float64)


def all_grams(x, n):
    """Σ̂ of every one of the N^n equally likely prompts: an expectation over them is a finite sum."""
    index = torch.tensor(list(itertools.product(range(len(x)), repeat=n)))
    return x[index].mT @ x[index] / n


def gaussian_case():
    return covariance.rotate(covariance.power_law(5, 0.7), generator(3))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_mean_square_is_the_average_over_all_prompts(n):
    x = skewed_rows()
    grams = all_grams(x, n)
    middle = torch.randn((3, 3), generator=generator(5), dtype=torch.float64)
    law = fourth_moment.empirical(x)
    torch.testing.assert_close(fourth_moment.mean_square(law, n), (grams @ grams).mean(0))
    torch.testing.assert_close(fourth_moment.mean_square(law, n, middle), (grams @ middle @ grams).mean(0))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gamma_minimises_the_one_step_loss_over_all_prompts(n):
    x = skewed_rows()
    grams = all_grams(x, n)
    best = torch.linalg.inv(fourth_moment.gamma(fourth_moment.empirical(x), n)).requires_grad_()
    loss = (torch.eye(3).double() - best @ grams).square().sum((1, 2)).mean()
    (slope,) = torch.autograd.grad(loss, best)
    scale = (grams.mean(0) @ grams.mean(0)).norm().item()
    assert slope.norm().item() < 1e-10 * scale
    nudge = 1e-3 * torch.randn((3, 3), generator=generator(9), dtype=torch.float64)
    assert (torch.eye(3).double() - (best + nudge) @ grams).square().sum((1, 2)).mean() > loss


@pytest.mark.parametrize("m", [1, 2, 3])
def test_direct_error_is_the_average_over_all_prompts_for_any_gamma(m):
    x = skewed_rows()
    gamma = torch.eye(3, dtype=torch.float64) + 0.3 * torch.ones(3, 3).triu().double()
    brute = errors.propagated_error(all_grams(x, m), gamma, 1)[:, 1].mean().item()
    assert fourth_moment.direct_error(gamma, fourth_moment.empirical(x), m) == pytest.approx(brute, rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 2), (9, 50), (20, 20)])
def test_matched_error_from_the_hardness_spectrum(n, m):
    law = fourth_moment.empirical(skewed_rows(count=40))
    general = fourth_moment.direct_error(fourth_moment.gamma(law, n), law, m)
    assert fourth_moment.matched_direct_error(law, n, m) == pytest.approx(general, rel=1e-8)


def test_matched_error_at_equal_lengths_is_a_sum_of_fractions():
    law = fourth_moment.empirical(skewed_rows(count=40))
    h = fourth_moment.hardness_spectrum(law)
    assert fourth_moment.matched_direct_error(law, 12, 12) == pytest.approx((h / (12 + h)).sum().item())


def test_gaussian_law_gives_back_the_theory():
    cov = gaussian_case()
    law = fourth_moment.gaussian(cov)
    torch.testing.assert_close(fourth_moment.mean_square(law, 7), theory.second_moment(cov, 7))
    torch.testing.assert_close(fourth_moment.gamma(law, 7, noise=0.5), theory.gamma(cov, 7, noise=0.5))
    assert fourth_moment.hardness(law) == pytest.approx(covariance.hardness(cov))
    other = covariance.power_law(5, 0.2)
    direct = theory.direct_error(theory.gamma(cov, 7), other, 11)
    measured = fourth_moment.direct_error(theory.gamma(cov, 7), fourth_moment.gaussian(other), 11)
    assert measured == pytest.approx(direct)
    assert fourth_moment.cot_error_bound(law, 9, 3) == pytest.approx(theory.cot_error_bound(cov, 9, 3))
    covs, probs, lengths = [cov, other], [0.3, 0.7], [4, 15]
    torch.testing.assert_close(
        fourth_moment.gamma_mixture([fourth_moment.gaussian(c) for c in covs], probs, lengths),
        theory.gamma_mixture(covs, probs, lengths),
    )


def test_gaussian_fourth_moment_by_monte_carlo():
    cov = gaussian_case()
    x = features.heavy_tailed(cov, float("inf"), 400_000, generator(1))
    middle = torch.randn((5, 5), generator=generator(2), dtype=torch.float64)
    exact = fourth_moment.gaussian(cov).fourth(middle)
    assert (fourth_moment.empirical(x).fourth(middle) - exact).norm() < 0.02 * exact.norm()


def test_student_t_is_elliptical_with_its_kappa():
    cov, dof = gaussian_case(), 14.0
    x = features.heavy_tailed(cov, dof, 400_000, generator(1))
    exact = fourth_moment.elliptical(cov, (dof - 2) / (dof - 4))
    found = fourth_moment.empirical(x)
    identity = torch.eye(5, dtype=torch.float64)
    assert (found.second - cov).norm() < 0.01 * cov.norm()
    assert (found.fourth(identity) - exact.fourth(identity)).norm() < 0.03 * exact.fourth(identity).norm()


def test_elliptical_hardness_grows_with_kappa():
    cov = gaussian_case()
    d, hard = 5, covariance.hardness(cov)
    assert fourth_moment.hardness(fourth_moment.elliptical(cov, 3.0)) == pytest.approx(3 * (2 + hard) - 2)
    assert hard > d


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_scaling_law_bounds_every_law_on_unlimited_prompts(seed, n, k):
    law = fourth_moment.empirical(skewed_rows(count=30, seed=seed))
    gamma = fourth_moment.gamma(law, n)
    limit = theory.cot_error_limit(gamma, law.second, k)
    assert limit <= fourth_moment.cot_error_bound(law, n, k) * (1 + 1e-6)
    # Thinking about unlimited prompts of the training law never hurts.
    assert limit >= theory.cot_error_limit(gamma, law.second, k + 1) * (1 - 1e-9)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), m=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_bound_on_the_direct_error_holds_with_the_hardness_of_the_law(seed, n, m):
    law = fourth_moment.empirical(skewed_rows(count=30, seed=seed))
    hard = 1 + fourth_moment.hardness(law)
    error = fourth_moment.matched_direct_error(law, n, m)
    assert error <= (3 / n**2 * hard**2 + 3 / m * hard) * (1 + 1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_rotation_and_units_change_nothing(seed, scale):
    x = skewed_rows(count=30, seed=seed)
    law = fourth_moment.empirical(x)
    turned = fourth_moment.empirical(scale * features.rotate(x, generator(seed)))
    torch.testing.assert_close(
        fourth_moment.hardness_spectrum(turned), fourth_moment.hardness_spectrum(law), rtol=1e-5, atol=1e-6
    )
    one = fourth_moment.cot_error(fourth_moment.gamma(law, 9), law, 11, 3)
    two = fourth_moment.cot_error(fourth_moment.gamma(turned, 9), turned, 11, 3)
    torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-9)


def test_cot_error_starts_at_d_and_tends_to_the_limit():
    law = fourth_moment.empirical(skewed_rows(count=40))
    gamma = fourth_moment.gamma(law, 10)
    error = fourth_moment.cot_error(gamma, law, 10**9, 5)
    limit = [theory.cot_error_limit(gamma, law.second, k) for k in range(6)]
    torch.testing.assert_close(error, torch.tensor(limit, dtype=torch.float64), rtol=1e-5, atol=1e-7)
    assert error[0].item() == pytest.approx(3)


def test_cot_error_beyond_one_step_misses_only_second_order():
    """The gap to the exact mean over all prompts must fall as 1/m²: by four when m doubles."""
    x = skewed_rows(count=3, d=2, seed=4) / 3
    law = fourth_moment.empirical(x)
    gamma = fourth_moment.gamma(law, 8)
    gaps = []
    for m in (6, 12):
        # 3 rows: prompts are counts (c0, c1, c2), multinomial.
        counts = torch.tensor([(a, b, m - a - b) for a in range(m + 1) for b in range(m + 1 - a)])
        ways = [math.factorial(m) / math.prod(map(math.factorial, c)) for c in counts.tolist()]
        weight = torch.tensor(ways, dtype=torch.float64) / 3**m
        grams = torch.einsum("bn,ni,nj->bij", counts.double() / m, x, x)
        exact = (weight[:, None] * errors.propagated_error(grams, gamma, 3)).sum(0)
        gaps.append((fourth_moment.cot_error(gamma, law, m, 3) - exact).abs())
    assert gaps[1][1] < 1e-6
    assert (gaps[1][2:] / gaps[0][2:]).max() < 0.4
    assert (gaps[0][2:] > 1e-6).all()


def test_label_noise_adds_its_share_to_gamma():
    law = fourth_moment.empirical(skewed_rows(count=40))
    gap = fourth_moment.gamma(law, 8, noise=2.0) - fourth_moment.gamma(law, 8)
    torch.testing.assert_close(gap, 0.5 * torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_gamma_of_real_laws_is_not_symmetric_and_of_elliptical_laws_it_is():
    law = fourth_moment.empirical(skewed_rows(count=40))
    gamma = fourth_moment.gamma(law, 8)
    assert (gamma - gamma.mT).norm() > 1e-3 * gamma.norm()
    round_ = fourth_moment.gamma(fourth_moment.elliptical(gaussian_case(), 2.5), 8)
    torch.testing.assert_close(round_, round_.mT)


def test_every_bad_argument_is_named():
    cov = gaussian_case()
    law, gamma = fourth_moment.gaussian(cov), theory.gamma(cov, 5)
    flat = fourth_moment.gaussian(torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)))
    cases = [
        ("second", lambda: fourth_moment.FeatureLaw(torch.ones(2, 3), law.fourth)),
        ("cov", lambda: fourth_moment.gaussian(-cov)),
        ("kappa must be at least 1", lambda: fourth_moment.elliptical(cov, 0.5)),
        ("x must be finite", lambda: fourth_moment.empirical(torch.full((2, 2), math.nan))),
        ("x must be a floating-point", lambda: fourth_moment.empirical([[1.0, 2.0]])),
        ("gamma must be invertible", lambda: fourth_moment.direct_error(torch.zeros_like(gamma), law, 3)),
        ("n must be", lambda: fourth_moment.gamma(law, 0)),
        ("noise", lambda: fourth_moment.gamma(law, 3, noise=-1.0)),
        ("laws must have a non-singular", lambda: fourth_moment.gamma(flat, 3)),
        ("law.second must have a non-singular", lambda: fourth_moment.hardness(flat)),
        ("laws and lengths", lambda: fourth_moment.gamma_mixture([law], [1.0], [3, 4])),
        ("probs", lambda: fourth_moment.gamma_mixture([law], [0.5], [3])),
        ("m must be", lambda: fourth_moment.direct_error(gamma, law, 0)),
        ("gamma and law", lambda: fourth_moment.direct_error(torch.eye(2, dtype=torch.float64), law, 3)),
        ("steps", lambda: fourth_moment.cot_error(gamma, law, 3, -1)),
        ("k must be", lambda: fourth_moment.cot_error_bound(law, 3, -1)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
