"""A chapter's cells run in this process, one after the other: to draw one of its figures, or to break what they call."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tsl import versions
from tsl.press.chapters import Settings


class Ran(NamedTuple):
    """A cell that has run: its source, the value of its last expression, and all names that there are by then."""

    cell: Any
    value: Any
    names: dict[str, Any]


def cells(source: Path, settings: Settings) -> Iterator[Ran]:
    """Run the code cells of a chapter with some settings, each when it is asked for."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for index, cell in enumerate(versions.read_source(source).cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "skip-execution" in tags:
            continue
        value = _run(cell.source, f"{source.stem}, cell {index}", names)
        if "parameters" in tags:
            names |= {name: value for name, value in asdict(settings).items() if name in names}
        yield Ran(cell, value, names)


def _run(code: str, where: str, names: dict[str, Any]) -> Any:
    """Run code; returns the value of its last line, where that is an expression."""
    tree = ast.parse(code, where)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, where, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names)


class Place(NamedTuple):
    """Where a figure is drawn, and what its caption says."""

    source: Path
    caption: str


def figures() -> dict[str, Place]:
    """All figures of the chapters by name, in the order of the book."""
    found = {}
    for source in versions.chapters():
        for cell in versions.read_source(source).cells:
            about = cell.metadata.get("mystnb", {}).get("figure", {})
            if "name" in about:
                found[about["name"]] = Place(source, " ".join(about.get("caption", "").split()))
    return found


def drawn(name: str, settings: Settings) -> Any:
    """Run a chapter as far as one of its figures; returns the `matplotlib.figure.Figure`.

    Raises
    ------
    ValueError
        If no chapter draws a figure of that name.
    """
    known = figures()
    if name not in known:
        raise ValueError(f"figure must be one of {', '.join(known)}, got {name!r}")
    for ran in cells(known[name].source, settings):
        print(".", end="", file=sys.stderr, flush=True)
        if ran.cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            print(file=sys.stderr)
            return ran.value
    raise AssertionError(name)
