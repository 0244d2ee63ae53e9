"""What a figure tells the book beside its picture: the numbers that it draws, and where a narrow screen may cut it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

#: Kind under which it stands among a cell's outputs.
DATA = "application/vnd.tsl.figure+json"
MOST = 2_000  # points of a curve that go into the data behind a figure; of more, every second, third ...


def beside(figure: Figure) -> dict[str, Any]:
    """What is drawn in each panel, fit for JSON, and where the panels are."""
    return {"panels": _panels(figure), "data": [_panel(ax) for ax in figure.axes]}


def _panel(ax: Axes) -> dict[str, Any]:
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
