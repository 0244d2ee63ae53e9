"""Small choices: what each is predicted to do, against an independent computation, and what a verdict may depend on."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tsl import cot, covariance, lsa, paths, prompts, selection, theory
from tsl.lab import catalogues, records, small_choices
from tsl.lab.small_choices import BOOK, CHOICES, RULES, SILENT, Bench, Choice, Reading


def stream(role: str) -> torch.Generator:
    return torch.Generator().manual_seed(len(role))


@given(m=st.integers(2, 40), t=st.floats(0.1, 5.0), k=st.integers(1, 60))
def test_counted_thoughts_leave_a_ratio_of_gamma_functions(m: int, t: float, k: int) -> None:
    rates = torch.tensor([t], dtype=torch.float64)
    found = small_choices.counted_error(rates, m, k)[-1].item()
    a = m - m * t
    assume(abs(a - round(a)) > 1e-3)  # off the poles
    logs = [torch.lgamma(torch.tensor(x, dtype=torch.float64)).item() for x in (a + k, m, a, m + k)]
    assert found == pytest.approx(math.exp(2 * (logs[0] + logs[1] - logs[2] - logs[3])), rel=1e-6, abs=1e-200)


@given(m=st.integers(4, 60), t=st.floats(2.2, 5.0))
def test_a_mode_above_two_grows_until_its_step_is_short_enough_and_then_vanishes(m: int, t: float) -> None:
    error = small_choices.counted_error(torch.tensor([t], dtype=torch.float64), m, 400)
    turn = math.ceil(m * (t / 2 - 1))
    assert (error[1 : turn + 1] >= error[:turn]).all()
    assert error[turn + 2] < error[turn + 1]
    assert error[-1] < error[0]


def test_the_full_model_follows_both_predictions() -> None:
    cov, n, m = covariance.power_law(3, 1.0), 12, 7
    gamma = theory.gamma(cov, n)
    drawn = prompts.sample_prompts(torch.eye(3, dtype=torch.float64), m, 60, generator=stream("test"))
    x = drawn.x @ torch.linalg.inv(covariance.square_root(drawn.moments().gram)) @ covariance.square_root(cov)
    w = math.sqrt(3) * torch.eye(3, dtype=torch.float64).repeat(20, 1)  # all directions alike
    shown = prompts.Prompts(x, torch.einsum("bmd,bd->bm", x, w), w)
    model, rates = lsa.LinearSelfAttention.from_gamma(gamma), (cov / gamma).diagonal()
    for counts, foreseen in ((True, small_choices.counted_error(rates, m, 30)), (False, None)):
        chain = small_choices.think_under(model, shown, torch.zeros_like(w), 30, counts)
        error = (chain - w[:, None]).square().sum(-1).mean(0)
        if foreseen is None:
            foreseen = torch.tensor(
                [theory.cot_error_limit(gamma, cov, k) for k in range(31)], dtype=error.dtype
            )
        torch.testing.assert_close(error, foreseen, rtol=1e-8, atol=1e-20)
    misplaced = lsa.LinearSelfAttention.from_gamma(gamma, c=1.7)
    with torch.no_grad():
        misplaced.w13.copy_(torch.eye(3))
    chain = small_choices.think_under(misplaced, shown, torch.zeros_like(w), 30)
    foreseen = small_choices.misplaced_error(rates, 1.7, 30)
    torch.testing.assert_close((chain - w[:, None]).square().sum(-1).mean(0), foreseen, rtol=1e-8, atol=1e-20)


def test_from_zero_with_a_fixed_normaliser_it_is_the_books_chain() -> None:
    drawn = prompts.sample_prompts(covariance.power_law(3, 1.0), 8, 5, generator=stream("w"))
    model = lsa.LinearSelfAttention.from_theory(covariance.power_law(3, 1.0), 8)
    chain = small_choices.think_under(model, drawn, torch.zeros_like(drawn.w), 6)
    torch.testing.assert_close(chain, cot.chain_of_thought(model, drawn, 6))
    start = torch.randn(drawn.w.shape, generator=stream("start"), dtype=torch.float64)
    moved = small_choices.from_start(drawn.moments(), start)
    expected = start[:, None] + cot.pseudo_newton(moved, theory.gamma(covariance.power_law(3, 1.0), 8), 6)
    torch.testing.assert_close(small_choices.think_under(model, drawn, start, 6), expected)


@pytest.mark.parametrize("c0", [0.7, 1.0, 2.0])
def test_descent_on_c_and_v_ends_where_the_conserved_difference_says(c0: float) -> None:
    """Plain gradient descent with tiny steps on the exact loss of A = −c V31, c and V31 both free."""
    cov, n = covariance.power_law(3, 0.5), 10
    gamma, second = theory.gamma(cov, n), theory.second_moment(cov, n)
    c, v = torch.tensor(c0, dtype=torch.float64, requires_grad=True), torch.zeros(3, 3, dtype=torch.float64)
    v.requires_grad_()
    for _ in range(2000):
        loss = lsa.population_loss(-c * v, cov, second)
        slopes = torch.autograd.grad(loss, (c, v))
        with torch.no_grad():
            c -= 0.03 * slopes[0]
            v -= 0.03 * slopes[1]
    torch.testing.assert_close((-c * v).detach(), torch.linalg.inv(gamma), rtol=1e-3, atol=1e-3)
    assert c.item() == pytest.approx(small_choices.free_c(gamma, c0), rel=0.02)


def test_the_grid_finds_what_the_optimiser_finds_where_axes_are_common() -> None:
    d = 6
    easy, hard = (covariance.power_law(d, alpha).diagonal() for alpha in (catalogues.EASY, catalogues.HARD))
    tasks, lengths = torch.stack([easy, easy, hard, hard]), (20, 100, 20, 100)
    grid = small_choices.best_mass(tasks, lengths, 4)
    target = torch.eye(d, dtype=torch.float64)
    found = selection.select_tasks(torch.diag_embed(tasks), lengths, target, 4)
    errors = [
        selection.predicted_error(torch.diag_embed(tasks), shares, lengths, target, 4)
        for shares in (grid, found)
    ]
    assert errors[1] <= errors[0] <= 1.2 * errors[1]


def test_units_and_axes_change_nothing_but_rounding() -> None:
    """An independent check of the two invariances that the table finds: the whole chain is the same."""
    chains = []
    for choice in (BOOK, Choice(scale=10.0), Choice(scale=0.1)):
        bench = Bench(choice, stream, size=2000)
        cov = bench.features(0.5)
        chains.append(bench.think(bench.model((cov, 20)), cov, 9, 4, 5)[1])
    torch.testing.assert_close(chains[1], chains[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(chains[2], chains[0], rtol=1e-8, atol=1e-8)


def test_exact_prompts_show_their_covariance_and_the_sphere_has_unit_weights() -> None:
    bench = Bench(Choice(sphere=True, rotated=True), stream)
    cov = bench.features(1.0)
    shown, start = bench.prompts(cov, 12, 7, exact=True)
    torch.testing.assert_close(shown.moments().gram, cov.expand(7, -1, -1))
    torch.testing.assert_close(shown.w.norm(dim=1), torch.ones(7, dtype=torch.float64))
    assert not start.any()


@given(value=st.floats(0, 1e6), base=st.floats(1e-3, 1e6), floor=st.floats(0, 1.0), stands=st.booleans())
def test_a_conclusion_that_falls_flips_whatever_the_number(
    value: float, base: float, floor: float, stands: bool
) -> None:
    rule = small_choices.Rule("", "", None, floor)
    said = small_choices.judge(Reading(value, stands), Reading(base, True), rule)
    assert (said == "flips") == (not stands)
    assert small_choices.judge(Reading(base, True), Reading(base, True), rule) == "survives"
    both = [Reading(base, True), Reading(value, stands)]
    assert small_choices.outcome(both, Reading(base, True), rule) == said


def test_every_cell_is_measured_or_says_why_not() -> None:
    decoders = small_choices.decoder_readings(
        records.load_all(paths.RESULTS / "12_small_choices"),
        records.load_all(paths.RESULTS / "08_encoding")[:1],
    )
    assert RULES.keys() == SILENT.keys()
    for claim, readings in decoders.items():
        assert readings.keys() - {"book"} == CHOICES.keys() - SILENT[claim].keys()
    for claim, rule in RULES.items():
        assert SILENT[claim].keys() <= CHOICES.keys()
        assert (rule.measure is None) == (claim in decoders) == ("tokens" not in SILENT[claim])


def test_a_decoder_is_asked_as_it_thinks() -> None:
    model = small_choices.gpt.WeightGPT(small_choices.SHAPE, torch.Generator().manual_seed(0))
    again = small_choices.ask_decoder(model, 10, BOOK, steps=3, size=50)
    bench = Bench(BOOK, lambda role: torch.Generator().manual_seed(7_000_003))
    drawn, _ = bench.prompts(torch.eye(3, dtype=torch.float64), 10, 50)
    chain = model.think(prompts.Prompts(drawn.x.float(), drawn.y.float(), drawn.w.float()), 3).double()
    error = (chain - drawn.w[:, None]).square().sum(-1).mean(0)
    torch.testing.assert_close(torch.tensor(again, dtype=torch.float64), error, rtol=1e-4, atol=1e-4)
