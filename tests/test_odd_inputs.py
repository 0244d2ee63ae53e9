"""Odd input: what is meant is done, and what cannot be done is refused by name; no answer is silently wrong.

One table, a row a public function of the science modules. Each row reads a `World` and says how its answer changes with the
units of features and of labels, and whether it is an error, which is never negative and never unknown. The properties below go
over all rows with generated worlds: other units, other number types, other containers, and degenerate features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import generator
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsl import (
    advice,
    baselines,
    cot,
    covariance,
    errors,
    exact,
    forecast,
    laws,
    lsa,
    prompts,
    selection,
    stopping,
    theory,
)
from tsl.lab import datasets


@dataclass(frozen=True)
class World:
    """What the functions of the table read: features of training and test, prompts, numbers."""

    cov: Any  # of training
    other: Any  # of test
    gamma: Any
    gram: Any  # (B, d, d)
    rows: Any  # (N, d)
    x: Any  # (B, m, d)
    y: Any  # (B, m)
    w: Any  # (B, d)
    values: Any  # (R,), positive, in units of labels
    n: Any = 7
    m: Any = 9
    k: Any = 3
    noise: Any = 0.5
    """In units of labels."""

    def prompts(self) -> prompts.Prompts:
        return prompts.Prompts(self.x, self.y, self.w)


#: Powers of the units of features and of labels that each field has.
UNITS = {
    **dict.fromkeys(("cov", "other", "gamma", "gram"), (2, 0)),
    **dict.fromkeys(("rows", "x"), (1, 0)),
    **dict.fromkeys(("y", "values", "noise"), (0, 1)),
    "w": (-1, 1),
}
TENSORS = [field.name for field in fields(World) if field.type == "Any" and field.name in UNITS]
TENSORS.remove("noise")
COUNTS = ("n", "m", "k")


@dataclass(frozen=True)
class Row:
    """A function, and what must be so of its answer.

    Parameters
    ----------
    features, labels : int
        Powers of the units of features and labels that the answer has.
    error : bool
        Whether the answer is never negative, nor NaN.
    single : bool
        Whether it is computed in the type of the data, so that float32 costs accuracy that the caller has chosen.
    draws : bool
        Whether it draws in the type of the data: another type is another stream.
    """

    name: str
    answer: Callable[[World], Any]
    features: int = 0
    labels: int = 0
    error: bool = False
    single: bool = False
    draws: bool = False


HALVES = torch.tensor([0.5, 0.5], dtype=torch.float64)


def _column(values: Any) -> Any:
    return values[:, None] if isinstance(values, Tensor | np.ndarray) else [[value] for value in values]


chain_of = baselines.gradient_descent


def chain(w: World) -> Tensor:
    return chain_of(w.prompts(), 4)


def foreseen(w: World) -> tuple[Any, ...]:
    found = forecast.foresee(w.cov, w.other, w.n, w.m, w.k, generator(1))
    assert "nan" not in str(found)
    return found.typical, found.mean, found.limit, found.reach, found.edge, found.best_step, found.overthinks


def planned(w: World) -> tuple[Any, ...]:
    tasks = {"same": w.rows, "turned": w.rows[:4]}
    plan = advice.plan_training(tasks, w.rows, [w.n, w.m], w.m, w.k, generator(1), prompts=4)
    return plan.weights, plan.errors["recommended"], plan.worth, plan.coverage


TABLE = [
    Row("covariance.hardness", lambda w: covariance.hardness(w.cov), error=True),
    Row("covariance.square_root", lambda w: covariance.square_root(w.cov), features=1, single=True),
    Row(
        "covariance.wishart", lambda w: covariance.wishart(w.cov, w.m, 2, generator()), features=2, draws=True
    ),
    Row("theory.second_moment", lambda w: theory.second_moment(w.cov, w.n), features=4),
    Row("theory.gamma", lambda w: theory.gamma(w.cov, w.n), features=2),
    Row("theory.gamma, rows", lambda w: theory.gamma(laws.rows(w.rows), w.n), features=2),
    Row("theory.gamma, tails", lambda w: theory.gamma(laws.student(w.cov, 5.0), w.n), features=2),
    Row(
        "theory.gamma_mixture",
        lambda w: theory.gamma_mixture([w.cov, w.other], [0.3, 0.7], [w.n, w.m]),
        features=2,
    ),
    Row("theory.hardness_spectrum", lambda w: theory.hardness_spectrum(w.cov), error=True),
    Row("theory.hardness_spectrum, rows", lambda w: theory.hardness_spectrum(laws.rows(w.rows)), error=True),
    Row("theory.matched_direct_error", lambda w: theory.matched_direct_error(w.cov, w.n, w.m), error=True),
    Row("theory.direct_error", lambda w: theory.direct_error(w.gamma, w.other, w.m), error=True),
    Row(
        "theory.direct_error, rows",
        lambda w: theory.direct_error(w.gamma, laws.rows(w.rows), w.m),
        error=True,
    ),
    Row("theory.direct_error_bound", lambda w: theory.direct_error_bound(w.cov, w.n, w.m), error=True),
    Row("theory.cot_error_limit", lambda w: theory.cot_error_limit(w.gamma, w.other, w.k), error=True),
    Row("theory.cot_error_bound", lambda w: theory.cot_error_bound(w.cov, w.n, w.k), error=True),
    Row("theory.required_context", lambda w: theory.required_context(w.cov, w.k, 0.1), error=True),
    Row("theory.cot_error", lambda w: theory.cot_error(w.gamma, w.other, w.m, w.k)),
    Row("theory.spectrum_edge", lambda w: theory.spectrum_edge(w.gamma, w.other, w.m), error=True),
    Row("theory.overthinks", lambda w: theory.overthinks(w.gamma, w.other)),
    Row("theory.overthinks, m", lambda w: theory.overthinks(w.gamma, w.other, w.m)),
    Row("exact.expected_error", lambda w: exact.expected_error(w.gamma, w.other, w.m, w.k), error=True),
    Row("exact.isotropic_error", lambda w: exact.isotropic_error(4, w.m, 1.5, w.k), error=True),
    Row("errors.propagated_error", lambda w: errors.propagated_error(w.gram, w.gamma, w.k), error=True),
    Row("errors.relative_distance", lambda w: errors.relative_distance(w.gram, w.gamma), error=True),
    Row("errors.standard_error", lambda w: errors.standard_error(w.values), labels=1, error=True),
    Row("errors.mean_interval", lambda w: errors.mean_interval(w.values), labels=1),
    Row("errors.z_scores", lambda w: errors.z_scores(w.values, 0)),
    Row("errors.geometric_mean", lambda w: errors.geometric_mean(w.values), labels=1, error=True),
    Row("errors.geometric_interval", lambda w: errors.geometric_interval(w.values), labels=1, error=True),
    Row("errors.ratio_interval", lambda w: errors.ratio_interval(w.values, w.values), error=True),
    Row("errors.median_interval", lambda w: errors.median_interval(_column(w.values)), labels=1, error=True),
    Row("laws.standardise", lambda w: laws.standardise(w.rows)),
    Row("laws.unit_range", lambda w: laws.unit_range(w.rows), error=True),
    Row("datasets.principal_axes", lambda w: datasets.principal_axes(w.rows).abs(), error=True),
    Row("datasets.compress", lambda w: datasets.compress(w.rows).abs(), features=1, error=True),
    Row("prompts.Prompts.moments", lambda w: w.prompts().moments().cross, 1, 1, single=True),
    Row(
        "prompts.sample_prompts",
        lambda w: prompts.sample_prompts(w.cov, w.m, 2, generator=generator()).x,
        features=1,
        draws=True,
    ),
    Row(
        "prompts.sample_moments",
        lambda w: prompts.sample_moments(laws.rows(w.rows), w.m, 2, generator=generator()).gram,
        features=2,
        single=True,
    ),
    Row(
        "cot.pseudo_newton",
        lambda w: cot.pseudo_newton(w.prompts().moments(), w.gamma, w.k),
        -1,
        1,
        single=True,
    ),
    Row(
        "cot.sampled_errors",
        lambda w: cot.sampled_errors(w.gamma, w.other, w.m, w.k, 5, generator=generator()),
        error=True,
    ),
    Row("baselines.ols", lambda w: baselines.ols(w.prompts()), -1, 1, single=True),
    Row("baselines.newton", lambda w: baselines.newton(w.prompts(), w.k), -1, 1, single=True),
    Row(
        "baselines.gradient_descent",
        lambda w: baselines.gradient_descent(w.prompts(), w.k),
        -1,
        1,
        single=True,
    ),
    Row(
        "baselines.conjugate_gradient",
        lambda w: baselines.conjugate_gradient(w.prompts(), w.k),
        -1,
        1,
        single=True,
    ),
    Row(
        "lsa.LinearSelfAttention.think",
        lambda w: lsa.LinearSelfAttention.from_gamma(w.gamma).think(w.prompts(), w.k),
        -1,
        1,
        single=True,
    ),
    Row("lsa.learned_gamma", lambda w: lsa.learned_gamma(w.cov, w.n), features=2),
    Row(
        "lsa.empirical_optimum",
        lambda w: lsa.empirical_optimum(w.prompts().moments()),
        features=-2,
        single=True,
    ),
    Row(
        "lsa.train_population",
        lambda w: (
            lsa.train_population(w.cov, theory.second_moment(w.cov, w.n), 9)[0].preconditioner().detach()
        ),
        features=-2,
    ),
    Row(
        "selection.predicted_error",
        lambda w: selection.predicted_error([w.cov, w.other], HALVES, [w.n, w.m], w.other, w.k),
        error=True,
    ),
    Row("forecast.foresee", foreseen, error=True),
    Row("stopping.posterior_mean", lambda w: stopping.posterior_mean(w.prompts()), -1, 1, single=True),
    Row(
        "stopping.residual", lambda w: stopping.residual(chain(w), w.prompts()), 0, 2, error=True, single=True
    ),
    Row(
        "stopping.held_out_error",
        lambda w: stopping.held_out_error(chain_of, w.prompts(), w.k),
        0,
        2,
        error=True,
        single=True,
    ),
    Row("stopping.increment_ratio", lambda w: stopping.increment_ratio(chain(w)), error=True, single=True),
    Row("stopping.stop_step", lambda w: stopping.stop_step(chain(w), w.prompts())),
    Row("advice.plan_training", planned, error=True),
    Row(
        "advice.thinking_helps",
        lambda w: advice.thinking_helps(baselines.gradient_descent, w.prompts(), 3, confidence=0.5).ratio,
        error=True,
        single=True,
    ),
]
ROWS = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def world(seed: int, spectrum: Tensor) -> World:
    """A world whose test features are not those of training, with prompts that are solvable."""
    stream, d = generator(seed), len(spectrum)
    cov = covariance.rotate(torch.diag(spectrum), stream)
    other = covariance.rotate(torch.diag(spectrum.flip(0)), stream)
    rows = torch.randn((8 * d, d), generator=stream, dtype=torch.float64) @ covariance.square_root(cov)
    x = torch.randn((12, 2 * d, d), generator=stream, dtype=torch.float64) @ covariance.square_root(other)
    w = torch.randn((12, d), generator=stream, dtype=torch.float64)
    noise = torch.randn((12, 2 * d), generator=stream, dtype=torch.float64)
    y = torch.einsum("bnd,bd->bn", x, w) + 0.3 * noise
    size = max(spectrum.max().item(), 1e-60)
    gamma = theory.gamma(cov, 7) + 0.01 * size * torch.eye(d, dtype=torch.float64)
    values = torch.rand(12, generator=stream, dtype=torch.float64) + 0.1
    return World(cov, other, gamma, covariance.wishart(other, 5, 3, stream), rows, x, y, w, values)


spectra = st.lists(st.floats(0.2, 3.0), min_size=2, max_size=4).map(
    lambda s: torch.tensor(s, dtype=torch.float64)
)
calm = st.builds(world, st.integers(0, 10**6), spectra)


def leaves(answer: Any) -> list[Tensor]:
    """An answer as tensors of float64."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    return [torch.as_tensor(part, dtype=torch.float64).detach() for part in parts]


def assert_same(found: Any, expected: Any, scale: float = 1.0, rel: float = 1e-7) -> None:
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        size = other[other.isfinite()].abs().max().item() if other.isfinite().any() else 1.0
        torch.testing.assert_close(one / scale, other, rtol=rel, atol=rel * size, equal_nan=True)


def changed(w: World, change: Callable[[str, Any], Any], names: list[str] = TENSORS) -> World:
    return replace(w, **{name: change(name, getattr(w, name)) for name in names})


@ROWS
@given(w=calm, features=st.integers(-60, 60), labels=st.integers(-100, 100))
@settings(max_examples=6, phases=[Phase.generate])
def test_the_units_of_features_and_labels_do_not_matter(row: Row, w: World, features: int, labels: int):
    """Powers of two, so that nothing is rounded."""
    units = {name: 2.0 ** (features * a + labels * b) for name, (a, b) in UNITS.items()}
    scaled = changed(w, lambda name, value: value * units[name], [*TENSORS, "noise"])
    expected = 2.0 ** (row.features * features + row.labels * labels)
    assert_same(row.answer(scaled), row.answer(w), expected)


@ROWS
@given(w=calm)
@settings(max_examples=4, phases=[Phase.generate])
def test_single_precision_means_its_numbers_and_no_less_accuracy(row: Row, w: World, as_a_user):
    single = changed(w, lambda name, value: value.float())
    double = changed(single, lambda name, value: value.double())
    with as_a_user():
        found, expected = row.answer(single), row.answer(double)
    if row.draws:
        assert found.dtype == torch.float32
    else:
        assert_same(found, expected, rel=2e-3 if row.single else 1e-7)


MIXED = {
    "double": lambda value: value,
    "gradient": lambda value: value.clone().requires_grad_(),
    "array": lambda value: value.numpy(),
    "reversed array": lambda value: value.flip(0).numpy()[::-1],
    "foreign array": lambda value: value.numpy().astype(">f8"),
    "list": lambda value: value.tolist(),
    "list of tensors": lambda value: list(value),
    "frame": lambda value: pd.DataFrame(value.numpy()) if value.dim() == 2 else value.numpy(),
    "objects": lambda value: value.numpy().astype(object),
}


@ROWS
@given(w=calm, kinds=st.lists(st.sampled_from(list(MIXED)), min_size=len(TENSORS), max_size=len(TENSORS)))
@settings(max_examples=8, phases=[Phase.generate])
def test_containers_do_not_matter(row: Row, w: World, kinds: list[str], as_a_user):
    forms = dict(zip(TENSORS, kinds, strict=True))
    mixed = changed(w, lambda name, value: MIXED[forms[name]](value))
    with as_a_user():
        found = row.answer(mixed)
        assert_same(found, row.answer(w), rel=1e-12)
        assert not any(part.requires_grad for part in leaves(found))


@ROWS
@given(w=calm, single=st.lists(st.booleans(), min_size=len(TENSORS), max_size=len(TENSORS)))
@settings(max_examples=4, phases=[Phase.generate])
def test_types_may_be_mixed(row: Row, w: World, single: list[bool], as_a_user):
    which = dict(zip(TENSORS, single, strict=True))
    mixed = changed(w, lambda name, value: value.float() if which[name] else value)
    with as_a_user():
        found, expected = row.answer(mixed), row.answer(w)
    if not row.draws:
        assert_same(found, expected, rel=2e-3)


@ROWS
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, torch.tensor], ids=lambda kind: kind.__name__)
def test_integers_of_any_type_are_integers(row: Row, kind: Callable[[int], Any], as_a_user):
    """Those of NumPy overflow without a word: 100² is 16 in eight bits."""
    w = replace(world(0, torch.tensor([1.0, 0.5, 0.3], dtype=torch.float64)), n=100, m=120)
    with as_a_user():
        assert_same(
            row.answer(replace(w, **{name: kind(getattr(w, name)) for name in COUNTS})), row.answer(w)
        )


def test_counts_of_numpy_do_not_overflow(as_a_user):
    eye, large = torch.eye(3, dtype=torch.float64), 4 * 10**9
    with as_a_user():
        assert exact.trace_moment(np.int64(10), np.int64(large), 6) == exact.trace_moment(10, large, 6)
        assert theory.direct_error_bound(eye, np.int64(large), 5) == theory.direct_error_bound(eye, large, 5)


# Features that are degenerate in every way that occurs: no variance in some directions or in all, one direction beyond all
# others, nearly equal ones, far from the unit in scale.
edges = st.sampled_from([0.0, 1e-300, 1e-17, 1e-13, 1e-8, 1e-3, 1.0, 1.0 + 1e-15, 1e3, 1e8])
odd = st.builds(
    lambda seed, spectrum, scale: world(seed, torch.tensor(spectrum, dtype=torch.float64) * 2.0**scale),
    st.integers(0, 10**6),
    st.lists(edges, min_size=1, max_size=4).filter(lambda spectrum: max(spectrum) != 1e-300),
    st.integers(-60, 60),
)
counts = st.sampled_from([1, 2, 5, 1000, 10**9])


SLOW = ("exact.expected_error", "exact.isotropic_error", "theory.cot_error", "forecast.foresee")


@ROWS
@given(
    w=odd,
    n=counts,
    m=st.integers(1, 1000),
    k=st.integers(1, 60),
    kind=st.sampled_from(["as drawn", "equal", "zero", "few"]),
)
@settings(max_examples=20, phases=[Phase.generate])
def test_no_error_is_negative_or_unknown(row: Row, w: World, n: int, m: int, k: int, kind: str, as_a_user):
    steps = min(k, 3) if row.name in SLOW else k
    rows = {"as drawn": w.rows, "equal": w.rows[:1].expand_as(w.rows), "zero": 0 * w.rows, "few": w.rows[:2]}[
        kind
    ]
    with as_a_user(), contextlib.suppress(ValueError):
        for part in leaves(row.answer(replace(w, n=n, m=m, k=steps, rows=rows))):
            assert not part.isnan().any()
            assert not row.error or (part >= 0).all()
