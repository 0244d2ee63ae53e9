"""Stopping rules: the identities they rest on, and the regret they promise."""

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import cot, covariance, errors, prompts, stopping, theory

STEPS = 20


def think(
    alpha: float, n: int, m: int, noise: float = 0.0, size: int = 200, seed: int = 0, steps: int = STEPS
):
    """Chains of a model trained on a power law and tested on isotropic prompts."""
    gamma = theory.gamma(covariance.power_law(5, alpha), n)
    batch = prompts.sample_prompts(torch.eye(5, dtype=torch.float64), m, size, noise, generator(seed))
    return cot.pseudo_newton(batch.moments(), gamma, steps), batch, gamma


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0, 1.5), n=st.integers(2, 60), m=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_noiseless_residual_turns_at_most_once(alpha: float, n: int, m: int, seed: int) -> None:
    chain, batch, _ = think(alpha, n, m, size=20, seed=seed)
    score = stopping.residual(chain, batch)
    curvature = score[:, 2:] * score[:, :-2] - score[:, 1:-1].square()  # log-convexity
    assert (curvature >= -1e-9 * score[:, 1:-1].square() - 1e-24).all()


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0, 1.5), n=st.integers(2, 60), m=st.integers(2, 40), noise=st.floats(0, 2))
def test_increments_in_the_metric_of_training_turn_at_most_once(
    alpha: float, n: int, m: int, noise: float
) -> None:
    chain, _, gamma = think(alpha, n, m, noise, size=20)
    change = chain.diff(dim=1)
    score = torch.einsum("bki,ij,bkj->bk", change, gamma, change)
    curvature = score[:, 2:] * score[:, :-2] - score[:, 1:-1].square()
    assert (curvature >= -1e-9 * score[:, 1:-1].square() - 1e-24).all()


def test_increment_ratio_tends_to_the_spectral_radius() -> None:
    chain, batch, gamma = think(1.0, 20, 12, size=50, steps=80)
    step = torch.eye(5, dtype=torch.float64) - torch.linalg.solve(gamma, batch.moments().gram)
    radius = torch.linalg.eigvals(step).abs().amax(-1)
    grows = radius > 1.05
    assert grows.sum() > 10
    torch.testing.assert_close(stopping.increment_ratio(chain)[grows, -1], radius[grows], rtol=3e-2, atol=0)


def test_a_chain_at_rest_does_not_diverge() -> None:
    chain = torch.zeros(1, 4, 2, dtype=torch.float64)
    chain[:, 1:] = 1.0
    assert stopping.increment_ratio(chain).tolist() == [[0.0, 0.0]]
    assert stopping.divergence_step(chain).tolist() == [3]


def test_divergence_step_is_where_the_smallest_increment_begins() -> None:
    position = torch.tensor([0.0, 4.0, 6.0, 7.0, 4.0, 12.0], dtype=torch.float64)  # increments 4, 2, 1, 3, 8
    assert stopping.divergence_step(position[None, :, None]).tolist() == [
        2
    ]  # from where the increment 1 leads on


@given(
    score=st.lists(st.floats(0, 100), min_size=1, max_size=15),
    patience=st.integers(1, 4),
)
def test_first_turn_never_looks_past_its_patience(score: list[float], patience: int) -> None:
    values = torch.tensor([score], dtype=torch.float64)
    chosen = stopping.first_turn(values, patience).item()
    seen = values[:, : chosen + patience + 1]
    assert seen.argmin().item() == chosen
    changed = values.clone()
    changed[:, chosen + patience + 1 :] = -1.0  # whatever comes later does not change the decision
    assert stopping.first_turn(changed, patience).item() == chosen


def test_known_ratio_gives_ridge_and_exact_labels_give_least_squares() -> None:
    batch = prompts.sample_prompts(covariance.power_law(4, 1.0), 9, 6, 0.5, generator(1))
    identity = torch.eye(4, dtype=torch.float64)
    for ratio in (0.5, 0.2):
        ridge = torch.linalg.solve(
            batch.x.mT @ batch.x + ratio**2 * identity, (batch.x.mT @ batch.y[..., None])
        )[..., 0]
        torch.testing.assert_close(stopping.posterior_mean(batch, ratio), ridge)
    pinv = (torch.linalg.pinv(batch.x) @ batch.y[..., None])[..., 0]
    torch.testing.assert_close(stopping.posterior_mean(batch, 0.0), pinv)


@pytest.mark.parametrize("m", [2, 4, 9])
def test_posterior_mean_is_the_integral_over_both_scales(m: int) -> None:
    """Against brute force: a grid over log τ and log ν, the Gaussian density of the labels at each point."""
    batch = prompts.sample_prompts(covariance.power_law(3, 1.0), m, 3, 0.4, generator(6))
    found = stopping.posterior_mean(batch)
    eye_m, eye_d = torch.eye(m, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    for x, y, mean in zip(batch.x, batch.y, found, strict=True):
        unit = (x.square().sum() / m).sqrt()
        nu = torch.logspace(-5, 3, 65, dtype=torch.float64)
        tau = torch.logspace(-4, 4, 161, dtype=torch.float64)
        ridge = torch.linalg.solve(
            x.T @ x + (nu * unit).square()[:, None, None] * eye_d, (x.T @ y)[:, None].expand(65, 3, 1)
        )[..., 0]
        shape = x @ x.T + (nu * unit).square()[:, None, None] * eye_m
        cov = tau.square()[:, None, None, None] * shape
        density = torch.distributions.MultivariateNormal(torch.zeros_like(y), cov).log_prob(y)
        weight = (density + (nu / (1 + nu.square())).log()).flatten()
        belief = torch.softmax(weight, 0).reshape(161, 65).sum(0)
        torch.testing.assert_close(mean, belief @ ridge, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("m", [5, 9, 30])
def test_exact_labels_of_enough_examples_give_the_true_weights(m: int) -> None:
    """With m ≥ d and exact labels w̄ is w*, so that the posterior rule is the oracle: it cannot fail there."""
    chain, batch, _ = think(1.0, 20, m)
    centre = stopping.posterior_mean(batch)
    # m = d leaves nothing over to tell noise by, except that the labels fit: less, and not nothing.
    if m > 5:
        assert (centre - batch.w).norm(dim=1).max() < 1e-5 * batch.w.norm(dim=1).max()
        assert torch.equal(
            stopping.stop_step(chain, batch), stopping.first_turn(errors.squared_error(chain, batch.w), 4)
        )
    exact = stopping.posterior_mean(batch, 0.0)
    torch.testing.assert_close(exact, batch.w, rtol=1e-6, atol=1e-6)


def test_unknown_noise_is_found_from_long_prompts_in_any_unit() -> None:
    for noise in (0.05, 0.5, 2.0):
        batch = prompts.sample_prompts(torch.eye(4, dtype=torch.float64), 200, 100, noise, generator(2))
        known, found = stopping.posterior_mean(batch, noise), stopping.posterior_mean(batch)
        assert (known - found).norm() < 0.03 * known.norm()


UNITS = st.floats(-6, 6).map(lambda power: 10.0**power)


@settings(max_examples=25, deadline=None)
@given(
    features=UNITS,
    labels=UNITS,
    d=st.integers(1, 6),
    m=st.integers(2, 14),
    noise=st.floats(0, 3),
    seed=st.integers(0, 10**6),
)
def test_rules_know_no_unit(features: float, labels: float, d: int, m: int, noise: float, seed: int) -> None:
    """x → ax, y → by, and a model trained in these units: w̄ → (b/a)w̄, every rule stops where it did, errors scale."""
    cov = covariance.power_law(d, 1.0)
    batch = prompts.sample_prompts(cov, m, 8, noise, generator(seed))
    unit = labels / features
    scaled = prompts.Prompts(features * batch.x, labels * batch.y, unit * batch.w)
    centre = stopping.posterior_mean(batch)
    torch.testing.assert_close(
        stopping.posterior_mean(scaled) / unit, centre, rtol=1e-4, atol=1e-6 * centre.norm().item()
    )

    def model(scale: float):
        gamma = theory.gamma(cov, 9) * scale**2
        return lambda part, steps: cot.pseudo_newton(part.moments(), gamma, steps)

    chain, again = model(1.0)(batch, 8), model(features)(scaled, 8)
    scores = [
        (
            (chain - centre[:, None]).square().sum(-1),
            (again - stopping.posterior_mean(scaled)[:, None]).square().sum(-1),
            unit,
        ),
        (stopping.residual(chain, batch), stopping.residual(again, scaled), labels),
        (
            stopping.held_out_error(model(1.0), batch, 8),
            stopping.held_out_error(model(features), scaled, 8),
            labels,
        ),
    ]
    for plain, other, scale in scores:
        floor = 1e-6 * plain.amax(1, keepdim=True)
        assert ((other / scale**2 - plain).abs() <= 1e-3 * plain + floor).all()
    one, other = stopping.increment_ratio(chain), stopping.increment_ratio(again)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(weights=st.sampled_from([1e-3, 0.1, 10.0, 1e4]), m=st.integers(2, 30), seed=st.integers(0, 10**6))
def test_larger_weights_and_noise_are_the_same_task(weights: float, m: int, seed: int) -> None:
    chain, batch, gamma = think(0.5, 10, m, 0.5, size=40, seed=seed)
    scaled = prompts.Prompts(batch.x, weights * batch.y, weights * batch.w)
    again = cot.pseudo_newton(scaled.moments(), gamma, STEPS)
    same = stopping.stop_step(chain, batch) == stopping.stop_step(again, scaled)
    assert same.double().mean() >= 0.95  # steps that tie up to rounding


def test_prompts_without_signal_are_answered() -> None:
    silent = prompts.Prompts(
        torch.ones(2, 4, 3).double(), torch.zeros(2, 4).double(), torch.zeros(2, 3).double()
    )
    empty = prompts.Prompts(
        torch.zeros(2, 4, 3).double(), torch.ones(2, 4).double(), torch.zeros(2, 3).double()
    )
    for batch in (silent, empty):
        assert torch.equal(stopping.posterior_mean(batch), torch.zeros(2, 3).double())
    huge = prompts.sample_prompts(torch.eye(3, dtype=torch.float64), 8, 2, 0.1, generator(8))
    far = prompts.Prompts(1e140 * huge.x, 1e-120 * huge.y, huge.w)
    torch.testing.assert_close(stopping.posterior_mean(far) * 1e260, stopping.posterior_mean(huge))


def test_single_precision_finds_the_noise_too() -> None:
    batch = prompts.sample_prompts(torch.eye(4, dtype=torch.float64), 20, 50, 0.3, generator(9))
    single = prompts.Prompts(batch.x.float(), batch.y.float(), batch.w.float())
    torch.testing.assert_close(
        stopping.posterior_mean(single).double(), stopping.posterior_mean(batch), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("m", [3, 12])
@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_distance_to_the_posterior_mean_ranks_steps_as_the_error_does_on_average(
    m: int, noise: float
) -> None:
    chain, batch, _ = think(0.5, 8, m, noise, size=20_000, steps=4)
    centre = stopping.posterior_mean(batch, noise)
    gap = errors.squared_error(chain, batch.w) - (chain - centre[:, None]).square().sum(-1)
    against_first = gap - gap[:, :1]  # zero on average: the posterior variance does not depend on the step
    # Exact labels and m ≥ d leave no posterior variance at all: then the gap is rounding, and a z-score of it is none.
    allowed = 4 * errors.standard_error(against_first) + 1e-12
    assert (against_first.mean(0).abs() <= allowed).all()


def test_posterior_rule_beats_the_best_fixed_step_and_one_step() -> None:
    for noise in (0.0, 0.5):
        chain, batch, _ = think(1.0, 20, 12, noise, size=2000)
        error = errors.squared_error(chain, batch.w)
        chosen = error.gather(1, stopping.stop_step(chain, batch)[:, None]).mean()
        assert chosen < 0.97 * error.mean(0).min()
        assert chosen >= error.min(1).values.mean()  # the oracle cannot be beaten


@pytest.mark.parametrize(("m", "noise"), [(3, 0.0), (6, 0.5), (12, 1.0)])
def test_rule_decides_online(m: int, noise: float) -> None:
    """A reader who has seen a chain only up to four steps past the chosen one chooses the same, whatever follows."""
    chain, batch, _ = think(0.3, 8, m, noise, size=60)
    chosen = stopping.stop_step(chain, batch)
    assert len(chosen.unique()) > 1
    for index, step in enumerate(chosen.tolist()):
        one = prompts.Prompts(batch.x[[index]], batch.y[[index]], batch.w[[index]])
        prefix = chain[[index], : step + 5]
        assert stopping.stop_step(prefix, one).item() == step
        if step + 4 <= STEPS:  # the rule had seen enough: even the best answer comes too late
            best = stopping.posterior_mean(one)[:, None]
            assert stopping.stop_step(torch.cat([prefix, best], 1), one).item() == step


def test_the_true_weights_are_not_used() -> None:
    chain, batch, _ = think(1.0, 20, 12, 0.5)
    blind = prompts.Prompts(batch.x, batch.y, torch.full_like(batch.w, torch.nan))
    assert torch.equal(stopping.stop_step(chain, batch), stopping.stop_step(chain, blind))


def test_rule_does_not_depend_on_the_axes() -> None:
    chain, batch, _ = think(1.0, 20, 12, 0.5)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator(3))).Q
    turned = prompts.Prompts(batch.x @ turn, batch.y, batch.w @ turn)
    assert torch.equal(stopping.stop_step(chain, batch), stopping.stop_step(chain @ turn, turned))


def test_held_out_error_is_that_of_models_that_never_saw_the_fold() -> None:
    _, batch, gamma = think(1.0, 20, 6, 0.3, size=4)
    model = lambda part, steps: cot.pseudo_newton(part.moments(), gamma, steps)  # noqa: E731
    measured = stopping.held_out_error(model, batch, 3, folds=6)
    expected = torch.zeros_like(measured)
    for left_out in range(6):
        kept = [i for i in range(6) if i != left_out]
        chain = model(prompts.Prompts(batch.x[:, kept], batch.y[:, kept], batch.w), 3)
        guess = torch.einsum("bkd,bd->bk", chain, batch.x[:, left_out])
        expected += (batch.y[:, left_out, None] - guess).square() / 6
    torch.testing.assert_close(measured, expected)


def test_bad_input_is_named(refuses) -> None:
    chain, batch, _ = think(1.0, 20, 6, size=3)
    with refuses("chain must have shape"):
        stopping.increment_ratio(chain[:, :2])
    with refuses("chain and prompts must agree"):
        stopping.stop_step(chain[:2], batch)
    with refuses("patience must be"):
        stopping.first_turn(stopping.residual(chain, batch), 0)
    with refuses("score must have shape"):
        stopping.first_turn(chain[:, :0, 0])
    with refuses("ratio must be"):
        stopping.stop_step(chain, batch, ratio=-1.0)
    with refuses("folds must be"):
        stopping.held_out_error(lambda p, k: chain, batch, 3, folds=1)
    alone = prompts.Prompts(batch.x[:, :1], batch.y[:, :1], batch.w)
    with refuses("prompts must hold at least 2 examples"):
        stopping.held_out_error(lambda p, k: chain, alone, 3)
    with refuses("prompts must be of type Prompts"):
        stopping.posterior_mean(batch.moments())


def test_divergence_begins_where_the_increments_begin_to_grow_and_not_where_they_stay() -> None:
    def walk(*increments: float) -> torch.Tensor:
        return torch.tensor([0.0, *increments], dtype=torch.float64).cumsum(0)[None, :, None]

    assert stopping.divergence_step(walk(1, 1, 1, 1.5)).item() == 2
    assert stopping.divergence_step(walk(4, 2, 1, 1.2, 3)).item() == 2
    assert stopping.divergence_step(walk(1, 1.1)).item() == 0
    assert stopping.divergence_step(walk(3, 2, 1)).item() == 3
    torch.testing.assert_close(
        stopping.increment_ratio(walk(4, 2, -3)), torch.tensor([[0.5, 1.5]], dtype=torch.float64)
    )


def test_shortest_chains_and_fewest_folds_are_taken() -> None:
    chain, batch, gamma = think(1.0, 20, 6, 0.3, size=4)
    assert stopping.increment_ratio(chain[:, :3]).shape == (4, 1)
    torch.testing.assert_close(stopping.residual(chain[:, :1], batch)[:, 0], batch.y.square().mean(-1))
    assert torch.equal(stopping.stop_step(chain[:, :1], batch), torch.zeros(4, dtype=torch.long))

    def model(part, steps):
        return cot.pseudo_newton(part.moments(), gamma, steps)

    halves = stopping.held_out_error(model, batch, 0, folds=2)
    torch.testing.assert_close(halves[:, 0], batch.y.square().mean(-1))  # ŵ_0 = 0 predicts nothing
    pair = prompts.Prompts(batch.x[:, :2], batch.y[:, :2], batch.w)
    assert stopping.held_out_error(model, pair, 3).shape == (4, 4)


def test_twenty_folds_unless_told_otherwise() -> None:
    _, batch, gamma = think(1.0, 20, 21, 0.3, size=4)

    def model(part, steps):
        return cot.pseudo_newton(part.moments(), gamma, steps)

    plain = stopping.held_out_error(model, batch, 3)
    assert torch.equal(plain, stopping.held_out_error(model, batch, 3, folds=20))
    assert not torch.equal(plain, stopping.held_out_error(model, batch, 3, folds=21))


def test_a_feature_that_stands_twice_is_seen_once() -> None:
    batch = prompts.sample_prompts(covariance.power_law(4, 1.0), 9, 6, 0.5, generator(1))
    twice = prompts.Prompts(batch.x[..., [0, 1, 2, 3, 0, 1]], batch.y, batch.w[:, [0, 1, 2, 3, 0, 1]])
    for scale in (1.0, 1e6):
        scaled = prompts.Prompts(scale * twice.x, twice.y, twice.w)
        pinv = (torch.linalg.pinv(scaled.x, rtol=1e-12) @ scaled.y[..., None])[..., 0]
        torch.testing.assert_close(stopping.posterior_mean(scaled, 0.0), pinv)
    found = stopping.posterior_mean(twice)
    torch.testing.assert_close(found[:, :2], found[:, 4:])  # what two share is shared equally


def test_a_short_prompt_whose_labels_are_all_zero_is_answered() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator(4))
    silent = prompts.Prompts(x, torch.zeros(2, 3).double(), torch.zeros(2, 5).double())
    assert torch.equal(stopping.posterior_mean(silent), torch.zeros(2, 5).double())


def test_one_step_of_patience_unless_told_otherwise() -> None:
    assert stopping.first_turn(torch.tensor([[3.0, 2.0, 2.5, 1.0], [3.0, 2.0, 1.0, 1.5]])).tolist() == [1, 2]
