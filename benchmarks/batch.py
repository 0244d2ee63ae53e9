"""Error curves of many settings: one batched call against honest peers.

Five spectra, six training lengths, four test lengths and many seeds, d = 10, for 20 steps and for the 60 of chapter 05's
phase diagram. The peers do the same work: one batched product for each setting (what a careful user would write first),
and a loop over settings *and* seeds with bare tensor operations. Processor time of one thread, so that a busy machine
favours nobody.

    PYTHONPATH=. python benchmarks/batch.py
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tsl import covariance, errors, theory

D = 10
SPECTRA = [covariance.power_law(D, alpha, trace=float(D)) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)]
GRID = list(itertools.product(SPECTRA, (10, 20, 30, 40, 60, 80), (20, 40, 80, 160)))


def batched(seeds: int, steps: int) -> Tensor:
    """Everything as one tensor."""
    covs = torch.stack([cov for cov, _, _ in GRID])
    gammas = torch.stack([theory.gamma(cov, n) for cov, n, _ in GRID])
    grams = covariance.wishart(covs, [m for _, _, m in GRID], seeds, torch.Generator().manual_seed(0))
    return errors.propagated_error(grams, gammas[:, None], steps)


def by_setting(seeds: int, steps: int) -> Tensor:
    """One setting at a time, its seeds in one batch, bare operations."""
    curves = []
    for index, (cov, n, m) in enumerate(GRID):
        generator = torch.Generator().manual_seed(index)
        root = torch.linalg.cholesky(cov)
        gamma = (1 + 1 / n) * cov + cov.trace() / n * torch.eye(D, dtype=cov.dtype)
        x = torch.randn(seeds, m, D, generator=generator, dtype=cov.dtype) @ root.T
        step = torch.eye(D, dtype=cov.dtype) - torch.linalg.solve(gamma, x.mT @ x / m)
        power = torch.eye(D, dtype=cov.dtype).expand_as(step)
        rows = [power.square().sum((-1, -2))]
        for _ in range(steps):
            power = step @ power
            rows.append(power.square().sum((-1, -2)))
        curves.append(torch.stack(rows, -1))
    return torch.stack(curves)


def bare_loop(seeds: int, steps: int) -> Tensor:
    """One setting and seed at a time."""
    curves = []
    for index, (cov, n, m) in enumerate(GRID):
        root = torch.linalg.cholesky(cov)
        gamma = (1 + 1 / n) * cov + cov.trace() / n * torch.eye(D, dtype=cov.dtype)
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(1000 * index + seed)
            x = torch.randn(m, D, generator=generator, dtype=cov.dtype) @ root.T
            step = torch.eye(D, dtype=cov.dtype) - torch.linalg.solve(gamma, x.T @ x / m)
            power, curve = torch.eye(D, dtype=cov.dtype), [torch.tensor(float(D), dtype=cov.dtype)]
            for _ in range(steps):
                power = step @ power
                curve.append(power.square().sum())
            curves.append(torch.stack(curve))
    return torch.stack(curves).reshape(len(GRID), seeds, -1)


def seconds(run: Callable[[], Tensor], repeats: int) -> float:
    """Least processor time of several runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Print the ratios."""
    torch.set_num_threads(1)
    seeds = 50
    for steps in (20, 60):
        ours = seconds(lambda steps=steps: batched(seeds, steps), 5)
        peer = seconds(lambda steps=steps: by_setting(seeds, steps), 5)
        loop = seconds(lambda steps=steps: bare_loop(seeds // 10, steps), 1) * 10
        first = batched(seeds, steps)[..., 1].mean().item() / by_setting(seeds, steps)[..., 1].mean().item()
        print(
            f"{len(GRID)} settings, {seeds} seeds, {steps} steps: one batch {ours:.2f} s, a batch a setting "
            f"{peer / ours:.1f} times as long, loop {loop / ours:.1f} times (from a tenth of the seeds); "
            f"mean errors agree to {abs(first - 1):.1%}"
        )


if __name__ == "__main__":
    main()
