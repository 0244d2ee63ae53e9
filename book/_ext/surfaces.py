"""Pages on every surface: light to load, legible to all readers, with what stands behind them to take away.

Every page passes through `polish` as it is written; pages of chapters also get the data behind their figures.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from tsl import paths
from tsl.pictures import DATA

COLUMNS = ("panel", "title", "kind", "series", "x", "y", "low", "high", "value")
LEGIBLE = 7  # pixels of the smallest type of a figure on a phone
SERVICES = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}


def configure(app: Sphinx, config: Any) -> None:
    """Offer Colab and Binder where the repository has an address, and nowhere else."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options["launch_buttons"] = {**(options.get("launch_buttons") or {}), **SERVICES}


def polished(app: Sphinx) -> None:
    """Let every page pass through `polish` on its way to the disk."""
    templates = getattr(app.builder, "templates", None)
    if templates is None:
        return
    render = templates.render

    def rendered(template: str, context: dict[str, Any]) -> str:
        text = render(template, context)
        if not text.lstrip().lower().startswith("<!doctype html"):
            return text
        return polish(text, _figures(app, context.get("pagename", "")))

    templates.render = rendered


def polish(page: str, figures: dict[str, tuple[str, dict[str, Any]]] | None = None) -> str:
    """Take out of a page what is heavy and unused, and mend what a screen reader trips over.

    ``figures`` has, for the file name of a picture, the address of its data and what `tsl.pictures` tells about it.
    """
    # The icons stand in the theme's web font as well, in a tenth of the size of this script.
    page = re.sub(r"\s*<script[^>]*scripts/fontawesome\.js[^>]*></script>", "", page)
    # Nobody searches before the page stands; the page of results searches as it is read, and search.js comes after that.
    if 'id="search-results"' not in page:
        scripts = r'<script src="([^"]*(?:searchtools|language_data|searchindex)\.js[^"]*)">'
        page = re.sub(scripts, r'<script defer src="\1">', page)
    # A name that differs from what is seen cannot be spoken to.
    page = page.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    page = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", page)
    # Roles of an older standard, and a list with children that are no items.
    page = re.sub(r'(<div class="citation"[^>]*) role="doc-biblioentry"', r"\1", page)
    page = page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    page = page.replace(' id="proof-content"', "")  # one name for many places
    page = re.sub(r"<table\b.*?</table>", lambda found: _headed(found[0]), page, flags=re.S)
    for name, (address, told) in (figures or {}).items():
        page = re.sub(
            rf'(?P<image><img\b[^>]*src="[^"]*{re.escape(name)}"[^>]*>)(?P<rest>.*?</figure>)?',
            lambda found, a=address, t=told: _figure(found["image"], found["rest"] or "", a, t),
            page,
            count=1,
            flags=re.S,
        )
    return page


def _headed(table: str) -> str:
    """A table whose first head is empty: a plain corner, and heads in the first column of its rows."""
    corner = re.search(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>", table)
    if not corner or corner.start() > (table.find("</th>") if "</th>" in table else 0):
        return table
    table = f"{table[: corner.start()]}<td{corner[1]}></td>{table[corner.end() :]}"
    head, body, rows = table.partition("<tbody>")
    rows = re.sub(
        r"(<tr\b[^>]*>\s*)<td\b([^>]*)>(.*?)</td>", r'\1<th scope="row"\2>\3</th>', rows, flags=re.S
    )
    return head + body + rows


def _figure(image: str, rest: str, address: str, told: dict[str, Any]) -> str:
    """A picture of known size, its panels one below the other for a narrow screen, and a link to its numbers."""
    (width, height), parts = told["panels"]["size"], told["panels"]["parts"]
    source = re.search(r'src="([^"]*)"', image)
    alt = re.search(r'alt="([^"]*)"', image)
    assert source is not None
    pixels = f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" loading="lazy" decoding="async"'
    image = re.sub(r'\s*(?:style|width|height)="[^"]*"', "", image)
    image = image.replace("<img", f'<img {pixels} class="tsl-whole"', 1)
    words = alt[1] if alt else ""
    panels = []
    for number, (x, y, w, h) in enumerate(parts, start=1):
        least = width * w * LEGIBLE / told["panels"]["type"]
        box = f"aspect-ratio: {w * width:.1f} / {h * height:.1f}; min-width: {least:.0f}px"
        place = f"width: {100 / w:.3f}%; left: {-100 * x / w:.3f}%; top: {-100 * y / h:.3f}%"
        name = words if number == 1 else f"Panel {number} of {len(parts)} of the figure just described"
        panels.append(
            f'<span class="tsl-panel" style="{box}"><img src="{source[1]}" alt="{name}" {pixels} style="{place}"/></span>'
        )
    link = f'<p class="tsl-data"><a href="{address}" download>Data of this figure (CSV)</a></p>'
    rest = (
        rest.replace("</figcaption>", f"{link}</figcaption>", 1) if "</figcaption>" in rest else link + rest
    )
    return f'{image}<span class="tsl-panels">{"".join(panels)}</span>{rest}'


def _figures(app: Sphinx, page: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a chapter's page shows: for every picture where its numbers lie, which are written there, and what it tells."""
    source = Path(app.srcdir) / f"{page}.ipynb"
    if not page or not source.exists():
        return {}
    found = {}
    for number, (name, picture, told) in enumerate(
        pictures(json.loads(source.read_text(encoding="utf-8"))), start=1
    ):
        place = Path("_downloads") / "data" / source.stem / f"{name or f'figure-{number}'}.csv"
        target = Path(app.outdir) / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(table(told["data"]), encoding="utf-8")
        found[picture] = ("../" * page.count("/") + place.as_posix(), told)
    return found


def pictures(notebook: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Figures of a notebook that tell their numbers: label, file name as the book stores the picture, and what is told."""
    for cell in notebook.get("cells", []):
        label = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if DATA not in data:
                continue
            if "image/svg+xml" in data:  # myst-nb names a picture by its bytes
                content, suffix = "\n".join("".join(data["image/svg+xml"]).splitlines()).encode(), "svg"
            else:
                content, suffix = base64.b64decode("".join(data["image/png"])), "png"
            yield label, f"{hashlib.sha256(content).hexdigest()}.{suffix}", data[DATA]


def table(panels: list[dict[str, Any]]) -> str:
    """The numbers of a figure as CSV, a line for every point."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, panel in enumerate(panels, start=1):
        for series in panel["series"]:
            columns = {name: series[name] for name in COLUMNS[4:] if name in series}
            for index in range(max(map(len, columns.values()), default=0)):
                point = [
                    "" if (c := columns.get(name)) is None or c[index] is None else c[index]
                    for name in COLUMNS[4:]
                ]
                writer.writerow(
                    [number, panel["title"] or panel["y"], series["kind"], series["label"], *point]
                )
    return file.getvalue()


def sources(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Offer the text a chapter is written in beside its notebook."""
    source = paths.NOTEBOOKS / f"{Path(page).name}.md"
    if not page.startswith("notebooks/") or not source.exists():
        return
    target = Path(app.outdir) / "_sources" / f"{page}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            button = {
                "type": "link", "url": f"{context['pathto']('_sources', 1)}/{page}.md", "text": ".md",
                "tooltip": "Download the text of the chapter", "icon": "fas fa-file-lines", "label": "download-text-button",
            }  # fmt: skip
            group["buttons"].insert(1, button)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_css_file("surfaces.css")
    app.add_js_file("surfaces.js", loading_method="defer")
    app.connect("config-inited", configure)
    app.connect("builder-inited", polished)
    app.connect("html-page-context", sources, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
