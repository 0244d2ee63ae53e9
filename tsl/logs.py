"""Logs of models that were asked the same questions at several levels of thinking: understood, put in order, distrusted.

A log is a table with one row for a question, a level and a repeat. `understand` finds its columns and grades, orders the levels,
and takes nothing on trust: what would spoil a comparison is left out of it, and every such thing is said.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

#: Names by which a column is known, best first; capitals, blanks and hyphens do not matter.
SPELLINGS = {
    "question": "question question_id problem problem_id item item_id task_id prompt_id qid id uid idx",
    "level": "level budget effort reasoning_effort thinking_budget thinking_level thinking reasoning mode setting",
    "correct": "correct is_correct grade right score accuracy acc passed pass success result outcome",
    "model": "model model_name model_id llm system",
    "benchmark": "benchmark dataset bench suite eval task domain",
    "order": "level_order order level_index level_rank",
    "tokens": "tokens n_tokens num_tokens total_tokens output_tokens completion_tokens reasoning_tokens thinking_tokens",
    "repeat": "repeat epoch sample sample_id attempt trial replicate rep seed run",
}
NEEDED = ("question", "level", "correct")

_GRADES = {
    "right": "a right correct true yes pass passed t y success solved",
    "wrong": "b wrong incorrect false no fail failed f n failure unsolved",
    "skipped": "c not_attempted not_attempt abstained abstain refused skipped no_answer unanswered",
}
_GRADE = {text: kind for kind, texts in _GRADES.items() for text in texts.split()}

_OFF = {"none", "nothink", "nothinking", "off", "false", "instant", "direct", "base", "disabled", "non"}
_ON = {"think", "thinking", "on", "true", "enabled", "reasoning"}
_WORDS = {"minimal": 1, "min": 1, "low": 2, "medium": 3, "med": 3, "mid": 3, "high": 4, "xhigh": 5, "max": 6}
_SETTING = re.compile(r"scor|grad|judg|metric|n_samples|temperature|max_|cap|prompt|version")
_JUDGE = re.compile(r"model_grad|llm|judge")
_DATE = re.compile(r"date|released|created|published")

SAME = 8  # questions from which equal answers at two levels are taken for a copy
PLACEHOLDER = 8  # a last level that stands this many times as high as the one before was not measured


class Warned(NamedTuple):
    """Something that is wrong with a log, and where."""

    model: str
    benchmark: str
    text: str


class Case(NamedTuple):
    """One model on one benchmark: its levels in order, from least thinking to most, and its rows."""

    model: str
    benchmark: str
    levels: tuple[str, ...]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Log:
    """What `understand` makes of a table.

    Parameters
    ----------
    cases : tuple of Case
        Those with something to compare. Their rows have the columns question, level, repeat, right, wrong, skipped
        (shares of an answer, they sum to 1), tokens (NaN where unknown), and ``group:NAME`` for those asked for as groups.
    warnings : tuple of Warned
        What was found wrong. What it concerns is left out of `cases`, or is said to be in it.
    columns : dict of str to str
        Which column of the table was taken for what.
    groups : tuple of str
        Columns by which questions are grouped.
    """

    cases: tuple[Case, ...]
    warnings: tuple[Warned, ...]
    columns: dict[str, str]
    groups: tuple[str, ...] = ()


def understand(
    table: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Log:
    """Find out what a log says, and what is wrong with it.

    Parameters
    ----------
    table : DataFrame
        One row for a question, a level and a repeat. Needed are columns for question, level and correct: 0 and 1, true and
        false, means in [0, 1], or grades for right, wrong and not attempted (such as A, B, C). Known are also model,
        benchmark, order (of the levels), tokens and repeat.
    columns : mapping of str to str, optional
        Names of columns that are not found by themselves, such as ``{"question": "problem_number"}``.
    order : sequence of str
        Levels from least thinking to most, where neither a column nor their names tell it.
    groups : sequence of str
        Further columns, such as difficulty: questions are compared within each group, too.
    """
    found = _columns(table, dict(columns or {}), groups)
    table = table.reset_index(drop=True)
    rows, warnings = _rows(table, found, groups)
    others = [name for name in table.columns if name not in {*found.values(), *groups}]
    rows = rows.assign(**{f"other:{name}": table[name] for name in others})
    keys = ["model", "benchmark", "level"]
    levels = [
        _Level(model, benchmark, level, part)
        for (model, benchmark, level), part in rows.groupby(keys, sort=False)
    ]
    kept = []
    for level in levels:
        trusted, said = _trusted(level)
        warnings += said
        kept += [trusted] if trusted else []
    copied, said = _copies(kept)
    warnings += said
    cases: dict[tuple[str, str], list[_Level]] = {(level.model, level.benchmark): [] for level in levels}
    for level in kept:
        if level.key not in copied:
            cases[level.key[:2]].append(level)
    made = []
    for (model, benchmark), parts in cases.items():
        case, texts = _case(model, benchmark, parts, list(map(str, order)))
        warnings += [Warned(model, benchmark, text) for text in texts]
        made += [case] if case else []
    return Log(tuple(made), tuple(warnings), found, tuple(groups))


def by_group(case: Case, group: str) -> Iterator[Case]:
    """A case's questions by the values of a column, each as a case of its own."""
    for value, rows in case.rows.groupby(f"group:{group}", sort=True):
        yield Case(case.model, f"{case.benchmark} [{group} {value}]".strip(), case.levels, rows)


class _Level(NamedTuple):
    model: str
    benchmark: str
    level: str
    rows: pd.DataFrame

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.benchmark, self.level

    def warn(self, text: str) -> Warned:
        return Warned(self.model, self.benchmark, text)


def _plain(name: object) -> str:
    return re.sub(r"[\s\-]+", "_", str(name).strip().lower())


def _columns(table: pd.DataFrame, given: dict[str, str], groups: Sequence[str]) -> dict[str, str]:
    """Which column of the table stands for what."""
    known = ", ".join(map(str, table.columns)) or "none"
    if unknown := set(given) - set(SPELLINGS):
        raise ValueError(f"columns must name {', '.join(SPELLINGS)}, got {', '.join(sorted(unknown))}")
    if absent := [name for name in [*given.values(), *groups] if name not in table.columns]:
        raise ValueError(f"the log has no column {', '.join(map(repr, absent))}; its columns: {known}")
    free = {_plain(name): str(name) for name in reversed(table.columns) if name not in given.values()}
    found = {}
    for role, spellings in SPELLINGS.items():
        if name := given.get(role) or next((free[text] for text in spellings.split() if text in free), None):
            found[role] = name
    missing = [role for role in NEEDED if role not in found]
    if missing:
        tried = "; ".join(
            f"{role} (known as {', '.join(SPELLINGS[role].split()[:6])}, …)" for role in missing
        )
        raise ValueError(
            f"the log has no column for {tried}; its columns: {known}. Name it: {missing[0]}=COLUMN"
        )
    if table.empty:
        raise ValueError(f"the log must hold at least one row, got none below its columns: {known}")
    return found


def _rows(
    table: pd.DataFrame, found: dict[str, str], groups: Sequence[str]
) -> tuple[pd.DataFrame, list[Warned]]:
    """The table's rows in our own columns; those without a question or a grade are dropped and said."""
    rows = pd.DataFrame(index=table.index)
    for role in ("model", "benchmark", "level", "question", "repeat"):
        rows[role] = _texts(table[found[role]]) if role in found else ""
    rows["level"] = rows["level"].where(rows["level"] != "", "none")
    for role in ("order", "tokens"):
        rows[role] = pd.to_numeric(table[found[role]], errors="coerce") if role in found else math.nan
    rows = rows.join(_marks(table[found["correct"]], found["correct"])).join(
        table[list(groups)].add_prefix("group:")
    )
    warnings = []
    for name, column in (("question", "question"), ("grade", "kind")):
        bad = rows[column] == ""
        for (model, benchmark), count in rows[bad].groupby(["model", "benchmark"], sort=False).size().items():
            warnings.append(Warned(model, benchmark, f"{_many(count, 'row')} without a {name} left out"))
        rows = rows[~bad]
    if rows.empty:
        raise ValueError(f"column {found['correct']!r} must hold grades, got none")
    return rows, warnings


def _texts(column: pd.Series) -> pd.Series:
    """Names as texts: 3.0 is 3, and what is missing is empty."""
    whole = pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all()
    if whole and (column.dropna().abs() < 2**53).all():
        column = column.astype("Int64")
    return column.astype("string").fillna("").str.strip().astype(object)


def _marks(column: pd.Series, name: str) -> pd.DataFrame:
    """Shares right, wrong and skipped of each answer, and how it was written: a grade, a number, beyond [0, 1], or not at all."""
    written = column.astype("string").str.strip().fillna("")
    number = pd.to_numeric(written.where(written != ""), errors="coerce").astype(float)
    grade = written.map(lambda text: _GRADE.get(_plain(text), ""))
    strange = (grade == "") & number.isna() & ~written.str.lower().isin(["", "nan", "none", "null"])
    if strange.any():
        shown = ", ".join(map(repr, written[strange].unique()[:4]))
        raise ValueError(
            f"column {name!r} must hold 0 and 1, true and false, means in [0, 1] or grades such as A, B, C, got {shown}"
        )
    kind = pd.Series("", index=column.index).mask(grade != "", "grades").mask(number.notna(), "numbers")
    kind = kind.mask((number < 0) | (number > 1), "beyond")
    flags = written.str.lower().isin(
        ["true", "false"]
    )  # true and false are 1 and 0, not a scale of their own
    right = number.where(grade == "", (grade == "right").astype(float))
    skipped = (grade == "skipped").astype(float)
    return pd.DataFrame(
        {
            "right": right,
            "wrong": 1 - right - skipped,
            "skipped": skipped,
            "kind": kind.mask(flags, "numbers"),
        }
    )


def _trusted(level: _Level) -> tuple[_Level | None, list[Warned]]:
    """A level without what is wrong in itself: numbers beyond their scale, duplicates, a single question."""
    name, rows, said = level.level, level.rows, []
    if (beyond := rows["kind"] == "beyond").any():
        worst = rows["right"][beyond].abs().max()
        hint = "per cent?" if 1 < worst <= 100 else "not a share"
        return None, [level.warn(f"grades change scale at {name}: up to {worst:g} ({hint}); level left out")]
    asked = ["question", "repeat"] if rows["repeat"].nunique() > 1 else ["question"]
    same = rows.duplicated([*asked, "right", "skipped"])
    repeated = (rows.groupby("question").size() > 1).mean() > 0.5
    if len(asked) == 2 or not repeated or same.sum() == len(rows) - rows["question"].nunique():
        if same.any():
            said.append(level.warn(f"{_many(int(same.sum()), 'duplicate row')} at {name} dropped"))
            rows = rows[~same]
        if (clash := rows.duplicated(asked, keep=False)).any():
            questions = rows["question"][clash].unique()
            told = f"{_many(len(questions), 'question')} {_such(questions)} left out there"
            said.append(level.warn(f"duplicates that disagree at {name}: {told}"))
            rows = rows[~rows["question"].isin(questions)]
    count = rows["question"].nunique()
    if count < 2:
        return None, [*said, level.warn(f"{name} holds {_many(count, 'question')}; level left out")]
    return level._replace(rows=rows), said


def _copies(levels: list[_Level]) -> tuple[set[tuple[str, str, str]], list[Warned]]:
    """Levels whose answers are another's to the last: which to leave out, and what to say."""
    seen: dict[tuple[int, int], list[_Level]] = {}
    for level in levels:
        answers = level.rows.groupby("question")[["right", "skipped", "tokens"]].mean()
        marks = answers["right"] + 2 * answers["skipped"]
        varied = len(marks) - marks.value_counts().iloc[0]
        blind = answers["tokens"].fillna(0) if len(marks) < 2 * SAME else 0
        if len(marks) >= SAME and varied >= 3:
            hashes = pd.util.hash_pandas_object(marks.round(9) + 1e3 * blind, index=True)
            signature = len(marks), int(hashes.to_numpy(np.uint64).sum(dtype=np.uint64))
            seen.setdefault(signature, []).append(level)
    support: dict[tuple[str, int], int] = {}  # levels of a benchmark that ask exactly these questions
    asked = {level.key: hash(frozenset(level.rows["question"])) for level in levels}
    for level in levels:
        support[level.benchmark, asked[level.key]] = support.get((level.benchmark, asked[level.key]), 0) + 1
    out, said = set(), []
    for twins in seen.values():
        weight = [support[level.benchmark, asked[level.key]] for level in twins]
        elsewhere = len({level.benchmark for level in twins}) > 1
        for level, own in zip(twins, weight, strict=True):
            others = [f"{o.model} {o.benchmark} {o.level}".strip() for o in twins if o is not level]
            if not others:
                continue
            foreign = elsewhere and own < max(weight)
            innocent = elsewhere and own == max(weight) and weight.count(own) == 1
            out |= set() if innocent else {level.key}
            questions = _many(level.rows["question"].nunique(), "question")
            told = f"{level.level} has the same answers to all {questions} as {', '.join(others)}"
            why = (
                "kept, for the questions are this benchmark's"
                if innocent
                else "left out: its questions are the other benchmark's, so its file is, too"
                if foreign
                else "both left out, for either may be the copy"
            )
            said.append(level.warn(f"{told}; {why}"))
    return out, said


def _case(model: str, benchmark: str, parts: list[_Level], order: list[str]) -> tuple[Case | None, list[str]]:
    """Levels put in order, and what is wrong between them."""
    if len(parts) < 2:
        left = f"a single level is left ({parts[0].level})" if parts else "no level is left"
        return None, [f"{left}: nothing to compare"]
    levels, texts = _ordered(parts, order)
    if not levels:
        return None, texts
    by_name = {part.level: part.rows for part in parts}
    shown = [(level, by_name[level]) for level in levels]
    for look in (_scales, _absent, _settings, _tokens, _dates):
        texts += look(shown)
    rows = pd.concat([rows for _, rows in shown])
    return Case(model, benchmark, levels, rows.drop(columns=["order", "kind"])), texts


def _ordered(parts: list[_Level], order: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Levels from least thinking to most: as asked for, by the column, or by their names; and what is odd about it."""
    names = [part.level for part in parts]
    if set(names) <= set(order):
        return tuple(sorted(names, key=order.index)), []
    texts = []
    ranks = {part.level: part.rows["order"].dropna().unique() for part in parts}
    if all(len(values) == 1 for values in ranks.values()):
        values = {name: float(numbers[0]) for name, numbers in ranks.items()}
        if len(set(values.values())) == len(values):
            levels = sorted(names, key=values.__getitem__)
            low, last = values[levels[-2]], values[levels[-1]]
            if low > 0 and last >= PLACEHOLDER * low:
                texts.append(
                    f"order of {levels[-1]} is {last:g} after {low:g}: a placeholder, not a size; read as the last level"
                )
            return tuple(levels), texts + _efforts(levels)
        texts.append("two levels have the same order in the log's column; read from their names instead")
    elif any(len(values) > 1 for values in ranks.values()):
        texts.append("a level has several orders in the log's column; read from its name instead")
    guessed = {name: _rank(name) for name in names}
    stems = {stem for stem, _ in guessed.values() if stem != "off"}
    distinct = len({(stem, value) for stem, value in guessed.values()}) == len(names)
    if "?" in stems or len(stems) > 1 or not distinct:
        texts.append(
            f"the order of {', '.join(names)} cannot be guessed; give it, from least thinking to most "
            f"(order={','.join(names)})"
        )
        return (), texts
    levels = sorted(names, key=lambda name: guessed[name][1])
    return tuple(levels), texts + _efforts(levels)


def _rank(name: str) -> tuple[str, float]:
    """How a level is named (off, a word, a number behind a stem, on) and where it stands among its kind."""
    text = _plain(name)
    if name.startswith("-"):  # -1 often stands for a budget that the model chooses
        return "?", 0.0
    words = re.findall(r"[a-z]+", text)
    if any(word in _OFF for word in words) or "no_think" in text or text in ("0", "no"):
        return "off", -math.inf
    if effort := _effort(name):
        return "word", float(_WORDS[effort])
    if numbers := re.findall(r"(\d+(?:\.\d+)?)([km]?)(?![a-z])", text):
        if len(numbers) > 1:
            return "?", 0.0
        value = float(numbers[0][0]) * {"": 1, "k": 1e3, "m": 1e6}[numbers[0][1]]
        return "number " + re.sub(r"[\d._]+[km]?(?![a-z])", "", text), value
    return ("on", 0.0) if set(words) & _ON else ("?", 0.0)


def _effort(name: str) -> str | None:
    return next((word for word in re.findall(r"[a-z]+", _plain(name)) if word in _WORDS), None)


def _efforts(levels: Sequence[str]) -> list[str]:
    efforts = [_effort(level) for level in levels]
    return [
        f"{a} and {b} name one effort ({effort}): what differs is something else, such as a cap on tokens"
        for a, b, effort, other in zip(levels, levels[1:], efforts, efforts[1:], strict=False)
        if effort and effort == other
    ]


_Shown = list[tuple[str, pd.DataFrame]]


def _scales(shown: _Shown) -> list[str]:
    """Grades in letters at one level and numbers at another, or whole at one and means at another."""
    texts = []
    kinds = {level: " and ".join(sorted(rows["kind"].unique())) for level, rows in shown}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{level} has {kind}" for level, kind in kinds.items())
        texts.append(f"grades change scale: {told}; shares wrong and not attempted cannot be compared")
    whole = {level: bool((rows["right"] % 1 == 0).all()) for level, rows in shown if len(rows) >= 20}
    if len(set(whole.values())) > 1:
        told = ", ".join(f"{level} has {'0 and 1' if ones else 'means'}" for level, ones in whole.items())
        texts.append(f"grades change scale: {told}")
    return texts


def _absent(shown: _Shown) -> list[str]:
    """Questions, and repeats of a question, that a level lacks."""
    texts = []
    every = set().union(*(rows["question"] for _, rows in shown))
    for level, rows in shown:
        if lacking := sorted(every - set(rows["question"])):
            texts.append(
                f"{level} lacks {_many(len(lacking), 'question')} of {len(every)} {_such(lacking)}; "
                "compared are the questions that both levels have"
            )
        repeats = rows.groupby("question").size()
        if short := int((repeats.max() - repeats).sum()):
            fewer = _many(int((repeats < repeats.max()).sum()), "question")
            texts.append(
                f"{_many(short, 'answer')} missing at {level}: fewer than {repeats.max()} repeats of {fewer}"
            )
    return texts


def _settings(shown: _Shown) -> list[str]:
    """Columns that should not depend on the level, and do: the grader, a number of samples, a cap."""
    texts = []
    for name in shown[0][1].columns:
        plain = _plain(name.removeprefix("other:"))
        if not name.startswith("other:") or not _SETTING.search(plain):
            continue
        values = [rows[name].dropna().unique() for _, rows in shown]
        if all(len(value) == 1 for value in values) and len({value[0] for value in values}) > 1:
            told = ", ".join(f"{level} {value[0]}" for (level, _), value in zip(shown, values, strict=True))
            texts.append(f"{plain} changes with the level: {told}; a difference may be its doing")
        elif plain in ("score", "points"):
            scores = pd.concat([rows[name] for _, rows in shown])
            if pd.api.types.is_numeric_dtype(scores) and ((scores % 1) != 0).any():
                texts.append(
                    f"column {plain} holds parts of a point: somebody judged these answers, "
                    "and what counts as right was cut off from it"
                )
        if any(_JUDGE.search(_plain(value)) for part in values for value in part[:5]):
            texts.append(f"{plain} says that a model judged the answers, which may prefer longer ones")
    return texts


def _tokens(shown: _Shown) -> list[str]:
    """Tokens that do not grow with the level, or that cannot be those of thinking."""
    texts, means = [], [(level, rows["tokens"].mean()) for level, rows in shown]
    for (low, few), (high, many) in itertools.pairwise(means):
        if many <= 1.05 * few:
            texts.append(
                f"tokens do not grow from {low} ({few:.3g} a question) to {high} ({many:.3g}): "
                "the levels' order, or what was counted, is in doubt"
            )
    if means[-1][1] < 30:
        texts.append(
            f"{means[-1][1]:.2g} tokens a question at {means[-1][0]} cannot hold any thinking: "
            "they count the answer alone"
        )
    return texts


def _dates(shown: _Shown) -> list[str]:
    """Older questions that are right far more often may have been in a model's training."""
    rows, texts = shown[0][1], []
    for name in rows.columns:
        plain = _plain(name.removeprefix("other:"))
        if not name.startswith("other:") or not _DATE.search(plain) or rows[name].nunique() < 10:
            continue
        raw = rows[name]
        unit = "ms" if pd.api.types.is_numeric_dtype(raw) and raw.max() > 1e11 else None
        dates = pd.to_datetime(raw, unit=unit, errors="coerce")
        middle = dates.median()
        old, new = rows["right"][dates < middle], rows["right"][dates >= middle]
        spread = math.sqrt(old.var() / len(old) + new.var() / len(new)) if min(len(old), len(new)) > 1 else 0
        if spread and abs(old.mean() - new.mean()) > 3 * spread:
            texts.append(
                f"{plain}: questions before {middle:%Y-%m} are right in {old.mean():.0%} of answers at {shown[0][0]}, later "
                f"ones in {new.mean():.0%}; the {'older' if old.mean() > new.mean() else 'newer'} may be easier, or known "
                "from training"
            )
    return texts


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _such(names: Sequence[str] | np.ndarray) -> str:
    return f"(such as {', '.join(map(str, list(names)[:3]))})"
