"""Chain of thought: one entry for models and baselines, and the fast recursion's own properties."""

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsl import baselines, cot, covariance, errors, lsa, prompts, theory


def test_models_and_baselines_think_through_the_same_door():
    cov = covariance.power_law(3, 0.5)
    batch = prompts.sample_prompts(cov, 8, 5, generator=generator())
    model = lsa.LinearSelfAttention.from_theory(cov, 10)
    assert isinstance(model, cot.Thinker)
    assert torch.equal(cot.chain_of_thought(model, batch, 4), model.think(batch, 4))
    chain = cot.chain_of_thought(baselines.conjugate_gradient, batch, 4)
    assert torch.equal(chain, baselines.conjugate_gradient(batch, 4))


def test_a_model_that_returns_a_chain_of_another_length_is_named(refuses):
    batch = prompts.sample_prompts(covariance.power_law(2, 0.0), 4, 3, generator=generator())
    with refuses(r"model must return a chain of shape \(3, 6, 2\), got \(3, 3, 2\)"):
        cot.chain_of_thought(lambda prompts, steps: torch.zeros(3, 3, 2), batch, 5)


@settings(deadline=None, max_examples=30)
@given(
    d=st.integers(1, 5),
    m=st.integers(1, 12),
    steps=st.integers(0, 9),
    noise=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_pseudo_newton_is_the_recursion_prompt_by_prompt(d, m, steps, noise, seed):
    cov = covariance.rotate(covariance.power_law(d, 1.0), generator(seed))
    gamma = theory.gamma(cov, 7)
    moments = prompts.sample_moments(cov, m, 3, noise=noise, generator=generator(seed))
    chain = cot.pseudo_newton(moments, gamma, steps)
    for b in range(3):
        w = torch.zeros(d, dtype=torch.float64)
        for k in range(steps + 1):
            torch.testing.assert_close(chain[b, k], w, rtol=1e-9, atol=1e-10)
            w = w - torch.linalg.inv(gamma) @ (moments.gram[b] @ w - moments.cross[b])


def test_a_preconditioner_for_each_prompt():
    cov = covariance.power_law(3, 0.5)
    moments = prompts.sample_moments(cov, 9, 4, generator=generator(1))
    gammas = torch.stack([theory.gamma(cov, n) for n in (2, 5, 10, 50)])
    together = cot.pseudo_newton(moments, gammas, 6)
    for index in range(4):
        torch.testing.assert_close(together[index], cot.pseudo_newton(moments, gammas[index], 6)[index])


def test_a_prefix_of_a_chain_is_a_shorter_chain():
    moments = prompts.sample_moments(covariance.power_law(4, 1.0), 6, 5, generator=generator(2))
    gamma = theory.gamma(covariance.power_law(4, 1.0), 20)
    torch.testing.assert_close(
        cot.pseudo_newton(moments, gamma, 9)[:, :4], cot.pseudo_newton(moments, gamma, 3)
    )


def test_long_chains_rest_at_the_least_squares_solution():
    # With noise the chain does not rest at w* but where the prompt's own least-squares problem is solved; with m < d at the
    # interpolant that is reached from zero along the range of Γ⁻¹Σ̂.
    cov = covariance.rotate(covariance.power_law(3, 0.5), generator(3))
    gamma = theory.gamma(cov, 6)
    batch = prompts.sample_prompts(cov, 40, 20, noise=0.5, generator=generator(4))
    rest = cot.pseudo_newton(batch.moments(), gamma, 3000)[:, -1]
    torch.testing.assert_close(rest, baselines.ols(batch)[:, 1], rtol=1e-6, atol=1e-8)
    short = prompts.sample_prompts(cov, 2, 20, generator=generator(5)).moments()
    keep = torch.linalg.eigvals(torch.linalg.solve(gamma, short.gram)).real.amax(-1) < 1.9
    stuck = cot.pseudo_newton(short, gamma, 3000)[:, -1][keep]
    torch.testing.assert_close(
        torch.einsum("bij,bj->bi", short.gram[keep], stuck), short.cross[keep], rtol=1e-5, atol=1e-6
    )
    assert (stuck - short.w[keep]).square().sum(-1).median() > 1e-3  # the unseen direction stays unseen


@pytest.mark.parametrize(("m", "noise"), [(30, 0.0), (2, 0.0), (12, 0.6)])
def test_drawn_prompts_and_drawn_moments_give_the_same_errors_in_law(m, noise):
    d, n, size, steps = 3, 10, 4000, 6
    cov = covariance.rotate(covariance.power_law(d, 1.0), generator(6))
    full = cot.chain_of_thought(
        lsa.LinearSelfAttention.from_theory(cov, n),
        batch := prompts.sample_prompts(cov, m, size, noise=noise, generator=generator(7)),
        steps,
    )
    moments = prompts.sample_moments(cov, m, size, noise=noise, generator=generator(8))
    fast = cot.pseudo_newton(moments, theory.gamma(cov, n), steps)
    slow_error, fast_error = errors.squared_error(full, batch.w), errors.squared_error(fast, moments.w)
    for k in range(1, steps + 1):
        assert stats.ks_2samp(slow_error[:, k].numpy(), fast_error[:, k].numpy()).pvalue > 1e-4


def test_a_diverging_chain_grows_at_the_spectral_radius():
    gamma = theory.gamma(covariance.power_law(5, 1.0), 30)
    moments = prompts.sample_moments(torch.eye(5, dtype=torch.float64), 10**8, 3, generator=generator(9))
    size = errors.squared_error(cot.pseudo_newton(moments, gamma, 200), moments.w).sqrt()
    radius = torch.linalg.eigvals(torch.eye(5) - torch.linalg.inv(gamma)).abs().max().item()
    assert radius > 1
    torch.testing.assert_close(
        size[:, 200] / size[:, 199], torch.full((3,), radius).double(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_training_the_full_model_on_chains_damps_it(noise: float) -> None:
    """Gradient descent on the model's own forward pass, from thoughts (1 − (1 − η)^i) w*, against the theory."""
    eta, length, n = 0.3, 3, 12
    cov = covariance.power_law(3, 0.5)
    batch = prompts.sample_prompts(cov, n, 6000, noise, generator(4))
    model = lsa.LinearSelfAttention(3)
    optimizer = torch.optim.Adam([model.value], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        loss = torch.zeros((), dtype=torch.float64)
        for i in range(length):
            here, there = (1 - (1 - eta) ** j for j in (i, i + 1))
            answer = model.answer(lsa.embed(batch, here * batch.w))[:, 4:7]
            loss = loss + (answer - there * batch.w).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    louder = noise * (length / sum((1 - eta) ** (2 * i) for i in range(length))) ** 0.5
    expected = eta * torch.linalg.inv(theory.gamma(cov, n, louder))
    assert errors.relative_distance(model.preconditioner().detach(), expected) < 0.06
    least = lsa.empirical_optimum(cot.chain_lessons(batch.moments(), eta, length))
    assert errors.relative_distance(model.preconditioner().detach(), least) < 0.02


@given(damping=st.floats(0.05, 1.0), length=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_exact_labels_make_every_lesson_of_a_chain_the_same(damping: float, length: int, seed: int) -> None:
    moments = prompts.sample_moments(covariance.power_law(3, 1.0), 6, 12, generator=generator(seed))
    lessons = cot.chain_lessons(moments, damping, length)
    assert len(lessons.w) == 12 * length
    one = lsa.empirical_optimum(moments)
    torch.testing.assert_close(lsa.empirical_optimum(lessons), damping * one, rtol=1e-5, atol=1e-8)
    direct = cot.chain_lessons(moments, 1.0, 1)
    assert torch.equal(direct.cross, moments.cross)
    assert torch.equal(direct.w, moments.w)


def test_damping_beyond_one_is_named(refuses) -> None:
    moments = prompts.sample_moments(torch.eye(2, dtype=torch.float64), 6, 3, generator=generator())
    with refuses("damping must lie in"):
        cot.chain_lessons(moments, 1.5, 2)


def test_no_thought_at_all_is_a_chain_of_one():
    cov = covariance.power_law(3, 0.5)
    batch = prompts.sample_prompts(cov, 8, 5, generator=generator())
    chain = cot.chain_of_thought(lsa.LinearSelfAttention.from_theory(cov, 10), batch, 0)
    assert torch.equal(chain, torch.zeros(5, 1, 3, dtype=torch.float64))


def test_single_precision_thinks_in_double():
    cov = covariance.power_law(3, 0.5)
    exact = prompts.sample_moments(cov, 9, 4, generator=generator(1))
    rough = prompts.Moments(exact.gram.float(), exact.cross.float(), exact.w.float())
    gamma = theory.gamma(cov, 10)
    chain = cot.pseudo_newton(rough, gamma.float(), 20)
    again = prompts.Moments(rough.gram.double(), rough.cross.double(), rough.w.double())
    torch.testing.assert_close(
        chain, cot.pseudo_newton(again, gamma.float().double(), 20), rtol=1e-5, atol=1e-6
    )
    assert chain.dtype == torch.float64


def test_preconditioners_are_as_many_as_prompts(refuses):
    cov = covariance.power_law(3, 0.5)
    moments = prompts.sample_moments(cov, 9, 4, generator=generator(1))
    with refuses("gamma must hold one matrix or one for each of 4 prompts, got 3"):
        cot.pseudo_newton(moments, theory.gamma(cov, 5).expand(3, 3, 3), 2)


def test_errors_are_sampled_without_noise_unless_it_is_asked_for():
    cov = covariance.power_law(3, 0.5)
    gamma = theory.gamma(cov, 10)
    silent = cot.sampled_errors(gamma, cov, 9, 4, 50, generator=generator(2))
    assert torch.equal(silent, cot.sampled_errors(gamma, cov, 9, 4, 50, 0.0, generator(2)))
    loud = cot.sampled_errors(gamma, cov, 9, 1, 20_000, 2.0, generator(2))[:, 1]
    expected = theory.direct_error(gamma, cov, 9, 2.0)
    assert abs(loud.mean().item() - expected) < 4.5 * errors.standard_error(loud).item()
