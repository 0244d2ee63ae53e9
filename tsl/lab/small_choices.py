"""The experiment of chapter 12: the claims measured again under small choices that a paper may leave open.

A `Choice` says how things are set up, its defaults being the book's. `RULES` holds for each claim what is measured and what must
be so for its conclusion to stand; `judge` compares a measurement with that of the book's own set-up.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, covariance, errors, gpt, lsa, selection, theory, training
from tsl.lab import catalogues
from tsl.lab.records import Record
from tsl.lab.transformers import curve, grouped
from tsl.prompts import Moments, Prompts, join, sample_moments, sample_prompts

D = 5
#: A role -> its random stream, started afresh, so that all choices meet the same draws.
Streams = Callable[[str], torch.Generator]


@dataclass(frozen=True)
class Choice:
    """One way to set things up.

    Parameters
    ----------
    counts : bool
        The attention's normaliser counts the thoughts that were appended, m + j at step j.
    start : float
        Standard deviation of ŵ_0, in training and at test time.
    free : bool
        W is trained too, not only V.
    scale : float
        All features, of training and test, are multiplied by it.
    swapped : bool
        Spectra that the chapter scales to trace d have a largest eigenvalue of 1, and the reverse.
    dtype : torch.dtype
        Of all numbers.
    noise : float
        Standard deviation of the label noise in training.
    sphere : bool
        Test weights are uniform on the unit sphere, not N(0, I).
    rotated : bool
        Features of training and test are rotated together.
    """

    counts: bool = False
    start: float = 0.0
    free: bool = False
    scale: float = 1.0
    swapped: bool = False
    dtype: torch.dtype = torch.float64
    noise: float = 0.0
    sphere: bool = False
    rotated: bool = False


BOOK = Choice()
#: Short name of each choice, and the ways to make it.
CHOICES: Mapping[str, tuple[Choice, ...]] = {
    "counting": (Choice(counts=True),),
    "start": (Choice(start=1.0),),
    "free c": (Choice(free=True),),
    "×0.1, ×10": (Choice(scale=0.1), Choice(scale=10.0)),
    "trace": (Choice(swapped=True),),
    "float32": (Choice(dtype=torch.float32),),
    "noise": (Choice(noise=1.0),),
    "sphere": (Choice(sphere=True),),
    "rotated": (Choice(rotated=True),),
    "tokens": (),  # of decoders alone, whose choices are in records
}


def from_start(moments: Moments, w0: Float[Tensor, "B d"]) -> Moments:
    """Moments of the same prompts as seen from estimates ŵ_0: what is left to find is w* − ŵ_0."""
    explained = torch.einsum("bij,bj->bi", moments.gram, w0)
    return Moments(moments.gram, moments.cross - explained, moments.w - w0)


def think_under(
    model: lsa.LinearSelfAttention,
    prompts: Prompts,
    w0: Float[Tensor, "B d"],
    steps: int,
    counts: bool = False,
) -> Float[Tensor, "B k d"]:
    """Chain ŵ_0, ..., ŵ_steps on the growing embedding, from starts ŵ_0; with `counts` the normaliser grows too."""
    m, d = prompts.x.shape[1], model.d
    embedding = lsa.embed(prompts, w0)
    with torch.no_grad():
        for _ in range(steps):
            answer = model.answer(embedding, n=None if counts else m)
            embedding = torch.cat([embedding, answer.unsqueeze(-1)], dim=2)
    return embedding[:, d + 1 : 2 * d + 1, m:].mT


def free_c(gamma: Float[Tensor, "d d"], c0: float = 1.0) -> float:
    """Where gradient descent with small steps takes c when V and W are both trained.

    The loss knows c and V31 by their product A = −c V31 alone, so c ∂L/∂c = ⟨V31, ∂L/∂V31⟩, and gradient flow keeps c² − ‖V31‖².
    It starts at c₀² and ends at A = Γ⁻¹: c² is the positive root of c² − ‖Γ⁻¹‖_F²/c² = c₀². W13 stays at c₀ I.
    """
    square = torch.linalg.inv(_validate.invertible("gamma", gamma)).square().sum().item()
    return math.sqrt((c0**2 + math.sqrt(c0**4 + 4 * square)) / 2)


def descend(
    tasks: Sequence[tuple[Tensor, int]], generator: torch.Generator, steps: int, batch: int = 128
) -> lsa.LinearSelfAttention:
    """Train V and W by plain gradient descent on fresh prompts of tasks (Λ_ℓ, n_ℓ), the step falling along half a cosine."""
    model = lsa.LinearSelfAttention(len(tasks[0][0]))
    # Half of what is stable at the end; the steepest direction writes weights from labels, E(w*ᵀΛw*)².
    steepest = max((torch.trace(cov) ** 2 + 2 * cov.square().sum()).item() for cov, _ in tasks)
    lengths = [n for _, n in tasks]
    gamma = theory.gamma_mixture([cov for cov, _ in tasks], [1 / len(tasks)] * len(tasks), lengths)
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / (free_c(gamma) ** 2 * steepest))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        losses = []
        for cov, n in tasks:
            prompts = sample_prompts(cov, n, batch // len(tasks), generator=generator)
            answer = model.answer(lsa.embed(prompts))
            losses.append((answer - lsa._target(prompts)).square().sum(1).mean() / 2)
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


class Bench:
    """A choice, made: the features, models and test prompts it leads to. Each model is trained once.

    Parameters
    ----------
    choice : Choice
        How things are set up.
    stream : callable
        Streams of random numbers, the same for all choices.
    size, steps : int
        Prompts of a training set, and steps of descent on fresh ones where W is free.
    """

    def __init__(self, choice: Choice, stream: Streams, size: int = 100_000, steps: int = 600) -> None:
        self.choice, self.stream, self.size, self.steps = choice, stream, size, steps
        self._models: dict[Any, lsa.LinearSelfAttention] = {}

    def turn(self, cov: Tensor) -> Tensor:
        """A covariance in the units and axes of the choice."""
        cov = self.choice.scale**2 * cov
        return covariance.rotate(cov, self.stream("rotation")) if self.choice.rotated else cov

    def features(self, alpha: float, trace: bool = True, d: int = D) -> Float[Tensor, "d d"]:
        """Covariance with λ_i ∝ i^−alpha, in the book's set-up of trace d, or else of largest eigenvalue 1."""
        scaled = trace != self.choice.swapped
        return self.turn(covariance.power_law(d, alpha, trace=float(d) if scaled else None))

    def model(self, *tasks: tuple[Tensor, int]) -> lsa.LinearSelfAttention:
        """Model trained on equal shares of tasks (Λ_ℓ, n_ℓ).

        By descent with a constant step on the loss of `size` sampled prompts, V alone; where W is free, by `descend`.
        """
        name = tuple((tuple(cov.flatten().tolist()), n) for cov, n in tasks)
        if name not in self._models:
            self._models[name] = self._train(tasks)
        return self._models[name]

    def _train(self, tasks: Sequence[tuple[Tensor, int]]) -> lsa.LinearSelfAttention:
        choice, generator = self.choice, self.stream("training")
        if choice.free:
            return descend(tasks, generator, self.steps)
        parts = []
        for cov, n in tasks:
            drawn = sample_moments(cov, n, self.size // len(tasks), choice.noise, generator)
            parts.append(from_start(drawn, self.starts(drawn.w, generator)))
        seen = join(parts)
        cross, w = seen.cross.to(choice.dtype), seen.w.to(choice.dtype)
        second = cross.mT @ cross / len(w)
        return lsa.train_population(cross.mT @ w / len(w), (second + second.mT) / 2, 1000)[0].to(choice.dtype)

    def starts(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Estimates ŵ_0 like some weights."""
        return self.choice.start * torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w)

    def prompts(self, cov: Tensor, m: int, size: int, exact: bool = False) -> tuple[Prompts, Tensor]:
        """Test prompts of m examples, and their starts ŵ_0; `exact` ones show their covariance without error, Σ̂ = Σ."""
        generator, white = self.stream(f"test {m}"), torch.eye(len(cov), dtype=torch.float64)
        drawn = sample_prompts(white, m, size, generator=generator)
        x, w = drawn.x, drawn.w
        if exact:
            x = x @ torch.linalg.inv(covariance.square_root(drawn.moments().gram))
        if self.choice.sphere:
            w = w / w.norm(dim=1, keepdim=True)
        x, w = (x @ covariance.square_root(cov)).to(self.choice.dtype), w.to(self.choice.dtype)
        return Prompts(x, torch.einsum("bmd,bd->bm", x, w), w), self.starts(w, generator)

    def think(
        self, model: lsa.LinearSelfAttention, cov: Tensor, m: int, size: int, steps: int, exact: bool = False
    ) -> tuple[Prompts, Float[Tensor, "B k d"]]:
        """Test prompts, and what a model thinks about them."""
        prompts, w0 = self.prompts(cov, m, size, exact)
        return prompts, think_under(model, prompts, w0, steps, self.choice.counts)

    def mean_error(self, *asked: Any, **named: Any) -> Float[Tensor, " k"]:
        """Error of every step over that of an answer of zero, times the book's d (1 on the unit sphere)."""
        prompts, chain = self.think(*asked, **named)
        size = prompts.w.double().square().sum(1).mean()
        start = 1.0 if self.choice.sphere else float(prompts.w.shape[1])
        return start * errors.squared_error(chain, prompts.w).double().mean(0) / size


@dataclass(frozen=True)
class Reading:
    """What a claim gave under a choice: its number, and whether its conclusion stood."""

    value: float
    stands: bool


def at_rest(model: lsa.LinearSelfAttention) -> bool:
    """Whether thinking is at rest at w*: W13 = c I, to 5 %."""
    ratio = model.w13.detach() / model.c.detach()
    return bool((ratio - torch.eye(model.d).to(ratio)).abs().max() < 0.05)


def _training(bench: Bench) -> Reading:
    cov = bench.features(0.5)
    model = bench.model((cov, 30))
    found, target = model.preconditioner().detach().double(), torch.linalg.inv(theory.gamma(cov, 30))
    return Reading(errors.relative_distance(found, target).item(), at_rest(model))


def _newton(bench: Bench) -> Reading:
    cov = bench.features(0.5)
    model = bench.model((cov, 30))
    prompts, chain = bench.think(model, cov, 40, 50, 80)
    moments, step = prompts.moments(), model.preconditioner().detach()
    slope = torch.einsum("bij,bkj->bki", moments.gram, chain[:, :10]) - moments.cross[:, None]
    size = prompts.w.norm(dim=1)
    gap = (chain[:, 1:11] - chain[:, :10] + slope @ step.mT).norm(dim=2) / size[:, None]
    left = (chain[:, -1] - prompts.w).norm(dim=1) / size
    return Reading(gap.max().item(), bool(left.median() < 1e-2))


def _direct(bench: Bench) -> Reading:
    n, m, seen = 30, 400, []
    for alpha in (0.0, 0.5):
        cov = bench.features(alpha)
        error = bench.mean_error(bench.model((cov, n)), cov, m, 200, 1)[1].item()
        seen.append((error, theory.matched_direct_error(cov, n, m), theory.direct_error_bound(cov, n, m)))
    (easy, exact, _), (hard, _, _) = seen
    return Reading(easy / exact, easy < hard and all(error <= bound for error, _, bound in seen))


def _law(bench: Bench) -> Reading:
    n, steps, over = 30, 2, []
    for alpha in (0.0, 0.5):
        cov = bench.features(alpha)
        error = bench.mean_error(bench.model((cov, n)), cov, 2000, 50, steps, exact=True)
        law = torch.tensor([theory.cot_error_bound(cov, n, k) for k in range(steps + 1)])
        over.append((error / law)[1:])
    return Reading(over[0][-1].item(), bool(torch.stack(over).max() <= 1.1))


def _exchange(bench: Bench) -> Reading:
    cov = bench.features(0.5)
    long, short = (bench.mean_error(bench.model((cov, n)), cov, 500, 100, 6, exact=True) for n in (20, 10))
    return Reading((short[2] / long[1]).item(), bool(short[2:].max() < long[1]))


def _overthinking(bench: Bench) -> Reading:
    train, test = bench.features(1.0, trace=False), bench.features(0.0)
    error = bench.mean_error(bench.model((train, 30)), test, 20, 100, 100, exact=True)
    growth = (error[5] / error[4]).sqrt().item()
    return Reading(growth, not bool(error[100] < error[1]))  # a chain that overflows is worse


def _mixture(bench: Bench) -> Reading:
    first = covariance.power_law(D, 1.0, trace=float(D) if not bench.choice.swapped else None)
    other = covariance.rotate(first, bench.stream("other axes"))
    tasks = [(bench.turn(first), 10), (bench.turn(other), 40)]
    model = bench.model(*tasks)
    found = model.preconditioner().detach().double()
    formula = theory.gamma_mixture([cov for cov, _ in tasks], [0.5, 0.5], [n for _, n in tasks])
    rival = torch.stack([theory.gamma(cov, n) for cov, n in tasks]).mean(0)
    off, off_rival = (errors.relative_distance(found, torch.linalg.inv(g)).item() for g in (formula, rival))
    return Reading(off, at_rest(model) and off < off_rival)


def _catalogues(
    bench: Bench, d: int = 20, count: int = 12
) -> Iterator[tuple[catalogues.Catalogue, torch.Generator]]:
    """Random catalogues of tasks near the target's axes, in the set-up of a choice."""
    for index in range(count):
        generator = bench.stream(f"catalogue {index}")
        tasks = catalogues.catalogue(d, 3, catalogues.turned(0.2), generator)
        covs = (tasks.top_one() if bench.choice.swapped else tasks).covs
        yield replace(tasks, covs=torch.stack([bench.turn(cov) for cov in covs])), generator


def mass_between(share: float, generator: torch.Generator, d: int = 20) -> Tensor:
    """Mass on hard tasks of the best mixture for an isotropic target after four steps, on a random catalogue.

    Its tasks have trace d at a `share` of 0, a largest eigenvalue of 1 at 1, and lie between in the logarithm.
    """
    tasks = catalogues.catalogue(d, 3, catalogues.turned(0.2), generator)
    covs = tasks.covs / torch.linalg.eigvalsh(tasks.covs)[:, -1, None, None] ** share
    return selection.select_tasks(covs, tasks.lengths, torch.eye(d).to(covs), 4)[tasks.hard].sum()


def foreseen_mass(share: float, d: int = 20) -> float:
    """`mass_between` for one task of each kind and common axes, by `best_mass`."""
    tasks = [
        covariance.power_law(d, alpha, trace=float(d)).diagonal()
        for alpha in (catalogues.EASY, catalogues.HARD)
    ]
    easy, hard = (spectrum / spectrum[0] ** share for spectrum in tasks)
    lengths = (catalogues.SHORT, catalogues.LONG) * 2
    return best_mass(torch.stack([easy, easy, hard, hard]), lengths, 4)[2:].sum().item()


def _selection(bench: Bench) -> Reading:
    masses, target = [], bench.features(0.8, d=20)
    for tasks, generator in _catalogues(bench):
        masses.append(tasks.masses(selection.select_tasks_qp(tasks.seen(generator).covs, target)))
    mass = torch.stack(masses).mean(0)
    return Reading(mass[3].item(), bool(mass[3] > mass[:3].max()))


def _half(bench: Bench) -> Reading:
    hard, easy = (
        torch.stack(
            [
                selection.select_tasks(tasks.covs, tasks.lengths, bench.features(alpha, d=20), 4)[
                    tasks.hard
                ].sum()
                for tasks, _ in _catalogues(bench)
            ]
        )
        .mean()
        .item()
        for alpha in (0.8, 0.0)
    )
    return Reading(easy, hard >= 0.5 > easy)


def counted_error(rates: Float[Tensor, " d"], m: int, steps: int) -> Float[Tensor, " k"]:
    """Error after 0, ..., `steps` thoughts where the normaliser counts them and Σ̂ = Σ (our derivation).

    Step j then has size m/(m + j), so a mode whose rate, an eigenvalue of Γ⁻¹Σ, is t is left with
    ∏_{j<k} (1 − t m/(m + j)) = Γ(m − mt + k) Γ(m) / (Γ(m − mt) Γ(m + k)), which falls like k^−mt in the end.
    Where t > 2 it grows until step m(t/2 − 1), and no longer.
    """
    j = torch.arange(_validate.positive_int("steps", steps), dtype=rates.dtype)
    left = (1 - rates[:, None] * m / (m + j)).square().cumprod(1).sum(0)
    return torch.cat([left.new_full((1,), float(len(rates))), left])


def misplaced_error(rates: Float[Tensor, " d"], c: float, steps: int) -> Float[Tensor, " k"]:
    """Error after 0, ..., `steps` thoughts where W13 = I but the weight of labels is c, and Σ̂ = Σ (our derivation).

    The chain ŵ ← ŵ + Γ⁻¹Σ(w* − ŵ/c) is at rest at c w*, whose error is (c − 1)² ‖w*‖²; from 0 a mode of rate t has
    ŵ_k = c (1 − (1 − t/c)^k) w*.
    """
    k = torch.arange(_validate.positive_int("steps", steps) + 1, dtype=rates.dtype)
    return (1 - c * (1 - (1 - rates[:, None] / c) ** k)).square().sum(0)


def best_mass(
    tasks: Float[Tensor, "T d"], lengths: Sequence[int], steps: int, grid: int = 20
) -> Float[Tensor, " T"]:
    """Best mixture for an isotropic target of tasks with common axes and these spectra: the best of all shares of 1/grid."""
    count = len(lengths)
    rows = [r for r in itertools.product(range(grid + 1), repeat=count - 1) if sum(r) <= grid]
    shares = torch.tensor([[*r, grid - sum(r)] for r in rows], dtype=tasks.dtype) / grid
    n = torch.tensor(lengths, dtype=tasks.dtype)[:, None]
    square = tasks * ((1 + 1 / n) * tasks + tasks.sum(1, keepdim=True) / n)
    rates = (shares @ tasks) / (shares @ square)
    return shares[(1 - rates).pow(2 * steps).sum(1).argmin()]


@dataclass(frozen=True)
class Rule:
    """When a claim survives a choice.

    Parameters
    ----------
    quantity, conclusion : str
        What is measured, and what must be so for the conclusion to stand.
    measure : callable or None
        Measures both; None where stored records say.
    floor : float
        Numbers below it count as equal: sampling or rounding.
    """

    quantity: str
    conclusion: str
    measure: Callable[[Bench], Reading] | None
    floor: float = 0.0


RULES: Mapping[str, Rule] = {
    "C1": Rule(
        "relative distance of −cV31 from Γ⁻¹", "thinking is at rest at w*: W13 = c I", _training, 0.02
    ),
    "C2": Rule("gap of a thought from a pseudo-Newton step", "80 thoughts end at w*", _newton, 1e-10),
    "C3": Rule("direct error / exact", "under the bound, and harder is worse", _direct),
    "C4": Rule("error / law at k = 2", "at most 1.1 times the law", _law),
    "C5": Rule(
        "error, n = 10 and k = 2 / n = 20 and k = 1",
        "2 to 6 thoughts with n = 10 beat one with n = 20",
        _exchange,
    ),
    "C6": Rule("growth of ‖ŵ − w*‖ at the fifth thought", "100 thoughts are worse than one", _overthinking),
    "C7": Rule(
        "relative distance of −cV31 from Γ⁻¹", "nearer than to the mean Γ; at rest at w*", _mixture, 0.03
    ),
    "C8": Rule("mass of the program on hard-long", "more than on any other kind", _selection, 0.5),
    "C9": Rule(
        "best mixture: mass on hard tasks",
        "half or more if the target is hard, less if isotropic",
        _half,
        0.02,
    ),
    "C10": Rule("decoder: error at step 1 / step 4", "above 1.3, and n = 20 at once does worse", None),
    "C11": Rule("decoder: error at step 16 / least", "above 1.3", None),
}


_ONE = "one thought: none was appended before it"
_UNTHOUGHT = "the choice of tasks involves no model that thinks"
_LINEAR = "linear attention knows one way to write an example"
_WITHOUT_AXES = "isotropic features have neither axes nor another scale than their trace"
#: Cells that do not apply: claim -> choice -> why.
SILENT: Mapping[str, Mapping[str, str]] = {
    "C1": {"counting": _ONE, "sphere": "it is about training", "tokens": _LINEAR},
    "C2": {"tokens": _LINEAR},
    "C3": {"counting": _ONE, "tokens": _LINEAR},
    "C4": {"tokens": _LINEAR},
    "C5": {"tokens": _LINEAR},
    "C6": {"tokens": _LINEAR},
    "C7": {"counting": _ONE, "sphere": "it is about training", "tokens": _LINEAR},
    **{
        claim: {
            **dict.fromkeys(("counting", "start", "free c", "noise", "sphere"), _UNTHOUGHT),
            "float32": "the solvers work in double precision",
            "tokens": _LINEAR,
        }
        for claim in ("C8", "C9")
    },
    **{
        claim: {
            "counting": "a decoder's attention averages over all it sees, thoughts included",
            "free c": "a decoder trains all of its weights",
            "trace": _WITHOUT_AXES,
            "rotated": _WITHOUT_AXES,
        }
        for claim in ("C10", "C11")
    },
}


def judge(found: Reading, book: Reading, rule: Rule, near: float = 0.1) -> str:
    """``flips`` if the conclusion does not stand, ``survives`` if the number stays within 10 %, else ``other number``."""
    if not found.stands:
        return "flips"
    value, base = max(found.value, rule.floor), max(book.value, rule.floor)
    return "survives" if abs(value - base) <= near * base else "other number"


def outcome(found: Sequence[Reading], book: Reading, rule: Rule) -> str:
    """The worst that `judge` says of the ways in which a choice was made."""
    order = ("flips", "other number", "survives")
    return min((judge(reading, book, rule) for reading in found), key=order.index)


def benches(stream: Streams, size: int = 100_000, steps: int = 600) -> dict[str, list[Bench]]:
    """A bench for each way to make each choice, ``book`` first."""
    ways = {"book": (BOOK,), **CHOICES}
    return {name: [Bench(choice, stream, size, steps) for choice in found] for name, found in ways.items()}


def survey(made: Mapping[str, Sequence[Bench]]) -> dict[str, dict[str, list[Reading]]]:
    """Every claim on the linear model under each choice that concerns it: a reading for each of its `benches`."""
    return {
        claim: {
            name: [rule.measure(bench) for bench in some]
            for name, some in made.items()
            if some and name not in SILENT[claim]
        }
        for claim, rule in RULES.items()
        if rule.measure
    }


# Decoders: what is asked of them at test time is in the records of their training.

#: Decoder of the records: small enough to be trained in a minute.
SHAPE = gpt.GPTConfig(3, layers=2, heads=2, width=32)
#: Choices at test time, of a decoder that was trained in the book's set-up.
ASKED: Mapping[str, tuple[Choice, ...]] = {
    "book": (BOOK,),
    "start": CHOICES["start"],
    "×0.1, ×10": CHOICES["×0.1, ×10"],
    "float32": (BOOK,),  # in double precision: decoders compute in single precision otherwise
    "sphere": CHOICES["sphere"],
}


def settings(
    n: int = 10, chain: int = 4, noise: float = 0.0, seed: int = 0, steps: int = 1000
) -> dict[str, Any]:
    """Settings of a decoder: examples of a training prompt, its chain (1: trained for the direct answer), label noise."""
    gpt.Recipe(n, chain, noise=noise), training.Schedule(steps, 5e-3)
    _validate.at_least("seed", seed, 0)
    return {"n": n, "chain": chain, "noise": float(noise), "seed": seed, "steps": steps}


def job(
    settings: Mapping[str, Any], checkpoints: Any = None, progress: bool = False, device: Any = "cpu"
) -> dict[str, Any]:
    """Train a decoder; mean error of each step of its chains under every choice of `ASKED`, about m = 10 and 20 examples.

    Returns
    -------
    dict
        ``training_seconds``; ``error``: choice -> m -> for each way to make it, the curve from step 0.
    """
    model = gpt.WeightGPT(SHAPE, torch.Generator().manual_seed(settings["seed"]))
    recipe = gpt.Recipe(settings["n"], settings["chain"], noise=settings["noise"], curriculum=0.0)
    history = gpt.train_gpt(
        model,
        torch.eye(SHAPE.d),
        recipe,
        training.Schedule(settings["steps"], 5e-3),
        torch.Generator().manual_seed(1_000_003 + settings["seed"]),
        progress=progress,
    )
    found = {
        name: {
            str(m): [ask_decoder(model, m, choice, name == "float32") for choice in ways] for m in (10, 20)
        }
        for name, ways in ASKED.items()
    }
    return {"training_seconds": history.seconds, "error": found}


def ask_decoder(
    model: gpt.WeightGPT, m: int, choice: Choice, double: bool = False, steps: int = 16, size: int = 400
) -> list[float]:
    """Mean error of every step of a decoder's chains on isotropic prompts made under a choice, in single precision or double."""
    bench = Bench(choice, lambda role: torch.Generator().manual_seed(7_000_003))
    prompts, w0 = bench.prompts(bench.features(0.0, d=SHAPE.d), m, size)
    model = copy.deepcopy(model).to(torch.float64 if double else torch.float32)
    chain = w0[:, None]
    with torch.no_grad():
        for _ in range(steps):
            chain = torch.cat([chain, model(prompts, chain)[:, -1:].to(chain)], 1)
    return errors.squared_error(chain.double(), prompts.w.double()).mean(0).tolist()


def headline(record: Record) -> str:
    """One line on a record: what was trained, and its error directly and after four thoughts."""
    error = record["result"]["error"]["book"]["20"][0]
    asked = " ".join(f"{name}={value}" for name, value in record["settings"].items())
    return f"{asked}: error {error[1]:.3g} at step 1, {error[4]:.3g} at step 4"


def decoder_readings(
    runs: Sequence[Record], written: Sequence[Record]
) -> dict[str, dict[str, list[Reading]]]:
    """C10 and C11 under each choice, ``book`` first, from the records of `job` and of a decoder with other tokens.

    C10 is the error at step 1 over that at step 4, which must pass 1.3; where a decoder was trained on n = 20 for the
    direct answer, its error must also be above that of n = 10 after four steps, both on m = 20. C11 is the error at the
    last step over the least, which must pass 1.3. Geometric means over seeds.
    """
    groups = grouped(runs, "chain", "noise")

    def curves(chain: int, noise: float, m: int, name: str, way: int) -> Tensor:
        found = [run["result"]["error"][name][str(m)][way] for run in groups[chain, noise]]
        return torch.tensor(found, dtype=torch.float64)

    def read(short: Tensor, won: bool = True) -> tuple[Reading, Reading]:
        gain = errors.geometric_mean(short[:, 1] / short[:, 4]).item()
        rise = errors.geometric_mean(short[:, -1] / short[:, 1:].min(1).values).item()
        return Reading(gain, won and gain > 1.3), Reading(rise, rise > 1.3)

    found: dict[str, list[tuple[Reading, Reading]]] = {}
    asked = [(name, name, 0.0, way) for name, ways in ASKED.items() for way in range(len(ways))]
    for label, name, noise, way in [*asked, ("noise", "book", 1.0, 0)]:
        thought, direct = curves(4, noise, 20, name, way)[:, 4], curves(1, noise, 20, name, way)[:, 1]
        won = errors.geometric_mean(thought) < errors.geometric_mean(direct)
        found.setdefault(label, []).append(read(curves(4, noise, 10, name, way), bool(won)))
    found["tokens"] = [read(curve(written, 10))]
    return {
        claim: {label: [pair[index] for pair in pairs] for label, pairs in found.items()}
        for index, claim in enumerate(("C10", "C11"))
    }
