"""`make book` on a small repository of its own: what runs again, what a failure says, what an interruption leaves."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_book import FIRST, LEDGER, SECOND, environment, lay_out, started, tsl

from tsl import paths

Book = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A small book, built once."""
    place = tmp_path_factory.mktemp("small") / "repository"
    lay_out(place, root)
    done = tsl(place, root, "book", "--profile", "ci")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "01_first: ran in" in done.stdout
    assert "02_second: ran in" in done.stdout
    assert str(place / "_build" / "html" / "index.html") in done.stdout
    return place


@pytest.fixture
def small(built: Path, tmp_path: Path, root: Path) -> tuple[Path, Book]:
    """A copy of the small book, at liberty to be changed, and the command that builds it."""
    place = tmp_path / "repository"
    shutil.copytree(built, place)
    return place, lambda *arguments: tsl(place, root, "book", "--profile", "ci", *arguments)


def _page(place: Path, name: str) -> str:
    return (place / "_build" / "html" / f"{name}.html").read_text()


def test_the_pages_show_what_ran_and_what_is_to_come(built: Path) -> None:
    assert "profile ci seed 0" in _page(built, "notebooks/01_first")
    assert "tsl-badge-holds" in _page(built, "notebooks/02_second")
    ledger = _page(built, "book/claims")
    assert 'href="../notebooks/02_second.html#claim-c1"' in ledger
    assert "not yet reproduced" in ledger


def test_nothing_changed_nothing_runs_and_prose_is_only_rendered(small: tuple[Path, Book]) -> None:
    place, book = small
    # The digest of a staged tree does not know where the tree lies: a copy of the repository is up to date.
    again = book()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "01_first: unchanged" in again.stdout
    assert "nothing changed since it was rendered" in again.stdout

    source = place / "notebooks" / "01_first.md"
    source.write_text(FIRST.replace("Plain prose.", "Reworded prose."))
    reworded = book()
    assert reworded.returncode == 0, reworded.stdout + reworded.stderr
    assert "01_first: unchanged" in reworded.stdout
    assert "Reworded prose." in _page(place, "notebooks/01_first")


def test_a_backend_that_a_person_has_set_loses_no_figure(small: tuple[Path, Book], root: Path) -> None:
    place, _ = small
    cell = "```{code-cell} ipython3\nimport matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()\n```\n"
    (place / "notebooks" / "01_first.md").write_text(FIRST + cell)
    command = [sys.executable, "-m", "tsl", "execute", "01_first", "--profile", "ci"]
    variables = environment(place, root) | {"MPLBACKEND": "agg"}
    subprocess.run(command, env=variables, capture_output=True, check=True)
    assert "image/png" in (place / "_build" / "executed" / "ci" / "01_first.ipynb").read_text()


def test_only_the_chapter_whose_code_changed_runs(small: tuple[Path, Book]) -> None:
    place, book = small
    (place / "notebooks" / "01_first.md").write_text(FIRST.replace('"seed", seed', '"seed", seed + 7'))
    done = book()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "01_first: ran in" in done.stdout
    assert "02_second: unchanged" in done.stdout
    assert "profile ci seed 7" in _page(place, "notebooks/01_first")


def test_other_parameters_and_other_pins_run_everything(small: tuple[Path, Book]) -> None:
    place, book = small
    assert "profile ci seed 3" not in _page(place, "notebooks/01_first")
    done = book("--seed", "3")
    assert done.stdout.count("ran in") == 2
    assert "profile ci seed 3" in _page(place, "notebooks/01_first")


def test_a_failing_chapter_is_named_with_cell_and_traceback_and_the_others_are_built(
    small: tuple[Path, Book],
) -> None:
    place, book = small
    broken = FIRST.replace('print("profile"', 'print(1 / 0, "profile"')
    (place / "notebooks" / "01_first.md").write_text(broken)
    (place / "notebooks" / "02_second.md").write_text(SECOND.replace('"answer"', '"the answer"'))
    done = book()
    assert done.returncode == 1
    assert "Chapter 01_first failed in code cell 2 of 2" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" in done.stderr
    assert "This chapter did not run." in _page(place, "notebooks/01_first")
    assert "the answer" in _page(place, "notebooks/02_second")

    (place / "notebooks" / "01_first.md").write_text(FIRST)
    mended = book()
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "02_second: unchanged" in mended.stdout
    assert "profile ci seed 0" in _page(place, "notebooks/01_first")


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_kernel_that_dies_is_a_failing_chapter(small: tuple[Path, Book], end: str) -> None:
    place, book = small
    (place / "notebooks" / "01_first.md").write_text(
        FIRST.replace('print("profile"', f'import os; {end}; print("profile"')
    )
    (place / "notebooks" / "02_second.md").write_text(SECOND.replace('"answer"', '"the answer"'))
    done = book()
    assert done.returncode == 1
    assert "Chapter 01_first failed in" in done.stderr
    assert "DeadKernelError" in done.stderr
    assert "02_second: ran in" in done.stdout
    assert "noise" not in done.stdout + done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_broken(
    built: Path, tmp_path: Path, root: Path, how: signal.Signals
) -> None:
    place = tmp_path / "repository"
    shutil.copytree(built, place)
    site = _page(place, "notebooks/01_first")
    slow = FIRST.replace('print("profile"', 'import time; time.sleep(60)\nprint("profile"')
    (place / "notebooks" / "01_first.md").write_text(slow)
    process = started(place, root, "book", "--profile", "ci")
    assert process.stdout
    for line in process.stdout:
        if "01_first: running" in line:
            break
    time.sleep(1)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGKILL)
    assert _page(place, "notebooks/01_first") == site
    executed = place / "_build" / "executed" / "ci"
    assert sorted(path.name for path in executed.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]
    assert "time.sleep" not in (executed / "01_first.ipynb").read_text()

    (place / "notebooks" / "01_first.md").write_text(FIRST.replace("Plain prose.", "After the interruption."))
    done = tsl(place, root, "book", "--profile", "ci")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "After the interruption." in _page(place, "notebooks/01_first")


def test_pages_show_the_records_of_the_repository(built: Path, tmp_path: Path, root: Path) -> None:
    """Though what is rendered is a copy that has none."""
    place = tmp_path / "repository"
    shutil.copytree(built, place)
    check = {
        "label": "answer",
        "role": "claim",
        "measured": [41, 42],
        "passes_if": ["≤ 9"] * 2,
        "passed": [False, True],
    }
    record = {
        "profile": "ci",
        "claims": {"C1": {"as_expected": [False, True], "verdicts": ["fails", "holds"], "checks": [check]}},
    }
    paths.write_whole(place / "results/ledger/seeds-ci.json", json.dumps(record))
    paths.write_whole(place / "results/02_run/a.json", "{}")
    (place / "book/intro.md").write_text(
        "# A small book\n\n```{seed-table} ci\n```\n\n```{status-table}\n```\n"
    )
    for sample, count in (("41 … 42", 1), ("40 … 42", 2)):
        assert tsl(place, root, "book", "--profile", "ci").returncode == 0
        page = _page(place, "book/intro")
        assert "1 of 2" in page
        assert sample in page
        assert f"live, and {count} stored record" in page
        check["measured"] = [40, 42]
        paths.write_whole(place / "results/ledger/seeds-ci.json", json.dumps(record))
        paths.write_whole(place / "results/02_run/b.json", "{}")


def test_a_verdict_that_is_not_expected_fails_the_build_and_names_the_claim(small: tuple[Path, Book]) -> None:
    place, book = small
    (place / "notebooks" / "02_second.md").write_text(SECOND.replace("42, 42", "42, 52"))
    done = book()
    assert done.returncode == 1
    assert "claim C1: measured verdict 'fails', expected 'holds'" in done.stderr


def test_a_claim_without_a_measurement_fails_the_build_and_is_named(small: tuple[Path, Book]) -> None:
    place, book = small
    (place / "book" / "claims.yml").write_text(LEDGER.replace("03_third", "01_first"))
    done = book()
    assert done.returncode == 1
    assert "claim C2 has no measurement, though its chapter 01_first was run" in done.stderr


def test_published_notebooks_are_deterministic_and_know_when_they_are_stale(
    small: tuple[Path, Book], root: Path
) -> None:
    place, _ = small
    first = tsl(place, root, "publish", "--profile", "ci")
    assert first.returncode == 0, first.stdout + first.stderr
    target = place / "notebooks" / "02_second.ipynb"
    text = target.read_text()
    assert "papermill" not in text
    assert json.loads(text)["metadata"]["tsl"].keys() == {
        "code_version",
        "claims_version",
        "records_version",
        "libraries_version",
        "outputs_version",
        "profile",
        "device",
        "seed",
    }
    assert tsl(place, root, "publish", "--profile", "ci", "--force").returncode == 0
    assert target.read_text() == text

    def staleness() -> str:
        code = "from tsl.press.chapters import *; print(staleness(versions.chapter_source('02_second')))"
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, env=environment(place, root), capture_output=True, text=True, check=True
        ).stdout

    source, ledger = place / "notebooks" / "02_second.md", place / "book" / "claims.yml"
    assert staleness() == "None\n"
    source.write_text(SECOND.replace("A claim", "The claim"))
    assert "differs from its source in prose" in staleness()
    source.write_text(SECOND.replace("42, 42", "42, 43"))
    assert "other code" in staleness()
    source.write_text(SECOND)
    ledger.write_text(LEDGER.replace("expected: holds", "expected: fails", 1))
    assert "other rows of book/claims.yml" in staleness()
    ledger.write_text(LEDGER)
    record = place / "results" / "02_run" / "a.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{}")
    assert "other stored records" in staleness()
    record.unlink()
    lock = place / "requirements.txt"
    pins = lock.read_text()
    lock.write_text(pins.replace("numpy==", "numpy==9."))
    assert "other pins" in staleness()
    lock.write_text(pins)
    assert staleness() == "None\n"
    target.write_text(
        target.read_text()
        .replace('\\"measured\\": 42', '\\"measured\\": 43')
        .replace('"measured": 42', '"measured": 43')
    )
    assert "edited by hand" in staleness()
    target.unlink()
    assert "does not exist" in staleness()
