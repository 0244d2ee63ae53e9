"""The look of every figure: predictions drawn dark and dashed over measurements in colour, with their uncertainty."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsl import _validate, pictures
from tsl.runs import Run

COLORS: list[Any] = sns.color_palette("colorblind", 8).as_hex()
INK = "#1b1b1b"
GREY = "#8a8a8a"
STEPS = "steps of thinking $k$"
HEAVY = 300_000  # bytes: a drawing in vectors may take as much, or as much as its pixels
ERROR = "error $\\|\\hat w_k - w^*\\|^2$"

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
    "svg.hashsalt": "tsl",  # the same picture has the same text
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


class _Picture(Figure):
    """A figure that shows itself: as vectors unless pixels are much lighter, with the numbers it draws and its panels."""

    def _ipython_display_(self) -> None:
        display(self.bundle(), raw=True)

    def bundle(self) -> dict[str, Any]:
        """What a notebook keeps of the figure, by kind: text, picture, and what `pictures.DATA` says."""
        with mpl.rc_context(_STYLE):
            svg = self._saved("svg", {"Date": None, "Creator": None})
            png = self._saved("png", {}) if len(svg) > HEAVY else b""
            bundle: dict[str, Any] = {"text/plain": str(self), pictures.DATA: pictures.beside(self)}
        if len(svg) <= max(HEAVY, len(png)):
            bundle["image/svg+xml"] = svg.decode()
        else:
            bundle["image/png"] = base64.b64encode(png).decode()
        return bundle

    def _saved(self, kind: str, metadata: dict[str, Any]) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format=kind, metadata=metadata)
        return file.getvalue()


def new(
    cols: int = 1, rows: int = 1, height: float = 3.4, width: float | None = None, **kwargs: Any
) -> tuple[Figure, Any]:
    """Make a figure in the book's style: what `matplotlib.pyplot.subplots` gives, which takes further keywords.

    Parameters
    ----------
    cols, rows, height
        Panels, and the height of a row in inches.
    width : float, optional
        Width of the figure, in inches; by default 5.6 for one column and 7.6 for more, the width of the page.
    """
    _validate.positive_int("cols", cols)
    _validate.positive_int("rows", rows)
    _validate.positive("height", height)
    if width is None:
        width = 5.6 if cols == 1 else 7.6
    _validate.positive("width", width)
    mpl.rcdefaults()  # whatever a matplotlibrc of one's own says
    mpl.rcParams.update(_STYLE)  # legends and colour bars added later must find it too
    size = (width, height * rows)
    return plt.subplots(rows, cols, figsize=size, dpi=144, FigureClass=_Picture, **kwargs)


def theory(ax: Axes, x: Any, y: Any, label: str | None = None, color: Any = INK, **kwargs: Any) -> None:
    """Draw a prediction: a dashed line above everything else.

    Points are arrays or tensors of shape (P,); label, colour and further keywords as for `matplotlib.axes.Axes.plot`.
    """
    points = _arrays(x=x, y=y)
    style: dict[str, Any] = {"linestyle": "--", "linewidth": 1.5, "zorder": 5} | kwargs
    ax.plot(*points, color=color, label=label, **style)


def bound(ax: Axes, x: Any, y: Any, label: str | None = None, color: Any = INK, **kwargs: Any) -> None:
    """Draw a bound or a leading term: a dotted line; arguments as for `theory`."""
    theory(ax, x, y, label, color, **({"linestyle": ":", "linewidth": 1.8} | kwargs))


def limit(ax: Axes, x: Any, y: Any, label: str | None = None, color: Any = GREY, **kwargs: Any) -> None:
    """Draw a limit that the measurement need not have reached: a thin grey line; arguments as for `theory`."""
    theory(ax, x, y, label, color, **({"linestyle": "-", "linewidth": 0.9} | kwargs))


def band(
    ax: Axes,
    x: Any,
    mean: Any,
    low: Any,
    high: Any,
    label: str | None = None,
    color: Any = None,
    **kwargs: Any,
) -> None:
    """Draw measured means with the ends of their intervals as a shaded band; arguments as for `theory`."""
    x, mean, low, high = _arrays(x=x, mean=mean, low=low, high=high)
    style: dict[str, Any] = {"marker": "o", "zorder": 3} | kwargs
    (line,) = ax.plot(x, mean, color=color, label=label, **style)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.22, linewidth=0, zorder=2)


def points(
    ax: Axes,
    x: Any,
    mean: Any,
    low: Any,
    high: Any,
    label: str | None = None,
    color: Any = None,
    **kwargs: Any,
) -> None:
    """Draw measured means with the ends of their intervals as error bars; arguments as for `band`.

    Further keywords go to `matplotlib.axes.Axes.errorbar`.
    """
    x, mean, low, high = _arrays(x=x, mean=mean, low=low, high=high)
    style: dict[str, Any] = {"fmt": "o", "capsize": 2.5, "elinewidth": 1.2, "zorder": 3} | kwargs
    ax.errorbar(x, mean, yerr=np.clip([mean - low, high - mean], 0, None), color=color, label=label, **style)


def quantile_band(
    ax: Axes,
    x: Any,
    samples: Any,
    label: str | None = None,
    color: Any = None,
    quantiles: tuple[float, float] = (0.1, 0.9),
) -> None:
    """Draw the median of samples with a band between two quantiles: what a typical prompt does, whatever the tails.

    ``samples``, (B, P), holds B samples of each point; ``quantiles`` are the ends of the band, rising, between 0 and 1.
    """
    band(ax, x, *_middle(samples, quantiles), label=label, color=color)


def quantile_points(
    ax: Axes,
    x: Any,
    samples: Any,
    label: str | None = None,
    color: Any = None,
    quantiles: tuple[float, float] = (0.1, 0.9),
) -> None:
    """Draw what `quantile_band` does as points with bars, which stay apart where bands would cover each other."""
    points(ax, x, *_middle(samples, quantiles), label=label, color=color)


def finish(figure: Figure, run: Run) -> Figure:
    """Stamp a figure with the provenance of its run and return it for display.

    It is closed for pyplot, so that a notebook does not show it a second time.
    """
    _validate.instance("figure", figure, Figure)
    _validate.instance("run", run, Run)
    # A title of the figure's lower edge takes part in the layout, so that it never covers a label.
    figure.supxlabel(run.stamp, fontsize=6.5, color="#6b6b6b", x=0.995, ha="right")
    figure.canvas.draw()
    plt.close(figure)
    return figure


def _middle(samples: Any, quantiles: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median and two quantiles of samples, (B, P)."""
    if len(quantiles) != 2 or not 0 <= quantiles[0] <= quantiles[1] <= 1:
        raise ValueError(f"quantiles must be two rising numbers between 0 and 1, got {quantiles!r}")
    values = _array(samples)
    if values.ndim != 2 or len(values) < 1:
        raise ValueError(f"samples must have shape (B, P) with B >= 1, got {values.shape}")
    low, high = np.quantile(values, quantiles, axis=0)
    return np.median(values, axis=0), low, high


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _arrays(**named: Any) -> list[np.ndarray]:
    """The arguments as arrays of one shape."""
    arrays = {name: _array(value) for name, value in named.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["x"].ndim != 1:
        raise ValueError(f"{', '.join(named)} must share one shape (P,), got {shapes}")
    return list(arrays.values())
