"""The non-Gaussian theory against Isserlis, brute force over all prompts and Monte Carlo."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import covariance, errors, laws, prompts, theory


def skewed_rows(count=7, d=3, seed=0):
    """A small population that is neither centred, symmetric nor elliptical."""
    normal = torch.randn((count, d), generator=generator(seed), dtype=torch.float64)
    return normal.exp() @ torch.randn((d, d), generator=generator(seed + 1), dtype=torch.float64)


def all_grams(x, n):
    """Σ̂ of every one of the N^n equally likely prompts: an expectation over them is a finite sum."""
    index = torch.tensor(list(itertools.product(range(len(x)), repeat=n)))
    return x[index].mT @ x[index] / n


def hardness(law):
    return theory.hardness_spectrum(law)[-1].item() - 1


def gaussian_case():
    return covariance.rotate(covariance.power_law(5, 0.7), generator(3))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_mean_square_is_the_average_over_all_prompts(n):
    x = skewed_rows()
    grams = all_grams(x, n)
    middle = torch.randn((3, 3), generator=generator(5), dtype=torch.float64)
    law = laws.rows(x)
    torch.testing.assert_close(theory.second_moment(law, n), (grams @ grams).mean(0))
    torch.testing.assert_close(theory.second_moment(law, n, middle), (grams @ middle @ grams).mean(0))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gamma_minimises_the_one_step_loss_over_all_prompts(n):
    x = skewed_rows()
    grams = all_grams(x, n)
    best = torch.linalg.inv(theory.gamma(laws.rows(x), n)).requires_grad_()
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
    assert theory.direct_error(gamma, laws.rows(x), m) == pytest.approx(brute, rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 2), (9, 50), (20, 20)])
def test_matched_error_from_the_hardness_spectrum(n, m):
    law = laws.rows(skewed_rows(count=40))
    general = theory.direct_error(theory.gamma(law, n), law, m)
    assert theory.matched_direct_error(law, n, m) == pytest.approx(general, rel=1e-8)


def test_matched_error_at_equal_lengths_is_a_sum_of_fractions():
    law = laws.rows(skewed_rows(count=40))
    h = theory.hardness_spectrum(law)
    assert theory.matched_direct_error(law, 12, 12) == pytest.approx((h / (12 + h)).sum().item())


def test_gaussian_law_gives_the_formulas_of_the_paper():
    cov, n, m, noise = gaussian_case(), 7, 11, 0.5
    other, eye = covariance.power_law(5, 0.2), torch.eye(5, dtype=torch.float64)
    second = {c: (1 + 1 / n) * c @ c + torch.trace(c) / n * c for c in (cov, other)}
    torch.testing.assert_close(theory.second_moment(cov, n), second[cov])
    gamma = (1 + 1 / n) * cov + (torch.trace(cov) + noise**2) / n * eye
    torch.testing.assert_close(theory.gamma(cov, n, noise), gamma)
    assert hardness(cov) == pytest.approx((torch.trace(cov) / torch.linalg.eigvalsh(cov)[0]).item())
    a = torch.linalg.inv(gamma)
    spread = (a @ other).square().sum() + torch.trace(a @ other @ a.mT) * (torch.trace(other) + noise**2)
    exact_error = (eye - a @ other).square().sum() + spread / m
    assert theory.direct_error(gamma, other, m, noise) == pytest.approx(exact_error.item())
    mean = 0.3 * cov + 0.7 * other
    mixed = (0.3 * second[cov] + 0.7 * second[other]) @ torch.linalg.inv(mean)
    torch.testing.assert_close(theory.gamma_mixture([cov, laws.gaussian(other)], [0.3, 0.7], [n, n]), mixed)
    torch.testing.assert_close(theory.gamma_mixture(torch.stack([cov, other]), [0.3, 0.7], [n, n]), mixed)


def test_gaussian_fourth_moment_by_monte_carlo():
    cov = gaussian_case()
    x = laws.gaussian(cov).draw(1, 400_000, generator(1))[0]
    middle = torch.randn((5, 5), generator=generator(2), dtype=torch.float64)
    exact = laws.gaussian(cov).fourth(middle)
    assert (laws.rows(x).fourth(middle) - exact).norm() < 0.02 * exact.norm()


def test_student_t_is_elliptical_with_its_kappa():
    cov, dof = gaussian_case(), 14.0
    x = laws.student(cov, dof).draw(1, 400_000, generator(1))[0]
    exact = laws.student(cov, dof)
    found = laws.rows(x)
    identity = torch.eye(5, dtype=torch.float64)
    assert (found.second - cov).norm() < 0.01 * cov.norm()
    assert (found.fourth(identity) - exact.fourth(identity)).norm() < 0.03 * exact.fourth(identity).norm()


def test_elliptical_hardness_grows_with_kappa():
    cov = gaussian_case()
    d, hard = 5, covariance.hardness(cov)
    assert hardness(laws.student(cov, 5.0)) == pytest.approx(3 * (2 + hard) - 2)
    assert hard > d


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_scaling_law_bounds_every_law_on_unlimited_prompts(seed, n, k):
    law = laws.rows(skewed_rows(count=30, seed=seed))
    gamma = theory.gamma(law, n)
    limit = theory.cot_error_limit(gamma, law.second, k)
    assert limit <= theory.cot_error_bound(law, n, k) * (1 + 1e-6)
    # Thinking about unlimited prompts of the training law never hurts.
    assert limit >= theory.cot_error_limit(gamma, law.second, k + 1) * (1 - 1e-9)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), m=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_bound_on_the_direct_error_holds_with_the_hardness_of_the_law(seed, n, m):
    law = laws.rows(skewed_rows(count=30, seed=seed))
    hard = 1 + hardness(law)
    error = theory.matched_direct_error(law, n, m)
    assert error <= (3 / n**2 * hard**2 + 3 / m * hard) * (1 + 1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_rotation_and_units_change_nothing(seed, scale):
    x = skewed_rows(count=30, seed=seed)
    law = laws.rows(x)
    turned = laws.rows(scale * x @ covariance.haar(3, generator(seed)))
    torch.testing.assert_close(
        theory.hardness_spectrum(turned), theory.hardness_spectrum(law), rtol=1e-5, atol=1e-6
    )
    one = theory.cot_error(theory.gamma(law, 9), law, 11, 3)
    two = theory.cot_error(theory.gamma(turned, 9), turned, 11, 3)
    torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-9)


def test_cot_error_starts_at_d_and_tends_to_the_limit():
    law = laws.rows(skewed_rows(count=40))
    gamma = theory.gamma(law, 10)
    error = theory.cot_error(gamma, law, 10**9, 5)
    limit = [theory.cot_error_limit(gamma, law.second, k) for k in range(6)]
    torch.testing.assert_close(error, torch.tensor(limit, dtype=torch.float64), rtol=1e-5, atol=1e-7)
    assert error[0].item() == pytest.approx(3)


@pytest.mark.parametrize("turn", [[[1.0, 0.0], [0.0, 1.0]], [[1.3, 0.6], [-0.5, 1.5]]])
def test_cot_error_beyond_one_step_misses_only_second_order(turn):
    """The gap to the exact mean over all prompts must fall as 1/m²: by four when m doubles, whatever Γ commutes with."""
    x = skewed_rows(count=3, d=2, seed=4) / 3
    law = laws.rows(x)
    gamma = theory.gamma(law, 8) @ torch.tensor(turn, dtype=torch.float64)
    gaps = []
    for m in (96, 192):  # long prompts, or the second order hides what is wrong with the first
        # 3 rows: prompts are counts (c0, c1, c2), multinomial.
        counts = [(a, b, m - a - b) for a in range(m + 1) for b in range(m + 1 - a)]
        ways = [math.lgamma(m + 1) - sum(math.lgamma(c + 1) for c in each) for each in counts]
        weight = (torch.tensor(ways, dtype=torch.float64) - m * math.log(3)).exp()
        grams = torch.einsum("bn,ni,nj->bij", torch.tensor(counts).double() / m, x, x)
        exact = (weight[:, None] * errors.propagated_error(grams, gamma, 4)).sum(0)
        gaps.append((theory.cot_error(gamma, law, m, 4) - exact).abs())
    assert gaps[1][1] < 1e-6
    assert (gaps[0][2:] > 1e-6).all()
    ratios = gaps[1][2:] / gaps[0][2:]
    assert ((ratios > 0.2) & (ratios < 0.3)).all()
    assert theory.cot_error(gamma, law, 96, 0).tolist() == [2]


@pytest.mark.parametrize("d", [2, 3])
def test_the_first_order_in_1_over_m_is_half_the_second_derivative_along_each_row(d):
    """Of ‖(T − AE)^k‖² in E = x xᵀ − Σ, averaged over the rows: no expansion of ours, and a Γ that commutes with nothing."""
    x = skewed_rows(count=5 * d, d=d, seed=d) / 3
    law = laws.rows(x)
    gamma = theory.gamma(law, 8) @ (torch.eye(d) + 0.5 * torch.ones(d, d).triu(1)).double()
    inverse = torch.linalg.inv(gamma)

    def error(share, row, k):
        moved = law.second + share * (torch.outer(row, row) - law.second)
        return torch.linalg.matrix_power(torch.eye(d) - inverse @ moved, k).square().sum()

    curvature = torch.func.grad(torch.func.grad(error))
    start = torch.zeros((), dtype=torch.float64)
    for k, found in enumerate(theory.cot_error(gamma, law, 50, 6).tolist()):
        first = sum(curvature(start, row, k).item() for row in x) / len(x) / 2 / 50
        assert found == pytest.approx(error(start, x[0], k).item() + first, rel=1e-9)


def test_label_noise_adds_its_share_to_gamma():
    law = laws.rows(skewed_rows(count=40))
    gap = theory.gamma(law, 8, noise=1.5) - theory.gamma(law, 8)
    torch.testing.assert_close(gap, 1.5**2 / 8 * torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_gamma_of_real_laws_is_not_symmetric_and_of_elliptical_laws_it_is():
    law = laws.rows(skewed_rows(count=40))
    gamma = theory.gamma(law, 8)
    assert (gamma - gamma.mT).norm() > 1e-3 * gamma.norm()
    round_ = theory.gamma(laws.student(gaussian_case(), 16 / 3), 8)
    torch.testing.assert_close(round_, round_.mT)


def test_faint_jitter_is_an_independent_gaussian_added_to_every_row():
    x, variance = skewed_rows(count=9), 0.3
    middle = torch.randn((3, 3), generator=generator(5), dtype=torch.float64)
    law = laws.rows(x, jitter=variance)
    noise = variance**0.5 * torch.randn((400_000, 3), generator=generator(6), dtype=torch.float64)
    shaken = x[torch.randint(9, (400_000,), generator=generator(7))] + noise
    terms = torch.einsum("ni,nj,nk,nl,jk->nil", shaken, shaken, shaken, shaken, middle)
    z = (terms.mean(0) - law.fourth(middle)) / errors.standard_error(terms)
    assert z.abs().max() < 4.5
    torch.testing.assert_close(law.second, laws.rows(x).second + variance * torch.eye(3, dtype=torch.float64))


def test_a_direction_without_features_has_the_gaussian_limit_and_infinite_hardness():
    flat = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))
    faint = flat + 1e-9 * torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    for make in (laws.gaussian, lambda cov: laws.student(cov, 9.0)):
        torch.testing.assert_close(theory.gamma(make(flat), 5), theory.gamma(make(faint), 5))
        assert math.isinf(hardness(make(flat)))
        assert theory.matched_direct_error(make(flat), 5, 7) == pytest.approx(
            theory.matched_direct_error(make(faint), 5, 7), rel=1e-6
        )


def test_hardness_of_rows_keeps_its_digits_at_condition_numbers_that_their_square_would_not():
    """Against rational arithmetic: one feature in units that are a million times smaller."""
    rows = [(3, 1), (-1, 2), (2, -2), (0, 5)]
    small = Fraction(1, 10**6)
    exact_rows = [(Fraction(a), b * small) for a, b in rows]
    second = [[sum(x[i] * x[j] for x in exact_rows) / 4 for j in (0, 1)] for i in (0, 1)]
    det = second[0][0] * second[1][1] - second[0][1] ** 2
    inverse = [[second[1][1] / det, -second[0][1] / det], [-second[0][1] / det, second[0][0] / det]]
    loud = [
        [sum((x[0] ** 2 + x[1] ** 2) * x[i] * x[j] for x in exact_rows) / 4 for j in (0, 1)] for i in (0, 1)
    ]

    def product(a, b):
        return [[sum(a[i][k] * b[k][j] for k in (0, 1)) for j in (0, 1)] for i in (0, 1)]

    ratio = product(product(inverse, loud), inverse)
    trace = ratio[0][0] + ratio[1][1]
    det = ratio[0][0] * ratio[1][1] - ratio[0][1] ** 2
    least = float(det / trace)  # up to (least / largest)², far below rounding
    law = laws.rows(torch.tensor([[float(a), float(b)] for a, b in exact_rows], dtype=torch.float64))
    assert theory.hardness_spectrum(law)[0].item() + 1 == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("make", [laws.gaussian, lambda cov: laws.student(cov, 12.0), None])
def test_features_that_are_drawn_have_the_moments_of_the_law(make):
    law = laws.rows(skewed_rows(count=9)) if make is None else make(gaussian_case())
    drawn = law.draw(50_000, 4, generator(3))
    assert drawn.shape == (50_000, 4, law.d)
    grams = drawn.mT @ drawn / 4
    for found, expected in ((grams, law.second), (grams @ grams, theory.second_moment(law, 4))):
        assert errors.z_scores(found, expected).abs().max() < 4.5


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_moments_of_prompts_of_any_law_are_those_of_the_prompts(noise, monkeypatch):
    law, m = laws.rows(skewed_rows(count=9)), 5
    monkeypatch.setattr(prompts, "_ELEMENTS", 100 * m * law.d)  # a hundred prompts at a time
    moments = prompts.sample_moments(law, m, 20_000, noise, generator(1))
    error = (moments.w - moments.cross @ torch.linalg.inv(theory.gamma(law, m, noise)).mT).square().sum(-1)
    expected = theory.direct_error(theory.gamma(law, m, noise), law, m, noise)
    assert errors.z_scores(error, expected).abs() < 4.5


def test_every_bad_argument_is_named(refuses):
    cov = gaussian_case()
    law, gamma = laws.gaussian(cov), theory.gamma(cov, 5)
    flat = laws.rows(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0]], dtype=torch.float64))
    cases = [
        ("cov", lambda: laws.gaussian(-cov)),
        ("dof must be above 2", lambda: laws.student(cov, 2.0)),
        ("dof must be above 4", lambda: theory.second_moment(laws.student(cov, 3.0), 3)),
        ("x must be finite", lambda: laws.rows(torch.full((2, 2), math.nan))),
        ("x must be a tensor", lambda: laws.rows([["a", "b"]])),
        ("gamma must be invertible", lambda: theory.direct_error(torch.zeros_like(gamma), law, 3)),
        ("n must be", lambda: theory.gamma(law, 0)),
        ("noise", lambda: theory.gamma(law, 3, noise=-1.0)),
        ("tasks must cover every direction", lambda: theory.gamma(flat, 3)),
        ("law must have a non-singular", lambda: hardness(flat)),
        ("lengths must hold one for each", lambda: theory.gamma_mixture([law], [1.0], [3, 4])),
        ("tasks must be a sequence", lambda: theory.gamma_mixture([], [], [])),
        ("must share the dimension", lambda: theory.gamma_mixture([law, torch.eye(2)], [0.5, 0.5], [3, 3])),
        ("probs", lambda: theory.gamma_mixture([law], [0.5], [3])),
        ("m must be", lambda: theory.direct_error(gamma, law, 0)),
        ("gamma and law", lambda: theory.direct_error(torch.eye(2, dtype=torch.float64), law, 3)),
        ("steps", lambda: theory.cot_error(gamma, law, 3, -1)),
        ("k must be", lambda: theory.cot_error_bound(law, 3, -1)),
    ]
    for message, call in cases:
        with refuses(message):
            call()


@pytest.mark.parametrize("law", [laws.student(gaussian_case(), 6.0), laws.rows(skewed_rows(count=40))])
def test_what_a_law_knows_of_itself_is_what_its_moments_say(law):
    """κ and the eigenvalues that a law brings along are short cuts: without them the same comes out."""
    bare = laws.Law(law.second, law.fourth, law.draw)
    torch.testing.assert_close(theory.gamma(law, 7, 1.5), theory.gamma(bare, 7, 1.5))
    torch.testing.assert_close(
        theory.hardness_spectrum(law), theory.hardness_spectrum(bare), rtol=1e-7, atol=1e-9
    )
    # Independent of both: the eigenvalues of KΛ⁻² are those of Λ⁻¹KΛ⁻¹.
    fourth = law.fourth(torch.eye(len(law.second), dtype=torch.float64))
    ratio = fourth @ torch.linalg.matrix_power(torch.linalg.inv(law.second), 2)
    expected = torch.linalg.eigvals(ratio).real.sort().values - 1
    torch.testing.assert_close(theory.hardness_spectrum(bare), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("short_cut", [True, False])
def test_features_of_constant_length_in_one_dimension_have_no_hardness_and_never_less(short_cut):
    for size in torch.linspace(0.1, 3, 50, dtype=torch.float64):
        law = laws.rows(torch.stack([size, -size])[:, None])
        law = law if short_cut else laws.Law(law.second, law.fourth, law.draw)
        assert 0 <= theory.hardness_spectrum(law).item() < 1e-12


def test_unlike_units_are_not_singular_and_copies_of_a_feature_are():
    x = skewed_rows(count=40) * torch.tensor([1.0, 1e-9, 1e3], dtype=torch.float64)
    law = laws.rows(x)
    gamma = theory.gamma(law, 5)
    mixed = gamma @ law.second
    torch.testing.assert_close(mixed, theory.second_moment(law, 5), rtol=1e-6, atol=1e-30)
    for twin in (x[:, [0, 1, 0]], x * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)):
        with pytest.raises(ValueError, match="must cover every direction"):
            theory.gamma(laws.rows(twin), 5)


def test_endless_degrees_of_freedom_are_gaussian_and_too_few_foretell_nothing(refuses):
    cov = gaussian_case()
    torch.testing.assert_close(theory.gamma(laws.student(cov, math.inf), 7), theory.gamma(cov, 7))
    with refuses("dof must be above 4"):
        theory.hardness_spectrum(laws.student(cov, 3.0))
