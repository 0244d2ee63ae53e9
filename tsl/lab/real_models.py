"""Real reasoning models at several levels of thinking: counts from public tables of results, and what they say.

A table has a row for each answer, with the columns ``model``, ``benchmark``, ``level``, ``question`` and either
``correct`` (0, 1, a mean of ``n_samples``, or a grade) or ``grade`` (A right, B wrong, C not attempted); if known,
``level_order``, ``tokens``, ``scorer``, ``difficulty`` and ``date_ms``. No table is kept with the book: `count` turns one
into a record without questions and answers, and the records are in ``results/11_real_models/``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import optimize, stats

from tsl import _validate, errors, paths

Record = dict[str, Any]

GRADES = ("right", "wrong", "not attempted")
#: Ends of the classes of difficulty: the share of right answers that *other* models give to a question.
CLASSES = (0.25, 0.5, 0.75)
#: All three models of LiveCodeBench were trained on texts from before this day.
NEW_SINCE = "2024-06-01"
#: What some tables call two levels of one model.
TWO_MODELS = ("deepseek-v3/r1",)

SOURCES: dict[str, dict[str, str]] = {
    "knowledge": {
        "about": "12 models on SimpleQA and FRAMES, answers graded right, wrong or not attempted",
        "address": "https://github.com/XuZhao0/tts-knowledge",
        "commit": "9b9674b",
        "licence": "MIT",
    },
    "epoch_effort": {
        "about": "17 models, evaluation logs of Epoch AI: science, mathematics, code, chess, facts",
        "address": "https://github.com/feruiloba/miri-fellowship-inference-scaling",
        "commit": "69eb069",
        "licence": "CC-BY-4.0",
    },
    "livecodebench": {
        "about": "o1, o3-mini and o4-mini on LiveCodeBench",
        "address": "https://github.com/LiveCodeBench/livecodebench.github.io",
        "commit": "83b6481, 33505c0",
        "licence": "CC-BY-SA-4.0",
    },
    "misguided": {
        "about": "8 models on trick puzzles, judged by a language model",
        "address": "https://github.com/cpldcpu/MisguidedAttention",
        "commit": "bbae011",
        "licence": "CC0-1.0",
    },
    "matharena": {
        "about": "o3-mini on AIME 2025 I",
        "address": "https://github.com/eth-sri/matharena.ai",
        "commit": "not recorded",
        "licence": "MIT",
    },
}

AREAS: dict[str, tuple[str, ...]] = {
    "science": ("GPQA",),
    "mathematics": ("OTIS", "AIME", "FrontierMath"),
    "code": ("livecodebench", "SWE"),
    "facts": ("simpleqa", "SimpleQA", "frames"),
    "puzzles": ("Misguided", "Chess"),
}

_EFFORT = ("no_think", "low_effort", "medium_effort", "high_effort")
_SAME = ["model", "benchmark"]


def count(path: Path | str) -> Record:
    """Count, for every model and benchmark of a table, how the questions fare from level to level.

    Parameters
    ----------
    path : path
        A table as described above, named after one of `SOURCES`, such as ``knowledge.csv.gz``.

    Returns
    -------
    dict
        With the keys ``source`` (name, address, commit, licence, sha256 of the table and its rows), ``left_out`` (what was not
        counted, and why), ``levels`` (for each model, benchmark and level, in order: questions, answers, answers of each grade,
        mean tokens, and with repeats ``churn``, the questions expected to be right in one answer and wrong in the next),
        ``pairs`` (for each pair of neighbouring levels, and for the first against the last: its cells, see below) and
        ``choices`` (for each model and benchmark whose table holds single answers: see `choices`).

        A pair is counted over the questions that both levels have. Its cells split them by ``others``, the class of
        difficulty by `CLASSES` (0 is the hardest), and where the table knows them by ``difficulty`` and ``new``. With one
        answer a level a cell has ``moves``, questions by first grade (rows) and second grade (columns), in the order of
        `GRADES`. With repeats it has ``patterns``: rows of right answers and answers at the first level, right answers and
        answers at the second, and how many questions are so.
    """
    path = Path(path)
    name = path.name.split(".")[0]
    _validate.choice("name of the table", name, tuple(SOURCES))
    rows = _read(path)
    rows, left_out = _without_foreign(rows)
    groups = [(key, _by_level(group)) for key, group in rows.groupby(_SAME, sort=True)]
    for (model, benchmark), levels in groups:
        if len(levels) == 1:
            left_out.append(_left(model, benchmark, next(iter(levels)), "no second level to compare with"))
        if model in TWO_MODELS:
            left_out += [
                _left(model, benchmark, level, "two models, not two levels of one") for level in levels
            ]
    kept = [(key, levels) for key, levels in groups if len(levels) > 1 and key[0] not in TWO_MODELS]
    found: Record = {"levels": [], "pairs": [], "choices": []}
    for (model, benchmark), levels in kept:
        whose = {"model": model, "benchmark": benchmark}
        graded = bool(rows.loc[rows["benchmark"] == benchmark, "none"].any())
        ease = _ease(rows[(rows["benchmark"] == benchmark) & (rows["model"] != model)])
        found["levels"] += [whose | _level(level, answers, graded) for level, answers in levels.items()]
        for first, second in _pairs(list(levels)):
            found["pairs"].append(whose | _pair(first, second, levels[first], levels[second], ease, graded))
        if all((answers["asked"] == 1).all() for answers in levels.values()):
            found["choices"].append(whose | choices([_repeats(answers) for answers in levels.values()]))
    source: Record = {"name": name} | SOURCES[name]
    source |= {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": len(pd.read_csv(path, usecols=[0])),
    }
    return {"source": source, "left_out": left_out} | found


def text(record: Record) -> str:
    """A record as JSON, a line for each entry."""
    parts = []
    for key, value in record.items():
        lines = [json.dumps(entry, ensure_ascii=False) for entry in value] if isinstance(value, list) else []
        body = "[\n  " + ",\n  ".join(lines) + "\n ]" if lines else json.dumps(value, ensure_ascii=False)
        parts.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def store(record: Record) -> Path:
    """Keep a record with the book."""
    folder = paths.RESULTS / "11_real_models"
    folder.mkdir(parents=True, exist_ok=True)
    return paths.write_whole(folder / f"{record['source']['name']}.json", text(record))


def recall(name: str) -> Record:
    """The record of a source that is kept with the book; `name` is one of `SOURCES`."""
    _validate.choice("name", name, tuple(SOURCES))
    return json.loads((paths.RESULTS / "11_real_models" / f"{name}.json").read_text(encoding="utf-8"))


def _read(path: Path) -> pd.DataFrame:
    """A table with the columns order, right, wrong, none, asked (numbers of answers) beside its own."""
    rows = pd.read_csv(path, dtype={"question": str, "grade": str, "correct": str})
    graded = "grade" if "grade" in rows else "correct"
    missing = {"model", "benchmark", "level", "question", graded} - set(rows)
    if missing:
        raise ValueError(
            f"{path.name} must have the columns {', '.join(sorted(missing))}, got {', '.join(rows)}"
        )
    share = pd.to_numeric(rows[graded].replace({"A": "1", "B": "0", "C": "0"}), errors="coerce")
    if not share.between(0, 1).all():
        raise ValueError(
            f"{graded} must be in [0, 1] or A, B or C, got {rows[graded][~share.between(0, 1)].iloc[0]!r}"
        )
    rows["asked"] = rows.get("n_samples", 1)
    rows["right"] = (share * rows["asked"]).round().astype(int)
    rows["none"] = (rows[graded] == "C").astype(int)
    rows["wrong"] = rows["asked"] - rows["right"] - rows["none"]
    rows["order"] = rows["level_order"] if "level_order" in rows else rows["level"].map(_order)
    if "difficulty" in rows:
        rows["new"] = rows["date_ms"] >= pd.Timestamp(NEW_SINCE).timestamp() * 1000
    return rows


def _order(level: str) -> int:
    """Place of a level that is named and not numbered: no thinking, then effort, or the number in its name."""
    if level in _EFFORT:
        return _EFFORT.index(level) - 1
    numbers = re.findall(r"\d+", level)
    if not numbers:
        raise ValueError(f"level must be one of {', '.join(_EFFORT)} or hold a number, got {level!r}")
    return int(numbers[0])


def _left(model: str, benchmark: str, level: str, why: str) -> dict[str, str]:
    return {"model": model, "benchmark": benchmark, "level": level, "why": why}


def _without_foreign(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Drop levels whose questions are not their benchmark's: hardly any other model was asked them there."""
    askers = rows.groupby(["benchmark", "question"])["model"].transform("nunique")
    alone = (askers == 1) & (rows.groupby("benchmark")["model"].transform("nunique") > 1)
    level = [*_SAME, "level"]
    foreign = alone.groupby([rows[name] for name in level]).transform("mean") > 0.01
    left_out = []
    for model, benchmark, name in rows.loc[foreign, level].drop_duplicates().itertuples(index=False):
        mine = _answers(rows, model, benchmark, name)
        others = rows.loc[
            (rows["model"] == model) & (rows["benchmark"] != benchmark), level
        ].drop_duplicates()
        same = [
            " ".join(key[1:]) for key in others.itertuples(index=False) if _answers(rows, *key).equals(mine)
        ]
        why = "questions of another benchmark" + (f": the answers are those of {same[0]}" if same else "")
        left_out.append(_left(model, benchmark, name, why))
    return rows[~foreign], left_out


def _answers(rows: pd.DataFrame, model: str, benchmark: str, level: str) -> pd.DataFrame:
    mine = rows[(rows["model"] == model) & (rows["benchmark"] == benchmark) & (rows["level"] == level)]
    return mine[["question", "right", "wrong", "none"]].sort_values("question").reset_index(drop=True)


def _by_level(group: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each level, from the least thinking to the most."""
    ordered = group.groupby("level")["order"].first().sort_values(kind="stable")
    return {level: group[group["level"] == level] for level in ordered.index}


def _pairs(levels: list[str]) -> list[tuple[str, str]]:
    """Neighbouring levels, and the first against the last."""
    return [*itertools.pairwise(levels), *([(levels[0], levels[-1])] if len(levels) > 2 else [])]


def _totals(answers: pd.DataFrame) -> pd.DataFrame:
    """Numbers of answers by question."""
    return answers.groupby("question")[["right", "wrong", "none", "asked"]].sum()


def _level(level: str, answers: pd.DataFrame, graded: bool) -> Record:
    totals = _totals(answers)
    found = {"level": level, "questions": len(totals)} | {
        key: int(totals[key].sum()) for key in ("asked", "right")
    }
    if graded:
        found |= {"wrong": int(totals["wrong"].sum()), "not attempted": int(totals["none"].sum())}
    if (repeated := totals[totals["asked"] > 1]).size and len(repeated) == len(totals):
        right, asked = repeated["right"], repeated["asked"]
        found["churn"] = _round((right * (asked - right) / (asked * (asked - 1))).sum())
    known = answers["tokens"].dropna() if "tokens" in answers else ()
    return found | ({"tokens": round(float(np.mean(known)), 1)} if len(known) else {})


def _ease(rows: pd.DataFrame) -> pd.Series | None:
    """Share of right answers that models give to a question, each model counting once; None if there are fewer than two."""
    if rows["model"].nunique() < 2:
        return None
    sums = rows.groupby(["question", "model", "level"])[["right", "asked"]].sum()
    return (sums["right"] / sums["asked"]).groupby(["question", "model"]).mean().groupby("question").mean()


def _pair(
    first: str, second: str, before: pd.DataFrame, after: pd.DataFrame, ease: pd.Series | None, graded: bool
) -> Record:
    both = _totals(before).join(_totals(after), how="inner", suffixes=("_0", "_1"))
    kinds = pd.DataFrame(index=both.index)
    if ease is not None:
        kinds["others"] = np.searchsorted(CLASSES, ease.reindex(both.index).fillna(0), side="right")
    if "difficulty" in before:
        kinds = kinds.join(before.groupby("question")[["difficulty", "new"]].first())
    names = list(kinds)
    found: Record = {"from": first, "to": second, "questions": len(both)}
    if _scorers(before) != _scorers(after):
        found["graders"] = [_scorers(before), _scorers(after)]
    single = bool((both[["asked_0", "asked_1"]] == 1).all(axis=None))
    groups: Iterator[Any] = (
        iter(both.groupby([kinds[name] for name in names])) if names else iter([((), both)])
    )
    found["cells"] = [
        dict(zip(names, (getattr(value, "item", lambda value=value: value)() for value in key), strict=True))
        | (_moves(group, graded) if single else _patterns(group))
        for key, group in groups
    ]
    return found


def _scorers(answers: pd.DataFrame) -> str:
    return ", ".join(sorted(answers["scorer"].unique())) if "scorer" in answers else ""


def _moves(both: pd.DataFrame, graded: bool) -> Record:
    """Questions by first and second grade."""
    grades = ["right", "wrong", "none"] if graded else ["right", "wrong"]
    return {"moves": [[int((both[f"{a}_0"] * both[f"{b}_1"]).sum()) for b in grades] for a in grades]}


def _patterns(both: pd.DataFrame) -> Record:
    sizes = both.groupby(["right_0", "asked_0", "right_1", "asked_1"]).size()
    return {"patterns": [[*map(int, key), int(size)] for key, size in sizes.items()]}


def _repeats(answers: pd.DataFrame) -> pd.DataFrame:
    """Right or not: a row for each question, a column for each repeat, empty where there are fewer."""
    order = answers.groupby("question").cumcount()
    return answers.assign(order=order).pivot(index="question", columns="order", values="right")


def choices(levels: list[pd.DataFrame]) -> Record:
    """What choosing the level question by question would give, over the best level for all.

    Parameters
    ----------
    levels : list of DataFrames
        For each level right (1) or not (0), a row for each question and a column for each repeat.

    Returns
    -------
    dict
        ``levels``, ``questions`` (those that all levels have), ``best`` and ``any``: questions right at the best level, and
        at one level or another, with one answer each (means over the repeats where there are some).

        With at least four repeats of each level also ``repeats`` r, the least of them and even, and the histograms ``same``
        and ``other`` of questions by answers gained, between −r and r: the repeats are split in two halves, one half chooses
        the level for each question (the best level for all where several are best), and the answers at that level
        are compared with those at the level best for all, on the half that chose and on the other half. The first is the
        naive value of the choice, the second is free of its optimism. ``again`` is the number of questions right in one answer
        or another if the *best* level is asked as often as there are levels.
    """
    common = sorted(set.intersection(*(set(frame.index) for frame in levels)))
    means = np.stack([frame.loc[common].mean(axis=1).to_numpy() for frame in levels])  # skips what is empty
    best = int(means.sum(1).argmax())
    found: Record = {
        "levels": len(levels),
        "questions": len(common),
        "best": _round(means[best].sum()),
        "any": _round((1 - (1 - means).prod(0)).sum()),
    }
    repeats = min(frame.shape[1] for frame in levels) // 2 * 2
    if repeats < 4:
        return found
    full = [q for q in common if all(frame.loc[q, : repeats - 1].notna().all() for frame in levels)]
    answers = np.stack([frame.loc[full].iloc[:, :repeats].to_numpy(dtype=int) for frame in levels])
    halves = answers[..., ::2].sum(-1), answers[..., 1::2].sum(-1)
    same, other = np.zeros(len(full), int), np.zeros(len(full), int)
    for chooser, judge in (halves, halves[::-1]):
        common_level = chooser.sum(1).argmax()
        own = np.where(chooser.max(0) > chooser[common_level], chooser.argmax(0), common_level)
        pick = own, np.arange(len(full))
        same += chooser[pick] - chooser[common_level]
        other += judge[pick] - judge[common_level]
    return found | {
        "again": _round(_right_once(levels[best].loc[common], len(levels)).sum()),
        "repeats": repeats,
        "same": _histogram(same),
        "other": _histogram(other),
    }


def _right_once(answers: pd.DataFrame, draws: int) -> np.ndarray:
    """Chance that one of `draws` repeats, drawn without replacement, is right."""
    asked, wrong = answers.notna().sum(axis=1).to_numpy(), (answers == 0).sum(axis=1).to_numpy()
    miss = np.ones(len(answers))
    for draw in range(draws):
        miss *= np.clip(wrong - draw, 0, None) / (asked - draw)
    return 1 - miss


def _histogram(values: np.ndarray) -> dict[str, int]:
    return {str(value): int(size) for value, size in zip(*np.unique(values, return_counts=True), strict=True)}


def _round(value: float) -> float | int:
    """Whole numbers whole, others to four digits after the point."""
    return int(value) if float(value).is_integer() else round(float(value), 4)


class Change(NamedTuple):
    """How a share of the same questions changes between two levels."""

    difference: float
    low: float
    high: float
    p: float
    gained: float
    lost: float
    questions: int


def compare(pair: Record, grade: str = "right", confidence: float = 0.95, **where: Any) -> Change:
    """Compare two levels question by question, as `tsl.advice.budget_helps` does.

    Parameters
    ----------
    pair : dict
        One of a record's ``pairs``.
    grade : {"right", "wrong", "not attempted"}
        The grade whose share is compared; with repeats only "right".
    confidence : float
        Coverage of the interval, between 0 and 1.
    **where
        Which cells to count, such as ``others=0`` or ``difficulty="hard"``; all by default.

    Returns
    -------
    Change
        The question is the unit: its repeats are averaged to a change x. p is that of `tsl.errors.sign_flip_pvalue`, the
        interval that of `tsl.errors.paired_difference` in units of ``s = Σ x²/Σ abs(x)``, which is 1 without repeats.
        ``gained`` and ``lost`` are expected of one answer each. Without questions all is NaN.
    """
    before, after = _shares(pair, where, grade)
    if len(before) == 0:
        return Change(*[math.nan] * 6, 0)  # type: ignore[call-arg, arg-type]
    x = (after - before).round(decimals=9)
    up, down = float(x.clip(min=0).sum()), float((-x).clip(min=0).sum())
    size = float(x.square().sum()) / (up + down) if x.any() else 1.0
    middle, low, high = (
        size * end for end in errors.paired_difference(up / size, down / size, len(x), confidence)
    )
    gained, lost = float((after * (1 - before)).sum()), float((before * (1 - after)).sum())
    return Change(middle, low, high, errors.sign_flip_pvalue(x.tolist()), gained, lost, len(x))


def graded_moves(pair: Record, **where: Any) -> np.ndarray:
    """Questions by first grade (rows) and second grade (columns), in the cells that `where` chooses as in `compare`."""
    tables = [cell["moves"] for cell in pair["cells"] if _chosen(cell, where)]
    return np.sum(tables, axis=0) if tables else np.zeros_like(pair["cells"][0]["moves"])


def right_at(pair: Record, **where: Any) -> tuple[float, float]:
    """Share right at the first and at the second level, in the cells that `where` chooses as in `compare`; NaN if empty."""
    before, after = _shares(pair, where)
    return float(before.mean()), float(after.mean())


def _shares(pair: Record, where: dict[str, Any], grade: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """Share of a grade among the answers to each question, at the first and at the second level."""
    _validate.choice("grade", grade, GRADES)
    which = GRADES.index(grade)
    rows: list[Any] = []
    for cell in pair["cells"]:
        if not _chosen(cell, where):
            continue
        if which and "moves" not in cell:
            raise ValueError(f"grade must be 'right' where questions are repeated, got {grade!r}")
        rows += cell.get("patterns", [])
        for i, line in enumerate(cell.get("moves", [])):
            rows += [[i == which, 1, j == which, 1, size] for j, size in enumerate(line)]
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    first, asked, second, again, size = table.unbind(1)
    return (first / asked).repeat_interleave(size.long()), (second / again).repeat_interleave(size.long())


def _chosen(cell: Record, where: dict[str, Any]) -> bool:
    return all(cell[key] == value for key, value in where.items())


def area(benchmark: str) -> str:
    """What a benchmark asks for: one of `AREAS`."""
    return next(name for name, prefixes in AREAS.items() if benchmark.startswith(prefixes))


def by_class(pair: Record) -> dict[str, Any]:
    """How a gain divides over the four classes of difficulty, and how one decay of the unsolved share would divide it.

    Returns
    -------
    dict
        ``size`` (questions), ``before`` (share right at the first level), ``gain``, ``predicted`` (by `decay`), arrays with an
        entry for each class from hard to easy, NaN where it is empty; and ``kappa``, the one fitted number.
    """
    classes = range(len(CLASSES) + 1)
    found = [compare(pair, others=c) for c in classes]
    size = np.array([one.questions for one in found])
    gain = np.array([one.difference for one in found])
    before = np.array([right_at(pair, others=c)[0] for c in classes])
    some, predicted = size > 0, np.full(len(size), np.nan)
    mean = size[some] @ gain[some] / size.sum()
    kappa, predicted[some] = decay(before[some], size[some], mean)
    return {"size": size, "before": before, "gain": gain, "predicted": predicted, "kappa": kappa}


def harder_and_easiest(found: dict[str, Any]) -> tuple[float, float, float, float]:
    """Gain on questions that others get right in less than ¾, and on the rest, out of what `by_class` found.

    Then the same two as shares of what was unsolved at the first level: of the room that there was to gain. NaN where there
    was room for fewer than three answers.
    """
    size, gain, room = (
        found["size"],
        np.nan_to_num(found["gain"]),
        1 - np.nan_to_num(found["before"], nan=1.0),
    )
    parts = []
    for part in (slice(0, -1), slice(-1, None)):
        gained, unsolved = size[part] @ gain[part], size[part] @ room[part]
        share = gained / unsolved if unsolved >= 3 else math.nan
        parts.append((gained / max(1, size[part].sum()), share))
    return parts[0][0], parts[1][0], parts[0][1], parts[1][1]


def new_answers(moves: np.ndarray) -> dict[str, float]:
    """What a second level changes on questions of fact, out of a table of `graded_moves`.

    Returns
    -------
    dict
        ``newly right``, ``newly wrong`` (questions that were not so before); ``precise before`` and ``precise in new``, the share
        right among what is answered at the first level, and among what only the second answers; ``net``, the change of
        the share right among the ``answered`` questions, those that both levels answer.
    """
    right, wrong, none = range(3)
    answered = moves[:2, :2]
    found = {
        "newly right": moves[1:, right].sum(),
        "newly wrong": moves[[right, none], wrong].sum(),
        "precise before": moves[right].sum() / moves[:2].sum(),
        "precise in new": moves[none, right] / max(1, moves[none, :2].sum()),
        "net": (answered[wrong, right] - answered[right, wrong]) / answered.sum(),
        "answered": answered.sum(),
    }
    return {name: float(value) for name, value in found.items()}


def returns(share: ArrayLike, tokens: ArrayLike) -> np.ndarray:
    """Gain of the share right per doubling of tokens, from each level to the next."""
    return np.diff(np.asarray(share, dtype=float)) / np.diff(np.log2(np.asarray(tokens, dtype=float)))


def pace(share: ArrayLike, tokens: ArrayLike) -> tuple[float, float]:
    """Power to which the last level raises the unsolved share of the first, and by what factor tokens grow.

    If tokens were steps of one decay the two would be equal.
    """
    unsolved = 1 - np.asarray(share, dtype=float)
    used = np.asarray(tokens, dtype=float)
    return float(np.log(unsolved[-1]) / np.log(unsolved[0])), float(used[-1] / used[0])


def difference(first: Sequence[Any], second: Sequence[Any]) -> tuple[float, float, float]:
    """First minus second of two independent measurements, each with both ends of its interval: their widths add in squares.

    R. G. Newcombe, Statistics in Medicine 17, 873 (1998), method 10; both intervals are of one confidence.
    """
    (a, a_low, a_high), (b, b_low, b_high) = (map(float, one[:3]) for one in (first, second))
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def jackknife(
    items: Sequence[Any], statistic: Callable[[list[Any]], ArrayLike], confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic of a list of independent items, and both ends of its interval, by leaving out each item in turn.

    Student's interval with the jackknife's variance, (n − 1)/n Σ (θ₋ᵢ − θ̄)²; for a mean it is `tsl.errors.mean_interval`. Nothing
    is drawn.
    """
    _validate.fraction("confidence", confidence)
    whole, n = np.asarray(statistic(list(items)), dtype=float), len(items)
    if n < 2:
        raise ValueError(f"items must hold at least 2, got {n}")
    without = np.stack([statistic([*items[:i], *items[i + 1 :]]) for i in range(n)])
    spread = np.sqrt((n - 1) * without.var(0))
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * spread
    return whole, np.asarray(whole - half), np.asarray(whole + half)


def decay(before: ArrayLike, weights: ArrayLike, gain: float) -> tuple[float, np.ndarray]:
    """Gains of classes of questions if thinking longer raises the unsolved share of each to one and the same power κ.

    Parameters
    ----------
    before : array_like of float
        Share right in each class before.
    weights : array_like of float
        Questions in each class.
    gain : float
        Gain over all questions, the only thing that κ is fitted to.

    Returns
    -------
    exponent, gains : float and array
        κ, and u − u^κ of each class with u = 1 − before. NaN if no power between e⁻⁹ and e⁹ gives the gain.
    """
    unsolved = 1 - np.asarray(before, dtype=float)
    share = np.asarray(weights, dtype=float) / np.sum(weights)

    def excess(log: float) -> float:
        return float(share @ (unsolved - unsolved ** math.exp(log)) - gain)

    if excess(-9.0) * excess(9.0) > 0:
        return math.nan, np.full_like(unsolved, math.nan)
    exponent = math.exp(optimize.brentq(excess, -9.0, 9.0))
    return exponent, unsolved - unsolved**exponent


def unfolded(histogram: dict[str, int], repeats: int) -> torch.Tensor:
    """A value for each question from a histogram of answers gained, in shares of an answer."""
    values = torch.tensor([int(value) for value in histogram], dtype=torch.float64) / repeats
    return values.repeat_interleave(torch.tensor(list(histogram.values())))
