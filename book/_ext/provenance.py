"""Where what stands on a page comes from: the command that draws a figure, and how each chapter was run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from tslbook import _chip, _Generated, _html_table, notebooks

from tsl import claims, paths
from tsl.claims import Claim, Verdict


def name_commands(app: Sphinx, doctree: nodes.document) -> None:
    """Say below the caption of each figure of a chapter which command draws it."""
    if not app.env.docname.startswith("notebooks/"):
        return
    for figure in doctree.findall(nodes.figure):
        name = next((each for each in figure["names"] if each.startswith("fig-")), None)
        if name:
            command = nodes.literal("", f"tsl figure {name}")
            figure += nodes.legend("", nodes.paragraph("", "", command, classes=["tsl-command"]))


class StatusTable(_Generated):
    """``{status-table}``: for each chapter how it was run, from what, and which verdicts came out."""

    def run(self) -> list[nodes.Node]:
        srcdir = Path(self.env.srcdir)
        self.depend_on(srcdir / "book" / "claims.yml", *(srcdir / "notebooks").glob("*.ipynb"))
        ledger = claims.load(srcdir / "book" / "claims.yml")
        rows = (_row(name, made, ledger) for name, made in notebooks(srcdir).items())
        head = ["Chapter", "Verdicts", "Data", "Profile, seed, device", "Took", "Code version"]
        return [self.html(_html_table(head, "".join(rows)))]


def _row(chapter: str, notebook: dict[str, Any], ledger: dict[str, Claim]) -> str:
    origin = notebook["metadata"].get("tsl", {})
    verdicts = " ".join(
        _chip(ledger[name], Verdict(measured["verdict"]), "claims.html")
        for name, measured in claims.collect([notebook]).items()
    )
    records = sum(len(paths.stored(folder)) for folder in paths.RESULTS.glob(f"{chapter[:2]}_*"))
    cells = (
        f'<a href="../notebooks/{chapter}.html">{chapter}</a>',
        verdicts or "—",
        f"live, and {records} stored record{'s' * (records > 1)}" if records else "live",
        ", ".join(str(origin.get(name, "—")) for name in ("profile", "seed", "device")),
        f"{origin['seconds']:.0f} s" if "seconds" in origin else "—",
        f"<code>{origin.get('code_version', '—')}</code>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_directive("status-table", StatusTable)
    app.connect("doctree-read", name_commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
