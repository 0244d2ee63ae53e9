"""What runs gave, kept: a grid of settings, a record of each, and a sweep that makes those that are missing.

A record is a dictionary, stored as one small JSON file that is named after its settings. Its keys are

``settings``   what the run was asked for, exactly
``result``     what came out, to six significant digits; nan is stored as null, ±inf as "inf" and "-inf"
``code``       content hash of the modules that the run depends on
``device``, ``libraries``, ``seconds``, ``date``   where, with what, for how long, and when (UTC)
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib
import itertools
import json
import math
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from tqdm import tqdm

from tsl import _validate, paths

FORMAT = "tsl-record-1"
_OBJECT, _TEXT, _NUMBER = (dict, "an object"), (str, "a text"), ((int, float), "a number")
_KEYS: dict[str, tuple[Any, str]] = {  # what a record holds, and of which kind
    "settings": _OBJECT, "result": _OBJECT, "code": _TEXT, "device": _TEXT, "libraries": _OBJECT,
    "seconds": _NUMBER, "date": _TEXT,
}  # fmt: skip

Record = dict[str, Any]
Job = Callable[[dict[str, Any]], Any]


def grid(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations of the values of named axes, the last axis running fastest.

    Examples
    --------
    >>> grid(n=[10, 20], seed=[0])
    [{'n': 10, 'seed': 0}, {'n': 20, 'seed': 0}]
    """
    empty = [name for name, values in axes.items() if len(values) == 0]
    if empty:
        raise ValueError(f"axes must have at least one value each, got none for {', '.join(empty)}")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def key(settings: Mapping[str, Any]) -> str:
    """Name of the record of some settings: what they say, not the order they say it in, decides.

    TypeError or ValueError if they hold what JSON cannot, such as a tensor or nan.
    """
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sweep(
    job: Job,
    points: Iterable[Mapping[str, Any]],
    folder: Path | str | None = None,
    *,
    scheduler: str | None = None,
    workers: int = 2,
    code: str = "",
    fresh: bool = True,
    progress: bool = False,
) -> list[Record]:
    """Run ``job(settings)`` for every point of a grid that has no record yet.

    Every record is written whole as soon as its point is done, by the process that asked: a sweep that was interrupted
    goes on with the points that are missing. It returns a record for every point, in the order given: the same values
    whether made now or read. A file in ``folder`` that a point needs must be a record, and that point's.

    Parameters
    ----------
    job : callable
        Maps settings to a result that JSON can hold. Its randomness must come from the settings. Where it runs is no
        setting: for another device than the CPU give a ``functools.partial(job, device=…)``; the records name it.
    points, folder : iterable of mappings, path
        Settings, fit for JSON (a point that stands twice runs once), and where the records are stored, if anywhere.
    scheduler, workers : str, int
        Address of a dask.distributed scheduler, such as ``"tcp://127.0.0.1:8786"``, or else the number of processes on
        this machine. A point whose worker dies is run again on another.
    code : str
        Version of the code of ``job``, written into the records; see `tsl.versions.module_version`.
    fresh, progress : bool
        Make records of another version of the code or of the libraries anew (False takes them as they are); show a bar.
    """
    _validate.positive_int("workers", workers)
    order = [dict(point) for point in points]
    try:
        names = [key(point) for point in order]
    except (TypeError, ValueError) as error:
        raise ValueError(f"points must hold what JSON can hold, got {error}") from error
    found = {} if folder is None else _stored(Path(folder), names)
    done = {name: record for name, record in found.items() if not fresh or _current(record, code)}
    todo = {name: point for name, point in zip(names, order, strict=True) if name not in done}
    where = workers if scheduler is None else scheduler
    run = _run(functools.partial(run_point, job, code), list(todo.values()), where) if todo else iter(())
    for record in tqdm(run, total=len(todo), unit="run", disable=not progress):
        name = key(record["settings"])
        done[name] = record
        if folder is not None:
            save_record(Path(folder) / f"{name}.json", record)
    return [done[name] for name in names]


def _stored(folder: Path, names: Sequence[str]) -> dict[str, Record]:
    files = {name: folder / f"{name}.json" for name in names}
    found = {name: load_record(path) for name, path in files.items() if path.exists()}
    for name, record in found.items():
        if key(record["settings"]) != name:  # renamed or edited: its numbers are another point's
            raise ValueError(
                f"{files[name]} must hold the settings it is named after, got {record['settings']!r}"
            )
    return found


def _current(record: Mapping[str, Any], code: str) -> bool:
    return record["code"] == code and record["libraries"] == libraries()


def run_point(job: Job, code: str, settings: dict[str, Any]) -> Record:
    """Run one point, on one thread, and make its record: this is what happens on a worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one point, one core; and sums are added in the same order everywhere
    try:
        began = time.perf_counter()
        result = job(settings)
        seconds = time.perf_counter() - began
        return make_record(settings, result, seconds, code, _device(job))
    finally:
        torch.set_num_threads(threads)


def _device(job: Job) -> str:
    """Where a job runs: what it has been bound to, else the CPU."""
    return str(job.keywords.get("device", "cpu")) if isinstance(job, functools.partial) else "cpu"


def _run(call: Job, points: Sequence[dict[str, Any]], where: int | str) -> Iterator[Record]:
    """Results as they come, from that many processes here or from the workers of that scheduler."""
    if isinstance(where, int):
        # A process that has grown is replaced by a new one, which is nobody's concern: no chapter shall show that.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        pool = joblib.Parallel(min(where, len(points)), return_as="generator_unordered", batch_size=1)
        yield from pool(joblib.delayed(call)(point) for point in points)
        return
    import distributed  # a sweep on one machine does without

    # Not joblib's dask backend: a cluster of one worker it leaves idle, and runs the points in this process.
    try:
        client = distributed.Client(where, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no dask scheduler answers at {where!r} ({error})") from error
    with client:
        futures = client.map(call, points, pure=False)
        for future in distributed.as_completed(futures):
            yield future.result()
            future.release()  # a result that is stored need not survive its worker


def make_record(
    settings: Mapping[str, Any],
    result: Any,
    seconds: float,
    code: str,
    device: torch.device | str = "cpu",
) -> Record:
    """Put a record together; date, device and versions are those of this process.

    It holds what `load_record` will read back, so that whoever goes on with it need not know which it was.
    """
    return {
        "format": FORMAT,
        "settings": _exact(settings),
        "result": _restore(_clean(result)),
        "code": code,
        "device": describe_device(device),
        "libraries": libraries(),
        "seconds": round(seconds, 2),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def save_record(path: Path | str, record: Mapping[str, Any]) -> Path:
    """Write a record whole or not at all: where it cannot be written, what was there before is untouched."""
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise ValueError(f"record must have the keys {', '.join(_KEYS)}, got none of {', '.join(missing)}")
    plain = {**record, "settings": _exact(record["settings"]), "result": _clean(record["result"])}
    text = json.dumps(plain, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return paths.write_whole(path, _INNERMOST.sub(_on_one_line, text) + "\n")


def load_record(path: Path | str) -> Record:
    """Read a record; ValueError if the file is not a whole one."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        whole = (
            isinstance(record, dict) and record.get("format") == FORMAT and all(k in record for k in _KEYS)
        )
        if not whole:
            raise ValueError(f"not of format {FORMAT!r}")
        for name, (kind, wanted) in _KEYS.items():
            value = record[name]
            if not isinstance(value, kind) or isinstance(value, bool) or (name == "result" and not value):
                raise ValueError(f"{name} must be {wanted}, got {value!r:.60}")
        record["result"] = _restore(record["result"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a record: {error}") from error
    return record


def _refuse(constant: str) -> float:
    """Python reads NaN and Infinity in JSON; a record has null and texts for them, and nothing else has written these."""
    raise ValueError(f"{constant} is not JSON")


def load_all(folder: Path | str) -> list[Record]:
    """All records of a folder, in the order of their names."""
    return [load_record(path) for path in paths.stored(Path(folder))]


def describe(record: Mapping[str, Any]) -> str:
    """Where a record's numbers come from, in one line for a caption."""
    seconds = record["seconds"]
    cost = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    torch_version = record["libraries"]["torch"]
    return f"stored record of {record['date']}: {cost} on {record['device']}, torch {torch_version}"


def describe_device(device: torch.device | str = "cpu") -> str:
    """Name of the processor, and how many threads torch uses on it."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    threads = torch.get_num_threads()
    return f"{(names or [platform.machine()])[0]} CPU, {threads} thread{'s' if threads > 1 else ''}"


def libraries() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", "numpy")}
    return {"python": platform.python_version(), **versions}


def _exact(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON reads them back, unrounded: records are found by them."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings must hold what JSON can hold, got {settings!r} ({error})") from error


def _clean(value: Any, where: str = "result") -> Any:
    """Plain JSON values, six significant digits, null for nan, texts for what is infinite."""
    if isinstance(value, Mapping):
        return {str(key): _clean(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return float(f"{value:.6g}")
    if value is not None and not isinstance(value, str | int):
        raise ValueError(f"{where} must be what JSON can hold, got {value!r} of type {type(value).__name__}")
    return value


def _restore(value: Any) -> Any:
    """What `_clean` was given, to six digits."""
    if value in ("inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {key: _restore(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_restore(entry) for entry in value]
    return math.nan if value is None else value


#: A list of plain values, in JSON of one value a line. Texts hold no line ends there, so none is changed.
_INNERMOST = re.compile(r"\[\n\s*([^\[\]{}]*)\]")


def _on_one_line(values: re.Match[str]) -> str:
    """Short files, readable diffs."""
    return "[" + re.sub(r"\n\s*", " ", re.sub(r"\n\s*$", "", values[1])) + "]"
