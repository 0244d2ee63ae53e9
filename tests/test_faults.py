"""Faults that people have met, each tried on a small book: it ends with a message that names the place and the fault.

``python tests/test_faults.py`` tries all of them and writes the table ``tests/FAULTS.md``.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_book import FIRST, LEDGER, environment, lay_out, tsl

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("FAULTS.md")


HEAD = (
    "# Faults, and what comes of them\n\n"
    "| Fault | Command | Ends with | Says | Other chapters run |\n|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, how it is made, and what must come of it.

    Parameters
    ----------
    what : str
        For a reader.
    make : callable
        Damages the small book in a folder.
    says : str
        What must stand in the output.
    status : int
        How the command must end.
    command : tuple of str
        The command, a run of all chapters by default.
    others : bool
        Whether the second chapter must have been run all the same.
    variables : dict
        Of a person's environment.
    """

    what: str
    make: Callable[[Path], object]
    says: str
    status: int = 1
    command: tuple[str, ...] = ("execute", "--profile", "ci")
    others: bool = True
    variables: tuple[tuple[str, str], ...] = ()


def first(old: str, new: str) -> Callable[[Path], object]:
    """Change the first chapter."""
    assert old in FIRST
    return lambda place: (place / "notebooks" / "01_first.md").write_text(FIRST.replace(old, new))


def written(name: str, data: bytes) -> Callable[[Path], object]:
    """Write a file."""

    def make(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)

    return make


def nothing(place: Path) -> None:
    """No damage: the fault is in the environment."""


def foreign_kernel(place: Path) -> None:
    """A kernel named python3 that is another program."""
    written(
        "home/kernels/python3/kernel.json",
        b'{"argv": ["/bin/false"], "display_name": "x", "language": "python"}',
    )(place)


def record(change: dict[str, object] | str) -> Callable[[Path], object]:
    """A record in the way of a sweep, changed or replaced by a text."""
    from tsl.lab import records, transformers

    asked = transformers.settings(n=10)
    whole = {"format": records.FORMAT, "settings": asked, "result": {"loss": 1.0}, "code": "", "device": ""}
    whole |= {"libraries": {"torch": ""}, "seconds": 1.0, "date": "2026-01-01"}
    text = change if isinstance(change, str) else json.dumps(whole | change)
    return written(f"records/{records.key(asked)}.json", text.encode())


SWEEP = ("sweep", "transformers", "n=10", "--folder", "{place}/records")
FIRST_TABLE = "a,b\n" + "1,2\n3,5\n" * 20


def tables(entry: str) -> Callable[[Path], object]:
    """A table of features, and another one in which an entry is odd."""

    def make(place: Path) -> None:
        written("mine.csv", FIRST_TABLE.encode())(place)
        written("odd.csv", f"{FIRST_TABLE}{entry},1\n".encode())(place)

    return make


PLAN = ("plan", "--target", "{place}/mine.csv", "--task", "a={place}/odd.csv")
FAULTS = [
    Fault(
        "a syntax error in a chapter",
        first('print("profile"', 'print("profile'),
        "01_first: code must be Python",
    ),
    Fault("front matter that is not YAML", first("jupytext:", "jupytext: [:"), "Chapter 01_first failed in"),
    Fault(
        "a chapter that is not UTF-8",
        lambda place: (place / "notebooks/01_first.md").write_bytes(
            FIRST.encode() + "\nschön".encode("latin-1")
        ),
        "Chapter 01_first failed in UnicodeDecodeError",
    ),
    Fault(
        "a chapter without front matter",
        written("notebooks/01_first.md", b"# Only prose\n"),
        "02_second: ran in",
        0,
    ),
    Fault(
        "a folder named like a chapter",
        lambda place: (place / "notebooks" / "03_third.md").mkdir(),
        "Chapter 03_third failed in",
    ),
    Fault("a division by zero", first('print("profile"', 'print(1 / 0, "profile"'), "ZeroDivisionError"),
    Fault(
        "sys.exit(0) half-way",
        first('print("profile"', 'import sys; sys.exit(0)\nprint("profile"'),
        "ended the kernel",
    ),
    Fault(
        "200 MB of output",
        first('print("profile"', 'print("x" * 200_000_000)\nprint("profile"'),
        "outputs must take at most 32 MB",
    ),
    Fault(
        "a caption without a figure",
        first(
            "```{code-cell} ipython3\nimport subprocess",
            "```{code-cell} ipython3\n---\nmystnb: {figure: {caption: Nothing}}\n---\nimport subprocess",
        ),
        "has a caption, but it drew no figure",
    ),
    Fault(
        "parameters with types",
        first("seed = 0", "seed: int = 0"),
        "profile ci seed 7",
        0,
        ("execute", "--profile", "ci", "--seed", "7"),
    ),
    Fault(
        "a ledger that is not YAML",
        written("book/claims.yml", b"- id: C1\n  title: [\n"),
        "claims.yml must be YAML",
        others=False,
    ),
    Fault(
        "a ledger of texts",
        written("book/claims.yml", b"- C1\n- C2\n"),
        "claims.yml must hold a list of claims",
        others=False,
    ),
    Fault(
        "dates in the ledger",
        written("book/claims.yml", LEDGER.replace("title: The answer", "title: 2026-11-26").encode()),
        "C1: title must be a non-empty text",
        others=False,
    ),
    Fault(
        "a set in the ledger",
        written("book/claims.yml", LEDGER.replace("title: The answer", "title: !!set {a, b}").encode()),
        "C1: title must be a non-empty text",
        others=False,
    ),
    Fault(
        "no chapters",
        lambda place: shutil.rmtree(place / "notebooks"),
        "there are no chapters in",
        others=False,
    ),
    Fault(
        "a foreign kernel named python3",
        foreign_kernel,
        "01_first: ran in",
        0,
        variables=(("JUPYTER_PATH", "{place}/home"),),
    ),
    Fault(
        "MPLBACKEND and a matplotlibrc of one's own",
        nothing,
        "01_first: ran in",
        0,
        variables=(("MPLBACKEND", "agg"), ("MATPLOTLIBRC", "/nowhere")),
    ),
    Fault(
        "library warnings as errors",
        nothing,
        "01_first: ran in",
        0,
        variables=(("PYTHONWARNINGS", "error::UserWarning"),),
    ),
    Fault(
        "all warnings as errors, while rendering",
        nothing,
        "The book (",
        0,
        ("book", "--profile", "ci"),
        variables=(("PYTHONWARNINGS", "error"),),
    ),
    Fault(
        "another locale and time zone",
        nothing,
        "01_first: ran in",
        0,
        variables=(
            ("LC_ALL", "POSIX"),
            ("PYTHONUTF8", "0"),
            ("PYTHONCOERCECLOCALE", "0"),
            ("TZ", "Asia/Tokyo"),
        ),
    ),
    Fault(
        "a configuration that is not YAML",
        written("_config.yml", b"title: ["),
        "could not be rendered",
        command=("book", "--profile", "ci"),
    ),
    Fault(
        "a seed that is not a number",
        nothing,
        "Invalid value for '--seed'",
        2,
        ("execute", "--seed", "x"),
        others=False,
    ),
    Fault(
        "a profile that does not exist",
        nothing,
        "profile must be one of",
        2,
        ("execute", "--profile", "huge"),
        others=False,
    ),
    Fault(
        "a child left behind by a chapter",
        first('print("profile"', 'subprocess.Popen(["sleep", "9876"])\nprint("profile"'),
        "01_first: ran in",
        0,
    ),
    Fault(
        "a pyproject.toml that is not TOML",
        written("pyproject.toml", b"[project"),
        "pyproject.toml must be TOML in UTF-8",
        others=False,
    ),
    Fault(
        "a pyproject.toml without dependencies",
        written("pyproject.toml", b"[tool]\n"),
        "pyproject.toml must name the project's dependencies",
        others=False,
    ),
    Fault(
        "no table of contents",
        lambda place: (place / "_toc.yml").unlink(),
        "there is no file",
        command=("book", "--profile", "ci"),
    ),
    Fault(
        "a scheduler that is not there",
        nothing,
        "no dask scheduler answers at 'tcp://127.0.0.1:9'",
        command=(*SWEEP, "--scheduler", "tcp://127.0.0.1:9"),
        others=False,
    ),
    Fault(
        "a record without a result",
        record({"result": None}),
        "result must be an object, got None",
        2,
        SWEEP,
        False,
    ),
    Fault(
        "a record with an empty result",
        record({"result": {}}),
        "result must be an object, got {}",
        2,
        SWEEP,
        False,
    ),
    Fault(
        "a record whose result is a text",
        record({"result": "x"}),
        "result must be an object, got 'x'",
        2,
        SWEEP,
        False,
    ),
    Fault(
        "a record that holds NaN", record({"result": {"loss": math.nan}}), "NaN is not JSON", 2, SWEEP, False
    ),
    Fault("a deeply nested record", record("[" * 100_000), "is not a record", 2, SWEEP, False),
    Fault(
        "a record of other settings",
        record({"settings": {"n": 1}}),
        "must hold the settings it is named after",
        2,
        SWEEP,
        False,
    ),
    Fault(
        "features that overflow",
        tables("1e200"),
        "tasks['a'] must have a largest entry between",
        2,
        PLAN,
        False,
    ),
    Fault(
        "features that are infinite",
        tables("inf"),
        "odd.csv must hold finite numbers only, got others in a",
        2,
        PLAN,
        False,
    ),
    Fault(
        "features that are text",
        tables("one"),
        "odd.csv must hold finite numbers only, got others in a",
        2,
        PLAN,
        False,
    ),
    Fault(
        "a chapter that does not exist", nothing, "is not a chapter", 2, ("execute", "09_none"), others=False
    ),
]


def happens(fault: Fault, place: Path) -> tuple[int, str]:
    """Make a fault in a small book of its own; returns the exit status and all that was said."""
    lay_out(place, ROOT)
    fault.make(place)
    variables = {name: value.format(place=place) for name, value in fault.variables}
    done = subprocess.run(
        [sys.executable, "-m", "tsl", *(word.format(place=place) for word in fault.command)],
        env=environment(place, ROOT) | variables,
        cwd=place.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    executed = (place / "_build" / "executed").rglob("01_first.ipynb")
    return done.returncode, text + ("" if done.returncode else "".join(path.read_text() for path in executed))


def all_happen(place: Path) -> list[tuple[int, str]]:
    """What comes of each fault, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(happens, FAULTS, [place / str(number) for number in range(len(FAULTS))]))


def AHEAD() -> dict[str, tuple[int, str]]:
    """What comes of all faults, by name."""
    with tempfile.TemporaryDirectory() as place:
        return {fault.what: outcome for fault, outcome in zip(FAULTS, all_happen(Path(place)), strict=True)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_ends_with_its_name(fault: Fault, ahead: dict[str, tuple[int, str]]) -> None:
    status, text = ahead[fault.what]
    assert fault.says in text, text[-2000:]
    assert status == fault.status
    assert not fault.others or "02_second: ran in" in text, f"one chapter took another down: {text[-2000:]}"
    if fault.status == 2 or fault.command[0] == "sweep":
        assert "Traceback" not in text


def test_two_builds_at_once_do_not_take_each_other_s_files(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    slow = FIRST.replace('print("profile"', 'import time; time.sleep(5)\nprint("profile"')
    (place / "notebooks" / "01_first.md").write_text(slow)
    command = [sys.executable, "-m", "tsl", "publish", "--profile", "ci"]
    with subprocess.Popen(command, env=environment(place, ROOT), stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout
        next(line for line in one.stdout if "01_first: running" in line)
        other = tsl(place, ROOT, "book", "--profile", "ci")
        assert other.returncode == 1
        assert "another build is at work" in other.stderr
        one.communicate(timeout=120)
    assert one.returncode == 0


def test_a_path_may_hold_blanks_quotes_and_any_letters(tmp_path: Path) -> None:
    place = tmp_path / "my book's “größe” 100% #1"
    lay_out(place, ROOT)
    done = tsl(place, ROOT, "book", "--profile", "ci")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{place}/_build/html/index.html" in done.stdout


def test_stray_files_do_not_make_a_chapter_stale(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    code = "from tsl.press.chapters import records_version as v; print(v('02_second'))"

    def version() -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment(place, ROOT),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    before = version()
    for name in (".DS_Store", "a.json~"):
        written(f"results/02_run/{name}", b"x")(place)
    assert version() == before
    written("results/02_run/a.json", b"{}")(place)
    assert version() != before


def test_the_table_of_faults_is_of_these_faults() -> None:
    assert TABLE.read_text(encoding="utf-8").splitlines()[4:] == [row(fault) for fault in FAULTS]


def row(fault: Fault) -> str:
    others = "yes" if fault.others else "not asked"
    command = " ".join(fault.command).replace("{place}/", "")
    return f"| {fault.what} | `tsl {command}` | {fault.status} | {fault.says} | {others} |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for fault, (status, text) in zip(FAULTS, all_happen(Path(folder)), strict=True):
            if status != fault.status or fault.says not in text:
                print(f"NOT AS IT SHOULD BE: {fault.what}: {status}\n{text[-1500:]}")
    TABLE.write_text(HEAD + "".join(row(fault) + "\n" for fault in FAULTS), encoding="utf-8")
