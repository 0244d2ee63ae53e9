"""Records of runs: what was asked, what came out, and what it cost, in one small JSON file.

A record is a dictionary with the keys

``settings``   what the run was asked for, exactly
``result``     its curves, to six significant digits; nan is stored as null, ±inf as "inf" and "-inf"
``code``       content hash of the modules that the run depends on
``device``, ``libraries``, ``seconds``, ``date``   where, with what, for how long, and when (UTC)
"""

from __future__ import annotations

import datetime
import importlib
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tsl import paths

FORMAT = "tsl-record-1"
_KEYS = ("settings", "result", "code", "device", "libraries", "seconds", "date")


def describe_device(device: torch.device | str = "cpu") -> str:
    """Name of the processor, and how many threads torch uses on it."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    threads = torch.get_num_threads()
    return f"{name} CPU, {threads} thread{'s' if threads > 1 else ''}"


def libraries() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", "numpy")}
    return {"python": platform.python_version(), **versions}


def make_record(
    settings: Mapping[str, Any],
    result: Any,
    seconds: float,
    code: str,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Put a record together; date, device and versions are those of this process.

    It holds what `load_record` will read back, so that whoever goes on with it need not know which it was.

    Raises
    ------
    ValueError
        If settings or result hold what JSON cannot; the message says what and where.
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
    """Write a record whole or not at all.

    Raises
    ------
    ValueError
        If a key is missing, or settings or result hold what JSON cannot.
    OSError
        If it cannot be written; a record that was there before is untouched.
    """
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise ValueError(f"record must have the keys {', '.join(_KEYS)}, got none of {', '.join(missing)}")
    plain = {**record, "settings": _exact(record["settings"]), "result": _clean(record["result"])}
    text = json.dumps(plain, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return paths.write_whole(path, _flat(text) + "\n")


def load_record(path: Path | str) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is not a whole record.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a record: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or any(k not in record for k in _KEYS):
        raise ValueError(f"{path} is not a record of format {FORMAT!r}")
    record["result"] = _restore(record["result"])
    return record


def describe(record: Mapping[str, Any]) -> str:
    """Where a record's numbers come from, in one line for a caption."""
    seconds = record["seconds"]
    cost = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    torch_version = record["libraries"]["torch"]
    return f"stored record of {record['date']}: {cost} on {record['device']}, torch {torch_version}"


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
            return None if math.isnan(value) else _INFINITE[value > 0]
        return float(f"{value:.6g}")
    if value is not None and not isinstance(value, str | int):
        raise ValueError(f"{where} must be what JSON can hold, got {value!r} of type {type(value).__name__}")
    return value


#: Indexed by whether it is positive.
_INFINITE = ("-inf", "inf")


def _restore(value: Any) -> Any:
    if value in _INFINITE:
        return float(value)
    if isinstance(value, dict):
        return {key: _restore(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_restore(entry) for entry in value]
    return math.nan if value is None else value


def _flat(text: str) -> str:
    """JSON with every innermost list on one line: short files, readable diffs."""
    lines: list[str] = []
    buffer: list[str] | None = None
    for line in text.split("\n"):
        if buffer is None and line.rstrip().endswith("["):
            buffer = [line]
        elif buffer is not None:
            stripped = line.strip()
            if stripped.startswith(("{", "[")) or stripped.endswith(("{", "[")):  # a list of containers
                lines += buffer
                buffer = [line] if stripped.endswith("[") else None
                if buffer is None:
                    lines.append(line)
            elif stripped.startswith("]"):
                lines.append(buffer[0] + " ".join(entry.strip() for entry in buffer[1:]) + stripped)
                buffer = None
            else:
                buffer.append(line)
        else:
            lines.append(line)
    return "\n".join(lines)
