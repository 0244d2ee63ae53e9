"""Run chapters: MyST source → notebook → papermill → clean, deterministic ``.ipynb``.

The source ``notebooks/NN_name.md`` is the only thing that people edit. A chapter is executed when its *key* changes:
its code, the ``tsl`` modules it imports, its rows of the claim ledger, its stored records, the parameters or the pinned
packages. Prose, captions and comments are merged from the source afterwards (`merge`), so rewording never asks for a
new run. Every file is written beside its place and moved there, so that an interrupted run leaves nothing half done.
"""

import ast
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import nbformat
import yaml
from tqdm import tqdm

from tsl import paths, versions

# Part of every key: raise it when the meaning of an executed notebook changes.
FORMAT = "1"
MOST = 32 << 20  # bytes of outputs in a chapter
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# Settings of a person that could change what a chapter computes or draws.
_PERSONAL = ("PYTHON", "MATPLOTLIB", "MPL", "IPYTHON", "JUPYTER", "LC_", "TSL_PROFILE")
# Memory that was freed is used again instead of being handed back and asked for anew: with glibc, a sixth of a chapter's time.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Settings:
    """The parameters with which chapters run; `checked` makes them from a person's input."""

    profile: str = "laptop"
    device: str = "cpu"
    seed: int = 0

    @classmethod
    def checked(cls, profile: str, device: str, seed: int) -> "Settings":
        """Settings whose profile exists, whose device this machine has, and whose seed has at most 32 bits."""
        from tsl import runs  # takes torch

        if profile not in runs.PROFILES:
            raise ValueError(f"profile must be one of {', '.join(runs.PROFILES)}, got {profile!r}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
        return cls(profile, str(runs.check_device(device)), seed)

    @property
    def folder(self) -> Path:
        """Where executed notebooks of this profile lie, and those of another seed than the usual one."""
        return paths.EXECUTED / (f"{self.profile}-seed-{self.seed}" if self.seed else self.profile)

    @property
    def workers(self) -> int:
        """Chapters to run at the same time: one on a GPU, whose memory they would fight for, else two."""
        return 2 if self.device == "cpu" else 1


@dataclass(frozen=True)
class Outcome:
    """How one chapter fared: the seconds its run took (now or then), whether it ran now, what went wrong."""

    chapter: str
    seconds: float
    ran: bool
    error: str | None = None


def content_key(source: Path, settings: Settings) -> str:
    """Content hash of all that the outputs of a chapter depend on."""
    return _key(made_from(source), own(source, settings))


def _key(origins: Mapping[str, str], settings: Settings) -> str:
    pins = [line for line in _text(paths.REQUIREMENTS).splitlines() if line and not line.startswith("#")]
    parts = (origins[name] for name in ("code_version", "claims_version", "records_version"))
    return versions.digest(FORMAT, *parts, json.dumps(asdict(settings), sort_keys=True), *pins, length=16)


def _text(path: Path) -> str:
    """Text of a file that every run needs; ValueError that names it if it is gone or not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path.name} must be a file in UTF-8, got {problem}") from None


def made_from(source: Path) -> dict[str, str]:
    """What the committed notebook of a chapter must have been made from, as hashes that are published with it."""
    return {
        "code_version": versions.code_version(source),
        "claims_version": claims_version(source.stem),
        "records_version": records_version(source.stem),
        "libraries_version": libraries_version(),
    }


def own(source: Path, settings: Settings) -> Settings:
    """Settings as a chapter takes them: one whose ``parameters`` cell has no device runs on the processor."""
    taken = _taken(versions.read_source(source), settings)
    return settings if "device" in taken else replace(settings, device="cpu")


def claims_version(chapter: str) -> str:
    """Hash of what a chapter's verdict boxes take from the ledger."""
    try:
        rows = yaml.safe_load(_text(paths.CLAIMS)) or []
    except yaml.YAMLError as problem:
        raise ValueError(f"{paths.CLAIMS.name} must be YAML, got {problem}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{paths.CLAIMS.name} must hold a list of claims, got {rows!r:.100}")
    shown = ("id", "title", "expected", "condition", "stands_in_for")
    own = [[row.get(key) for key in shown] for row in rows if row.get("chapter") == chapter]
    return versions.digest(json.dumps(own, default=str))


def records_version(chapter: str) -> str:
    """Hash of the stored records of a chapter: folders of ``results/`` whose name begins with its number."""
    folders = sorted(paths.RESULTS.glob(f"{chapter.split('_')[0]}_*"))
    own = [
        path
        for folder in folders
        for kind in (".json", ".safetensors")
        for path in paths.stored(folder, kind)
    ]
    # A checkout may have changed the ends of lines.
    contents = ((path.name, path.read_bytes().replace(b"\r\n", b"\n")) for path in own)
    return versions.digest(*(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in contents))


def libraries_version() -> str:
    """Hash of the pinned versions of the packages that `tsl` itself asks for: numbers may change with them."""
    file = paths.ROOT / "pyproject.toml"
    try:
        dependencies = tomllib.loads(_text(file))["project"]["dependencies"]
        asked = {re.split(r"[^\w.-]", entry)[0].lower() for entry in dependencies}
    except tomllib.TOMLDecodeError as problem:
        raise ValueError(f"{file.name} must be TOML, got {problem}") from None
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{file.name} must name the project's dependencies, got {problem!r}") from None
    pins = _text(paths.REQUIREMENTS).splitlines()
    return versions.digest(*sorted(pin for pin in pins if pin.split("==")[0].strip().lower() in asked))


def outputs_version(notebook: Any) -> str:
    """Hashes of the outputs of a notebook, one a code cell: nobody edits them by hand."""
    outputs = (cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code")
    return " ".join(versions.digest(json.dumps(each, sort_keys=True), length=6) for each in outputs)


def up_to_date(source: Path, settings: Settings) -> bool:
    """Whether a chapter has been executed, as it is now: with this key, these outputs and all figures that have a caption."""
    executed = read_executed(source, settings)
    if executed is None:
        return False
    then = executed.metadata.tsl
    try:
        return (
            then.get("key") == content_key(source, settings)
            and then.get("outputs_version") == outputs_version(executed)
            and not any(faults(merge(versions.read_source(source), executed)))
        )
    except (ValueError, OSError, KeyError, AttributeError, yaml.YAMLError):
        return False  # what cannot be read: its run says so, and names the chapter


def read_executed(source: Path, settings: Settings) -> Any | None:
    """Executed notebook of a chapter, or None if there is none that can be read."""
    path = settings.folder / f"{source.stem}.ipynb"
    try:
        notebook = nbformat.read(path, as_version=4)
        whole = isinstance(notebook.metadata["tsl"], dict) and isinstance(notebook.cells, list)
    except Exception:  # gone, cut short or of something else: it is made again
        return None
    return notebook if whole else None


def clean(executed: Any) -> Any:
    """Take out of an executed notebook all that differs from run to run.

    Gone are papermill's injected cell and metadata, timings and random cell ids; execution counts are those of a run
    without the injected cell; neighbouring pieces of one stream, cut where the clock happened to fall, become one.
    """

    def kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {
            k: v for k, v in metadata.items() if k not in ("papermill", "execution") and (k != "tags" or v)
        }

    cells = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return _notebook((cell, kept(cell.metadata), _joined(cell.get("outputs", []))) for cell in cells)


def merge(source: Any, executed: Any) -> Any:
    """Prose, cell metadata and code as the source has them now, with the outputs of an executed notebook.

    ValueError if the code cells differ in more than comments and layout: the outputs are then of other code.
    """
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    if [versions.cell_code(cell) for cell in code] != [versions.cell_code(cell) for cell in ran]:
        raise ValueError("executed notebook does not belong to this source: their code cells differ")
    outputs = iter([cell.outputs for cell in ran])
    return _notebook(
        (cell, dict(cell.metadata), next(outputs) if cell.cell_type == "code" else [])
        for cell in source.cells
    )


def _notebook(parts: Iterable[tuple[Any, dict[str, Any], list[Any]]]) -> Any:
    """A notebook of cells with their metadata and outputs, numbered as they stand."""
    notebook = nbformat.v4.new_notebook(metadata=deepcopy(METADATA))
    count = 0
    for number, (cell, metadata, outputs) in enumerate(parts, start=1):
        same = {"source": cell.source, "metadata": metadata, "id": f"cell-{number:03d}"}
        if cell.cell_type != "code":
            notebook.cells.append(nbformat.v4.new_markdown_cell(**same))
            continue
        notebook.cells.append(nbformat.v4.new_code_cell(**same, outputs=outputs))
        if cell.source.strip():
            count += 1
            notebook.cells[-1].execution_count = count
            for output in outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(nbformat.from_dict(output))
    return joined


def dumps(notebook: Any) -> str:
    """Notebook as text, always in the same form."""
    nbformat.validate(notebook)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def finished(source: Path, settings: Settings, *besides: str) -> Any:
    """Notebook of an executed chapter as it is published: current prose, outputs, and what they were made from.

    ``besides`` names what else is to stand in its metadata, such as ``"seconds"``.
    """
    executed = read_executed(source, settings)
    if executed is None:
        raise FileNotFoundError(f"{source.stem} has not been executed in profile {settings.profile}")
    notebook = merge(versions.read_source(source), executed)
    shown = (*_PUBLISHED, *besides)
    notebook.metadata["tsl"] = {name: value for name, value in executed.metadata.tsl.items() if name in shown}
    return notebook


_PUBLISHED = (
    "code_version", "claims_version", "records_version", "libraries_version", "outputs_version",
    "profile", "device", "seed",
)  # fmt: skip
_STALE = {
    "code_version": "other code (of the chapter or of a tsl module it imports)",
    "claims_version": "other rows of book/claims.yml",
    "records_version": "other stored records in results/",
    "libraries_version": "other pins of the packages that tsl asks for",
}


def publish(settings: Settings) -> list[Path]:
    """Copy executed chapters over ``notebooks/*.ipynb``; returns those that changed."""
    changed = []
    for source in versions.chapters():
        target = source.with_suffix(".ipynb")
        text = dumps(finished(source, settings))
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            paths.write_whole(target, text)
            changed.append(target)
    return changed


def staleness(source: Path) -> str | None:
    """Why a chapter's committed notebook no longer matches its source, or None if it does."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return f"{target.name} does not exist"
    committed = nbformat.read(target, as_version=4)
    published = committed.metadata.get("tsl", {})
    for name, version in made_from(source).items():
        if published.get(name) != version:
            return f"{target.name} was made from {_STALE[name]}"
    if published.get("outputs_version") != outputs_version(committed):
        return f"{target.name} has outputs that were edited by hand"
    expected = merge(versions.read_source(source), committed)
    expected.metadata["tsl"] = published
    if dumps(expected) != target.read_text(encoding="utf-8"):
        return f"{target.name} differs from its source in prose, captions or comments"
    return None


_say = functools.partial(print, flush=True)


def execute(
    sources: list[Path], settings: Settings, force: bool = False, say: Callable[[str], None] = _say
) -> list[Outcome]:
    """Execute the chapters whose key changed (or all, by ``force``), ``settings.workers`` at a time.

    Outcomes come in the order of ``sources``; ``say`` receives a line of text for every chapter that ends. A chapter
    that fails keeps its previous executed notebook, if any.
    """
    todo = [source for source in sources if force or not up_to_date(source, settings)]
    # The longest text first, for want of times: what starts last should end soon.
    todo.sort(key=lambda source: source.stat().st_size if source.exists() else 0, reverse=True)
    # Threads: each drives a kernel, which is a process of its own.
    parallel = joblib.Parallel(settings.workers, backend="threading", return_as="generator_unordered")
    with closing(_Board(len(todo), say)) as board:
        runs = parallel(joblib.delayed(_run)(source, settings, board) for source in todo)
        done = {outcome.chapter: outcome for outcome in runs}
    return [done.get(source.stem) or _unchanged(source, settings) for source in sources]


def _unchanged(source: Path, settings: Settings) -> Outcome:
    executed = read_executed(source, settings)
    seconds = executed.metadata.tsl.get("seconds", 0.0) if executed is not None else 0.0
    return Outcome(source.stem, seconds, ran=False)


def report(outcomes: Iterable[Outcome]) -> list[str]:
    """Say what did not run and, on standard error, what failed and how; returns the names of chapters that failed."""
    for outcome in outcomes:
        if not outcome.ran:
            _say(f"  {outcome.chapter}: unchanged (took {outcome.seconds:.1f} s when it ran)")
        elif outcome.error:
            print(f"\nChapter {outcome.chapter} failed in {outcome.error}", file=sys.stderr)
    return [outcome.chapter for outcome in outcomes if outcome.error]


class _Board:
    """Progress: a line for each chapter that ends and, on a terminal, a live line of those under way."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self.say, self.cells, self.closed = say, dict[str, str](), threading.Event()
        self.bar = tqdm(
            total=total,
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
            leave=False,
            bar_format="  [{n}/{total}] running: {desc}",
        )
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        while not self.bar.disable and not self.closed.wait(1):
            logs = [f"{name} {cell} {last_line(progress_log(name))}" for name, cell in [*self.cells.items()]]
            line = " · ".join(text.strip() for text in logs)
            self.bar.set_description_str(line[: shutil.get_terminal_size().columns - 25])

    def update(self, chapter: str, cell: int, cells: int) -> None:
        if chapter not in self.cells and self.bar.disable:
            self._line(f"  {chapter}: running {cells} cells")
        self.cells[chapter] = f"{cell}/{cells}"

    def end(self, chapter: str, text: str) -> None:
        self.cells.pop(chapter, None)
        self.bar.update()
        self._line(f"  {chapter}: {text}")

    def _line(self, text: str) -> None:
        with tqdm.external_write_mode(sys.stdout):
            self.say(text)

    def close(self) -> None:
        self.closed.set()
        self.bar.close()


def _run(source: Path, settings: Settings, board: _Board) -> Outcome:
    """Execute one chapter; what goes wrong becomes its outcome, so that the others go on."""
    began, error, plain = time.monotonic(), None, None
    progress_log(source.stem).unlink(missing_ok=True)
    try:
        # What the run is made from is taken before it starts: an edit meanwhile must not be credited to it.
        origins, taken = made_from(source), own(source, settings)
        plain = versions.read_source(source)
        tell = functools.partial(board.update, source.stem)
        executed = _papermill(plain, settings, _environment(settings, source.stem), tell)
        check_complete(executed)
        notebook = clean(executed)
        # Records that the run itself has stored belong to what it was made from.
        origins |= {"records_version": records_version(source.stem)}
        notebook.metadata["tsl"] = {
            **asdict(taken),
            **origins,
            "key": _key(origins, taken),
            "outputs_version": outputs_version(notebook),
            "seconds": round(time.monotonic() - began, 2),
        }
        paths.write_whole(settings.folder / f"{source.stem}.ipynb", dumps(notebook))
    except Exception as problem:
        error = failure(problem, plain)
    seconds = time.monotonic() - began
    board.end(source.stem, f"FAILED after {seconds:.1f} s" if error else f"ran in {seconds:.1f} s")
    return Outcome(source.stem, seconds, ran=True, error=error)


def check_complete(executed: Any) -> None:
    """RuntimeError for a run that ended early, lacks a figure that has a caption, or has printed more than anybody could read."""
    count = sum(cell.cell_type == "code" for cell in executed.cells)
    for number, problem in faults(executed):
        raise RuntimeError(f"code cell {number + 1} of {count} {problem}")
    size = len(json.dumps([cell.get("outputs") for cell in executed.cells]))
    if size > MOST:
        raise RuntimeError(
            f"outputs must take at most {MOST >> 20} MB, got {size >> 20}: does a cell print in a loop?"
        )


def faults(notebook: Any) -> Iterator[tuple[int, str]]:
    """Code cells, counted from 0, that have not run to their end or lack what their caption promises, and what is wrong."""
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        tags, outputs = cell.metadata.get("tags", []), cell.get("outputs", [])
        if cell.source.strip() and cell.execution_count is None and "skip-execution" not in tags:
            yield number, "was not reached: the kernel had ended"
        elif any(output.output_type == "error" for output in outputs) and "raises-exception" not in tags:
            yield number, "ended the kernel"  # by sys.exit, which the kernel takes for no failure
        elif "figure" in cell.metadata.get("mystnb", {}) and not any(_pictures(output) for output in outputs):
            yield number, "has a caption, but it drew no figure"


def _pictures(output: Any) -> list[str]:
    return [kind for kind in output.get("data", {}) if kind.startswith("image/") or kind == "text/html"]


def progress_log(chapter: str) -> Path:
    """File into which the long trainings of a chapter write how far they are; there is none if it has no such training."""
    return paths.BUILD / "progress" / f"{chapter}.log"


def last_line(log: Path) -> str:
    """What a progress bar wrote last, or nothing."""
    try:
        with open(log, "rb") as file:
            file.seek(-min(1000, log.stat().st_size), os.SEEK_END)
            lines = re.split(r"[\r\n]+", file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def importable() -> str:
    """A ``PYTHONPATH`` on which another process finds this package first."""
    search = [str(paths.PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(part for part in search if part))


def impersonal() -> dict[str, str]:
    """The environment without the settings of a person that could change what is computed, drawn or written."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(_PERSONAL)}
    return theirs | {
        "PYTHONPATH": importable(),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def _environment(settings: Settings, chapter: str) -> dict[str, str]:
    """Environment of a run: this package, no personal start-up files, no progress bars on the page."""
    threads = max(1, joblib.cpu_count() // settings.workers)  # of those that a container gives us
    return (
        {"OMP_NUM_THREADS": str(threads)}
        | _MEMORY
        | impersonal()
        | {
            "TQDM_DISABLE": "1",
            "TSL_PROGRESS": str(progress_log(chapter)),
            "IPYTHONDIR": str(paths.BUILD / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "MPLCONFIGDIR": str(paths.BUILD / "matplotlib"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would lose every figure
        }
    )


def _papermill(
    notebook: Any, settings: Settings, environment: dict[str, str], tell: Callable[[int, int], None]
) -> Any:
    """Run a notebook, telling the number of each code cell as it starts."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines

    class ThisPython(AsyncKernelManager):
        """The kernel of the Python that runs this, whatever kernels a person has installed."""

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=launch, display_name="Python 3", language="python")

    class Told(Engine):
        """Papermill's own engine with a choice of the kernel's environment."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, begin: Any, kernel: Any, **options: Any
        ) -> None:
            code = [index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]
            client = PapermillNotebookClient(
                nb_man,
                kernel_name=kernel_name,
                kernel_manager_class=ThisPython,
                timeout=None,
                iopub_timeout=60,  # a busy machine may take longer than the usual 4 s to hand over much output
                on_cell_execute=lambda cell, cell_index: begin(code.index(cell_index) + 1, len(code)),
            )
            client.execute(**kernel)

    papermill_engines.register("tsl", Told)
    notebook.metadata |= {"kernelspec": METADATA["kernelspec"], "language_info": {"name": "python"}}
    options = {"engine_name": "tsl", "kernel_name": "python3", "progress_bar": False, "begin": tell}
    # What a kernel prints past its notebook goes nowhere: a pipe would stay open for as long as any child of it.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    kernel = {"cwd": str(paths.NOTEBOOKS), "env": environment, **quiet}
    for attempt in range(3):
        try:
            return papermill.execute_notebook(
                notebook, None, parameters=_taken(notebook, settings), kernel=kernel, **options
            )
        except RuntimeError as problem:  # a kernel may have picked a port that another has just taken
            if "before replying" not in str(problem) or attempt == 2:
                raise
    return None


def _taken(notebook: Any, settings: Settings) -> dict[str, Any]:
    """The parameters that a chapter's ``parameters`` cell names."""
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) > 1:
        raise ValueError(f"parameters must stand in one cell, got {len(cells)} cells with that tag")
    named = {name for source in cells for name in assigned(source)}
    return {name: value for name, value in asdict(settings).items() if name in named}


def assigned(code: str) -> dict[str, ast.expr]:
    """What a ``parameters`` cell assigns to each name, with its place in the code.

    ValueError if it does anything else: what the cell makes of a parameter, or another way to bind it, would keep the default
    under the name of the asked value.
    """
    found: dict[str, ast.expr] = {}
    try:
        lines = ast.parse(code).body
    except (SyntaxError, ValueError) as problem:  # the latter for a null byte
        raise ValueError(f"a cell of parameters must be plain Python, got {problem}") from None
    for line in lines:
        match line:
            case (
                ast.Assign(targets=[ast.Name(name)], value=ast.Constant() as value)
                | ast.AnnAssign(target=ast.Name(name), value=ast.Constant() as value)
            ) if name not in found and value.lineno == value.end_lineno:
                found[name] = value
            case _:
                shown = ast.unparse(line)
                raise ValueError(
                    f"a cell of parameters must hold lines such as seed = 0, each name once, got {shown!r:.80}"
                )
    return found


def failure(problem: Exception, source: Any) -> str:
    """What failed, for a person: the number and text of the cell, then the end of the traceback."""
    from papermill.exceptions import PapermillExecutionError

    if not isinstance(problem, PapermillExecutionError):
        return f"{type(problem).__name__}: {problem}"
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    number = next((i for i, cell in enumerate(code, start=1) if cell.source == problem.source), None)
    place = f"code cell {number} of {len(code)}" if number else "a code cell"
    traceback = _ANSI.sub("", "\n".join(problem.traceback)).splitlines()
    short = traceback if len(traceback) <= 24 else ["...", *traceback[-24:]]
    return "\n".join([f"{place}:", *_indented(problem.source.splitlines()), "traceback:", *_indented(short)])


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
