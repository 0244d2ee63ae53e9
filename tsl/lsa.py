"""Linear self-attention on the embedded prompt, its optimum, and its training.

Rows of the embedding E, of size 2d + 2: features 0 … d−1, label d, weights d+1 … 2d, flag 2d+1. A column is an
example (x, y, 0, 0) or an estimate (0, 0, ŵ, 1). This is the model of Section 2 of arXiv 2510.03605.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from tsl import _validate, covariance, laws, theory
from tsl.laws import Law
from tsl.prompts import Moments, Prompts


def embed(prompts: Prompts, w0: Float[Tensor, "B d"] | None = None) -> Float[Tensor, "B r c"]:
    """Prompts as the matrix (B, 2d + 2, n + 1) a transformer reads; the last column is the estimate ŵ_0, by default zero."""
    _validate.instance("prompts", prompts, Prompts)
    size, n, d = prompts.x.shape
    estimate = (
        torch.zeros_like(prompts.w) if w0 is None else _validate.floating("w0", w0, True).to(prompts.w.dtype)
    )
    if estimate.shape != prompts.w.shape:
        raise ValueError(f"w0 must have shape {tuple(prompts.w.shape)}, got {tuple(estimate.shape)}")
    embedding = prompts.x.new_zeros(size, 2 * d + 2, n + 1)
    embedding[:, :d, :n] = prompts.x.mT
    embedding[:, d, :n] = prompts.y
    embedding[:, d + 1 : 2 * d + 1, n] = estimate
    embedding[:, 2 * d + 1, n] = 1
    return embedding


class LinearSelfAttention(nn.Module):
    """One layer of linear self-attention, f(E; V, W) = E + V E (EᵀW E)/n.

    The structured initialisation of scale c is W13 = c I and W[label, last] = −c, V = 0.

    Attributes
    ----------
    value, key_query : Parameters of shape (2d + 2, 2d + 2), float64
        V and W.
    """

    def __init__(self, d: int, c: float = 1.0) -> None:
        super().__init__()
        self.d = _validate.positive_int("d", d)
        c = _validate.positive("c", c)
        rows = 2 * d + 2
        self.value = nn.Parameter(torch.zeros(rows, rows, dtype=torch.float64))
        self.key_query = nn.Parameter(torch.zeros(rows, rows, dtype=torch.float64))
        with torch.no_grad():
            self.w13.copy_(c * torch.eye(d, dtype=torch.float64))
            self.key_query[d, 2 * d + 1] = -c

    @classmethod
    def from_gamma(cls, gamma: Float[Tensor, "d d"], c: float = 1.0) -> LinearSelfAttention:
        """Model at the optimum with preconditioner Γ⁻¹: V31 = −Γ⁻¹/c."""
        gamma, c = _validate.invertible("gamma", gamma), _validate.positive("c", c)
        model = cls(gamma.shape[0], c).to(gamma.device, gamma.dtype)
        with torch.no_grad():
            model.v31.copy_(-torch.linalg.inv(gamma) / c)
        return model

    @classmethod
    def from_theory(cls, law: Law | Float[Tensor, "d d"], n: int, c: float = 1.0) -> LinearSelfAttention:
        """Model that Theorem 3.1 says training finds on features of a law, or N(0, Λ), with n examples a prompt."""
        return cls.from_gamma(theory.gamma(law, n), c)

    @property
    def v31(self) -> Float[Tensor, "d d"]:
        """Block of V that writes weights from features."""
        return self.value[self.d + 1 : 2 * self.d + 1, : self.d]

    @property
    def w13(self) -> Float[Tensor, "d d"]:
        """Block of W that scores features against the estimate."""
        return self.key_query[: self.d, self.d + 1 : 2 * self.d + 1]

    @property
    def c(self) -> Float[Tensor, ""]:
        """Weight of the labels, c = −W[label, last]."""
        return -self.key_query[self.d, 2 * self.d + 1]

    def preconditioner(self) -> Float[Tensor, "d d"]:
        """What one step multiplies b by: −c V31, equal to Γ⁻¹ at the optimum."""
        return -self.c * self.v31

    def forward(self, embedding: Float[Tensor, "B r c"], n: int | None = None) -> Float[Tensor, "B r c"]:
        """Apply attention once, to what `embed` writes and any number of estimates at its end.

        The normaliser n is the number of examples: it does not grow with the chain. By default all columns but the last.
        """
        embedding, n = self._read(embedding, n)
        scores = embedding.mT @ self.key_query @ embedding
        return embedding + self.value @ embedding @ scores / n

    def answer(self, embedding: Float[Tensor, "B r c"], n: int | None = None) -> Float[Tensor, "B r"]:
        """Last column of `forward`, at a cost linear in the number of columns."""
        embedding, n = self._read(embedding, n)
        return embedding[:, :, -1] + self._seen(embedding) @ self.value.mT / n

    def _seen(self, embedding: Float[Tensor, "B r c"]) -> Float[Tensor, "B r"]:
        """What V is applied to for the last column e, n times over: E EᵀWe."""
        scores = embedding.mT @ (embedding[:, :, -1] @ self.key_query.mT).unsqueeze(-1)
        return (embedding @ scores).squeeze(-1)

    def _read(self, embedding: Tensor, n: int | None) -> tuple[Tensor, int]:
        """Embedding in the model's type, after checking that it is one of this model's, and normaliser of the attention."""
        embedding = _validate.floating("embedding", embedding, True).to(self.value.dtype)
        if embedding.dim() != 3 or embedding.shape[1] != 2 * self.d + 2 or embedding.shape[2] < 2:
            raise ValueError(
                f"embedding must have shape (B, {2 * self.d + 2}, columns >= 2), got {tuple(embedding.shape)}"
            )
        return embedding, _validate.positive_int("n", embedding.shape[2] - 1 if n is None else n)

    @torch.no_grad()
    def think(self, prompts: Prompts, steps: int) -> Float[Tensor, "B k d"]:
        """Chain ŵ_0 = 0, ..., ŵ_steps on the full embedding: append the last column of f(E) and run on the longer context."""
        steps = _validate.at_least("steps", steps, 0)
        _validate.instance("prompts", prompts, Prompts)
        if prompts.w.shape[1] != self.d:
            raise ValueError(f"prompts must have dimension d={self.d}, got d={prompts.w.shape[1]}")
        m, d = prompts.x.shape[1], self.d
        embedding = embed(prompts).to(self.value.dtype)
        for _ in range(steps):
            embedding = torch.cat([embedding, self.answer(embedding, n=m).unsqueeze(-1)], dim=2)
        return embedding[:, d + 1 : 2 * d + 1, m:].mT


@dataclass(frozen=True)
class Descent:
    """What training went through, one entry a step.

    Parameters
    ----------
    loss : Tensor of shape (steps,)
        ½ E‖f(E)[:, −1] − (0, 0, w*, 1)‖², before the step.
    c, w13 : Tensors of shape (steps,)
        Weight of the labels, −W[label, last], and mean of the diagonal of W13.
    preconditioner : Tensor of shape (steps, d, d)
        −c V31.
    """

    loss: Tensor
    c: Tensor
    w13: Tensor
    preconditioner: Tensor


def _target(prompts: Prompts) -> Float[Tensor, "B r"]:
    """What the last column should become: (0, 0, w*, 1)."""
    size, _, d = prompts.x.shape
    target = prompts.w.new_zeros(size, 2 * d + 2)
    target[:, d + 1 : -1] = prompts.w
    target[:, -1] = 1
    return target


def population_loss(
    preconditioner: Float[Tensor, "*t d d"], first: Float[Tensor, "d d"], second: Float[Tensor, "d d"]
) -> Float[Tensor, "*t"]:
    """Exact training loss of the direct answer ŵ_1 = A b, ½[tr(A S₂ Aᵀ) − 2 tr(A S₁) + d], for each preconditioner A = −c V31.

    `first` is S₁ = E[b w*ᵀ] and `second` S₂ = E[b bᵀ]: Λ and E[Σ̂²] for one noiseless task.
    """
    preconditioner = _validate.square("preconditioner", preconditioner, batch=True, gradient=True)
    first, second = _validate.square("first", first), _validate.square("second", second)
    _validate.same_dimension(preconditioner=preconditioner, first=first, second=second)
    quadratic = (preconditioner @ second * preconditioner).sum((-1, -2))
    return (quadratic - 2 * (preconditioner * first.mT).sum((-1, -2)) + first.shape[0]) / 2


def population_moments(
    cov: Float[Tensor, "d d"], n: int
) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
    """S₁ = E[b w*ᵀ] and S₂ = E[b bᵀ] of noiseless prompts of n Gaussian examples, by cubature instead of Wick's formula.

    McNamee and Stenger's symmetric rule of 2d² + 1 nodes with coordinates 0 and ±√3 integrates polynomials of degree 5
    against N(0, I) exactly. From its mean of ‖x‖²xxᵀ comes S₂ = (1 − 1/n)Λ² + E[‖x‖²xxᵀ]/n, since w* ~ N(0, I).
    """
    cov, n = _validate.covariance("cov", cov).double(), _validate.positive_int("n", n)
    d, root3 = len(cov), 3**0.5
    axes = root3 * torch.eye(d, dtype=cov.dtype, device=cov.device)
    i, j = torch.triu_indices(d, d, 1)
    pairs = torch.cat([axes[i] + axes[j], axes[i] - axes[j]])
    nodes = torch.cat([axes, -axes, pairs, -pairs])
    weights = torch.cat([nodes.new_full((2 * d,), (4 - d) / 18), nodes.new_full((len(pairs) * 2,), 1 / 36)])
    x = nodes @ covariance.square_root(cov)  # the node at the origin adds nothing
    first = (x.mT * weights) @ x
    fourth = (x.mT * (weights * x.square().sum(1))) @ x
    return first, (1 - 1 / n) * first @ first + fourth / n


def train_value(
    prompts: Prompts, steps: int, learning_rate: float | None = None, c: float = 1.0
) -> LinearSelfAttention:
    """Full-batch gradient descent with a constant step on *all* of V, W at its structured start (Theorem 3.1).

    The answer is (0, ŵ_0, 1) + V z with z = E EᵀW e/n fixed, so that the loss ½ mean‖f(E)[:, −1] − (0, 0, w*, 1)‖² has
    the gradient V mean(zzᵀ) − mean((target − start) zᵀ): two averages, taken once.

    Parameters
    ----------
    prompts : Prompts
        The training set, with known weights.
    learning_rate : float, optional
        Constant step; by default 1/λ_max(mean zzᵀ), half of what is still stable.
    c : float
        Scale of the structured initialisation.
    """
    _validate.instance("prompts", prompts, Prompts)
    steps = _validate.positive_int("steps", steps)
    size, n, d = prompts.x.shape
    model = LinearSelfAttention(d, c).to(prompts.x.device, prompts.x.dtype)
    with torch.no_grad():
        embedding = embed(prompts)
        seen = model._seen(embedding) / n
        curvature, pull = seen.mT @ seen / size, (_target(prompts) - embedding[:, :, -1]).mT @ seen / size
        top = torch.linalg.eigvalsh(curvature)[-1].item()
        rate = 1 / top if learning_rate is None else _validate.positive("learning_rate", learning_rate)
        value = torch.zeros_like(curvature)
        for _ in range(steps):
            value = value - rate * (value @ curvature - pull)
        model.value.copy_(value)
    return model


def train_population(
    first: Float[Tensor, "d d"],
    second: Float[Tensor, "d d"],
    steps: int,
    learning_rate: float | None = None,
    c: float = 1.0,
) -> tuple[LinearSelfAttention, Descent]:
    """Gradient descent with a constant step on the exact population loss, V trained and W fixed.

    From the structured initialisation the gradient of every block of V but V31 is zero, by the
    symmetry w* → −w*, so V31 alone moves:
    V31 ← V31 − η c (S₁ᵀ − A S₂) with A = −c V31 (the setting of Theorem 3.1 of arXiv 2510.03605).

    Parameters
    ----------
    first, second : Tensors of shape (d, d)
        S₁ = E[b w*ᵀ] and S₂ = E[b bᵀ] of the training prompts.
    learning_rate : float, optional
        η; by default 1/(c² λ_max(S₂)), half of what is still stable.
    c : float
        Scale of the structured initialisation.
    """
    first, second = _validate.square("first", first), _validate.covariance("second", second).double()
    _validate.same_dimension(first=first, second=second)
    steps, c = _validate.positive_int("steps", steps), _validate.positive("c", c)
    model = LinearSelfAttention(first.shape[0], c).to(first.device, first.dtype)
    top = torch.linalg.eigvalsh(second)[-1].item()
    if top <= 0:
        raise ValueError("second must not be zero: without features there is nothing to learn")
    rate = 1 / (c**2 * top) if learning_rate is None else _validate.positive("learning_rate", learning_rate)
    # On a plain tensor, and the losses afterwards in one batch: a step is then two small operations.
    v31, seen = torch.zeros_like(first), []
    for _ in range(steps):
        a = -c * v31
        seen.append(a)
        v31 = v31 + rate * c * (a @ second - first.mT)
    with torch.no_grad():
        model.v31.copy_(v31)
    path = torch.stack(seen)
    fixed = torch.full((steps,), c, dtype=first.dtype)
    return model, Descent(population_loss(path, first, second).cpu(), fixed, fixed, path.cpu())


def learned_gamma(law: Law | Float[Tensor, "d d"], n: int, noise: float = 0.0) -> Float[Tensor, "d d"]:
    """Γ of the model at the bottom of the population loss ½E‖Ab − w‖², from its normal equation A E[bbᵀ] = E[wbᵀ].

    Another way than `tsl.theory.gamma`, for n examples a prompt of a law whose second moment Λ is not singular, and label
    noise of standard deviation σ.
    """
    first = laws.of("law", law).second
    variance = _validate.non_negative("noise", noise) ** 2
    second = theory.second_moment(law, n) + variance / n * first
    return torch.linalg.solve(_validate.invertible("law", first), second, left=False)


def empirical_optimum(moments: Moments) -> Float[Tensor, "d d"]:
    """Preconditioner that minimises the training loss over a finite set of prompts, (Σ w bᵀ)(Σ b bᵀ)⁻¹ (X1).

    The B prompts need known weights, and their b must span all d directions. It tends to Γ⁻¹ as B grows.
    """
    _validate.instance("moments", moments, Moments)
    _validate.finite("moments.w", moments.w)
    size, d = moments.w.shape
    if size < d:
        raise ValueError(f"moments must hold at least d={d} prompts, got {size}")
    # In units of its own size each entry of b counts the same, so that features in unlike units do not look singular.
    cross, w = moments.cross.double(), moments.w.double()
    scale = cross.abs().amax(0).clamp(min=torch.finfo(cross.dtype).tiny)
    seen = cross / scale
    second = _validate.invertible("sum of b bᵀ over the prompts of moments", seen.mT @ seen)
    return torch.linalg.solve(second, w.mT @ seen, left=False) / scale


def train_lsa(
    model: LinearSelfAttention,
    sample: Callable[[], Prompts],
    steps: int,
    learning_rate: float,
    *,
    train_w: bool = False,
    tie: bool = False,
    rollout: int = 0,
    progress: bool = False,
) -> Descent:
    """Train the full model on freshly sampled prompts, by Adam, on the loss ½‖f(E)[:, −1] − (0, 0, w*, 1)‖².

    Parameters
    ----------
    model : LinearSelfAttention
        Changed in place.
    sample : callable
        Returns the prompts of the next step; all of the randomness of training lies in it.
    learning_rate : float
        Peak step of Adam; it decays to zero along half a cosine, so that the noise of sampling averages out.
    train_w : bool
        Train W too; by default only V.
    tie : bool
        After every step set W13 = c I (needs `train_w`): the repair of the dead gradient.
    rollout : int
        With r > 0 the model first thinks r steps (no gradient) and the loss averages over answering from each of ŵ_0, ..., ŵ_r.
        0 trains for direct prediction, as the paper does.
    """
    _validate.positive_int("steps", steps)
    _validate.positive("learning_rate", learning_rate)
    _validate.at_least("rollout", rollout, 0)
    _validate.instance("model", model, LinearSelfAttention)
    for name, value in (("train_w", train_w), ("tie", tie), ("progress", progress)):
        _validate.flag(name, value)
    if not callable(sample):
        raise ValueError(f"sample must be callable, got {sample!r}")
    if tie and not train_w:
        raise ValueError(f"tie must be False unless train_w is True, got {tie!r}")
    d = model.d
    optimizer = torch.optim.Adam([model.value, *([model.key_query] if train_w else [])], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    trace: list[tuple[float, float, float, Tensor]] = []
    for _ in tqdm(range(steps), desc="training", disable=not progress):
        prompts = sample()
        chain = model.think(prompts, rollout)
        target, losses = _target(prompts), []
        for start in range(rollout + 1):
            answer = model.answer(embed(prompts, chain[:, start]))
            losses.append((answer - target).square().sum(-1).mean() / 2)
        loss = torch.stack(losses).mean()
        with torch.no_grad():
            trace.append(
                (
                    loss.item(),
                    model.c.item(),
                    model.w13.diagonal().mean().item(),
                    model.preconditioner().cpu(),
                )
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if tie:
            with torch.no_grad():
                model.w13.copy_(model.c * torch.eye(d, dtype=model.value.dtype, device=model.value.device))
    columns = [
        torch.tensor(column, dtype=torch.float64) for column in zip(*[row[:3] for row in trace], strict=True)
    ]
    return Descent(columns[0], columns[1], columns[2], torch.stack([row[3] for row in trace]))
