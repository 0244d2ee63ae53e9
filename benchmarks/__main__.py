"""The table of speeds that the book shows: ``python -m benchmarks [--runs 5] [--write]``.

Processor time of one thread, so that a busy machine favours nobody; a range is that of all runs. Peers do the same work in one
batch with bare tensor operations and keep what can be kept; a loop is named as such. The rows on the decoder want the package
``transformers``, which nothing else needs, and are left out without it. ``--write`` puts the table into the book.
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import batch, lsa_cot
from tsl import cot, covariance, gpt, lsa, prompts, theory

PAGE = Path(__file__).resolve().parents[1] / "book" / "reproduce.md"
START, END = "<!-- speed: python -m benchmarks --write -->", "<!-- end of speed -->"
Row = tuple[str, list[float], str]


def seconds(job: Callable[[], object], least: float = 0.05) -> float:
    """Processor time of a job, repeated until it can be told from the clock's ticks."""
    count, began = 0, time.process_time()
    while not count or time.process_time() - began < least:
        job()
        count += 1
    return (time.process_time() - began) / count


def draw(m: int, size: int, d: int = lsa_cot.D) -> prompts.Prompts:
    """Prompts of the paper's power law."""
    return prompts.sample_prompts(covariance.power_law(d, 1.0), m, size, generator=lsa_cot.generator())


def think(d: int = 16, m: int = 200, steps: int = 100, size: int = 256) -> Callable[[], object]:
    """The recursion on moments, by itself."""
    cov = covariance.power_law(d, 1.0)
    moments = prompts.sample_moments(cov, m, size, generator=lsa_cot.generator())
    gamma = theory.gamma(cov, lsa_cot.TRAIN)
    return lambda: cot.pseudo_newton(moments, gamma, steps)


def exponent(name: str, values: tuple[int, ...], **fixed: int) -> float:
    """Slope of log time against log size (least squares)."""
    x = torch.tensor([math.log(value) for value in values], dtype=torch.float64)
    y = torch.tensor(
        [math.log(seconds(think(**fixed, **{name: v}), 0.2)) for v in values], dtype=torch.float64
    )
    x = x - x.mean()
    return ((x * y).sum() / x.square().sum()).item()


def product_rate(dtype: torch.dtype) -> float:
    """Multiplications and additions a second in a large matrix product: what the machine can do."""
    a = torch.randn(1024, 1024, dtype=dtype)
    a @ a
    return 2 * 1024**3 / seconds(lambda: a @ a, 0.3)


def linear() -> list[Row]:
    """Thinking of linear self-attention: against the definition, and its growth."""
    model = lsa.LinearSelfAttention.from_theory(covariance.power_law(lsa_cot.D, 1.0), lsa_cot.TRAIN)
    gamma, steps = theory.gamma(covariance.power_law(lsa_cot.D, 1.0), lsa_cot.TRAIN), lsa_cot.STEPS
    few, many = draw(200, 64), draw(200, 1024)
    whole = 16 * seconds(lambda: lsa_cot.literal(model, few, steps))
    column = seconds(lambda: model.think(many, steps))
    ours = seconds(lambda: cot.pseudo_newton(many.moments(), gamma, steps))
    short, long = (seconds(think(m=m), 0.3) for m in (200, 20_000))
    size, d, k = 256, 64, 100
    rate = 2 * size * k * d**2 / seconds(think(d, 200, k, size), 0.3)
    return [
        (
            "full embedding over recursion, d = 10, m = 200, k = 20, 1024 prompts (from a sixteenth of them)",
            [whole / ours],
            "",
        ),
        ("the same, only the last column", [column / ours], ""),
        ("recursion at m = 20,000 over m = 200", [long / short], ""),
        ("time of k steps grows as k to the power", [exponent("steps", (50, 100, 200, 400))], "1"),
        (
            "time grows as d to the power (d from 32 to 128)",
            [exponent("d", (32, 64, 128), steps=50, size=128)],
            "2",
        ),
        (
            "time grows as prompts to the power",
            [exponent("size", (256, 512, 1024, 2048), d=32, steps=50)],
            "1",
        ),
        ("time grows as m to the power", [exponent("m", (200, 2000, 20_000))], "0"),
        (
            "recursion at d = 64, share of the rate of a matrix product",
            [rate / product_rate(torch.float64)],
            "",
        ),
    ]


def grids() -> list[Row]:
    """Many settings in one batch."""
    rows = []
    for steps in (20, 60):
        whole = seconds(lambda steps=steps: batch.batched(200, steps))
        rows.append(
            (
                f"120 settings, a batch for each over one batch, {steps} steps",
                [seconds(lambda steps=steps: batch.by_setting(200, steps)) / whole],
                "",
            )
        )
        few = seconds(lambda steps=steps: batch.bare_loop(10, steps)) / seconds(
            lambda steps=steps: batch.batched(10, steps)
        )
        rows.append((f"the same, a loop over settings and ten seeds, {steps} steps", [few], ""))
    return rows


def decoder() -> list[Row]:
    """A training step of the decoder of the paper's size, on this processor."""
    model = gpt.WeightGPT(gpt.GPTConfig.paper(20, positions=128), lsa_cot.generator())
    data = prompts.sample_prompts(torch.eye(20), 40, 8, generator=lsa_cot.generator())
    start = torch.zeros(8, 1, 20)

    def descend(answers: torch.Tensor) -> None:
        (answers - data.w[:, None]).square().mean().backward()

    # Examples pass all weights but those of the last block that only an answer needs.
    idle = 80 * 9 * model.config.width**2
    rate = 6 * 8 * (81 * model.size - idle) / seconds(lambda: descend(model(data, start)), 1.0)
    apart = seconds(lambda: descend(model(data, model.think(data, 3))), 1.0)
    together = seconds(lambda: descend(model.rollout(data, 4)), 1.0)
    rows: list[Row] = [
        (
            "decoder's step, 9.6 M weights, fp32, share of the rate of a matrix product",
            [rate / product_rate(torch.float32)],
            "",
        ),
        (
            "training step on chains of four, thinking and learning apart over `rollout`",
            [apart / together],
            "",
        ),
    ]
    try:
        from benchmarks import gpt as peers
    except ImportError:
        return rows
    peer = peers.Peer(model)
    own = seconds(peers.step(model, data, "fp32"), 1.0)
    rows.append(
        (
            "training step of GPT2Model over ours, fp32",
            [seconds(peers.step(peer, data, "fp32"), 1.0) / own],
            "",
        )
    )
    small = prompts.sample_prompts(torch.eye(20), 40, 4, generator=lsa_cot.generator())
    rows.append(
        (
            "thinking 20 steps, re-run sequence over cache, m = 40",
            [seconds(lambda: peer.think(small, 20)) / seconds(lambda: model.think(small, 20))],
            "",
        )
    )
    return rows


# Not `ru_maxrss`: a process begins with that of its parent.
PEAK = """
import re, torch
from pathlib import Path
from benchmarks import __main__ as b
from tsl import cot, covariance, lsa, theory
data = b.draw(200, 8192)
gamma = theory.gamma(covariance.power_law(10, 1.0), 30)
model = lsa.LinearSelfAttention.from_gamma(gamma)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
{}
print((peak() - before) / 1024)
"""
PEAKS = {
    "recursion on moments": "cot.pseudo_newton(data.moments(), gamma, 20)",
    "full embedding, last column": "model.think(data, 20)",
}


def peaks() -> list[Row]:
    """Memory at the highest, beyond the prompts themselves, of a fresh process."""
    rows = []
    for name, code in PEAKS.items():
        ran = subprocess.run(
            [sys.executable, "-c", PEAK.format(code)], check=True, capture_output=True, text=True
        )
        rows.append(
            (
                f"memory for 8192 prompts, m = 200, k = 20, in MB beyond the prompts: {name}",
                [float(ran.stdout)],
                "",
            )
        )
    return rows


def number(value: float) -> str:
    """Two digits, and a share of less than a thousandth as it is."""
    if abs(value) >= 0.095:
        return f"{value:.0f}" if abs(value) >= 20 else f"{value:.2g}"
    return f"{round(value, 2) + 0.0:.2f}"  # no minus before a zero


def table(runs: int) -> str:
    """All rows, each the range over the runs."""
    found: dict[str, Row] = {}
    for _ in range(runs):
        for name, values, expected in [*linear(), *grids(), *decoder(), *peaks()]:
            found.setdefault(name, (name, [], expected))[1].extend(values)
    lines = ["| What | Least to most | Expected |", "|---|---|---|"]
    for name, values, expected in found.values():
        low, high = number(min(values)), number(max(values))
        lines.append(f"| {name} | {low if low == high else f'{low} to {high}'} | {expected} |")
    count, today = f"{runs} run{'s' * (runs > 1)}", f"{datetime.date.today():%d %B %Y}"
    where = f"{processor()}, one thread, torch {torch.__version__}, {count}, {today}"
    return "\n".join([where + ":", "", *lines])


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def put(text: str, start: str, end: str) -> None:
    """Write a table into the book, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(f"{page.split(start)[0]}{start}\n\n{text}\n\n{end}{page.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into book/reproduce.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = table(options.runs)
    print(text)
    print(f"\npeak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if options.write:
        put(text, START, END)


if __name__ == "__main__":
    main()
