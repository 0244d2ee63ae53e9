"""The model of chapter 10: a decoder that reads a question character by character, works, and answers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsl import _validate
from tsl.gpt import Block, Cache, init_gpt2
from tsl.lab.problems import BLANK, END, GO, SYMBOLS, Problems, digits, encode, spell


class CharGPT(nn.Module):
    """A GPT over characters, made of the blocks of `tsl.gpt`.

    Positions are learned, and factored (our choice): which state of the chain, plus which character of the state. All
    states share what a place in a state means, which makes the step from one state to the next quick to learn.

    Parameters
    ----------
    places, max_steps, layers, heads, width : int
        Decimal places of the numbers; longest chain that positions are made for; shape, see `tsl.gpt.Block`.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(
        self, places: int, max_steps: int, layers: int, heads: int, width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = {"places": places, "max_steps": max_steps, "layers": layers, "width": width}
        for name, value in sizes.items():
            _validate.positive_int(name, value)
        self.places, self.max_steps, self.stride = places, max_steps, 2 * places + 1
        self.symbol = nn.Embedding(len(SYMBOLS), width)
        self.state = nn.Embedding(max_steps + 2, width)
        self.place = nn.Embedding(self.stride, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.read_out = nn.Linear(width, len(SYMBOLS), bias=False)
        init_gpt2(self, layers, generator)
        with torch.no_grad():  # 0.02 suits a width of 2500: start a narrow model at its own scale, width^-1/2
            for weight in self.parameters():
                if weight.ndim == 2:
                    weight.mul_(width**-0.5 / 0.02)

    def forward(
        self, tokens: Int[Tensor, "B T"], caches: list[Cache] | None = None
    ) -> Float[Tensor, "B T symbols"]:
        """Logits of the character after each character; with caches, ``tokens`` go on where those end."""
        start = caches[0].length if caches else 0
        end = start + tokens.shape[1]
        if end > self.stride * (self.max_steps + 2):
            raise ValueError(f"tokens must fit max_steps={self.max_steps}, got position {end - 1}")
        where = torch.arange(start, end, device=tokens.device)
        h = self.symbol(tokens) + self.state(where // self.stride) + self.place(where % self.stride)
        for index, block in enumerate(self.blocks):
            h = block(h, caches[index] if caches else None)
        return self.read_out(self.norm(h))

    def loss(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Mean cross-entropy of all that follows the question: work, markers, and answer."""
        target = tokens[:, self.stride :]
        logits = self(tokens[:, :-1])[:, self.stride - 1 :]
        return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=BLANK)


class Thought(NamedTuple):
    """What a model does with P questions when it must think for 0, 1, …, K steps.

    Parameters
    ----------
    answer, would_stop : Tensor, shape (P, K + 1)
        Answer after a chain cut, or drawn out, to each length; whether the model prefers ``=`` to ``;`` there.
    states : Tensor, shape (P, K, 2)
        The chain it wrote.
    """

    answer: Int[Tensor, "P K1"]
    would_stop: Bool[Tensor, "P K1"]
    states: Int[Tensor, "P K 2"]

    def natural(self) -> Int[Tensor, " P"]:
        """Length at which the model, once it has begun to think, would have stopped by itself; K if it would not."""
        K = self.would_stop.shape[1] - 1
        begun = self.would_stop[:, 1:]
        return torch.where(begun.any(1), begun.int().argmax(1) + 1, K)

    def at_stop(self) -> Int[Tensor, " P"]:
        """Answer after a chain of that length."""
        return self.answer.gather(1, self.natural()[:, None])[:, 0]


@torch.no_grad()
def think(
    model: CharGPT,
    problems: Problems,
    budget: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Thought:
    """Answer every question after each number of steps 0 … ``budget``, in one pass with a cache.

    After each state the model is forced to answer (``=``) on a copy of the cache, its answer is noted, and the model is
    forced to go on (``;``). Digits are the model's own choice among digits. The solutions are not shown to it, and
    the budget is at most ``model.max_steps``.

    Parameters
    ----------
    temperature, generator : float, torch.Generator
        At 0 the likeliest digit is written; above, digits are drawn with probabilities ∝ exp(logit / temperature), from a
        generator on the CPU.
    """
    _validate.at_least("budget", budget, 0)
    if budget > model.max_steps:
        raise ValueError(f"budget must be at most max_steps={model.max_steps}, got {budget}")
    _validate.non_negative("temperature", temperature)
    if temperature and generator is None:
        raise ValueError(f"generator must be given where digits are drawn, at temperature={temperature}")
    digit = functools.partial(_digit, temperature=temperature, generator=generator)
    places, P = model.places, len(problems)
    caches = [Cache() for _ in model.blocks]
    device = model.read_out.weight.device
    question = torch.cat([problems.family[:, None], digits(problems.question, places).flatten(1)], 1)
    logits = model(question.to(device), caches)[:, -1]
    answers, stops, states = [], [], []
    for step in range(budget + 1):
        stops.append(logits[:, END] > logits[:, GO])
        aside = [copy.copy(cache) for cache in caches]
        answers.append(_write(model, aside, P, END, 1, digit)[0][:, 0])
        if step < budget:
            state, logits = _write(model, caches, P, GO, 2, digit)
            states.append(state)
    chain = torch.stack(states, 1) if states else question.new_zeros(P, 0, 2)
    return Thought(torch.stack(answers, 1).cpu(), torch.stack(stops, 1).cpu(), chain.cpu())


def vote(answers: Int[Tensor, "P V"]) -> Int[Tensor, " P"]:
    """The answer that most of V chains give to each question; of several, the one given first."""
    support = (answers[:, :, None] == answers[:, None]).sum(-1)
    return answers.gather(1, support.argmax(1, keepdim=True))[:, 0]


def _digit(
    logits: Float[Tensor, "B 10"], temperature: float, generator: torch.Generator | None
) -> Int[Tensor, " B"]:
    """The likeliest digit, or one that is drawn (by Gumbel's trick, the same on every device)."""
    if not temperature:
        return logits.argmax(-1)
    noise = -torch.rand(logits.shape, generator=generator).log_().neg_().log_()
    return (logits / temperature + noise.to(logits)).argmax(-1)


def _write(
    model: CharGPT,
    caches: list[Cache],
    size: int,
    marker: int,
    count: int,
    digit: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Force a marker, let the model write ``count`` numbers; return them, (size, count), and the logits after them."""
    token = torch.full((size, 1), marker, device=model.read_out.weight.device)
    written = []
    for _ in range(count * model.places):
        token = digit(model(token, caches)[:, -1, :10])[:, None]
        written.append(token)
    logits = model(token, caches)[:, -1]
    powers = 10 ** torch.arange(model.places - 1, -1, -1, device=token.device)
    return (torch.cat(written, 1).view(size, count, model.places) * powers).sum(-1), logits


def transcript(problems: Problems, thought: Thought, row: int, places: int) -> str:
    """What a model writes about one of the problems when it may stop by itself."""
    own, only = replace(problems, states=thought.states, answer=thought.at_stop()), torch.tensor([row])
    return spell(encode(own.take(only), thought.natural()[only], places)[0])
