"""Real feature matrices that travel inside Python packages, departures from them, and prompts of their rows.

A feature matrix is its own population: prompts draw its rows with replacement, so that rows are independent
and identically distributed, and the moments of the law (`tsl.fourth_moment.empirical`) are known exactly.
Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plotly.data
import torch
from jaxtyping import Float, Int
from sklearn import datasets
from torch import Tensor

from tsl import _validate
from tsl.covariance import haar, square_root
from tsl.prompts import Moments, Prompts


@dataclass(frozen=True)
class FeatureSet:
    """A real feature matrix, as recorded, with the groups its rows fall into.

    Parameters
    ----------
    name : str
        Short name.
    x : Tensor of shape (N, d), float64
        Features in their own units, a row per observation.
    groups : Tensor of shape (N,)
        Index into `group_names` of each row.
    group_names : tuple of str
        What the groups are.
    about : str
        What a row and a feature are, and which package carries the data.
    """

    name: str
    x: Float[Tensor, "N d"]
    groups: Int[Tensor, " N"]
    group_names: tuple[str, ...]
    about: str

    def group(self, name: str) -> Float[Tensor, "n d"]:
        """Rows of one group, in their own units.

        Raises
        ------
        ValueError
            If there is no group of that name.
        """
        if name not in self.group_names:
            raise ValueError(f"name must be one of {', '.join(self.group_names)}, got {name!r}")
        return self.x[self.groups == self.group_names.index(name)]


def _tabular(name: str, about: str) -> Callable[[], FeatureSet]:
    def read() -> FeatureSet:
        bunch = getattr(datasets, f"load_{name}")()
        return _feature_set(name, bunch.data, bunch.target, tuple(map(str, bunch.target_names)), about)

    return read


def _diabetes() -> FeatureSet:
    x = datasets.load_diabetes(scaled=False).data
    about = "442 patients × 10 measurements (scikit-learn)"
    return _feature_set("diabetes", x, (x[:, 1] == 2).astype(int), ("sex 1", "sex 2"), about)


def _gapminder() -> FeatureSet:
    frame = plotly.data.gapminder()
    names, groups = np.unique(frame["continent"].to_numpy(dtype=str), return_inverse=True)
    x = frame[["lifeExp", "pop", "gdpPercap"]].to_numpy(dtype=float)
    about = "1704 country-years × 3 statistics (plotly)"
    return _feature_set("gapminder", x, groups, tuple(map(str, names)), about)


def _stocks() -> FeatureSet:
    frame = plotly.data.stocks()
    returns = np.diff(np.log(frame.iloc[:, 1:].to_numpy(dtype=float)), axis=0)
    late = frame["date"].astype(str).str.startswith("2019").to_numpy()[1:].astype(int)
    about = "104 weekly log returns × 6 shares (plotly)"
    return _feature_set("stocks", returns, late, ("2018", "2019"), about)


def _patches() -> FeatureSet:
    side, pictures = 4, ("china", "flower")
    rows = []
    for picture in pictures:
        grey = datasets.load_sample_image(f"{picture}.jpg").mean(axis=2)
        height, width = (size // side for size in grey.shape)
        tiles = grey[: height * side, : width * side].reshape(height, side, width, side).swapaxes(1, 2)
        rows.append(tiles.reshape(-1, side * side))
    groups = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    about = f"{len(groups)} tiles of two photographs × 16 grey pixels (scikit-learn)"
    return _feature_set("patches", np.concatenate(rows), groups, pictures, about)


_READERS: dict[str, Callable[[], FeatureSet]] = {
    "iris": _tabular("iris", "150 flowers × 4 lengths (scikit-learn)"),
    "wine": _tabular("wine", "178 wines × 13 chemical measurements (scikit-learn)"),
    "diabetes": _diabetes,
    "cancer": _tabular("breast_cancer", "569 tumours × 30 measurements of an image (scikit-learn)"),
    "stocks": _stocks,
    "patches": _patches,
    "gapminder": _gapminder,
    "digits": _tabular("digits", "1797 digits × 64 pixels, three of them never inked (scikit-learn)"),
}

NAMES: tuple[str, ...] = tuple(_READERS)


def _feature_set(
    name: str, x: np.ndarray, groups: np.ndarray, names: tuple[str, ...], about: str
) -> FeatureSet:
    rows = torch.from_numpy(np.array(x, dtype=np.float64))
    return FeatureSet(name, rows, torch.from_numpy(np.array(groups, dtype=np.int64)), names, about)


def load(name: str) -> FeatureSet:
    """Load a feature matrix that ships inside an installed package.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    FeatureSet

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if name not in _READERS:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return _READERS[name]()


def standardise(x: Float[Tensor, "N d"], reference: Tensor | None = None) -> Float[Tensor, "N d"]:
    """Subtract the mean and divide by the standard deviation of each feature.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    reference : Tensor of shape (M, d), optional
        Rows that define mean and deviation, such as the training rows; by default `x` itself.

    Returns
    -------
    Tensor of shape (N, d)
        No units. A feature that is constant in the reference is only centred.

    Raises
    ------
    ValueError
        If an argument is not a finite feature matrix, or their dimensions disagree.
    """
    reference = _matrix("x", x) if reference is None else _matrix("reference", reference)
    _validate.same_dimension(x=x, reference=reference)
    return (x - reference.mean(0)) / _spread(reference.std(0, correction=0), reference)


def unit_range(x: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
    """Map each feature to [0, 1] by its smallest and largest value. The result is not centred.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.

    Returns
    -------
    Tensor of shape (N, d)
        No units. A constant feature becomes 0.

    Raises
    ------
    ValueError
        If `x` is not a finite feature matrix.
    """
    low, high = _matrix("x", x).aminmax(dim=0)
    return (x - low) / _spread(high - low, x)


def principal_axes(x: Float[Tensor, "N d"], rank: int | None = None) -> Float[Tensor, "d r"]:
    """Orthonormal basis of the directions in which a feature matrix varies, strongest first.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    rank : int, optional
        How many directions to keep; by default the numerical rank, all whose mean square is not zero up to
        rounding.

    Returns
    -------
    Tensor of shape (d, r)
        Eigenvectors of the second moment xᵀx/N.

    Raises
    ------
    ValueError
        If `x` is not a finite feature matrix, is zero, or `rank` is not between 1 and its rank.
    """
    strength, axes = torch.linalg.eigh(_matrix("x", x).mT @ x / x.shape[0])
    strength, axes = strength.flip(0), axes.flip(1)
    present = int((strength > x.shape[1] * torch.finfo(x.dtype).eps * strength[0]).sum())
    if present == 0:
        raise ValueError("x must vary in at least one direction, got zeros")
    if rank is not None and not 1 <= rank <= present:
        raise ValueError(f"rank must be between 1 and the rank {present} of x, got {rank!r}")
    return axes[:, : rank or present]


def compress(x: Float[Tensor, "N d"], rank: int | None = None) -> Float[Tensor, "N r"]:
    """Coordinates of the rows in `principal_axes`, without the directions that no row has: Λ is invertible.

    Every formula is unchanged by a rotation, and weights along a direction that no row has can neither be
    learnt nor matter to a label: leaving them out of ‖ŵ − w*‖² removes a constant, one for each such
    direction.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    rank : int, optional
        Directions to keep; by default the numerical rank.

    Returns
    -------
    Tensor of shape (N, r)

    Raises
    ------
    ValueError
        As `principal_axes`.
    """
    return x @ principal_axes(x, rank)


def rotate(x: Float[Tensor, "N d"], generator: torch.Generator) -> Float[Tensor, "N d"]:
    """Rotate all rows by one rotation drawn uniformly from the orthogonal group.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    generator : torch.Generator
        Source of randomness, on the device of `x`.

    Returns
    -------
    Tensor of shape (N, d)

    Raises
    ------
    ValueError
        If `x` is not a finite feature matrix.
    """
    return x @ haar(_matrix("x", x).shape[1], generator).to(x)


def shuffle_columns(x: Float[Tensor, "N d"], generator: torch.Generator) -> Float[Tensor, "N d"]:
    """Permute each feature independently: the marginal laws stay, the dependence between features goes.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Features.
    generator : torch.Generator
        Source of randomness, on the device of `x`.

    Returns
    -------
    Tensor of shape (N, d)

    Raises
    ------
    ValueError
        If `x` is not a finite feature matrix.
    """
    _validate.instance("generator", generator, torch.Generator)
    keys = torch.rand(_matrix("x", x).shape, generator=generator, dtype=torch.float64, device=x.device)
    return x.gather(0, keys.argsort(0))


def block_covariance(blocks: int, size: int, correlation: float) -> Float[Tensor, "d d"]:
    """Unit variances, with the same correlation inside each of several blocks and none between blocks.

    Parameters
    ----------
    blocks, size : int
        Number of blocks, and features in each; d = blocks · size.
    correlation : float
        Correlation ρ inside a block, in [0, 1).

    Returns
    -------
    Tensor of shape (d, d), float64
        Its hardness is d / (1 − ρ) for blocks of two features and more.

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    _validate.positive_int("blocks", blocks)
    _validate.positive_int("size", size)
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation must be in [0, 1), got {correlation!r}")
    block = torch.full((size, size), float(correlation), dtype=torch.float64).fill_diagonal_(1.0)
    return torch.block_diag(*[block] * blocks)


def heavy_tailed(
    cov: Float[Tensor, "d d"], dof: float, rows: int, generator: torch.Generator
) -> Float[Tensor, "N d"]:
    """Draw a feature matrix from Student's multivariate t, scaled to covariance `cov`.

    Parameters
    ----------
    cov : Tensor of shape (d, d)
        Covariance of the law.
    dof : float
        Degrees of freedom ν, above 2; infinity gives Gaussian rows. Fourth moments of the law need ν > 4, but
        those of the matrix, which is the population prompts are drawn from, always exist.
    rows : int
        Number of rows N, at least 1.
    generator : torch.Generator
        Source of randomness, on the device of `cov`.

    Returns
    -------
    Tensor of shape (N, d)

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    root = square_root(cov)
    _validate.positive_int("rows", rows)
    _validate.instance("generator", generator, torch.Generator)
    if not dof > 2:
        raise ValueError(f"dof must be above 2, or the law has no covariance, got {dof!r}")
    normal = torch.randn((rows, cov.shape[0]), generator=generator, dtype=cov.dtype, device=cov.device) @ root
    if dof == float("inf"):
        return normal
    half_chi_square = torch._standard_gamma(torch.full_like(normal[:, :1], dof / 2), generator=generator)
    return normal * torch.sqrt((dof / 2 - 1) / half_chi_square)


def sample_prompts(
    x: Float[Tensor, "N d"], n: int, size: int, noise: float = 0.0, generator: torch.Generator | None = None
) -> Prompts:
    """Draw prompts whose examples are rows of a feature matrix, with replacement.

    As in `tsl.prompts.sample_prompts`, w* ~ N(0, I) and y = ⟨w*, x⟩ + noise · N(0, 1). With replacement the
    rows of a prompt are independent, as the theory asks; a prompt may therefore hold a row twice.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Feature matrix.
    n : int
        Examples in each prompt, at least 1.
    size : int
        Number of prompts B, at least 1.
    noise : float
        Standard deviation σ of the label noise.
    generator : torch.Generator, optional
        Source of randomness, on the device of `x`.

    Returns
    -------
    Prompts

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    _matrix("x", x)
    _validate.positive_int("n", n)
    _validate.positive_int("size", size)
    noise = _validate.non_negative("noise", noise)
    index = torch.randint(x.shape[0], (size, n), generator=generator, device=x.device)
    w = torch.randn((size, x.shape[1]), generator=generator, dtype=x.dtype, device=x.device)
    rows = x[index]
    y = torch.einsum("bnd,bd->bn", rows, w)
    if noise:
        y = y + noise * torch.randn(y.shape, generator=generator, dtype=x.dtype, device=x.device)
    return Prompts(rows, y, w)


def sample_moments(
    x: Float[Tensor, "N d"], m: int, size: int, generator: torch.Generator | None = None
) -> Moments:
    """Moments of noiseless prompts drawn as `sample_prompts` draws them, without holding all rows in memory.

    Parameters
    ----------
    x : Tensor of shape (N, d)
        Feature matrix.
    m : int
        Examples in each prompt, at least 1.
    size : int
        Number of prompts B, at least 1.
    generator : torch.Generator, optional
        Source of randomness, on the device of `x`.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If an argument is not allowed.
    """
    _matrix("x", x)
    _validate.positive_int("m", m)
    _validate.positive_int("size", size)
    chunk = max(1, 4_000_000 // (m * x.shape[1]))  # 32 MB of rows at a time
    parts = [
        sample_prompts(x, m, min(chunk, size - start), generator=generator).moments()
        for start in range(0, size, chunk)
    ]
    return Moments(*(torch.cat([getattr(part, name) for part in parts]) for name in ("gram", "cross", "w")))


def _spread(scale: Tensor, x: Tensor) -> Tensor:
    """`scale` of every feature of x; 1 where it is zero up to the rounding of a mean, for a feature that does not vary."""
    rounding = 16 * torch.finfo(x.dtype).eps * x.abs().amax(0)
    return torch.where(scale > rounding, scale, torch.ones_like(scale))


def _matrix(name: str, x: Tensor) -> Tensor:
    if _validate.finite(name, x).dim() != 2 or x.numel() == 0:
        raise ValueError(f"{name} must be a feature matrix of shape (N, d), got {tuple(x.shape)}")
    return x
