"""Mutation testing of the code: a small slip in a module must turn one of its tests red.

    python tests/code_mutants.py [theory cot stopping claims] [--seconds 1200] [--write]

A slip changes one operator, comparison, number, truth value or condition, swaps the factors of a matrix product, or drops a
transpose, a square or a clamp. Texts, types and messages of errors are left alone. The tests are collected once; each slip is
put into a process parted from that one, which runs the tests that pass through the line, the quickest first, until one fails.
``--write`` renews ``tests/MUTATION.md``, with the slips that no test can find and the reason that `EQUIVALENT` gives.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import resource
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("MUTATION.md")
TESTS = {
    "theory": ("test_theory", "test_laws"),
    "cot": ("test_cot",),
    "stopping": ("test_stopping",),
    "claims": ("test_claims",),
}
LIMIT = 40  # seconds of processor time: a slip that makes a loop endless is found out by it

#: Slips that no test can find, since nothing observable changes: module, a part of what stood there, and why.
SAME = "the same to the last bits"
NEVER = "differs only where two real numbers are equal to the last bit, or where nothing is added"
ROUNDING = "a tolerance of rounding, moved by a small factor"
EQUIVALENT: list[tuple[str, str, str]] = [
    ("cot", "0 < _validate.positive(", "`positive` has refused 0 already"),
    ("theory", "True  ->  False", "`laws.mixture` has refused lists of unlike length"),
    ("theory", "law.second @ law.second", "the factors are the same matrix"),
    (
        "theory",
        "ratio.mT  ->  ratio",
        "eigvalsh reads one triangle of a matrix that is symmetric to rounding",
    ),
    (
        "theory",
        "similar.mT  ->  similar",
        "eigvalsh reads one triangle of a matrix that is symmetric to rounding",
    ),
    ("theory", ".clamp(min=0)", "only rounding is below zero"),
    ("theory", "eps >= len(hard)", NEVER + ": at eps = d the formula is 0, too"),
    ("theory", "1e-12", ROUNDING),
    ("theory", "1e-15", ROUNDING),
    ("theory", "finfo", ROUNDING),
    ("theory", "spectrum_edge(gamma, cov, m) > 2", NEVER),
    ("theory", "t.abs() > unseen", NEVER),
    ("theory", "0 < low < g", NEVER),
    ("theory", "high > g", NEVER),
    ("theory", "+ 0j", "zero is added"),
    (
        "theory",
        "eigvalsh(gamma)[0] > 0",
        "both ways to the eigenvalues agree to rounding for a Γ that is positive definite",
    ),
    (
        "theory",
        "torch.equal(gamma, gamma.mT)",
        "both ways to the eigenvalues agree to rounding for a Γ that is symmetric",
    ),
    (
        "theory",
        "gamma.mT  ->  gamma",
        "both ways to the eigenvalues agree to rounding for a Γ that is symmetric",
    ),
    ("theory", "covariance('cov', cov).double()", "to solve with a Γ in double promotes it"),
    ("theory", "cov.double()", "both ways agree to the precision of the input"),
    ("theory", "8192", "a rule of one point more"),
    (
        "theory",
        "torch.arange(count, dtype=torch.float64) + 0.5",
        "the integrand is even and vanishes at both ends",
    ),
    ("theory", "0.5  ->  0.75", "any start of a rule for a periodic function will do"),
    ("theory", "2 * math.sqrt(ratio) * torch.cos(theta)", "θ → π − θ is a symmetry of the rule"),
    ("theory", "math.log(ratio)", "both rules are exact where they meet"),
    ("theory", "0.02  ->  0.03", "both rules are exact where they meet"),
    ("theory", "-1  ->  1", "both axes of a square matrix are of a length"),
    ("theory", "1  ->  2  in  a + 1", "one average more, which nobody asks for"),
    ("theory", "steps - 1  ->  steps + 1", "two averages more, which nobody asks for"),
    ("theory", "a >= b  ->  a > b", "at a = b the average is symmetric"),
    ("theory", "(_identity(step) - step) @ powers[-1]", "a matrix commutes with its powers"),
    ("theory", "->  powers[j].mT @ (", "a trace is the same for factors in turn"),
    ("theory", "->  powers[k].mT @ (", "a trace is the same for factors in turn"),
    ("theory", "in  torch.where(unit > 0, unit, 1)", "a feature that never varies is zero in any unit"),
    ("stopping", "8  ->  9", "the grid is wide enough"),
    ("stopping", "3  ->  4", "the grid is wide enough"),
    ("stopping", "89  ->  90", "the grid is fine enough"),
    ("stopping", "unit > 0", "prompts without features are answered with zero whatever the unit"),
    (
        "stopping",
        "1.0  ->  1.5",
        "prompts without features or labels are answered with zero whatever the unit",
    ),
    ("stopping", "min(folds, m)", "folds without an example add nothing"),
    ("stopping", "-1  ->  1", "the last axis of a matrix is axis 1"),
    ("stopping", "100  ->  101", ROUNDING),
    ("stopping", "eps * max(m, d)", ROUNDING),
    ("stopping", "max(m, d)", ROUNDING),
    ("stopping", "score[:, 0].clone()", "nothing is written into it"),
    ("claims", "abs >= 0 and (tolerance > 0)", "what is left of it refuses the same"),
]
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,), ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,),
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin"}
DROPPED = {"clamp", "abs", "square", "sqrt", "log", "clone", "double", "strip"}


def slips(node: ast.expr) -> Iterator[ast.expr]:
    """What a tired author could have written in place of an expression."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield ast.Compare(node.left, [*ops[:i], other(), *ops[i + 1 :]], node.comparators)
        case ast.BinOp(op=ast.MatMult()):
            yield ast.BinOp(node.right, node.op, node.left)
        case ast.BinOp() if type(node.op) in OPERATORS:
            for other in OPERATORS[type(node.op)]:
                yield ast.BinOp(node.left, other(), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield node.operand
        case ast.IfExp():
            yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.5 if value else 1.0)
        case ast.Attribute(attr="mT"):
            yield node.value
        case ast.Call(func=ast.Attribute(attr=name)) if name in DROPPED:
            yield node.func.value  # type: ignore[attr-defined]
        case ast.Call(func=ast.Attribute(attr=name)) if name in NAMES:
            method = ast.Attribute(node.func.value, NAMES[name], ast.Load())  # type: ignore[attr-defined]
            yield ast.Call(method, node.args, node.keywords)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield ast.Call(ast.Name(NAMES[name], ast.Load()), node.args, node.keywords)


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every expression that may be changed: its parent, the field and the index in it."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise) or docstring:
                continue
            if isinstance(child, ast.expr):
                yield tree, field, index
            yield from places(child)


def mutants(source: str) -> Iterator[tuple[int, int, str, types.CodeType]]:
    """First and last line, the slip (an expression before and after), and the code of the changed module."""
    tree = ast.parse(source)

    def put(parent: ast.AST, field: str, index: int | None, new: ast.expr) -> None:
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new

    for parent, field, index in list(places(tree)):
        held = getattr(parent, field)
        before = held if index is None else held[index]
        found = list(slips(before))
        if isinstance(parent, ast.If | ast.While) and not isinstance(before, ast.Compare | ast.UnaryOp):
            found.append(ast.UnaryOp(ast.Not(), before))
        # A number says little without what it stands in.
        within = isinstance(before, ast.Constant) and isinstance(parent, ast.expr)
        place = f"  in  {ast.unparse(parent)}" if within else ""
        for after in found:
            put(parent, field, index, ast.copy_location(after, before))
            code = compile(ast.fix_missing_locations(tree), "slip", "exec")
            slip = f"{ast.unparse(before)}  ->  {ast.unparse(after)}{place}"
            yield before.lineno, before.end_lineno or before.lineno, slip, code
            put(parent, field, index, before)


def put_into(module: types.ModuleType, code: types.CodeType) -> None:
    """Give the functions and constants of a module those of another text of it; whoever imported them sees it."""
    changed = types.ModuleType(module.__name__)
    changed.__dict__.update({key: value for key, value in vars(module).items() if key.startswith("__")})
    exec(code, changed.__dict__)

    def swap(old: Any, new: Any) -> None:
        if isinstance(old, property):
            old, new = old.fget, new.fget
        if isinstance(old, types.FunctionType) and old.__module__ == module.__name__:
            old.__code__, old.__defaults__, old.__kwdefaults__ = (
                new.__code__,
                new.__defaults__,
                new.__kwdefaults__,
            )

    for name, new in vars(changed).items():
        old = vars(module).get(name)
        if isinstance(old, type) and old.__module__ == module.__name__:
            for key, own in vars(new).items():
                swap(vars(old).get(key), own)
        elif isinstance(old, types.FunctionType):
            swap(old, new)
        elif not name.startswith("__"):
            setattr(module, name, new)


class Examiner:
    """Takes the place of pytest's loop over tests: first all as they are, then those that pass through each slip."""

    def __init__(self, name: str, seconds: float, start: int) -> None:
        self.name, self.seconds, self.start = name, seconds, start
        self.only: set[str] = set()  # no others are tried, if any are named
        self.counts: Counter[str] = Counter()
        self.survivors: list[tuple[int, str, str]] = []  # line, slip, and why nobody can see it

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        module = importlib.import_module(f"tsl.{self.name}")
        path = Path(str(module.__file__))
        by_line: dict[int, list[pytest.Item]] = defaultdict(list)
        for item in self._watched(session.items, str(path)):
            for line in item.stash[LINES]:
                by_line[line].append(item)
        began = time.monotonic()
        for first, last, slip, code in mutants(path.read_text(encoding="utf-8")):
            if first < self.start or (self.only and slip not in self.only):
                continue
            if time.monotonic() - began > self.seconds:
                self.counts["not tried"] += 1
                continue
            chosen = {item.nodeid: item for line in range(first, last + 1) for item in by_line[line]}
            order = sorted(chosen.values() or session.items, key=lambda item: item.stash[SECONDS])
            status = in_child(lambda code=code, order=order: self._try(module, code, order))
            reason = why(self.name, slip)
            self.counts["found" if status else "equivalent" if reason else "survive"] += 1
            if not status:
                self.survivors.append((first, slip, reason))
                say(f"{self.name}:{first}: {slip}   [{len(chosen)} tests]")
        say(f"{self.name} {dict(self.counts)}, {time.monotonic() - began:.0f} s")
        return True

    def _watched(self, items: list[pytest.Item], file: str) -> list[pytest.Item]:
        lines: set[int] = set()

        def call(frame: types.FrameType, event: str, argument: Any) -> Any:
            return line if frame.f_code.co_filename == file else None

        def line(frame: types.FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        for item in items:
            lines.clear()
            began = time.process_time()
            sys.settrace(call)
            passed = run(item)
            sys.settrace(None)
            if not passed:
                pytest.exit(f"{item.nodeid} must pass before slips are tried", 3)
            item.stash[LINES], item.stash[SECONDS] = set(lines), time.process_time() - began
        return [item for item in items if item.stash[LINES]]

    @staticmethod
    def _try(module: types.ModuleType, code: types.CodeType, items: list[pytest.Item]) -> int:
        try:
            put_into(module, code)
        except Exception:  # the module cannot even be imported
            return 1
        return 0 if all(run(item) for item in items) else 1


def why(module: str, slip: str) -> str:
    """Reason why a slip changes nothing, or empty."""
    return next((reason for name, part, reason in EQUIVALENT if name == module and part in slip), "")


def page(results: dict[str, dict[str, Any]]) -> str:
    """The record, for a reader."""
    lines = [
        "# Slips in the code, and the tests that find them",
        "",
        "Made by `python tests/code_mutants.py --write`: each module with one operator,",
        "number or condition changed at a time, against",
        "its own tests (" + "; ".join(f"{name}: {', '.join(files)}" for name, files in TESTS.items()) + ").",
        "",
        "| Module | Slips | Found | Nothing changes | Survive | Not tried |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        counts = Counter(result["counts"])
        tried = counts["found"] + counts["equivalent"] + counts["survive"]
        lines.append(
            f"| {name} | {tried} | {counts['found']} | {counts['equivalent']} | {counts['survive']} | {counts['not tried']} |"
        )
    for title, wanted in (("Survive", False), ("Nothing that can be seen changes", True)):
        lines += ["", f"## {title}", "", "| Place | Slip | Why |", "|---|---|---|"]
        for name, result in results.items():
            for line, slip, reason in result["survivors"]:
                if bool(reason) == wanted:
                    shown = slip.replace("|", "\\|").replace("`", "'")
                    lines.append(f"| {name} {line} | `{shown}` | {reason} |")
    return "\n".join(lines) + "\n"


LINES, SECONDS = pytest.StashKey[set[int]](), pytest.StashKey[float]()


def run(item: pytest.Item) -> bool:
    """Whether a test passes."""
    runtestprotocol = importlib.import_module("_pytest.runner").runtestprotocol
    return all(report.passed for report in runtestprotocol(item, nextitem=None, log=False))


def say(text: str) -> None:
    """To the terminal, past pytest's capture."""
    os.write(SCREEN, f"{text}\n".encode())


def in_child(work: Callable[[], int]) -> int:
    """Exit status of a function in a process parted from this one, not zero if it used up its time."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + LIMIT, used + LIMIT))
        status = work()
    finally:
        os._exit(status)


SCREEN = 1


def main() -> None:
    global SCREEN
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="module")
    parser.add_argument("--seconds", type=float, default=3600, help="for each module")
    parser.add_argument("--start", type=int, default=0, help="line of the first slip")
    parser.add_argument(
        "--again", type=Path, help="only the slips that this file lists, as a run printed them"
    )
    parser.add_argument("--json", type=Path, help="keep the results there, a line for a module")
    parser.add_argument("--write", action="store_true", help=f"renew {RECORD.name}")
    options = parser.parse_args()
    SCREEN = os.dup(1)
    sys.path.insert(0, str(ROOT / "tests"))
    results: dict[str, dict[str, Any]] = {}
    for name in options.modules:
        examiner = Examiner(name, options.seconds, options.start)
        if options.again:
            found = re.findall(
                rf"^{name}:\d+: (.*?)(?:   \[\d+ tests\])?$", options.again.read_text(), re.MULTILINE
            )
            examiner.only = set(found)
        arguments = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
        files = [str(ROOT / "tests" / f"{test}.py") for test in TESTS[name]]
        pytest.main([*arguments, f"--rootdir={ROOT}", *files], plugins=[examiner])
        results[name] = {"counts": dict(examiner.counts), "survivors": examiner.survivors}
        if options.json:
            with options.json.open("a", encoding="utf-8") as out:
                out.write(json.dumps({name: results[name]}) + "\n")
    if options.write:
        RECORD.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
