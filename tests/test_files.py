"""Files are written whole: whoever fails, is killed or writes at the same time."""

import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tsl import paths, training
from tsl.lab import records


def save_text(path: Path, who: int) -> None:
    paths.write_whole(path, str(who) * 200_000)


def save_record(path: Path, who: int) -> None:
    records.save_record(path, records.make_record({"who": who}, {"error": [float(who)] * 2000}, 1.0, "c0de"))


def save_checkpoint(path: Path, who: int) -> None:
    training.save_checkpoint(path, {"w": torch.full((50_000,), float(who))}, {"who": who})


def whole_text(path: Path) -> bool:
    text = path.read_text()
    return len(text) == 200_000 and len(set(text)) == 1


def whole_record(path: Path) -> bool:
    record = records.load_record(path)
    return record["result"] == {"error": [float(record["settings"]["who"])] * 2000}


def whole_checkpoint(path: Path) -> bool:
    return len(set(training.load_checkpoint(path)["w"].tolist())) == 1  # and its digest was right


WRITERS = [(save_text, whole_text), (save_record, whole_record), (save_checkpoint, whole_checkpoint)]


@pytest.mark.parametrize(("save", "whole"), WRITERS)
def test_writers_of_one_file_in_one_process_never_leave_it_damaged(tmp_path, save, whole):
    path, errors = tmp_path / "file", []
    save(path, 0)
    start = threading.Barrier(3)

    def write(who):
        start.wait()
        try:
            for _ in range(8):
                save(path, who)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(who,)) for who in (1, 2)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        assert whole(path)
    assert errors == []
    assert whole(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def _write_often(path: Path, who: int, start) -> None:
    start.wait()
    for _ in range(100):
        save_text(path, who)


def test_writers_of_one_file_in_two_processes_never_leave_it_damaged(tmp_path):
    path, context = tmp_path / "file", multiprocessing.get_context("fork")
    save_text(path, 0)
    start = context.Barrier(3)
    writers = [context.Process(target=_write_often, args=(path, who, start)) for who in (1, 2)]
    for writer in writers:
        writer.start()
    start.wait(30)
    while any(writer.is_alive() for writer in writers):
        assert whole_text(path)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fdopen", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(5, "broken"), KeyboardInterrupt()])
def test_whatever_fails_the_old_file_stays_and_nothing_beside_it(tmp_path, monkeypatch, step, failure):
    path = paths.write_whole(tmp_path / "deep" / "file", "old")

    def fail(*args):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(paths.os, step, fail)
        with pytest.raises(type(failure)):
            paths.write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_what_is_written_reaches_the_disk_before_its_name_does(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(paths.os, name, lambda *a, name=name, real=real: (order.append(name), real(*a)))
    for save, _ in WRITERS:
        save(tmp_path / "file", 1)
    paths.write_whole(tmp_path / "file", "x")
    assert order == ["fsync", "replace"] * 4


def test_all_may_read_what_is_written(tmp_path):
    before = os.umask(0o077)
    try:
        paths.write_whole(tmp_path / "a.ipynb", "é")
        paths.write_whole(tmp_path / "b", b"\x00\xff")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
    assert (tmp_path / "a.ipynb").read_bytes() == "é".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_writing_a_file_takes_no_torch():
    code = "import sys; from tsl import paths; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
