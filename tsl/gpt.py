"""A decoder of the GPT-2 family that thinks in weights.

The model reads n examples (x_i, y_i) and then a chain of estimates ŵ_0 = 0, ŵ_1, …: it answers each estimate with the next,
which is appended to the sequence, as in ``tsl.lsa``. Every token is a column of the embedding (x, y, ŵ, 1), read in linearly:

===============  ==================================================  =====================================
encoding         tokens of the prompt                                positions
===============  ==================================================  =====================================
``pairs``        ``(x_i, y_i, 0, 0)``: one token an example          none: the examples are a *set*
``interleaved``  ``(x_i, 0, 0, 0)``, then ``((y_i, 0…), 0, 0, 0)``   learned, one vector for each position
===============  ==================================================  =====================================

An estimate is ``(0, 0, ŵ, 1)`` in both. ``interleaved`` is strictly causal, as described for the paper's GPT-2. In ``pairs`` (our
choice) the examples see each other, so that their order cannot matter, and the chain is causal.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tsl import _validate, training
from tsl.prompts import Prompts, sample_prompts

Attention = Literal["softmax", "linear"]
Encoding = Literal["pairs", "interleaved"]


class Cache:
    """Keys and values of the positions one block has read, so that a new position costs one position.

    A copy (`copy.copy`) goes on from there by itself.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of positions read."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append ``(B, heads, T, width/heads)`` keys and values; return all of them."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


def _visible(new: int, total: int, device: torch.device) -> Tensor:
    """(new, total) mask: the last ``new`` positions see their past and themselves."""
    seen = torch.arange(total, device=device)
    return seen <= seen[total - new :, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention, softmax or linear, with an optional cache.

    Linear attention drops the softmax and averages (q·k) v / √(width/heads) over the positions seen: the
    paper's LSA, whose sum is divided by the number of examples, with several heads and a mask.
    """

    def __init__(self, width: int, heads: int, attention: Attention = "softmax") -> None:
        super().__init__()
        _validate.divides("heads", heads, "width", width)
        _validate.choice("attention", attention, ("softmax", "linear"))
        self.heads, self.attention = heads, attention
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, h: Float[Tensor, "B T C"], cache: Cache | None = None, causal: bool = True
    ) -> Float[Tensor, "B T C"]:
        B, T, C = h.shape
        q, k, v = self._heads(h)
        if cache is not None:
            k, v = cache.extend(k, v)
        total = k.shape[2]
        causal = causal and T > 1  # one position hides nothing
        square = causal and total == T and self.attention == "softmax"  # for which there is a quicker kernel
        mask = _visible(T, total, h.device) if causal and not square else None
        if self.attention == "softmax":
            mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=square)
        else:
            scores = q @ k.mT * (C // self.heads) ** -0.5
            mixed = scores @ v / total if mask is None else (scores * mask) @ v / mask.sum(1, keepdim=True)
        return self.out(mixed.transpose(1, 2).reshape(B, T, C))

    def remember(self, h: Float[Tensor, "B T C"], cache: Cache) -> None:
        """Only keep keys and values: of positions whose own answer nobody asks for."""
        cache.extend(*self._heads(h)[1:])

    def _heads(self, h: Tensor) -> Tensor:
        """Queries, keys and values (3, B, heads, T, width/heads)."""
        B, T, C = h.shape
        return self.qkv(h).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)


class Block(nn.Module):
    """One GPT-2 block: layer norm before attention and before the MLP, each added to the stream.

    Position t sees positions ≤ t or, unless ``causal``, all of them. With a `Cache`, ``h`` holds only new positions and the past
    comes from the cache.
    """

    def __init__(self, width: int, heads: int, attention: Attention = "softmax") -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, attention)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self, h: Float[Tensor, "B T C"], cache: Cache | None = None, causal: bool = True
    ) -> Float[Tensor, "B T C"]:
        h = h + self.attention(self.norm_attention(h), cache, causal)
        return h + self.mlp(self.norm_mlp(h))


def init_gpt2(module: nn.Module, layers: int, generator: torch.Generator) -> None:
    """Initialise like GPT-2: N(0, 0.02²), biases 0, writers to the stream divided by √(2 layers)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:  # biases and gains; layer norms start at the identity as they are
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            continue
        added = name.endswith(("attention.out.weight", "mlp.2.weight"))
        nn.init.normal_(parameter, 0.0, 0.02 / (2 * layers) ** 0.5 if added else 0.02, generator=generator)


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a :class:`WeightGPT`.

    Parameters
    ----------
    layers, heads, width : int
        Number of blocks, of attention heads, and width of the stream (``heads`` divides ``width``).
    encoding : {"pairs", "interleaved"}
        How examples become tokens; see the module's text.
    positions : int
        Learned positions of ``interleaved``: at least ``2 n + steps``.  Not used by ``pairs``.
    """

    d: int
    layers: int = 3
    heads: int = 4
    width: int = 64
    attention: Attention = "softmax"
    encoding: Encoding = "pairs"
    positions: int = 256

    def __post_init__(self) -> None:
        for name in ("d", "layers", "heads", "width", "positions"):
            _validate.positive_int(name, getattr(self, name))
        _validate.divides("heads", self.heads, "width", self.width)
        _validate.choice("attention", self.attention, ("softmax", "linear"))
        _validate.choice("encoding", self.encoding, ("pairs", "interleaved"))

    @classmethod
    def paper(cls, d: int, **changes: object) -> GPTConfig:
        """The paper's shape: 12 layers, 8 heads, width 256 (9.5 M parameters), interleaved tokens."""
        paper = cls(d, layers=12, heads=8, width=256, encoding="interleaved")
        return replace(paper, **changes)  # type: ignore[arg-type]


class WeightGPT(nn.Module):
    """GPT-2 over examples and estimates; it answers each estimate with the next. Initial weights: by default of seed 0."""

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.read_in = nn.Linear(2 * config.d + 2, config.width)
        if config.encoding == "interleaved":
            self.position = nn.Embedding(config.positions, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.attention) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.read_out = nn.Linear(config.width, config.d)
        generator = generator or torch.Generator().manual_seed(0)
        init_gpt2(self, config.layers, generator)
        # A column has few entries, of order one: read in at 0.02 they would start far below every other scale.
        nn.init.normal_(self.read_in.weight, 0.0, config.d**-0.5, generator=generator)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def tokens(self, prompts: Prompts) -> Float[Tensor, "B T columns"]:
        """Columns of the examples, T = n (``pairs``) or 2n (``interleaved``)."""
        x, y = prompts.x, prompts.y
        B, n, d = x.shape
        if d != self.config.d:
            raise ValueError(f"prompts must have dimension d={self.config.d}, got d={d}")
        if self.config.encoding == "pairs":
            return torch.cat([x, y[..., None], x.new_zeros(B, n, d + 1)], -1)
        columns = x.new_zeros(B, n, 2, 2 * d + 2)
        columns[:, :, 0, :d] = x
        columns[:, :, 1, 0] = y
        return columns.view(B, 2 * n, 2 * d + 2)

    def _read_in(self, columns: Tensor, start: int) -> Tensor:
        """Columns as the stream that the blocks read, at positions ``start, start + 1, …`` of the sequence."""
        h = self.read_in(columns.to(self.read_in.weight.dtype))
        if self.config.encoding == "pairs":
            return h
        return h + self.position.weight[start : start + columns.shape[1]]

    def _prefill(self, prompts: Prompts, steps: int) -> list[Cache]:
        """What the blocks keep of the examples: all that answers need, since no example sees an estimate.

        ``steps`` estimates are to follow.
        """
        columns = self.tokens(prompts).to(self.read_in.weight.device)
        causal, end = self.config.encoding == "interleaved", columns.shape[1] + steps
        if causal and end > self.config.positions:
            raise ValueError(f"prompt and chain need {end} positions, got positions={self.config.positions}")
        h = self._read_in(columns, 0)
        caches = [Cache() for _ in self.blocks]
        *blocks, last = self.blocks
        assert isinstance(last, Block)
        for block, cache in zip(blocks, caches, strict=False):
            h = block(h, cache, causal)
        last.attention.remember(last.norm_attention(h), caches[-1])
        return caches

    def _answer(self, caches: list[Cache], chain: Tensor) -> Tensor:
        """Answers to estimates (B, k, d) that go on where the caches end."""
        h = self._read_in(self._estimates(chain), caches[0].length)
        for block, cache in zip(self.blocks, caches, strict=True):
            h = block(h, cache)
        return self.read_out(self.norm(h))

    def _estimates(self, chain: Tensor) -> Tensor:
        """Columns ``(0, 0, ŵ, 1)`` of a chain (B, k, d)."""
        B, k, d = chain.shape
        return torch.cat([chain.new_zeros(B, k, d + 1), chain, chain.new_ones(B, k, 1)], -1)

    @torch.no_grad()
    def _think(self, caches: list[Cache], start: Tensor, steps: int, window: int | None = None) -> Tensor:
        """Chain of ``steps`` from a start (B, 1, d), after examples; their caches stay as they are."""
        chain, own = [start], [copy.copy(cache) for cache in caches]
        for j in range(steps):
            read = chain[-1]
            if window is not None and j >= window:  # examples stay as read, estimates are read anew
                read = torch.cat([start, *chain[1 - window :]], 1)
                own = [copy.copy(cache) for cache in caches]
            chain.append(self._answer(own, read)[:, -1:].to(start.dtype))
        return torch.cat(chain, 1)

    def forward(self, prompts: Prompts, chain: Float[Tensor, "B k d"]) -> Float[Tensor, "B k d"]:
        """Answer to each estimate of a chain, in one pass: row j is ``ŵ_{j+1}`` given the examples and ``ŵ_0 … ŵ_j``."""
        return self._answer(self._prefill(prompts, chain.shape[1]), chain.to(self.read_in.weight.device))

    @torch.no_grad()
    def think(self, prompts: Prompts, steps: int, window: int | None = None) -> Float[Tensor, "B k d"]:
        """Chain of thought ``ŵ_0 … ŵ_steps`` from ŵ_0 = 0; each step reads one new token and the cache.

        Equal to re-running the whole sequence at every step. With a ``window`` of at least 2 a step reads no more estimates
        than that: ŵ_0 and the last ``window`` − 1, so that the model never meets a chain longer than those it was trained on.
        The model thinks on its own device; the chain lies where the prompts lie.
        """
        _validate.at_least("steps", steps, 0)
        if window is not None:
            _validate.at_least("window", window, 2)
        caches = self._prefill(prompts, steps)
        return self._think(caches, self._zero(prompts), steps, window).to(prompts.x.device)

    def rollout(self, prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
        """Answers to the first ``steps`` estimates of a chain of its own, with a gradient that does not enter the chain.

        Equal to ``model(prompts, model.think(prompts, steps - 1))``, but the examples are read once.
        """
        _validate.positive_int("steps", steps)
        caches = self._prefill(prompts, steps)
        return self._answer(caches, self._think(caches, self._zero(prompts), steps - 1))

    def _zero(self, prompts: Prompts) -> Tensor:
        """ŵ_0 = 0 for each prompt, (B, 1, d)."""
        weight = self.read_out.weight
        return weight.new_zeros(prompts.x.shape[0], 1, self.config.d)


@dataclass(frozen=True)
class Recipe:
    """What a model is trained on: prompts of n examples, and a chain of its own.

    Parameters
    ----------
    n, batch : int
        Examples in a training prompt, and prompts a step.
    chain : int
        Steps of the chain that the loss looks at; 1 trains for direct prediction only.
    noise : float
        Standard deviation of the label noise.
    curriculum : float
        Fraction of the training during which dimension and prompt length grow, from half to whole (the
        remaining coordinates of x and w* are zero meanwhile); 0 for none.
    precision : {"fp32", "bf16"}
        Of the forward passes.
    """

    n: int
    chain: int = 4
    batch: int = 64
    noise: float = 0.0
    curriculum: float = 0.25
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        for name in ("n", "chain", "batch"):
            _validate.positive_int(name, getattr(self, name))
        _validate.non_negative("noise", self.noise)
        _validate.share("curriculum", self.curriculum)
        _validate.choice("precision", self.precision, ("fp32", "bf16"))

    def stage(self, d: int, step: int, steps: int) -> tuple[int, int]:
        """Dimension and prompt length of a step of the curriculum."""
        grown = 1.0 if self.curriculum == 0 else min(1.0, step / (self.curriculum * steps))
        return max(1, round(d * (1 + grown) / 2)), max(1, round(self.n * (1 + grown) / 2))


def train_gpt(
    model: nn.Module,
    cov: Float[Tensor, "d d"],
    recipe: Recipe,
    schedule: training.Schedule,
    generator: torch.Generator,
    *,
    checkpoint: Path | str | None = None,
    every: int = 500,
    identity: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> training.History:
    """Train a model to think, on chains of its own; its losses are means over the chain of ‖ŵ_j − w*‖².

    Each step draws fresh prompts, lets the model think (no gradient, cached), and lowers the squared error
    of its answer to every estimate ŵ_0, …, ŵ_{chain−1} of that chain. Without the chain of its own a model
    meets estimates at test time that it has never seen, and cannot think.

    Parameters
    ----------
    model : nn.Module
        A `WeightGPT`, or any model with ``rollout(prompts, steps)``. Trained in place.
    cov : Tensor of shape (d, d)
        Covariance Λ of the training features.
    generator : torch.Generator
        Source of the training data, on the processor: a seed means the same data on every device.
    checkpoint, every, identity, progress
        As in `tsl.training.fit`.
    """
    _validate.covariance("cov", cov)
    weight = next(model.parameters())
    cov = cov.to("cpu", weight.dtype)

    def loss(trained: nn.Module, step: int, data: torch.Generator) -> tuple[Tensor, int]:
        d, n = recipe.stage(cov.shape[0], step, schedule.steps)
        prompts = sample_prompts(cov, n, recipe.batch, recipe.noise, data)
        if d < cov.shape[0]:
            prompts = _leading(prompts, d)
        prompts = prompts.to(weight.device)
        with training.precision(weight.device, recipe.precision):
            answers = trained.rollout(prompts, recipe.chain)  # type: ignore[operator]
        error = (answers.to(weight.dtype) - prompts.w[:, None]).square().sum(-1).mean()
        return error, recipe.batch * (n + recipe.chain)

    whole = {
        "model": type(model).__name__,
        "config": asdict(model.config) if isinstance(model, WeightGPT) else None,
        "recipe": asdict(recipe),
        "cov": [round(value, 9) for value in cov.double().reshape(-1).tolist()],
    }
    return training.fit(
        model, loss, schedule, generator,
        checkpoint=checkpoint, every=every, identity={**whole, **(identity or {})}, progress=progress,
    )  # fmt: skip


def _leading(prompts: Prompts, d: int) -> Prompts:
    """Prompts whose features and weights live on the first d coordinates."""
    x, w = prompts.x.clone(), prompts.w.clone()
    y = prompts.y - torch.einsum("bnd,bd->bn", x[..., d:], w[:, d:])
    x[..., d:], w[:, d:] = 0, 0
    return Prompts(x, y, w)
