"""Bad input: every argument of every public function of the core answers with a ValueError that names it and what it got.

The table below holds, for each function, arguments that work, and for each argument values that must not. A last test
compares the table with the signatures, so that a new function or argument cannot go without.
"""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tsl import baselines, claims, cot, covariance, errors, figures, laws, lsa, prompts, runs, texts, theory

EYE = torch.eye(3, dtype=torch.float64)
GENERATOR = torch.Generator().manual_seed(0)
BATCH = prompts.sample_prompts(EYE, 4, 2, generator=GENERATOR)
MOMENTS = BATCH.moments()
MODEL = lsa.LinearSelfAttention.from_theory(EYE, 5)
EMBEDDING = lsa.embed(BATCH)
VALUES = torch.randn(5, 2, generator=GENERATOR, dtype=torch.float64)
RUN = runs.start("01_the_task", profile="ci")
AXES = figures.new()[1]
LINE = [1.0, 2.0]


def diagonal(*entries: float) -> torch.Tensor:
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


# Each bad value stands with the part of the message that tells what was got.
Bad = list[tuple[Any, str]]

NOT_SQUARE: Bad = [
    ([["a"]], "got [['a']]"),
    ([[1.0], [1.0, 2.0]], "got [[1.0], [1.0, 2.0]]"),
    (None, "got None"),
    (torch.eye(3, dtype=torch.bool), "got a tensor of torch.bool"),
    (torch.eye(3, dtype=torch.complex128), "got a tensor of torch.complex128"),
    (pd.DataFrame([["x", 1.0], [1.0, 2.0]]), "got a DataFrame of shape (2, 2)"),
    (np.ma.masked_greater(np.eye(3), 0.5), "masked"),
    (torch.ones(3), "got (3,)"),
    (torch.ones(2, 3), "got (2, 3)"),
    (torch.ones(0, 0), "got (0, 0)"),
    (diagonal(1, math.nan, 1), "NaN or infinite"),
    (diagonal(1, math.inf, 1), "NaN or infinite"),
]
NOT_COVARIANCE: Bad = [
    *NOT_SQUARE,
    (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "largest asymmetry of 0.5"),
    (diagonal(1, -0.25, 1), "smallest eigenvalue of -0.25"),
    (diagonal(1e90, 1, 1), "got 1e+90: choose other units"),
    (diagonal(1e-90, 0, 0), "got 1e-90: choose other units"),
]
SINGULAR: Bad = [(diagonal(1, 0, 1), "singular")]
OTHER_SIZE: Bad = [(torch.eye(2, dtype=torch.float64), "d=2")]


def not_count(lowest: int, none: bool = False) -> Bad:
    """What is no integer of at least `lowest`; `none` where None is allowed."""
    values: list[Any] = [lowest - 1, -7, 2.0, 2.5, True, "3", math.nan, [3], *([] if none else [None])]
    return [(value, f"got {value!r}") for value in values]


def not_number(lowest: float | None, none: bool = False) -> Bad:
    """What is no finite number above `lowest` (at least 0 where that is None)."""
    values: list[Any] = [-1.0, math.nan, math.inf, "x", True, *([] if none else [None])]
    return [(value, f"got {value!r}") for value in [*values, *([] if lowest is None else [lowest])]]


NOT_GENERATOR: Bad = [(0, "got 0"), ("seed", "got 'seed'")]
NOT_PROMPTS: Bad = [(EYE, "got a tensor"), (None, "got None"), (MOMENTS, "got Moments")]
NOT_ROWS: Bad = [(LINE, "got shape (2,)"), (torch.ones(0, 3), "got shape (0, 3)"), (EYE[0], "got shape (3,)")]
NOT_ROWS += [(EYE / 0, "NaN or infinite")]
NOT_CONFIDENCE: Bad = [(v, f"got {v!r}") for v in (0, 1, 0.0, 1.0, 95.0, -0.1, math.nan, True, "high", None)]
NOT_MOMENTS: Bad = [(EYE, "got a tensor"), (BATCH, "got Prompts")]
NOT_TEXT: Bad = [("", "got ''"), (3, "got 3"), (None, "got None")]
NOT_REAL: Bad = [("x", "got 'x'"), (None, "got None"), ([1.0, 2.0], "got [1.0, 2.0]")]
NOT_BOUND: Bad = [*NOT_REAL, (math.nan, "got nan")]
NOT_PREDICTED: Bad = [(value, got) for value, got in NOT_BOUND if value is not None]
NOT_LINE: Bad = [([1.0, 2.0, 3.0], "(3,)"), ([[1.0, 2.0]], "(1, 2)")]
NOT_PROBABILITIES: Bad = [
    ([0.5, 0.6], "got [0.5, 0.6]"),
    ([-0.5, 1.5], "got [-0.5, 1.5]"),
    ([1.0], "got shape (1,)"),
    ([math.nan, 1.0], "got [nan, 1.0]"),
    ([[0.5, 0.5]], "got shape (1, 2)"),
    ("ab", "got 'ab'"),
    (None, "got None"),
]
NOT_TASKS: Bad = [([], "at least one"), ([EYE], "got [5, 9]"), (3, "got 3"), ("ab", "got 'ab'")]
NOT_LENGTHS: Bad = [
    ([5], "got [5]"),
    ([5, 0], "got 0"),
    ([5, 2.0], "got 2.0"),
    ([True, 5], "got True"),
    (7, "got 7"),
]
NOT_TASKS += [([EYE, value], got) for value, got in NOT_COVARIANCE] + [
    ([EYE, diagonal(1, 1)], "tasks[1] has d=2"),
    (torch.stack([EYE, diagonal(1, -0.25, 1)]), "tasks[1] must be positive semi-definite"),
    (torch.stack([EYE, EYE + diagonal(1, 1, 0).roll(1, 0)]), "tasks[1] must be symmetric"),
]
MIXTURE = {"tasks": [EYE, EYE], "probs": [0.5, 0.5], "lengths": [5, 9]}
NOT_MIXTURE = {"tasks": NOT_TASKS, "probs": NOT_PROBABILITIES, "lengths": NOT_LENGTHS}
TASKS = prompts.TaskMixture(**MIXTURE)
CHECK = claims.below("x", 1.0, 2.0)
TWO = torch.ones(2, 2, 3, dtype=torch.float64)

SAMPLER = {"law": EYE, "size": 2, "noise": 0.0, "generator": GENERATOR}
NOT_SAMPLER = {
    "law": NOT_COVARIANCE,
    "size": not_count(1),
    "noise": not_number(None),
    "generator": NOT_GENERATOR,
}
SOLVER = {"prompts": BATCH, "steps": 2}
NOT_SOLVER = {"prompts": NOT_PROMPTS, "steps": not_count(0)}
NOT_EMBEDDING: Bad = [
    (torch.ones(8, 5), "got (8, 5)"),
    (torch.ones(1, 7, 5), "got (1, 7, 5)"),
    (torch.ones(1, 8, 1), "got (1, 8, 1)"),
    (None, "got None"),
]
NOT_SECOND: Bad = [*NOT_COVARIANCE, *OTHER_SIZE, (torch.zeros(3, 3, dtype=torch.float64), "nothing to learn")]
BAND = {"ax": AXES, "x": LINE, "mean": LINE, "low": LINE, "high": LINE}
NOT_BAND = {"x": NOT_LINE, "mean": NOT_LINE, "low": NOT_LINE, "high": NOT_LINE}

# function: (arguments that work, values that must not)
TABLE: dict[Callable[..., Any], tuple[dict[str, Any], dict[str, Bad]]] = {
    covariance.power_law: (
        {"d": 3, "alpha": 1.0, "trace": 1.0},
        {"d": not_count(1), "alpha": not_number(None), "trace": not_number(0.0, none=True)},
    ),
    covariance.haar: (
        {"d": 3, "generator": torch.Generator()},
        {"d": not_count(1), "generator": [*NOT_GENERATOR, (None, "got None")]},
    ),
    covariance.rotate: (
        {"cov": EYE, "generator": GENERATOR},
        {"cov": NOT_COVARIANCE, "generator": [*NOT_GENERATOR, (None, "got None")]},
    ),
    covariance.hardness: ({"cov": EYE}, {"cov": NOT_COVARIANCE}),
    covariance.square_root: ({"cov": EYE}, {"cov": NOT_COVARIANCE}),
    covariance.wishart: (
        {"cov": EYE, "m": 4, "size": 2, "generator": GENERATOR},
        {
            "cov": NOT_COVARIANCE,
            "m": [row for row in not_count(1) if row[0] != [3]],
            "size": not_count(1),
            "generator": NOT_GENERATOR,
        },
    ),
    prompts.Prompts: (
        {"x": BATCH.x, "y": BATCH.y, "w": BATCH.w},
        {
            "x": [
                (torch.ones(2, 3), "got (2, 3)"),
                (torch.ones(2, 0, 3), "got (2, 0, 3)"),
                (None, "got None"),
                (BATCH.x / 0, "NaN or infinite"),
            ],
            "y": [(torch.ones(2, 5), "(2, 5)"), (torch.full((2, 4), math.nan), "NaN or infinite")],
            "w": [(torch.ones(3, 3), "(3, 3)"), (["a"], "got ['a']")],
        },
    ),
    prompts.Moments: (
        {"gram": MOMENTS.gram, "cross": MOMENTS.cross, "w": MOMENTS.w},
        {
            "gram": [(EYE, "(3, 3)"), (None, "got None"), (MOMENTS.gram / 0, "NaN or infinite")],
            "cross": [(torch.ones(2, 4), "(2, 4)"), (MOMENTS.cross / 0, "NaN or infinite")],
            "w": [(torch.ones(3), "(3,)"), ("w", "got 'w'")],
        },
    ),
    prompts.sample_prompts: ({**SAMPLER, "n": 4}, {**NOT_SAMPLER, "n": not_count(1)}),
    prompts.sample_moments: ({**SAMPLER, "m": 4}, {**NOT_SAMPLER, "m": not_count(1)}),
    prompts.TaskMixture: (MIXTURE, NOT_MIXTURE),
    TASKS.sample: (
        {"size": 2, "generator": GENERATOR},
        {"size": not_count(1), "generator": NOT_GENERATOR},
    ),
    TASKS.sample_moments: (
        {"size": 2, "generator": GENERATOR},
        {"size": not_count(1), "generator": NOT_GENERATOR},
    ),
    laws.gaussian: ({"cov": EYE}, {"cov": NOT_COVARIANCE}),
    laws.student: (
        {"cov": EYE, "dof": 5.0},
        {
            "cov": NOT_COVARIANCE,
            "dof": [(2.0, "got 2.0"), (math.nan, "got nan"), (-1, "got -1"), ("x", "got 'x'")],
        },
    ),
    laws.rows: ({"x": EYE, "jitter": 0.0}, {"x": NOT_ROWS, "jitter": not_number(None)}),
    laws.standardise: ({"x": EYE, "reference": EYE}, {"x": NOT_ROWS, "reference": NOT_ROWS}),
    laws.unit_range: ({"x": EYE}, {"x": NOT_ROWS}),
    theory.second_moment: (
        {"law": EYE, "n": 4, "middle": EYE},
        {
            "law": NOT_COVARIANCE,
            "n": not_count(1),
            "middle": [row for row in NOT_SQUARE if row[0] is not None] + OTHER_SIZE,
        },
    ),
    theory.hardness_spectrum: ({"law": EYE}, {"law": NOT_COVARIANCE}),
    theory.matched_direct_error: (
        {"law": EYE, "n": 4, "m": 4},
        {"law": NOT_COVARIANCE, "n": not_count(1), "m": not_count(1)},
    ),
    theory.cot_error: (
        {"gamma": EYE, "law": EYE, "m": 4, "steps": 2},
        {
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE],
            "law": [*NOT_COVARIANCE, *OTHER_SIZE],
            "m": not_count(1),
            "steps": not_count(0),
        },
    ),
    theory.gamma: (
        {"law": EYE, "n": 4, "noise": 0.0},
        {"law": NOT_COVARIANCE, "n": not_count(1), "noise": not_number(None)},
    ),
    theory.gamma_mixture: (
        {**MIXTURE, "noise": 0.0},
        {
            **NOT_MIXTURE,
            "noise": not_number(None),
            "tasks": [*NOT_TASKS, ([diagonal(1, 1, 0), diagonal(1, 0, 0)], "singular")],
        },
    ),
    theory.direct_error: (
        {"gamma": EYE, "law": EYE, "m": 4, "noise": 0.0},
        {
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE],
            "law": [*NOT_COVARIANCE, *OTHER_SIZE],
            "m": not_count(1),
            "noise": not_number(None),
        },
    ),
    theory.direct_error_bound: (
        {"law": EYE, "n": 4, "m": 4},
        {"law": NOT_COVARIANCE, "n": not_count(1), "m": not_count(1)},
    ),
    theory.cot_error_limit: (
        {"gamma": EYE, "law": EYE, "k": 2},
        {
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE],
            "law": [*NOT_COVARIANCE, *OTHER_SIZE],
            "k": not_count(0),
        },
    ),
    theory.overthinking_trace: (
        {"gamma": EYE, "law": EYE, "k": 2},
        {
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE],
            "law": [*NOT_COVARIANCE, *OTHER_SIZE],
            "k": not_count(0),
        },
    ),
    theory.cot_error_bound: (
        {"law": EYE, "n": 4, "k": 2},
        {"law": NOT_COVARIANCE, "n": not_count(1), "k": not_count(0)},
    ),
    theory.required_context: (
        {"law": EYE, "k": 2, "eps": 0.1},
        {"law": NOT_COVARIANCE, "k": not_count(1), "eps": not_number(0.0)},
    ),
    theory.spectrum_edge: (
        {"gamma": EYE, "cov": EYE, "m": 4},
        {
            "gamma": [*NOT_COVARIANCE, *SINGULAR, *OTHER_SIZE],
            "cov": [*NOT_COVARIANCE, *OTHER_SIZE],
            "m": not_count(1),
        },
    ),
    theory.overthinks: (
        {"gamma": EYE, "cov": EYE, "m": 4},
        {
            "gamma": [*NOT_COVARIANCE, *SINGULAR, *OTHER_SIZE],
            "cov": [*NOT_COVARIANCE, *OTHER_SIZE],
            "m": not_count(1, none=True),
        },
    ),
    theory.marchenko_pastur_error: (
        {"ratio": 0.5, "g": 1.0, "k": 2},
        {"ratio": not_number(0.0), "g": not_number(0.0), "k": not_count(0)},
    ),
    theory.depth_law: (
        {"ratio": 0.5, "g": 1.0, "k": 2},
        {"ratio": not_number(0.0), "g": not_number(0.0), "k": not_count(1)},
    ),
    lsa.embed: (
        {"prompts": BATCH, "w0": BATCH.w},
        {"prompts": NOT_PROMPTS, "w0": [(torch.ones(2, 4), "got (2, 4)"), (["a"], "got ['a']")]},
    ),
    lsa.LinearSelfAttention: ({"d": 3, "c": 1.0}, {"d": not_count(1), "c": not_number(0.0)}),
    lsa.LinearSelfAttention.from_gamma: (
        {"gamma": EYE, "c": 1.0},
        {"gamma": [*NOT_SQUARE, *SINGULAR], "c": not_number(0.0)},
    ),
    lsa.LinearSelfAttention.from_theory: (
        {"law": EYE, "n": 4, "c": 1.0},
        {"law": NOT_COVARIANCE, "n": not_count(1), "c": not_number(0.0)},
    ),
    MODEL.forward: (
        {"embedding": EMBEDDING, "n": 4},
        {"embedding": NOT_EMBEDDING, "n": not_count(1, none=True)},
    ),
    MODEL.answer: (
        {"embedding": EMBEDDING, "n": 4},
        {"embedding": NOT_EMBEDDING, "n": not_count(1, none=True)},
    ),
    MODEL.think: (
        SOLVER,
        {
            "prompts": [*NOT_PROMPTS, (prompts.sample_prompts(diagonal(1, 1), 4, 2), "got d=2")],
            "steps": not_count(0),
        },
    ),
    lsa.population_loss: (
        {"preconditioner": EYE, "first": EYE, "second": EYE},
        {name: [*NOT_SQUARE, *OTHER_SIZE] for name in ("preconditioner", "first", "second")},
    ),
    lsa.train_population: (
        {"first": EYE, "second": EYE, "steps": 2, "learning_rate": 0.1, "c": 1.0},
        {
            "first": [*NOT_SQUARE, *OTHER_SIZE],
            "second": NOT_SECOND,
            "steps": not_count(1),
            "learning_rate": not_number(0.0, none=True),
            "c": not_number(0.0),
        },
    ),
    lsa.population_moments: ({"cov": EYE, "n": 4}, {"cov": NOT_COVARIANCE, "n": not_count(1)}),
    lsa.train_value: (
        {"prompts": BATCH, "steps": 2, "learning_rate": 0.1, "c": 1.0},
        {
            "prompts": NOT_PROMPTS,
            "steps": not_count(1),
            "learning_rate": not_number(0.0, none=True),
            "c": not_number(0.0),
        },
    ),
    lsa.learned_gamma: (
        {"law": EYE, "n": 4, "noise": 0.0},
        {
            "law": [*NOT_COVARIANCE, (diagonal(1, 1, 0), "singular")],
            "n": not_count(1),
            "noise": not_number(None),
        },
    ),
    lsa.empirical_optimum: (
        {"moments": prompts.sample_moments(EYE, 4, 5)},
        {"moments": [*NOT_MOMENTS, (MOMENTS, "at least d=3 prompts, got 2")]},
    ),
    lsa.train_lsa: (
        {
            "model": lsa.LinearSelfAttention(3),
            "sample": lambda: BATCH,
            "steps": 1,
            "learning_rate": 0.1,
            "train_w": True,
            "tie": True,
            "rollout": 1,
            "progress": False,
        },
        {
            "model": [(None, "got None"), (EYE, "got a tensor")],
            "sample": [(BATCH, "got Prompts"), (None, "got None")],
            "steps": not_count(1),
            "learning_rate": not_number(0.0),
            "rollout": not_count(0),
            "tie": [("yes", "got 'yes'")],
            "train_w": [(1, "got 1"), (None, "got None")],
            "progress": [("no", "got 'no'")],
        },
    ),
    cot.chain_of_thought: (
        {"model": MODEL, **SOLVER},
        {
            "model": [
                (None, "got None"),
                (EYE, "got tensor"),
                (lambda prompts, steps: prompts.w, "got (2, 3)"),
            ],
            **NOT_SOLVER,
        },
    ),
    cot.pseudo_newton: (
        {"moments": MOMENTS, "gamma": EYE, "steps": 2},
        {
            "moments": NOT_MOMENTS,
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE, (EYE.expand(5, 3, 3), "got 5")],
            "steps": not_count(0),
        },
    ),
    cot.chain_lessons: (
        {"moments": MOMENTS, "damping": 0.5, "length": 2},
        {
            "moments": NOT_MOMENTS,
            "damping": [*not_number(0.0), (1.5, "got 1.5")],
            "length": not_count(1),
        },
    ),
    cot.sampled_errors: (
        {**SAMPLER, "m": 4, "gamma": EYE, "steps": 2},
        {
            **NOT_SAMPLER,
            "m": not_count(1),
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE],
            "steps": not_count(0),
        },
    ),
    prompts.one_batch: (
        {"groups": [BATCH]},
        {"groups": [([], "got none"), ([BATCH, prompts.sample_prompts(diagonal(1, 1), 4, 2)], "got")]},
    ),
    prompts.join: ({"parts": [MOMENTS]}, {"parts": [([], "got none")]}),
    baselines.ols: (SOLVER, NOT_SOLVER),
    baselines.ridge: ({**SOLVER, "penalty": 1.0}, {**NOT_SOLVER, "penalty": not_number(0.0)}),
    baselines.gradient_descent: (
        {**SOLVER, "learning_rate": 0.1},
        {**NOT_SOLVER, "learning_rate": not_number(0.0, none=True)},
    ),
    baselines.newton: (SOLVER, NOT_SOLVER),
    baselines.conjugate_gradient: (SOLVER, NOT_SOLVER),
    errors.squared_error: (
        {"chain": TWO, "w": BATCH.w},
        {
            "chain": [(BATCH.w, "got (2, 3)"), (torch.ones(3, 2, 3), "(3, 2, 3)"), (None, "got None")],
            "w": [(EYE, "(3, 3)"), (["a"], "got ['a']")],
        },
    ),
    errors.propagated_error: (
        {"gram": MOMENTS.gram, "gamma": EYE, "steps": 2},
        {
            "gram": [*NOT_SQUARE, (torch.eye(2, dtype=torch.float64)[None], "d=2"), (EYE, "got (3, 3)")],
            "gamma": [*NOT_SQUARE, *SINGULAR, *OTHER_SIZE, (EYE.expand(5, 3, 3), "got (5, 3, 3)")],
            "steps": not_count(0),
        },
    ),
    errors.standard_error: (
        {"values": VALUES, "dim": 0},
        {
            "values": [
                (VALUES[:1], "got 1"),
                (["a", "b"], "got ['a', 'b']"),
                (torch.ones(4) > 0, "got a tensor of torch.bool"),
            ],
            "dim": [(2, "got 2"), (-3, "got -3"), (0.0, "got 0.0"), (True, "got True"), (None, "got None")],
        },
    ),
    errors.mean_interval: (
        {"values": VALUES, "dim": 0, "confidence": 0.9},
        {
            "values": [(VALUES[:1], "got 1"), (["a", "b"], "got ['a', 'b']")],
            "dim": [(2, "got 2"), (0.0, "got 0.0")],
            "confidence": NOT_CONFIDENCE,
        },
    ),
    errors.geometric_mean: (
        {"values": VALUES.exp(), "dim": 0},
        {
            "values": [(-VALUES.exp(), "got a smallest one of"), (["a"], "got ['a']")],
            "dim": [(2, "got 2"), (0.0, "got 0.0")],
        },
    ),
    errors.geometric_interval: (
        {"values": VALUES.exp(), "dim": 0, "confidence": 0.9},
        {
            "values": [(VALUES[:1].exp(), "got 1"), (-VALUES.exp(), "got a smallest one of")],
            "dim": [(2, "got 2"), (0.0, "got 0.0")],
            "confidence": NOT_CONFIDENCE,
        },
    ),
    errors.ratio_interval: (
        {"above": VALUES[:, 0].exp(), "below": VALUES[:, 0].exp(), "confidence": 0.9},
        {
            "above": [(VALUES[:1, 0].exp(), "got 1"), (-VALUES[:, 0].exp(), "got a smallest one of")],
            "below": [(VALUES[:1, 0].exp(), "got 1"), (-VALUES[:, 0].exp(), "got a smallest one of")],
            "confidence": NOT_CONFIDENCE,
        },
    ),
    errors.median_interval: (
        {"values": VALUES[:, 0].repeat(9)[:, None], "confidence": 0.9},
        {"values": [(VALUES[:2], "got 2"), (VALUES / 0 * 0, "got NaN")], "confidence": NOT_CONFIDENCE},
    ),
    errors.paired_difference: (
        {"gained": 3, "lost": 1, "questions": 9},
        {
            "gained": [*not_number(None), (9, "got 9 and 1")],
            "lost": [*not_number(None), (7, "got 3 and 7")],
            "questions": [*not_count(1), (3, "questions=3")],
            "confidence": NOT_CONFIDENCE,
        },
    ),
    errors.sign_flip_pvalue: (
        {"differences": [0.5, -1, 0]},
        {"differences": [([0.1, -1.5], "got -1.5"), ([math.nan], "got nan"), (["x"], "got 'x'")]},
    ),
    errors.holm: (
        {"pvalues": [0.1, 0.2]},
        {"pvalues": [([0.1, 1.5], "got 1.5"), ([math.nan], "got nan"), (["x"], "got 'x'")]},
    ),
    errors.z_scores: (
        {"values": VALUES, "expected": 0.0, "dim": 0},
        {
            "values": [(VALUES[:1], "got 1"), (["a", "b"], "got ['a', 'b']")],
            "expected": [("x", "got 'x'"), (torch.ones(7), "got shape (7,)")],
            "dim": [(2, "got 2"), (0.0, "got 0.0")],
        },
    ),
    errors.relative_distance: (
        {"found": EYE, "target": EYE},
        {"found": [*OTHER_SIZE, ("x", "got 'x'")], "target": [*OTHER_SIZE, (0 * EYE, "got zeros")]},
    ),
    claims.close: (
        {"label": "x", "measured": 1.0, "predicted": 1.0, "rel": 0.1, "abs": 0.0},
        {
            "label": NOT_TEXT,
            "measured": NOT_REAL,
            "predicted": NOT_BOUND,
            "rel": [(0.0, "rel=0.0"), (-0.1, "rel=-0.1"), (math.nan, "rel=nan")],
            "abs": [(math.nan, "abs=nan"), (-1.0, "abs=-1.0")],
        },
    ),
    claims.below: (
        {"label": "x", "measured": 1.0, "bound": 1.0},
        {"label": NOT_TEXT, "measured": NOT_REAL, "bound": NOT_BOUND, "predicted": NOT_PREDICTED},
    ),
    claims.above: (
        {"label": "x", "measured": 1.0, "bound": 1.0},
        {"label": NOT_TEXT, "measured": NOT_REAL, "bound": NOT_BOUND, "predicted": NOT_PREDICTED},
    ),
    claims.inside: (
        {"label": "x", "measured": 1.0, "low": 0.0, "high": 2.0},
        {
            "label": NOT_TEXT,
            "measured": NOT_REAL,
            "predicted": NOT_PREDICTED,
            "low": [*NOT_BOUND, (3.0, "low=3.0")],
            "high": [*NOT_BOUND, (-1.0, "high=-1.0")],
        },
    ),
    claims.share: (
        {"label": "x", "count": 3, "trials": 4, "above": 0.1},
        {
            "label": NOT_TEXT,
            "count": [(5, "got 5 of 4"), (-1, "got -1"), (0.5, "got 0.5")],
            "trials": [(0, "got 0"), (2.5, "got 2.5")],
            "above": [("x", "got 'x'"), (math.nan, "got nan"), (None, "above=None")],
            "below": [(0.5, "below=0.5")],
            "predicted": NOT_PREDICTED,
        },
    ),
    claims.summary: ({"run": RUN}, {"run": [(None, "got None")]}),
    runs.start: (
        {"chapter": "01_the_task", "profile": "ci", "device": "cpu", "seed": 0},
        {
            "chapter": [("99_nowhere", "99_nowhere"), ("", "''"), (3, "3")],
            "profile": [("fast", "got 'fast'"), ("CI", "got 'CI'"), (3, "got 3")],
            "device": [
                ("tpu", "got 'tpu'"),
                ("cuda:99", "got 'cuda:99'"),
                ("", "got ''"),
                (None, "got None"),
                (7, "got 7"),
            ],
            "seed": not_count(0),
        },
    ),
    runs.check_device: ({"device": "cpu"}, {"device": [("gpu", "got 'gpu'"), ("meta", "got 'meta'")]}),
    RUN.generator: ({"role": "data", "replica": 0}, {"role": NOT_TEXT, "replica": not_count(0)}),
    figures.new: (
        {"cols": 1, "rows": 1, "height": 2.0, "width": 3.0},
        {
            "cols": not_count(1),
            "rows": not_count(1),
            "height": not_number(0.0),
            "width": not_number(0.0, none=True),
        },
    ),
    **{
        draw: ({"ax": AXES, "x": LINE, "y": LINE}, {"x": NOT_LINE, "y": NOT_LINE})
        for draw in (figures.theory, figures.bound, figures.limit)
    },
    figures.band: (BAND, NOT_BAND),
    figures.points: (BAND, NOT_BAND),
    **{
        draw: (
            {"ax": AXES, "x": LINE, "samples": [LINE, LINE], "quantiles": (0.1, 0.9)},
            {
                "x": NOT_LINE,
                "samples": [(LINE, "got (2,)"), (torch.ones(0, 2), "got (0, 2)")],
                "quantiles": [
                    ((0.9, 0.1), "got (0.9, 0.1)"),
                    ((-0.1, 0.5), "got (-0.1, 0.5)"),
                    ((0.5,), "got (0.5,)"),
                ],
            },
        )
        for draw in (figures.quantile_band, figures.quantile_points)
    },
    figures.finish: (
        {"figure": AXES.figure, "run": RUN},
        {"figure": [(AXES, "got"), (None, "got None")], "run": [("ci", "got 'ci'")]},
    ),
}

ROWS = [
    pytest.param(function, argument, value, got, id=f"{function.__qualname__}-{argument}-{index}")
    for function, (_, bad) in TABLE.items()
    for argument, values in bad.items()
    for index, (value, got) in enumerate(values)
]


@pytest.mark.parametrize(("function", "argument", "value", "got"), ROWS)
def test_bad_input_is_answered_by_name_and_value(function, argument, value, got, refuses):
    good = TABLE[function][0]
    with refuses(rf"\b{re.escape(argument)}\b") as caught:
        function(**{**good, argument: value})
    assert got in str(caught.value)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__qualname__)
def test_the_good_arguments_of_the_table_are_good(function):
    function(**TABLE[function][0])


# Texts and colours for Matplotlib, records made by the package itself, and values of any kind.
FREE = {"label", "color", "kwargs", "ax", "include", "exclude"}
ELSEWHERE = {  # with their own tests in test_claims.py, or with nothing that could be wrong
    "load",
    "record",
    "number",
    "box",
    "collect",
    "Run.pick",
    "Run.tell",
    "of",
    "each",
    "mixture",
    "percent",
    "span",
    "ranged",
    "table",
    "plot",
    "Prompts.moments",
    "Prompts.to",
    "LinearSelfAttention.preconditioner",
    "Measurement.to_dict",
    "Measurement.passed",
    "badge",
    "evidence",
    "told",
}
RECORDS = {"Run", "Claim", "Check", "Measurement", "Descent", "Law", "Verdict", "Thinker"}


MODULES = (baselines, claims, cot, covariance, errors, figures, laws, lsa, prompts, runs, texts, theory)


def public() -> dict[str, inspect.Signature]:
    """Signatures of all public functions, constructors and methods of the core modules."""
    found: dict[str, inspect.Signature] = {}
    for module in MODULES:
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(thing):
                found[name] = inspect.signature(thing)
            elif inspect.isclass(thing):
                if name not in RECORDS:
                    found[name] = inspect.signature(thing)
                for method, body in vars(thing).items():
                    if not method.startswith("_") and (
                        inspect.isfunction(body) or isinstance(body, classmethod)
                    ):
                        found[f"{name}.{method}"] = inspect.signature(getattr(thing, method))
    return {name: signature for name, signature in found.items() if name not in ELSEWHERE}


def test_the_table_leaves_nothing_out():
    covered = {function.__qualname__: set(bad) | FREE for function, (_, bad) in TABLE.items()}
    for name, signature in public().items():
        if name == "Thinker.think":
            continue
        assert name in covered, f"{name} has no row in the table"
        missing = set(signature.parameters) - {"self"} - covered[name]
        assert not missing, f"{name}: no bad value is tried for {sorted(missing)}"
