"""Questions of chapter 10 with their worked chains, and how they are written.

Two families with one surface form, so that they differ in what the work *means* and in nothing else:

========  ====================================================  ===========================================
family    a question and its work                               what a state says
========  ====================================================  ===========================================
``gcd``   ``g3852;3814;2414;1014;1004;0604;0204;0202=02``       the pair after subtracting the smaller
``root``  ``p3188;0120;0254;0390;0428;0568;0610;0754;0800=08``  x = 1, 2, … and x² + 31x + 88 mod 100
========  ====================================================  ===========================================

Euclid's own algorithm subtracts; the remainder came later. Every state is two numbers of equal width, every chain stops
at a state one can recognise (equal numbers; a value of zero), and after each state stands either ``;`` (go on) or ``=``
(answer). A budget on thinking is therefore one forced character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Int
from torch import Tensor

from tsl import _validate

SYMBOLS = "0123456789;=gp."
GO, END, BLANK = (SYMBOLS.index(symbol) for symbol in ";=.")
FAMILIES = {"gcd": SYMBOLS.index("g"), "root": SYMBOLS.index("p")}


@dataclass(frozen=True)
class Problems:
    """Questions of one or several families with their worked solutions.

    Parameters
    ----------
    family, question, answer : Tensor, shapes (P,), (P, 2), (P,)
        Symbol that opens the question, the two numbers asked about, the one right answer.
    states : Tensor, shape (P, S, 2)
        State after 1, 2, …, S steps of work. A finished chain rests in its last state.
    steps : Tensor, shape (P,)
        Steps that the work needs, 1 … S: our measure of difficulty.
    """

    family: Int[Tensor, " P"]
    question: Int[Tensor, "P 2"]
    states: Int[Tensor, "P S 2"]
    steps: Int[Tensor, " P"]
    answer: Int[Tensor, " P"]

    def __len__(self) -> int:
        return self.steps.shape[0]

    def take(self, index: Tensor) -> Problems:
        """Problems at the places, or under the mask, ``index``."""
        return Problems(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def join(*parts: Problems) -> Problems:
        """Problems of several collections with chains of equal room, one after the other."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Problems))
        return Problems(*(torch.cat(column) for column in columns))


def gcd_problems(places: int = 2, max_steps: int = 8) -> Problems:
    """All pairs whose greatest common divisor exceeds 1 and is found in 1 … ``max_steps`` subtractions.

    Numbers have ``places`` decimal places; (38, 52) and (52, 38) are two questions. Coprime pairs are left out (our
    choice): most pairs are, and guessing 1 would pay.
    """
    a, b = _pairs(places, max_steps)
    question, states = torch.stack([a, b], 1), []
    steps = torch.zeros_like(a)
    for _ in range(max_steps):
        steps += a != b
        a, b = torch.where(a > b, a - b, a), torch.where(b > a, b - a, b)
        states.append(torch.stack([a, b], 1))
    found = (a == b) & (a > 1) & (steps > 0) & (question > 0).all(1)
    family = torch.full_like(a, FAMILIES["gcd"])
    return Problems(family, question, torch.stack(states, 1), steps, a).take(found)


def root_problems(places: int = 2, max_steps: int = 8) -> Problems:
    """All (b, c) for which x² + bx + c has a root modulo 10^places among x = 1 … ``max_steps``; the answer is the first."""
    b, c = _pairs(places, max_steps)
    x = torch.arange(1, max_steps + 1).expand(len(b), max_steps)
    value = (x**2 + b[:, None] * x + c[:, None]) % 10**places
    root = value == 0
    steps = root.int().argmax(1) + 1
    seen = torch.minimum(x, steps[:, None])
    states = torch.stack([seen, value.gather(1, seen - 1)], 2)
    family = torch.full_like(b, FAMILIES["root"])
    return Problems(family, torch.stack([b, c], 1), states, steps, steps).take(root.any(1))


def _pairs(places: int, max_steps: int) -> tuple[Tensor, Tensor]:
    _validate.positive_int("places", places)
    _validate.positive_int("max_steps", max_steps)
    if places > 3:
        raise ValueError(f"places must be 1, 2 or 3 (all pairs of numbers are listed), got {places}")
    if max_steps >= 10**places:
        raise ValueError(f"max_steps must be below 10**places = {10**places}, got {max_steps}")
    numbers = torch.arange(10**places)
    a, b = torch.meshgrid(numbers, numbers, indexing="ij")
    return a.flatten(), b.flatten()


def hold_out(problems: Problems, held_out: float, generator: torch.Generator) -> tuple[Problems, Problems]:
    """Split at random into problems to learn from and a share ``held_out`` to be tested on.

    The pair (a, b) and its mirror (b, a) go to the same side: one would give the other away.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie strictly between 0 and 1, got {held_out!r}")
    low, high = problems.question.min(1).values, problems.question.max(1).values
    _, name = torch.unique(low * (int(high.max()) + 1) + high, return_inverse=True)
    drawn = torch.rand(int(name.max()) + 1, generator=generator) < held_out
    return problems.take(~drawn[name]), problems.take(drawn[name])


def draw(problems: Problems, size: int, generator: torch.Generator) -> Problems:
    """Draw ``size`` problems with replacement: first a number of steps, evenly, then a problem that needs as many."""
    _validate.positive_int("size", size)
    order = problems.steps.argsort(stable=True)
    counts = problems.steps.bincount()
    lengths = counts.nonzero().squeeze(1)
    chosen = lengths[torch.randint(len(lengths), (size,), generator=generator)]
    within = (torch.rand(size, generator=generator) * counts[chosen]).long()
    return problems.take(order[counts.cumsum(0)[chosen] - counts[chosen] + within])


def digits(numbers: Int[Tensor, "*B"], places: int) -> Int[Tensor, "*B places"]:
    """Decimal digits of non-negative integers, the highest first."""
    return torch.stack([numbers // 10**place % 10 for place in reversed(range(places))], -1)


def spell(tokens: Int[Tensor, " T"]) -> str:
    """Text of one sequence of tokens, without the blanks behind it."""
    return "".join(SYMBOLS[token] for token in tokens.tolist()).rstrip(".")


def worked(problems: Problems, question: Sequence[int], places: int) -> str:
    """Text of the natural chain of one of the problems."""
    chosen = problems.take((problems.question == torch.tensor(question)).all(1))
    return spell(encode(chosen, chosen.steps, places)[0])


def encode(problems: Problems, written: Int[Tensor, " P"], places: int) -> Int[Tensor, "P T"]:
    """Write problems down: question, the first ``written`` states, answer, and blanks up to the longest.

    Of 0 … S states, 0 are a direct answer and ``problems.steps`` the natural chain. Numbers have ``places`` decimal
    places, so that T = (2 places + 1)(max(written) + 1) + 1 + places.
    """
    S = problems.states.shape[1]
    if written.shape != problems.steps.shape or int(written.min()) < 0 or int(written.max()) > S:
        raise ValueError(
            f"written must hold {len(problems)} numbers from 0 to {S}, got {written.tolist()[:8]}"
        )
    stride, longest, P = 2 * places + 1, int(written.max()), len(problems)
    question = torch.cat([problems.family[:, None], digits(problems.question, places).flatten(1)], 1)
    states = digits(problems.states[:, :longest], places).flatten(2)
    work = torch.cat([states.new_full((P, longest, 1), GO), states], 2)
    work = torch.where((torch.arange(longest) < written[:, None])[..., None], work, BLANK).flatten(1)
    tokens = torch.cat([question, work, question.new_full((P, 1 + places), BLANK)], 1)
    answer = torch.cat([question.new_full((P, 1), END), digits(problems.answer, places)], 1)
    return tokens.scatter(1, (stride * (written + 1))[:, None] + torch.arange(1 + places), answer)
