"""Faults that people have met, each tried on a small book: it ends with a message that names the place and the fault.

``python tests/test_faults.py`` tries all of them and writes the table ``tests/FAULTS.md``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_book import FIRST, LEDGER, environment, lay_out, started, tsl

from tsl.press import site

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
    variables : tuple of (name, value)
        Of a person's environment.
    built : bool
        Whether the book had been built before, whole.
    """

    what: str
    make: Callable[[Path], object]
    says: str
    status: int = 1
    command: tuple[str, ...] = ("execute", "--profile", "ci")
    others: bool = True
    variables: tuple[tuple[str, str], ...] = ()
    built: bool = False


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


#: Lines of the first chapter.
PARAMETER_LINES = 'profile = "laptop"\ndevice = "cpu"\nseed = 0'
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.gcf()\n"


def captioned(code: str = "") -> Callable[[Path], object]:
    """The first chapter with a caption on its last cell, which begins with some code."""
    return first(
        "```{code-cell} ipython3\nimport subprocess",
        f"```{{code-cell}} ipython3\n---\nmystnb: {{figure: {{caption: Nothing}}}}\n---\n{code}import subprocess",
    )


def both(*makers: Callable[[Path], object]) -> Callable[[Path], object]:
    """Several faults at once."""
    return lambda place: [make(place) for make in makers]


BOOK = ("book", "--profile", "ci")
SEVEN = ("execute", "--profile", "ci", "--seed", "7")
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
    Fault("a caption without a figure", captioned(), "has a caption, but it drew no figure"),
    Fault(
        "a caption without a figure, added to a book that is built",
        captioned(),
        "has a caption, but it drew no figure",
        command=BOOK,
        others=False,
        built=True,
    ),
    Fault(
        "front matter that is not YAML, in a book that is built",
        first("jupytext:", "jupytext: [:"),
        "Chapter 01_first failed in",
        others=False,
        built=True,
    ),
    Fault(
        "an executed notebook that is damaged",
        written("_build/executed/ci/01_first.ipynb", b"null"),
        "01_first: ran in",
        0,
        others=False,
        built=True,
    ),
    Fault(
        "a page deleted from the built site",
        lambda place: (place / "_build/html/notebooks/01_first.html").unlink(),
        "rendered in",
        0,
        BOOK,
        False,
        built=True,
    ),
    Fault(
        "files that editors leave in results/",
        both(
            *(
                written(f"results/02_run/{name}", b"x")
                for name in (".DS_Store", "a.json~", "a.bak.json", "._a.json", "a (1).json", ".git/a.json")
            )
        ),
        "02_second: unchanged",
        0,
        others=False,
        built=True,
    ),
    Fault(
        "a module beside the chapters that has changed",
        both(first("import subprocess", "import helper, subprocess"), written("notebooks/helper.py", b"")),
        "01_first: ran in",
        0,
        others=False,
        built=True,
    ),
    Fault("parameters with types", first("seed = 0", "seed: int = 0"), "profile ci seed 7", 0, SEVEN),
    Fault(
        "parameters on one line",
        first(PARAMETER_LINES, PARAMETER_LINES.replace("\n", "; ")),
        "profile ci seed 7",
        0,
        SEVEN,
    ),
    Fault(
        "parameters as a tuple",
        first(PARAMETER_LINES, 'profile, device, seed = "laptop", "cpu", 0'),
        "a cell of parameters must hold lines such as seed = 0",
        command=SEVEN,
    ),
    Fault(
        "parameters that are indented",
        first(PARAMETER_LINES, "    " + PARAMETER_LINES.replace("\n", "\n    ")),
        "01_first: code must be Python",
        command=SEVEN,
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
        "numbers in the ledger",
        written("book/claims.yml", LEDGER.replace("title: The answer", "title: 42").encode()),
        "C1: title must be a non-empty text",
        others=False,
    ),
    Fault(
        "a field that the ledger does not have",
        written("book/claims.yml", LEDGER.replace("  bounds:", "  colour: red\n  bounds:", 1).encode()),
        "claim C1 has missing fields [] and unknown fields ['colour']",
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
        "MPLBACKEND and matplotlibrc's of one's own",
        both(captioned(FIGURE), written("notebooks/matplotlibrc", b"lines.linewidth: 99\n")),
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
        BOOK,
        variables=(("PYTHONWARNINGS", "error"),),
    ),
    Fault(
        "another locale and time zone, while a warning speaks of “größe”",
        first("Plain prose.", "{ref}`größe`"),
        "undefined label: 'gr",
        command=BOOK,
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
        command=BOOK,
    ),
    Fault(
        "a chapter that fails, and a configuration that is not YAML",
        both(first('print("profile"', 'print(1 / 0, "profile"'), written("_config.yml", b"title: [")),
        "could not be rendered",
        command=BOOK,
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
        "a seed of more than 32 bits",
        nothing,
        "Invalid value for '--seed'",
        2,
        ("execute", "--seed", "9223372036854775808"),
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
        "pyproject.toml must be TOML",
        others=False,
    ),
    Fault(
        "requirements.txt in Latin-1",
        written("requirements.txt", "größe==1\n".encode("latin-1")),
        "requirements.txt must be a file in UTF-8",
        others=False,
    ),
    Fault(
        "no ledger",
        lambda place: (place / "book/claims.yml").unlink(),
        "claims.yml must be a file in UTF-8",
        others=False,
    ),
    Fault(
        "no ledger to print",
        lambda place: (place / "book/claims.yml").unlink(),
        "No such file or directory",
        command=("claims",),
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
        command=BOOK,
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


def happens(fault: Fault, place: Path, built: Path) -> tuple[int, str]:
    """Make a fault in a small book of its own; returns the exit status and all that was said."""
    if fault.built:
        shutil.copytree(built, place)
    else:
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
    built = place / "built"
    lay_out(built, ROOT)
    whole = tsl(built, ROOT, *BOOK)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    with ThreadPoolExecutor(2) as pool:
        places = [place / str(number) for number in range(len(FAULTS))]
        return list(pool.map(happens, FAULTS, places, [built] * len(FAULTS)))


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
    if fault.status == 2 or fault.command[0] in ("sweep", "claims"):
        assert "Traceback" not in text


def test_two_builds_at_once_do_not_take_each_other_s_files(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    release = tmp_path / "release"
    waits = f'import os, time\nwhile not os.path.exists("{release}"): time.sleep(0.1)\nprint("profile"'
    first('print("profile"', waits)(place)
    with started(place, ROOT, "publish", "--profile", "ci") as one:
        assert one.stdout
        next(line for line in one.stdout if "01_first: running" in line)
        other = tsl(place, ROOT, "book", "--profile", "ci")
        release.touch()
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


def test_a_site_that_has_changed_is_noticed(tmp_path: Path) -> None:
    for name in ("index.html", "_static/a.css", "notebooks/01_first.html"):
        written(name, name.encode())(tmp_path)
    seen = [site._seen(tmp_path)]
    for damage in (
        lambda: (tmp_path / "_static/a.css").rename(tmp_path / "_static/b.css"),
        lambda: (tmp_path / "notebooks/01_first.html").unlink(),
        lambda: (tmp_path / "index.html").write_bytes(b"of `jupyter-book build .`"),
    ):
        damage()
        seen.append(site._seen(tmp_path))
    assert len(set(seen)) == 4


def version_of_records(place: Path) -> str:
    code = "from tsl.press.chapters import records_version as v; print(v('02_second'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(place, ROOT), capture_output=True, text=True, check=True)
    return done.stdout


def test_ends_of_lines_do_not_make_a_chapter_stale_and_other_records_do(tmp_path: Path) -> None:
    lay_out(tmp_path / "book", ROOT)
    written("results/02_run/a.json", b'{\n"a": 1\n}\n')(tmp_path / "book")
    before = version_of_records(tmp_path / "book")
    written("results/02_run/a.json", b'{\r\n"a": 1\r\n}\r\n')(tmp_path / "book")
    assert version_of_records(tmp_path / "book") == before
    written("results/02_run/a.json", b'{\n"a": 2\n}\n')(tmp_path / "book")
    assert version_of_records(tmp_path / "book") != before


@pytest.mark.parametrize("moment", [0.3, 0.9, "as a chapter is handed out"])
def test_an_interrupt_is_heard_at_once(tmp_path: Path, moment: float | str) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    first('print("profile"', 'import time; time.sleep(60)\nprint("profile"')(place)
    process = started(place, ROOT, "execute", "--profile", "ci")
    assert process.stdout
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        next(line for line in process.stdout if "01_first: running" in line)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=50)  # the chapter takes a minute
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said


def test_a_child_that_a_chapter_leaves_behind_is_gone_with_it(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    first(
        'print("profile"',
        f'open("{tmp_path}/pid", "w").write(str(subprocess.Popen(["sleep", "9876"]).pid))\nprint("profile"',
    )(place)
    assert tsl(place, ROOT, "execute", "--profile", "ci").returncode == 0
    child = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")

    def alive() -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return child.read_text().split()[2] != "Z"
        return False

    for _ in range(200):  # one that has just been killed takes a moment
        if alive():
            time.sleep(0.1)
    assert not alive()


def test_what_a_killed_run_left_half_written_is_swept_up(
    tmp_path: Path,
) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    left = ("notebooks/.a.ipynb.x.partial", "results/02_run/.b.json.x.partial", ".checkpoints/.c.x.partial")
    for name in (*left, "_build/.d.x.partial", "results/.fresh.x.partial"):
        written(name, b"")(place)
    for name in left:
        os.utime(place / name, (0, 0))
    assert tsl(place, ROOT, "execute", "01_first", "--profile", "ci").returncode == 0
    assert [path.name for path in place.rglob("*.partial")] == [".fresh.x.partial"]


def test_a_chapter_has_the_threads_that_this_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from tsl.press import chapters as c; "
        "print(c._environment(c.Settings(), 'x')['OMP_NUM_THREADS'])"
    )
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_serving_outlives_odd_requests(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    written("_build/html/index.html", b"<p>the book</p>" * 500_000)(place)
    process = started(place, ROOT, "serve", "--port", "0")
    try:
        assert process.stdout
        port = int(process.stdout.readline().split("127.0.0.1:")[1].split("/")[0])

        def ask(address: str) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
                link.sendall(f"GET {address} HTTP/1.0\r\n\r\n".encode())
                return link.recv(40)

        for _ in range(3):
            assert b" 404 " in ask("/%00")
            assert b" 404 " in ask("/no/such/page")
            assert b" 200 " in ask("/index.html")  # and hangs up long before its end
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert said == ""


@pytest.mark.parametrize(
    ("command", "status"), [("execute 01_first --profile ci >&-", 0), ("claims >/dev/full", 1)]
)
def test_an_output_that_is_closed_or_full_is_no_traceback(tmp_path: Path, command: str, status: int) -> None:
    place = tmp_path / "repository"
    lay_out(place, ROOT)
    words = f'"{sys.executable}" -m tsl {command}'
    done = subprocess.run(words, shell=True, env=environment(place, ROOT), capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


#: Faults that have tests of their own.
ELSEWHERE = {
    "an interrupt at any moment": "test_faults.py::test_an_interrupt_is_heard_at_once",
    "an interrupt or a kill while a chapter runs": "test_pipeline_end_to_end.py::test_an_interrupted_build_leaves_nothing_broken",
    "a style lost from the built site, a page of another build in it": "test_faults.py::test_a_site_that_has_changed_is_noticed",
    "two builds at once": "test_faults.py::test_two_builds_at_once_do_not_take_each_other_s_files",
    "hidden files of writers that were killed": "test_faults.py::test_what_a_killed_run_left_half_written_is_swept_up",
    "a child that a chapter leaves behind": "test_faults.py::test_a_child_that_a_chapter_leaves_behind_is_gone_with_it",
    "records with other ends of lines": "test_faults.py::test_ends_of_lines_do_not_make_a_chapter_stale_and_other_records_do",
    "many cores of which a container has few": "test_faults.py::test_a_chapter_has_the_threads_that_this_process_may_use",
    "odd addresses asked of `tsl serve`, closed connections": "test_faults.py::test_serving_outlives_odd_requests",
    "an output that is closed or full": "test_faults.py::test_an_output_that_is_closed_or_full_is_no_traceback",
    "odd letters in the path of the repository": "test_faults.py::test_a_path_may_hold_blanks_quotes_and_any_letters",
    "a matplotlibrc beside the chapters": "test_figures.py::test_a_figure_looks_the_same_whatever_the_settings_of_a_person",
    "no chapters beside an installed wheel": "test_install.py::test_an_installed_wheel_works_away_from_the_repository",
    "an environment.yml without the package": "test_meta.py::test_environment_yml_has_the_pins_of_requirements_txt",
    "a Python without ensurepip": "test_meta.py::test_a_python_that_cannot_make_environments_is_passed_over_and_takes_none_away",
    "a checkpoint that is damaged": "test_training.py::test_a_damaged_checkpoint_is_refused_and_left_alone",
    "a checkpoint with NaN or a broken generator": "test_training.py::test_a_state_of_sick_numbers_is_refused",
    "a process of a sweep that grows": "test_records.py::test_a_process_that_grows_is_replaced_without_a_word",
}


def test_every_fault_with_a_test_of_its_own_has_it() -> None:
    for test in ELSEWHERE.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


def test_the_table_of_faults_is_of_these_faults() -> None:
    assert TABLE.read_text(encoding="utf-8") == whole_table()


def whole_table() -> str:
    drills = "".join(row(fault) + "\n" for fault in FAULTS)
    others = "".join(f"| {what} | `{test}` |\n" for what, test in ELSEWHERE.items())
    return f"{HEAD}{drills}\nWith tests of their own:\n\n| Fault | Test |\n|---|---|\n{others}"


def row(fault: Fault) -> str:
    others = "yes" if fault.others else "not asked"
    command = " ".join(fault.command).replace("{place}/", "")
    return f"| {fault.what} | `tsl {command}` | {fault.status} | {fault.says} | {others} |"


if __name__ == "__main__":
    # Drills and tests alike: the table is written only if all of them are as it says.
    tests = [test for test in ELSEWHERE.values() if not test.startswith("test_faults.py")]
    places = [str(Path(__file__).with_name(test)) for test in ("test_faults.py", *tests)]
    status = pytest.main(["-q", "-k", "not table_of_faults", *places])
    if status == 0:
        TABLE.write_text(whole_table(), encoding="utf-8")
    sys.exit(status)
