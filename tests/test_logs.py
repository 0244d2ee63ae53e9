"""Logs of scores by level of thinking: columns and grades of many kinds are understood, and what is wrong is found and said."""

import numpy as np
import pandas as pd
import pytest

from tsl import logs


def table(levels=("low", "medium", "high"), questions=60, repeats=1, seed=0, **columns) -> pd.DataFrame:
    """A made-up log: one row for a question, a level and a repeat; harder questions have larger numbers."""
    generator = np.random.default_rng(seed)
    grid = pd.MultiIndex.from_product(
        [levels, range(questions), range(repeats)], names=["level", "question", "repeat"]
    )
    rows = grid.to_frame(index=False)
    chance = 0.9 - 0.8 * rows["question"] / questions
    rows["correct"] = (generator.random(len(rows)) < chance).astype(int)
    rows["tokens"] = 100 * 4 ** rows["level"].map(list(levels).index) + generator.integers(0, 50, len(rows))
    return rows.assign(**columns)


def texts(found: logs.Log) -> str:
    return " | ".join(warning.text for warning in found.warnings)


def understood(rows: pd.DataFrame, **kwargs) -> logs.Case:
    (case,) = logs.understand(rows, **kwargs).cases
    return case


def test_a_clean_log_has_one_case_in_order_and_no_warning():
    found = logs.understand(table())
    (case,) = found.cases
    assert case.levels == ("low", "medium", "high")
    assert (case.model, case.benchmark) == ("", "")
    assert found.warnings == ()
    pd.testing.assert_series_equal(
        case.rows["right"].reset_index(drop=True), table()["correct"].astype(float), check_names=False
    )


@pytest.mark.parametrize(
    "names",
    [
        {"question": "Problem ID", "level": "reasoning-effort", "correct": "is_correct"},
        {"question": "task_id", "level": "budget", "correct": "Score"},
        {"question": "qid", "level": "Thinking", "correct": "passed", "repeat": "epoch"},
    ],
)
def test_common_spellings_are_known(names):
    found = logs.understand(table().rename(columns=names))
    assert found.columns == {**{name: name for name in ("tokens", "repeat")}, **names}
    assert len(found.cases) == 1


def test_columns_can_be_named_and_the_best_known_spelling_wins():
    rows = table(score=0.5).rename(columns={"question": "nummer"})
    assert logs.understand(rows, {"question": "nummer"}).columns["correct"] == "correct"
    assert understood(rows, columns={"question": "nummer", "correct": "score"}).rows["right"].eq(0.5).all()


@pytest.mark.parametrize(
    ("grades", "right", "wrong", "skipped"),
    [
        (["A", "B", "C"], [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        (["right", "wrong", "not attempted"], [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        (["CORRECT", "INCORRECT", "NOT_ATTEMPTED"], [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        ([True, False, True], [1, 0, 1], [0, 1, 0], [0, 0, 0]),
        (["1", "0", "0.25"], [1, 0, 0.25], [0, 1, 0.75], [0, 0, 0]),
        ([1.0, 0.5, 0.0], [1, 0.5, 0], [0, 0.5, 1], [0, 0, 0]),
    ],
)
def test_grades_of_many_kinds(grades, right, wrong, skipped):
    rows = pd.DataFrame(
        {"question": [1, 2, 3] * 2, "level": ["off"] * 3 + ["on"] * 3, "correct": [*grades, *grades]}
    )
    shown = understood(rows).rows.iloc[:3]
    assert shown["right"].tolist() == right
    assert shown["wrong"].tolist() == wrong
    assert shown["skipped"].tolist() == skipped


@pytest.mark.parametrize(
    "levels",
    [
        ("no_think", "budget256", "budget512", "budget1024"),
        ("low", "medium(default)", "high", "xhigh"),
        ("nothink", "think4k", "think16k", "think120k"),
        ("False", "True"),
        ("v3(nothink)", "r1(think)"),
        ("0", "512", "2048"),
        ("minimal", "low_effort", "medium_effort", "high_effort"),
        ("none", "exd0", "exd2", "exd4"),
    ],
)
def test_the_order_of_levels_is_read_from_their_names(levels):
    shuffled = table(levels).sample(frac=1, random_state=1)
    assert understood(shuffled).levels == levels


@pytest.mark.parametrize(
    "levels", [("alpha", "beta"), ("think32k", "xhigh"), ("a1", "b2"), ("-1", "512"), ("on", "deep")]
)
def test_an_order_that_cannot_be_guessed_is_asked_for(levels):
    found = logs.understand(table(levels))
    assert found.cases == ()
    assert "cannot be guessed" in texts(found)
    assert understood(table(levels), order=levels[::-1]).levels == levels[::-1]
    ranks = table(levels).assign(level_order=lambda rows: rows["level"].map({levels[0]: 5, levels[1]: 2}))
    assert understood(ranks).levels == levels[::-1]


def test_an_order_that_is_a_placeholder_or_contradicts_itself_is_said():
    rows = table(("think32k", "think64k", "xhigh"))
    ranked = rows.assign(order=rows["level"].map({"think32k": 32e3, "think64k": 64e3, "xhigh": 1e6}))
    found = logs.understand(ranked)
    assert found.cases[0].levels == ("think32k", "think64k", "xhigh")
    assert "placeholder" in texts(found)
    assert "same order" in texts(logs.understand(table(order=1)))
    assert "several orders" in texts(logs.understand(table().assign(order=lambda rows: rows["question"])))


def test_levels_with_identical_answers_are_left_out():
    rows = table()
    copy = rows[rows["level"] == "medium"].assign(level="high")
    found = logs.understand(pd.concat([rows[rows["level"] != "high"], copy]))
    assert found.cases == ()
    assert "same answers to all 60 questions" in texts(found)
    assert "either may be the copy" in texts(found)


def test_a_file_that_is_another_benchmarks_is_left_out_there_and_kept_where_it_belongs():
    first, second = (
        table(questions=60, seed=1, benchmark="one", model="m"),
        table(questions=50, seed=2, benchmark="two", model="m"),
    )
    stray = first[first["level"] == "low"].assign(benchmark="two")
    found = logs.understand(pd.concat([first, second[second["level"] != "low"], stray]))
    assert {case.benchmark: case.levels for case in found.cases} == {
        "one": ("low", "medium", "high"),
        "two": ("medium", "high"),
    }
    assert "its questions are the other benchmark's" in texts(found)


def test_equal_answers_without_variety_are_no_copy():
    assert logs.understand(table(correct=0)).warnings == ()


def test_missing_questions_and_answers_are_said():
    rows = table(repeats=4)
    lost = (rows["level"] == "high") & (rows["question"] == 7)
    once = (rows["level"] == "low") & (rows["question"] == 3) & (rows["repeat"] == 0)
    said = texts(logs.understand(rows[~lost & ~once]))
    assert "high lacks 1 question of 60 (such as 7)" in said
    assert "1 answer missing at low: fewer than 4 repeats of 1 question" in said


def test_duplicates_are_dropped_or_left_out_and_said():
    rows = table()
    doubled = rows[(rows["level"] == "low") & (rows["question"] < 3)]
    found = logs.understand(pd.concat([rows, doubled]))
    assert "3 duplicate rows at low dropped" in texts(found)
    assert len(found.cases[0].rows) == len(rows)
    found = logs.understand(pd.concat([rows, doubled.assign(correct=1 - doubled["correct"])]))
    assert "duplicates that disagree at low: 3 questions (such as 0, 1, 2)" in texts(found)
    assert len(found.cases[0].rows) == len(rows) - 3


def test_repeats_need_no_column():
    rows = table(repeats=4).drop(columns=["repeat", "tokens"])
    found = logs.understand(rows)
    assert found.warnings == ()
    assert len(found.cases[0].rows) == len(rows)
    assert "180 duplicate rows" not in texts(found)
    assert "60 duplicate rows at low dropped" in texts(logs.understand(pd.concat([table(), table()])))


def test_a_level_with_one_question_and_a_single_level_are_left_out():
    rows = table()
    one = rows[(rows["level"] != "high") | (rows["question"] == 0)]
    assert "high holds 1 question; level left out" in texts(logs.understand(one))
    alone = logs.understand(rows[rows["level"] == "low"])
    assert alone.cases == ()
    assert "a single level is left (low)" in texts(alone)


def test_grades_that_change_scale_are_found():
    rows = table()
    high = rows["level"] == "high"
    percent = rows.assign(correct=rows["correct"].where(~high, 100 * rows["correct"]))
    found = logs.understand(percent)
    assert "grades change scale at high: up to 100 (per cent?)" in texts(found)
    assert found.cases[0].levels == ("low", "medium")
    letters = rows.assign(
        correct=rows["correct"].astype(str).where(~high, rows["correct"].map({1: "A", 0: "C"}))
    )
    assert "grades change scale: low has numbers" in texts(logs.understand(letters))
    means = rows.assign(correct=rows["correct"].where(~high, 0.25 + 0.5 * rows["correct"]))
    assert "high has means" in texts(logs.understand(means))


def test_graders_and_other_settings_that_change_with_the_level_are_said():
    rows = table()
    graded = rows.assign(scorer=rows["level"].map({"low": "exact", "medium": "exact", "high": "llm judge"}))
    said = texts(logs.understand(graded))
    assert "scorer changes with the level: low exact, medium exact, high llm judge" in said
    assert "a model judged the answers" in said
    assert "parts of a point" in texts(logs.understand(rows.assign(score=rows["correct"] * 0.5)))
    same = rows.assign(level=rows["level"].map({"low": "low", "medium": "high16k", "high": "high-long"}))
    same["order"] = same["level"].map({"low": 1, "high16k": 2, "high-long": 3})
    assert "high16k and high-long name one effort" in texts(logs.understand(same))


def test_tokens_that_do_not_grow_or_cannot_be_those_of_thinking_are_said():
    said = texts(logs.understand(table(tokens=6)))
    assert "tokens do not grow from low (6 a question) to medium (6)" in said
    assert "they count the answer alone" in said


def test_older_questions_that_are_right_more_often_are_said():
    rows = table(questions=200)
    dated = rows.assign(release_date=pd.Timestamp("2023-01-01") + pd.to_timedelta(rows["question"], "D"))
    assert "the older may be easier, or known from training" in texts(logs.understand(dated))
    stamps = dated.assign(date_ms=dated["release_date"].astype("datetime64[ms]").astype("int64")).drop(
        columns="release_date"
    )
    assert "date_ms: questions before 2023-04" in texts(logs.understand(stamps))


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        (lambda t: t.drop(columns="correct"), {}, "no column for correct .known as correct, is_correct"),
        (
            lambda t: t.drop(columns=["question", "level"]),
            {},
            "no column for question .*; level .*its columns",
        ),
        (lambda t: t[:0], {}, "at least one row"),
        (lambda t: t.assign(correct="perhaps"), {}, "'correct' must hold .* got 'perhaps'"),
        (lambda t: t.assign(correct=""), {}, "'correct' must hold grades, got none"),
        (lambda t: t, {"columns": {"question": "nummer"}}, "no column 'nummer'; its columns: level"),
        (lambda t: t, {"columns": {"shade": "level"}}, "columns must name question.* got shade"),
        (lambda t: t, {"groups": ["hardness"]}, "no column 'hardness'"),
    ],
)
def test_what_cannot_be_understood_is_named(change, kwargs, message, refuses):
    with refuses(message):
        logs.understand(change(table()), **kwargs)


def test_groups_are_cases_of_their_own():
    rows = table(difficulty="easy").assign(difficulty=lambda t: np.where(t["question"] > 30, "hard", "easy"))
    (case,) = logs.understand(rows, groups=["difficulty"]).cases
    parts = list(logs.by_group(case, "difficulty"))
    assert [part.benchmark for part in parts] == ["[difficulty easy]", "[difficulty hard]"]
    assert sum(len(part.rows) for part in parts) == len(rows)
