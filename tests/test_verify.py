"""`tsl verify`: what counts as reproduced, and that a number that was altered is named with its claim."""

import json
import math
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsl import claims, versions
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
    assert [text for source in versions.chapters() for text in verify.committed(source)] == []


@pytest.mark.parametrize("change", ["number", "verdict", "unknown seed"])
def test_what_was_altered_is_named_with_its_claim(change):
    record, seed = stored(), 0
    claim = next(iter(shown()))
    if change == "number":
        check = record[claim]["checks"][-1]
        check["measured"][0] = 2 * float(check["measured"][0]) + 1
    elif change == "verdict":
        record[claim]["verdicts"][0] = "fails"
    else:
        seed = 99
    wrong = [row for row in verify.compared(record, shown(), seed) if not row.reproduced]
    assert claim in {row.claim for row in wrong}
    assert f"{claim} " in verify.lines(wrong)
    assert "NOT REPRODUCED" in verify.lines(wrong)


def test_a_figure_that_is_gone_and_an_output_that_was_edited_are_named(tmp_path):
    source = tmp_path / FIRST.name
    notebook = nbformat.read(FIRST.with_suffix(".ipynb"), as_version=4)
    figure = next(cell for cell in notebook.cells if "figure" in cell.metadata.get("mystnb", {}))
    figure.outputs = []
    source.with_suffix(".ipynb").write_text(chapters.dumps(notebook), encoding="utf-8")
    found = list(verify.committed(source))
    assert any("outputs were edited by hand" in text for text in found)
    assert any("has a caption, but it drew no figure" in text for text in found)
