"""Counts of real models: a small table by hand, what must not leak, and the records that are kept with the book."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from tsl import errors, paths
from tsl.lab import real_models

RECORDS = {name: real_models.recall(name) for name in real_models.SOURCES}


def write(tmp_path, rows, name="knowledge"):
    path = tmp_path / f"{name}.csv.gz"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def answers(model, grades, benchmark="simpleqa", **more):
    """Rows of one model from a text of grades a level, a letter a question."""
    return [
        {"model": model, "benchmark": benchmark, "level": level, "question": str(i), "grade": grade} | more
        for level, text in grades.items()
        for i, grade in enumerate(text)
    ]


def test_moves_of_a_table_counted_by_hand(tmp_path):
    rows = answers("a", {"high_effort": "AABBC", "low_effort": "ABACC"})
    (pair,) = real_models.count(write(tmp_path, rows))["pairs"]
    assert (pair["from"], pair["to"], pair["questions"]) == ("low_effort", "high_effort", 5)
    assert real_models.graded_moves(pair).tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    right, wrong = (real_models.compare(pair, grade=grade) for grade in ("right", "wrong"))
    assert (right.gained, right.lost, right.questions, right.difference) == (1, 1, 5, 0)
    assert (wrong.gained, wrong.lost) == (2, 1)
    assert wrong.p == pytest.approx(1.0)  # McNemar's exact test: two of three


def test_levels_are_ordered_and_the_first_meets_the_last(tmp_path):
    rows = answers("a", {"budget1024": "AA", "no_think": "BB", "budget256": "AB"})
    pairs = real_models.count(write(tmp_path, rows))["pairs"]
    assert [(p["from"], p["to"]) for p in pairs] == [
        ("no_think", "budget256"),
        ("budget256", "budget1024"),
        ("no_think", "budget1024"),
    ]


def test_difficulty_does_not_depend_on_the_model_that_is_judged(tmp_path):
    others = answers("b", {"exd0": "AAABBB", "exd2": "AABBBB"}) + answers(
        "c", {"exd0": "AABABB", "exd2": "AABABB"}
    )

    def classes(own):
        pairs = real_models.count(write(tmp_path, others + answers("a", own)))["pairs"]
        (pair,) = (p for p in pairs if p["model"] == "a")
        return {cell["others"]: int(np.sum(cell["moves"])) for cell in pair["cells"]}

    found = classes({"exd0": "AAAAAA", "exd2": "BBBBBB"})
    assert found == classes({"exd0": "BBBBBB", "exd2": "BABABA"})
    assert found == {0: 2, 1: 1, 2: 1, 3: 2}  # others right: 0, 0, 1/4, 1/2, 1, 1


def test_repeats_are_patterns_and_the_question_is_the_unit(tmp_path, refuses):
    rows = [
        {
            "model": "a",
            "benchmark": "x",
            "level": f"l{level}",
            "level_order": level,
            "question": q,
            "correct": value,
        }
        for level, table in enumerate([[[1, 0], [0, 0], [1, 1]], [[1, 1], [1, 0], [1, 1]]])
        for q, values in enumerate(table)
        for value in values
    ]
    record = real_models.count(write(tmp_path, rows, "epoch_effort"))
    (pair,) = record["pairs"]
    assert sorted(pair["cells"][0]["patterns"]) == [[0, 2, 1, 2, 1], [1, 2, 2, 2, 1], [2, 2, 2, 2, 1]]
    found = real_models.compare(pair)
    assert found.p == pytest.approx(0.5)  # two changes, both for the better
    assert found[:3] == pytest.approx([end / 2 for end in errors.paired_difference(2, 0, 3)])
    with refuses("grade must be 'right' where questions are repeated"):
        real_models.compare(pair, grade="wrong")
    assert (found.gained, found.lost) == (1.0, 0.0)
    assert real_models.right_at(pair) == pytest.approx((0.5, 5 / 6))
    # Of two answers to the first question one is right: it changes from right to wrong once in two orders.
    assert [level["churn"] for level in record["levels"]] == [0.5, 0.5]


def test_a_file_with_the_questions_of_another_benchmark_is_left_out(tmp_path):
    rows = [
        row
        for model in "bc"
        for row in answers(model, {"exd0": "AB", "exd2": "AA"})
        + answers(model, {"exd0": "ABB", "exd2": "AAB"}, "frames", question="")
    ]
    for i, row in enumerate(rows):
        row["question"] = row["question"] or f"f{i % 3}"
    frames = [r | {"model": "a"} for r in rows if r["benchmark"] == "frames" and r["model"] == "b"]
    copied = [r | {"benchmark": "simpleqa"} for r in frames if r["level"] == "exd0"]
    own = answers("a", {"exd2": "AB"})
    record = real_models.count(write(tmp_path, rows + frames + copied + own))
    left = [row for row in record["left_out"] if row["level"] == "exd0"]
    assert [(row["benchmark"], row["why"]) for row in left] == [
        ("simpleqa", "questions of another benchmark: the answers are those of frames exd0")
    ]
    assert not [p for p in record["pairs"] if (p["model"], p["benchmark"]) == ("a", "simpleqa")]


def test_choosing_by_one_half_is_worth_nothing_when_levels_differ_by_luck_alone():
    generator = np.random.default_rng(0)
    ease = generator.uniform(size=(4000, 1))
    levels = [pd.DataFrame((generator.uniform(size=(4000, 8)) < ease).astype(int)) for _ in range(3)]
    found = real_models.choices(levels)
    same, other = (real_models.unfolded(found[key], found["repeats"]) for key in ("same", "other"))
    assert same.mean() > 0.05
    _, low, high = errors.mean_interval(other, confidence=0.999)
    assert low < 0 < high
    # One level or another, or the best level as often: the same, up to the luck of which level is best.
    assert found["any"] == pytest.approx(found["again"], rel=0.02)


def test_choosing_is_worth_something_when_levels_suit_different_questions():
    suits = np.arange(200)[:, None] % 2 == np.array([[0], [1]])[:, None, :]
    levels = [pd.DataFrame(np.repeat(suit, 4, axis=1).astype(int)) for suit in suits.reshape(2, 200, 1)]
    found = real_models.choices(levels)
    assert real_models.unfolded(found["other"], found["repeats"]).mean() == 0.5
    assert (found["best"], found["any"], found["again"]) == (100, 200, 100)


def test_decay_divides_the_whole_gain_and_vanishes_at_both_ends():
    before, weights = [0.0, 0.3, 0.7, 1.0], [10, 20, 30, 40]
    exponent, gains = real_models.decay(before, weights, 0.1)
    assert np.average(gains, weights=weights) == pytest.approx(0.1)
    assert gains[[0, 3]].tolist() == [0, 0]
    assert 1 - before[1] - gains[1] == pytest.approx((1 - before[1]) ** exponent)
    assert math.isnan(real_models.decay([0.0, 1.0], [1, 1], 0.1)[0])


def test_gains_of_harder_and_easiest_classes_and_of_the_room_that_was_left():
    nan = math.nan
    found = {"size": np.array([10, 0, 30, 40]), "before": np.array([0.1, nan, 0.5, 0.9])}
    found |= {"gain": np.array([0.2, nan, 0.1, 0.05])}
    hard, easy, of_hard, of_easy = real_models.harder_and_easiest(found)
    assert (hard, easy) == pytest.approx((5 / 40, 2 / 40))
    assert (of_hard, of_easy) == pytest.approx((5 / 24, 2 / 4))
    found["before"][3] = 0.95  # two answers left to gain: too few for a share
    assert math.isnan(real_models.harder_and_easiest(found)[3])


def test_classes_of_a_pair_divide_its_questions_and_its_gain():
    pair = RECORDS["livecodebench"]["pairs"][2]
    found, whole = real_models.by_class(pair), real_models.compare(pair)
    assert found["size"].sum() == whole.questions
    assert found["size"] @ found["gain"] == pytest.approx(whole.difference * whole.questions)
    assert found["size"] @ found["predicted"] == pytest.approx(whole.difference * whole.questions)
    unsolved = 1 - found["before"]
    assert found["predicted"] == pytest.approx(unsolved - unsolved ** found["kappa"])


def test_new_answers_are_counted_by_what_they_were():
    moves = np.array([[50, 3, 2], [7, 20, 1], [4, 9, 10]])  # right, wrong, not attempted
    found = real_models.new_answers(moves)
    assert (found["newly right"], found["newly wrong"]) == (7 + 4, 3 + 9)
    assert (found["precise before"], found["precise in new"]) == pytest.approx((55 / 83, 4 / 13))
    assert (found["net"], found["answered"]) == pytest.approx(((7 - 3) / 80, 80))


def test_one_decay_has_falling_returns_and_the_pace_of_its_tokens():
    tokens = 1000 * np.array([1.0, 2.0, 4.0, 8.0])
    share = 1 - 0.6 ** (tokens / tokens[0])
    assert real_models.pace(share, tokens) == pytest.approx((8, 8))
    gained = real_models.returns(share, tokens)
    assert gained == pytest.approx(np.diff(share))
    assert gained[-1] < gained[0]
    assert real_models.returns([0.2, 0.4], [1000, 4000]) == pytest.approx([0.1])


def test_a_difference_covers_as_often_as_its_parts():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn((2, 2000, 12), generator=generator, dtype=torch.float64)
    inside = 0
    for a, b in zip(first + 0.7, 2 * second, strict=True):
        _, low, high = real_models.difference(errors.mean_interval(a), errors.mean_interval(b))
        inside += low < 0.7 < high
    assert 0.94 < inside / 2000 < 0.98


def test_leaving_one_out_gives_students_interval_of_a_mean_and_covers_a_ratio():
    values = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = real_models.jackknife(values.tolist(), np.mean)
    assert [float(end) for end in found] == pytest.approx(
        [float(end) for end in errors.mean_interval(values)]
    )
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        below = generator.uniform(1, 3, 30)
        pairs = list(zip(below * generator.uniform(0.5, 1.5, 30), below, strict=True))
        _, low, high = real_models.jackknife(pairs, lambda some: np.divide(*np.sum(some, axis=0)))
        inside += low < 1 < high
    assert 0.92 < inside / 400 < 0.98
    with pytest.raises(ValueError, match="items must hold at least 2, got 1"):
        real_models.jackknife([1.0], np.mean)


def test_holm_and_the_simultaneous_intervals_mostly_agree():
    pairs = [pair for record in RECORDS.values() for pair in record["pairs"] if pair["questions"] > 12]
    found = [real_models.compare(pair, confidence=1 - 0.05 / len(pairs)) for pair in pairs]
    adjusted = errors.holm([one.p for one in found])
    decided = [one for one, p in zip(found, adjusted, strict=True) if p <= 0.05]
    apart = [one for one in found if one.low > 0 or one.high < 0]
    assert len(decided) > 30
    assert len([one for one in decided if one in apart]) > 0.8 * len(decided)
    assert len([one for one in apart if one not in decided]) < 0.1 * len(apart)


@pytest.mark.parametrize("name", real_models.SOURCES)
def test_stored_counts_agree_with_themselves(name):
    record = RECORDS[name]
    levels = {(row["model"], row["benchmark"], row["level"]): row for row in record["levels"]}
    for pair in record["pairs"]:
        ends = [levels[pair["model"], pair["benchmark"], pair[end]] for end in ("from", "to")]
        found = real_models.compare(pair)
        assert found.questions == pair["questions"] <= min(row["questions"] for row in ends)
        for row, share in zip(ends, real_models.right_at(pair), strict=True):
            if row["questions"] == pair["questions"] and row["asked"] % row["questions"] == 0:
                assert share == pytest.approx(row["right"] / row["asked"])
        assert found.gained - found.lost == pytest.approx(found.difference * found.questions)


@pytest.mark.parametrize("name", real_models.SOURCES)
def test_stored_counts_hold_no_rows_and_say_where_they_come_from(name):
    record = RECORDS[name]
    source = record["source"]
    assert len(source["sha256"]) == 64
    assert source["address"].startswith("https://")
    assert source["licence"]
    stored = (paths.RESULTS / "11_real_models" / f"{name}.json").read_text(encoding="utf-8")
    assert stored == real_models.text(record)
    assert len(stored) < 100_000
    assert not any("question" in cell for pair in record["pairs"] for cell in pair["cells"])


def test_a_record_is_stored_as_it_was_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    record = real_models.count(write(tmp_path, answers("a", {"exd0": "AB", "exd2": "AA"})))
    assert real_models.store(record).is_file()
    assert real_models.recall("knowledge") == record == json.loads(real_models.text(record))


def test_tables_that_cannot_be_counted_are_named(tmp_path, refuses):
    good = answers("a", {"exd0": "AB", "exd2": "AA"})
    with refuses("name of the table"):
        real_models.count(write(tmp_path, good, "mine"))
    with refuses("columns model"):
        real_models.count(write(tmp_path, [{k: v for k, v in row.items() if k != "model"} for row in good]))
    with refuses(r"grade must be in \[0, 1\] or A, B or C, got 'D'"):
        real_models.count(write(tmp_path, [*good, good[0] | {"grade": "D"}]))
    with refuses("level must be one of no_think"):
        real_models.count(write(tmp_path, answers("a", {"some": "A", "exd2": "A"})))
