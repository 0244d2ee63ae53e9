"""One point of chapter 08's grid: train a model, let it think, and write down what it did.

A point is a `Cell`: which model, trained on what, tested on what. `train_and_evaluate` turns it into
curves, fit for a record and for a worker anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsl import _validate, cot, covariance, errors, gpt, lsa, stopping, sweeps, training
from tsl.prompts import Prompts, sample_prompts


@dataclass(frozen=True)
class Cell:
    """Settings of one training and its tests.

    Parameters
    ----------
    d, n, alpha : int, int, float
        Training prompts: dimension, examples, and spectral exponent (λ_i ∝ i^−alpha, trace d).
    chain : int
        Steps of its own chain the model is trained on; 1 is direct prediction only.
    kind : {"gpt", "lsa"}
        A transformer or, trained by the same loop, one layer of linear self-attention.
    attention, encoding, layers, heads, width
        Shape of the transformer, see `tsl.gpt.GPTConfig`.
    steps, batch, learning_rate, curriculum, precision
        Training, see `tsl.gpt.Recipe` and `tsl.training.Schedule`.
    seed : int
        Root of the initial weights and of the training data. All cells are tested on the same prompts.
    tests : sequence of (alpha, m)
        Test prompts: spectral exponent and examples.
    think, prompts : int
        Thinking steps and number of test prompts.

    Notes
    -----
    Where it runs is no setting: a record made on a GPU is found by whoever asks on a CPU.
    """

    d: int = 3
    n: int = 10
    alpha: float = 0.0
    chain: int = 4
    kind: Literal["gpt", "lsa"] = "gpt"
    attention: gpt.Attention = "softmax"
    encoding: gpt.Encoding = "pairs"
    layers: int = 2
    heads: int = 2
    width: int = 32
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 3e-3
    curriculum: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    tests: Sequence[Sequence[float | int]] = ((0.0, 20),)
    think: int = 32
    prompts: int = 2000

    def __post_init__(self) -> None:
        _validate.choice("kind", self.kind, ("gpt", "lsa"))
        for name in ("think", "prompts"):
            _validate.positive_int(name, getattr(self, name))
        _validate.at_least("seed", self.seed, 0)
        _validate.non_negative("alpha", self.alpha)
        _check_tests(self.tests)
        # Each checks its own part, before hours are spent on the others.
        self.config(), self.recipe(), self.schedule()

    def config(self) -> gpt.GPTConfig:
        """Shape of the transformer."""
        return gpt.GPTConfig(self.d, self.layers, self.heads, self.width, self.attention, self.encoding)

    def recipe(self) -> gpt.Recipe:
        """Training data and loss."""
        return gpt.Recipe(
            self.n, self.chain, self.batch, curriculum=self.curriculum, precision=self.precision
        )

    def schedule(self) -> training.Schedule:
        """Steps and learning rate."""
        return training.Schedule(self.steps, self.learning_rate)


def _check_tests(tests: Any) -> None:
    if not isinstance(tests, list | tuple) or not tests:
        raise ValueError(f"tests must be a sequence of at least one pair (alpha, m), got {tests!r}")
    for index, test in enumerate(tests):
        if not isinstance(test, list | tuple) or len(test) != 2:
            raise ValueError(f"tests[{index}] must be a pair (alpha, m), got {test!r}")
        _validate.non_negative(f"alpha of tests[{index}]", test[0])
        _validate.positive_int(f"m of tests[{index}]", test[1])


def cell(**settings: Any) -> dict[str, Any]:
    """Settings of a `Cell` with all its defaults written out, as plain values: what a record is keyed by.

    Raises
    ------
    ValueError
        If a name is not a field of `Cell`, or a value is not allowed there.
    """
    known = [field.name for field in fields(Cell)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(f"settings must be fields of Cell ({', '.join(known)}), got {', '.join(unknown)}")
    # One spelling of each number, so that alpha=1 and alpha=1.0 are one record.
    floats = {field.name for field in fields(Cell) if isinstance(field.default, float)}
    whole = {name: float(v) for name, v in settings.items() if name in floats and type(v) is int}
    plain = asdict(Cell(**{**settings, **whole}))
    return {**plain, "tests": [[float(alpha), m] for alpha, m in plain["tests"]]}


class LSAThinker(nn.Module):
    """Linear self-attention with the interface of `tsl.gpt.WeightGPT`, so that the same loop trains it."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = lsa.LinearSelfAttention(d)

    def forward(self, prompts: Prompts, chain: Float[Tensor, "B k d"]) -> Float[Tensor, "B k d"]:
        """Answer to each estimate of a chain; the layer reads the examples and that estimate."""
        d = self.layer.d
        columns = [self.layer.answer(lsa.embed(prompts, estimate)) for estimate in chain.unbind(1)]
        return torch.stack(columns, 1)[:, :, d + 1 : 2 * d + 1]

    def think(self, prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
        """Chain of thought on the growing embedding."""
        return self.layer.think(prompts, steps)


def build(settings: Cell) -> LSAThinker | gpt.WeightGPT:
    """Model of a cell, untrained, on the CPU."""
    if settings.kind == "lsa":
        return LSAThinker(settings.d)
    return gpt.WeightGPT(settings.config(), torch.Generator().manual_seed(settings.seed))


def train(
    settings: Cell,
    checkpoint: Path | str | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[LSAThinker | gpt.WeightGPT, training.History]:
    """Train the model of a cell on a device, where it stays."""
    model = build(settings).to(device)
    history = gpt.train_gpt(
        model,
        covariance.power_law(settings.d, settings.alpha, trace=float(settings.d)).to(device),
        settings.recipe(),
        settings.schedule(),
        torch.Generator(device).manual_seed(1_000_003 + settings.seed),
        checkpoint=checkpoint,
        identity={"seed": settings.seed},
        progress=progress,
    )
    return model, history


def exam(settings: Cell, alpha: float, m: int) -> Prompts:
    """Test prompts: the same for every model of the same dimension."""
    cov = covariance.power_law(settings.d, alpha, trace=float(settings.d))
    return sample_prompts(cov, int(m), settings.prompts, generator=torch.Generator().manual_seed(7_000_003))


def evaluate(model: cot.Thinker, prompts: Prompts, steps: int) -> dict[str, Any]:
    """Error of a chain at every step, its distance to a pseudo-Newton chain, and where a rule stops it.

    Parameters
    ----------
    model : Thinker
        Trained model.
    prompts : Prompts
        B test prompts, in float64 on the CPU.
    steps : int
        Thinking steps k.

    Returns
    -------
    dict
        Over the B prompts, with one entry a step from 0 to k:

        ``error``, ``median``, ``upper``
            mean, median and 90 % quantile of the model's error ‖ŵ_j − w*‖²;
        ``newton``
            mean error of the pseudo-Newton chain that follows the model best, see `closest_newton`;
        ``distance``
            mean squared distance of the model's estimates from that chain's.

        And as one number each:

        ``gamma``
            scalar preconditioner of that chain;
        ``stopped``, ``stop_step``
            mean error, and mean step, where every chain is stopped by `tsl.stopping.stop_step`;
        ``oracle``
            mean error at the best step common to all chains.
    """
    chain = cot.chain_of_thought(model, prompts, steps).double()
    error = errors.squared_error(chain, prompts.w)
    gamma, twin = closest_newton(chain, prompts)
    stop = stopping.stop_step(chain, prompts)
    return {
        "error": error.mean(0).tolist(),
        "median": error.median(0).values.tolist(),
        "upper": error.quantile(0.9, 0).tolist(),
        "gamma": gamma,
        "newton": errors.squared_error(twin, prompts.w).mean(0).tolist(),
        "distance": (chain - twin).square().sum(-1).mean(0).tolist(),
        "stopped": error.gather(1, stop[:, None]).mean().item(),
        "stop_step": stop.double().mean().item(),
        "oracle": error.mean(0).min().item(),
    }


def closest_newton(chain: Float[Tensor, "B k d"], prompts: Prompts, first: int = 4) -> tuple[float, Tensor]:
    """Pseudo-Newton chain ŵ ← ŵ − (Σ̂ŵ − b)/g whose first steps follow a chain best, over scalars g.

    For isotropic features every preconditioner that treats directions alike is such a scalar, so this is
    the best preconditioner there is, not one of a family.

    Returns
    -------
    float, Tensor of shape (B, k, d)
        g and the chain.
    """
    moments = prompts.moments()
    eye = torch.eye(chain.shape[2], dtype=torch.float64)
    look = min(first, chain.shape[1] - 1)

    def miss(g: float) -> float:
        twin = cot.pseudo_newton(moments, g * eye, look)
        return (chain[:, : look + 1] - twin).square().sum(-1).mean().item()

    best = min(torch.logspace(-0.5, 1.0, 61).tolist(), key=miss)
    return best, cot.pseudo_newton(moments, best * eye, chain.shape[1] - 1)


def train_and_evaluate(
    settings: Mapping[str, Any],
    checkpoints: Path | str | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train and test the model of one cell.

    Parameters
    ----------
    settings : mapping
        Fields of `Cell`.
    checkpoints : path, optional
        Folder for a checkpoint, from which a training that was killed goes on.
    progress : bool
        See `tsl.training.fit`.
    device : device
        Where to train; tests run on the CPU.

    Returns
    -------
    dict
        ``losses``: those of every ``every``-th step, some 60 (of short trainings fewer than 120); ``every``;
        ``parameters``; ``training_seconds``; ``tests``: for each test its ``alpha``, ``m`` and what `evaluate`
        says.
    """
    asked = Cell(**settings)
    path = None if checkpoints is None else Path(checkpoints) / f"{sweeps.key(settings)}.safetensors"
    model, history = train(asked, path, progress, device)
    model = model.cpu()
    tests = []
    for alpha, m in asked.tests:
        measured = evaluate(model, exam(asked, alpha, int(m)), asked.think)
        tests.append({"alpha": alpha, "m": int(m), **measured})
    every = max(1, len(history.losses) // 60)
    return {
        "losses": history.losses[every - 1 :: every],
        "every": every,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": history.seconds,
        "tests": tests,
    }


def headline(record: Mapping[str, Any]) -> str:
    """One line on a record: what was trained, and its error directly and at its best step."""
    asked, test = record["settings"], record["result"]["tests"][0]
    best = min(range(len(test["error"])), key=test["error"].__getitem__)
    error = [f"{test['error'][step]:.3g} at step {step}" for step in (1, best, len(test["error"]) - 1)]
    names = ("kind", "attention", "encoding", "n", "alpha", "chain", "seed")
    return f"{' '.join(f'{name}={asked[name]}' for name in names)}: error {', '.join(error)}"
