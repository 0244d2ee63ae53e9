"""What a result depends on, as a content hash: the stamp on every figure and the key that decides what runs again.

A chapter depends on the code in its cells and on the ``tsl`` modules that this code imports, directly or through
other modules. Comments, docstrings, prose, layout and time stamps do not count: rewording never asks for a new run.
"""

import ast
import hashlib
import re
from pathlib import Path
from typing import Any

from tsl import paths

_MAGIC = re.compile(r"^\s*[%!]", re.MULTILINE)
_EXECUTION_TAGS = {"parameters", "raises-exception", "skip-execution"}


def digest(*parts: str, length: int = 12) -> str:
    """Hash texts, in order, to a short hexadecimal string (SHA-256, cut to ``length`` digits)."""
    joined = "\0".join(parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:length]


def chapters() -> list[Path]:
    """Sources of all chapters, ``notebooks/NN_name.md``, in reading order."""
    return sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.md"))


def chapter_source(chapter: str | Path) -> Path:
    """Path of a chapter's source.

    Parameters
    ----------
    chapter
        A chapter's name (``"04_hardness"``) or the path of its ``.md`` source.

    Raises
    ------
    ValueError
        If there is no such chapter; the message lists those there are.
    """
    source = Path(chapter) if str(chapter).endswith(".md") else paths.NOTEBOOKS / f"{chapter}.md"
    if not source.is_file():
        known = ", ".join(path.stem for path in chapters()) or f"none in {paths.NOTEBOOKS}"
        raise ValueError(f"chapter={str(chapter)!r} is not a chapter; chapters: {known}")
    return source


def read_source(source: Path) -> Any:
    """Read a chapter's MyST source as an (unexecuted) notebook node."""
    import jupytext  # only here: a run that just draws a figure away from the repository can do without

    return jupytext.read(source, fmt="md:myst")


def normalise(code: str) -> str:
    """Canonical text of Python code without comments, docstrings and layout.

    Code that Python cannot parse (IPython magics) is returned as it stands.
    """
    try:
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
    return ast.unparse(tree)


def cell_code(cell: Any) -> str:
    """Canonical text of a notebook's code cell, with those of its tags that change how it is executed."""
    tags = sorted(_EXECUTION_TAGS.intersection(cell.metadata.get("tags", [])))
    return "\n".join([normalise(cell.source), *tags])


def imported_modules(code: str) -> set[str]:
    """Names of the ``tsl`` modules that a piece of code imports (``"cot"`` for ``from tsl import cot``).

    Absolute and relative imports are found wherever they stand, also inside functions.

    Raises
    ------
    ValueError
        If the code cannot be read: what it depends on is then not known.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:  # magics of IPython; elsewhere a line may well begin with a % that is an operator
        try:
            tree = ast.parse(_MAGIC.sub("#", code))
        except SyntaxError as error:
            raise ValueError(
                f"code must be Python, IPython's magics apart, got {error}: {code[:80]!r}"
            ) from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: the package is flat, so one dot is `tsl`
                base = f"tsl.{base}".rstrip(".")
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tsl":
            names.add(f"tsl.{node.attr}")
    found = {parts[1] for name in names if (parts := name.split("."))[0] == "tsl" and len(parts) > 1}
    return {name for name in found if _module(name).is_file()}


def _module(name: str) -> Path:
    return paths.PACKAGE / f"{name}.py"


def closure(codes: list[str]) -> list[str]:
    """Names of all ``tsl`` modules that pieces of code depend on, through any chain of imports, sorted.

    ``__init__`` always belongs to it: importing any module runs it.
    """
    pending = {"__init__"}.union(*(imported_modules(code) for code in codes))
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        if _module(name).is_file():
            pending |= imported_modules(_module(name).read_text()) - seen
    return sorted(seen)


def code_version(chapter: str | Path) -> str:
    """Short hash of a chapter's code and of every ``tsl`` module it depends on.

    Parameters
    ----------
    chapter
        A chapter's name (``"04_hardness"``) or the path of its ``.md`` source.

    Returns
    -------
    str
        Twelve hexadecimal digits. They change with the code, and with nothing else: not with prose, captions,
        comments, docstrings, time stamps or commits.

    Raises
    ------
    ValueError
        If there is no such chapter.
    """
    if paths.NOTEBOOKS.is_dir():
        notebook = read_source(chapter_source(chapter))
        codes = [cell_code(cell) for cell in notebook.cells if cell.cell_type == "code"]
        names = closure(codes)
    else:  # an installed package away from its repository: the sources are not at hand, all of the package counts
        codes = [str(chapter)]
        names = sorted(path.stem for path in paths.PACKAGE.glob("*.py"))
    modules = [f"{name}\n{normalise(_module(name).read_text())}" for name in names if _module(name).is_file()]
    return digest(*codes, *modules)
