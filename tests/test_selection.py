"""Task selection: the weights against independent optimisers, limits and invariances."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import covariance, errors, lsa, selection, theory
from tsl.lab import catalogues


def second_moments(tasks: catalogues.Catalogue) -> torch.Tensor:
    return torch.stack([theory.second_moment(c, n) for c, n in zip(tasks.covs, tasks.lengths, strict=True)])


def hard_target(d: int) -> torch.Tensor:
    return covariance.power_law(d, 0.8, trace=float(d))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(2, 6), copies=st.integers(1, 3), steps=st.integers(1, 8))
def test_both_selections_lie_exactly_on_the_simplex(seed, d, copies, steps):
    tasks = catalogues.catalogue(d, copies, catalogues.unrelated, generator(seed))
    for weights in (
        selection.select_tasks_qp(tasks.covs, hard_target(d)),
        selection.select_tasks(tasks.covs, tasks.lengths, hard_target(d), steps),
    ):
        assert weights.shape == (4 * copies,)
        assert (weights >= 0).all()
        assert weights.sum().item() == pytest.approx(1, abs=1e-15)


def slopes(covs: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Half the gradient of the program's objective in every weight, relative to its largest entries."""
    points = torch.linalg.solve(target, covs) - torch.eye(len(target), dtype=torch.float64)
    mean = torch.einsum("t,tij->ij", weights, points)
    return (points * mean).sum((1, 2)) / points.square().sum((1, 2)).max()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 7),
    copies=st.integers(1, 4),
    alpha=st.floats(0, 1.5),
    spread=st.floats(0, 4),
    frame=st.sampled_from([catalogues.turned(0.3), catalogues.shuffled, catalogues.unrelated]),
)
def test_qp_satisfies_the_optimality_conditions_in_any_units(seed, d, copies, alpha, spread, frame):
    """KKT: the slope of the objective is the same on every task in use, and nowhere smaller."""
    tasks = catalogues.catalogue(d, copies, frame, generator(seed))
    units = 10 ** (spread * (2 * torch.rand(d, generator=generator(seed + 1), dtype=torch.float64) - 1))
    covs, target = (
        cov * torch.outer(units, units)
        for cov in (tasks.covs, covariance.power_law(d, alpha, trace=float(d)))
    )
    weights = selection.select_tasks_qp(covs, target)
    found = slopes(covs, target, weights)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-15)
    assert (weights * (found - found.min())).max() < 1e-11


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1.0, 1e6])
def test_a_common_unit_and_a_rotation_cancel_in_the_qp(unit):
    tasks = catalogues.catalogue(6, 2, catalogues.turned(0.5), generator(3))
    whole = selection.select_tasks_qp(tasks.covs, hard_target(6))
    scaled = selection.select_tasks_qp(unit * tasks.covs, unit * hard_target(6))
    torch.testing.assert_close(scaled, whole, atol=1e-13, rtol=0)
    basis = catalogues.unrelated(6, generator(4))
    turn = lambda cov: (basis @ cov @ basis.mT + (basis @ cov @ basis.mT).mT) / 2  # noqa: E731
    torch.testing.assert_close(
        selection.select_tasks_qp(turn(tasks.covs), turn(hard_target(6))), whole, atol=1e-12, rtol=0
    )


def test_qp_agrees_with_an_interior_point_solver():
    for seed in range(4):
        tasks = catalogues.catalogue(8, 3, catalogues.unrelated, generator(seed))
        ratios = torch.linalg.solve(hard_target(8), tasks.covs).flatten(1).mT.numpy()
        weights = cp.Variable(12, nonneg=True)
        loss = cp.sum_squares(ratios @ weights - np.eye(8).ravel())
        cp.Problem(cp.Minimize(loss), [cp.sum(weights) == 1]).solve(solver=cp.CLARABEL)
        found = selection.select_tasks_qp(tasks.covs, hard_target(8))
        np.testing.assert_allclose(found.numpy(), weights.value, atol=1e-4)
        value = np.square(ratios @ found.numpy() - np.eye(8).ravel()).sum()
        assert value <= loss.value * (1 + 1e-9)


def test_qp_of_a_target_on_offer_is_that_task_and_nothing_else():
    tasks = catalogues.catalogue(8, 2, catalogues.unrelated, generator(2))
    for index in (0, 5):
        weights = selection.select_tasks_qp(tasks.covs, tasks.covs[index])
        torch.testing.assert_close(weights, torch.eye(8, dtype=torch.float64)[index], atol=1e-14, rtol=0)


def test_qp_is_right_to_the_last_digits_where_features_have_units_of_their_own():
    """Two tasks, raw gapminder-like units: the optimum is known in closed form."""
    units = torch.tensor([1e2, 1e8, 1e4], dtype=torch.float64)
    easy, hard, target = (
        covariance.rotate(covariance.power_law(3, alpha, trace=3.0), generator(9)) * torch.outer(units, units)
        for alpha in (0.2, 0.8, 0.6)
    )
    ratio = lambda cov: torch.linalg.solve(target, cov) - torch.eye(3, dtype=torch.float64)  # noqa: E731
    slope = ratio(easy) - ratio(hard)
    share = ((ratio(easy) * slope).sum() / slope.square().sum()).item()
    assert 0 < share < 1
    weights = selection.select_tasks_qp(torch.stack([easy, hard]), target)
    assert weights[1].item() == pytest.approx(share, rel=1e-7)


def test_a_faint_unit_does_not_make_a_target_singular():
    units = torch.tensor([1e-9, 1.0], dtype=torch.float64)
    target = torch.outer(units, units) * torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    weights = selection.select_tasks_qp(torch.stack([target, 2 * target]), target)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_qp_of_two_commuting_tasks_is_the_least_squares_solution():
    target, easy, hard = (covariance.power_law(20, alpha, trace=20.0) for alpha in (0.6, 0.2, 0.8))
    off_easy, off_hard = (1 - cov.diagonal() / target.diagonal() for cov in (easy, hard))
    slope = off_easy - off_hard
    share = (off_easy @ slope / (slope @ slope)).item()
    weights = selection.select_tasks_qp(torch.stack([easy, hard]), target)
    assert weights[1].item() == pytest.approx(share, abs=1e-13)


def test_qp_recovers_a_target_that_is_a_mixture():
    tasks = catalogues.catalogue(8, 1, catalogues.unrelated, generator(2))
    truth = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    target = torch.einsum("t,tij->ij", truth, tasks.covs)
    torch.testing.assert_close(selection.select_tasks_qp(tasks.covs, target), truth, atol=1e-12, rtol=0)


def test_qp_shares_the_weight_of_identical_tasks():
    tasks = catalogues.catalogue(6, 2, catalogues.turned(0.0), generator(), jitter=0.0)
    weights = selection.select_tasks_qp(tasks.covs, hard_target(6))
    torch.testing.assert_close(
        weights[tasks.hard], torch.full((4,), 0.25, dtype=torch.float64), atol=1e-7, rtol=0
    )


def test_of_several_optima_the_qp_takes_the_most_even():
    """Σ reached exactly in many ways: of π on the simplex with Σ π_ℓ s_ℓ = 1 for Λ_ℓ = s_ℓ Σ, that of least norm."""
    target, scales = hard_target(4), torch.tensor([1.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    weights = selection.select_tasks_qp(scales[:, None, None] * target, target)
    rows = torch.stack([torch.ones(4, dtype=torch.float64), scales])
    least = torch.linalg.pinv(rows) @ torch.ones(2, dtype=torch.float64)
    assert (least > 0).all()
    torch.testing.assert_close(weights, least, atol=1e-7, rtol=0)


def test_descent_on_the_exact_loss_of_a_mixture_ends_at_its_gamma():
    tasks = catalogues.catalogue(6, 1, catalogues.turned(0.5), generator(5))
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    first, second = (torch.einsum("t,tij->ij", probs, part) for part in (tasks.covs, second_moments(tasks)))
    _, descent = lsa.train_population(first, second, 1000)
    inverse = torch.linalg.inv(theory.gamma_mixture(tasks.covs, probs, tasks.lengths))
    assert errors.relative_distance(descent.preconditioner[-1], inverse) < 1e-8


def test_gradient_of_the_objective_agrees_with_automatic_differentiation():
    tasks = catalogues.catalogue(5, 2, catalogues.unrelated, generator(4))
    tests = covariance.wishart(covariance.rotate(hard_target(5), generator(1)), 30, 6, generator(2))
    squares = second_moments(tasks)
    raw = torch.rand(8, generator=generator(9), dtype=torch.float64).requires_grad_()
    for steps in (1, 2, 5):
        probs = raw / raw.sum()
        first, second = (torch.einsum("t,tij->ij", probs, part) for part in (tasks.covs, squares))
        step = torch.eye(5, dtype=torch.float64) - first @ torch.linalg.solve(second, tests)
        value = torch.linalg.matrix_power(step, steps).square().sum((1, 2)).mean().log()
        (slope,) = torch.autograd.grad(value, raw)
        found, gradient = selection.log_error(
            raw.detach().numpy(), tasks.covs.numpy(), squares.numpy(), tests.numpy(), steps
        )
        assert found == pytest.approx(value.item(), rel=1e-9)
        np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_objective_is_the_error_that_theory_predicts_for_the_mixture(steps):
    tasks = catalogues.catalogue(6, 1, catalogues.unrelated, generator(8))
    squares = second_moments(tasks)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    value, _ = selection.log_error(
        weights.numpy(), tasks.covs.numpy(), squares.numpy(), hard_target(6)[None].numpy(), steps
    )
    gamma = theory.gamma_mixture(list(tasks.covs), weights, tasks.lengths)
    expected = theory.cot_error_limit(gamma, hard_target(6), steps)
    assert math.exp(value) == pytest.approx(expected, rel=1e-9)
    predicted = selection.predicted_error(tasks.covs, weights, tasks.lengths, hard_target(6), steps)
    assert predicted == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 4, 12])
def test_exact_selection_matches_a_search_of_the_whole_simplex(steps):
    tasks = catalogues.catalogue(6, 1, catalogues.turned(0.7), generator(11))
    target = hard_target(6)
    grid = 12
    points = [p for p in itertools.product(range(grid + 1), repeat=3) if sum(p) <= grid]
    best = min(
        selection.predicted_error(
            tasks.covs,
            torch.tensor([*p, grid - sum(p)], dtype=torch.float64) / grid,
            tasks.lengths,
            target,
            steps,
        )
        for p in points
    )
    weights = selection.select_tasks(tasks.covs, tasks.lengths, target, steps)
    found = selection.predicted_error(tasks.covs, weights, tasks.lengths, target, steps)
    assert found <= best * (1 + 1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.sampled_from([1, 4, 10]))
def test_exact_selection_never_loses_to_the_alternatives(seed, steps):
    tasks = catalogues.catalogue(8, 2, catalogues.shuffled, generator(seed))
    target = hard_target(8)
    weights = selection.select_tasks(tasks.covs, tasks.lengths, target, steps)
    error = selection.predicted_error(tasks.covs, weights, tasks.lengths, target, steps)
    rivals = [
        selection.select_tasks_qp(tasks.covs, target),
        tasks.uniform(),
        *torch.eye(8, dtype=torch.float64),
    ]
    for rival in rivals:
        assert error <= selection.predicted_error(tasks.covs, rival, tasks.lengths, target, steps) * (
            1 + 1e-9
        )


def test_exact_selection_prefers_the_longer_of_two_equal_tasks_and_the_program_cannot_tell():
    covs = hard_target(10).expand(2, 10, 10).contiguous()
    exact = selection.select_tasks(covs, [20, 100], hard_target(10), 4)
    torch.testing.assert_close(exact, torch.tensor([0.0, 1.0], dtype=torch.float64))
    blind = selection.select_tasks_qp(covs, hard_target(10))
    torch.testing.assert_close(blind, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-4, rtol=0)


def test_selection_turns_with_the_whole_problem():
    """Rotating every task and the target together changes nothing."""
    tasks = catalogues.catalogue(6, 2, catalogues.turned(0.5), generator(21))
    basis = catalogues.unrelated(6, generator(22))

    def turn(cov):
        turned = basis @ cov @ basis.mT
        return (turned + turned.mT) / 2

    before = selection.select_tasks(tasks.covs, tasks.lengths, hard_target(6), 4)
    after = selection.select_tasks(turn(tasks.covs), tasks.lengths, turn(hard_target(6)), 4)
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)


def test_isotropic_target_wants_easy_long_tasks():
    tasks = catalogues.catalogue(20, 2, catalogues.turned(0.2), generator(1))
    weights = selection.select_tasks(tasks.covs, tasks.lengths, torch.eye(20, dtype=torch.float64), 4)
    assert tasks.masses(weights)[1] > 0.95


def test_selection_accepts_tasks_that_miss_directions():
    left = torch.diag(torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    right = torch.diag(torch.tensor([0.0, 0.0, 1.0, 2.0], dtype=torch.float64))
    weights = selection.select_tasks(
        torch.stack([left, right]), [100, 100], torch.eye(4, dtype=torch.float64), 3
    )
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-3, rtol=0)


def test_finite_context_selection_is_best_on_prompts_of_that_length():
    """What is best with unlimited context overthinks on short prompts; averaging over them repairs that."""
    tasks = catalogues.catalogue(10, 4, catalogues.shuffled, generator(2))
    grams = covariance.wishart(hard_target(10), 60, 64, generator(3))
    unlimited = selection.select_tasks(tasks.covs, tasks.lengths, hard_target(10), 12)
    finite = selection.select_tasks(tasks.covs, tasks.lengths, hard_target(10), 12, grams)
    fresh = covariance.wishart(hard_target(10), 60, 2000, generator(4))

    def mean_error(weights):
        gamma = theory.gamma_mixture(list(tasks.covs), weights, tasks.lengths)
        return errors.propagated_error(fresh, gamma, 12)[:, -1].mean().item()

    assert mean_error(finite) < 0.5 * mean_error(unlimited)


def test_average_over_copies_of_the_target_changes_nothing():
    tasks = catalogues.catalogue(5, 1, catalogues.turned(0.4), generator(6))
    target = hard_target(5)
    once = selection.select_tasks(tasks.covs, tasks.lengths, target, 4)
    often = selection.select_tasks(tasks.covs, tasks.lengths, target, 4, target.expand(7, 5, 5))
    torch.testing.assert_close(once, often, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: selection.select_tasks_qp(torch.eye(3)[None].double(), torch.eye(2).double()),
            "dimension d",
        ),
        (lambda: selection.select_tasks_qp(-torch.eye(3)[None].double(), torch.eye(3).double()), "tasks"),
        (
            lambda: selection.select_tasks_qp(torch.eye(3)[None].double(), torch.zeros(3, 3).double()),
            "invertible",
        ),
        (
            lambda: selection.select_tasks(torch.eye(3)[None].double(), [1, 2], torch.eye(3).double(), 1),
            "lengths",
        ),
        (
            lambda: selection.select_tasks(torch.eye(3)[None].double(), [0], torch.eye(3).double(), 1),
            r"lengths\[0\] must",
        ),
        (
            lambda: selection.select_tasks(torch.eye(3)[None].double(), [5], torch.eye(3).double(), 0),
            "steps must",
        ),
    ],
)
def test_bad_input_is_named(call, message, refuses):
    with refuses(message):
        call()
