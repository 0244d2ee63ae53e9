"""Render the book: stage a source tree with the executed notebooks, build it strictly, put the site in its place.

Only what a reader sees goes into the staged tree. Its digest is kept with the site, so that nothing is rendered again
unless something changed. A site is built beside the old one and swapped in whole.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat

from tsl import paths, versions
from tsl.press import chapters
from tsl.press.chapters import Outcome, Settings

INDEX = paths.SITE / "index.html"
_STAMP = paths.SITE / ".tsl-built"
_LOG = paths.BUILD / "render.log"
_RENDER = paths.BUILD / "render"


class RenderError(RuntimeError):
    """The book could not be rendered without a warning; the text lists the warnings."""


def render(settings: Settings, outcomes: list[Outcome]) -> bool:
    """Render the site from the executed notebooks, with warnings as errors; False if it was up to date already.

    A chapter that failed becomes a page that says what failed, and the site is then rendered without strictness, since
    other pages may point into the missing one. Otherwise RenderError if there was a warning: the site is in place all
    the same, for looking at, but not taken as finished.
    """
    failed = {outcome.chapter: outcome.error for outcome in outcomes if outcome.error}
    digest = _digest(stage(settings, failed))
    if (
        not failed
        and _STAMP.exists()
        and _STAMP.read_text(encoding="utf-8") == f"{digest} {_seen(paths.SITE)}"
    ):
        return False
    shutil.rmtree(_RENDER, ignore_errors=True)
    problems = build(paths.SOURCE, _RENDER, _LOG)
    built = _RENDER / "_build" / "html"
    if not (built / "index.html").exists():
        raise RenderError("\n".join([*problems, f"no page was made (all of it: {_LOG})"]))
    if not problems and not failed:
        paths.write_whole(built / _STAMP.name, f"{digest} {_seen(built)}")
    _swap(built, paths.SITE)
    shutil.rmtree(_RENDER, ignore_errors=True)
    if problems and not failed:
        raise RenderError("\n".join([*problems, f"(all of it: {_LOG})"]))
    return True


def stage(settings: Settings, failed: Mapping[str, str]) -> Path:
    """Lay out the source tree that is rendered: configuration, prose pages and executed chapters."""
    shutil.rmtree(paths.SOURCE, ignore_errors=True)
    paths.SOURCE.mkdir(parents=True)
    configuration = [paths.ROOT / name for name in ("_config.yml", "_toc.yml")]
    for path in (*configuration, paths.REQUIREMENTS):
        if not path.is_file():
            raise RenderError(f"there is no file {path}")
    for path in configuration:
        shutil.copy2(path, paths.SOURCE / path.name)
    shutil.copytree(paths.BOOK, paths.SOURCE / "book", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for source in versions.chapters():
        if source.stem in failed:
            page = _failure_page(source, failed[source.stem])
        else:
            page = _shown_with(chapters.finished(source, settings, "seconds"), asdict(settings))
        paths.write_whole(paths.SOURCE / "notebooks" / f"{source.stem}.ipynb", chapters.dumps(page))
    return paths.SOURCE


def _shown_with(notebook: Any, parameters: dict[str, Any]) -> Any:
    """The notebook with the run's parameters in its ``parameters`` cell instead of the defaults."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            lines = cell.source.encode().splitlines(keepends=True)  # Python counts columns in bytes
            for name, value in reversed(chapters.assigned(cell.source).items()):
                if name in parameters:
                    line, text = lines[value.lineno - 1], json.dumps(parameters[name]).encode()
                    lines[value.lineno - 1] = line[: value.col_offset] + text + line[value.end_col_offset :]
            cell.source = b"".join(lines).decode()
    return notebook


def _failure_page(source: Path, error: str) -> Any:
    """A page in the place of a chapter that failed, with its title and what failed."""
    lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
    title = next((line for line in lines if line.startswith("# ")), f"# {source.stem}")
    text = f"{title}\n\n:::{{error}}\nThis chapter did not run.\n:::\n\n````text\n{error}\n````\n"
    cell = nbformat.v4.new_markdown_cell(text, id="cell-001")
    return nbformat.v4.new_notebook(cells=[cell], metadata=chapters.METADATA)


def build(source: Path, output: Path, log: Path) -> list[str]:
    """Run jupyter-book strictly (nitpicky, every warning an error, to the end) on a folder; returns the warnings.

    The site goes to ``output/_build/html``, all that was printed to ``log``.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["build", str(source), "--path-output", str(output), "--all", "-n", "-W", "--keep-going", "-q"]
    environment = chapters.impersonal() | {
        "TSL_ROOT": str(paths.ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        encoding="utf-8",  # whatever the locale, see `chapters.impersonal`
        errors="replace",
        env=environment,
        check=False,
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log.write_text(text, encoding="utf-8")
    problems = [line for line in text.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL)\b:?", line)]
    if done.returncode and not problems:
        problems = text.strip().splitlines()[-15:] or [f"jupyter-book ended with status {done.returncode}"]
    return list(dict.fromkeys(problems)) if done.returncode else []


def _digest(tree: Path) -> str:
    """Digest of a folder's files and of all that turns them into pages."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    makers = [paths.REQUIREMENTS, *sorted(paths.PACKAGE.rglob("*.py"))]
    # Pages show some of the records and count the others.
    makers += [path for folder in sorted(paths.RESULTS.glob("*")) for path in paths.stored(folder)]
    names = [*(str(path.relative_to(tree)) for path in files), *(path.name for path in makers)]
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in [*files, *makers])
    return versions.digest(*names, *digests, length=64)


def _seen(site: Path) -> str:
    """Digest of a site as it lies there: a page that is lost, or that another build has overwritten, is noticed."""
    files = [path for path in sorted(site.rglob("*")) if path.is_file() and path.name != _STAMP.name]
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return versions.digest(*(str(path.relative_to(site)) for path in files), *digests, length=64)


def _swap(new: Path, place: Path) -> None:
    """Put a folder in the place of another, which is gone afterwards."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    place.parent.mkdir(parents=True, exist_ok=True)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def make(settings: Settings, force: bool = False) -> int:
    """Execute what changed (or, by ``force``, all), render, and say how it went; returns the exit status."""
    began = time.monotonic()
    print(f"Chapters ({settings.profile} profile, {settings.device}, seed {settings.seed}):", flush=True)
    outcomes = chapters.execute(versions.chapters(), settings, force=force)
    failures = chapters.report(outcomes)
    print("Rendering ...", flush=True)
    start = time.monotonic()
    try:
        fresh = render(settings, outcomes)
    except RenderError as problem:
        print(
            f"The book could not be rendered without a warning, and warnings count as errors:\n{problem}",
            file=sys.stderr,
        )
        return 1
    took = f"rendered in {time.monotonic() - start:.1f} s"
    print(f"  {took if fresh else 'nothing changed since it was rendered'}")
    print(f"The book ({time.monotonic() - began:.1f} s): {INDEX}")
    if failures:
        print(f"without the chapters that failed: {', '.join(failures)}", file=sys.stderr)
    return int(bool(failures))
