"""What the book's extension reads and writes: the openings of chapters, and mathematics as words."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def extension(root: Path) -> Any:
    """A module of ``book/_ext`` by name."""
    sys.path.insert(0, str(root / "book" / "_ext"))
    yield importlib.import_module
    sys.path.remove(str(root / "book" / "_ext"))


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
def test_an_opening_is_read_with_the_numbers_that_its_chapter_told(extension: Any, options: str) -> None:
    block = f"```{{opening}}\n{options}Does it help?\n\nIt gains {{glue:text}}`gain`. $d$ decides.\n```"
    book = extension("tslbook")
    assert book.opening(_notebook(f"# A chapter\n\n{block}\n")) == (
        "Does it help?",
        "It gains 12 %. $d$ decides.",
    )
    assert book.opening(_notebook("# A chapter\n\nNo opening.\n")) is None


def test_a_finding_is_the_first_sentence(extension: Any) -> None:
    first = extension("landing").first_sentence
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
def test_mathematics_is_read_as_signs(extension: Any, tex: str, read: str) -> None:
    assert extension("finding").plain(tex) == read
