"""The house: who may import whom, no circle, and nothing that stands twice.

Science takes tensors and gives tensors; words are what a chapter is written with; lab holds experiments; press runs and renders.
"""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tsl import paths

WORDS = {"runs", "texts", "claims", "figures", "pictures", "versions", "cli"}
HELPERS = {"_draw", "_validate", "paths"}
MODULES = {
    ".".join(path.relative_to(paths.PACKAGE).with_suffix("").parts): path
    for path in sorted(paths.PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}


def floor(module: str) -> str:
    """Which part of the house a module belongs to."""
    if "." in module:
        return module.split(".")[0]
    return "words" if module in WORDS else "helpers" if module in HELPERS else "science"


MAY = {
    "helpers": {"helpers"},
    "science": {"helpers", "science"},
    "words": {"helpers", "words"},
    "lab": {"helpers", "science", "lab", "versions"},
    "press": {"helpers", "words", "press"},
}


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        for name in names:
            if name.startswith("tsl.") and name.removeprefix("tsl.") in MODULES:
                yield name.removeprefix("tsl.")


ARROWS = {module: set(imported(path)) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_part_of_the_house_may(module: str) -> None:
    allowed = MAY[floor(module)]
    wrong = {name for name in ARROWS[module] if not {floor(name), name} & allowed}
    assert wrong == set() or module == "cli"  # the front door opens the room that a command asks for


def test_nobody_but_the_command_line_imports_the_press() -> None:
    callers = {module for module, names in ARROWS.items() for name in names if floor(name) == "press"}
    assert {name for name in callers if floor(name) != "press"} <= {"cli"}
    sources = [path.read_text(encoding="utf-8") for path in paths.NOTEBOOKS.glob("*.md")]
    assert not any("tsl.press" in text for text in sources)


def test_there_is_no_circle() -> None:
    left = {module: set(names) for module, names in ARROWS.items()}
    while ground := {module for module, names in left.items() if not names & left.keys()}:
        for module in ground:
            del left[module]
    assert left == {}


def functions(path: Path) -> dict[str, str]:
    """Bodies of a module's functions of more than two lines, without names, docstrings and layout."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if len(body) > 2:
                found[node.name] = "\n".join(ast.unparse(line) for line in body)
    return found


def test_no_function_stands_twice() -> None:
    every = [
        (f"{module}.{name}", body)
        for module, path in MODULES.items()
        for name, body in functions(path).items()
    ]
    twice = [(a, b) for (a, one), (b, other) in itertools.combinations(every, 2) if one == other]
    assert twice == []


#: What every experiment of the lab offers, so that one command runs any of them.
EXPERIMENT = {"settings", "job", "headline"}


def test_public_names_are_unique() -> None:
    """A reader who meets a name knows which room it is from."""
    rooms: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        if module == "cli":  # commands are called after what they do
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                rooms.setdefault(node.name, []).append(module)
    twice = {
        name: [room for room in where if room not in ("_draw", "_validate")] for name, where in rooms.items()
    }
    assert {name: where for name, where in twice.items() if len(where) > 1 and name not in EXPERIMENT} == {}
