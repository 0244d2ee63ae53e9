"""The ledger tested by breaking things: each check of each claim is turned by a plausible slip somewhere in the package.

Each chapter runs at size ``ci`` in a process of its own: once as it is, then with one mutant after the other of functions that
it calls, its own ones first, until every check has been turned. A check is *turned* when it passes where it did not, or the
reverse; a chapter that stops with an error turns nothing. ``python tests/test_mutations.py CHAPTER`` prints what each mutant
turns and which checks none does; without a chapter it runs those whose code, claims, records or mutants are not those that the
record is of, and writes it; the book makes its page from that. Like the notebooks, the record must be of what stands here: the
tests say where it is not, and run the quickest chapters again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import pytest
from mutants import MUTANTS

from tsl import claims, paths, versions
from tsl.press import chapters, inline

RECORD = paths.RESULTS / "ledger" / "breaking.json"
QUICK = ("04_hardness", "11_real_models")
Outcome = dict[str, dict[str, bool]]  # claim -> label of its check -> whether it passed


def function(name: str) -> tuple[Any, str]:
    module, attribute = name.rsplit(".", 1)
    return importlib.import_module(f"tsl.{module}"), attribute


def play(chapter: str) -> tuple[Outcome, str]:
    """Run a chapter's cells at size ``ci``; returns which checks passed, and the error that ended it, if any."""
    source, settings = versions.chapter_source(chapter), chapters.Settings("ci")
    names: dict[str, Any] = {}
    problem = ""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for ran in inline.cells(source, settings):
                names = ran.names
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    measured = names["run"].measurements if "run" in names else []
    return {m.claim.id: {check.label: check.passed for check in m.checks} for m in measured}, problem


def play_all(chapter: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """Run a chapter whole, and with one function after the other broken that it calls when it is whole."""
    import matplotlib as mpl

    mpl.use("Agg")
    from tsl import figures

    # Drawing is most of the time and decides nothing.
    figures.finish = lambda figure, run: figures.plt.close(figure)
    called: set[str] = set()
    # What is trained is trained in this process, where functions are broken, and kept apart from what others have made.
    joblib.parallel_config(backend="threading")
    scratch = tempfile.TemporaryDirectory()
    paths.BUILD = Path(scratch.name) / "whole"

    def watch(name: str, right: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return right(*args, **kwargs)

        return watched

    whole = {mutant.function: getattr(*function(mutant.function)) for mutant in MUTANTS.values()}
    for name, right in whole.items():
        setattr(*function(name), watch(name, right))
    checks, problem = play(chapter)
    outcome: dict[str, Any] = {"checks": checks, "problem": problem, "turned": {}}
    left = {(claim, label) for claim, labels in checks.items() for label in labels}
    for mutant in sorted(MUTANTS.values(), key=lambda mutant: not mutant.chapters):
        if mutant.function not in called or (mutant.chapters and chapter not in mutant.chapters):
            continue
        if mutant.name not in only if only else not (left or mutant.chapters):
            continue
        for name, right in whole.items():
            setattr(*function(name), mutant.wrong(right) if name == mutant.function else right)
        paths.BUILD = (
            Path(tempfile.mkdtemp(dir=scratch.name)) if mutant.anew else Path(scratch.name) / "whole"
        )
        broken, problem = play(chapter)
        if problem:
            print(f"{chapter}, {mutant.name}: {problem}", file=sys.stderr)
        outcome["turned"][mutant.name] = turned = {
            claim: found
            for claim, labels in checks.items()
            if (
                found := [k for k, passed in labels.items() if broken.get(claim, {}).get(k, passed) != passed]
            )
        }
        left -= {(claim, label) for claim, labels in turned.items() for label in labels}
    return outcome


def cover(outcome: dict[str, Any]) -> list[str]:
    """Few mutants that together turn all the checks of a chapter that any of them turns."""
    turns = {
        name: {(claim, label) for claim, labels in turned.items() for label in labels}
        for name, turned in outcome["turned"].items()
    }
    left, chosen = set().union(*turns.values()), list[str]()
    while left:
        best = max(turns, key=lambda name: len(turns[name] & left))
        chosen.append(best)
        left -= turns[best]
    return chosen


def breakers(outcome: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """For each claim of a chapter, for each of its checks: the mutants that turn it."""
    return {
        claim: {
            label: [name for name, turned in outcome["turned"].items() if label in turned.get(claim, [])]
            for label in labels
        }
        for claim, labels in outcome["checks"].items()
    }


def chapters_of_claims() -> list[str]:
    return sorted({claim.chapter for claim in claims.load().values()})


def run_chapter(chapter: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """`play_all` in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.ROOT), "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, chapter, *only],
        env=environment,
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{chapter}: {done.stderr[-3000:]}"
    sys.stderr.write(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def version(chapter: str) -> str:
    """Hash of what decides which checks are turned: all that the chapter's notebook is made from, and the mutants."""
    mutants = versions.normalise((paths.ROOT / "tests" / "mutants.py").read_text(encoding="utf-8"))
    return versions.digest(*chapters.made_from(versions.chapter_source(chapter)).values(), mutants)


def recorded() -> dict[str, dict[str, Any]]:
    """What the book's page shows: chapter -> its version, its checks, and what each mutant turned."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def renew() -> None:
    """Run the chapters whose record is of another version, two at a time, and write the record."""
    record = recorded()
    now = {
        chapter: version(chapter) for chapter in chapters_of_claims()
    }  # before a run in which files may change
    due = [chapter for chapter in now if record.get(chapter, {}).get("version") != now[chapter]]
    # Long ones first: the two queues end together.
    due.sort(key=lambda chapter: versions.chapter_source(chapter).stat().st_size, reverse=True)
    with ThreadPoolExecutor(2) as pool:
        for chapter, outcome in zip(due, pool.map(run_chapter, due), strict=True):
            record[chapter] = {"version": now[chapter]} | outcome
            kept = {name: record[name] for name in now if name in record}
            paths.write_whole(RECORD, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


@pytest.fixture(scope="module")
def record() -> dict[str, dict[str, Any]]:
    return recorded()


def test_mutants_are_of_functions_that_exist():
    for mutant in MUTANTS.values():
        assert callable(getattr(*function(mutant.function)))
        assert set(mutant.chapters) <= {source.stem for source in versions.chapters()}


def test_the_record_is_of_this_code_and_of_every_claim(record):
    assert [*record] == chapters_of_claims()
    stale = [chapter for chapter in record if record[chapter]["version"] != version(chapter)]
    assert stale == [], "run `python tests/test_mutations.py`"
    for chapter, outcome in record.items():
        assert outcome["problem"] == ""
        assert outcome["checks"].keys() == {c.id for c in claims.load().values() if c.chapter == chapter}


def test_every_check_is_turned_by_a_mutant(record):
    green = [
        f"{claim}: {label}"
        for outcome in record.values()
        for claim, labels in breakers(outcome).items()
        for label, names in labels.items()
        if not names
    ]
    assert green == []


def test_every_mutant_turns_a_check(record):
    idle = set(MUTANTS) - {name for o in record.values() for name, turned in o["turned"].items() if turned}
    assert idle == set()


def test_checks_at_this_size_are_those_of_the_record_of_other_seeds(record):
    seeds = json.loads((paths.RESULTS / "ledger" / "seeds-ci.json").read_text(encoding="utf-8"))
    for outcome in record.values():
        for claim, labels in outcome["checks"].items():
            stored = seeds["claims"][claim]["checks"]
            assert {check["label"]: check["passed"][0] for check in stored} == labels, claim


def AHEAD() -> dict[str, dict[str, Any]]:
    """Quick chapters, broken by those mutants of the record that together turn all their checks."""
    return {chapter: run_chapter(chapter, cover(recorded()[chapter])) for chapter in QUICK}


@pytest.mark.parametrize("chapter", QUICK)
def test_a_chapter_broken_again_turns_what_its_record_says(record, ahead, chapter):
    found = ahead[chapter]
    assert found["checks"] == record[chapter]["checks"]
    for name, turned in found["turned"].items():
        assert turned == record[chapter]["turned"][name], name


if __name__ == "__main__":
    if len(sys.argv) > 1:
        outcome = play_all(sys.argv[1], sys.argv[2:])
        for claim, labels in breakers(outcome).items():
            for label, names in labels.items():
                print(f"{claim}: {label} <- {'; '.join(names) or 'NOTHING'}")
        print(json.dumps(outcome))
    else:
        renew()
