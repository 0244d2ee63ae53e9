"""Errors and their intervals: definitions, coverage, and the average over weights done exactly."""

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsl import cot, covariance, errors, exact, prompts, theory


def test_squared_error_is_the_distance_of_each_estimate():
    chain = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 2.0]]])
    w = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert errors.squared_error(chain, w).tolist() == [[0, 25], [1, 4]]


@settings(deadline=None)
@given(
    d=st.integers(1, 5),
    m=st.integers(1, 9),
    n=st.integers(1, 20),
    steps=st.integers(0, 6),
    seed=st.integers(0, 999),
)
def test_propagated_error_sums_over_a_basis_of_weights(d, m, n, steps, seed):
    # E over w ~ N(0, I) of a quadratic form in w is its sum over any orthonormal basis.
    cov = covariance.rotate(covariance.power_law(d, 0.8), generator(seed))
    gamma = theory.gamma(cov, n)
    gram = covariance.wishart(cov, m, 1, generator(seed)).expand(d, d, d)
    basis = torch.eye(d, dtype=torch.float64)
    moments = prompts.Moments(gram, torch.einsum("bij,bj->bi", gram, basis), basis)
    each = errors.squared_error(cot.pseudo_newton(moments, gamma, steps), basis)
    torch.testing.assert_close(errors.propagated_error(gram[:1], gamma, steps)[0], each.sum(0))
    assert errors.propagated_error(gram[:1], gamma, steps)[0, 0] == d


def test_propagated_error_is_the_mean_over_weights():
    cov = covariance.rotate(covariance.power_law(4, 1.0), generator())
    gamma = theory.gamma(cov, 8)
    gram = covariance.wishart(cov, 10, 1, generator(1)).expand(20_000, 4, 4)
    w = torch.randn(20_000, 4, generator=generator(2), dtype=torch.float64)
    moments = prompts.Moments(gram, torch.einsum("bij,bj->bi", gram, w), w)
    sampled = errors.squared_error(cot.pseudo_newton(moments, gamma, 6), w)
    z = (sampled.mean(0) - errors.propagated_error(gram[:1], gamma, 6)[0]) / errors.standard_error(sampled)
    assert z.abs().max() < 4.5


def test_propagated_error_reads_no_batch_of_matrices_as_vectors():
    # d matrices against d x d of d dimensions: torch.linalg.solve would take the former for vectors.
    gammas = covariance.wishart(torch.eye(3, dtype=torch.float64), 9, 9, generator()).reshape(3, 3, 3, 3)
    gram = covariance.wishart(torch.eye(3, dtype=torch.float64), 9, 3, generator(1))
    alone = torch.stack([errors.propagated_error(gram, row, 2) for row in gammas])
    torch.testing.assert_close(errors.propagated_error(gram, gammas, 2), alone)


def test_propagated_error_takes_a_preconditioner_for_each_prompt():
    gram = covariance.wishart(covariance.power_law(3, 0.5), 6, 4, generator())
    gammas = torch.stack([theory.gamma(covariance.power_law(3, 0.5), n) for n in (2, 4, 8, 16)])
    together = errors.propagated_error(gram, gammas, 5)
    alone = torch.cat([errors.propagated_error(gram[i : i + 1], gammas[i], 5) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_standard_error_along_any_axis():
    values = torch.randn(7, 11, generator=generator(3), dtype=torch.float64)
    for dim, axis in ((0, 0), (1, 1), (-1, 1)):
        expected = np.std(values.numpy(), axis=axis, ddof=1) / np.sqrt(values.shape[axis])
        np.testing.assert_allclose(errors.standard_error(values, dim).numpy(), expected)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_interval_covers_the_mean_as_often_as_it_says(confidence):
    # 4000 samples of size 4: few enough for the normal quantile to be too short, which is why Student's is used.
    trials = 4000
    values = 3 + 2 * torch.randn(4, trials, generator=generator(4), dtype=torch.float64)
    mean, low, high = errors.mean_interval(values, confidence=confidence)
    torch.testing.assert_close(mean, values.mean(0))
    torch.testing.assert_close(high - mean, mean - low)
    covered = ((low < 3) & (high > 3)).double().mean().item()
    assert abs(covered - confidence) < 4.5 * (confidence * (1 - confidence) / trials) ** 0.5


def test_interval_of_the_median_covers_it_for_cauchy_tails() -> None:
    trials, size = 2000, 41
    uniform = torch.rand(size, trials, dtype=torch.float64, generator=generator(5))
    values = torch.tan(torch.pi * (uniform - 0.5)) + 3.0  # Cauchy around 3, no mean
    median, low, high = errors.median_interval(values, 0.9)
    covered = ((low <= 3) & (high >= 3)).sum().item()
    assert stats.binomtest(covered, trials, 0.9).pvalue > 1e-4 or covered > 0.9 * trials
    assert covered < 0.95 * trials  # conservative, but not empty
    assert ((low <= median) & (median <= high)).all()


def test_interval_of_the_median_needs_enough_values(refuses):
    values = torch.randn(30, 5, generator=generator(6), dtype=torch.float64)
    with refuses("confidence must lie"):
        errors.median_interval(values, 1.0)
    with refuses("must hold at least"):
        errors.median_interval(values[:3])


def test_z_scores_are_standard_normal_when_the_prediction_is_right_and_move_with_it():
    values = 3 + 2 * torch.randn(400, 3000, generator=generator(7), dtype=torch.float64)
    z = errors.z_scores(values, 3.0)
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    moved = errors.z_scores(values, torch.full((3000,), 3.1, dtype=torch.float64))
    torch.testing.assert_close(z - moved, 0.1 / errors.standard_error(values))
    assert (errors.z_scores(torch.full((5, 2), 1.5), [1.5, 1.5]) == 0).all()


def test_intervals_of_geometric_means_and_their_ratios_cover_as_often_as_they_say():
    trials = 2000
    logs = torch.randn(6, trials, generator=generator(8), dtype=torch.float64)
    other = 0.5 + torch.randn(6, trials, generator=generator(9), dtype=torch.float64)
    middle, low, high = errors.geometric_interval(logs.exp())
    torch.testing.assert_close(middle, logs.exp().prod(0) ** (1 / 6))
    inside = int(((low < 1) & (high > 1)).sum())
    assert stats.binomtest(inside, trials, 0.95).pvalue > 1e-3
    found = [errors.ratio_interval(other[:, t].exp(), logs[:, t].exp()) for t in range(trials)]
    truth = np.exp(0.5)
    inside = sum(low < truth < high for _, low, high in found)
    assert stats.binomtest(inside, trials, 0.95).pvalue > 1e-3
    assert found[0][0] == pytest.approx((other[:, 0].mean() - logs[:, 0].mean()).exp().item())


def test_relative_distance_of_one_and_of_many():
    target = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    batch = torch.stack([target, 2 * target, target + torch.ones(2, 2, dtype=torch.float64)])
    expected = torch.tensor([0.0, 1.0, 2 / 5], dtype=torch.float64)
    torch.testing.assert_close(errors.relative_distance(batch, target), expected)
    assert errors.relative_distance(batch[1], target) == 1


def test_propagated_error_of_a_batch_of_batches_is_that_of_each(refuses):
    cov = covariance.rotate(covariance.power_law(3, 0.5), generator())
    gammas = torch.stack([theory.gamma(cov, n) for n in (2, 8)])
    grams = covariance.wishart(cov, [4, 9], 5, generator(1))
    together = errors.propagated_error(grams, gammas[:, None], 4)
    assert together.shape == (2, 5, 5)
    for index in range(2):
        alone = errors.propagated_error(grams[index], gammas[index], 4)
        torch.testing.assert_close(together[index], alone)
    with refuses("broadcasts"):
        errors.propagated_error(grams, gammas, 4)


def test_a_chain_that_overflows_has_an_infinite_error_and_never_an_unknown_one():
    gram = covariance.wishart(torch.eye(3, dtype=torch.float64), 5, 20, generator(4))
    curves = errors.propagated_error(gram, 1e-3 * torch.eye(3, dtype=torch.float64), 200)
    assert not curves.isnan().any()
    assert curves[:, -1].isinf().all()
    assert (curves.diff(dim=1) >= 0).logical_or(curves[:, 1:].isinf()).all()


def test_paired_difference_is_the_set_of_differences_that_the_score_test_does_not_reject():
    # Independently: the likeliest share lost under each difference by a grid, the statistic from the variance.
    gained, lost, n = 14, 5, 60
    middle, low, high = errors.paired_difference(gained, lost, n, 0.9)
    assert middle == pytest.approx((gained - lost) / n)
    for limit in (low, high):
        q = np.linspace(max(0, -limit), (1 - limit) / 2, 400_002)[1:-1]
        likely = (
            gained * np.log(q + limit) + lost * np.log(q) + (n - gained - lost) * np.log(1 - 2 * q - limit)
        )
        q = q[np.argmax(likely)]
        z = (gained - lost - n * limit) / np.sqrt(n * (2 * q + limit - limit**2))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.95), rel=1e-4)
    mirrored = errors.paired_difference(lost, gained, n, 0.9)
    assert mirrored == pytest.approx((-middle, -high, -low))


def test_paired_difference_excludes_zero_where_mcnemar_rejects():
    for gained, lost in [(9, 1), (9, 2), (9, 3), (5, 0), (3, 0), (30, 15), (30, 20)]:
        _, low, high = errors.paired_difference(gained, lost, 100)
        pvalue = 2 * stats.norm.sf(abs(gained - lost) / np.sqrt(gained + lost))
        assert (low > 0 or high < 0) == (pvalue < 0.05)


@pytest.mark.parametrize(("gain", "loss"), [(0.01, 0.01), (0.06, 0.03), (0.0, 0.04), (0.3, 0.1)])
@pytest.mark.parametrize("n", [20, 100])
def test_paired_difference_covers_as_often_as_it_says_where_few_questions_change(gain, loss, n):
    # Exact, by summing over all tables. Wald's interval has no width where nothing changes: 44 % of the third's, n = 20.
    covered = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            weight = stats.multinomial.pmf(
                [gained, lost, n - gained - lost], n, [gain, loss, 1 - gain - loss]
            )
            if weight > 1e-7:
                _, low, high = errors.paired_difference(gained, lost, n)
                covered += weight * (low <= gain - loss <= high)
    assert 0.93 < covered <= 1


def test_paired_difference_of_nothing_and_of_everything(refuses):
    _, low, high = errors.paired_difference(0, 0, 20)
    assert low == pytest.approx(-high)
    assert 0 < high < 0.25
    assert errors.paired_difference(20, 0, 20)[2] == 1
    with refuses("at most questions=3"):
        errors.paired_difference(2, 2, 3)


def test_holm_steps_down_and_keeps_the_order():
    found = errors.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # by hand: 3·0.01, max(0.06, 0.04), 2·0.03, 4·0.005
    assert errors.holm([]) == []
    assert errors.holm([0.9, 0.8]) == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_monotone_and_between_the_raw_and_the_bonferroni_value(pvalues):
    found = errors.holm(pvalues)
    for value, raw in zip(found, pvalues, strict=True):
        assert raw <= value <= min(1, raw * len(pvalues)) + 1e-12
    by_size = sorted(zip(pvalues, found, strict=True))
    assert [value for _, value in by_size] == sorted(found)


def test_holm_errs_in_any_of_many_at_most_as_often_as_it_says():
    uniform = torch.rand(2000, 12, dtype=torch.float64, generator=generator(10))
    wrong = sum(min(errors.holm(row)) <= 0.05 for row in uniform.tolist())
    assert stats.binomtest(wrong, 2000, 0.05, alternative="greater").pvalue > 1e-3
    assert wrong > 60


def test_sign_flips_of_whole_differences_are_mcnemars_exact_test():
    for gained, lost, tied in [(9, 1, 20), (5, 5, 3), (0, 6, 0), (31, 14, 100), (292, 11, 500)]:
        found = errors.sign_flip_pvalue([1] * gained + [-1] * lost + [0] * tied)
        assert found == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-6, abs=1e-13)
    assert errors.sign_flip_pvalue([0, 0]) == 1
    assert errors.sign_flip_pvalue([]) == 1


def test_sign_flips_of_parts_count_all_signs():
    differences = [0.25, -0.5, 0.75, 0.125, 0.5, 0.0, -0.25, 1.0]
    signs = np.array(list(np.ndindex(*[2] * len(differences)))) * 2 - 1
    sums = np.abs(signs @ np.array(differences))
    expected = (sums >= abs(sum(differences)) - 1e-12).mean()
    assert errors.sign_flip_pvalue(differences) == pytest.approx(expected)
    shifted = [0.301, -0.107, 0.553, 0.2, 0.9]  # no common denominator: rounded
    signs = np.array(list(np.ndindex(*[2] * 5))) * 2 - 1
    assert errors.sign_flip_pvalue(shifted) == pytest.approx(
        (np.abs(signs @ np.array(shifted)) >= sum(shifted) - 1e-12).mean()
    )


def test_a_geometric_mean_is_that_of_scipy_and_the_middle_of_its_interval():
    values = torch.tensor([[1.0, 2.0], [4.0, 8.0], [2.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(errors.geometric_mean(values), torch.from_numpy(stats.gmean(values, axis=0)))
    torch.testing.assert_close(errors.geometric_mean(values), errors.geometric_interval(values)[0])
    assert errors.geometric_mean(values[:1], dim=1).item() == pytest.approx(2**0.5)


def test_means_of_a_batch_of_settings_are_the_exact_ones():
    train = [covariance.power_law(4, 1.0), covariance.rotate(covariance.power_law(4, 0.5), generator(0))]
    test = [covariance.rotate(covariance.power_law(4, 0.3), generator(1)) / 2, covariance.power_law(4, 0.5)]
    gammas = torch.stack([theory.gamma(cov, n) for cov, n in zip(train, (8, 5), strict=True)])
    grams = covariance.wishart(torch.stack(test), [12, 3], 100_000, generator(3))
    drawn = errors.propagated_error(grams, gammas[:, None], 3)
    for index, m in enumerate((12, 3)):
        mean = exact.expected_error(gammas[index], test[index], m, 3)
        assert errors.z_scores(drawn[index], mean)[1:].abs().max() < 4


def test_an_asymmetric_preconditioner_is_taken_as_it_is_and_not_silently_symmetrised(refuses):
    # Γ of a mixture of tasks that do not commute is not symmetric.
    pair = [covariance.rotate(covariance.power_law(4, 1.0, trace=4.0), generator(seed)) for seed in (5, 6)]
    mixed = theory.gamma_mixture(pair, [0.5, 0.5], [20, 20])
    gram = covariance.wishart(pair[0], [12, 3], 2, generator(7))
    curves = errors.propagated_error(gram, torch.stack([mixed, mixed])[:, None], 3)
    step = torch.eye(4, dtype=torch.float64) - torch.linalg.inv(mixed) @ gram
    torch.testing.assert_close(curves[..., 3], torch.linalg.matrix_power(step, 3).square().sum((-1, -2)))
    symmetric = errors.propagated_error(gram, (mixed + mixed.mT) / 2, 3)
    assert ((curves / symmetric - 1).abs()[..., 1:] > 1e-5).all()
    with refuses("gamma must be invertible"):
        errors.propagated_error(gram, torch.stack([mixed, 0 * mixed])[:, None], 3)
