"""Several chains against one: what is drawn, what is joined, and the exact errors against simulation and against limits."""

import pytest
import torch

from tsl import cot, errors, exact
from tsl.lab import parallel
from tsl.prompts import sample_prompts

EYE = torch.eye(3, dtype=torch.float64)


def draw(m=12, size=4000, noise=0.0, seed=0):
    return sample_prompts(EYE, m, size, noise, torch.Generator().manual_seed(seed))


def test_parts_hold_every_example_once_and_halves_none_twice():
    prompts = draw(6, 5)
    parts = parallel.split(prompts, 3)
    assert torch.equal(parts.x.view(5, 6, 3), prompts.x)
    assert torch.equal(parts.y.view(5, 6), prompts.y)
    assert torch.equal(parts.w[:3], prompts.w[:1].expand(3, 3))
    halves = parallel.random_halves(prompts, 4, torch.Generator().manual_seed(1))
    assert halves.x.shape == (20, 3, 3)
    torch.testing.assert_close(halves.y, torch.einsum("bnd,bd->bn", halves.x, halves.w))
    for row, labels in enumerate(halves.y):  # all from its own prompt, no example twice
        assert set(labels.tolist()) <= set(prompts.y[row // 4].tolist())
        assert len(set(labels.tolist())) == 3
    assert not torch.equal(halves.y[0], halves.y[1])


def test_the_mean_of_one_step_about_parts_is_one_step_about_the_whole():
    prompts = draw(12, 50, noise=0.5)
    whole = cot.pseudo_newton(prompts.moments(), 2 * EYE, 2)
    parts = cot.pseudo_newton(parallel.split(prompts, 4).moments(), 2 * EYE, 2).unflatten(0, (50, 4))
    joined = parallel.together(parts, 4)
    torch.testing.assert_close(joined[:, 1], whole[:, 1])
    # Two steps: mean(Bᵢ²) − (mean Bᵢ)² is positive semidefinite, so with exact labels parts are never better.
    exact_labels = draw(12, 50)
    parts = cot.pseudo_newton(parallel.split(exact_labels, 4).moments(), 2 * EYE, 2).unflatten(0, (50, 4))
    lost = errors.squared_error(parallel.together(parts, 4), exact_labels.w).mean(0)
    whole = errors.squared_error(cot.pseudo_newton(exact_labels.moments(), 2 * EYE, 2), exact_labels.w)
    assert lost[2] > whole.mean(0)[2]


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_exact_error_of_parts_is_what_simulation_gives(noise):
    prompts = draw(24, 20_000, noise)
    chains = cot.pseudo_newton(parallel.split(prompts, 2).moments(), 2.5 * EYE, 5).unflatten(0, (20_000, 2))
    found = errors.squared_error(parallel.together(chains, 2), prompts.w)
    assert errors.z_scores(found, parallel.error_of_parts(3, 24, 2.5, 5, 2, noise))[1:].abs().max() < 4
    one = parallel.error_of_parts(3, 24, 2.5, 5, 1, noise)
    torch.testing.assert_close(one, exact.isotropic_error(3, 24, 2.5, 5, noise))


def test_the_exact_error_of_noisy_thoughts_is_what_simulation_gives():
    moments = draw(24, 20_000).moments()
    generator = torch.Generator().manual_seed(2)
    chains = parallel.noisy_chains(moments, 2.5 * EYE, 6, 3, 0.4, generator)
    for count in (1, 3):
        found = errors.squared_error(parallel.together(chains, count), moments.w)
        predicted = parallel.error_with_noisy_thoughts(3, 24, 2.5, 6, count, 0.4)
        assert errors.z_scores(found, predicted)[1:].abs().max() < 4


def test_thoughts_without_noise_are_those_of_the_recursion():
    moments = draw(8, 10).moments()
    chains = parallel.noisy_chains(moments, 2 * EYE, 4, 2, 0.0, torch.Generator())
    torch.testing.assert_close(chains[:, 0], cot.pseudo_newton(moments, 2 * EYE, 4))
    assert torch.equal(chains[:, 0], chains[:, 1])


def test_at_the_break_even_noise_both_ways_cost_the_same():
    noise = parallel.break_even_noise(3, 24, 2.5, 3, 4)
    short = parallel.error_with_noisy_thoughts(3, 24, 2.5, 3, 4, noise)[-1]
    long = parallel.error_with_noisy_thoughts(3, 24, 2.5, 12, 1, noise)[-1]
    torch.testing.assert_close(short, long)
    assert noise > 0
    # Past the turn nothing need be noisy: d = m, and a long chain diverges.
    assert parallel.break_even_noise(5, 5, 1.2, 2, 8) == 0


def test_a_vote_is_not_moved_by_one_wild_chain():
    chains = torch.ones(1, 5, 1, 2)
    chains[:, 2] = 1e6
    assert parallel.together(chains, 5, vote=True).tolist() == [[[1.0, 1.0]]]
    assert parallel.together(chains, 2).tolist() == [[[1.0, 1.0]]]


def test_bad_counts_are_named(refuses):
    prompts = draw(6, 2)
    with refuses("parts must be at least 1 and divide m=6, got parts=4"):
        parallel.split(prompts, 4)
    with refuses("parts"):
        parallel.error_of_parts(3, 6, 2.0, 2, 4)
    with refuses("count must be an integer >= 1, got 0"):
        parallel.random_halves(prompts, 0, torch.Generator())
    with refuses("prompts must have at least 2 examples, got 1"):
        parallel.random_halves(draw(1, 2), 1, torch.Generator())
    with refuses("count must be at most the 3 chains, got 4"):
        parallel.together(torch.zeros(1, 3, 1, 2), 4)
    with refuses("noise"):
        parallel.noisy_chains(prompts.moments(), EYE, 1, 1, -1.0, torch.Generator())
