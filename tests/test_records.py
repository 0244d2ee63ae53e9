"""Sweeps and records: every point once, whatever happens to the processes."""

import functools
import json
import math
import os
import signal
import time
import warnings
from pathlib import Path

import distributed
import pytest
import torch

from tsl.lab import reasoning, records, transformers


def square(settings):
    """Job of most tests: quick, and leaves a trace of having run."""
    with open(settings["log"], "a") as log:
        log.write(f"{settings['n']}\n")
    return {"value": settings["n"] ** 2}


def runs(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def points(log: Path, count: int = 4) -> list[dict]:
    return records.grid(n=list(range(count)), log=[str(log)])


def test_a_grid_is_every_combination_once(refuses):
    made = records.grid(n=[1, 2], encoding=["a"], seed=[0, 1, 2])
    assert len(made) == 6
    assert len({records.key(point) for point in made}) == 6
    assert made[0] == {"n": 1, "encoding": "a", "seed": 0}
    assert records.key({"a": 1, "b": 2}) == records.key({"b": 2, "a": 1})
    with refuses("at least one value each, got none for seed"):
        records.grid(n=[1], seed=[])


def test_results_come_in_the_order_asked_and_records_are_written(tmp_path):
    found = records.sweep(square, points(tmp_path / "log"), tmp_path / "out", code="v1")
    assert [record["result"]["value"] for record in found] == [0, 1, 4, 9]
    assert sorted(runs(tmp_path / "log")) == [0, 1, 2, 3]
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 4
    assert {path.stem for path in files} == {records.key(point) for point in points(tmp_path / "log")}
    record = records.load_record(files[0])
    assert record["code"] == "v1"
    assert record["libraries"]["torch"]
    assert record["device"].endswith("CPU, 1 thread")
    assert record["seconds"] >= 0


def test_a_point_with_a_record_does_not_run_again(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    records.sweep(square, points(log, 2), out, code="v1")
    records.sweep(square, points(log, 4) + points(log, 1), out, code="v1")
    assert sorted(runs(log)) == [0, 1, 2, 3]
    records.sweep(square, points(log, 4), out, code="v2", fresh=False)
    assert sorted(runs(log)) == [0, 1, 2, 3]
    records.sweep(square, points(log, 1), out, code="v2")
    assert sorted(runs(log)) == [0, 0, 1, 2, 3]


def test_what_was_done_before_a_failure_is_kept(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"

    def fragile(settings):
        if settings["n"] == 3 and not (tmp_path / "mended").exists():
            raise RuntimeError("broken")
        return square(settings)

    with pytest.raises(RuntimeError, match="broken"):
        records.sweep(fragile, points(log), out, workers=1)
    (tmp_path / "mended").touch()
    assert len(records.sweep(fragile, points(log), out, workers=1)) == 4
    assert sorted(runs(log)) == [0, 1, 2, 3]


def test_processes_and_dask_make_the_same_records_though_a_worker_dies(tmp_path):
    log, mark = tmp_path / "log", tmp_path / "killed"

    def mortal(settings):
        # The first to compute point 3 is killed in the middle of it.
        if settings["n"] == 3 and settings["die"] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return square(settings)

    grid = records.grid(n=list(range(8)), log=[str(log)], die=[True])
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        found = records.sweep(mortal, grid, tmp_path / "dask", scheduler=cluster.scheduler_address, code="v")
    assert mark.exists(), "no worker was killed: the test tested nothing"
    assert [record["result"]["value"] for record in found] == [n**2 for n in range(8)]
    stored = [records.load_record(path) for path in (tmp_path / "dask").iterdir()]
    assert sorted(record["settings"]["n"] for record in stored) == list(range(8))
    local = records.sweep(mortal, grid, tmp_path / "local", code="v")
    fleeting = ("seconds", "date")
    for ours, theirs in zip(local, found, strict=True):
        assert {k: v for k, v in ours.items() if k not in fleeting} == {
            k: v for k, v in theirs.items() if k not in fleeting
        }


def test_a_process_that_grows_is_replaced_without_a_word(tmp_path):
    def greedy(settings):
        vars(json).setdefault("kept", []).append(b"x" * 350_000_000)  # more than a worker may grow
        time.sleep(1.1)  # it is looked at once a second
        return {"value": os.getpid()}

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = records.sweep(greedy, points(tmp_path / "log", 6), workers=2)
    assert len({record["result"]["value"] for record in found}) > 2, "none was replaced: nothing was tested"
    assert said == []


def test_a_cluster_of_one_worker_does_the_work_and_may_lose_it_midway(tmp_path):
    """The points run on the worker, not here: joblib's dask backend would run them in this process, and end it."""
    mark = tmp_path / "killed"

    def mortal(settings):
        if settings["n"] == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pid": os.getpid()}

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        found = records.sweep(mortal, records.grid(n=[0, 1, 2]), scheduler=cluster.scheduler_address)
    assert [record["settings"]["n"] for record in found] == [0, 1, 2]
    assert mark.exists()
    assert os.getpid() not in {record["result"]["pid"] for record in found}


def test_points_must_be_fit_for_json(refuses):
    for n in ({1, 2}, math.nan, torch.ones(2)):
        with refuses("points must hold what JSON can hold"):
            records.sweep(square, [{"n": n}])


def uneven(settings):
    """Results of all kinds that a record must bring back: too many digits, nothing finite, tuples, odd keys."""
    return {
        "third": settings["x"] / 3, "bad": [math.inf, -math.inf, math.nan], "pair": (1, 2.0), 5: None,
        "truth": True, "text": "so",
    }  # fmt: skip


def test_a_fresh_sweep_and_a_resumed_one_return_the_same(tmp_path):
    grid = [{"x": 1 / 3, "pair": (1, 2)}, {"x": 1e-9 / 7, "pair": ()}]
    fresh = records.sweep(uneven, grid, tmp_path, workers=1)
    resumed = records.sweep(lambda settings: pytest.fail("ran again"), grid, tmp_path)
    unstored = records.sweep(uneven, grid, workers=1)

    def told(found):  # as text: nan is not equal to itself
        return [json.dumps({**record, "seconds": 0}, sort_keys=True) for record in found]

    assert told(fresh) == told(resumed) == told(unstored)
    assert [record["seconds"] for record in fresh] == [record["seconds"] for record in resumed]
    found = fresh[0]["result"]
    assert found["third"] == 0.111111
    assert found["bad"][:2] == [math.inf, -math.inf]
    assert math.isnan(found["bad"][2])
    assert found["pair"] == [1, 2.0]


def test_settings_are_kept_to_the_last_digit(tmp_path):
    grid = records.grid(x=[0.1 + 0.2, 1 / 3])
    records.sweep(uneven, grid, tmp_path, workers=1)
    for path in tmp_path.iterdir():
        asked = records.load_record(path)["settings"]
        assert asked in grid
        assert records.key(asked) == path.stem


def shapeless(settings):
    return {"curve": [1.0, torch.tensor(2.0)]}


def test_a_result_that_json_cannot_hold_is_named(tmp_path, refuses):
    with refuses(r"result\['curve'\]\[1\] must be what JSON can hold, got tensor\(2.\)"):
        records.sweep(shapeless, [{"n": 1}], tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_record_of_other_settings_under_the_name_of_a_point_is_refused(tmp_path, refuses):
    log, out = tmp_path / "log", tmp_path / "out"
    records.sweep(square, points(log, 2), out)
    names = [out / f"{records.key(point)}.json" for point in points(log, 2)]
    names[0].write_bytes(names[1].read_bytes())
    for fresh in (True, False):
        with refuses(rf"{names[0].name} must hold the settings it is named after"):
            records.sweep(square, points(log, 2), out, fresh=fresh)
    assert sorted(runs(log)) == [0, 1]


def test_a_record_made_with_other_libraries_is_stale(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    (record,) = records.sweep(square, points(log, 1), out, code="v")
    old = {**record, "libraries": {**record["libraries"], "torch": "1.0.0"}}
    records.save_record(out / f"{records.key(record['settings'])}.json", old)
    assert records.sweep(square, points(log, 1), out, code="v", fresh=False) == [old]
    assert runs(log) == [0]
    (again,) = records.sweep(square, points(log, 1), out, code="v")
    assert again["libraries"] == records.libraries()
    assert runs(log) == [0, 0]


def roaming(settings, device="cpu"):
    return {"on": device}


def test_the_device_is_noted_but_is_no_part_of_what_a_record_is_found_by(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "describe_device", lambda device="cpu": f"a {device}")
    grid = [transformers.settings(n=4)]
    (made,) = records.sweep(functools.partial(roaming, device="cuda:0"), grid, tmp_path, workers=1)
    assert made["device"] == "a cuda:0"
    assert made["result"] == {"on": "cuda:0"}
    (found,) = records.sweep(functools.partial(roaming, device="cpu"), grid, tmp_path, workers=1)
    assert found == made
    (plain,) = records.sweep(roaming, grid, workers=1)
    assert plain["device"] == "a cpu"


def test_records_are_strict_json_whole_and_read_back(tmp_path):
    result = {"curve": [1.0, math.inf, 0.12345678], "nested": [[1, 2], [3, 4]], "name": "x"}
    path = records.save_record(
        tmp_path / "a" / "r.json", records.make_record({"n": 1}, result, 100.0, "c0de")
    )
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert '"curve": [1.0, "inf", 0.123457]' in path.read_text()
    found = records.load_record(path)
    assert found["result"]["curve"][0] == 1.0
    assert found["result"]["curve"][1] == math.inf
    assert found["result"]["nested"] == [[1, 2], [3, 4]]
    assert "2 min on" in records.describe(found)
    assert [entry.name for entry in path.parent.iterdir()] == ["r.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', "[" * 100_000])
def test_what_is_not_a_record_is_refused(tmp_path, text, refuses):
    path = tmp_path / "r.json"
    path.write_text(text)
    with refuses("is not a record"):
        records.load_record(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"result": None}, "result must be an object, got None"),
        ({"result": {}}, "result must be an object, got {}"),
        ({"result": "done"}, "result must be an object, got 'done'"),
        ({"result": {"error": math.nan}}, "NaN is not JSON"),
        ({"settings": [1]}, r"settings must be an object, got \[1\]"),
        ({"libraries": "torch"}, "libraries must be an object"),
    ],
)
def test_a_record_whose_content_is_damaged_is_refused_by_name(tmp_path, change, said, refuses):
    path = records.save_record(tmp_path / "r.json", records.make_record({"n": 1}, {"e": 1.0}, 1.0, "c0de"))
    assert records.load_record(path)["result"] == {"e": 1.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refuses(f"r.json is not a record: {said}"):
        records.load_record(path)


def test_a_scheduler_at_nothing_is_named(tmp_path):
    with pytest.raises(ConnectionError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        records.sweep(square, points(tmp_path / "log"), scheduler="tcp://127.0.0.1:9")


def test_a_record_must_be_complete(tmp_path, refuses):
    with refuses("got none of result, code"):
        records.save_record(tmp_path / "r.json", {"settings": {}})


def test_committed_records_are_named_after_settings_that_the_lab_would_write_today(root):
    found = 0
    for lab, pattern in ((transformers, "08_*/*.json"), (reasoning, "10_*/*.json")):
        for path in sorted((root / "results").glob(pattern)):
            asked = records.load_record(path)["settings"]
            assert records.key(asked) == path.stem
            if lab is transformers:
                assert lab.settings(**asked) == asked
            else:
                assert lab.settings("small", list(asked["diets"]), asked["seed"]) == asked
            found += 1
    assert found >= 25


def test_all_records_of_a_folder_are_read_in_order(tmp_path):
    made = records.sweep(square, points(tmp_path / "log"), tmp_path / "out")
    assert records.load_all(tmp_path / "out") == sorted(
        made, key=lambda record: records.key(record["settings"])
    )
    assert records.load_all(tmp_path / "nowhere") == []
