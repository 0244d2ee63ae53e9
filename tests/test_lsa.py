"""Linear self-attention: the literal model against the recursion and the closed form, and what training finds."""

import math

import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import cot, covariance, lsa, prompts, theory


def rotated(d: int, alpha: float = 1.0, seed: int = 0) -> torch.Tensor:
    return covariance.rotate(covariance.power_law(d, alpha), generator(seed))


def literal_chain(model: lsa.LinearSelfAttention, batch: prompts.Prompts, steps: int) -> torch.Tensor:
    """Chain of thought by the definition: all of f(E), then its last column appended to E."""
    m, d = batch.x.shape[1], batch.x.shape[2]
    embedding = lsa.embed(batch)
    for _ in range(steps):
        embedding = torch.cat([embedding, model(embedding, n=m)[:, :, -1:]], dim=2)
    return embedding[:, d + 1 : 2 * d + 1, m:].mT.detach()


def relative_gap(chain: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference between two chains, in units of the larger of 1 and the chain's own size at that step."""
    return ((chain - other).abs().amax((0, 2)) / other.abs().amax((0, 2)).clamp(min=1)).max().item()


def test_embedding_is_laid_out_as_the_paper_says():
    batch = prompts.sample_prompts(rotated(3), 4, 2, generator=generator())
    w0 = torch.randn(2, 3, generator=generator(1), dtype=torch.float64)
    embedding = lsa.embed(batch, w0)
    assert embedding.shape == (2, 8, 5)
    for b in range(2):
        for i in range(4):
            column = torch.cat([batch.x[b, i], batch.y[b, i : i + 1], torch.zeros(4, dtype=torch.float64)])
            assert torch.equal(embedding[b, :, i], column)
        last = torch.cat([torch.zeros(4), w0[b], torch.ones(1)])
        assert torch.equal(embedding[b, :, 4], last)
    assert lsa.embed(batch)[:, 4:7, 4].abs().max() == 0


def test_forward_is_the_attention_formula_entry_by_entry():
    d, n = 2, 3
    model = lsa.LinearSelfAttention(d)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64))
    embedding = lsa.embed(prompts.sample_prompts(rotated(d), n, 1, generator=generator(3)))
    e, v, w = embedding[0].numpy(), model.value.detach().numpy(), model.key_query.detach().numpy()
    expected = e.copy()
    for column in range(n + 1):
        for other in range(n + 1):
            score = sum(e[a, other] * w[a, b] * e[b, column] for a in range(6) for b in range(6))
            expected[:, column] += v @ e[:, other] * score / n
    np.testing.assert_allclose(model(embedding)[0].detach().numpy(), expected, rtol=1e-11)


@settings(deadline=None, max_examples=40)
@given(
    d=st.integers(1, 6),
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    steps=st.integers(0, 8),
    c=st.floats(0.2, 4.0),
    alpha=st.floats(0, 1.5),
    noise=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10**6),
)
def test_growing_context_equals_recursion_and_closed_form_on_every_step(
    d, n, m, steps, c, alpha, noise, seed
):
    train, test = rotated(d, alpha, seed), rotated(d, alpha / 2, seed + 1)
    gamma = theory.gamma(train, n)
    batch = prompts.sample_prompts(test, m, 3, noise=noise, generator=generator(seed))
    model = lsa.LinearSelfAttention.from_theory(train, n, c=c)
    literal = literal_chain(model, batch, steps)
    moments = batch.moments()
    assert literal.shape == (3, steps + 1, d)
    assert literal[:, 0].abs().max() == 0
    assert relative_gap(model.think(batch, steps), literal) < 1e-10
    assert relative_gap(cot.pseudo_newton(moments, gamma, steps), literal) < 1e-10
    if not noise:
        step = torch.eye(d, dtype=torch.float64) - torch.linalg.inv(gamma) @ moments.gram
        closed = torch.stack(
            [
                batch.w - (torch.linalg.matrix_power(step, k) @ batch.w[..., None])[..., 0]
                for k in range(steps + 1)
            ],
            1,
        )
        assert relative_gap(closed, literal) < 1e-10


def test_the_paper_size_agrees_to_1e_10_with_a_long_chain():
    d, n, m, steps = 10, 30, 200, 20
    cov = rotated(d)
    batch = prompts.sample_prompts(cov, m, 20, generator=generator(4))
    model = lsa.LinearSelfAttention.from_theory(cov, n)
    literal = literal_chain(model, batch, steps)
    torch.testing.assert_close(model.think(batch, steps), literal, rtol=0, atol=1e-10)
    fast = cot.pseudo_newton(batch.moments(), theory.gamma(cov, n), steps)
    torch.testing.assert_close(fast, literal, rtol=0, atol=1e-10)


def test_thoughts_in_context_do_not_disturb_later_ones():
    # A thought has no feature and no label, so that the value matrix has nothing to write from it: only the last column counts.
    cov = rotated(3)
    model = lsa.LinearSelfAttention.from_theory(cov, 10)
    batch = prompts.sample_prompts(cov, 12, 4, generator=generator(5))
    w = torch.randn(4, 3, generator=generator(6), dtype=torch.float64)
    fresh = model.answer(lsa.embed(batch, w), n=12)
    crowded = torch.cat(
        [lsa.embed(batch), lsa.embed(batch, -3 * w)[:, :, -1:], lsa.embed(batch, w)[:, :, -1:]], dim=2
    )
    torch.testing.assert_close(model.answer(crowded, n=12), fresh)


@settings(deadline=None, max_examples=20)
@given(
    d=st.integers(1, 4),
    columns=st.integers(2, 7),
    n=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 999),
)
def test_answer_is_the_last_column_of_forward(d, columns, n, seed):
    source = generator(seed)
    model = lsa.LinearSelfAttention(d)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    embedding = torch.randn(3, 2 * d + 2, columns, generator=source, dtype=torch.float64)
    torch.testing.assert_close(model.answer(embedding, n), model(embedding, n)[:, :, -1])


def test_answer_keeps_label_and_flag_of_the_target():
    model = lsa.LinearSelfAttention.from_theory(rotated(3), 10)
    batch = prompts.sample_prompts(rotated(3), 10, 5, generator=generator(7))
    answer = model.answer(lsa.embed(batch))
    assert answer[:, :4].abs().max() == 0
    assert (answer[:, -1] == 1).all()


@settings(deadline=None, max_examples=20)
@given(d=st.integers(2, 5), seed=st.integers(0, 999))
def test_chain_is_equivariant_under_rotations(d, seed):
    cov, n, m = rotated(d), 9, 7
    q = torch.linalg.qr(torch.randn(d, d, generator=generator(seed), dtype=torch.float64)).Q
    batch = prompts.sample_prompts(cov, m, 3, generator=generator(seed))
    turned = prompts.Prompts(batch.x @ q.mT, batch.y, batch.w @ q.mT)
    turned_cov = q @ cov @ q.mT
    there = lsa.LinearSelfAttention.from_theory((turned_cov + turned_cov.mT) / 2, n).think(turned, 5)
    here = lsa.LinearSelfAttention.from_theory(cov, n).think(batch, 5) @ q.mT
    assert relative_gap(there, here) < 1e-10


def test_chain_does_not_depend_on_the_order_of_examples_or_the_units_of_features():
    cov, m = rotated(4), 9
    batch = prompts.sample_prompts(cov, m, 3, generator=generator(8))
    chain = lsa.LinearSelfAttention.from_theory(cov, 12).think(batch, 6)
    order = torch.randperm(m, generator=generator(9))
    shuffled = prompts.Prompts(batch.x[:, order], batch.y[:, order], batch.w)
    torch.testing.assert_close(lsa.LinearSelfAttention.from_theory(cov, 12).think(shuffled, 6), chain)
    scaled = prompts.Prompts(5 * batch.x, 5 * batch.y, batch.w)
    torch.testing.assert_close(lsa.LinearSelfAttention.from_theory(25 * cov, 12).think(scaled, 6), chain)


@pytest.mark.parametrize("c", [0.5, 2.0])
@pytest.mark.parametrize(("alpha", "n"), [(0.0, 5), (0.7, 10), (1.0, 30)])
def test_population_gradient_descent_reaches_the_optimum_of_theorem_3_1(alpha, n, c):
    cov = rotated(4, alpha)
    model, history = lsa.train_population(cov, theory.second_moment(cov, n), 3000, c=c)
    expected = -torch.linalg.inv(theory.gamma(cov, n)) / c
    assert (torch.linalg.matrix_norm(model.v31 - expected) / torch.linalg.matrix_norm(expected)).item() < 1e-8
    rest = model.value.detach().clone()
    rest[5:9, :4] = 0
    assert rest.abs().max() == 0
    # The loss never rises and ends at the minimum, ½(d − tr(Γ⁻¹Λ)).
    assert (history.loss.diff() < 1e-13).all()
    minimum = (4 - torch.trace(torch.linalg.solve(theory.gamma(cov, n), cov))) / 2
    assert history.loss[-1].item() == pytest.approx(minimum.item(), rel=1e-10)
    assert history.loss[0] == 2


def test_population_loss_and_its_descent_are_those_of_the_full_model():
    # Autograd on many prompts against the formula: the loss, the gradient of V31, and zero for every other block of V.
    d, n, size, c = 3, 8, 100_000, 1.7
    cov = rotated(d)
    model = lsa.LinearSelfAttention(d, c)
    start = 0.3 * torch.randn(d, d, generator=generator(10), dtype=torch.float64)
    with torch.no_grad():
        model.v31.copy_(start)
    batch = prompts.sample_prompts(cov, n, size, generator=generator(11))
    target = torch.cat([torch.zeros(size, d + 1), batch.w, torch.ones(size, 1)], 1)
    losses = (model.answer(lsa.embed(batch)) - target).square().sum(1) / 2
    second = theory.second_moment(cov, n)
    a = -c * start
    exact = lsa.population_loss(a, cov, second).item()
    assert abs(losses.mean().item() - exact) < 4.5 * losses.std().item() / size**0.5
    chunks = torch.stack(
        [torch.autograd.grad(part.mean(), model.value, retain_graph=True)[0] for part in losses.chunk(50)]
    )
    expected = torch.zeros(2 * d + 2, 2 * d + 2, dtype=torch.float64)
    expected[d + 1 : 2 * d + 1, :d] = -c * (a @ second - cov)
    spread = chunks.std(0) / 50**0.5
    z = (chunks.mean(0) - expected).abs() / spread.clamp(min=1e-300)
    assert z[spread > 0].max() < 4.5
    assert expected[spread == 0].abs().max() == 0
    assert (expected.abs() > 10 * spread).any()


def test_gradient_of_w13_is_exactly_zero_when_the_first_estimate_is_zero():
    d = 4
    model = lsa.LinearSelfAttention.from_theory(rotated(d), 10, c=1.3)
    batch = prompts.sample_prompts(rotated(d), 10, 64, generator=generator(12))

    def gradient(w0: torch.Tensor | None) -> torch.Tensor:
        answer = model.answer(lsa.embed(batch, w0))[:, d + 1 : 2 * d + 1]
        loss = (answer - batch.w).square().sum(1).mean() / 2
        return torch.autograd.grad(loss, model.key_query)[0]

    dead = gradient(None)
    assert dead[:d, d + 1 : 2 * d + 1].abs().max() == 0
    assert dead[d, 2 * d + 1].abs() > 1e-4  # c is alive
    alive = gradient(torch.randn(64, d, generator=generator(13), dtype=torch.float64))
    assert alive[:d, d + 1 : 2 * d + 1].abs().max() > 1e-3


def test_training_on_sampled_prompts_comes_close_to_the_optimum():
    d, n = 3, 15
    cov, source = rotated(d, 0.7), generator(14)
    model = lsa.LinearSelfAttention(d)
    sample = lambda: prompts.sample_prompts(cov, n, 256, generator=source)  # noqa: E731
    history = lsa.train_lsa(model, sample, 500, 0.03)
    optimum = torch.linalg.inv(theory.gamma(cov, n))
    gap = torch.linalg.matrix_norm(model.preconditioner().detach() - optimum) / torch.linalg.matrix_norm(
        optimum
    )
    assert gap.item() < 0.02
    minimum = lsa.population_loss(optimum, cov, theory.second_moment(cov, n)).item()
    assert history.loss[-100:].mean().item() == pytest.approx(minimum, rel=0.05)
    assert history.c.tolist() == [1.0] * 500
    assert torch.equal(model.w13, torch.eye(d, dtype=torch.float64))


def test_free_training_moves_c_but_not_w13_and_thinking_rests_elsewhere_unless_tied():
    d, n = 3, 15
    cov = rotated(d, 0.7)
    test = prompts.sample_prompts(cov, 300, 200, generator=generator(15))
    resting = {}
    for tie in (False, True):
        source, model = generator(16), lsa.LinearSelfAttention(d)
        lsa.train_lsa(
            model,
            lambda s=source: prompts.sample_prompts(cov, n, 128, generator=s),
            400,
            0.03,
            train_w=True,
            tie=tie,
        )
        chain = model.think(test, 60)
        resting[tie] = (chain[:, -1] - test.w).square().sum(1).median().item()
        assert abs(model.c.item() - 1) > 0.1
        if tie:
            torch.testing.assert_close(model.w13, model.c * torch.eye(d, dtype=torch.float64))
        else:
            assert torch.equal(model.w13, torch.eye(d, dtype=torch.float64))
            # At rest W13 ŵ = c w*, if V writes nothing but weights from features.
            gap = (model.c.item() - 1) ** 2 * test.w.square().sum(1).median().item()
            assert resting[tie] == pytest.approx(gap, rel=0.5)
    assert resting[True] < 1e-3 < 0.01 < resting[False]


def test_training_is_reproducible():
    histories = []
    for seed in (1, 1, 2):
        source, model = generator(seed), lsa.LinearSelfAttention(2)
        histories.append(
            lsa.train_lsa(
                model,
                lambda s=source: prompts.sample_prompts(rotated(2), 5, 8, generator=s),
                20,
                0.05,
                rollout=1,
            )
        )
    assert torch.equal(histories[0].loss, histories[1].loss)
    assert torch.equal(histories[0].preconditioner, histories[1].preconditioner)
    assert not torch.equal(histories[0].loss, histories[2].loss)


def test_empirical_optimum_is_least_squares_and_converges_as_one_over_root_b():
    d, n = 4, 12
    cov = rotated(d)
    exact = torch.linalg.inv(theory.gamma(cov, n))
    moments = prompts.sample_moments(cov, n, 50, generator=generator(17))
    solved = np.linalg.lstsq(moments.cross.numpy(), moments.w.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(lsa.empirical_optimum(moments).numpy(), solved, rtol=1e-8)
    budgets, distance = [200, 800, 3200, 12_800], []
    for budget in budgets:
        learned = [
            lsa.empirical_optimum(prompts.sample_moments(cov, n, budget, generator=generator(100 + r)))
            - exact
            for r in range(30)
        ]
        distance.append(torch.stack(learned).square().sum((1, 2)).mean().sqrt().item())
    slope = np.polyfit(np.log(budgets), np.log(distance), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)
    assert distance[-1] < distance[0] / math.sqrt(64) * 1.4


def test_empirical_optimum_of_features_in_unlike_units():
    units = torch.tensor([1.0, 1e3, 1e8], dtype=torch.float64)
    moments = prompts.sample_moments(torch.diag(units**2), 12, 200, generator=generator(18))
    scale = moments.cross.std(0)
    solved = np.linalg.lstsq((moments.cross / scale).numpy(), moments.w.numpy(), rcond=None)[0].T
    found = lsa.empirical_optimum(moments) * scale
    np.testing.assert_allclose(found.numpy(), solved, rtol=1e-6, atol=1e-9)


def test_prompts_that_miss_a_direction_have_no_optimum(refuses):
    sample = prompts.sample_moments(
        covariance.power_law(4, 1.0), 10, 8, generator=torch.Generator().manual_seed(0)
    )
    copies = prompts.Moments(*(getattr(sample, name)[[0] * 8] for name in ("gram", "cross", "w")))
    with refuses("must be invertible"):
        lsa.empirical_optimum(copies)
    unknown = prompts.Moments(sample.gram, sample.cross, torch.full_like(sample.w, torch.nan))
    with refuses(r"moments\.w must be finite"):
        lsa.empirical_optimum(unknown)


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_what_the_population_loss_teaches_is_what_many_prompts_teach(noise):
    cov, n = covariance.rotate(covariance.power_law(3, 1.0), generator(2)), 6
    moments = prompts.sample_moments(cov, n, 200_000, noise, generator(3))
    found = lsa.learned_gamma(cov, n, noise)
    torch.testing.assert_close(torch.linalg.inv(lsa.empirical_optimum(moments)), found, rtol=0.05, atol=0.02)
    residual = moments.w - moments.cross @ torch.linalg.inv(found).mT  # the gradient of the loss vanishes
    entries = residual[:, :, None] * moments.cross[:, None, :]
    assert (entries.mean(0) / (entries.std(0) / len(entries) ** 0.5)).abs().max() < 4.5


@given(d=st.integers(1, 12), n=st.integers(1, 50), alpha=st.floats(0, 2), seed=st.integers(0, 50))
def test_cubature_and_wicks_formula_agree_on_the_moments_of_prompts(d, n, alpha, seed):
    cov = (
        covariance.rotate(covariance.power_law(d, alpha), generator(seed))
        if d > 1
        else 2 * torch.eye(1).double()
    )
    first, second = lsa.population_moments(cov, n)
    torch.testing.assert_close(first, cov)
    torch.testing.assert_close(second, theory.second_moment(cov, n))


def test_moments_of_prompts_are_those_of_many_prompts():
    cov = rotated(4)
    seen = prompts.sample_moments(cov, 6, 200_000, generator=generator(2))
    for found, value in zip(
        lsa.population_moments(cov, 6),
        (seen.cross.mT @ seen.w / 200_000, seen.cross.mT @ seen.cross / 200_000),
        strict=True,
    ):
        assert (found - value).norm() / value.norm() < 0.02


def test_descent_on_all_of_v_is_gradient_descent_on_the_loss_of_the_full_model():
    batch = prompts.sample_prompts(rotated(3), 5, 40, generator=generator(4))
    by_hand = lsa.LinearSelfAttention(3, 1.5)
    target = torch.cat([torch.zeros(40, 4), batch.w, torch.ones(40, 1)], dim=1)
    for _ in range(7):
        by_hand.zero_grad()
        loss = (by_hand.answer(lsa.embed(batch)) - target).square().sum(1).mean() / 2
        loss.backward()
        with torch.no_grad():
            by_hand.value -= 0.02 * by_hand.value.grad
    model = lsa.train_value(batch, steps=7, learning_rate=0.02, c=1.5)
    torch.testing.assert_close(model.value, by_hand.value)


@given(scale=st.floats(1e-3, 1e3), alpha=st.floats(0, 1.5), n=st.integers(2, 40), m=st.integers(1, 60))
def test_the_direct_error_does_not_know_the_units_of_the_features(scale, alpha, n, m):
    """The smallest eigenvalue does: it is no measure of difficulty across units."""
    cov = covariance.power_law(5, alpha)
    error = theory.direct_error(theory.gamma(cov, n), cov, m)
    assert theory.direct_error(theory.gamma(scale * cov, n), scale * cov, m) == pytest.approx(error, rel=1e-9)
