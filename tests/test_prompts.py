"""Prompts: the law of their labels, the two samplers of their moments, and mixtures of tasks."""

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsl import covariance, prompts


def rotated(d: int, alpha: float = 1.0) -> torch.Tensor:
    return covariance.rotate(covariance.power_law(d, alpha), generator(9))


@settings(deadline=None)
@given(d=st.integers(1, 5), n=st.integers(1, 8), size=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_noiseless_labels_are_inner_products_and_moments_follow(d, n, size, seed):
    batch = prompts.sample_prompts(rotated(d), n, size, generator=generator(seed))
    moments = batch.moments()
    for b in range(size):
        gram, cross = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
        for i in range(n):
            x, y = batch.x[b, i], batch.y[b, i]
            assert y.item() == pytest.approx((x @ batch.w[b]).item())
            gram, cross = gram + torch.outer(x, x) / n, cross + x * y / n
        torch.testing.assert_close(moments.gram[b], gram)
        torch.testing.assert_close(moments.cross[b], cross)
        torch.testing.assert_close(moments.cross[b], moments.gram[b] @ batch.w[b])


def test_features_weights_and_noise_have_their_covariances():
    cov, n, size, noise = rotated(3), 5, 20_000, 0.7
    batch = prompts.sample_prompts(cov, n, size, noise=noise, generator=generator(1))
    for samples, expected in (
        (batch.x[:, :, :, None] * batch.x[:, :, None, :], cov.expand(n, 3, 3)),
        (batch.w[:, :, None] * batch.w[:, None, :], torch.eye(3, dtype=torch.float64)),
        (batch.x[:, 0, :, None] * batch.x[:, 1, None, :], torch.zeros(3, 3, dtype=torch.float64)),
    ):
        z = (samples.mean(0) - expected) / (samples.std(0) / size**0.5)
        assert z.abs().max() < 4.5
    residual = (batch.y - torch.einsum("bnd,bd->bn", batch.x, batch.w)) / noise
    assert stats.kstest(residual.flatten().numpy(), stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("noise", [0.0, 0.8])
@pytest.mark.parametrize("m", [2, 4, 9])
def test_both_samplers_of_moments_draw_from_one_law(m, noise):
    d, size = 4, 6000
    cov = rotated(d)
    direct = prompts.sample_moments(cov, m, size, noise=noise, generator=generator(2))
    drawn = prompts.sample_prompts(cov, m, size, noise=noise, generator=generator(3)).moments()
    probe = torch.randn(d, generator=generator(4), dtype=torch.float64)
    statistics = {
        "tr Σ̂": lambda s: s.gram.diagonal(dim1=1, dim2=2).sum(1),
        "‖b‖": lambda s: s.cross.norm(dim=1),
        "⟨b, w⟩": lambda s: (s.cross * s.w).sum(1),
        "⟨b, probe⟩": lambda s: s.cross @ probe,
        "‖Σ̂b‖": lambda s: torch.einsum("bij,bj->bi", s.gram, s.cross).norm(dim=1),
        "‖b − Σ̂w‖": lambda s: (s.cross - torch.einsum("bij,bj->bi", s.gram, s.w)).norm(dim=1),
    }
    for name, statistic in statistics.items():
        if name == "‖b − Σ̂w‖" and noise == 0:
            assert statistic(direct).max() < 1e-12
            continue
        pvalue = stats.ks_2samp(statistic(direct).numpy(), statistic(drawn).numpy()).pvalue
        assert pvalue > 1e-4, f"{name}: p = {pvalue:.2g}"


def test_noise_of_the_cross_moment_has_covariance_sigma_squared_gram_over_m():
    cov, m, noise, size = rotated(3), 2, 0.5, 40_000  # m < d: the noise must stay in the span of the features
    moments = prompts.sample_moments(cov, m, size, noise=noise, generator=generator(5))
    error = moments.cross - torch.einsum("bij,bj->bi", moments.gram, moments.w)
    gap = error[:, :, None] * error[:, None, :] - noise**2 / m * moments.gram
    assert (gap.mean(0).abs() / (gap.std(0) / size**0.5)).max() < 4.5
    spectrum, vectors = torch.linalg.eigh(moments.gram)
    outside = (vectors[:, :, 0] * error).sum(-1)  # the direction without features
    assert spectrum[:, 0].abs().max() < 1e-12
    assert outside.abs().max() < 1e-7


def test_moments_cost_no_more_for_prompts_too_long_to_be_drawn():
    moments = prompts.sample_moments(rotated(3), 10**12, 50, noise=1.0, generator=generator(6))
    torch.testing.assert_close(moments.gram, rotated(3).expand(50, 3, 3), rtol=0, atol=1e-4)
    torch.testing.assert_close(moments.cross, moments.w @ rotated(3), rtol=0, atol=1e-4)


def test_mixture_draws_tasks_with_their_probabilities_and_keeps_their_properties():
    covs = [torch.eye(2, dtype=torch.float64), torch.diag(torch.tensor([0.0, 4.0], dtype=torch.float64))]
    mixture = prompts.TaskMixture(covs, [0.3, 0.7], [3, 11])
    size = 20_000
    parts = mixture.sample(size, generator(7))
    assert [part.x.shape[1] for part in parts] == [3, 11]
    counts = [len(part.x) for part in parts]
    assert sum(counts) == size
    assert stats.binomtest(counts[0], size, 0.3).pvalue > 1e-4
    assert parts[1].x[..., 0].abs().max() == 0
    moments = mixture.sample_moments(size, generator(8))
    expected = 0.3 * covs[0] + 0.7 * covs[1]
    z = (moments.gram.mean(0) - expected) / (moments.gram.std(0) / size**0.5)
    assert z.nan_to_num(0).abs().max() < 4.5


def test_tasks_that_are_never_drawn_are_left_out():
    covs = [torch.eye(2, dtype=torch.float64)] * 3
    parts = prompts.TaskMixture(covs, [0.0, 1.0, 0.0], [3, 5, 7]).sample(10, generator())
    assert [tuple(part.x.shape) for part in parts] == [(10, 5, 2)]


def test_same_seed_same_prompts():
    for sample in (prompts.sample_prompts, prompts.sample_moments):
        first, again, other = (sample(rotated(3), 4, 5, noise=0.1, generator=generator(s)) for s in (1, 1, 2))
        assert torch.equal(first.w, again.w)
        assert torch.equal(vars(first)[next(iter(vars(first)))], vars(again)[next(iter(vars(again)))])
        assert not torch.equal(first.w, other.w)


def test_one_batch_keeps_the_moments_of_every_prompt():
    mixture = prompts.TaskMixture(
        [covariance.power_law(4, 0.8, trace=4.0), torch.eye(4, dtype=torch.float64)], [0.5, 0.5], [5, 9]
    )
    groups = mixture.sample(20, generator(0))
    joined = prompts.one_batch(groups).moments()
    for name in ("gram", "cross", "w"):
        apart = torch.cat([getattr(group.moments(), name) for group in groups])
        torch.testing.assert_close(getattr(joined, name), apart)


def test_one_batch_needs_a_batch(refuses):
    with refuses("groups must hold at least one batch"):
        prompts.one_batch([])
