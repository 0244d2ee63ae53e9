"""The experiment of chapter 08: train a transformer, let it think, and write down what it did.

A point of its grid is a `Cell`: which model, trained on what, tested on what. `job` turns it into curves, fit for a
record and for a worker anywhere; `curve` and `linear_theory` read and predict what records hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsl import _validate, cot, covariance, errors, gpt, lsa, stopping, theory, training
from tsl.lab import parallel, records
from tsl.lab.records import Record
from tsl.prompts import Prompts, sample_prompts

#: Prompts of a test on which what needs many chains a prompt is tried.
FEW = 150
#: Chains about random halves of a prompt: how many are taken together, and thoughts of each.
TOGETHER = (1, 2, 4, 8)
SHORT_CHAIN = 8
#: Ways to end a chain, in the order of `stopped`: the last solves the task without it.
STOPS = (
    "all steps", "best common step", "increments grow", "residual turns", "held-out error turns",
    "closest to posterior mean", "posterior mean itself",
)  # fmt: skip

#: Shape of the paper's decoder, with our encoding and recipe in a size fit for a GPU.
PAPER: Mapping[str, Any] = {
    "d": 10, "layers": 12, "heads": 8, "width": 256, "batch": 256, "steps": 1500, "learning_rate": 5e-4,
    "precision": "bf16",
}  # fmt: skip
#: The same with the encoding described for the paper, which takes longer to learn.
INTERLEAVED: Mapping[str, Any] = {
    **PAPER, "encoding": "interleaved", "steps": 2000, "learning_rate": 1e-3, "curriculum": 0.5, "chain": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """Settings of one training and its tests.

    Where it runs is no setting: a record made on a GPU is found by whoever asks on a CPU.

    Parameters
    ----------
    d, n, alpha : int, int, float
        Training prompts: dimension, examples, and spectral exponent (λ_i ∝ i^−alpha, trace d).
    chain : int
        Steps of its own chain the model is trained on; 1 is direct prediction only.
    kind : {"gpt", "lsa"}
        A transformer or, trained by the same loop, one layer of linear self-attention.
    attention, encoding, layers, heads, width, steps, batch, learning_rate, curriculum, precision
        Shape of the transformer and training, see `tsl.gpt.GPTConfig`, `tsl.gpt.Recipe` and `tsl.training.Schedule`.
    seed : int
        Root of the initial weights and of the training data. All cells are tested on the same prompts.
    tests, think, prompts : sequence of (alpha, m), int, int
        Spectral exponents and examples of the test prompts; thinking steps; number of prompts of each test.
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

    def model(self) -> LSAThinker | gpt.WeightGPT:
        """Model, untrained, on the CPU."""
        if self.kind == "lsa":
            return LSAThinker(self.d)
        return gpt.WeightGPT(self.config(), torch.Generator().manual_seed(self.seed))


def _check_tests(tests: Any) -> None:
    if not isinstance(tests, list | tuple) or not tests:
        raise ValueError(f"tests must be a sequence of at least one pair (alpha, m), got {tests!r}")
    for index, test in enumerate(tests):
        if not isinstance(test, list | tuple) or len(test) != 2:
            raise ValueError(f"tests[{index}] must be a pair (alpha, m), got {test!r}")
        _validate.non_negative(f"alpha of tests[{index}]", test[0])
        _validate.positive_int(f"m of tests[{index}]", test[1])


def settings(**asked: Any) -> dict[str, Any]:
    """Settings of a `Cell`, checked, with all defaults written out as plain values: what a record is keyed by."""
    known = [field.name for field in fields(Cell)]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(f"settings must be fields of Cell ({', '.join(known)}), got {', '.join(unknown)}")
    # One spelling of each number, so that alpha=1 and alpha=1.0 are one record.
    floats = {field.name for field in fields(Cell) if isinstance(field.default, float)}
    whole = {name: float(value) for name, value in asked.items() if name in floats and type(value) is int}
    plain = asdict(Cell(**{**asked, **whole}))
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
        """Chain of thought on the growing embedding, on the model's device; the chain lies where the prompts lie."""
        return self.layer.think(prompts.to(self.layer.value.device), steps).to(prompts.x.device)

    def rollout(self, prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
        """Answers to the first ``steps`` estimates of its own chain."""
        _validate.positive_int("steps", steps)
        return self(prompts, self.think(prompts, steps - 1))


def train(
    cell: Cell,
    checkpoint: Path | str | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[LSAThinker | gpt.WeightGPT, training.History]:
    """Train the model of a cell on a device, where it stays."""
    model = cell.model().to(device)
    history = gpt.train_gpt(
        model,
        covariance.power_law(cell.d, cell.alpha, trace=float(cell.d)),
        cell.recipe(),
        cell.schedule(),
        torch.Generator().manual_seed(1_000_003 + cell.seed),
        checkpoint=checkpoint,
        identity={"seed": cell.seed},
        progress=progress,
    )
    return model, history


def exam(cell: Cell, alpha: float, m: int) -> Prompts:
    """Test prompts: the same for every model of the same dimension."""
    cov = covariance.power_law(cell.d, alpha, trace=float(cell.d))
    return sample_prompts(cov, int(m), cell.prompts, generator=torch.Generator().manual_seed(7_000_003))


def evaluate(model: cot.Thinker, prompts: Prompts, steps: int) -> dict[str, Any]:
    """Error of a chain of k steps, its distance to a pseudo-Newton chain, and where a rule stops it.

    Returns
    -------
    dict
        Over the B prompts, which lie in float64 on the CPU, with one entry a step from 0 to k:

        ``error``, ``median``, ``upper``
            mean, median and 90 % quantile of the model's error ‖ŵ_j − w*‖²;
        ``newton``
            mean error of the pseudo-Newton chain that follows the model best, see `closest_newton`;
        ``distance``
            mean squared distance of the model's estimates from that chain's.

        And as one number each:

        ``gamma``
            scalar preconditioner of that chain;

        And on the first `FEW` prompts, if they have two examples or more:

        ``stops``
            mean error where each way of `STOPS` ends the chains, see `stopped`;
        ``alone``, ``mean``, ``vote``
            mean errors of thinking in parallel, see `about_halves`.
    """
    chain = cot.chain_of_thought(model, prompts, steps).double()
    error = errors.squared_error(chain, prompts.w)
    gamma, twin = closest_newton(chain, prompts)
    measured = {
        "error": error.mean(0).tolist(),
        "median": error.median(0).values.tolist(),
        "upper": error.quantile(0.9, 0).tolist(),
        "gamma": gamma,
        "newton": errors.squared_error(twin, prompts.w).mean(0).tolist(),
        "distance": (chain - twin).square().sum(-1).mean(0).tolist(),
    }
    if prompts.x.shape[1] > 1:
        few = _few(prompts)
        measured["stops"] = stopped(model, few, chain[:FEW])
        measured |= about_halves(model, few, chain[:FEW])
    return measured


def _few(prompts: Prompts) -> Prompts:
    return Prompts(prompts.x[:FEW], prompts.y[:FEW], prompts.w[:FEW])


def stopped(model: cot.Thinker, prompts: Prompts, chain: Float[Tensor, "B k d"]) -> list[float]:
    """Mean error where each way of `STOPS` ends the chains of these prompts; none but the first two looks at w*."""
    error = errors.squared_error(chain, prompts.w)
    centre = stopping.posterior_mean(prompts)

    def think(some: Prompts, steps: int) -> Tensor:
        return cot.chain_of_thought(model, some, steps).double()

    last, folds = chain.shape[1] - 1, min(5, prompts.x.shape[1])
    held_out = stopping.held_out_error(think, prompts, last, folds)
    rules = (
        stopping.divergence_step(chain),
        stopping.first_turn(stopping.residual(chain, prompts), patience=2),
        stopping.first_turn(held_out, patience=2),
        stopping.stop_step(chain, prompts),
    )
    means = [error[:, -1], error[:, error.mean(0).argmin()]]
    means += [error.gather(1, step[:, None])[:, 0] for step in rules]
    means += [errors.squared_error(centre[:, None], prompts.w)[:, 0]]
    return [values.mean().item() for values in means]


def about_halves(model: cot.Thinker, prompts: Prompts, chain: Float[Tensor, "B k d"]) -> dict[str, Any]:
    """One chain about whole prompts against several about random halves of them.

    Returns
    -------
    dict
        ``alone``: mean error of the chain given, for every step from 0; ``mean`` and ``vote``: for every number of chains
        in `TOGETHER` the mean error of their mean and of their coordinates' median, for every step to `SHORT_CHAIN`.
    """
    steps = min(SHORT_CHAIN, chain.shape[1] - 1)
    generator = torch.Generator().manual_seed(7_000_033)
    chains = parallel.chains_about_halves(model, prompts, max(TOGETHER), steps, generator).double()

    def error(vote: bool) -> list[list[float]]:
        joined = (parallel.together(chains, count, vote) for count in TOGETHER)
        return [errors.squared_error(answer, prompts.w).mean(0).tolist() for answer in joined]

    alone = errors.squared_error(chain, prompts.w).mean(0).tolist()
    return {"alone": alone, "mean": error(False), "vote": error(True)}


def windowed(model: cot.Thinker, prompts: Prompts, steps: int, window: int) -> dict[str, Any]:
    """Mean error of chains that never read more estimates than ``window``, for every step from 0, as ``windowed``.

    On the first `FEW` prompts; nothing for a window of one, or a model that cannot think so.
    """
    if window < 2 or not isinstance(model, gpt.WeightGPT):
        return {}
    few = _few(prompts)
    chain = model.think(few, steps, window).double()
    return {"windowed": errors.squared_error(chain, few.w).mean(0).tolist()}


def closest_newton(chain: Float[Tensor, "B k d"], prompts: Prompts, first: int = 4) -> tuple[float, Tensor]:
    """Pseudo-Newton chain ŵ ← ŵ − (Σ̂ŵ − b)/g whose first steps follow a chain best, over scalars g.

    Returns g and the chain, (B, k, d). For isotropic features every preconditioner that treats directions alike is
    such a scalar, so this is the best preconditioner there is, not one of a family.
    """
    moments = prompts.moments()
    eye = torch.eye(chain.shape[2], dtype=torch.float64)
    look = min(first, chain.shape[1] - 1)

    def miss(g: float) -> float:
        twin = cot.pseudo_newton(moments, g * eye, look)
        return (chain[:, : look + 1] - twin).square().sum(-1).mean().item()

    best = min(torch.logspace(-0.5, 1.0, 61).tolist(), key=miss)
    return best, cot.pseudo_newton(moments, best * eye, chain.shape[1] - 1)


def job(
    settings: Mapping[str, Any],
    checkpoints: Path | str | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train and test the model of one point.

    Parameters
    ----------
    settings : mapping
        Fields of `Cell`.
    checkpoints, progress, device
        Folder from which a training that was killed goes on; whether to show progress; where to train, and to think.

    Returns
    -------
    dict
        ``losses``: those of every ``every``-th step, some 60 (of short trainings fewer than 120); ``every``;
        ``parameters``; ``training_seconds``; ``tests``: for each its ``alpha``, ``m`` and what `evaluate` and `windowed` say.
    """
    cell = Cell(**settings)
    path = None if checkpoints is None else Path(checkpoints) / f"{records.key(settings)}.safetensors"
    model, history = train(cell, path, progress, device)
    every = max(1, len(history.losses) // 60)
    return {
        "losses": history.losses[every - 1 :: every],
        "every": every,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": history.seconds,
        "tests": [
            {
                "alpha": alpha,
                "m": int(m),
                **evaluate(model, exam(cell, alpha, int(m)), cell.think),
                **windowed(model, exam(cell, alpha, int(m)), cell.think, cell.chain),
            }
            for alpha, m in cell.tests
        ],
    }


def headline(record: Record) -> str:
    """One line on a record: what was trained, and its error directly and at its best step."""
    asked, test = record["settings"], record["result"]["tests"][0]
    best = min(range(len(test["error"])), key=test["error"].__getitem__)
    error = [f"{test['error'][step]:.3g} at step {step}" for step in (1, best, len(test["error"]) - 1)]
    names = ("kind", "attention", "encoding", "n", "alpha", "chain", "seed")
    return f"{' '.join(f'{name}={asked[name]}' for name in names)}: error {', '.join(error)}"


def curve(runs: Sequence[Record], m: int, what: str = "error", alpha: float = 0.0) -> Float[Tensor, "R ..."]:
    """What each of R records says about the test prompts of ``m`` examples and spectral exponent ``alpha``.

    ``what`` is a name that `evaluate` lists: of a curve, with an entry for each step from 0, or of a number.
    """
    found = [
        test[what]
        for record in runs
        for test in record["result"]["tests"]
        if (test["m"], test["alpha"]) == (m, alpha)
    ]
    if len(found) != len(runs):
        raise ValueError(
            f"runs must all be tested on m={m!r} and alpha={alpha!r}, got {len(found)} of {len(runs)}"
        )
    return torch.tensor(found, dtype=torch.float64)


def linear_theory(runs: Sequence[Record], m: int, alpha: float = 0.0) -> Float[Tensor, " k"]:
    """Mean error that the linear model would have, trained and tested as the first of some records."""
    cell = Cell(**runs[0]["settings"])
    gamma = theory.gamma(covariance.power_law(cell.d, cell.alpha, trace=float(cell.d)), cell.n)
    return errors.propagated_error(exam(cell, alpha, m).moments().gram, gamma, cell.think).mean(0)


def grouped(runs: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records that agree in the settings of these names, together."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in runs:
        groups.setdefault(tuple(record["settings"][name] for name in names), []).append(record)
    return groups


def origin(runs: Sequence[Record]) -> str:
    """Where the numbers of some stored records come from, in one line."""
    cost = sorted(record["result"]["training_seconds"] for record in runs)
    devices = " and ".join(sorted({record["device"] for record in runs}))
    count = (
        f"{len(runs)} stored records, trained for a median of"
        if len(runs) > 1
        else "One stored record, trained for"
    )
    torch_version = runs[0]["libraries"]["torch"]
    return f"{count} {cost[len(cost) // 2] / 60:.0f} min on {devices} (shared); torch {torch_version}."
