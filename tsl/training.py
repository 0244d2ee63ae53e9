"""A training loop that survives: killed at any point and started again, it ends where it would have ended.

:func:`fit` knows nothing about what it trains.  It asks a function for the loss of each step, and keeps
everything that decides the next step (weights, optimiser, generator, step) in one checkpoint: safetensors,
no pickle, written beside the old one and moved over it, with a digest, and signed with the configuration
that it belongs to.  What is not finite stops a training before it touches the weights.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tsl import _validate, paths

FORMAT = "tsl-checkpoint-2"

#: Asked once a step: (model, step, generator) -> (scalar loss, number of tokens it was computed on).
Loss = Callable[[nn.Module, int, torch.Generator], tuple[Tensor, int]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, cut short, or of another run.  The file is left as it is."""


_ADVICE = "It was left as it is: name another file, or delete this one, to start anew."


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast: AdamW, warm-up from 0, then linear decay to 0.

    `learning_rate` is the peak, `warmup` the fraction of the `steps` spent warming up, and gradients are scaled down to the
    norm `clip`.
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
            _validate.share(name, getattr(self, name), whole=False)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0; positive at every step."""
        rising = (step + 1) / (self.warmup * self.steps) if self.warmup else 1.0
        falling = (self.steps - step) / (self.steps * (1 - self.warmup))
        return self.learning_rate * min(1.0, rising, falling)


@dataclass(frozen=True)
class History:
    """Loss of every step, over all lives of a training, and the time spent in steps, kills and waiting not counted."""

    losses: list[float]
    seconds: float


def precision(device: torch.device | str, name: Literal["fp32", "bf16"]) -> contextlib.AbstractContextManager:
    """Context for forward passes in the named precision; weights and optimiser stay in float32."""
    _validate.choice("precision", name, ("fp32", "bf16"))
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@contextlib.contextmanager
def _quick_products() -> Iterator[None]:
    """On a GPU, multiply float32 matrices on its matrix units (TF32, ten bits of mantissa); elsewhere nothing changes."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


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
    loss : callable
        ``loss(model, step, generator) -> (loss, tokens)``; all its randomness must come from ``generator``.
    checkpoint : path, optional
        File to write every ``every`` steps and at the end, and to go on from.
    identity : mapping, optional
        What makes this run this run (configuration, seed …), fit for JSON.  A checkpoint of another identity is refused.
    progress : bool
        Show loss, tokens per second and time left, and print an estimate of the cost first: on standard error
        or, where the environment variable ``TSL_PROGRESS`` names a file, at the end of that file.

    Raises
    ------
    CheckpointError
        If ``checkpoint`` exists and is damaged, cut short or belongs to another run, or does not fit the
        model.  Neither the file nor the model is touched.
    FloatingPointError
        If a loss, a gradient or a weight is not finite.  The previous checkpoint is not touched.
    OSError
        If a checkpoint cannot be written, for example on a full disk.  The previous one is not touched.
    """
    _validate.positive_int("every", every)
    identity = signature(identity or {}, schedule, generator.device)
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
        state = load_checkpoint(path, identity)
        _check_fit(path, state, model, optimizer, generator, schedule.steps)
        start = _restore(state, model, optimizer, generator, losses, spent)
    with contextlib.ExitStack() as open_until_done:
        stream = open_until_done.enter_context(progress_stream())
        if progress and start < schedule.steps:
            print(_estimate(model, loss, schedule, start, generator), file=stream)
        model.train()
        open_until_done.enter_context(_quick_products())
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
                _check_weights(model, step, schedule)
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
    number = value.item()
    # Asked before anything moves: afterwards the weights are lost, and a checkpoint would keep that for ever.
    if not math.isfinite(number):
        raise _not_finite(f"loss is {number}", step, schedule)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    try:
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip, error_if_nonfinite=True)
    except RuntimeError as error:
        raise _not_finite(f"gradient of a loss of {number:.3g} is not finite", step, schedule) from error
    optimizer.step()
    return number, tokens


def _check_weights(model: nn.Module, step: int, schedule: Schedule) -> None:
    """A step can still overflow; the loss would say so one step too late for a checkpoint."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise _not_finite(f"weight {name} is not finite", step, schedule)


def _not_finite(what: str, step: int, schedule: Schedule) -> FloatingPointError:
    return FloatingPointError(f"{what} at step {step}: lower learning_rate = {schedule.learning_rate}")


def signature(
    identity: Mapping[str, Any], schedule: Schedule, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Identity that `fit` signs a checkpoint with: the caller's, the schedule and the kind of the generator's device.

    Another kind of device draws other data from the same seed.
    """
    return {**identity, "schedule": vars(schedule), "generator": torch.device(device).type}


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
    """Where progress is shown: a notebook that runs by itself has no terminal, but may name a file.

    A file that cannot be written gets nothing, and is no reason to end a training.
    """
    name = os.environ.get("TSL_PROGRESS")
    if not name:
        yield sys.stderr
        return
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        file = open(name, "a", encoding="utf-8")  # noqa: SIM115 (closed below, where that may fail)
    except OSError:
        file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        yield cast(TextIO, _Forgiving(file))
    finally:
        with contextlib.suppress(OSError):  # closing writes what is left
            file.close()


class _Forgiving:
    """A text file to write to that falls silent when it cannot be written, for example on a full disk."""

    encoding = "utf-8"  # tqdm asks, and draws its bar accordingly

    def __init__(self, file: TextIO) -> None:
        self.file: TextIO | None = file

    def write(self, text: str) -> int:
        self._try(lambda file: file.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda file: file.flush())

    def _try(self, action: Callable[[TextIO], object]) -> None:
        if self.file is not None:
            try:
                action(self.file)
            except OSError:
                self.file = None


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


def _check_fit(
    path: Path,
    state: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    steps: int,
) -> None:
    """Refuse a state that does not fit, before anything is overwritten: half restored, a model is worthless."""
    wanted = {f"model.{name}": value for name, value in model.state_dict().items()}
    wanted |= {"generator": generator.get_state(), "seconds": torch.zeros((), dtype=torch.float64)}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        moments = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        named = {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        if named.keys() & state.keys():  # there are none for a weight that never had a gradient
            wanted |= named
    # As long as what has been trained, which is for the checkpoint to say.
    wanted["losses"] = torch.zeros(min(state["losses"].numel(), steps) if "losses" in state else 0)
    wrong = [
        f"{name}: {_shape(state.get(name))} there, {_shape(wanted.get(name))} here"
        for name in sorted({*state, *wanted})
        if _shape(state.get(name)) != _shape(wanted.get(name))
    ]
    if wrong:
        listed = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise CheckpointError(f"{path} does not fit the model ({listed}). {_ADVICE}")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path} holds numbers that are not finite, in {name}. {_ADVICE}")
    try:
        torch.Generator(generator.device).set_state(state["generator"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds a broken state of the generator ({error}). {_ADVICE}") from error


def _shape(value: Tensor | None) -> str:
    return "nothing" if value is None else f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


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
            # Cloned into memory of its own: kernels may round differently on memory that is aligned differently.
            entries.setdefault(int(index), {})[key] = value.clone().to("cpu" if key == "step" else device)
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(state["generator"])
    step = len(state["losses"])
    losses[:step] = state["losses"]
    spent.copy_(state["seconds"])
    return step


def fingerprint(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 (in hexadecimal) of a text and of named tensors: names, types, shapes and bits, on any device, in any order."""
    total = hashlib.sha256()
    parts: list[bytes | memoryview] = [text.encode()]
    for name, value in sorted(tensors.items()):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        parts += [name.encode(), str(value.dtype).encode(), str(tuple(value.shape)).encode(), raw]
    for part in parts:  # lengths keep the parts apart: what leaves one cannot enter the next unseen
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def save_checkpoint(path: Path | str, tensors: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; its folder is made where missing, and its identity must survive JSON.

    Raises
    ------
    OSError
        If it cannot be written; the message names the file and, on a full disk, what was needed and what is free.
    """
    path = Path(path)
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(identity, sort_keys=True)
    metadata = {"format": FORMAT, "identity": text, "digest": fingerprint(kept, text)}
    data = safetensors.torch.save(kept, metadata)
    try:
        paths.write_whole(path, data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and path.parent.is_dir():
            free = shutil.disk_usage(path.parent).free
            text = f"disk full: checkpoint of {len(data):,} bytes, {free:,} free; the one before is untouched"
            raise OSError(error.errno, text, str(path)) from error
        raise


def load_checkpoint(path: Path | str, identity: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Read a checkpoint to the CPU; check that it is whole and, if ``identity`` is given, belongs to that run.

    Raises
    ------
    CheckpointError
        If not; the message says what is wrong, and the file is left as it is.
    """
    try:
        # In one go: safetensors opens a file twice, and between the two another writer may replace it.
        data = Path(path).read_bytes()
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__") or {}
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own type, OSError and others for damaged files
        raise CheckpointError(f"{path} is damaged or cut short ({error}). {_ADVICE}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}. {_ADVICE}")
    if metadata.get("digest") != fingerprint(tensors, metadata.get("identity", "")):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest. {_ADVICE}")
    found = _read_identity(path, metadata.get("identity"))
    if identity is not None:
        wanted = json.loads(json.dumps(identity))
        if found != wanted:
            names = [k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k)]
            differing = "; ".join(f"{k}: {found.get(k)!r} there, {wanted.get(k)!r} here" for k in names)
            raise CheckpointError(f"{path} belongs to another run ({differing}). {_ADVICE}")
    return tensors


def _read_identity(path: Path | str, text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not say what it belongs to: its identity is {text!r}. {_ADVICE}")
    return found
