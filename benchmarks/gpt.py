"""Speed of the decoder against transformers' GPT2Model, used as public in-context-learning code uses it.

    python -m benchmarks.gpt [--threads 2] [--repeat 5]

Needs the package ``transformers`` (5.24.0 was tried), which nothing else here needs. The two models carry the same
weights, and the first line says how far their outputs are apart. Each time is the least of several, taken in turns, so
that a busy machine disturbs both sides alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from tsl import gpt, training
from tsl.lab import records
from tsl.prompts import Prompts, sample_prompts

D = 20


class Peer(nn.Module):
    """GPT2Model between a linear read-in and a linear read-out; a chain re-runs the whole sequence at every step."""

    def __init__(self, ours: gpt.WeightGPT) -> None:
        super().__init__()
        shape = ours.config
        self.body = GPT2Model(
            GPT2Config(
                n_positions=shape.positions, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            )
        )  # fmt: skip
        self.read_in = nn.Linear(2 * shape.d + 2, shape.width)
        self.read_out = nn.Linear(shape.width, shape.d)
        self.columns = ours.tokens, ours._estimates
        self._copy(ours)

    @torch.no_grad()
    def _copy(self, ours: gpt.WeightGPT) -> None:
        pairs = [(self.read_in, ours.read_in), (self.read_out, ours.read_out), (self.body.ln_f, ours.norm)]
        for theirs, block in zip(self.body.h, ours.blocks, strict=True):
            pairs += [(theirs.ln_1, block.norm_attention), (theirs.ln_2, block.norm_mlp)]
            for conv, linear in [
                (theirs.attn.c_attn, block.attention.qkv),
                (theirs.attn.c_proj, block.attention.out),
                (theirs.mlp.c_fc, block.mlp[0]),
                (theirs.mlp.c_proj, block.mlp[2]),
            ]:
                conv.weight.copy_(linear.weight.T)  # a Conv1D there is a Linear with its matrix on its side
                conv.bias.copy_(linear.bias)
        for theirs, own in pairs:
            theirs.weight.copy_(own.weight)
            theirs.bias.copy_(own.bias)
        self.body.wpe.weight.copy_(ours.position.weight)

    def forward(self, prompts: Prompts, chain: Tensor) -> Tensor:
        tokens, estimates = self.columns
        sequence = torch.cat([tokens(prompts), estimates(chain)], 1)
        hidden = self.body(inputs_embeds=self.read_in(sequence)).last_hidden_state
        return self.read_out(hidden[:, -chain.shape[1] :])

    @torch.no_grad()
    def think(self, prompts: Prompts, steps: int) -> Tensor:
        chain = torch.zeros(prompts.x.shape[0], 1, D, device=prompts.x.device)
        for _ in range(steps):
            chain = torch.cat([chain, self(prompts, chain)[:, -1:]], 1)
        return chain


def step(model: nn.Module, prompts: Prompts, precision: str) -> Callable[[], None]:
    """One optimiser step on a batch."""
    fused = isinstance(model, gpt.WeightGPT)  # the peer's public code uses the plain Adam
    optimizer = (
        torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
        if fused
        else torch.optim.Adam(model.parameters(), 1e-4)
    )
    start = torch.zeros(prompts.x.shape[0], 1, D, device=prompts.x.device)

    def once() -> None:
        with training.precision(prompts.x.device, precision):
            answer = model(prompts, start)
        loss = (answer.float()[:, 0] - prompts.w).square().sum(-1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return once


def least(jobs: dict[str, Callable[[], object]], repeat: int, device: torch.device) -> dict[str, float]:
    """Least time of each job in seconds; the jobs take turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeat + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    ours = gpt.WeightGPT(gpt.GPTConfig.paper(D, positions=512), generator).to(device)
    peer = Peer(ours).to(device)

    def draw(m: int, size: int) -> Prompts:
        made = sample_prompts(torch.eye(D), m, size, generator=generator)
        return Prompts(made.x.to(device), made.y.to(device), made.w.to(device))

    print(f"{records.describe_device(device)}, torch {torch.__version__}, {ours.size:,} parameters")
    small = draw(40, 4)
    gap = (ours.think(small, 5) - peer.think(small, 5)).abs().max().item()
    print(f"same weights, chains of 5 steps: largest difference {gap:.1e}")
    if gap > 1e-4:
        raise SystemExit("the two models do not compute the same function: times would mean nothing")

    batch = draw(40, 64)
    jobs = {
        "step, GPT2Model fp32": step(peer, batch, "fp32"),
        "step, ours fp32": step(ours, batch, "fp32"),
        "step, ours bf16": step(ours, batch, "bf16"),
    }
    times = least(jobs, options.repeat, device)
    base = times["step, GPT2Model fp32"]
    tokens = 64 * 81
    for name, seconds in times.items():
        flops = 6 * ours.size * tokens / seconds
        print(f"{name:28s} {seconds:8.3f} s {base / seconds:6.2f}x {flops / 1e9:8.0f} GFLOP/s")
    for m in (40, 200):
        prompts = draw(m, 16)
        jobs = {"GPT2Model": lambda p=prompts: peer.think(p, 20), "ours": lambda p=prompts: ours.think(p, 20)}
        times = least(jobs, max(1, options.repeat // 2), device)
        for name, seconds in times.items():
            print(f"{f'think 20, m={m}, {name}':28s} {seconds:8.3f} s {times['GPT2Model'] / seconds:6.2f}x")


if __name__ == "__main__":
    main()
