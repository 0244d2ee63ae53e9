"""Where what stands on a page comes from: the command that draws a figure, and how each chapter was run."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tsl import claims
from tsl.claims import Verdict


def name_commands(app: Sphinx, doctree: nodes.document) -> None:
    """Say below the caption of each figure of a chapter which command draws it."""
    if not app.env.docname.startswith("notebooks/"):
        return
    for figure in doctree.findall(nodes.figure):
        name = next((each for each in figure["names"] if each.startswith("fig-")), None)
        if name:
            command = nodes.literal("", f"tsl figure {name}")
            figure += nodes.legend("", nodes.paragraph("", "", command, classes=["tsl-command"]))


class StatusTable(SphinxDirective):
    """``{status-table}``: for each chapter how it was run, from what, and which verdicts came out."""

    def run(self) -> list[nodes.Node]:
        srcdir = Path(self.env.srcdir)
        rows, ledger = [], claims.load(srcdir / "book" / "claims.yml")
        for path in sorted((srcdir / "notebooks").glob("[0-9][0-9]_*.ipynb")):
            self.env.note_dependency(str(path))
            notebook = json.loads(path.read_text(encoding="utf-8"))
            rows.append(_row(path.stem, notebook, ledger, srcdir / "results"))
        head = ("Chapter", "Verdicts", "Data", "Profile, seed, device", "Took", "Code version")
        text = "".join(f'<th scope="col">{name}</th>' for name in head)
        table = f'<table class="tsl-claim-table"><thead><tr>{text}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        return [nodes.raw("", f'<div class="tsl-claim-scroll">{table}</div>', format="html")]


def _row(chapter: str, notebook: dict[str, Any], ledger: dict[str, claims.Claim], results: Path) -> str:
    origin = notebook["metadata"].get("tsl", {})
    found = claims.collect([notebook])
    verdicts = "".join(
        f'<a class="tsl-chip {Verdict(measured["verdict"]).css}" href="../book/claims.html#ledger-{name.lower()}" '
        f'title="{html.escape(ledger[name].title)}: {measured["verdict"]}">{name}</a> '
        for name, measured in found.items()
    )
    folders = [folder for folder in results.glob(f"{chapter[:2]}_*") if folder.is_dir()]
    records = sum(len(list(folder.glob("*.json"))) for folder in folders)
    asked = ", ".join(str(origin.get(name, "—")) for name in ("profile", "seed", "device"))
    cells = (
        f'<a href="../notebooks/{chapter}.html">{chapter}</a>',
        verdicts or "—",
        f"live, and {records} stored records" if records else "live",
        asked,
        f"{origin['seconds']:.0f} s" if "seconds" in origin else "—",
        f"<code>{origin.get('code_version', '—')}</code>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_directive("status-table", StatusTable)
    app.connect("doctree-read", name_commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
