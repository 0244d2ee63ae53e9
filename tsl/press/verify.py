"""Reproduced or not: every chapter run again, and every number and verdict compared with the committed ones."""

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import eq as equal
from typing import Any

import nbformat

from tsl import claims, texts, versions
from tsl.press import chapters, seeds

# Largest relative difference that another machine, Python or number of threads may make, four digits being stored, by
# what the numbers come from: see the table in book/reproduce.md. Numbers below ZERO are rounding errors of 0.
TOLERANCE = {"trained model": 0.02, "simulation": 0.01, "real data": 2e-3, "formula only": 2e-3}
ZERO = 1e-7
VERDICT = "verdict"


@dataclass(frozen=True)
class Row:
    """One claim on one seed: how far its numbers are from the stored ones, and both verdicts."""

    claim: str
    seed: int
    stored: str
    here: str
    label: str = ""
    difference: float = 0.0
    tolerance: float = 0.0

    @property
    def reproduced(self) -> bool:
        """Whether the verdict is the stored one and no number is further off than the tolerance."""
        return self.stored == self.here and self.difference <= self.tolerance


def recorded(profile: str, these: list[int]) -> dict[str, Any]:
    """The record to compare with; ValueError if it is none, was edited, or lacks one of the seeds."""
    record = seeds.read_record(profile)
    count = min((len(claim["verdicts"]) for claim in record["claims"].values()), default=0)
    if unknown := [str(seed) for seed in these if seed >= count]:
        raise ValueError(f"seeds must be below {count}, as many are recorded, got {', '.join(unknown)}")
    return record


def again(
    settings: chapters.Settings, record: dict[str, Any], pages: dict[str, Any], these: list[int]
) -> tuple[list[Row], list[str]]:
    """Run all chapters with some seeds and compare; returns a row a claim and seed, and what else is wrong.

    What is committed is compared with ``pages``, what is `recorded` of the laptop runs, first: outputs edited by hand, figures
    that are gone, numbers on a page that are not those of the record.
    """
    problems = [text for source in versions.chapters() for text in committed(source, pages["claims"])]
    rows = []
    for seed in these:
        each = replace(settings, seed=seed)
        outcomes = chapters.execute(versions.chapters(), each, force=True)
        problems += [f"{name} failed with seed {seed}" for name in chapters.report(outcomes)]
        executed = (chapters.read_executed(source, each) for source in versions.chapters())
        found = claims.collect(notebook for notebook in executed if notebook)
        problems += [
            f"claim {name} was not measured with seed {seed}"
            for name in record["claims"]
            if name not in found
        ]
        rows += list(compared(record["claims"], found, seed))
    return rows, problems


def committed(source: Any, stored: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a chapter's committed notebook, with the claims concerned; ``stored`` are those of the record."""
    path = source.with_suffix(".ipynb")
    try:
        notebook = nbformat.read(path, as_version=4)
        found = claims.collect([notebook])
        whole, then = (
            chapters.outputs_version(notebook).split(),
            notebook.metadata.tsl.outputs_version.split(),
        )
    except Exception as problem:
        yield f"{path.name} cannot be read: {type(problem).__name__}: {problem}"
        return
    if len(whole) != len(then):
        yield f"{path.name}: code cells were added or removed by hand"
    else:
        for number in [number for number in range(len(whole)) if whole[number] != then[number]]:
            yield f"{path.name}: outputs of {_place(notebook, number)} were edited by hand"
    for number, fault in chapters.faults(notebook):
        yield f"{path.name}: {_place(notebook, number)} {fault}"
    for claim in claims.load().values():
        if claim.chapter == source.stem and claim.id not in found:
            yield f"{path.name}: claim {claim.id} is gone"
    for row in compared(stored, found, 0, exact=True):
        if not row.reproduced:
            what = (
                f"shows another {row.label}" if row.label == VERDICT else f"shows other numbers ({row.label})"
            )
            yield f"{path.name}: claim {row.claim} {what} than the record"


def _place(notebook: Any, number: int) -> str:
    """A code cell, counted from 0, and the claim under whose heading it stands."""
    claim, seen = "before the first claim", -1
    for cell in notebook.cells:
        seen += cell.cell_type == "code"
        if seen == number:
            break
        for label in re.findall(r"^\(claim-(\w+)\)=", cell.source, re.M) if cell.cell_type != "code" else ():
            claim = f"claim {label.upper()}"
    return f"code cell {number + 1} ({claim})"


def compared(stored: dict[str, Any], found: dict[str, Any], seed: int, exact: bool = False) -> Iterator[Row]:
    """A row for each claim that was measured; ``exact`` for a page against the record of the same run, to the last digit."""
    ledger = claims.load()
    for name in found:
        then, now = stored.get(name), found[name]
        if then is None or seed >= len(then["verdicts"]):
            yield Row(name, seed, "not recorded", now["verdict"], VERDICT)
            continue
        past = {check["label"]: check for check in then["checks"]}
        present = {check["label"]: check for check in now["checks"]}
        gaps = {label: _gap(past.get(label), present.get(label), seed, exact) for label in past | present}
        tolerance = 0.0 if exact else max(TOLERANCE[kind] for kind in ledger[name].evidence)
        label = max(gaps, key=lambda label: gaps[label])
        worst = gaps[label]
        if worst <= tolerance and then["verdicts"][seed] != now["verdict"]:
            label = VERDICT
        yield Row(name, seed, then["verdicts"][seed], now["verdict"], label, worst, tolerance)


def _gap(then: dict[str, Any] | None, now: dict[str, Any] | None, seed: int, exact: bool) -> float:
    """How far what was measured is from what is stored; infinite if all else of the check is not the same."""
    if then is None or now is None or then["role"] != now["role"] or then["passed"][seed] != now["passed"]:
        return math.inf
    texts_of = ("predicted", "passes_if", "interval") if exact else ("predicted", "passes_if")
    if not all((equal if exact else _alike)(then[name][seed], now[name]) for name in texts_of):
        return math.inf
    gap = distance(then["measured"][seed], now["measured"])
    return math.inf if exact and gap else gap


def _alike(then: str, here: str) -> bool:
    """Whether two texts say the same, and numbers in them that have two or three digits differ by no more than these."""
    pairs = zip(_NUMBER.findall(then), _NUMBER.findall(here), strict=False)
    return _NUMBER.sub("#", then) == _NUMBER.sub("#", here) and all(
        distance(_number(a), _number(b)) < 0.1 for a, b in pairs
    )


_NUMBER = re.compile(r"−?(?:\d[\d,]*(?:\.\d+)?(?:·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?|∞)")


def _number(text: str) -> float:
    """A number as `texts.number` writes it."""
    plain = unicodedata.normalize("NFKC", text.replace(",", "").replace("·10", "e").replace("∞", "inf"))
    return float(plain.replace("−", "-"))


def distance(stored: float | str, here: float | str) -> float:
    """Relative difference of two measured numbers; 0 for two rounding errors, infinite if only one is a number."""
    a, b = float(stored), float(here)
    if a == b or (abs(a) < ZERO and abs(b) < ZERO):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))


def lines(rows: list[Row]) -> str:
    """The comparison in plain text, a line a claim and seed."""
    found = [f"{'claim':6} {'seed':>4}  {'largest difference':<20} {'verdict stored -> here'}"]
    for row in rows:
        mark = "" if row.reproduced else f"   NOT REPRODUCED: {row.label}"
        same = row.stored if row.stored == row.here else f"{row.stored} -> {row.here}"
        gap = f"{texts.number(row.difference)} (≤ {texts.number(row.tolerance)})"
        found.append(f"{row.claim:6} {row.seed:>4}  {gap:<20} {same}{mark}")
    return "\n".join(found)
