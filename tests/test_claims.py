"""The ledger: what it accepts, how verdicts follow from checks, and what a reader sees."""

import json
import math
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tsl import claims, paths, runs
from tsl.claims import Verdict


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small ledger in place of the book's; claims C1, C12, S1, X1 of one chapter, C2 of another."""
    rows = [
        row(),
        row(id="C12", expected="analogue", stands_in_for="a larger one"),
        row(id="S1", expected="holds only if", condition="m → ∞"),
        row(id="X1", origin="ours", expected="effect, but not the mechanism"),
        row(id="C2", chapter="other"),
    ]
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    read = claims.load
    monkeypatch.setattr(claims, "load", lambda: read(path))


def row(**changes: object) -> dict[str, object]:
    fields = {
        "id": "C1",
        "title": "t",
        "origin": "paper",
        "source": "s",
        "evidence": ["simulation"],
        "statement": "x",
        "chapter": "01_the_task",
        "expected": "holds",
        "bounds": "b",
    }
    return fields | changes


def run() -> runs.Run:
    return runs.start("01_the_task", profile="ci")


def load(tmp_path: Path, rows: object) -> dict[str, claims.Claim]:
    path = tmp_path / "claims.yml"
    path.write_text(rows if isinstance(rows, str) else yaml.safe_dump(rows), encoding="utf-8")
    return claims.load(path)


YES, NO = claims.below("yes", 1.0, 2.0), claims.below("no", 3.0, 2.0)


def test_the_books_ledger_is_complete_and_says_all_that_a_card_needs():
    ids = [f"C{i}" for i in range(1, 13)] + [f"S{i}" for i in range(1, 8)] + [f"X{i}" for i in range(1, 16)]
    ledger = claims.load()
    assert sorted(ledger) == sorted(ids)
    for name, claim in ledger.items():
        assert claim.label == f"claim-{name.lower()}"
        assert (paths.NOTEBOOKS / f"{claim.chapter}.md").is_file()
        assert f"({claim.label})=" in (paths.NOTEBOOKS / f"{claim.chapter}.md").read_text(encoding="utf-8")
        assert claim.origin in {"C": {"paper"}, "S": {"article"}, "X": {"reviewers", "ours"}}[name[0]]
        assert "{cite}" in claim.source or claim.origin == "ours"
        assert not claim.statement.endswith("?"), "a question cannot hold"
        # Whoever says that a claim has a limit says where it is.
        assert claim.breaks or claim.expected in (Verdict.HOLDS, Verdict.ANALOGUE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("C1: {", "must be YAML"),
        ({"C1": row()}, "must hold a list of claims, got dict"),
        (["C1"], "claims.yml must hold claims with fields, got 'C1'"),
        ([row(id="D1")], "got 'D1'"),
        ([row(id="C0")], "got 'C0'"),
        ([row(id=7)], "got 7"),
        ([row(), row()], "id must be unique in claims.yml, got 'C1' twice"),
        ([{k: v for k, v in row().items() if k != "source"}], r"C1 has missing fields \['source'\]"),
        ([row(colour="red")], r"unknown fields \['colour'\]"),
        ([row(title="  ")], "C1: title must be a non-empty text, got '  '"),
        ([row(statement=3)], "C1: statement must be a non-empty text, got 3"),
        ([row(expected="probably")], "C1: expected must be one of holds, .*, got 'probably'"),
        ([row(origin="hearsay")], "C1: origin must be one of paper, .*, got 'hearsay'"),
        ([row(evidence="simulation")], "C1: evidence must be a list out of simulation, .*, got 'simulation'"),
        ([row(evidence=[])], r"C1: evidence must be a list .*, got \[\]"),
        ([row(evidence=["hope"])], r"got \['hope'\]"),
        ([row(condition="m → ∞")], "C1: condition must be given exactly where holds only if is expected"),
        ([row(expected="holds only if")], "C1: condition must be given exactly where holds only if"),
        ([row(expected="analogue")], "C1: stands_in_for must be given exactly where analogue is expected"),
    ],
)
def test_a_malformed_ledger_is_refused_by_name(tmp_path, rows, message, refuses):
    with refuses(message):
        load(tmp_path, rows)


def test_a_well_formed_row_is_read_as_it_stands(tmp_path):
    (claim,) = load(
        tmp_path, [row(expected="holds only if", condition="m → ∞", breaks="at small m")]
    ).values()
    assert claim == claims.Claim(
        "C1",
        "t",
        "paper",
        "s",
        ("simulation",),
        "x",
        "01_the_task",
        Verdict.ONLY_IF,
        "b",
        "m → ∞",
        "at small m",
    )


ALSO, NEITHER = claims.above("also", 3.0, 2.0), claims.above("neither", 1.0, 2.0)


@pytest.mark.parametrize(
    ("claim", "checks", "roles", "verdict", "as_expected"),
    [
        ("C1", [YES], {}, "holds", True),
        ("C1", [YES, NO], {}, "fails", False),
        ("C1", [YES], {"breaks": [ALSO]}, "holds only if", False),
        ("S1", [YES], {"breaks": [ALSO]}, "holds only if", True),
        ("S1", [YES], {}, "holds", False),
        ("S1", [YES], {"breaks": [ALSO, NEITHER]}, "holds only if", False),  # each must be seen
        ("S1", [YES], {"breaks": [NEITHER]}, "holds", False),
        ("S1", [NO], {"breaks": [ALSO]}, "fails", False),
        ("X1", [YES], {"mechanism": [NO]}, "effect, but not the mechanism", True),
        ("X1", [YES], {"mechanism": [NO, ALSO]}, "effect, but not the mechanism", False),  # one turned unseen
        ("C12", [YES], {"mechanism": [NO]}, "analogue", False),
        ("X1", [YES], {"mechanism": [ALSO, NO], "breaks": [NEITHER]}, "effect, but not the mechanism", False),
        ("X1", [YES], {"mechanism": [ALSO]}, "holds", False),
        ("X1", [NO], {"mechanism": [ALSO]}, "fails", False),
        ("C12", [YES], {}, "analogue", True),
        ("C12", [YES], {"breaks": [ALSO]}, "analogue", True),
        ("C12", [YES, NO], {}, "fails", False),
    ],
)
def test_verdicts_follow_from_the_checks(ledger, claim, checks, roles, verdict, as_expected):
    measurement = claims.record(run(), claim, *checks, **roles)
    assert (measurement.verdict, measurement.as_expected) == (verdict, as_expected)
    assert str(measurement) == f"{claim}: {verdict}"


def test_records_are_refused_where_they_do_not_belong(ledger, refuses):
    here = run()
    claims.record(here, "C1", YES)
    for claim, checks, message in (
        ("C1", [YES], "C1 must be recorded once"),
        ("C2", [YES], "C2 belongs to chapter other, got a record from 01_the_task"),
        ("C99", [YES], r"claim must be an id of the ledger \(C1, C12, S1, X1, C2\), got 'C99'"),
        ("S1", [], "checks of claim S1 must hold at least one"),
        ("S1", [True], "checks of claim S1 must be made by close"),
        ("S1", [YES, YES], "checks of claim S1 must have labels of their own, got"),
    ):
        with refuses(message):
            claims.record(here, claim, *checks)
    with refuses("break checks of claim S1 must be made by"):
        claims.record(here, "S1", YES, breaks=["no"])
    with refuses("mechanism checks of claim S1 must be made by"):
        claims.record(here, "S1", YES, mechanism=["no"])
    assert [m.claim.id for m in here.measurements] == ["C1"]


def test_summary_says_what_was_and_was_not_expected(ledger, capsys):
    here = run()
    claims.record(here, "C1", YES)
    claims.record(here, "X1", NO)
    claims.summary(here)
    assert capsys.readouterr().out == "C1: holds (as expected)\nX1: fails (NOT as expected)\n"


@given(
    measured=st.floats(-1e6, 1e6),
    predicted=st.floats(-1e6, 1e6),
    rel=st.floats(0, 2),
    tolerance=st.floats(1e-6, 1e3),
)
def test_checks_compare_as_they_say(measured, predicted, rel, tolerance):
    gap = abs(measured - predicted)
    assert claims.close("x", measured, predicted, rel=rel, abs=tolerance).passed == (
        gap <= max(rel * abs(predicted), tolerance)
    )
    assert claims.below("x", measured, predicted).passed == (measured <= predicted)
    assert claims.above("x", measured, predicted).passed == (measured >= predicted)
    low, high = sorted((predicted, predicted + tolerance))
    assert claims.inside("x", measured, low, high).passed == (low <= measured <= high)


def test_nothing_is_proved_by_a_number_that_is_none():
    for check in (
        claims.close("x", math.nan, 1.0, rel=0.1),
        claims.below("x", math.nan, 1.0),
        claims.above("x", math.nan, 1.0),
        claims.inside("x", math.nan, 0.0, 1.0),
        claims.below("x", math.inf, 1.0),
    ):
        assert not check.passed


def test_a_claim_that_is_expected_to_fail_fails_in_all_its_checks():
    expected = claims.load()["S5"]
    both = claims.Measurement(expected, (claims.below("a", 3.0, 2.0), claims.below("b", 3.0, 2.0)), "ci")
    one = claims.Measurement(expected, (claims.below("a", 3.0, 2.0), claims.below("b", 1.0, 2.0)), "ci")
    assert both.verdict == one.verdict == claims.Verdict.FAILS
    assert both.as_expected
    assert not one.as_expected


def test_a_claim_that_is_expected_to_fail_is_not_confirmed_by_a_number_that_is_none():
    expected = claims.load()["S5"]
    assert expected.expected == claims.Verdict.FAILS
    measured = claims.Measurement(expected, (claims.above("rank", -0.9, 0.0),), "ci")
    broken = claims.Measurement(expected, (claims.above("rank", math.nan, 0.0),), "ci")
    assert measured.verdict == broken.verdict == claims.Verdict.FAILS
    assert measured.as_expected
    assert not broken.as_expected


@given(count=st.integers(0, 60), more=st.integers(0, 60), bound=st.floats(0.01, 0.99))
def test_a_share_passes_only_beyond_the_luck_of_the_draw(count, more, bound):
    trials = max(count + more, 1)
    over = claims.share("x", count, trials, above=bound)
    under = claims.share("x", count, trials, below=bound)
    assert over.measured == pytest.approx(count / trials, rel=1e-3)
    assert not (over.passed and under.passed)
    # Independent: were the share no more than the bound, so many hits would be rarer than 1 in 40.
    assert over.passed == (stats.binom.sf(count - 1, trials, bound) < 0.025)
    assert under.passed == (stats.binom.cdf(count, trials, bound) < 0.025)
    assert f"{count} of {trials}" in over.interval


def test_a_bound_is_not_shown_as_a_prediction():
    assert claims.above("x", 3.0, 2.0).predicted == ""
    assert claims.above("x", 3.0, 2.0, predicted=2.9).predicted == "2.9"
    near = claims.close("x", 3.0, 2.9, rel=0.1)
    assert (near.predicted, near.passes_if) == ("2.9", "within 0.29")


def test_measured_numbers_are_rounded_but_judged_unrounded():
    check = claims.below("x", 1.000049, 1.00001)
    assert check.measured == 1.0
    assert not check.passed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (-0.5, "−0.5"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.7, "1,000"),
        (-4567.8, "−4,568"),
        (99_999.7, "1·10⁵"),
        (123_456.0, "1.2·10⁵"),
        (0.001, "0.001"),
        (0.00099999, "0.001"),
        (0.00098, "9.8·10⁻⁴"),
        (2e-5, "2·10⁻⁵"),
        (-2e-5, "−2·10⁻⁵"),
        (1e-300, "1·10⁻³⁰⁰"),
        (3.21e120, "3.2·10¹²⁰"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "undefined"),
        ("inf", "∞"),
    ],
)
def test_numbers_are_written_for_a_reader(value, text):
    assert claims.number(value) == text


@given(
    value=st.one_of(st.floats(-1e300, 1e300), st.floats(-1.0, 1.0)).filter(
        lambda v: v == 0 or abs(v) > 1e-300
    )
)
def test_written_numbers_are_near_the_numbers_and_have_one_minus_sign(value):
    text = claims.number(value)
    assert "-" not in text
    assert "e" not in text
    mantissa, _, raised = text.replace("−", "-").replace(",", "").partition("·10")
    back = float(f"{mantissa}e{raised.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789')) or 0}")
    assert back == pytest.approx(value, rel=0.051)


def test_box_escapes_texts_and_marks_what_was_not_expected(ledger):
    measurement = claims.record(
        run(), "C1", claims.below("a <b> & c", 2e-5, 1e-3), breaks=[claims.above("d", 1.0, 2.0)]
    )
    box = measurement._repr_mimebundle_()["text/html"]
    assert "a &lt;b&gt; &amp; c" in box
    assert "<b>" not in box
    assert "2·10⁻⁵" in box
    assert "<td>≥ 2 (not seen)</td>" in box
    assert box.count("✓") == 1
    assert "✗" not in box  # a place where a claim breaks has no tick to win
    assert "Expected: holds." in box  # it was named but not seen
    fine = claims.record(run(), "C1", YES)._repr_mimebundle_()["text/html"]
    assert "Expected" not in fine
    assert 'class="tsl-badge tsl-badge-holds"' in fine
    assert "Where it breaks" not in fine
    badge = claims.record(run(), "S1", YES, breaks=[ALSO])._repr_mimebundle_()["text/html"]
    assert "holds only if m → ∞</span>" in badge


def notebook(*measurements: claims.Measurement) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("1")]
    for measurement in measurements:
        output = nbformat.v4.new_output(
            "execute_result", data=measurement._repr_mimebundle_(), execution_count=1
        )
        stream = nbformat.v4.new_output("stream", text="printed")
        cells.append(nbformat.v4.new_code_cell("record", outputs=[stream, output], execution_count=1))
    return nbformat.v4.new_notebook(cells=cells)


def test_measurements_survive_a_notebook(ledger, tmp_path):
    here = run()
    records = [
        claims.record(here, "C1", claims.close("π", 3.14159, 3.0, rel=0.1)),
        claims.record(
            here, "X1", claims.below("overflow", math.inf, 1.0), claims.below("none", math.nan, 1.0)
        ),
    ]
    path = tmp_path / "x.ipynb"
    nbformat.write(notebook(*records), path)

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)  # other readers know no NaN
    found = claims.collect([nbformat.read(path, 4)])
    assert found == {r.claim.id: r.to_dict() for r in records}
    html = claims.box(records[1].claim, found["X1"])
    assert "<td>∞</td>" in html
    assert "<td>undefined</td>" in html


def test_a_claim_is_measured_once_in_the_whole_book(ledger, refuses):
    record = claims.record(run(), "C1", YES)
    with refuses("C1 must be measured once"):
        claims.collect([notebook(record), notebook(record)])


def test_one_number_that_is_none_among_others_is_unexpected_too():
    expected = claims.load()["S5"]
    mixed = claims.Measurement(
        expected, (claims.above("a", math.nan, 0.0), claims.above("b", -1.0, 0.0)), "ci"
    )
    assert mixed.verdict == Verdict.FAILS
    assert not mixed.as_expected


def test_all_the_evidence_is_of_a_known_kind_and_texts_have_no_margins(tmp_path, refuses):
    with refuses(r"got \['simulation', 'hope'\]"):
        load(tmp_path, [row(evidence=["simulation", "hope"])])
    (claim,) = load(tmp_path, [row(title=" t\n")]).values()
    assert claim.title == "t"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: claims.close("x", 1.0, math.nan, rel=1.0), "predicted must be a number"),
        (lambda: claims.close("x", 1.0, 1.0, rel=-0.1, abs=1.0), "rel and abs must not be negative"),
        (lambda: claims.close("x", 1.0, 1.0, rel=0.1, abs=-1.0), "rel and abs must not be negative"),
        (lambda: claims.close("x", 1.0, 1.0), "one of them positive"),
        (lambda: claims.close("x", 1.0, 0.0, rel=0.5), "one of them positive"),
        (lambda: claims.below("x", 1.0, math.nan), "bound must be a number"),
        (lambda: claims.above("x", 1.0, math.nan), "bound must be a number"),
        (lambda: claims.inside("x", 1.0, math.nan, 2.0), "low must be a number"),
        (lambda: claims.inside("x", 1.0, 0.0, math.nan), "high must be a number"),
        (lambda: claims.inside("x", 1.0, 2.0, 1.0), "low must be at most high"),
        (lambda: claims.share("x", 3, 9, above=math.nan), "above must be a number"),
        (lambda: claims.share("x", 3, 9, below=math.nan), "below must be a number"),
        (lambda: claims.share("x", 10, 9, above=0.5), "count must be at most trials"),
        (lambda: claims.share("x", 3, 9), "one of above and below"),
        (lambda: claims.share("x", 3, 9, above=0.1, below=0.5), "one of above and below"),
        (lambda: claims.below("  ", 1.0, 2.0), "label must be a non-empty text"),
        (lambda: claims.below("x", "1", 2.0), "measured must be a number"),
        (lambda: claims.above("x", 1.0, 2.0, predicted=math.nan), "predicted must be a number"),
    ],
)
def test_a_check_that_says_nothing_is_refused(make, message, refuses):
    with refuses(message):
        make()


def test_checks_at_their_very_edge():
    assert not claims.close("x", 1.5, 1.0, rel=0.1).passed  # no absolute tolerance unless one is given
    assert claims.inside("x", 2.0, 2.0, 2.0).passed
    assert not claims.share("x", 0, 10, above=0.0).passed
    assert not claims.share("x", 10, 10, below=1.0).passed
    assert claims.below("x", math.inf, 1.0).measured == math.inf


def test_a_claim_in_plain_text(ledger):
    claim = claims.load()["S1"]
    near = claims.close("share seen", 0.5, 0.4, rel=0.5)
    counted = claims.share("many", 9, 10, above=0.4)
    made = claims.record(run(), "S1", near, counted, mechanism=[NO], breaks=[ALSO]).to_dict()
    assert claims.told(claim, None) == "S1   t: not yet reproduced"
    assert claims.told(claim, made) == "S1   t: effect, but not the mechanism"
    made = claims.record(run(), "S1", near, counted, breaks=[ALSO]).to_dict()
    assert claims.told(claim, made) == "S1   t: holds only if m → ∞"
    assert claims.told(claim, made, whole=True).splitlines()[-3:] == [
        "  ✓ share seen: 0.5, predicted 0.4 (passes if within 0.2)",
        "  ✓ many: 0.9 9 of 10, 55 % to 100 % (passes if interval more than 40 %)",
        "  ✓ also: 3 (seen if ≥ 2)",
    ]
    assert "✗ no: 3 (passes if ≤ 2)" in claims.told(
        claim, claims.record(run(), "S1", NO).to_dict(), whole=True
    )
    assert "chapter: 01_the_task" in claims.told(claim, None, whole=True)
    assert claims.told(claim, None, whole=True).count("✓") == 0


def test_box_says_which_check_is_of_the_cause_and_which_has_no_prediction(ledger):
    here = claims.record(
        run(),
        "C12",
        claims.close("seen", 1.0, 1.5, rel=0.9),
        mechanism=[NO],
        breaks=[claims.above("d", 3.0, 2.0)],
    )
    decisive, breaks = claims.evidence(here.to_dict()).split("Where it breaks")
    assert "<td>seen</td><td>1</td><td>1.5</td><td>within 1.35</td><td>✓</td>" in decisive
    assert "<td>the cause: no</td><td>3</td><td>—</td><td>≤ 2</td><td>✗</td>" in decisive
    assert "<td>d</td><td>3</td><td>—</td><td>≥ 2</td></tr>" in breaks
    assert decisive.count(">Passed</span>") == 1
    assert ">Passed</span>" not in breaks
    assert "tsl-breaks" in decisive.rpartition("<table")[2]
    assert "tsl-breaks" not in decisive.partition("</table>")[0]
    # A condition stands beside "holds only if", and beside no other outcome.
    failed = claims.record(run(), "S1", NO)
    assert claims.badge(failed.claim, failed.verdict).endswith(">fails</span>")
