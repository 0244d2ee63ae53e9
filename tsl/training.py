"""A training loop that survives: killed at any point and started again, it ends where it would have ended.

:func:`fit` knows nothing about what it trains.  It asks a function for the loss of each step, and keeps
everything that decides the next step (weights, optimiser, generator, step) in one checkpoint: safetensors,
no pickle, written beside the old one and moved over it, with a digest, and signed with the configuration
that it belongs to.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tsl import _validate

FORMAT = "tsl-checkpoint-1"

#: Asked once a step: (model, step, generator) -> (scalar loss, number of tokens it was computed on).
Loss = Callable[[nn.Module, int, torch.Generator], tuple[Tensor, int]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, cut short, or of another run.  The file is left as it is."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast: AdamW, warm-up from 0, then linear decay to 0.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    learning_rate : float
        Peak of the learning rate.
    warmup : float
        Fraction of the steps spent warming up.
    clip : float
        Gradients are scaled down to this norm.
    weight_decay : float
        AdamW's decay of the weights.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: float = 0.05
    clip: float = 1.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _validate.positive_int("steps", self.steps)
        for name in ("learning_rate", "clip"):
            _validate.positive(name, getattr(self, name))
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0; positive at every step."""
        rising = (step + 1) / (self.warmup * self.steps) if self.warmup else 1.0
        falling = (self.steps - step) / (self.steps * (1 - self.warmup))
        return self.learning_rate * min(1.0, rising, falling)


@dataclass(frozen=True)
class History:
    """What a training went through, over all its lives.

    Parameters
    ----------
    losses : list of float
        Loss of every step.
    seconds : float
        Time spent in steps, kills and waiting not counted.
    """

    losses: list[float]
    seconds: float


def precision(device: torch.device | str, name: Literal["fp32", "bf16"]) -> contextlib.AbstractContextManager:
    """Context for forward passes in the named precision; weights and optimiser stay in float32."""
    if name not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {name!r}")
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def fit(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    checkpoint: Path | str | None = None,
    every: int = 500,
    identity: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> History:
    """Train ``model`` in place; go on from ``checkpoint`` where it exists.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    loss : callable
        ``loss(model, step, generator) -> (loss, tokens)``; all its randomness must come from ``generator``.
    schedule : Schedule
        Steps and learning rate.
    generator : torch.Generator
        Source of the training data.
    checkpoint : path, optional
        File to write every ``every`` steps and at the end, and to go on from.
    every : int
        Steps between two checkpoints.
    identity : mapping, optional
        What makes this run this run (configuration, seed …), fit for JSON.  A checkpoint of another
        identity is refused.
    progress : bool
        Show loss, tokens per second and time left, and print an estimate of the cost first: on standard error
        or, where the environment variable ``TSL_PROGRESS`` names a file, at the end of that file.

    Returns
    -------
    History
        Losses and time, those before the last kill included.

    Raises
    ------
    CheckpointError
        If ``checkpoint`` exists and is damaged, cut short or belongs to another run.  It is not touched.
    OSError
        If a checkpoint cannot be written, for example on a full disk.  The previous one is not touched.
    """
    _validate.positive_int("every", every)
    identity = {**(identity or {}), "schedule": vars(schedule)}
    path = Path(checkpoint) if checkpoint is not None else None
    optimizer = torch.optim.AdamW(
        model.parameters(),
        schedule.learning_rate,
        (0.9, 0.95),
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    losses, spent = torch.zeros(schedule.steps), torch.zeros((), dtype=torch.float64)
    start = 0
    if path is not None and path.exists():
        start = _restore(load_checkpoint(path, identity), model, optimizer, generator, losses, spent)
    with contextlib.ExitStack() as open_until_done:
        stream = open_until_done.enter_context(progress_stream())
        if progress and start < schedule.steps:
            print(_estimate(model, loss, schedule, start, generator), file=stream)
        model.train()
        bar = open_until_done.enter_context(
            tqdm(
                total=schedule.steps,
                initial=start,
                disable=not progress,
                unit="step",
                mininterval=1.0,
                file=stream,
            )
        )
        began, tokens, before = time.perf_counter(), 0, spent.clone()
        for step in range(start, schedule.steps):
            value, size = _step(model, loss, schedule, optimizer, step, generator)
            losses[step], tokens = value, tokens + size
            spent = before + (time.perf_counter() - began)
            bar.update()
            if progress and bar.n == bar.last_print_n:  # the bar has just been drawn anew
                rate = tokens / (time.perf_counter() - began)
                bar.set_postfix_str(f"loss {value:.3g}, {rate:,.0f} tokens/s", refresh=False)
            if path is not None and ((step + 1) % every == 0 or step + 1 == schedule.steps):
                save_checkpoint(
                    path, _state(model, optimizer, generator, losses[: step + 1], spent), identity
                )
    model.eval()
    return History(losses.tolist(), spent.item())


def _step(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    step: int,
    generator: torch.Generator,
) -> tuple[float, int]:
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    value, tokens = loss(model, step, generator)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
    optimizer.step()
    number = value.item()
    if number != number:  # NaN: the weights are lost, and a checkpoint would keep the loss of them for ever
        raise FloatingPointError(
            f"loss is NaN at step {step}: lower learning_rate = {schedule.learning_rate}"
        )
    return number, tokens


def estimate_step(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    generator: torch.Generator,
    step: int = 0,
    repeat: int = 3,
) -> tuple[float, int]:
    """Seconds and tokens of one training step, measured on a copy: neither model nor generator move."""
    trial, data = copy.deepcopy(model), torch.Generator(generator.device)
    data.set_state(generator.get_state())
    optimizer = torch.optim.AdamW(trial.parameters(), schedule.learning_rate, fused=True)
    _step(trial, loss, schedule, optimizer, step, data)  # the first one allocates
    began, tokens = time.perf_counter(), 0
    for _ in range(repeat):
        tokens += _step(trial, loss, schedule, optimizer, step, data)[1]
    return (time.perf_counter() - began) / repeat, tokens // repeat


@contextlib.contextmanager
def progress_stream() -> Iterator[TextIO]:
    """Where progress is shown: a notebook that runs by itself has no terminal, but may name a file."""
    name = os.environ.get("TSL_PROGRESS")
    if not name:
        yield sys.stderr
        return
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    with open(name, "a", encoding="utf-8") as file:
        yield file


def _estimate(
    model: nn.Module, loss: Loss, schedule: Schedule, start: int, generator: torch.Generator
) -> str:
    # The last step, not the first: a curriculum makes the first ones cheap.
    seconds, tokens = estimate_step(model, loss, schedule, generator, schedule.steps - 1)
    left = schedule.steps - start
    size = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{left:,} steps of {tokens:,} tokens, {size:,} parameters on {generator.device}: "
        f"about {left * seconds / 60:.1f} min ({1e3 * seconds:.0f} ms a step)"
    )


def _state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    losses: Tensor,
    spent: Tensor,
) -> dict[str, Tensor]:
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    return state | {"generator": generator.get_state(), "losses": losses, "seconds": spent}


def _restore(
    state: dict[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    losses: Tensor,
    spent: Tensor,
) -> int:
    device = next(model.parameters()).device
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            # Cloned into memory of its own: kernels may round differently on memory that is aligned
            # differently.
            entries.setdefault(int(index), {})[key] = value.clone().to("cpu" if key == "step" else device)
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(state["generator"])
    step = len(state["losses"])
    losses[:step] = state["losses"]
    spent.copy_(state["seconds"])
    return step


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_checkpoint(path: Path | str, tensors: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Parameters
    ----------
    path : path
        File to write; its folder is made where missing.
    tensors : mapping of str to Tensor
        What to keep.
    identity : mapping
        What the tensors belong to; must survive JSON.

    Raises
    ------
    OSError
        If it cannot be written; the message names the file and, on a full disk, what was needed and what is
        free.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "identity": json.dumps(identity, sort_keys=True), "digest": _digest(kept)}
    data = safetensors.torch.save(kept, metadata)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(path.parent).free
            text = f"disk full: checkpoint of {len(data):,} bytes, {free:,} free; the one before is untouched"
            raise OSError(error.errno, text, str(path)) from error
        raise


def load_checkpoint(path: Path | str, identity: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Read a checkpoint; check that it is whole and, if ``identity`` is given, belongs to that run.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    CheckpointError
        If not; the message says what is wrong, and the file is left as it is.
    """
    advice = "It was left as it is: name another file, or delete this one, to start anew."
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own type, OSError and others for damaged files
        raise CheckpointError(f"{path} is damaged or cut short ({error}). {advice}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}. {advice}")
    if metadata.get("digest") != _digest(tensors):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest. {advice}")
    if identity is not None:
        found, wanted = json.loads(metadata["identity"]), json.loads(json.dumps(identity))
        if found != wanted:
            names = [k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k)]
            differing = "; ".join(f"{k}: {found.get(k)!r} there, {wanted.get(k)!r} here" for k in names)
            raise CheckpointError(f"{path} belongs to another run ({differing}). {advice}")
    return tensors
