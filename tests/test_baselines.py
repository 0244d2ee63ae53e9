"""Baselines against NumPy, SciPy and scikit-learn, and against what theory says of their rates."""

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import cg
from sklearn.linear_model import Ridge

from tsl import baselines, covariance, errors, prompts


def batch_of(d: int, m: int, noise: float = 0.0, size: int = 6, seed: int = 0) -> prompts.Prompts:
    cov = covariance.rotate(covariance.power_law(d, 0.8), generator(seed))
    return prompts.sample_prompts(cov, m, size, noise=noise, generator=generator(seed + 1))


ALL = [
    baselines.ols,
    baselines.ridge,
    baselines.gradient_descent,
    baselines.newton,
    baselines.conjugate_gradient,
]


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize(("d", "m"), [(3, 8), (5, 2), (1, 1)])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_every_solver_starts_at_zero_and_returns_a_whole_chain(solver, d, m, steps):
    chain = solver(batch_of(d, m), steps)
    assert chain.shape == (6, steps + 1, d)
    assert chain[:, 0].abs().max() == 0
    assert torch.isfinite(chain).all()


@settings(deadline=None, max_examples=30)
@given(d=st.integers(1, 6), m=st.integers(1, 10), noise=st.sampled_from([0.0, 0.7]), seed=st.integers(0, 999))
def test_ols_is_lstsq_of_numpy(d, m, noise, seed):
    batch = batch_of(d, m, noise, seed=seed)
    answer = baselines.ols(batch, 3)
    for b in range(6):
        expected = np.linalg.lstsq(batch.x[b].numpy(), batch.y[b].numpy(), rcond=None)[0]
        np.testing.assert_allclose(answer[b, 1].numpy(), expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(answer[:, 1], answer[:, 3])


@settings(deadline=None, max_examples=30)
@given(d=st.integers(1, 6), m=st.integers(1, 10), penalty=st.floats(1e-3, 50), seed=st.integers(0, 999))
def test_ridge_is_scikit_learns(d, m, penalty, seed):
    batch = batch_of(d, m, 0.5, seed=seed)
    answer = baselines.ridge(batch, 1, penalty=penalty)
    for b in range(6):
        fitted = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(
            batch.x[b].numpy(), batch.y[b].numpy()
        )
        np.testing.assert_allclose(answer[b, 1].numpy(), fitted.coef_, rtol=1e-7, atol=1e-9)


def test_ridge_with_the_noise_variance_is_the_best_penalty():
    noise = 0.8
    batch = batch_of(4, 8, noise, size=40_000)
    errors_of = {
        penalty: errors.squared_error(baselines.ridge(batch, 1, penalty=penalty), batch.w)[:, 1]
        for penalty in (noise**2 / 3, noise**2, 3 * noise**2)
    }
    for penalty in (noise**2 / 3, 3 * noise**2):
        gain = errors_of[penalty] - errors_of[noise**2]
        assert (gain.mean() / errors.standard_error(gain)).item() > 4.5


def test_newton_lands_on_least_squares_in_one_step_and_stays():
    for m in (9, 2):
        batch = batch_of(4, m, 0.3)
        chain = baselines.newton(batch, 3)
        least_squares = baselines.ols(batch)[:, 1]
        for step in (1, 3):
            torch.testing.assert_close(chain[:, step], least_squares, rtol=1e-7, atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(d=st.integers(1, 6), m=st.integers(1, 12), noise=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 999))
def test_conjugate_gradient_is_exact_after_as_many_steps_as_there_are_directions(d, m, noise, seed):
    batch = batch_of(d, m, noise, seed=seed)
    chain = baselines.conjugate_gradient(batch, 40)
    moments = batch.moments()
    residual = torch.einsum("bij,bj->bi", moments.gram, chain[:, min(d, m)]) - moments.cross
    spectrum = torch.linalg.eigvalsh(moments.gram)
    condition = spectrum[:, -1] / spectrum[:, max(0, d - m)]
    # The theorem is one of exact arithmetic: rounding is amplified by the condition number.
    assert (residual.norm(dim=1) <= 1e-13 * condition.square() * moments.cross.norm(dim=1) + 1e-12).all()
    # Long after it has finished it still stands there.
    easy = condition < 1e3
    torch.testing.assert_close(chain[easy, 40], baselines.ols(batch)[easy, 1], rtol=1e-6, atol=1e-7)


def test_conjugate_gradient_walks_as_scipys_does():
    batch = batch_of(7, 20, 0.4)
    chain = baselines.conjugate_gradient(batch, 6)
    moments = batch.moments()
    for b in range(6):
        walk = []
        cg(
            moments.gram[b].numpy(),
            moments.cross[b].numpy(),
            rtol=0,
            maxiter=6,
            callback=lambda w, to=walk: to.append(w.copy()),
        )
        np.testing.assert_allclose(chain[b, 1:].numpy(), np.array(walk), rtol=1e-8, atol=1e-10)


def test_conjugate_gradient_of_a_prompt_without_labels_is_zero():
    batch = batch_of(3, 6)
    silent = prompts.Prompts(batch.x, torch.zeros_like(batch.y), torch.zeros_like(batch.w))
    assert baselines.conjugate_gradient(silent, 10).abs().max() == 0


@settings(deadline=None, max_examples=30)
@given(d=st.integers(1, 6), m=st.integers(1, 15), seed=st.integers(0, 999))
def test_gradient_descent_keeps_the_rate_of_its_condition_number(d, m, seed):
    batch = batch_of(d, m, seed=seed)
    target = baselines.ols(batch)[:, 1]
    distance = (baselines.gradient_descent(batch, 12) - target[:, None]).norm(dim=2)
    spectrum = torch.linalg.eigvalsh(batch.moments().gram)
    low, high = spectrum[:, max(0, d - m)], spectrum[:, -1]
    bound = ((high - low) / (high + low))[:, None] ** torch.arange(13) * distance[:, :1]
    assert (distance <= bound * (1 + 1e-6) + 1e-7).all()


def test_gradient_descent_with_a_given_rate_is_its_definition():
    batch = batch_of(3, 8)
    chain, rate, w = (
        baselines.gradient_descent(batch, 4, learning_rate=0.3),
        0.3,
        torch.zeros(6, 3, dtype=torch.float64),
    )
    for step in range(5):
        torch.testing.assert_close(chain[:, step], w)
        residual = torch.einsum("bmd,bd->bm", batch.x, w) - batch.y
        w = w - rate * torch.einsum("bmd,bm->bd", batch.x, residual) / 8


def test_conjugate_gradient_is_never_behind_gradient_descent_in_its_own_norm():
    # Both are polynomials in Σ̂ of the same degree; conjugate gradient is the best of them in the Σ̂-norm.
    batch = batch_of(6, 12, 0.5, size=50)
    gram, target = batch.moments().gram, baselines.ols(batch)[:, 1]
    energy = {}
    for solver in (baselines.conjugate_gradient, baselines.gradient_descent):
        gap = solver(batch, 6) - target[:, None]
        energy[solver.__name__] = torch.einsum("bki,bij,bkj->bk", gap, gram, gap)
    assert (energy["conjugate_gradient"] <= energy["gradient_descent"] * (1 + 1e-9) + 1e-12).all()


def test_the_best_constant_step_looks_only_at_directions_that_vary():
    flat = torch.diag(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    batch = prompts.sample_prompts(flat, 30, 20, generator=torch.Generator().manual_seed(0))
    chain = baselines.gradient_descent(batch, 400)
    seen = (chain[:, -1] - batch.w)[:, :2]
    assert seen.abs().max() < 1e-9
    assert chain[:, :, 2].abs().max() < 1e-12
