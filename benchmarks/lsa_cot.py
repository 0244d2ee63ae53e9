"""Cost of thinking: the full embedding with a growing context against the recursion on moments.

Run with ``python benchmarks/lsa_cot.py``. Times are the best of a few repetitions on one thread, and include sampling.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch

from tsl import cot, covariance, lsa, prompts, theory

D, M, STEPS, PROMPTS, TRAIN = 10, 200, 20, 4096, 30


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def literal(model: lsa.LinearSelfAttention, batch: prompts.Prompts, steps: int) -> torch.Tensor:
    """The definition: all of f(E) at every step, its last column appended to E."""
    m, d = batch.x.shape[1:]
    embedding = lsa.embed(batch)
    with torch.no_grad():
        for _ in range(steps):
            embedding = torch.cat([embedding, model(embedding, n=m)[:, :, -1:]], dim=2)
    return embedding[:, d + 1 : 2 * d + 1, m:].mT


def clock(function: Callable[[], object], repetitions: int) -> float:
    """Least of several times, in seconds: what the machine can do when left alone."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def clock_import(module: str) -> float:
    """Least of three times of a fresh interpreter that imports a module."""
    return clock(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True), 3)


def main() -> None:
    torch.set_num_threads(1)
    cov = covariance.power_law(D, 1.0)
    gamma, model = theory.gamma(cov, TRAIN), lsa.LinearSelfAttention.from_theory(cov, TRAIN)

    def full(think: Callable[[prompts.Prompts], torch.Tensor], share: int = 1) -> Callable[[], object]:
        return lambda: think(prompts.sample_prompts(cov, M, PROMPTS // share, generator=generator()))

    def fast(m: int) -> Callable[[], object]:
        return lambda: cot.pseudo_newton(
            prompts.sample_moments(cov, m, PROMPTS, generator=generator()), gamma, STEPS
        )

    # Same prompts, same chains: the comparison is one of equals.
    batch = prompts.sample_prompts(cov, M, 64, generator=generator())
    gap = (literal(model, batch, STEPS) - cot.pseudo_newton(batch.moments(), gamma, STEPS)).abs().max().item()
    assert gap < 1e-10, gap

    fast(M)()  # warm up
    # Attention over all columns would fill the memory with 4096 prompts at once, so it takes them in 16 parts.
    by_forward = 16 * clock(full(lambda batch: literal(model, batch, STEPS), share=16), 2)
    by_column = clock(full(lambda batch: model.think(batch, STEPS)), 2)
    # Short and long prompts take turns, so that a busy machine slows down both alike.
    times = {m: [] for m in (M, 100 * M)}  # type: dict[int, list[float]]
    for _ in range(15):
        for m, taken in times.items():
            taken.append(clock(fast(m), 1))
    short, long = (min(taken) for taken in times.values())

    print(
        f"d={D}, m={M}, k={STEPS}, {PROMPTS} prompts, one thread; largest difference of the chains {gap:.0e}"
    )
    print(
        f"full embedding, growing context, forward() at every step  {by_forward:9.3f} s"
        "   (extrapolated: 16 times the time of a sixteenth of the prompts)"
    )
    print(f"full embedding, growing context, last column only         {by_column:9.3f} s")
    print(f"recursion on moments, m = {M:<6}                          {short:9.3f} s")
    print(f"recursion on moments, m = {100 * M:<6}                          {long:9.3f} s")
    print(f"ratio forward() to recursion      {by_forward / short:8.0f}   (wanted: at least 50)")
    print(f"ratio last column to recursion    {by_column / short:8.1f}")
    print(f"ratio m = {100 * M} to m = {M}         {long / short:8.2f}   (wanted: at most 1.2)")
    for module in ("tsl", "tsl.theory", "tsl.cot"):
        print(f"python -c 'import {module}' {clock_import(module):18.2f} s   (wanted: at most 2.5)")


if __name__ == "__main__":
    main()
