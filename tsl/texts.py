"""How numbers read in prose, boxes and tables: the same in all chapters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from IPython.display import HTML

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | str) -> str:
    """Format a number for a reader: about three significant digits, powers of ten where they help, a true minus sign.

    Such as ``0.123``, ``−45``, ``12,346``, ``−2·10⁻⁵``, ``∞`` or, for NaN, ``undefined``. Infinity and NaN may also be
    given as the text by which a notebook stores them.
    """
    value = float(value)
    size = abs(value)
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        text = "∞"
    elif size == 0:
        return "0"
    elif 9.995e-4 <= size < 99_999.5:
        text = f"{size:.3g}" if size < 999.5 else f"{size:,.0f}"
    else:
        mantissa, exponent = f"{size:.1e}".split("e")
        raised = str(int(exponent)).translate(_RAISED)
        text = f"{mantissa.removesuffix('.0')}·10{raised}"
    return f"{'−' if value < 0 else ''}{text}"


def percent(share: float, digits: int = 0) -> str:
    """A share as per cent: ``percent(0.123)`` is ``12 %``."""
    return f"{100 * float(share):.{digits}f} %"


def span(values: Iterable[float]) -> str:
    """Least and largest of whole numbers: ``3 to 6``, or ``4`` where they agree."""
    low, high = (int(extreme(values)) for values in [list(values)] for extreme in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def ranged(middle: float, low: float, high: float, digits: int = 1) -> str:
    """A number with its interval: ``5.9 (95 % interval 2.4 to 14.7)``."""
    texts = [f"{float(value):.{digits}f}" for value in (middle, low, high)]
    return "{} (95 % interval {} to {})".format(*texts)


def table(rows: Any, **kwargs: Any) -> HTML:
    """A table in the book's style, of a DataFrame or what makes one.

    Texts are shown as they are and may hold HTML, numbers as by `number`. Further keywords go to
    `pandas.DataFrame.to_html`, such as ``index=False``.
    """
    shown = pd.DataFrame(rows).map(lambda value: value if isinstance(value, str) else number(value))
    options = {"border": 0, "classes": "tsl-claim-table", "escape": False, "justify": "left"} | kwargs
    return HTML(f'<div class="tsl-claim-scroll">{shown.to_html(**options)}</div>')


def plot(values: Iterable[float], title: str, width: int = 50) -> str:
    """A curve over steps 0, 1, … as bars in plain text, the longest of ``width`` characters.

    The scale is logarithmic, over the values that are positive and finite.
    """
    values = list(values)
    shown = [math.log10(value) for value in values if 0 < value < math.inf]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    lines = [f"{title} (bars: logarithmic)"]
    for step, value in enumerate(values):
        known = math.log10(value) if 0 < value < math.inf else (low if value == 0 else high)
        length = 1 + round((width - 1) * (known - low) / (high - low)) if high > low else 1
        lines.append(f"{step:>4} {'█' * length}{'…' if value == math.inf else ''} {number(value)}")
    return "\n".join(lines)
