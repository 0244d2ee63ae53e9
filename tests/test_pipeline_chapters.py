"""Every chapter of the book, run: its verdicts, its committed notebook, and that it says the same each time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tsl import claims, paths, versions
from tsl.press import chapters
from tsl.press.chapters import Settings

CI = Settings(profile="ci")
CHAPTERS = {source.stem: source for source in versions.chapters()}
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def _expected(chapter: str) -> dict[str, str]:
    return {claim.id: str(claim.expected) for claim in claims.load().values() if claim.chapter == chapter}


def _measured(notebook: Any) -> dict[str, str]:
    return {
        name: found["verdict"] for name, found in claims.collect([notebook]).items() if found["as_expected"]
    }


def test_every_claim_belongs_to_a_chapter() -> None:
    assert {claim.chapter for claim in claims.load().values()} <= CHAPTERS.keys()


@each_chapter
def test_committed_notebook_belongs_to_its_source_and_to_its_claims(chapter: str) -> None:
    assert chapters.staleness(CHAPTERS[chapter]) is None, (
        f"{chapters.staleness(CHAPTERS[chapter])}: run `make publish`"
    )
    committed = nbformat.read(CHAPTERS[chapter].with_suffix(".ipynb"), as_version=4)
    assert _measured(committed) == _expected(chapter)
    assert committed.metadata.tsl.profile in ("laptop", "paper")


@each_chapter
def test_committed_notebook_has_no_noise(chapter: str) -> None:
    committed = nbformat.read(CHAPTERS[chapter].with_suffix(".ipynb"), as_version=4)
    outputs = [output for cell in committed.cells for output in cell.get("outputs", [])]
    assert outputs
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert [output for output in outputs if output.output_type == "error"] == []


def AHEAD() -> dict[str, subprocess.CompletedProcess[str]]:
    """Every committed notebook run by nbval, two at a time, as a reader would open it but in the ``ci`` profile."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    environment = os.environ | {"TSL_PROFILE": "ci", "TQDM_DISABLE": "1", "PYTHONPATH": str(paths.ROOT)}
    environment.setdefault("OMP_NUM_THREADS", "1")

    def validate(chapter: str) -> subprocess.CompletedProcess[str]:
        options = ["-o", "addopts=", f"notebooks/{chapter}.ipynb"]
        return subprocess.run(
            [*command, *options], cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(CHAPTERS, pool.map(validate, CHAPTERS), strict=True))


@each_chapter
def test_chapter_runs_in_the_ci_profile_and_its_verdicts_are_the_expected_ones(
    chapter: str, ahead: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    """Compared is the cell that prints every verdict and whether it is the expected one: the same text in every profile."""
    assert ahead[chapter].returncode == 0, ahead[chapter].stdout[-4000:]
    committed = nbformat.read(CHAPTERS[chapter].with_suffix(".ipynb"), as_version=4)
    printed = "".join(
        output.get("text", "")
        for cell in committed.cells
        if "nbval-check-output" in cell.metadata.get("tags", [])
        for output in cell.outputs
    )
    lines = {f"{name}: {verdict} (as expected)" for name, verdict in _expected(chapter).items()}
    assert set(printed.splitlines()) == lines


@each_chapter
def test_chapter_has_a_cell_whose_output_is_compared(chapter: str) -> None:
    cells = versions.read_source(CHAPTERS[chapter]).cells
    checked = [cell for cell in cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert bool(checked) == bool(_expected(chapter))


def test_running_a_chapter_again_gives_the_same_text() -> None:
    source = CHAPTERS["01_the_task"]
    texts = []
    for _ in range(2):
        assert chapters.execute([source], CI, force=True)[0].error is None
        texts.append(chapters.dumps(chapters.finished(source, CI)))
    assert texts[0] == texts[1]


@each_chapter
def test_chapter_source_obeys_the_rules_of_the_package_and_fits_its_column(
    chapter: str, tmp_path: Path
) -> None:
    """The rules of `tsl` in 88 columns; spared are those that a notebook's last expression or names by cell break."""
    target = tmp_path / f"{chapter}.ipynb"
    nbformat.write(versions.read_source(CHAPTERS[chapter]), target)
    spared = "B018,B023,B905,C408,E402,E731,I001,SIM300"
    config = ["--config", str(Path(__file__).parents[1] / "pyproject.toml")]
    width = ["--config", "lint.pycodestyle.max-line-length=88", "--config", "line-length=88"]
    for command in (["check", "--ignore", spared], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, *width, str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@each_chapter
def test_open_cells_show_no_plumbing(chapter: str) -> None:
    """Claims are recorded in cells whose input is not shown, and prose gets its numbers from `run.tell` alone."""
    for cell in versions.read_source(CHAPTERS[chapter]).cells:
        tags = set(cell.metadata.get("tags", []))
        assert "glue(" not in cell.source
        if cell.cell_type == "code" and "claims.record(" in cell.source:
            assert tags & {"remove-input", "hide-input"}, cell.source
