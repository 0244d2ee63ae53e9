"""Reproduced or not: every chapter run again, and every number and verdict compared with the committed ones."""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import nbformat

from tsl import claims, texts, versions
from tsl.press import chapters, seeds

# Largest relative difference that another machine, Python or number of threads may make, four digits being stored, by
# what the numbers come from: see the table in book/reproduce.md. Numbers below ZERO are rounding errors of 0.
TOLERANCE = {"trained model": 0.02, "simulation": 0.01, "real data": 2e-3, "formula only": 2e-3}
ZERO = 1e-7


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


def again(settings: chapters.Settings, these: list[int]) -> tuple[list[Row], list[str]]:
    """Run all chapters with some seeds and compare; returns a row a claim and seed, and what else is wrong.

    What is committed is compared with itself first: outputs edited by hand, figures that are gone, numbers on a page that
    are not those of the record. ValueError, before anything runs, for a record that is none or lacks one of the seeds.
    """
    record, laptop = seeds.read(settings.profile), seeds.read("laptop")
    count = min(len(claim["verdicts"]) for claim in record["claims"].values())
    if unknown := [seed for seed in these if seed >= count]:
        raise ValueError(
            f"seeds must be below {count}, as many are recorded, got {', '.join(map(str, unknown))}"
        )
    problems = [text for source in versions.chapters() for text in committed(source, laptop["claims"])]
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
    except Exception as problem:
        yield f"{path.name} cannot be read: {type(problem).__name__}: {problem}"
        return
    whole = chapters.outputs_version(notebook).split()
    signed = notebook.metadata.get("tsl", {}).get("outputs_version", "").split()
    for number, (here, then) in enumerate(itertools.zip_longest(whole, signed)):
        if here != then:
            yield f"{path.name}: outputs of {_place(notebook, number)} were edited by hand"
    for number, fault in chapters.faults(notebook):
        yield f"{path.name}: {_place(notebook, number)} {fault}"
    for row in compared(stored, found, 0, exact=True):
        if not row.reproduced:
            yield f"{path.name}: claim {row.claim} shows other numbers than the record ({row.label})"


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
    """A row for each claim that was measured; ``exact`` for two files that hold the same run, where all must agree."""
    ledger = claims.load()
    for name in found:
        then, now = stored.get(name), found[name]
        if then is None or seed >= len(then["verdicts"]):
            yield Row(name, seed, "not recorded", now["verdict"])
            continue
        past = {check["label"]: check for check in then["checks"]}
        present = {check["label"]: check for check in now["checks"]}
        gaps = {label: _gap(past.get(label), present.get(label), seed, exact) for label in past | present}
        label = max(gaps, key=lambda label: gaps[label])
        tolerance = 0.0 if exact else max(TOLERANCE[kind] for kind in ledger[name].evidence)
        yield Row(name, seed, then["verdicts"][seed], now["verdict"], label, gaps[label], tolerance)


def _gap(then: dict[str, Any] | None, now: dict[str, Any] | None, seed: int, exact: bool) -> float:
    """How far a check is from the stored one: measured and predicted number; infinite if it is another check."""
    if then is None or now is None or then["role"] != now["role"]:
        return math.inf
    if exact:
        same = all(then[name][seed] == now[name] for name in ("measured", "predicted", "interval", "passed"))
        return 0.0 if same and now["passes_if"] in then["passes_if"].split(" / ") else math.inf
    predicted = then["predicted"][seed], now["predicted"]
    told = 0.0 if predicted[0] == predicted[1] else distance(*map(_number, predicted))
    return max(distance(then["measured"][seed], now["measured"]), told)


def _number(text: str) -> float:
    """A number as `texts.number` writes it; NaN for other texts."""
    plain = unicodedata.normalize("NFKC", text.replace(",", "").replace("·10", "e").replace("∞", "inf"))
    try:
        return float(plain.replace("−", "-"))
    except ValueError:
        return math.nan


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
        mark = "" if row.reproduced else f"   NOT REPRODUCED: {row.label or 'verdict'}"
        same = row.stored if row.stored == row.here else f"{row.stored} -> {row.here}"
        gap = f"{texts.number(row.difference)} (≤ {texts.number(row.tolerance)})"
        found.append(f"{row.claim:6} {row.seed:>4}  {gap:<20} {same}{mark}")
    return "\n".join(found)
