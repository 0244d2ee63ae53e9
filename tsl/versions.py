"""What a result depends on, as a content hash: the stamp on every figure and the key that decides what runs again.

A chapter depends on the code in its cells and on the ``tsl`` modules that this code imports, directly or through
other modules. Comments, docstrings, prose, layout and time stamps do not count: rewording never asks for a new run.
"""

import ast
import hashlib
import itertools
import re
import threading
from collections.abc import Iterable
from functools import cache
from modulefinder import Module, ModuleFinder
from pathlib import Path
from typing import Any

from tsl import paths

_MAGIC = re.compile(r"^\s*[%!]", re.MULTILINE)
_EXECUTION_TAGS = {"parameters", "raises-exception", "skip-execution"}
# Two threads must not read code at once: Python 3.11 counts the depth of syntax trees for all threads together, and
# `ModuleFinder` empties Python's own cache of import places, where each takes entries from under the other.
_READING = threading.Lock()


def digest(*parts: str, length: int = 12) -> str:
    """Hash texts, in order, to a short hexadecimal string (SHA-256, cut to ``length`` digits)."""
    joined = "\0".join(parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:length]


def chapters() -> list[Path]:
    """Sources of all chapters, ``notebooks/NN_name.md``, in reading order."""
    return sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.md"))


def chapter_source(chapter: str | Path) -> Path:
    """Path of a chapter's source, from its name (``"04_hardness"``) or the path itself."""
    source = Path(chapter) if str(chapter).endswith(".md") else paths.NOTEBOOKS / f"{chapter}.md"
    if not source.is_file():
        known = ", ".join(path.stem for path in chapters()) or f"none in {paths.NOTEBOOKS}"
        raise ValueError(f"chapter={str(chapter)!r} is not a chapter; chapters: {known}")
    return source


def read_source(source: Path) -> Any:
    """Read a chapter's MyST source as an (unexecuted) notebook node."""
    import jupytext  # only here: a run that just draws a figure away from the repository can do without

    return jupytext.read(source, fmt="md:myst")


@cache
def normalise(code: str) -> str:
    """Python code without comments, docstrings and layout; what Python cannot parse (IPython magics) as it stands."""
    try:
        with _READING:
            tree = ast.parse(code)
    except SyntaxError:
        return code.strip()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            # A module's or function's leading string is its docstring; in a cell it would be an output if it stood
            # alone as the last expression, so a body of one string is kept.
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                if len(node.body) > 1:
                    node.body = node.body[1:]
                elif not isinstance(node, ast.Module):
                    node.body = [ast.Pass()]
    return _canonical(tree)


def _canonical(node: Any) -> str:
    """A syntax tree as text that does not depend on the Python that parsed it.

    `ast.unparse` and `ast.dump` do: from one release to the next they quote otherwise, and trees get new fields, which are
    empty where nobody uses them. Pieces of text in an f-string are cut differently, too.
    """
    if isinstance(node, list):
        return f"[{' '.join(map(_canonical, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    filled = [
        f"{name}={_canonical(value)}"
        for name, value in fields.items()
        if isinstance(node, ast.Constant) or not (value is None or value == [])
    ]
    return f"{type(node).__name__}({' '.join(filled)})"


def _joined(pieces: list[Any]) -> list[Any]:
    """Pieces of an f-string with neighbouring texts made one, and none that are empty."""
    joined: list[Any] = []
    for text, run in itertools.groupby(pieces, lambda piece: isinstance(piece, ast.Constant)):
        if not text:
            joined += run
        elif whole := "".join(piece.value for piece in run):
            joined.append(ast.Constant(whole))
    return joined


def cell_code(cell: Any) -> str:
    """Canonical text of a notebook's code cell, with those of its tags that change how it is executed."""
    tags = sorted(_EXECUTION_TAGS.intersection(cell.metadata.get("tags", [])))
    return "\n".join([normalise(cell.source), *tags])


def imported_modules(*codes: str) -> dict[str, Path]:
    """Modules of ``tsl``, and those beside the chapters, that pieces of code import, directly or not, wherever it says so.

    Files by name within the package (``"cot"``, ``"lab.records"``), sorted; one beside the chapters is ``"notebooks/mine"``.
    The code may hold IPython's magics. ``__init__`` always belongs to it: importing any module runs it. ValueError if any of
    the code cannot be read: what it depends on is then not known.
    """
    finder = _Finder(path=[str(paths.NOTEBOOKS), str(paths.PACKAGE.parent)])  # as for a kernel
    with _READING:
        finder.import_hook("tsl")
        for code in codes:
            finder.scan_code(_compiled(code), Module("__main__"))
    files: dict[str, Any] = {
        name.removeprefix("tsl").lstrip(".") if name.split(".")[0] == "tsl" else f"notebooks/{name}": module
        for name, module in finder.modules.items()
    }
    return {name or "__init__": Path(files[name].__file__) for name in sorted(files)}


class _Finder(ModuleFinder):
    """Finds the modules of this package and those beside the chapters, and says which it cannot read."""

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        beside = (paths.NOTEBOOKS / f"{name}.py", paths.NOTEBOOKS / name / "__init__.py")
        if path is None and name != "tsl" and not any(file.is_file() for file in beside):
            raise ImportError(name)
        return super().find_module(name, path, parent)

    def load_module(self, fqname: str, fp: Any, pathname: str, file_info: Any) -> Any:
        try:
            return super().load_module(fqname, fp, pathname, file_info)
        except SyntaxError as error:  # which the finder would take for a module that is not there
            raise ValueError(f"{fqname} must be Python, got {error}") from None


def _compiled(code: str) -> Any:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        return compile(code, "cell", "exec", flags)
    except SyntaxError:  # magics of IPython; elsewhere a line may well begin with a % that is an operator
        try:
            return compile(_MAGIC.sub("#", code), "cell", "exec", flags)
        except SyntaxError as error:
            raise ValueError(
                f"code must be Python, IPython's magics apart, got {error}: {code[:80]!r}"
            ) from None


def module_version(module: str) -> str:
    """Short hash of a module of ``tsl`` (such as ``"lab.records"``) and of all that it imports from ``tsl``."""
    found = imported_modules(f"import tsl.{module}")
    if module not in found:
        raise ValueError(f"module must be one of the package tsl, got {module!r}")
    return digest(*_texts(found.items()))


def code_version(chapter: str | Path) -> str:
    """Short hash of the code of a chapter, given as in `chapter_source`, and of every ``tsl`` module it depends on.

    It changes with the code, and with nothing else: not with prose, captions, comments, docstrings, time or commits.
    """
    # A package away from its repository: the sources are not at hand, all of it counts.
    if not paths.NOTEBOOKS.is_dir():
        files = sorted(paths.PACKAGE.rglob("*.py"))
        return digest(str(chapter), *_texts((str(path.relative_to(paths.PACKAGE)), path) for path in files))
    source = chapter_source(chapter)
    cells = [cell for cell in read_source(source).cells if cell.cell_type == "code"]
    try:
        found = imported_modules(*(cell.source for cell in cells))
    except ValueError as problem:
        raise ValueError(f"{source.stem}: {problem}") from None
    return digest(*map(cell_code, cells), *_texts(found.items()))


def _texts(modules: Iterable[tuple[str, Path]]) -> list[str]:
    return [f"{name}\n{normalise(path.read_text(encoding='utf-8'))}" for name, path in modules]
