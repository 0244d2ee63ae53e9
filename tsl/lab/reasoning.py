"""The experiment of chapter 10: one generalist, tuned on different worked chains, then made to think for longer.

Every seed has a *base*, trained a little on direct answers and worked chains of both families of `tsl.lab.problems`.
From it start tunings that differ only in the chains they are shown (a `Diet`). All go on seeing direct answers of both
families: with a budget of no steps they start level, and what happens with more steps is the doing of the chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsl import _validate, paths, training
from tsl.lab import chargpt, records
from tsl.lab.chargpt import CharGPT
from tsl.lab.problems import Problems, draw, encode, gcd_problems, hold_out, root_problems
from tsl.lab.records import Record


@dataclass(frozen=True)
class Diet:
    """Worked chains that a model is tuned on.

    Parameters
    ----------
    gcd : float
        Share of GCD chains, 0 … 1; the others are root searches.
    easiest, hardest, distinct : int
        Fewest and most steps of the GCD chains; how many GCD problems have a worked chain, 0 for all there are.
    elastic : bool
        Chains end anywhere, evenly over 1 … S states: cut before they are done, or drawn out by repeating the last
        state. The answer asked for is always the right one.
    """

    gcd: float = 1.0
    easiest: int = 1
    hardest: int = 99
    elastic: bool = False
    distinct: int = 0

    def __post_init__(self) -> None:
        _validate.share("gcd", self.gcd)
        _validate.positive_int("easiest", self.easiest)
        _validate.at_least("hardest", self.hardest, self.easiest)
        _validate.at_least("distinct", self.distinct, 0)

    def chains(self, gcd: Problems, generator: torch.Generator) -> Problems:
        """The GCD problems that this diet shows, out of those to learn from."""
        kept = gcd.take((gcd.steps >= self.easiest) & (gcd.steps <= self.hardest))
        if len(kept) < max(self.distinct, 1):
            raise ValueError(f"distinct, easiest and hardest must leave problems, got {len(kept)} for {self}")
        if self.distinct:
            kept = kept.take(torch.randperm(len(kept), generator=generator)[: self.distinct])
        return kept


#: What the models of chapter 10 are tuned on; easy and hard split the chains of at most 8 steps in half.
DIETS = {
    "aligned": Diet(),
    "misaligned": Diet(gcd=0.0),
    "mixed": Diet(gcd=0.5),
    "easy": Diet(hardest=4),
    "hard": Diet(easiest=5),
    "few": Diet(distinct=40),
    "elastic": Diet(elastic=True),
    "elastic misaligned": Diet(gcd=0.0, elastic=True),
}
#: What the base is trained on.
BASE = Diet(gcd=0.5)


@dataclass(frozen=True)
class Size:
    """How large the experiment is.

    Parameters
    ----------
    places, max_steps, layers, heads, width : int
        Decimal places of the numbers; longest chain; shape of the model.
    batch, base, tune, rate : int, int, int, float
        Worked chains a step (half as many direct answers come on top); optimiser steps of the base and of each
        tuning; their peak learning rate.
    """

    places: int = 2
    max_steps: int = 8
    layers: int = 2
    heads: int = 4
    width: int = 64
    batch: int = 32
    base: int = 900
    tune: int = 700
    rate: float = 8e-3

    def __post_init__(self) -> None:
        for name in ("places", "max_steps", "layers", "width", "base", "tune"):
            _validate.positive_int(name, getattr(self, name))
        if self.places > 3:
            raise ValueError(f"places must be 1, 2 or 3, got {self.places}")
        if self.max_steps >= 10**self.places:
            raise ValueError(f"max_steps must be below 10**places = {10**self.places}, got {self.max_steps}")
        _validate.divides("heads", self.heads, "width", self.width)
        _validate.at_least("batch", self.batch, 2)  # half a batch of direct answers
        _validate.positive("rate", self.rate)

    def model(self, generator: torch.Generator) -> CharGPT:
        """A fresh model of this size."""
        return CharGPT(self.places, self.max_steps, self.layers, self.heads, self.width, generator)


#: Most problems that a model is tested on: they think all at once, and keep what they have read in memory.
EXAM = 4000
#: At which votes are sampled: the model's own probabilities, and sharper ones.
TEMPERATURES = (0.5, 1.0)
#: Weight of the direct answers in the loss.
DIRECT = 0.2
#: The committed record; a laptop can make it again in half an hour.
SMALL = Size()
#: Three-digit numbers and a model fit for a GPU.
PAPER = Size(places=3, max_steps=12, layers=6, heads=8, width=256, batch=512, base=6000, tune=4000, rate=1e-3)
#: Sizes by name, as on the command line.
SIZES = {"small": SMALL, "paper": PAPER}


class Material(NamedTuple):
    """Problems of a seed, to learn from and held out."""

    gcd: Problems
    root: Problems
    gcd_test: Problems
    root_test: Problems


def material(size: Size, generator: torch.Generator) -> Material:
    """All problems of both families; a fifth is held out, and at most `EXAM` of them are asked."""
    gcd, gcd_test = hold_out(gcd_problems(size.places, size.max_steps), 0.2, generator)
    root, root_test = hold_out(root_problems(size.places, size.max_steps), 0.2, generator)
    return Material(gcd, root, _some(gcd_test, generator), _some(root_test, generator))


def _some(problems: Problems, generator: torch.Generator) -> Problems:
    if len(problems) <= EXAM:
        return problems
    return problems.take(torch.randperm(len(problems), generator=generator)[:EXAM])


def tune(
    model: CharGPT,
    problems: Material,
    diet: Diet,
    schedule: training.Schedule,
    batch: int,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    progress: bool = False,
    identity: Mapping[str, Any] | None = None,
) -> training.History:
    """Train a model in place on the chains of a diet and on direct answers of both families.

    The losses are the mean cross-entropy a character of the chains, plus `DIRECT` times that of the direct answers.

    Parameters
    ----------
    model, problems, diet, schedule, generator
        What learns, from which problems, with which chains, for how long; the generator draws the training data.
    batch : int
        Chains a step; ``batch // 2`` direct answers, half of either family, come on top.
    checkpoint, progress, identity
        See `tsl.training.fit`; a checkpoint belongs to diet, batch and schedule, too.
    """
    chains = diet.chains(problems.gcd, generator)
    longest, device = model.max_steps, model.read_out.weight.device

    def loss(trained: torch.nn.Module, step: int, data: torch.Generator) -> tuple[Tensor, int]:
        assert isinstance(trained, CharGPT)
        share = torch.rand(batch, generator=data) < diet.gcd
        worked = _mix(chains, problems.root, int(share.sum()), batch, data)
        anywhere = torch.randint(1, longest + 1, (batch,), generator=data)
        written = anywhere if diet.elastic else worked.steps
        work = encode(worked, written, model.places)
        asked = _mix(problems.gcd, problems.root, batch // 4, batch // 2, data)
        direct = encode(asked, torch.zeros_like(asked.steps), model.places)
        total = trained.loss(work.to(device)) + DIRECT * trained.loss(direct.to(device))
        return total, work.numel() + direct.numel()

    whole = {"diet": asdict(diet), "batch": batch, **(identity or {})}
    return training.fit(
        model, loss, schedule, generator, checkpoint=checkpoint, identity=whole, progress=progress
    )


def _mix(gcd: Problems, root: Problems, first: int, size: int, generator: torch.Generator) -> Problems:
    """``first`` problems of one family, then others of the other family, ``size`` in all."""
    counts = ((gcd, first), (root, size - first))
    return Problems.join(*(draw(pool, n, generator) for pool, n in counts if n))


def examine(model: CharGPT, problems: Problems) -> dict[str, Any]:
    """Accuracy by difficulty and by length of the chain.

    Returns
    -------
    dict
        ``accuracy`` (S, S+1): row n-1 holds problems of n steps, column k chains of k steps; ``natural`` (S,): accuracy
        where the model stops by itself; ``stop`` (S,): mean length there; ``stopped``, ``solved`` (S, S): of the problems of
        n steps those on which it stops by itself after k, column k-1, and how many of these it answers exactly;
        ``exact`` (S,): share of natural chains without a wrong state; ``counts`` (S,): problems; ``candidate`` (): share
        of states whose first number counts 1, 2, 3 … as the root search does.
    """
    S = model.max_steps
    thought = chargpt.think(model, problems, S)
    right = (thought.answer == problems.answer[:, None]).double()
    stop = thought.natural()
    wanted = torch.arange(S) < problems.steps[:, None]
    faithful = ((thought.states == problems.states).all(2) | ~wanted).all(1) & (stop == problems.steps)
    natural = thought.at_stop() == problems.answer
    counting = (thought.states[:, :, 0] == torch.arange(1, S + 1)).double().mean()
    groups = [problems.steps == n for n in range(1, S + 1)]

    def mean(values: Tensor) -> list[Any]:
        return [values[group].double().mean(0).tolist() for group in groups]

    def count(lengths: Tensor) -> list[int]:
        return lengths.bincount(minlength=S + 1)[1:].tolist()

    return {
        "accuracy": mean(right),
        "natural": mean(natural),
        "stop": mean(stop),
        "stopped": [count(stop[group]) for group in groups],
        "solved": [count(stop[group & natural]) for group in groups],
        "exact": mean(faithful),
        "counts": [int(group.sum()) for group in groups],
        "candidate": float(counting),
    }


def reduced(model: CharGPT, problems: Problems) -> list[list[float]]:
    """Accuracy of direct answers to what is left of GCD problems after k right steps.

    A Euclid chain turns a problem into an easier one with the same answer. If a step is worth what it takes away, a
    model that thinks for k steps and then answers is right as often as here, where it is asked directly about the
    state that k right steps lead to; where that state is the end, nothing is left to ask. Shape (S, S+1): row n-1
    holds problems of n steps, column k what is left after k steps.
    """
    S = model.max_steps
    columns = []
    for k in range(S + 1):
        left = problems.states[:, k - 1] if k else problems.question
        answer = chargpt.think(model, replace(problems, question=left), 0).answer[:, 0]
        columns.append(((answer == problems.answer) | (problems.steps <= k)).double())
    right = torch.stack(columns, 1)
    return [right[problems.steps == n].mean(0).tolist() for n in range(1, S + 1)]


def met(problems: Problems, learnt: Problems) -> Bool[Tensor, " P"]:
    """Which questions occur as a state in the worked chains of the problems learnt from: there the next step was shown."""
    shown = torch.arange(learnt.states.shape[1]) < learnt.steps[:, None]  # the end of a chain shows no step
    states = torch.cat([learnt.question[:, None], learnt.states[:, :-1]], 1)[shown]
    known = set(map(tuple, states.tolist()))
    return torch.tensor([tuple(question) in known for question in problems.question.tolist()])


def splits(steps: int, places: int) -> dict[int, int]:
    """Lengths of chains, and how many of each cost as much as one of ``steps`` states with its answer.

    Chains of k states share out the states, and get their answers on top, which favours the many. Of those without
    states as many as the characters of the long one pay for.
    """
    direct = (steps * (2 * places + 1) + 1 + places) // (1 + places)
    return {0: direct} | {k: steps // k for k in range(1, steps + 1) if steps % k == 0}


def in_parallel(
    model: CharGPT, problems: Problems, temperature: float, generator: torch.Generator
) -> list[list[float]]:
    """Accuracy of a majority of sampled chains that together cost as much as the longest one.

    Shape (S, number of `splits`): row n-1 holds problems of n steps.
    """
    S = model.max_steps
    shares = splits(S, model.places)
    chains = []
    for chain in range(max(shares.values())):
        longest = max(length for length, count in shares.items() if count > chain)
        chains.append(chargpt.think(model, problems, longest, temperature, generator).answer)
    columns = [
        chargpt.vote(torch.stack([answers[:, length] for answers in chains[:count]], 1)) == problems.answer
        for length, count in shares.items()
    ]
    right = torch.stack(columns, 1).double()
    return [right[problems.steps == n].mean(0).tolist() for n in range(1, S + 1)]


def settings(
    size: str = "small", diets: str | Sequence[str] = tuple(DIETS), seed: int = 0, **others: Any
) -> dict[str, Any]:
    """Settings of a study, checked, with all that the names stand for written out: what a record is keyed by.

    A name of `SIZES`, names of `DIETS`, and the root of weights, data, and of what is held out.
    """
    if others:
        raise ValueError(f"settings must be size, diets and seed, got {', '.join(others)}")
    _validate.at_least("seed", seed, 0)
    names = [diets] if isinstance(diets, str) else list(diets)
    _check_diets(names)
    return {
        "size": asdict(_known(size)),
        "diets": {name: asdict(DIETS[name]) for name in names},
        "seed": seed,
    }


def job(
    settings: Mapping[str, Any],
    checkpoints: Path | str | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train a base and tune it on every diet; test base and tunings on held-out problems of both families.

    Parameters
    ----------
    settings : mapping
        What `settings` returns.
    checkpoints, progress, device
        Folder from which an interrupted study goes on; whether to show progress; where to train.

    Returns
    -------
    dict
        For ``"base"`` and each diet: what `examine` returns for ``"gcd"``, for those of them that were never `met`
        (``"unmet"``) and for ``"root"``; for ``"gcd"`` also `reduced` and, as ``"votes at …"``, what `in_parallel`
        gives at each of `TEMPERATURES`; and the ``"seconds"`` of training.
    """
    size, seed = Size(**settings["size"]), settings["seed"]
    stream = torch.Generator().manual_seed(seed)
    problems = material(size, stream)
    unmet = problems.gcd_test.take(~met(problems.gcd_test, problems.gcd))
    base = size.model(stream).to(device)

    def run(model: CharGPT, name: str, diet: Diet, steps: int, start: str = "") -> dict[str, Any]:
        file = checkpoint(Path(checkpoints), size, seed, name) if checkpoints else None
        schedule, identity = training.Schedule(steps, size.rate), _identity(size, seed, start)
        history = tune(model, problems, diet, schedule, size.batch, stream, file, progress, identity)
        gcd, root = (examine(model, test) for test in (problems.gcd_test, problems.root_test))
        gcd["reduced"] = reduced(model, problems.gcd_test)
        for temperature in TEMPERATURES:
            luck = torch.Generator().manual_seed(seed)
            gcd[f"votes at {temperature:g}"] = in_parallel(model, problems.gcd_test, temperature, luck)
        return {"gcd": gcd, "unmet": examine(model, unmet), "root": root, "seconds": history.seconds}

    result = {"base": run(base, "base", BASE, size.base)}
    start = training.fingerprint(base.state_dict())
    for name, diet in settings["diets"].items():
        stream.manual_seed(1000 * (seed + 1) + list(DIETS).index(name))  # whichever other diets are asked for
        result[name] = run(deepcopy(base), name, Diet(**diet), size.tune, start)
    return result


def headline(record: Record) -> str:
    """One line on a record: its seed, and the share of exact answers of base and tunings with natural chains."""
    shares = (f"{name} {average([record], name, 'natural').item():.3g}" for name in record["result"])
    return f"seed={record['settings']['seed']}: {', '.join(shares)}"


def average(
    runs: Sequence[Record], diet: str, what: str, low: int = 1, high: int | None = None, family: str = "gcd"
) -> Float[Tensor, "R ..."]:
    """Mean over held-out problems of ``low`` … ``high`` steps, one row per record.

    Parameters
    ----------
    runs, diet
        Records of one size; ``"base"`` or a name of `DIETS`.
    what : str
        A name that `examine` lists, ``"reduced"``, ``"votes at 0.5"`` and so on, or ``"needed"``: accuracy of chains of
        the right length.
    low, high, family : int, int, {"gcd", "unmet", "root"}
        Difficulty (up to the longest by default) and family of the problems.
    """
    rows = []
    for record in runs:
        found = record["result"][diet][family]
        found = found | {"needed": [row[n] for n, row in enumerate(found["accuracy"], 1)]}
        counts = torch.tensor(found["counts"], dtype=torch.float64)[low - 1 : high]
        values = torch.tensor(found[what], dtype=torch.float64)[low - 1 : high].nan_to_num()
        rows.append(torch.tensordot(counts / counts.sum(), values, dims=1))
    return torch.stack(rows)


def by_length(
    runs: Sequence[Record], diet: str, low: int = 1, high: int | None = None
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Natural chains of ``low`` … ``high`` states on GCD problems: how many, share answered exactly, mean steps needed.

    The length is the model's own choice; the steps needed say how hard the problems are on which it chose so.
    """
    tables = [
        [torch.tensor(record["result"][diet]["gcd"][key])[:, low - 1 : high] for key in ("stopped", "solved")]
        for record in runs
    ]
    stopped, solved = (torch.stack(part).double() for part in zip(*tables, strict=True))
    many = stopped.sum((1, 2))
    needed = torch.arange(1, stopped.shape[1] + 1, dtype=torch.float64)
    return many, solved.sum((1, 2)) / many, (stopped.sum(2) @ needed) / many


def met_and_unmet(
    runs: Sequence[Record], diet: str, low: int = 1, high: int | None = None
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Accuracy of natural chains on questions whose next step was shown in training (see `met`), and on the others.

    GCD problems of ``low`` … ``high`` steps, an entry for each record; NaN where there are none.
    """
    rows = []
    for record in runs:
        found = (record["result"][diet][family] for family in ("gcd", "unmet"))
        asked, right = zip(*(_right(part, low, high) for part in found), strict=True)
        rows.append([(right[0] - right[1]) / (asked[0] - asked[1]), right[1] / asked[1]])
    met, unmet = torch.tensor(rows, dtype=torch.float64).T
    return met, unmet


def _right(found: Mapping[str, Any], low: int, high: int | None) -> tuple[Tensor, Tensor]:
    """Problems of ``low`` … ``high`` steps, and how many of them natural chains answer exactly."""
    counts = torch.tensor(found["counts"], dtype=torch.float64)[low - 1 : high]
    shares = torch.tensor(found["natural"], dtype=torch.float64)[low - 1 : high].nan_to_num()
    return counts.sum(), (counts * shares).sum().round()


def by_excess(runs: Sequence[Record], diet: str) -> tuple[Tensor, Float[Tensor, "R offsets"]]:
    """Offsets 1 − S … S − 1 of forced over needed steps, (2S − 1,), and accuracies on GCD problems, (R, 2S − 1).

    One row per record; chains of no steps are left out.
    """
    steps = runs[0]["settings"]["size"]["max_steps"]
    offsets = torch.arange(1 - steps, steps)
    needed, budget = torch.arange(1, steps + 1)[:, None], torch.arange(steps + 1)
    rows = []
    for record in runs:
        found = record["result"][diet]["gcd"]
        accuracy = torch.tensor(found["accuracy"], dtype=torch.float64).nan_to_num()
        counts = torch.tensor(found["counts"], dtype=torch.float64)[:, None]
        weights = [counts * ((budget - needed == offset) & (budget > 0)) for offset in offsets]
        rows.append(torch.stack([(weight * accuracy).sum() / weight.sum() for weight in weights]))
    return offsets, torch.stack(rows)


def _check_diets(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in DIETS]
    if unknown:
        raise ValueError(f"diets must be among {', '.join(DIETS)}, got {', '.join(map(repr, unknown))}")


def _known(size: str) -> Size:
    _validate.choice("size", size, tuple(SIZES))
    return SIZES[size]


def _identity(size: Size, seed: int, start: str) -> dict[str, Any]:
    """What a checkpoint belongs to: a tuning of another base is another run, though all else agree."""
    return {"size": asdict(size), "seed": seed, "start": start}


def checkpoint(folder: Path, size: Size, seed: int, name: str) -> Path:
    """Where a study keeps the base or a tuning; no two sizes share a file."""
    return folder / f"{records.key(asdict(size))[:8]}_{seed}_{name.replace(' ', '_')}.safetensors"


def weights(size: str, seed: int) -> Path:
    """Where the weights of some tunings lie, beside the records of that size."""
    return paths.RESULTS / f"10_{size}" / f"weights_seed{seed}.safetensors"


def export(size: str, seed: int, diets: Sequence[str], checkpoints: Path) -> Path:
    """Store the weights of some tunings, out of the checkpoints of a study, in half precision.

    After ``tsl sweep reasoning size=small seed=0 --checkpoints FOLDER``, say
    ``export("small", 0, ["aligned", "misaligned"], Path("FOLDER"))``. CheckpointError if a checkpoint is of another
    study, or its training is not finished; FileNotFoundError if there is none.
    """
    _check_diets(diets)
    asked = _known(size)

    def finished(name: str, diet: Diet, steps: int, start: str = "") -> dict[str, Tensor]:
        file = checkpoint(checkpoints, asked, seed, name)
        identity = {"diet": asdict(diet), "batch": asked.batch, **_identity(asked, seed, start)}
        state = training.load_checkpoint(
            file, training.signature(identity, training.Schedule(steps, asked.rate))
        )
        done = len(state["losses"])
        if done != steps:
            raise training.CheckpointError(
                f"{file} must hold a finished training of {steps} steps, got {done}"
            )
        return {k.removeprefix("model."): value for k, value in state.items() if k.startswith("model.")}

    start = training.fingerprint(finished("base", BASE, asked.base))
    kept = {
        f"{name}/{key}": value.half()
        for name in diets
        for key, value in finished(name, DIETS[name], asked.tune, start).items()
    }
    return paths.write_whole(weights(size, seed), safetensors.torch.save(kept))


def stored_model(size: str, seed: int, diet: str) -> CharGPT:
    """A tuned model, from the weights that `export` stored."""
    model = _known(size).model(torch.Generator())
    file = weights(size, seed)
    if not file.is_file():
        raise ValueError(f"size={size!r} and seed={seed!r} must have stored weights, got no file {file}")
    stored = safetensors.torch.load(file.read_bytes())
    _validate.choice("diet", diet, tuple(sorted({key.split("/")[0] for key in stored})))
    model.load_state_dict({k.split("/")[1]: v.float() for k, v in stored.items() if k.split("/")[0] == diet})
    return model.eval()
