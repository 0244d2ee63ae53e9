"""The look of every figure: predictions drawn dark and dashed over measurements in colour, with their uncertainty."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsl import _validate
from tsl.runs import Run

COLORS: list[Any] = sns.color_palette("colorblind", 8).as_hex()
INK = "#1b1b1b"

_STYLE = {
    **sns.axes_style("whitegrid"),
    "axes.edgecolor": "#8a8a8a",
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "figure.constrained_layout.use": True,
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e6e6e6",
    "legend.fontsize": 8.5,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "savefig.dpi": 144,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def new(cols: int = 1, rows: int = 1, height: float = 3.4, width: float | None = None, **kwargs: Any) -> tuple[Figure, Any]:
    """Make a figure in the book's style.

    Parameters
    ----------
    cols, rows : int
        Panels.
    height : float
        Height of a row, in inches.
    width : float, optional
        Width of the figure, in inches; by default 5.6 for one column and 7.6 for more, the width of the page.
    **kwargs
        Passed to `matplotlib.pyplot.subplots`.

    Returns
    -------
    figure, axes
        As `matplotlib.pyplot.subplots` gives them.

    Raises
    ------
    ValueError
        If a number of panels or a size is not positive.
    """
    _validate.positive_int("cols", cols)
    _validate.positive_int("rows", rows)
    _validate.positive("height", height)
    mpl.rcParams.update(_STYLE)  # legends and colour bars added later must find it too
    return plt.subplots(rows, cols, figsize=(width or (5.6 if cols == 1 else 7.6), height * rows), dpi=144, **kwargs)


def theory(ax: Axes, x: Any, y: Any, label: str | None = None, color: Any = INK, **kwargs: Any) -> None:
    """Draw a prediction: a dashed line above everything else."""
    ax.plot(_array(x), _array(y), **({"linestyle": "--", "linewidth": 1.5, "zorder": 5} | kwargs), color=color, label=label)


def band(ax: Axes, x: Any, mean: Any, low: Any, high: Any, label: str | None = None, color: Any = None, **kwargs: Any) -> None:
    """Draw a measurement with its interval as a shaded band."""
    x, mean, low, high = map(_array, (x, mean, low, high))
    (line,) = ax.plot(x, mean, **({"marker": "o", "zorder": 3} | kwargs), color=color, label=label)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.22, linewidth=0, zorder=2)


def points(ax: Axes, x: Any, mean: Any, low: Any, high: Any, label: str | None = None, color: Any = None, **kwargs: Any) -> None:
    """Draw measurements with their intervals as error bars."""
    x, mean, low, high = map(_array, (x, mean, low, high))
    style: dict[str, Any] = {"fmt": "o", "capsize": 2.5, "elinewidth": 1.2, "zorder": 3} | kwargs
    ax.errorbar(x, mean, yerr=np.clip([mean - low, high - mean], 0, None), color=color, label=label, **style)


def quantile_band(
    ax: Axes, x: Any, samples: Any, label: str | None = None, color: Any = None, quantiles: tuple[float, float] = (0.1, 0.9)
) -> None:
    """Draw the median of samples (axis 0) with a band between two quantiles: what a typical prompt does, whatever the tails."""
    values = _array(samples)
    low, high = np.quantile(values, quantiles, axis=0)
    band(ax, x, np.median(values, axis=0), low, high, label=label, color=color)


def finish(figure: Figure, run: Run) -> Figure:
    """Stamp a figure with its provenance and return it for display, once."""
    # A title of the figure's lower edge takes part in the layout, so that it never covers a label.
    figure.supxlabel(run.stamp, fontsize=6.5, color="#6b6b6b", x=0.995, ha="right")
    figure.canvas.draw()
    plt.close(figure)
    return figure


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
