"""Real feature matrices that travel inside Python packages, and departures from them.

A feature matrix is its own population: `tsl.laws.rows` draws its rows and knows its moments exactly. Nothing is downloaded.
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


@dataclass(frozen=True)
class FeatureSet:
    """A real feature matrix, as recorded, with the groups its rows fall into.

    Parameters
    ----------
    name, about : str
        Short name; what a row and a feature are, and which package carries the data.
    x : Tensor of shape (N, d), float64
        Features in their own units, a row per observation.
    groups, group_names : Tensor of shape (N,), tuple of str
        Index of each row's group, and the names it points into.
    """

    name: str
    x: Float[Tensor, "N d"]
    groups: Int[Tensor, " N"]
    group_names: tuple[str, ...]
    about: str

    def group(self, name: str) -> Float[Tensor, "n d"]:
        """Rows of one group, in their own units."""
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


def dataset(name: str) -> FeatureSet:
    """Load a feature matrix, one of `NAMES`, that ships inside an installed package."""
    if name not in _READERS:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return _READERS[name]()


def principal_axes(x: Float[Tensor, "N d"], rank: int | None = None) -> Float[Tensor, "d r"]:
    """Orthonormal basis of the directions in which a feature matrix varies: eigenvectors of xᵀx/N, strongest first.

    ``rank`` of them are kept, by default all whose mean square is not zero up to rounding (the numerical rank).
    """
    x = _validate.rows("x", x).double()
    _, strength, axes = torch.linalg.svd(
        x, full_matrices=False
    )  # of x, not xᵀx: no square of a condition number
    axes = axes.mT
    present = int((strength > max(x.shape) * torch.finfo(x.dtype).eps * strength[0]).sum())
    if present == 0:
        raise ValueError("x must vary in at least one direction, got zeros")
    if rank is not None and not 1 <= _validate.at_least("rank", rank, 0) <= present:
        raise ValueError(f"rank must be between 1 and the rank {present} of x, got {rank!r}")
    return axes[:, : rank or present]


def compress(x: Float[Tensor, "N d"], rank: int | None = None) -> Float[Tensor, "N r"]:
    """Coordinates of the rows in `principal_axes`, without the directions that no row has: Λ is invertible.

    Every formula is unchanged by a rotation, and weights along a direction that no row has can neither be learnt nor
    matter to a label: leaving them out of ‖ŵ − w*‖² removes a constant, one for each such direction.
    """
    return _validate.rows("x", x).double() @ principal_axes(x, rank)


def shuffle_columns(x: Float[Tensor, "N d"], generator: torch.Generator) -> Float[Tensor, "N d"]:
    """Permute each feature independently: the marginal laws stay, the dependence between features goes.

    Drawn where the generator is, so that a seed means the same on every device.
    """
    _validate.instance("generator", generator, torch.Generator)
    x = _validate.rows("x", x)
    keys = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return x.gather(0, keys.argsort(0).to(x.device))


def block_covariance(blocks: int, size: int, correlation: float) -> Float[Tensor, "d d"]:
    """Unit variances, with the same correlation ρ in [0, 1) inside each block and none between blocks; float64.

    d = blocks · size. The hardness is d / (1 − ρ) for blocks of two features and more.
    """
    blocks, size = _validate.positive_int("blocks", blocks), _validate.positive_int("size", size)
    correlation = _validate.share("correlation", correlation, whole=False)
    block = torch.full((size, size), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    return torch.block_diag(*[block] * blocks)
