"""The ledger: what each claim says, what was measured, and the verdict that follows from the two.

A chapter calls `record` with checks. A *claim* check asks whether what is claimed was measured, a *caveat* check whether
the limit of the claim was. Nobody types a verdict: it follows from the checks, and must equal the one that
``book/claims.yml`` expects.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from tsl import _validate, paths
from tsl.runs import Run
from tsl.texts import number

MIME = "application/vnd.tsl.claim+json"


class Verdict(StrEnum):
    """Outcome of a claim."""

    HOLDS = "holds"
    CAVEAT = "holds with caveat"
    FAILS = "fails"
    EXTENSION = "our extension"
    ANALOGUE = "analogue"
    PENDING = "not yet reproduced"

    @property
    def css(self) -> str:
        """Class of the verdict's badge."""
        return f"tsl-badge tsl-badge-{self.name.lower()}"


@dataclass(frozen=True)
class Claim:
    """A row of the ledger.

    Parameters
    ----------
    id : str
        C1, ..., C12 (the paper), S1, ..., S7 (the article on it), X1, ..., X15 (our extensions).
    title, source, statement : str
        A few words; where the claim is made; the claim in our words, MyST markdown.
    chapter, expected, rests_on : str, Verdict, tuple of str
        Chapter that measures it, verdict that its evidence supports, functions of ``tsl`` that this verdict rests on.
    """

    id: str
    title: str
    source: str
    statement: str
    chapter: str
    expected: Verdict
    rests_on: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Cross-reference label of the section that measures the claim."""
        return f"claim-{self.id.lower()}"


@dataclass(frozen=True)
class Check:
    """One comparison of a measured number, which does not pass if it is NaN, with a predicted one.

    Make one with `close`, `below`, `above` or `inside`.
    """

    label: str
    measured: float
    predicted: str
    passed: bool
    role: str = "claim"


@dataclass(frozen=True)
class Measurement:
    """What a chapter measured for a claim, and the verdict that follows."""

    claim: Claim
    checks: tuple[Check, ...]
    profile: str

    @property
    def verdict(self) -> Verdict:
        """Verdict by rule. A failed claim check fails the claim; a caveat that was observed qualifies it."""
        if not all(check.passed for check in self.checks if check.role == "claim"):
            return Verdict.FAILS
        if self.claim.id == "C12":
            return Verdict.ANALOGUE
        if self.claim.id.startswith("X"):
            return Verdict.EXTENSION
        if any(check.passed for check in self.checks if check.role == "caveat"):
            return Verdict.CAVEAT
        return Verdict.HOLDS

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one the ledger expects, every number was measured, and every caveat named was seen."""
        return (
            self.verdict == self.claim.expected
            and not any(math.isnan(check.measured) for check in self.checks)
            and all(check.passed for check in self.checks if check.role == "caveat")
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain record, as stored in the notebook."""
        return {
            "id": self.claim.id,
            "verdict": str(self.verdict),
            "expected": str(self.claim.expected),
            "as_expected": self.as_expected,
            "profile": self.profile,
            "checks": [_storable(check) for check in self.checks],
        }

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: self.to_dict(), "text/html": box(self.claim, self.to_dict()), "text/plain": str(self)}

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.verdict}"


def load(path: Path = paths.CLAIMS) -> dict[str, Claim]:
    """Read and validate the ledger, a YAML list of claims with the fields of `Claim`, and return it by id, in its order."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} must be YAML, got {error}") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path.name} must hold a list of claims, got {type(rows).__name__}")
    required = {"id", "title", "source", "statement", "chapter", "expected"}
    ledger: dict[str, Claim] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{path.name} must hold claims with fields, got {row!r}")
        name = row.get("id")
        if not isinstance(name, str) or not re.fullmatch(r"[CSX][1-9]\d?", name):
            raise ValueError(f"id must be C, S or X and a number in {path.name}, got {name!r}")
        if name in ledger:
            raise ValueError(f"id must be unique in {path.name}, got {name!r} twice")
        missing, unknown = required - set(row), set(row) - required - {"rests_on"}
        if missing or unknown:
            raise ValueError(
                f"claim {name} has missing fields {sorted(missing)} and unknown fields {sorted(unknown)}"
            )
        for key in sorted(required):
            if not isinstance(row[key], str) or not row[key].strip():
                raise ValueError(f"claim {name}: {key} must be a non-empty text, got {row[key]!r}")
        if row["expected"] not in set(Verdict):
            raise ValueError(
                f"claim {name}: expected must be one of {', '.join(Verdict)}, got {row['expected']!r}"
            )
        rests_on = row.get("rests_on", [])
        if not isinstance(rests_on, list) or not all(_names_function(entry) for entry in rests_on):
            raise ValueError(
                f"claim {name}: rests_on must be a list of functions of tsl (module.function), got {rests_on!r}"
            )
        values = {key: row[key].strip() for key in required - {"expected"}}
        ledger[name] = Claim(**values, expected=Verdict(row["expected"]), rests_on=tuple(rests_on))
    return ledger


def record(run: Run, claim: str, *checks: Check, caveats: Sequence[Check] = ()) -> Measurement:
    """Store what a chapter measured for a claim; as the last expression of a cell it shows the verdict box.

    Parameters
    ----------
    run, claim
        The chapter's run, and the id of one of its claims in the ledger that was not recorded yet.
    *checks : Check
        What the claim says; all must pass for it to hold.
    caveats : sequence of Check
        Limits of the claim that the chapter demonstrates.
    """
    _validate.instance("run", run, Run)
    for name, given in (("checks", checks), ("caveats", caveats)):
        if not all(isinstance(check, Check) for check in given):
            raise ValueError(
                f"{name} of claim {claim} must be made by close, below, above or inside, got {given!r}"
            )
    ledger = load()
    if claim not in ledger:
        raise ValueError(f"claim must be an id of the ledger ({', '.join(ledger)}), got {claim!r}")
    if ledger[claim].chapter != run.chapter:
        raise ValueError(
            f"claim {claim} belongs to chapter {ledger[claim].chapter}, got a record from {run.chapter}"
        )
    if not checks:
        raise ValueError(f"checks of claim {claim} must hold at least one, got none")
    if any(measurement.claim.id == claim for measurement in run.measurements):
        raise ValueError(f"claim {claim} must be recorded once, got a second record")
    marked = tuple(replace(check, role="caveat") for check in caveats)
    measurement = Measurement(ledger[claim], (*checks, *marked), run.profile)
    run.measurements.append(measurement)
    return measurement


def summary(run: Run) -> None:
    """Print a line for each claim recorded in this run: the same text in every profile when all is well."""
    _validate.instance("run", run, Run)
    for measurement in run.measurements:
        print(f"{measurement} ({'as expected' if measurement.as_expected else 'NOT as expected'})")


def close(label: str, measured: float, predicted: float, *, rel: float = 0.0, abs: float = 0.0) -> Check:
    """Check that a measured number is within `rel` (relative) or `abs` (absolute) of the predicted one.

    The larger tolerance counts. The label tells the reader what was measured.
    """
    measured, predicted = _real("measured", measured), _real("predicted", predicted, nan=False)
    tolerance = max(rel * math.fabs(predicted), abs)
    if not (rel >= 0 and abs >= 0 and tolerance > 0):
        raise ValueError(
            f"rel and abs must not be negative, and one of them positive, got rel={rel!r} and abs={abs!r}"
        )
    return _check(
        label,
        measured,
        f"{number(predicted)} ± {number(tolerance)}",
        math.fabs(measured - predicted) <= tolerance,
    )


def below(label: str, measured: float, bound: float) -> Check:
    """Check that a measured number is at most `bound`."""
    measured, bound = _real("measured", measured), _real("bound", bound, nan=False)
    return _check(label, measured, f"≤ {number(bound)}", measured <= bound)


def above(label: str, measured: float, bound: float) -> Check:
    """Check that a measured number is at least `bound`."""
    measured, bound = _real("measured", measured), _real("bound", bound, nan=False)
    return _check(label, measured, f"≥ {number(bound)}", measured >= bound)


def inside(label: str, measured: float, low: float, high: float) -> Check:
    """Check that a measured number lies between `low` and `high`."""
    measured = _real("measured", measured)
    low, high = _real("low", low, nan=False), _real("high", high, nan=False)
    if low > high:
        raise ValueError(f"low must be at most high, got low={low!r} and high={high!r}")
    return _check(label, measured, f"{number(low)} … {number(high)}", low <= measured <= high)


def _check(label: str, measured: float, predicted: str, passed: bool) -> Check:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label must be a non-empty text, got {label!r}")
    # Rounded, so that the record does not change with the last bits of a sum.
    value = float(f"{measured:.4g}") if math.isfinite(measured) else measured
    return Check(label, value, predicted, bool(passed))


def _real(name: str, value: Any, nan: bool = True) -> float:
    """Return `value` as a float: a number, or a tensor or array of one."""
    try:
        real = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if isinstance(value, str) or (math.isnan(real) and not nan):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return real


def _storable(check: Check) -> dict[str, Any]:
    """Fields of a check as JSON can hold them: it knows no infinity, so such numbers are stored as text."""
    value = check.measured
    return vars(check) | {"measured": value if math.isfinite(value) else str(value)}


def _names_function(entry: Any) -> bool:
    """Whether `entry` reads ``module.function`` with a module that the package has."""
    match = re.fullmatch(r"((?:\w+\.)+)\w+", entry) if isinstance(entry, str) else None
    return match is not None and (paths.PACKAGE / f"{match[1][:-1].replace('.', '/')}.py").is_file()


def box(claim: Claim, measurement: dict[str, Any]) -> str:
    """HTML of a verdict box, from a row of the ledger and a `Measurement.to_dict`."""
    verdict = Verdict(measurement["verdict"])
    rows = "".join(_row(check) for check in measurement["checks"])
    wrong = (
        "" if measurement["as_expected"] else f'<p class="tsl-claim-wrong">Expected: {claim.expected}.</p>'
    )
    return (
        f'<div class="tsl-claim tsl-claim-{verdict.name.lower()}">'
        f'<p class="tsl-claim-head"><strong>{claim.id}</strong> {html.escape(claim.title)} '
        f'<span class="{verdict.css}">{verdict}</span></p>{wrong}'
        '<div class="tsl-claim-scroll"><table class="tsl-claim-table"><thead><tr><th>Check</th><th>Measured</th>'
        f"<th>Predicted</th><th></th></tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _row(check: dict[str, Any]) -> str:
    mark = "✓" if check["passed"] else "✗"
    kind = "caveat: " if check["role"] == "caveat" else ""
    cells = [kind + check["label"], number(check["measured"]), check["predicted"], mark]
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def collect(notebooks: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every `Measurement.to_dict` in the outputs of executed notebooks, by the id of its claim, measured once."""
    found: dict[str, dict[str, Any]] = {}
    for notebook in notebooks:
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                measurement = output.get("data", {}).get(MIME)
                if measurement is None:
                    continue
                if measurement["id"] in found:
                    raise ValueError(f"claim {measurement['id']} must be measured once, got two measurements")
                found[measurement["id"]] = measurement
    return found
