"""The batched sweep engine against plain Python loops over configurations.

Five spectra, six training lengths, four test lengths and many seeds, d = 10, for 20 steps and for the 60 of chapter
05's phase diagram. The loops do the same work one configuration and seed at a time: once with the package's own
functions for a single configuration, once with bare tensor operations and no checks.

    PYTHONPATH=. python benchmarks/sweep.py
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tsl import covariance, errors, prompts, sweep, theory

D = 10
SPECTRA = [covariance.power_law(D, alpha, trace=D) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)]
GRID = list(itertools.product(SPECTRA, (10, 20, 30, 40, 60, 80), (20, 40, 80, 160)))


def batched(seeds: int, steps: int) -> Tensor:
    """Everything as one tensor."""
    gammas = torch.stack([theory.gamma(cov, n) for cov, n, _ in GRID])
    covs = torch.stack([cov for cov, _, _ in GRID])
    lengths = [m for _, _, m in GRID]
    return sweep.error_curves(gammas, covs, lengths, steps, seeds, torch.Generator().manual_seed(0))


def loop(seeds: int, steps: int) -> Tensor:
    """One configuration and seed at a time, with the package's functions."""
    curves = []
    for index, (cov, n, m) in enumerate(GRID):
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(1000 * index + seed)
            prompt = prompts.sample_prompts(cov, m, 1, generator=generator)
            curves.append(errors.propagated_error(prompt.moments().gram, theory.gamma(cov, n), steps)[0])
    return torch.stack(curves).reshape(len(GRID), seeds, -1)


def bare_loop(seeds: int, steps: int) -> Tensor:
    """The same without functions or checks."""
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


def seconds(
    function: Callable[[int, int], Tensor], seeds: int, steps: int, repeats: int
) -> tuple[float, Tensor]:
    """Best time of several runs, per seed, and the result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = function(seeds, steps)
        best = min(best, time.process_time() - start)
    return best / seeds, result


def main() -> None:
    """Print times, ratios and the disagreement of the means."""
    torch.set_num_threads(1)  # one core for all
    batched(2, 2)
    print(f"{len(GRID)} configurations, d = {D}; milliseconds of one core for one seed of all of them")
    for steps in (20, 60):
        fast, curves = seconds(batched, 200, steps, 3)
        print(f"{steps} steps\n  batched             {1e3 * fast:7.2f}")
        for name, function in (("loop", loop), ("loop without checks", bare_loop)):
            slow, reference = seconds(function, 30, steps, 2)
            spread = (curves.var(1) / 200 + reference.var(1) / 30).sqrt()
            z = ((curves.mean(1) - reference.mean(1)) / spread)[:, 1:21].square().mean().sqrt()
            print(
                f"  {name:<20}{1e3 * slow:7.2f}   {slow / fast:5.1f} times as long; means differ by z = {z:.2f} rms"
            )


if __name__ == "__main__":
    main()
