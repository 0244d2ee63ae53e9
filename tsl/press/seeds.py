"""Verdicts on other seeds: every chapter run again, and the verdicts and measured numbers in a small record."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsl import claims, paths, versions
from tsl.press import chapters


def record_of(profile: str) -> Path:
    """Where the record of a profile lies."""
    return paths.RESULTS / "ledger" / f"seeds-{profile}.json"


def read_record(profile: str) -> dict[str, Any]:
    """The record of a profile; ValueError if it cannot be read, or is not as `measure` wrote it."""
    path = record_of(profile)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["checksum"] == _checksum(record) and record["profile"] == profile
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{path.name} must be a record of `tsl seeds`, got {problem!r}") from None
    if not same:
        raise ValueError(f"{path.name} must be as `tsl seeds --profile {profile}` wrote it, it was edited")
    return dict(record)


def _checksum(record: dict[str, Any]) -> str:
    parts = {name: value for name, value in record.items() if name != "checksum"}
    return versions.digest(json.dumps(parts, sort_keys=True))


def measure(settings: chapters.Settings, seeds: int) -> list[str]:
    """Run every chapter with seeds 0, 1, ... and write the record; returns the chapters that failed.

    A chapter that was run with a seed before, and has not changed, is not run again.
    """
    sources, failed, measured = versions.chapters(), [], {}
    for seed in range(seeds):
        print(f"seed {seed}", flush=True)
        each = replace(settings, seed=seed)
        failed += [f"{name} (seed {seed})" for name in chapters.report(chapters.execute(sources, each))]
        executed = [notebook for source in sources if (notebook := chapters.read_executed(source, each))]
        measured[seed] = claims.collect(executed)
    if not failed:
        code = {source.stem: versions.code_version(source) for source in sources}
        record = {"profile": settings.profile, "code": code, "claims": gathered(measured)}
        text = json.dumps({"checksum": _checksum(record), **record}, indent=1, ensure_ascii=False)
        paths.write_whole(record_of(settings.profile), text + "\n")
    return failed


def gathered(measured: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """For each claim its verdict on each seed, and for each of its checks what was measured, predicted and asked."""
    ledger = [name for name in claims.load() if all(name in each for each in measured.values())]
    return {name: _claim([each[name] for each in measured.values()]) for name in ledger}


_EACH = ("measured", "interval", "predicted", "passes_if", "passed")


def _claim(found: list[dict[str, Any]]) -> dict[str, Any]:
    columns = zip(*(each["checks"] for each in found), strict=True)
    return {
        "verdicts": [each["verdict"] for each in found],
        "as_expected": [each["as_expected"] for each in found],
        "checks": [
            {"label": checks[0]["label"], "role": checks[0]["role"]}
            | {name: [check[name] for check in checks] for name in _EACH}
            for checks in columns
        ],
    }


def flips(record: dict[str, Any]) -> list[str]:
    """Claims whose verdict is not the same, or not the expected one, on every seed of a record."""
    return [name for name, claim in record["claims"].items() if not all(claim["as_expected"])]
