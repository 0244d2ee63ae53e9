"""A grid of runs, on the processes of one machine or on a cluster: the same command, the same records.

Every point of the grid becomes one JSON record, named after its settings and written whole by the process
that asked, as soon as the point is done. A sweep that was interrupted goes on with the points that have no
record.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from tqdm import tqdm

from tsl import _validate, records, versions

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

    Raises
    ------
    TypeError, ValueError
        If they hold what JSON cannot, such as a tensor or nan.
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
) -> list[dict[str, Any]]:
    """Run ``job(settings)`` for every point of a grid.

    Parameters
    ----------
    job : callable
        Maps settings to a result that JSON can hold. Its randomness must come from the settings. Where it
        runs is no setting: a job for another device than the CPU is a ``functools.partial(job, device=…)``,
        and the records name that device.
    points : iterable of mappings
        Settings, fit for JSON. A point that stands twice runs once.
    folder : path, optional
        Where the records lie. Points whose record is there do not run. Without a folder nothing is stored.
    scheduler : str, optional
        Address of a dask.distributed scheduler, such as ``"tcp://127.0.0.1:8786"``. By default the points
        run in processes on this machine. A point whose worker dies is run again on another.
    workers : int
        Processes on this machine; not used with a scheduler.
    code : str
        Version of the code of ``job``, written into the records; see `tsl.versions.module_version`.
    fresh : bool
        Make records of another version of the code or of the libraries anew; False takes them as they are.
    progress : bool
        Show a bar of points.

    Returns
    -------
    list of dict
        A record for every point, in the order given: the same values whether made now or read.

    Raises
    ------
    ValueError
        If a point or a result is not fit for JSON, or a file in ``folder`` that a point needs is not a
        record, or not that point's.
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
    run = (
        _on_processes(job, todo, code, workers) if scheduler is None else _on_dask(job, todo, code, scheduler)
    )
    for record in tqdm(run, total=len(todo), unit="run", disable=not progress):
        name = key(record["settings"])
        done[name] = record
        if folder is not None:
            records.save_record(Path(folder) / f"{name}.json", record)
    return [done[name] for name in names]


def _stored(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    paths = {name: folder / f"{name}.json" for name in names}
    found = {name: records.load_record(path) for name, path in paths.items() if path.exists()}
    for name, record in found.items():
        if key(record["settings"]) != name:  # renamed or edited: its numbers are another point's
            raise ValueError(
                f"{paths[name]} must hold the settings it is named after, got {record['settings']!r}"
            )
    return found


def _current(record: Mapping[str, Any], code: str) -> bool:
    return record["code"] == code and record["libraries"] == records.libraries()


def run_point(job: Job, settings: dict[str, Any], code: str) -> dict[str, Any]:
    """Run one point, on one thread, and make its record: this is what happens on a worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one point, one core; and sums are added in the same order everywhere
    try:
        began = time.perf_counter()
        result = job(settings)
        seconds = time.perf_counter() - began
        return records.make_record(settings, result, seconds, code, _device(job))
    finally:
        torch.set_num_threads(threads)


def _device(job: Job) -> str:
    """Where a job runs: what it has been bound to, else the CPU."""
    return str(job.keywords.get("device", "cpu")) if isinstance(job, functools.partial) else "cpu"


def _on_processes(
    job: Job, todo: Mapping[str, dict[str, Any]], code: str, workers: int
) -> Iterator[dict[str, Any]]:
    if not todo:
        return
    parallel = joblib.Parallel(n_jobs=min(workers, len(todo)), return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(run_point)(job, point, code) for point in todo.values())


def _on_dask(
    job: Job, todo: Mapping[str, dict[str, Any]], code: str, scheduler: str
) -> Iterator[dict[str, Any]]:
    import distributed  # a sweep on one machine does without

    with distributed.Client(scheduler, timeout="30s") as client:
        futures = [client.submit(run_point, job, point, code, pure=False) for point in todo.values()]
        for future in distributed.as_completed(futures):
            yield future.result()
            future.release()  # a result that is stored need not survive its worker


def parse_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read axes as written on a command line.

    Examples
    --------
    >>> parse_axes(["n=10,20", "encoding=pairs"])
    {'n': [10, 20], 'encoding': ['pairs']}

    Raises
    ------
    ValueError
        If a text is not of that form, a value is empty, or a name stands twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        parts = values.split(",")
        if not name or not all(part.strip() for part in parts):
            raise ValueError(f"axes must look like name=value,value, got {text!r}")
        if name in axes:
            raise ValueError(f"axes must name each field once, got {name!r} again in {text!r}")
        axes[name] = [_value(part) for part in parts]
    return axes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``tsl sweep``."""
    parser.add_argument(
        "axes",
        nargs="*",
        metavar="name=value,value",
        help="axes of the grid, fields of tsl.study.Cell: n=10,20 alpha=0,1 encoding=pairs seed=0,1,2",
    )
    parser.add_argument("--device", default="cpu", help="where each training runs: cpu, cuda or cuda:N")
    parser.add_argument("--folder", type=Path, default=Path("results/sweep"), help="where the records go")
    parser.add_argument("--checkpoints", type=Path, help="folder from which interrupted trainings go on")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--scheduler", help="address of a dask.distributed scheduler: run there instead")


def run(args: argparse.Namespace) -> int:
    """Run ``tsl sweep``: train and evaluate a model for every point, and print a line for each."""
    from tsl import runs, study

    if not args.scheduler:  # the workers of a scheduler have devices of their own
        runs.check_device(args.device)
    cells = [study.cell(**point) for point in grid(**parse_axes(args.axes))]
    found = sweep(
        # One training at a time can show how far it is; several would write over each other.
        functools.partial(
            study.train_and_evaluate,
            device=args.device,
            checkpoints=args.checkpoints,
            progress=args.workers == 1 and not args.scheduler,
        ),
        cells,
        args.folder,
        scheduler=args.scheduler,
        workers=args.workers,
        code=versions.module_version("study"),
        progress=True,
    )
    for record in found:
        print(f"{key(record['settings'])}  {study.headline(record)}")
    return 0
