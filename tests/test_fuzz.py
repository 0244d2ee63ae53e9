"""Inputs that nobody would write, by the hundred: each gives an answer or a message, never a traceback of another kind.

``COUNTS`` says how many are tried of each kind.
"""

import contextlib
import io
import json
import keyword
import math
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
import yaml
from conftest import _unchecked
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tsl import advice, claims, cli, logs, runs, training
from tsl.lab import records
from tsl.press import chapters

COUNTS = {
    "rows of the ledger": 300,
    "records": 300,
    "damaged records": 300,
    "checkpoints": 100,
    "damaged checkpoints": 300,
    "command lines": 150,
    "parameters cells": 200,
    "logs": 60,
}


def tries(kind: str) -> settings:
    return settings(max_examples=COUNTS[kind], suppress_health_check=list(HealthCheck))


# All that JSON of Python can hold, NaN and infinities included, nested as it comes.
leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["inf", "nan"])
)
anything = st.recursive(
    leaf, lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=5), some, max_size=4)
)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def answer(call):
    """What a call gives, and the message if it refuses its input."""
    try:
        with _unchecked():
            return call(), ""
    except (ValueError, training.CheckpointError) as problem:
        return None, str(problem)


ROW = {
    "id": "C1", "title": "t", "origin": "paper", "source": "s", "evidence": ["simulation"], "statement": "x",
    "chapter": "01_the_task", "expected": "holds", "bounds": "b", "breaks": "z",
}  # fmt: skip


@tries("rows of the ledger")
@given(
    field=st.sampled_from([*ROW, "unknown", "condition", 3, None]),
    value=anything | st.dates() | st.binary(max_size=3),
)
@example(field="evidence", value=["simulation", "hope"])
@example(field="evidence", value=[["simulation"]])
@example(field="expected", value={"holds": 1})
@example(field="origin", value=["paper"])
def test_a_row_of_the_ledger_is_read_or_refused(folder, field, value):
    path = folder / "claims.yml"
    path.write_text(yaml.safe_dump([ROW | {field: value}], allow_unicode=True), encoding="utf-8")
    found, message = answer(lambda: claims.load(path))
    if found is None:
        assert "claims.yml" in message or "C1" in message
    else:
        (claim,) = found.values()
        assert all(isinstance(text, str) and text.strip() == text for text in (claim.title, claim.breaks))
        assert set(claim.evidence) <= set(claims.EVIDENCE)


def same(one, other):
    """Equal, where NaN is equal to itself and a number to its six digits."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@tries("records")
@given(
    result=st.dictionaries(st.text(max_size=5), anything, min_size=1, max_size=3),
    point=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
@example(result={"": None}, point={})
@example(result={"": math.nan}, point={})
@example(result={"": ""}, point={})
@example(result={"": [[[[[math.nan, -math.inf]]]]]}, point={"": ""})
def test_a_record_is_read_back_as_it_was_made(folder, result, point):
    made = records.make_record(point, result, 1.0, "code")
    found = records.load_record(records.save_record(folder / "record.json", made))
    assert same(found, made)
    assert same(records.make_record(point, found["result"], 1.0, "code")["result"], found["result"])
    assert records.key(found["settings"]) == records.key(point)


WHOLE = json.dumps(
    records.make_record({"n": 3}, {"error": [1.0, math.nan]}, 1.0, "code")
    | {"result": {"error": [1, None, "inf"]}}
)


@tries("damaged records")
@given(
    cut=st.integers(0, len(WHOLE)), put=st.text(max_size=6) | st.just("[" * 20_000), drop=st.integers(0, 40)
)
@example(cut=0, put="[" * 100_000, drop=len(WHOLE))
@example(cut=0, put="null", drop=len(WHOLE))
def test_a_damaged_record_is_named_or_still_one(folder, cut, put, drop):
    path = folder / "damaged.json"
    path.write_bytes((WHOLE[:cut] + put + WHOLE[cut + drop :]).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ValueError):
        assert isinstance(records.describe(records.load_record(path) | {"libraries": {"torch": "2"}}), str)


def is_json(value):
    """Whether all numbers are such as JSON has: no NaN, no infinity."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False


@tries("damaged records")
@given(
    field=st.sampled_from(["settings", "code", "device", "libraries", "seconds", "date", "format"]),
    value=anything,
)
def test_a_record_with_a_field_of_another_kind_is_refused(folder, field, value):
    kind = {"settings": dict, "libraries": dict, "seconds": (int, float)}.get(field, str)
    path = folder / "kind.json"
    path.write_text(json.dumps(json.loads(WHOLE) | {field: value}), encoding="utf-8")
    right = isinstance(value, kind) and not isinstance(value, bool) and field != "format"
    if right and is_json(value):
        records.load_record(path)
        return
    with pytest.raises(ValueError, match="is not a record"):
        records.load_record(path)


deep = st.integers(300, 3000)


@given(depth=deep)
@settings(max_examples=20)
def test_a_record_nested_beyond_reason_is_named(folder, depth):
    path = folder / "deep.json"
    path.write_text(WHOLE.replace('[1, null, "inf"]', "[" * depth + "]" * depth))
    with contextlib.suppress(ValueError):  # it is read, or refused by name
        records.load_record(path)


@tries("checkpoints")
@given(
    values=st.lists(st.floats(width=32), max_size=6),
    identity=st.dictionaries(st.text(max_size=5), st.integers()),
)
@example(values=[math.nan, math.inf, -0.0], identity={})
def test_a_checkpoint_keeps_every_bit(folder, values, identity):
    path = folder / "some.safetensors"
    tensors = {"w": torch.tensor(values), "step": torch.tensor(3)}
    training.save_checkpoint(path, tensors, identity)
    found = training.load_checkpoint(path, identity)
    assert {name: value.numpy().tobytes() for name, value in found.items()} == {
        name: value.numpy().tobytes() for name, value in tensors.items()
    }
    with pytest.raises(training.CheckpointError, match="belongs to another run"):
        training.load_checkpoint(path, identity | {"another": 1, "0": "text"})


@pytest.fixture(scope="module")
def checkpoint(folder):
    path = folder / "whole.safetensors"
    training.save_checkpoint(
        path, {"w": torch.arange(5.0), "generator": torch.zeros(4, dtype=torch.uint8)}, {"n": 3}
    )
    return path.read_bytes()


@tries("damaged checkpoints")
@given(data=st.data())
def test_a_damaged_checkpoint_never_passes_for_a_whole_one(folder, checkpoint, data):
    place = data.draw(st.integers(0, len(checkpoint) - 1))
    put, drop = data.draw(st.binary(max_size=4)), data.draw(st.integers(0, 50))
    changed = checkpoint[:place] + put + checkpoint[place + drop :]
    path = folder / "damaged.safetensors"
    path.write_bytes(changed)
    found, message = answer(lambda: training.load_checkpoint(path, {"n": 3}))
    if found is None:
        assert "damaged.safetensors" in message
    else:  # white space in its header
        assert torch.equal(found["w"], torch.arange(5.0))


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
pieces = words | st.sampled_from(
    [
        "--seed",
        "--profile",
        "ci",
        "-1",
        "nan",
        "--n",
        "0",
        "--m",
        "1e400",
        "--dim",
        "n=",
        "=",
        "n=1,,2",
        "--out",
        "--order",
        "[" * 4000,
    ]
)


@tries("command lines")
@given(
    command=st.sampled_from(["sweep", "diagnose", "claims", "counts", "think", "plan", "figure", "none"]),
    rest=st.lists(pieces, max_size=5),
)
@example(command="sweep", rest=["nothing", "n=" + "[" * 100_000])
@example(command="claims", rest=["C99"])
@example(command="diagnose", rest=["/dev/null"])
def test_a_command_line_ends_with_a_status(command, rest, monkeypatch_module):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = cli.main([command, *rest])
    assert status in (0, 1, 2)
    assert status == 0 or out.getvalue().strip()


@pytest.fixture(scope="module")
def monkeypatch_module(folder):
    """No command line of these may run a chapter or train: it would be found out by its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield patch


names = st.from_regex(re.compile(r"[a-z_]{1,8}", re.ASCII), fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
) | st.sampled_from(["seed", "device", "profile"])
PLAIN = ("{} = 0", "{}=0", "{}: int = 0", "{} : int=0", "{}: 'a' = 0  # = 1")
ODD = (  # other lines, of which some would bind a parameter past the one that is asked for
    "{} == 0", "    {} = 0", "{}.x = 0", "f({}=0)", "{}", "{}, other = 0, 0", "({}) = other = 0", "if 1: {} = 0",
    "for {} in []: pass", "{} += 1", "a = ({} := 1)", "import {}", "from x import y as {}", "def {}(): pass",
    "a = {} + 1", "{} = 1 + 1", "{} = \'\'\'\n\'\'\'",
)  # fmt: skip


@tries("parameters cells")
@given(
    lines=st.lists(st.tuples(names, st.sampled_from([*PLAIN, "# {} = 0", *ODD])), max_size=5),
    noise=st.text(max_size=10),
)
def test_a_chapter_is_given_the_parameters_that_its_cell_assigns(lines, noise):
    text = "\n".join(style.format(name) for name, style in lines)
    cell = nbformat.v4.new_code_cell(text + "\n# " + re.sub("[\r\n\0]", " ", noise))
    cell.metadata["tags"] = ["parameters"]
    found, message = answer(lambda: chapters._taken(SimpleNamespace(cells=[cell]), chapters.Settings("ci")))
    named = [name for name, style in lines if style in PLAIN]
    if any(style in ODD for _, style in lines) or len(set(named)) < len(named):
        assert message.startswith("a cell of parameters must")
    else:
        assert set(found) == set(named) & {"profile", "device", "seed"}


@tries("parameters cells")
@given(profile=anything, device=anything, seed=anything)
def test_a_run_begins_or_its_parameter_is_named(profile, device, seed):
    for given_ in ({"profile": profile}, {"device": device}, {"seed": seed}):
        run, message = answer(lambda given_=given_: runs.start("01_the_task", **given_))
        assert next(iter(given_)) in message if run is None else run.seed >= 0


marks = st.sampled_from([0, 1, True, False, "true", "no", None, 0.5, math.nan, "C", "I", ""])
plain_marks = st.lists(st.integers(0, 1), min_size=4, max_size=4)
extra = st.sampled_from(["model", "benchmark", "tokens", "id", "score", "effort", "x"])


@tries("logs")
@given(
    questions=st.lists(
        st.tuples(st.text(max_size=3) | st.integers(0, 9), plain_marks), min_size=1, max_size=8
    ),
    levels=st.lists(st.text(max_size=3) | st.integers(-1, 2000), min_size=1, max_size=4, unique_by=str),
    odd=st.lists(
        st.tuples(st.integers(0, 31), st.sampled_from(["question", "level", "correct"]), marks), max_size=2
    ),
    more=st.dictionaries(extra, marks | st.floats() | st.text(max_size=3), max_size=3),
)
def try_logs(judged, questions, levels, odd, more):
    rows = [
        {"question": name, "level": level, "correct": mark, **more}
        for name, right in questions
        for level, mark in zip(levels, right, strict=False)
    ]
    for place, name, value in odd:
        rows[place % len(rows)][name] = value
    found, message = answer(
        lambda: advice.budget_helps(logs.understand(pd.DataFrame(rows), {}, (), []), 0.95)
    )
    assert message if found is None else str(found)
    judged.append(found is not None)


def test_a_log_is_judged_or_refused():
    judged = []
    try_logs(judged)
    assert 10 < sum(judged) < len(judged)  # some of either


def test_a_name_beyond_all_integers_is_a_name():
    rows = [{"question": q, "level": v, "correct": q % 2, "model": 2.0**63} for q in range(9) for v in (1, 2)]
    assert str(advice.budget_helps(logs.understand(pd.DataFrame(rows), {}, (), []), 0.95))
