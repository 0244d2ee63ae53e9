"""`tsl verify`: what counts as reproduced, and that a number that was altered is named with its claim."""

import json
import math
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsl import claims, texts, versions
from tsl.press import chapters, seeds, verify

FIRST = versions.chapters()[1]


def stored() -> dict[str, Any]:
    return json.loads(seeds.record_of("laptop").read_text(encoding="utf-8"))["claims"]


def shown() -> dict[str, Any]:
    return claims.collect([nbformat.read(FIRST.with_suffix(".ipynb"), as_version=4)])


@given(a=st.floats(-1e9, 1e9), b=st.floats(-1e9, 1e9), scale=st.floats(1e-3, 1e3))
def test_differences_are_relative_symmetric_and_free_of_units(a, b, scale):
    gap = verify.distance(a, b)
    assert gap == verify.distance(b, a)
    assert gap >= 0
    if min(abs(a), abs(b)) > 1:
        assert verify.distance(a * scale, b * scale) == pytest.approx(gap, abs=1e-9)


def test_numbers_that_are_none_are_far_from_all_others():
    assert verify.distance("inf", "inf") == 0
    assert verify.distance("inf", 3.0) == verify.distance(3.0, "nan") == math.inf
    assert verify.distance(3e-15, -2e-12) == 0  # two rounding errors of 0


def test_what_is_committed_agrees_with_its_record():
    rows = list(verify.compared(stored(), shown(), 0))
    assert {row.claim for row in rows} == {c.id for c in claims.load().values() if c.chapter == FIRST.stem}
    assert all(row.reproduced for row in rows)
    assert [text for source in versions.chapters() for text in verify.committed(source, stored())] == []


def change(name: str, value: Any) -> Any:
    """Alter what a record says of one check."""
    return lambda claim: claim["checks"][0][name].__setitem__(0, value)


CHANGES = {
    "number": change("measured", 12345.6),
    "prediction": change("predicted", "12,345.6"),
    "bound": change("passes_if", "≤ 99"),
    "passed": change("passed", False),
    "check that is gone": lambda claim: claim["checks"].append(claim["checks"][0] | {"label": "gone"}),
    "check that is new": lambda claim: claim["checks"].pop(),
    "role": lambda claim: claim["checks"][0].__setitem__("role", "break"),
    "verdict": lambda claim: claim["verdicts"].__setitem__(0, "fails"),
}
EXACT = {  # too little to be seen in another run, yet wrong in a copy of the same run
    "slight number": lambda check: check["measured"].__setitem__(0, 1.0005 * float(check["measured"][0])),
    "interval": lambda check: check["interval"].__setitem__(0, "0 to 1"),
    "last digit of the bound": lambda check: check["passes_if"].__setitem__(0, "≤ 0.0151"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_altered_is_named_with_its_claim(what):
    record, claim = stored(), next(iter(shown()))
    CHANGES[what](record[claim])
    wrong = [row for row in verify.compared(record, shown(), 0) if not row.reproduced]
    assert [row.claim for row in wrong] == [claim]
    assert f"{claim} " in verify.lines(wrong)
    assert "NOT REPRODUCED: " in verify.lines(wrong)
    assert (wrong[0].label == "verdict") is (what == "verdict")
    (said,) = verify.committed(FIRST, record)
    assert f"claim {claim} shows {'another verdict' if what == 'verdict' else 'other numbers'}" in said


@pytest.mark.parametrize("what", EXACT)
def test_a_page_shows_the_numbers_of_the_record_to_the_last_digit(what):
    record, claim = stored(), next(iter(shown()))
    check = record[claim]["checks"][1]
    assert check["passes_if"][0] == "≤ 0.015"
    assert 0 < float(check["measured"][0]) < 0.015
    EXACT[what](check)
    assert all(row.reproduced for row in verify.compared(record, shown(), 0))
    (said,) = verify.committed(FIRST, record)
    assert f"claim {claim} shows other numbers" in said


def test_a_seed_that_is_not_recorded_is_refused(refuses):
    assert verify.recorded("ci", [0, 5])["profile"] == "ci"
    with refuses(r"seeds must be below 6, .*got 6, 99"):
        verify.recorded("ci", [0, 6, 99])


@given(value=st.floats(-1e12, 1e12), word=st.sampled_from(["≤ {}", "{}", "within {} of it"]))
def test_a_number_that_was_written_is_read_back_and_texts_with_others_are_unlike(value, word):
    text = texts.number(value)
    assert verify._number(text) == pytest.approx(value, rel=0.06)
    assert verify._alike(word.format(text), word.format(text))
    if abs(value) > verify.ZERO:
        assert not verify._alike(word.format(text), word.format(texts.number(1.5 * value)))
        assert not verify._alike(word.format(text), word.format(texts.number(-value)))
    assert not verify._alike(word.format(text), f"≥ {text}")


def test_a_figure_that_is_gone_and_an_output_that_was_edited_are_named_with_their_claim(tmp_path):
    source = tmp_path / FIRST.name
    notebook = nbformat.read(FIRST.with_suffix(".ipynb"), as_version=4)
    figure = [cell for cell in notebook.cells if "figure" in cell.metadata.get("mystnb", {})][-1]
    figure.outputs = []
    boxes = [
        cell
        for cell in notebook.cells
        if any(claims.MIME in o.get("data", {}) for o in cell.get("outputs", []))
    ]
    boxes[0].outputs[0].data["text/html"] = "<p>holds</p>"
    source.with_suffix(".ipynb").write_text(chapters.dumps(notebook), encoding="utf-8")
    found = list(verify.committed(source, stored()))
    ids = [cell.outputs[0].data[claims.MIME]["id"] for cell in boxes]
    assert len(found) == 3
    assert f"(claim {ids[0]}) were edited by hand" in found[0]
    assert f"(claim {ids[-1]}) were edited by hand" in found[1]
    assert f"(claim {ids[-1]}) has a caption, but it drew no figure" in found[2]
    gone = [cell for cell in notebook.cells if cell is not boxes[0]]
    source.with_suffix(".ipynb").write_text(chapters.dumps(notebook | {"cells": gone}), encoding="utf-8")
    found = list(verify.committed(source, stored()))
    assert "code cells were added or removed by hand" in found[0]
    assert any(f"claim {ids[0]} is gone" in text for text in found)
    source.with_suffix(".ipynb").write_text("null", encoding="utf-8")
    (said,) = verify.committed(source, stored())
    assert f"{FIRST.stem}.ipynb cannot be read" in said
