"""The ledger tested by breaking things: with a wrong formula exactly the claims that rest on it must turn red.

Each chapter runs at size ``ci`` in a process of its own: once as it is, then once for every broken function that it calls. A
claim is red when its verdict is not the one that ``book/claims.yml`` expects, or when it was not measured at all.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tsl import claims, laws, paths, versions

Break = Callable[[Callable[..., Any]], Callable[..., Any]]

# A mutant of each function that `rests_on` may name: plausible slips, not noise.
MUTANTS: dict[str, Break] = {
    # Forgets that a finite prompt spreads its empirical covariance: the infinite-context limit Γ = Λ.
    "theory.gamma": lambda right: lambda cov, n, noise=0.0: right(cov, 10**9, noise),
    # Averages the Γ of each task instead of the two moments.
    "theory.gamma_mixture": lambda right: (
        lambda tasks, probs, lengths, noise=0.0: sum(
            float(p) * right([task], [1.0], [n], noise)
            for p, task, n in zip(probs, tasks, lengths, strict=True)
        )
    ),
    # Believes in twice the context.
    "theory.direct_error": lambda right: lambda gamma, cov, m, noise=0.0: right(gamma, cov, 2 * m, noise),
    "theory.matched_direct_error": lambda right: lambda law, n, m: right(law, n, 2 * m),
    "theory.direct_error_bound": lambda right: lambda cov, n, m: right(cov, n, m) / 100,
    # The exponent without its factor of two.
    "theory.cot_error_bound": lambda right: (
        lambda cov, n, k: cov.shape[0] * (right(cov, n, k) / cov.shape[0]) ** 0.5
    ),
    "theory.cot_error_limit": lambda right: lambda gamma, cov, k: right(gamma, cov, k + 1),
    "theory.marchenko_pastur_error": lambda right: lambda ratio, g, k: right(2 * ratio, g, k),
    "theory.required_context": lambda right: lambda cov, k, eps: right(cov, 2 * k, eps),
    # A step half as long.
    "cot.pseudo_newton": lambda right: lambda moments, gamma, steps: right(moments, 2 * gamma, steps),
    "errors.propagated_error": lambda right: lambda gram, gamma, steps: right(gram, 2 * gamma, steps),
    # Takes what was lost for gained; forgets how many comparisons were looked at.
    "errors.paired_difference": lambda right: lambda gained, lost, *rest: right(lost, gained, *rest),
    "errors.holm": lambda right: lambda pvalues: list(pvalues),
    # Plans for an isotropic target, whatever the target; never chooses.
    "selection.select_tasks_qp": lambda right: (
        lambda tasks, target: right(tasks, torch.eye(laws.of("target", target).d, dtype=torch.float64))
    ),
    "selection.select_tasks": lambda right: (
        lambda covs, *args, **kwargs: torch.full_like(right(covs, *args, **kwargs), 1 / len(covs))
    ),
    # Every prompt twice as long as it says, twice again.
    "exact.isotropic_error": lambda right: lambda d, m, g, steps, noise=0.0: right(d, 2 * m, g, steps, noise),
    # Test prompts of twice the examples that they say.
    "covariance.wishart": lambda right: (
        lambda cov, m, size, generator=None: right(
            cov, 2 * m if isinstance(m, int) else [2 * length for length in m], size, generator
        )
    ),
    # Labels that know nothing of the features' covariance: S₁ = I.
    "lsa.train_population": lambda right: (
        lambda first, second, steps, *rest, **named: right(
            torch.eye(len(first)).to(first), second, steps, *rest, **named
        )
    ),
    # Every thought but the first is lost.
    "lab.records.sweep": lambda right: (
        lambda *args, **kwargs: [_thoughtless(r) for r in right(*args, **kwargs)]
    ),
    # Reads the answer one character too far.
    "lab.chargpt.think": lambda right: (
        lambda *args: (thought := right(*args))._replace(answer=thought.answer + 1)
    ),
    # Never stops early.
    "stopping.stop_step": lambda right: (
        lambda chain, *args, **kwargs: 0 * right(chain, *args, **kwargs) + chain.shape[1] - 1
    ),
}


def _thoughtless(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a model whose chain repeats its first thought."""
    tests = [
        test | {"error": [*test["error"][:2], *[test["error"][1]] * (len(test["error"]) - 2)]}
        for test in record["result"]["tests"]
    ]
    return record | {"result": record["result"] | {"tests": tests}}


def function(name: str) -> tuple[Any, str]:
    module, attribute = name.rsplit(".", 1)
    return importlib.import_module(f"tsl.{module}"), attribute


def play(chapter: str) -> dict[str, bool]:
    """Run a chapter's cells at size ``ci``; returns whether each claim came out as the ledger expects."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for index, cell in enumerate(versions.read_source(paths.NOTEBOOKS / f"{chapter}.md").cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "skip-execution" in tags:
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, f"{chapter}, cell {index}", "exec"), namespace)
        except Exception as error:
            # What a broken formula leads to may be an error; the claims behind it are then not measured.
            print(f"{chapter}, cell {index}: {type(error).__name__}: {error}", file=sys.stderr)
            break
        if "parameters" in tags:
            namespace |= {"profile": "ci", "device": "cpu", "seed": 0}
    run = namespace.get("run")
    return {m.claim.id: m.as_expected for m in run.measurements} if run else {}


def play_all(chapter: str) -> dict[str, dict[str, bool]]:
    """Run a chapter whole, and with each function broken that it calls when it is whole."""
    import matplotlib as mpl

    mpl.use("Agg")
    from tsl import figures

    figures.finish = lambda figure, run: figures.plt.close(
        figure
    )  # drawing is most of the time and decides nothing
    called: set[str] = set()

    def watch(name: str, right: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return right(*args, **kwargs)

        return watched

    whole = {name: getattr(*function(name)) for name in MUTANTS}
    for name, right in whole.items():
        setattr(*function(name), watch(name, right))
    outcome = {"": play(chapter)}
    for broken in sorted(called):
        for name, right in whole.items():
            setattr(*function(name), MUTANTS[name](right) if name == broken else right)
        outcome[broken] = play(chapter)
    return outcome


def chapters_of_claims() -> list[str]:
    written = {source.stem for source in versions.chapters()}
    return sorted({claim.chapter for claim in claims.load().values()} & written)


@pytest.fixture(scope="module")
def outcomes(root: Path) -> dict[str, dict[str, dict[str, bool]]]:
    """Outcome of every chapter, whole and broken, two chapters at a time."""

    def run(chapter: str) -> dict[str, dict[str, bool]]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "TQDM_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, __file__, chapter],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{chapter}: {done.stderr[-3000:]}"
        sys.stderr.write(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    # The longest first, so that the two queues end together.
    chapters = sorted(chapters_of_claims(), key=lambda c: -(paths.NOTEBOOKS / f"{c}.md").stat().st_size)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chapters, pool.map(run, chapters), strict=True))


def test_ledger_names_only_functions_that_are_broken_here():
    named = {name for claim in claims.load().values() for name in claim.rests_on}
    assert named == set(MUTANTS), "a mutant that no claim names cannot turn anything red"
    assert [name for name, claim in claims.load().items() if not claim.rests_on] == []
    for name in named:
        assert callable(getattr(*function(name)))


def test_whole_chapters_measure_every_claim_as_expected(outcomes):
    for chapter, outcome in outcomes.items():
        due = {claim.id for claim in claims.load().values() if claim.chapter == chapter}
        assert outcome[""] == dict.fromkeys(due, True), chapter


@pytest.mark.parametrize("broken", MUTANTS)
def test_exactly_the_claims_that_rest_on_a_function_turn_red(outcomes, broken):
    ledger = claims.load()
    red = {
        name
        for name, claim in ledger.items()
        if claim.chapter in outcomes
        and not outcomes[claim.chapter].get(broken, outcomes[claim.chapter][""]).get(name, False)
    }
    due = {name for name, claim in ledger.items() if claim.chapter in outcomes and broken in claim.rests_on}
    assert red == due, f"{broken}: red but not named {sorted(red - due)}, named but green {sorted(due - red)}"


if __name__ == "__main__":
    print(json.dumps(play_all(sys.argv[1])))
