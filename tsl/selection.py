"""Which tasks to train on: the paper's quadratic program, and the exact error after k steps.

A model trained on a mixture π of tasks thinks with the fixed preconditioner Γ⁻¹ = E[Σ̂] E[Σ̂²]⁻¹
(`theory.gamma_mixture`). The quadratic program (Section 4 of arXiv 2510.03605) asks that the mean covariance
resemble the target's; `select_tasks` minimises what one cares about, the error on the target after k steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from torch import Tensor

from tsl import _validate, covariance, laws, theory
from tsl.theory import Features

Array = NDArray[np.float64]
#: Laws of features, or covariances of Gaussian ones.
Tasks = Sequence[Features] | Float[Tensor, "T d d"]


def predicted_error(
    tasks: Tasks, probs: Float[Tensor, " T"], lengths: Sequence[int], target: Features, steps: int
) -> float:
    """Error ‖(I − Γ⁻¹Σ)^k‖_F² on the target after k steps of a model trained on a mixture, with unlimited test context.

    The mixture is given as for `tsl.theory.gamma_mixture`; Σ is the target's second moment. An answer of zero has error d.
    """
    first, second, sigma = _moments(tasks, lengths, target, steps)
    weights = _validate.probabilities("probs", probs, len(first)).cpu().numpy()
    return math.exp(log_error(weights, first, second, sigma[None].cpu().numpy(), steps)[0])


def select_tasks_qp(tasks: Tasks, target: Features) -> Float[Tensor, " T"]:
    """Task weights by the quadratic program min ‖I − Σ⁻¹ Σ_ℓ π_ℓ Λ_ℓ‖_F² over the simplex, exact up to rounding.

    This is the program of Section 4 of arXiv 2510.03605. It knows nothing of prompt lengths, of thinking steps or of fourth
    moments, and Σ must not be singular. Where several mixtures are optimal, it returns the most even one, that of least
    Σ_ℓ π_ℓ²: tasks with equal covariances share their weight. A common unit of all features cancels, and so does a rotation.
    Features in units of their own make *another* program, as the Frobenius norm weighs its entries by these units.

    Notes
    -----
    With a_ℓ = vec(Σ⁻¹Λ_ℓ − I) it asks for the point of the convex hull of the a_ℓ nearest to zero. Non-negative least squares
    finds it: min ‖Σ_ℓ y_ℓ a_ℓ‖² + s²(Σ_ℓ y_ℓ − 1)² over y ≥ 0 is least at a multiple of the optimal π, whatever s > 0 is.
    """
    covs, sigma = _second_moments(tasks, target)
    unit = sigma.diagonal().sqrt()
    if not (unit > 0).all() or math.isinf(covariance.hardness(sigma / torch.outer(unit, unit))):
        raise ValueError("target must be invertible, got a singular covariance: add samples or shrink it")
    # Σ⁻¹Λ by way of correlations, as in features of unit variance: no rounding comes from the units.
    ratios = torch.linalg.solve(sigma / torch.outer(unit, unit), covs / torch.outer(unit, unit))
    ratios = ratios * unit / unit[:, None] - torch.eye(len(sigma)).to(sigma)
    points = ratios.flatten(1).mT.cpu().numpy().astype(np.float64)
    points /= np.abs(points).max() or 1.0
    nearest = np.linalg.norm(points, axis=0).min()
    columns = np.vstack([points, np.full(len(covs), nearest if nearest > 1e-9 else 1.0)])
    size = np.linalg.norm(columns, axis=0)
    found = _non_negative(columns / size, np.append(np.zeros(len(points)), columns[-1, 0])) / size
    return torch.as_tensor(_most_even(columns, found / found.sum())).to(sigma)


def select_tasks(
    tasks: Tasks,
    lengths: Sequence[int],
    target: Features,
    steps: int,
    grams: Float[Tensor, "B d d"] | None = None,
) -> Float[Tensor, " T"]:
    """Task weights that minimise the exact error ‖(I − Γ(π)⁻¹Σ)^k‖_F² over the simplex (our extension).

    Γ(π) is that of the mixture. The problem is not convex: sequential quadratic programming (SLSQP, exact
    gradient) starts from equal weights, from the quadratic program and from the best single task. The best
    end point is kept, and never loses to a starting point.

    Parameters
    ----------
    tasks, lengths
        Features of each task on offer, and its prompt length n_ℓ.
    target : Law, or Tensor of shape (d, d)
        Features of the target, of second moment Σ that may be singular.
    steps : int
        Thinking steps k the model will be given.
    grams : Tensor of shape (B, d, d), optional
        Empirical covariances Σ̂ of test prompts (`prompts.sample_moments`). With them the mean of ‖(I − Γ(π)⁻¹Σ̂)^k‖_F²
        is minimised, which also guards against overthinking on prompts of finite length.
    """
    first, second, sigma = _moments(tasks, lengths, target, steps)
    count = len(first)
    if grams is None:
        grams = sigma[None]
    elif grams.dim() != 3:
        raise ValueError(f"grams must have shape (B, d, d), got {tuple(grams.shape)}")
    _validate.matrices("grams", grams)
    _validate.same_dimension(grams=grams, target=sigma)
    tests = grams.cpu().numpy()

    def objective(weights: Array) -> tuple[float, Array]:
        return log_error(weights, first, second, tests, steps)

    vertices, equal = np.eye(count), np.full(count, 1 / count)
    starts = [equal, min(vertices, key=lambda vertex: objective(vertex)[0])]
    if math.isfinite(covariance.hardness(sigma)):
        starts.append(select_tasks_qp(tasks, target).cpu().numpy())
    candidates = list(starts)
    for start in starts:
        inside = 0.9 * start + 0.1 * equal  # off the faces of the simplex, where gradients point outwards
        found = minimize(
            objective,
            inside,
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * count,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones_like(p)},
            options={"maxiter": 300, "ftol": 1e-10},
        )
        candidates.append(_on_simplex(found.x).numpy())
    return torch.as_tensor(min(candidates, key=lambda weights: objective(weights)[0])).to(sigma)


def log_error(weights: Array, first: Array, second: Array, tests: Array, steps: int) -> tuple[float, Array]:
    """Logarithm of the mean error after k = `steps` steps, and its gradient in the (unnormalised) weights, orthogonal to these.

    For one test covariance Σ̂, with F = ‖M^k‖², M = I − AΣ̂ and A = E₁E₂⁻¹, the chain rule runs through
    dF/dM = 2 Σ_j (M^j)ᵀ M^k (M^{k−1−j})ᵀ.

    Parameters
    ----------
    weights : array of shape (T,)
        Non-negative, not all zero; only their ratios matter.
    first, second : arrays of shape (T, d, d)
        E[Σ̂] = Λ_ℓ and E[Σ̂²] of each task.
    tests : array of shape (B, d, d)
        Covariances Σ̂ to average over.
    """
    total = weights.sum()
    probs = weights / total
    identity = np.eye(tests.shape[-1])
    mean, mean_square = np.tensordot(probs, first, 1), np.tensordot(probs, second, 1)
    # The floor, in units of each feature, makes A vanish where no task has any: there gradient descent from zero leaves it.
    scale = np.einsum("tii->i", second) / len(second)
    unit = np.sqrt(np.where(scale > 0, scale, 1))
    both = np.outer(unit, unit)
    inverse = np.linalg.inv(mean_square / both + 1e-14 * len(unit) * identity) / both
    step = identity - mean @ inverse @ tests
    with np.errstate(over="ignore", invalid="ignore"):  # a mixture that diverges is as bad as can be
        power = np.linalg.matrix_power(step, steps)
        error = float(np.square(power).sum()) / len(tests)
    if error == 0 or not math.isfinite(error):
        return -math.inf if error == 0 else math.inf, np.zeros_like(weights)
    inward = _pulled_back(step, power, steps)
    by_mean = -2 * (inward @ tests.swapaxes(1, 2)).mean(0) @ inverse.T  # dF/dE₁; and dF/dE₂ = −Aᵀ dF/dE₁
    slope = np.tensordot(first, by_mean, 2) - np.tensordot(second, (mean @ inverse).T @ by_mean, 2)
    return math.log(error), (slope - slope @ probs) / (total * error)


def _pulled_back(step: Array, power: Array, steps: int) -> Array:
    """Σ_j (M^j)ᵀ P (M^{k−1−j})ᵀ of a batch of M and P = M^k, by doubling k as `numpy.linalg.matrix_power` does."""
    back = np.ascontiguousarray(step.swapaxes(1, 2))
    found, reach = power, back
    for bit in f"{steps:b}"[1:]:
        found, reach = reach @ found + found @ reach, reach @ reach
        if bit == "1":
            found, reach = back @ found + power @ reach, reach @ back
    return found


def _moments(
    tasks: Tasks, lengths: Sequence[int], target: Features, steps: int
) -> tuple[Array, Array, Tensor]:
    """E[Σ̂] and E[Σ̂²] of every task, and Σ of the target."""
    _validate.positive_int("steps", steps)
    covs, sigma = _second_moments(tasks, target)
    found, _, counts = laws.mixture(tasks, [1 / len(covs)] * len(covs), lengths)
    squares = [theory.second_moment(law, n) for law, n in zip(found, counts, strict=True)]
    return covs.cpu().numpy(), torch.stack(squares).cpu().numpy(), sigma


def _second_moments(tasks: Tasks, target: Features) -> tuple[Tensor, Tensor]:
    """Λ_ℓ of every task, in one tensor, and Σ of the target."""
    covs = torch.stack([law.second for law in laws.each("tasks", tasks)])
    sigma = laws.of("target", target).second
    _validate.same_dimension(tasks=covs, target=sigma)
    return covs, sigma


def _non_negative(matrix: Array, goal: Array) -> Array:
    """Non-negative least squares; scipy's limit of 3 rounds a column is too low for tasks that nearly coincide."""
    return nnls(matrix, goal, maxiter=100 * matrix.shape[1])[0]


def _most_even(columns: Array, weights: Array) -> Array:
    """Of all weights on the simplex with the same `columns @ weights` the ones of least norm."""
    _, size, rows = np.linalg.svd(columns, full_matrices=False)
    rows = rows[size > 1e-12 * size[0]]
    if len(rows) == len(weights):
        return weights
    slight = 1e-7 * np.eye(len(weights))  # its square is the relative error
    found = _non_negative(np.vstack([rows, slight]), np.append(rows @ weights, np.zeros(len(weights))))
    # `columns` holds the sum of the weights too: where rounding loses it, any optimum will do.
    return found / found.sum() if abs(found.sum() - 1) < 1e-3 else weights


def _on_simplex(weights: Array) -> Tensor:
    """Remove the rounding a solver leaves: weights below 1e-7 become zero, and the rest sums to 1."""
    cleaned = np.where(weights < 1e-7, 0.0, weights)
    return torch.as_tensor(cleaned / cleaned.sum(), dtype=torch.float64)
