"""The ledger: what each claim says, what was measured, and the verdict that follows from the two.

A chapter calls `record` with checks. Its author chooses the checks, their bounds, and which of them are limits of the claim;
the verdict follows from them by the rule of `Measurement.verdict`, and must equal the one that ``book/claims.yml`` expects.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

from tsl import _validate, paths
from tsl.runs import Run
from tsl.texts import number, percent

MIME = "application/vnd.tsl.claim+json"
ORIGINS = {
    "paper": "The paper",
    "article": "The article about it",
    "reviewers": "Its reviewers",
    "ours": "Ours",
}
EVIDENCE = ("simulation", "trained model", "real data", "formula only")


class Verdict(StrEnum):
    """Outcome of a claim."""

    HOLDS = "holds"
    ONLY_IF = "holds only if"
    MECHANISM = "effect, but not the mechanism"
    FAILS = "fails"
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
    id, title : str
        C1, ..., C12 (the paper), S1, ..., S7 (the article on it), X1, ..., X15 (asked by reviewers or by us); a few words.
    origin, source, statement : str
        Who makes the claim, a key of `ORIGINS`; where, and the claim in our words, both MyST markdown.
    evidence : tuple of str
        What the chapter's numbers come from, out of `EVIDENCE`.
    chapter, expected : str, Verdict
        Chapter that measures it, verdict that its evidence supports.
    bounds : str
        Why the bounds of the checks are what they are, MyST markdown.
    condition : str
        What completes "holds only if", for that verdict alone.
    breaks : str
        Where the claim stops being true, in a sentence of MyST markdown.
    stands_in_for : str
        The experiment that cannot be run here, where the book's is an analogue of it.
    """

    id: str
    title: str
    origin: str
    source: str
    evidence: tuple[str, ...]
    statement: str
    chapter: str
    expected: Verdict
    bounds: str
    condition: str = ""
    breaks: str = ""
    stands_in_for: str = ""

    @property
    def label(self) -> str:
        """Cross-reference label of the section that measures the claim."""
        return f"claim-{self.id.lower()}"


@dataclass(frozen=True)
class Check:
    """One measured number, which does not pass if it is NaN, and what it must be.

    Make one with `close`, `below`, `above`, `inside` or `share`.

    Parameters
    ----------
    label, measured : str, float
        What was measured, for a reader, and what came out.
    predicted : str
        What theory, computed on its own, says it is; empty where there is only a bound.
    passes_if : str
        The bound in words.
    passed : bool
        Whether it was met.
    interval : str
        Uncertainty of the measured number, for a reader.
    role : {"claim", "mechanism", "break"}
        What passing means: the claim was seen, its cause was, or a place where it stops.
    """

    label: str
    measured: float
    predicted: str
    passes_if: str
    passed: bool
    interval: str = ""
    role: str = "claim"


@dataclass(frozen=True)
class Measurement:
    """What a chapter measured for a claim, and the verdict that follows."""

    claim: Claim
    checks: tuple[Check, ...]
    profile: str

    def passed(self, role: str) -> list[bool]:
        """Which of the checks of a role passed."""
        return [check.passed for check in self.checks if check.role == role]

    @property
    def verdict(self) -> Verdict:
        """Verdict by rule, the first that applies.

        A check of the claim did not pass: fails. The experiment stands in for another: analogue. The claimed cause was
        not the cause: effect, but not the mechanism. The claim was seen to stop somewhere: holds only if.
        """
        if not all(self.passed("claim")):
            return Verdict.FAILS
        if self.claim.stands_in_for:
            return Verdict.ANALOGUE
        if not all(self.passed("mechanism")):
            return Verdict.MECHANISM
        return Verdict.ONLY_IF if any(self.passed("break")) else Verdict.HOLDS

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one for the expected reasons, so that no single check can turn unseen.

        All numbers were measured and all places where it breaks seen. All checks of the claim passed or, where it is
        expected to fail, none did; likewise for the cause.
        """
        expected = self.claim.expected
        return (
            self.verdict == expected
            and not any(math.isnan(check.measured) for check in self.checks)
            and all(self.passed("break"))
            and (expected != Verdict.FAILS or not any(self.passed("claim")))
            and all(passed == (expected != Verdict.MECHANISM) for passed in self.passed("mechanism"))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain record, as stored in the notebook."""
        return {
            "id": self.claim.id,
            "verdict": str(self.verdict),
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
    ledger: dict[str, Claim] = {}
    for row in rows:
        claim = _claim(path.name, row)
        if claim.id in ledger:
            raise ValueError(f"id must be unique in {path.name}, got {claim.id!r} twice")
        ledger[claim.id] = claim
    return ledger


def _claim(file: str, row: Any) -> Claim:
    """One row of the ledger, checked."""
    if not isinstance(row, dict):
        raise ValueError(f"{file} must hold claims with fields, got {row!r}")
    name = row.get("id")
    if not isinstance(name, str) or not re.fullmatch(r"[CSX][1-9]\d?", name):
        raise ValueError(f"id must be C, S or X and a number in {file}, got {name!r}")
    known = {field.name: field.default is MISSING for field in fields(Claim)}
    missing, unknown = {key for key, due in known.items() if due} - set(row), set(row) - set(known)
    if missing or unknown:
        raise ValueError(
            f"claim {name} has missing fields {sorted(missing)} and unknown fields {sorted(map(str, unknown))}"
        )
    texts = {key: value for key, value in row.items() if key != "evidence"}
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"claim {name}: {key} must be a non-empty text, got {text!r}")
    evidence = row["evidence"]
    if not isinstance(evidence, list) or not evidence or not all(entry in EVIDENCE for entry in evidence):
        raise ValueError(
            f"claim {name}: evidence must be a list out of {', '.join(EVIDENCE)}, got {evidence!r}"
        )
    for key, allowed in (("expected", list(Verdict)), ("origin", list(ORIGINS))):
        if row[key] not in allowed:
            raise ValueError(f"claim {name}: {key} must be one of {', '.join(allowed)}, got {row[key]!r}")
    needs = {
        "condition": (row["expected"] == Verdict.ONLY_IF, Verdict.ONLY_IF),
        "stands_in_for": (row["expected"] == Verdict.ANALOGUE, Verdict.ANALOGUE),
    }
    for key, (due, verdict) in needs.items():
        if (key in row) != due:
            raise ValueError(f"claim {name}: {key} must be given exactly where {verdict!s} is expected")
    values = {key: text.strip() for key, text in texts.items() if key != "expected"}
    return Claim(**values, expected=Verdict(row["expected"]), evidence=tuple(evidence))


def record(
    run: Run, claim: str, *checks: Check, breaks: Sequence[Check] = (), mechanism: Sequence[Check] = ()
) -> Measurement:
    """Store what a chapter measured for a claim; as the last expression of a cell it shows the verdict box.

    Parameters
    ----------
    run, claim
        The chapter's run, and the id of one of its claims in the ledger that was not recorded yet.
    *checks : Check
        What the claim says; all must pass for it to hold.
    breaks : sequence of Check
        Where the claim stops being true; each must be seen.
    mechanism : sequence of Check
        What must be so if the claimed cause is the cause, such as a control without it that shows no effect.
    """
    _validate.instance("run", run, Run)
    given = {"claim": checks, "break": breaks, "mechanism": mechanism}
    for role, some in given.items():
        if not all(isinstance(check, Check) for check in some):
            raise ValueError(
                f"{role} checks of claim {claim} must be made by close, below, above, inside or share, got {some!r}"
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
    marked = tuple(replace(check, role=role) for role, some in given.items() for check in some)
    if len({check.label for check in marked}) < len(marked):
        raise ValueError(
            f"checks of claim {claim} must have labels of their own, got {[c.label for c in marked]}"
        )
    measurement = Measurement(ledger[claim], marked, run.profile)
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
    near = math.fabs(measured - predicted) <= tolerance
    return _check(label, measured, predicted, f"within {number(tolerance)}", near)


def below(label: str, measured: float, bound: float, predicted: float | None = None) -> Check:
    """Check that a measured number is at most `bound`; `predicted`, computed on its own, stands beside it."""
    measured, bound = _real("measured", measured), _real("bound", bound, nan=False)
    return _check(label, measured, predicted, f"≤ {number(bound)}", measured <= bound)


def above(label: str, measured: float, bound: float, predicted: float | None = None) -> Check:
    """Check that a measured number is at least `bound`; `predicted`, computed on its own, stands beside it."""
    measured, bound = _real("measured", measured), _real("bound", bound, nan=False)
    return _check(label, measured, predicted, f"≥ {number(bound)}", measured >= bound)


def inside(label: str, measured: float, low: float, high: float, predicted: float | None = None) -> Check:
    """Check that a measured number lies between `low` and `high`; `predicted` stands beside it."""
    measured = _real("measured", measured)
    low, high = _real("low", low, nan=False), _real("high", high, nan=False)
    if low > high:
        raise ValueError(f"low must be at most high, got low={low!r} and high={high!r}")
    return _check(label, measured, predicted, f"{number(low)} … {number(high)}", low <= measured <= high)


def share(
    label: str,
    count: int,
    trials: int,
    *,
    above: float | None = None,
    below: float | None = None,
    predicted: float | None = None,
) -> Check:
    """Check that a share, `count` of `trials`, is more than `above`, or less than `below`, beyond the luck of the draw.

    It passes if the whole 95 % interval (exact binomial, Clopper and Pearson) lies there.
    """
    trials = _validate.positive_int("trials", _whole(trials))
    count = _validate.at_least("count", _whole(count), 0)
    if count > trials or (above is None) == (below is None):
        raise ValueError(
            f"count must be at most trials, and one of above and below be given, got {count} of {trials}, "
            f"above={above!r} and below={below!r}"
        )
    low, high = stats.binomtest(count, trials).proportion_ci(0.95, "exact")
    if above is not None:
        above = _real("above", above, nan=False)
        bound, passed = f"more than {percent(above)}", low > above
    else:
        below = _real("below", below, nan=False)
        bound, passed = f"less than {percent(below)}", high < below
    interval = f"{count} of {trials}, {percent(low)} to {percent(high)}"
    return _check(label, count / trials, predicted, f"interval {bound}", passed, interval)


def _check(
    label: str, measured: float, predicted: float | None, passes_if: str, passed: bool, interval: str = ""
) -> Check:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label must be a non-empty text, got {label!r}")
    # Rounded, so that the record does not change with the last bits of a sum.
    value = float(f"{measured:.4g}") if math.isfinite(measured) else measured
    foretold = "" if predicted is None else number(_real("predicted", predicted, nan=False))
    return Check(label, value, foretold, passes_if, bool(passed), interval)


def _whole(value: Any) -> Any:
    """A count as an integer, where it is a tensor or an array of one."""
    return value.item() if hasattr(value, "item") else value


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


def badge(claim: Claim, verdict: Verdict) -> str:
    """HTML of a verdict with the condition on which it depends."""
    condition = f" {html.escape(claim.condition)}" if verdict == Verdict.ONLY_IF and claim.condition else ""
    return f'<span class="{verdict.css}">{verdict}{condition}</span>'


def box(claim: Claim, measurement: Mapping[str, Any]) -> str:
    """HTML of a verdict box, from a row of the ledger and a `Measurement.to_dict`."""
    verdict = Verdict(measurement["verdict"])
    wrong = (
        "" if measurement["as_expected"] else f'<p class="tsl-claim-wrong">Expected: {claim.expected}.</p>'
    )
    return (
        f'<div class="tsl-claim tsl-claim-{verdict.name.lower()}">'
        f'<p class="tsl-claim-head"><strong>{claim.id}</strong> {html.escape(claim.title)} '
        f"{badge(claim, verdict)}</p>{wrong}{evidence(measurement)}"
        f'<p class="tsl-source"><a href="../book/claims.html#ledger-{claim.id.lower()}">{claim.id} in the ledger</a></p></div>'
    )


def evidence(measurement: Mapping[str, Any]) -> str:
    """HTML tables of a measurement: the checks that decide, then, without ticks, where the claim breaks."""
    decisive = [check for check in measurement["checks"] if check["role"] != "break"]
    breaks = [check for check in measurement["checks"] if check["role"] == "break"]
    text = _table("What was checked", "Passes if", decisive, ticks=True)
    return text + (_table("Where it breaks", "Seen if", breaks, ticks=False) if breaks else "")


def told(claim: Claim, measurement: Mapping[str, Any] | None, whole: bool = False) -> str:
    """A claim in plain text: a line with the verdict measured, or the whole of its row and its checks."""
    verdict = Verdict(measurement["verdict"]) if measurement else Verdict.PENDING
    outcome = f"{verdict} {claim.condition}" if verdict == Verdict.ONLY_IF else str(verdict)
    line = f"{claim.id:4} {claim.title}: {outcome}"
    if not whole:
        return line
    rows = [
        f"  {'✓' if check['passed'] else '✗'} {check['label']}: {number(check['measured'])}"
        + (f" {check['interval']}" if check["interval"] else "")
        + (f", predicted {check['predicted']}" if check["predicted"] else "")
        + f" ({'seen' if check['role'] == 'break' else 'passes'} if {check['passes_if']})"
        for check in (measurement or {"checks": []})["checks"]
    ]
    said = {
        "origin": f"{ORIGINS[claim.origin]}; {claim.source}",
        "evidence": ", ".join(claim.evidence),
        "chapter": claim.chapter,
        "claimed": claim.statement,
        "stands in for": claim.stands_in_for,
        "where it breaks": claim.breaks,
        "bounds": claim.bounds,
    }
    about = [f"  {name}: {' '.join(text.split())}" for name, text in said.items() if text]
    return "\n".join([line, *about, *rows, ""])


def _table(title: str, bound: str, checks: list[dict[str, Any]], ticks: bool) -> str:
    last = '<th><span class="tsl-hidden">Passed</span></th>' if ticks else ""
    rows = "".join(_row(check, ticks) for check in checks)
    kind = "" if ticks else " tsl-breaks"
    return (
        f'<div class="tsl-claim-scroll"><table class="tsl-claim-table{kind}"><thead><tr><th>{title}</th><th>Measured</th>'
        f"<th>Predicted</th><th>{bound}</th>{last}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(check: Mapping[str, Any], ticks: bool) -> str:
    kind = "the cause: " if check["role"] == "mechanism" else ""
    measured = html.escape(number(check["measured"]))
    if check["interval"]:
        measured += f'<br><span class="tsl-interval">{html.escape(check["interval"])}</span>'
    texts = [
        html.escape(text) for text in (kind + check["label"], check["predicted"] or "—", check["passes_if"])
    ]
    cells = [texts[0], measured, *texts[1:]]
    if ticks:
        cells.append("✓" if check["passed"] else "✗")
    elif not check["passed"]:
        cells[-1] += " (not seen)"
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


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
