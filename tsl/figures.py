"""The look of every figure: predictions drawn dark and dashed over measurements in colour, with their uncertainty."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tsl import _validate
from tsl.runs import Run

COLORS: list[Any] = sns.color_palette("colorblind", 8).as_hex()
INK = "#1b1b1b"
GREY = "#8a8a8a"
STEPS = "steps of thinking $k$"
DATA = "application/vnd.tsl.figure+json"  # what a figure tells the book beside its picture
HEAVY = 300_000  # bytes: a drawing in vectors may take as much, or as much as its pixels
MOST = 2_000  # points of a curve that go into the data behind a figure; of more, every second, third ...
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
        """What a notebook keeps of the figure, by kind: text, picture, and what `DATA` says."""
        drawn = {name: io.BytesIO() for name in ("png", "svg")}
        with mpl.rc_context(_STYLE):
            for name, file in drawn.items():
                self.savefig(
                    file, format=name, metadata={"Date": None, "Creator": None} if name == "svg" else {}
                )
            told = {"panels": _panels(self), "data": [_told(ax) for ax in self.axes]}
        png, svg = (file.getvalue() for file in drawn.values())
        bundle: dict[str, Any] = {"text/plain": str(self), DATA: told}
        if len(svg) <= max(HEAVY, len(png)):
            bundle["image/svg+xml"] = svg.decode()
        else:
            bundle["image/png"] = base64.b64encode(png).decode()
        return bundle


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


def _told(ax: Axes) -> dict[str, Any]:
    """What a panel shows, in numbers: its labels, and for each thing drawn its kind, its name and its columns."""
    drawn = list(_series(ax))
    return {
        "title": ax.get_title(),
        "x": ax.get_xlabel(),
        "y": ax.get_ylabel(),
        "series": [
            {"kind": kind, "label": "" if label.startswith("_") else label, **_columns(columns)}
            for kind, label, columns in drawn
        ],
    }


def _series(ax: Axes) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, label and columns of all that a panel draws from data."""
    taken: set[Any] = set()
    for container in ax.containers:
        label = str(container.get_label())
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            taken |= {line, *caps}
            columns = {} if line is None else dict(zip("xy", line.get_data(), strict=True))
            if container.has_yerr and bars:
                ends = [np.asarray(segment)[:, 1] for segment in bars[-1].get_segments() if len(segment)]
                if len(ends) == len(columns.get("y", ends)):
                    columns |= {"low": [min(pair) for pair in ends], "high": [max(pair) for pair in ends]}
            yield "points", label, columns
        elif isinstance(container, BarContainer):
            boxes = [patch.get_bbox() for patch in container.patches]
            middle = [(box.x0 + box.x1) / 2 for box in boxes], [(box.y0 + box.y1) / 2 for box in boxes]
            flat = container.orientation == "horizontal"
            long = [box.x1 if flat else box.y1 for box in boxes]
            yield "bars", label, {"x": long, "y": middle[1]} if flat else {"x": middle[0], "y": long}
    for line in ax.lines:
        if line not in taken and np.size(line.get_xdata()):
            x, y = (np.asarray(ax.convert_xunits(v), dtype=float) for v in line.get_data())
            columns = {"x": x, "y": y}
            if line.get_transform() != ax.transData:  # a line through the whole panel
                columns = {"y": y[:1]} if np.ptp(y) == 0 else {"x": x[:1]}
            yield "line", str(line.get_label()), columns
    for drawn in ax.collections:
        label = str(drawn.get_label())
        if isinstance(drawn, PathCollection):
            yield "points", label, dict(zip("xy", np.ma.filled(drawn.get_offsets(), np.nan).T, strict=True))
        elif isinstance(drawn, QuadMesh):
            yield "image", label, _cells(drawn.get_array())
        elif isinstance(drawn, PolyCollection) and drawn.get_paths():
            corners = np.concatenate([path.vertices for path in drawn.get_paths()])
            x = np.unique(corners[:, 0])
            ends = [corners[corners[:, 0] == value, 1] for value in x]
            yield "band", label, {"x": x, "low": [v.min() for v in ends], "high": [v.max() for v in ends]}
    for image in ax.images:
        table: Any = image.get_array()
        if np.ndim(table) == 2:
            yield "image", str(image.get_label()), _cells(table)


def _cells(table: Any) -> dict[str, Any]:
    rows, columns = np.indices(np.shape(table))
    return {"x": columns.ravel(), "y": rows.ravel(), "value": np.ma.filled(table, np.nan).ravel()}


def _columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of numbers with six digits, and of how many points each of these stands, if not one."""
    size = max((len(values) for values in columns.values()), default=0)
    every = -(-size // MOST) if size else 1
    short = {
        name: [
            float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=float)[::every]
        ]
        for name, values in columns.items()
    }
    return short | ({"every": every} if every > 1 else {})


def _panels(figure: Figure) -> dict[str, Any]:
    """Where a figure may be cut for a narrow screen: size and smallest type in points, and rectangles as shares of it.

    Rectangles are left, top, width and height, in reading order; one, without the stamp, if panels share labels.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    stamp, whole = figure._supxlabel, figure.bbox  # type: ignore[attr-defined]
    boxes: dict[Any, Any] = {}
    for ax in figure.axes:
        bar = getattr(ax, "_colorbar", None)
        owner = bar.mappable.axes if bar is not None and bar.mappable.axes is not None else ax
        if ax.get_visible() and (box := ax.get_tightbbox(renderer)) is not None:
            boxes[owner] = Bbox.union([box, boxes[owner]]) if owner in boxes else box
    loose = [*figure.legends, *(text for text in figure.texts if text is not stamp and text.get_text())]
    everything = [*boxes.values(), *(item.get_window_extent(renderer) for item in loose)]
    texts = [t for t in figure.findobj(Text) if t is not stamp and t.get_visible() and t.get_text().strip()]
    shared = any(not ax.yaxis.get_tick_params().get("labelleft", True) for ax in boxes if ax.axison)
    named = getattr(figure, "_supylabel", None) is not None
    groups = [everything] if shared or named else _cut(everything)
    pad = 3 * figure.dpi / 72

    def share(group: list[Any]) -> list[float]:
        box = Bbox.union(group)
        x0, x1 = max(whole.x0, box.x0 - pad), min(whole.x1, box.x1 + pad)
        y0, y1 = max(whole.y0, box.y0 - pad), min(whole.y1, box.y1 + pad)
        parts = (x0 / whole.width, 1 - y1 / whole.height, (x1 - x0) / whole.width, (y1 - y0) / whole.height)
        return [round(float(part), 4) for part in parts]

    return {
        "size": [round(float(inches * 72), 1) for inches in figure.get_size_inches()],
        "type": round(float(min((text.get_fontsize() for text in texts), default=10)), 1),
        "parts": [share(group) for group in groups if group],
    }


def _cut(boxes: list[Any]) -> list[list[Any]]:
    """Boxes in groups with a gap between them, rows from the top, then columns from the left, and so on in each."""
    for axis, order in ((1, -1), (0, 1)):
        rising = sorted(boxes, key=lambda box: float(box.intervalx[0] if axis == 0 else box.intervaly[0]))
        groups: list[list[Any]] = []
        end = -np.inf
        for box in rising:
            low, high = sorted(box.intervalx if axis == 0 else box.intervaly)
            if low >= end:
                groups.append([])
            groups[-1].append(box)
            end = max(end, high)
        if len(groups) > 1:
            return [part for group in groups[::order] for part in _cut(group)]
    return [boxes]


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _arrays(**named: Any) -> list[np.ndarray]:
    """The arguments as arrays of one shape."""
    arrays = {name: _array(value) for name, value in named.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["x"].ndim != 1:
        raise ValueError(f"{', '.join(named)} must share one shape (P,), got {shapes}")
    return list(arrays.values())
