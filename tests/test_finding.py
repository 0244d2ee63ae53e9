"""What the book's extension reads and writes: the openings of chapters, and mathematics as words."""

from typing import Any

import finding
import landing
import pytest
import tslbook


def _notebook(text: str) -> dict[str, Any]:
    told = {
        "metadata": {"scrapbook": {"name": "gain"}},
        "data": {"application/papermill.record/text/plain": "'12 %'"},
    }
    return {
        "cells": [
            {"cell_type": "markdown", "source": text.splitlines(keepends=True), "metadata": {}},
            {"cell_type": "code", "source": ["run.tell(gain=g)"], "outputs": [told], "metadata": {}},
        ]
    }


@pytest.mark.parametrize("options", ["", ":needs: 01_the_task\n\n"])
def test_an_opening_is_read_with_the_numbers_that_its_chapter_told(options: str) -> None:
    block = f"```{{opening}}\n{options}Does it help?\n\nIt gains {{glue:text}}`gain`. $d$ decides.\n```"
    assert tslbook.opening(_notebook(f"# A chapter\n\n{block}\n")) == (
        "Does it help?",
        "It gains 12 %. $d$ decides.",
    )
    assert tslbook.opening(_notebook("# A chapter\n\nNo opening.\n")) is None


def test_a_finding_is_the_first_sentence() -> None:
    first = landing.first_sentence
    assert first("It gains 1.5 of 2.\nAnd more.") == "It gains 1.5 of 2."
    assert first("One sentence, with a formula $x. y$ in it.") == "One sentence, with a formula $x. y$ in it."
    assert first("Yes. $d$ decides.") == "Yes."


@pytest.mark.parametrize(
    ("tex", "read"),
    [
        (r"\Gamma", "Γ"),
        (r"\(\hat\Sigma\)", "Σ̂"),
        (r"w^*", "w*"),
        (r"\Gamma^{-1}\hat\Sigma", "Γ⁻¹Σ̂"),
        (r"m \to \infty", "m → ∞"),
        (r"\mathrm{Hard}(\Lambda)", "Hard(Λ)"),
        (r"\begin{pmatrix} a \end{pmatrix}", "…"),
    ],
)
def test_mathematics_is_read_as_signs(tex: str, read: str) -> None:
    assert finding.plain(tex) == read
