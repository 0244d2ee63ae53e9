"""Reproduced or not: every chapter run again, and every number and verdict compared with the committed ones."""

import json
import math
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
    are not those of the record.
    """
    record = json.loads(seeds.record_of(settings.profile).read_text(encoding="utf-8"))
    problems = [text for source in versions.chapters() for text in committed(source)]
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


def committed(source: Any) -> Iterator[str]:
    """What is wrong with a chapter's committed notebook, with the claims whose numbers are not the recorded ones."""
    path = source.with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4)
    if notebook.metadata.get("tsl", {}).get("outputs_version") != chapters.outputs_version(notebook):
        yield f"{path.name}: outputs were edited by hand"
    try:
        chapters.check_complete(notebook)
    except RuntimeError as problem:
        yield f"{path.name}: {problem}"
    stored = json.loads(seeds.record_of("laptop").read_text(encoding="utf-8"))["claims"]
    for row in compared(stored, claims.collect([notebook]), 0):
        if not row.reproduced:
            yield f"{path.name}: claim {row.claim} shows other numbers than the record ({row.label})"


def compared(stored: dict[str, Any], found: dict[str, Any], seed: int) -> Iterator[Row]:
    """A row for each claim that was measured."""
    ledger = claims.load()
    for name in found:
        then, now = stored.get(name), found[name]
        if then is None or seed >= len(then["verdicts"]):
            yield Row(name, seed, "not recorded", now["verdict"])
            continue
        worst, label = 0.0, ""
        values = {check["label"]: check["measured"][seed] for check in then["checks"]}
        for check in now["checks"]:
            gap = distance(values.get(check["label"], math.nan), check["measured"])
            if not gap <= worst:
                worst, label = gap, check["label"]
        tolerance = max(TOLERANCE[kind] for kind in ledger[name].evidence)
        yield Row(name, seed, then["verdicts"][seed], now["verdict"], label, worst, tolerance)


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
