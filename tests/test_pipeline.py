"""The pipeline's parts: what a chapter depends on, what is kept of a run, what is refused."""

import atexit
import io
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsl import cli, paths, versions
from tsl.press import chapters

HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# A chapter

Some prose.

```{code-cell} ipython3
:tags: [parameters]
profile = "laptop"
device = "cpu"
seed = 0
```

"""
CHAPTER = (
    HEAD
    + """```{code-cell} ipython3
---
mystnb:
  figure: {name: fig-a, caption: "A caption."}
---
from tsl import alpha
print(alpha.value())  # a comment
```
"""
)
ALPHA = '''"""Alpha."""
from tsl import beta


def value() -> int:
    """Return beta's constant."""
    return beta.CONSTANT
'''


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A repository with one chapter that uses `alpha`, which uses `beta`; `gamma` is used by nobody."""
    package, sources = tmp_path / "tsl", tmp_path / "notebooks"
    package.mkdir()
    sources.mkdir()
    for name, text in {
        "__init__": "",
        "alpha": ALPHA,
        "beta": "CONSTANT = 1\n",
        "gamma": "CONSTANT = 1\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    chapter = sources / "01_first.md"
    chapter.write_text(CHAPTER)
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "NOTEBOOKS", sources)
    return SimpleNamespace(root=tmp_path, package=package, chapter=chapter)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Some prose.", "Other prose."),
        ("A caption.", "Another caption."),
        ("  # a comment", ""),
        ("print(alpha.value())", "print( alpha.value( ) )"),
    ],
)
def test_rewording_a_chapter_keeps_its_code_version(tiny: SimpleNamespace, old: str, new: str) -> None:
    before = versions.code_version("01_first")
    assert old in CHAPTER
    tiny.chapter.write_text(CHAPTER.replace(old, new))
    assert versions.code_version("01_first") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("alpha.value()", "alpha.value() + 1"), ("seed = 0", "seed = 1"), (":tags: [parameters]\n", "")],
)
def test_changing_a_chapters_code_changes_its_code_version(tiny: SimpleNamespace, old: str, new: str) -> None:
    before = versions.code_version("01_first")
    assert old in CHAPTER
    tiny.chapter.write_text(CHAPTER.replace(old, new))
    assert versions.code_version("01_first") != before


@pytest.mark.parametrize(
    "code",
    [
        "from tsl import beta\nx = (7\n     % 3)\n",  # an operator, not a magic
        "%matplotlib inline\nfrom tsl import beta\n!ls\n",
    ],
)
def test_lines_that_look_like_magics_hide_no_import(tiny: SimpleNamespace, code: str) -> None:
    assert versions.imported_modules(code).keys() == {"__init__", "beta"}


def test_chapters_read_at_once_do_not_disturb_each_other(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Places where nothing can be imported from, which Python forgets whenever modules are looked for.
    gone = {f"/nowhere/{number}": None for number in range(3000)}
    monkeypatch.setattr(sys, "path_importer_cache", sys.path_importer_cache | gone)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(versions.code_version, ["01_first"] * 8))
    finally:
        sys.setswitchinterval(usual)
    assert found == {versions.code_version("01_first")}


def test_code_that_cannot_be_read_is_refused(tiny: SimpleNamespace, refuses: Any) -> None:
    with refuses("code must be Python"):
        versions.imported_modules("from tsl import")
    tiny.chapter.write_text(CHAPTER.replace("print(alpha", "print alpha"))
    with refuses("01_first: code must be Python"):
        versions.code_version("01_first")
    tiny.chapter.write_text(CHAPTER)
    (tiny.package / "beta.py").write_text("CONSTANT =")
    with refuses(r"01_first: tsl\.beta must be Python"):
        versions.code_version("01_first")


def test_a_chapter_without_a_device_runs_on_the_processor(tiny: SimpleNamespace) -> None:
    asked = chapters.Settings("ci", "cuda:0", 3)
    assert chapters.own(tiny.chapter, asked) == asked
    tiny.chapter.write_text(CHAPTER.replace('device = "cpu"\n', ""))
    assert chapters.own(tiny.chapter, asked) == chapters.Settings("ci", "cpu", 3)


def test_code_version_follows_imports_through_modules_and_no_further(tiny: SimpleNamespace) -> None:
    before = versions.code_version(tiny.chapter)
    (tiny.package / "gamma.py").write_text("CONSTANT = 2\n")
    (tiny.package / "alpha.py").write_text(ALPHA.replace("beta's constant", "what beta says"))
    assert versions.code_version(tiny.chapter) == before
    (tiny.package / "beta.py").write_text("CONSTANT = 2\n")
    assert versions.code_version(tiny.chapter) != before


@pytest.mark.parametrize(
    "code",
    [
        "from tsl import beta",
        "import tsl.beta",
        "from tsl.beta import CONSTANT",
        "def f():\n    from tsl import beta",
        "def f():\n    class C:\n        import tsl.beta as b",
        "%matplotlib inline\nfrom tsl import beta",
        "from tsl.inner import deep",
        "import tsl.inner.deep",
    ],
)
def test_every_way_to_import_a_module_is_seen(tiny: SimpleNamespace, code: str) -> None:
    inner = tiny.package / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("")
    (inner / "deep.py").write_text("from ..beta import CONSTANT\nfrom . import deeper\n")
    (inner / "deeper.py").write_text("import torch\n")
    found = versions.imported_modules(code)
    deep = {"inner", "inner.deep", "inner.deeper"} if "inner" in code else set()
    assert found.keys() == {"__init__", "beta"} | deep
    assert all(path.is_relative_to(tiny.package) for path in found.values())


def test_the_version_of_a_module_is_that_of_all_it_imports(tiny: SimpleNamespace, refuses: Any) -> None:
    inner = tiny.package / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("")
    (inner / "deep.py").write_text("from .. import beta\n")

    def found() -> list[str]:
        return [versions.module_version(name) for name in ("gamma", "beta", "alpha", "inner.deep")]

    before = found()
    assert len(set(before)) == 4
    assert {len(version) for version in before} == {12}
    (tiny.package / "beta.py").write_text("CONSTANT = 2\n")
    assert [a == b for a, b in zip(before, found(), strict=True)] == [True, False, False, False]
    with refuses("module must be one of the package tsl, got 'delta'"):
        versions.module_version("delta")


def test_threads_that_parse_at_once_do_not_disturb_each_other() -> None:
    """Python 3.11 would miscount the depth of their trees."""
    with ThreadPoolExecutor(4) as pool:
        texts = [f"x = {number}\n" * 300 + f"y = {'(' * 50}1{')' * 50} + {number}\n" for number in range(60)]
        found = list(pool.map(versions.normalise, texts))
    assert found == [versions.normalise.__wrapped__(text) for text in texts]
    assert len(set(found)) == len(texts)


ODD = r"""
z = f"{x!r:>{w}}a" 'b' f"{y=}" f"{{c}}" f"{a['k']}\n" "\u00e9\U0001FAE8" rf"\d{q}" f"{x:%Y}" f"{'a' f'{b}'}" f""
y = f'{x:}' f'{x!s:}' f'{{}}' f'{x}' f'{y}'
def g(*, a: int = 1, **k) -> None: "documented"
class A: x: int = 3; "not documented"
async def h(): return [i async for i in q if i], {**a}, lambda *a, b=1e-300: 1j, ..., b"\xff", -0.0, None
match z:
    case {"a": [1, *r], **kw} | A(x=3): pass
try: pass
except* ValueError: pass
with (open(a) as b, c): x = u"k"
"""


def test_code_has_the_same_version_on_every_python() -> None:
    """The hash was computed on Python 3.11.2, 3.11.7, 3.12.1 and 3.13.0, whose syntax trees and `ast.unparse` differ."""
    assert versions.digest(versions.normalise(ODD)) == "6f30d706f492"
    for code, other in (
        ("f'{x}a'", "f'{x}' 'b'"),
        ("f'{x:>3}'", "f'{x:>4}'"),
        ("x = None", "x = ''"),
        ("-0.0", "0.0"),
    ):
        assert versions.normalise(code) != versions.normalise(other)
    assert versions.normalise("f'a' 'b' f'{x}'") == versions.normalise("f'ab{x}'")


def test_a_magic_is_compared_as_text_and_a_lone_string_is_code() -> None:
    assert versions.normalise("%time x") == "%time x"
    assert versions.normalise('"shown"') != versions.normalise('"something else"')
    assert versions.normalise('def f():\n    "One."') == versions.normalise('def f():\n    "Two."')


def test_an_unknown_chapter_is_named_with_those_there_are(tiny: SimpleNamespace, refuses: Any) -> None:
    with refuses(r"chapter='02_other' is not a chapter; chapters: 01_first"):
        versions.code_version("02_other")


def _executed(pieces: list[str], injected: bool = True) -> nbformat.NotebookNode:
    """A notebook as papermill leaves it; ``pieces`` are one stream as it happened to arrive."""
    source = versions.read_source(paths.NOTEBOOKS / "01_first.md")
    source.metadata["papermill"] = {"duration": 1.25}
    for cell in source.cells:
        cell.metadata["papermill"] = {"start_time": "now"}
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    code[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=piece) for piece in pieces]
    if injected:
        extra = nbformat.v4.new_code_cell('profile = "ci"', metadata={"tags": ["injected-parameters"]})
        source.cells.insert(2, extra)
    return source


@given(cuts=st.lists(st.integers(0, 12), max_size=6), injected=st.booleans())
def test_what_is_kept_of_a_run_does_not_depend_on_the_run(cuts: list[int], injected: bool) -> None:
    text = "one\ntwo\nthree"
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "NOTEBOOKS", _folder_with_chapter())
        kept = chapters.dumps(chapters.clean(_executed(pieces, injected)))
        plain = chapters.dumps(chapters.clean(_executed([text], injected=False)))
    assert kept == plain
    assert "papermill" not in kept
    again = chapters.clean(nbformat.reads(kept, as_version=4))
    assert chapters.dumps(again) == kept


@cache
def _folder_with_chapter() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tsl-chapter-"))
    atexit.register(shutil.rmtree, folder)
    paths.write_whole(folder / "01_first.md", CHAPTER)
    return folder


def test_prose_and_captions_come_from_the_source_and_outputs_from_the_run(tiny: SimpleNamespace) -> None:
    executed = chapters.clean(_executed(["1\n"]))
    tiny.chapter.write_text(
        CHAPTER.replace("Some prose.", "New prose.").replace("A caption.", "New caption.")
    )
    merged = chapters.merge(versions.read_source(tiny.chapter), executed)
    text = chapters.dumps(merged)
    assert "New prose." in text
    assert "New caption." in text
    assert merged.cells[-1].outputs[0].text == "1\n"
    assert [cell.id for cell in merged.cells] == ["cell-001", "cell-002", "cell-003"]


def test_outputs_are_never_put_under_code_that_did_not_make_them(tiny: SimpleNamespace, refuses: Any) -> None:
    executed = chapters.clean(_executed(["1\n"]))
    tiny.chapter.write_text(CHAPTER.replace("alpha.value()", "alpha.value() + 1"))
    with refuses("code cells differ"):
        chapters.merge(versions.read_source(tiny.chapter), executed)


def test_a_file_is_seen_as_it_was_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    paths.write_whole(target, "old")

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paths.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paths.write_whole(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["book", "--profile", "huge"], "profile must be one of ci, laptop, paper, got 'huge'"),
        (["book", "--device", "tpu"], "device must be one of"),
        (["book", "--device", "cuda:99"], "device must be one of"),
        (["publish", "--seed", "-1"], "'--seed': -1 is not in the range 0<=x<=4294967295"),
        (["execute", "99_nothing"], "chapter='99_nothing' is not a chapter; chapters: 01_first"),
        (["serve", "--port", "70000"], "'--port': 70000 is not in the range 0<=x<=65535"),
        (["book", "--seed", "one"], "'--seed': 'one' is not a valid integer"),
        (["bind"], "No such command 'bind'"),
        ([], "Usage: tsl [OPTIONS] COMMAND"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_write_nothing(
    tiny: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = sorted(tiny.root.rglob("*"))
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(tiny.root.rglob("*")) == before


def test_a_chapter_that_cannot_be_read_is_a_failing_chapter(tiny: SimpleNamespace) -> None:
    tiny.chapter.write_text(CHAPTER.replace("print(alpha", "print alpha"))
    said: list[str] = []
    (outcome,) = chapters.execute([tiny.chapter], chapters.Settings("ci"), say=said.append)
    assert "01_first: code must be Python" in str(outcome.error)
    assert [line.split(" after")[0] for line in said] == ["  01_first: FAILED"]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand-ins for an experiment and for the store of records; `calls` holds how the store was asked."""

    def settings(**axes: Any) -> dict[str, Any]:
        if unknown := axes.keys() - {"n", "kind"}:
            raise ValueError(f"axes must be n, kind, got {', '.join(unknown)}")
        return {"n": 1, "kind": "a"} | axes

    def sweep(job: Any, points: list[dict[str, Any]], folder: Path, **options: Any) -> list[Any]:
        calls.append(SimpleNamespace(job=job, folder=folder, **options))
        return [{"settings": point} for point in points]

    def grid(**axes: list[Any]) -> list[dict[str, Any]]:
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]

    calls: list[SimpleNamespace] = []
    records = SimpleNamespace(sweep=sweep, grid=grid)
    experiment = SimpleNamespace(
        settings=settings, job=print, headline=lambda record: str(record["settings"])
    )
    for name, module in {
        "tsl.lab": SimpleNamespace(records=records, transformers=experiment, __path__=[]),
        "tsl.lab.records": records,
        "tsl.lab.transformers": experiment,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(versions, "module_version", lambda module: f"version of {module}")
    return SimpleNamespace(calls=calls, job=print)


def test_a_sweep_asks_for_every_point_of_the_grid(
    lab: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "transformers", "n=4,6", "kind=b", "--folder", str(tmp_path / "out")]
    assert cli.main([*arguments, "--workers", "1", "--checkpoints", str(tmp_path / "ck")]) == 0
    assert capsys.readouterr().out == "{'n': 4, 'kind': 'b'}\n{'n': 6, 'kind': 'b'}\n"
    (call,) = lab.calls
    assert call.job.func is lab.job
    assert call.job.keywords == {"device": "cpu", "checkpoints": tmp_path / "ck", "progress": True}
    assert (call.folder, call.workers, call.scheduler) == (tmp_path / "out", 1, None)
    assert call.code == "version of lab.transformers"
    # The workers of a scheduler have devices of their own, and show no progress here.
    assert cli.main([*arguments, "--scheduler", "tcp://a:1", "--device", "cuda:9", "--workers", "1"]) == 0
    assert lab.calls[-1].scheduler == "tcp://a:1"
    assert lab.calls[-1].job.keywords == {"device": "cuda:9", "checkpoints": None, "progress": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["gardening"], "'gardening' is not one of 'transformers', 'reasoning'"),
        (["transformers", "n"], "name=value,value"),
        (["transformers", "n=4,"], "name=value,value, got 'n=4,'"),
        (["transformers", "colour=3"], "axes must be n, kind, got colour"),
        (["transformers", "n=4", "n=5"], "each field once"),
        (["transformers", "--device", "tpu"], "device must be one of"),
        (["transformers", "--workers", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    lab: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert lab.calls == []


def test_axes_are_read_as_json_and_else_as_text(refuses: Any) -> None:
    texts = ["n=10,20", "alpha=0.5,null", "encoding=pairs"]
    assert cli.parse_axes(texts) == {"n": [10, 20], "alpha": [0.5, None], "encoding": ["pairs"]}
    assert cli.parse_axes([]) == {}
    for text in ("n", "=1", "n=", "n=1,", "n=1,,2"):
        with refuses("name=value,value"):
            cli.parse_axes([text])
    with refuses("'n' again"):
        cli.parse_axes(["n=10", "d=2", "n=20"])


def test_a_command_that_is_interrupted_ends_with_status_130(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chapters, "execute", interrupted)
    assert cli.main(["execute"]) == 130
    assert "interrupted: what was finished is kept" in capsys.readouterr().err


def test_a_terminal_shows_what_is_under_way_and_how_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    board = chapters._Board(2, chapters._say)
    board.update("01_first", 3, 9)
    paths.write_whole(chapters.progress_log("01_first"), "step 1/8\rstep 2/8")
    patience = time.monotonic() + 20
    while "[0/2] running: 01_first 3/9 step 2/8" not in screen.getvalue() and time.monotonic() < patience:
        time.sleep(0.1)
    board.end("01_first", "ran in 1.0 s")
    board.close()
    assert "[0/2] running: 01_first 3/9 step 2/8" in screen.getvalue()
    assert "  01_first: ran in 1.0 s\n" in screen.getvalue()


def test_asking_for_help_takes_no_torch() -> None:
    code = "import sys; from tsl import cli; cli.main(['book', '-h']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
