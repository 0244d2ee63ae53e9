"""What the book needs beyond Jupyter Book: the ledger, tables made from the package, and pages that work offline."""

from __future__ import annotations

import functools
import html
import importlib.metadata
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if importlib.util.find_spec("tsl") is None:  # `jupyter-book build .` without the package installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tsl import claims, paths, texts
from tsl.claims import Claim, Verdict

log = logging.getLogger(__name__)

MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def notebooks(srcdir: Path) -> dict[str, dict[str, Any]]:
    """Notebooks of the source tree by chapter name."""
    found = sorted((srcdir / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {path.stem: _read(path, path.stat().st_mtime_ns) for path in found}


@functools.cache
def _read(path: Path, changed: int) -> dict[str, Any]:
    """A notebook as it was at a time: several directives ask for all of them."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def opening(notebook: dict[str, Any]) -> tuple[str, str] | None:
    """Question and answer with which a chapter opens, as MyST with the numbers that it tells; None if it has no opening."""
    cells = notebook.get("cells", [])
    for cell in cells:
        block = re.search(r"^(`{3,}|:{3,})\{opening\}[^\n]*\n(.*?)^\1", "".join(cell["source"]), re.M | re.S)
        if cell["cell_type"] == "markdown" and block:
            content = re.sub(r"\A(:\w+:[^\n]*\n)*\s*", "", block[2])
            question, _, answer = (_told(cells, part.strip()) for part in content.partition("\n\n"))
            return question, answer
    return None


def _told(cells: list[dict[str, Any]], text: str) -> str:
    """Text with each ``{glue:text}`` in it replaced by what the notebook told: other pages cannot look it up."""
    found = {
        output["metadata"]["scrapbook"]["name"]: output["data"]["application/papermill.record/text/plain"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    }
    return re.sub(r"\{glue:text\}`([^`]+)`", lambda name: str(found.get(name[1], name[0])).strip("'"), text)


class _Generated(SphinxDirective):
    """A directive whose content is written as MyST and raw HTML."""

    has_content = False

    def myst(self, text: str, *classes: str) -> nodes.container:
        """Parse MyST text into a container with CSS classes."""
        container = nodes.container(classes=list(classes))
        self.state.nested_parse(
            StringList(text.splitlines(), source=self.env.docname), self.content_offset, container
        )
        return container

    def html(self, text: str) -> nodes.raw:
        """Wrap HTML."""
        return nodes.raw("", text, format="html")

    def stored(self, name: str) -> dict[str, Any]:
        """A record about the ledger, empty if there is none yet."""
        # Of the repository: what is rendered may be a copy without records.
        path = paths.RESULTS / "ledger" / f"{name}.json"
        self.depend_on(path)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def depend_on(self, *files: Path) -> None:
        """Read this page again when one of these files changes."""
        for file in files:
            self.env.note_dependency(str(file))


class Ledger(_Generated):
    """``{claim-ledger}``: every claim with what was measured, what was predicted, the verdict and a link.

    A verdict that differs from the expected one, or a claim without a measurement whose chapter is in the book, is a
    warning that names the claim, and so ends a strict build.
    """

    def run(self) -> list[nodes.Node]:
        srcdir = Path(self.env.srcdir)
        ledger = claims.load(srcdir / "book" / "claims.yml")
        executed = notebooks(srcdir)
        measured = claims.collect(executed.values())
        self.depend_on(srcdir / "book" / "claims.yml", *(srcdir / "notebooks").glob("*.ipynb"))
        for claim in ledger.values():
            self.check(claim, measured.get(claim.id), claim.chapter in executed)
        for name in measured.keys() - ledger.keys():
            log.warning(
                "claim %s is measured but is not in book/claims.yml", name, location=self.get_location()
            )
        verdicts = {name: _verdict(measured.get(name)) for name in ledger}
        found: list[nodes.Node] = [self.html(_score(ledger, verdicts))]
        seeds = [record for profile in ("ci", "laptop") if (record := self.stored(f"seeds-{profile}"))]
        for origin, title in claims.ORIGINS.items():
            rows = [claim for claim in ledger.values() if claim.origin == origin]
            if rows:
                section = nodes.section(ids=[nodes.make_id(title)])
                section += nodes.title(text=title)
                section += [
                    self.card(claim, measured.get(claim.id), claim.chapter in executed, seeds)
                    for claim in rows
                ]
                found.append(section)
        return found

    def check(self, claim: Claim, measurement: dict[str, Any] | None, reproduced: bool) -> None:
        """Warn if the ledger and the experiments disagree about a claim."""
        if measurement is None:
            if reproduced:
                log.warning(
                    "claim %s has no measurement, though its chapter %s was run",
                    claim.id,
                    claim.chapter,
                    location=self.get_location(),
                )
        elif measurement["verdict"] != claim.expected or not measurement.get("as_expected", True):
            log.warning(
                "claim %s: measured verdict %r, expected %r (see the checks in chapter %s)",
                claim.id,
                measurement["verdict"],
                str(claim.expected),
                claim.chapter,
                location=self.get_location(),
            )

    def card(
        self, claim: Claim, measurement: dict[str, Any] | None, reproduced: bool, seeds: list[dict[str, Any]]
    ) -> nodes.Node:
        """One claim."""
        verdict = _verdict(measurement)
        card = nodes.container(
            classes=["tsl-card", f"tsl-claim-{verdict.name.lower()}"], ids=[f"ledger-{claim.id.lower()}"]
        )
        card += self.html(
            f'<p class="tsl-claim-head"><strong>{claim.id}</strong> {html.escape(claim.title)} '
            f"{claims.badge(claim, verdict)}</p>"
        )
        card += self.myst(claim.statement, "tsl-statement")
        if claim.stands_in_for:
            card += self.myst(f"**Stands in for** {claim.stands_in_for}.", "tsl-note")
        if measurement is not None:
            card += self.html(claims.evidence(measurement))
        if claim.breaks:
            card += self.myst(f"**Where it breaks.** {claim.breaks}", "tsl-note")
        card += self.myst(f"**Why these bounds.** {claim.bounds}", "tsl-note")
        # The label makes `{ref}`ledger-c5`` lead to this card, from any page.
        domain, docname = self.env.get_domain("std"), self.env.docname
        domain.labels[f"ledger-{claim.id.lower()}"] = (docname, f"ledger-{claim.id.lower()}", claim.title)
        domain.anonlabels[f"ledger-{claim.id.lower()}"] = (docname, f"ledger-{claim.id.lower()}")
        link = (
            f"measured in {{numref}}`section {{number}}, {{name}} <{claim.label}>`"
            if reproduced and measurement
            else "chapter to come"
        )
        evidence = ", ".join(claim.evidence)
        again = "".join(f" · {_again(claim.id, record)}" for record in seeds)
        card += self.myst(f"{claim.source} · evidence: {evidence}{again} · {link}", "tsl-source")
        return card


def _again(name: str, record: dict[str, Any]) -> str:
    """On how many seeds the verdict was the expected one."""
    same = record["claims"].get(name, {}).get("as_expected", [])
    return f"same verdict on {sum(same)} of {len(same)} seeds ({record['profile']})"


def _verdict(measurement: dict[str, Any] | None) -> Verdict:
    return Verdict.PENDING if measurement is None else Verdict(measurement["verdict"])


def _score(ledger: dict[str, Claim], verdicts: dict[str, Verdict]) -> str:
    """Overview: how many claims have which verdict, and one coloured chip for each claim, linked to its card."""
    counts = {verdict: sum(found == verdict for found in verdicts.values()) for verdict in Verdict}
    total = "".join(
        f'<li><span class="{verdict.css}">{verdict}</span> {count}</li>'
        for verdict, count in counts.items()
        if count
    )
    lines = []
    for origin, title in claims.ORIGINS.items():
        chips = "".join(
            _chip(claim, verdicts[name]) for name, claim in ledger.items() if claim.origin == origin
        )
        lines.append(_chips(f'<span class="tsl-chips-title">{title}</span>', chips))
    return f'<div class="tsl-score"><ul class="tsl-counts">{total}</ul>{"".join(lines)}</div>'


def _chips(title: str, chips: str) -> str:
    return f'<div class="tsl-chips">{title}<span class="tsl-chips-list">{chips}</span></div>'


def _chip(claim: Claim, verdict: Verdict, page: str = "") -> str:
    """A claim's id in the colour of its outcome; ``page`` is the address of the ledger, if another page shows it."""
    text = html.escape(f"{claim.title}: {verdict}", quote=True)
    return f'<a class="tsl-chip {verdict.css}" href="{page}#ledger-{claim.id.lower()}" title="{text}">{claim.id}</a>'


class SeedTable(_Generated):
    """``{seed-table} ci``: verdicts and measured numbers on several seeds, as ``tsl seeds`` stored them for a profile."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        record = self.stored(f"seeds-{self.arguments[0]}")
        ledger = claims.load(Path(self.env.srcdir) / "book" / "claims.yml")
        rows = []
        for name, found in record.get("claims", {}).items():
            checks = "".join(_range(check) for check in found["checks"])
            title = f"{_seeds(found)} <strong>{name}</strong> {html.escape(ledger[name].title)}"
            rows.append(
                f"<details class='tsl-fold'><summary>{title}</summary>"
                f"{_html_table(['Check', 'Measured, least to most', 'Passes if', 'Passed'], checks)}</details>"
            )
        return [self.html("".join(rows))]


def _seeds(found: dict[str, Any]) -> str:
    same = found["as_expected"]
    text = f"{sum(same)} of {len(same)}"
    name = Verdict.HOLDS if all(same) else Verdict.FAILS
    return f'<span class="{name.css}">{text}</span>'


def _range(check: dict[str, Any]) -> str:
    """Row of a check: the span of what was measured, and on how many seeds it passed."""
    values = sorted(float(value) for value in check["measured"])
    span = " … ".join(dict.fromkeys(texts.number(value) for value in (values[0], values[-1])))
    kind = {"break": "breaks: ", "mechanism": "the cause: "}.get(check["role"], "")
    passed = f"{sum(check['passed'])} of {len(check['passed'])}"
    bound = " / ".join(dict.fromkeys(check["passes_if"]))  # that all seeds share, or the several
    return _html_row(kind + check["label"], span, bound, passed)


class BreakingTable(_Generated):
    """``{breaking-table}``: for every check of the ledger the slips that turn it, as ``tests/test_mutations.py`` found."""

    def run(self) -> list[nodes.Node]:
        record = self.stored("breaking")
        ledger = claims.load(Path(self.env.srcdir) / "book" / "claims.yml")
        rows = []
        for name, claim in ledger.items():
            found = record.get(claim.chapter, {"checks": {}, "turned": {}})
            lines = "".join(
                _html_row(
                    label,
                    "; ".join(s for s, turned in found["turned"].items() if label in turned.get(name, [])),
                )
                for label in found["checks"].get(name, [])
            )
            rows.append(
                f"<details class='tsl-fold'><summary><strong>{name}</strong> {html.escape(claim.title)}</summary>"
                f"{_html_table(['Check', 'Turned by'], lines)}</details>"
            )
        return [self.html("".join(rows))]


def _html_row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _html_table(head: list[str], rows: str) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    return (
        f'<div class="tsl-claim-scroll"><table class="tsl-claim-table"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


class Opening(_Generated):
    """``{opening}``: a chapter's question, its answer in two sentences, what to read before, and how long it takes.

    The first paragraph is the question, the second the answer; ``:needs:`` names chapters, divided by commas.
    """

    has_content = True
    option_spec = {"needs": directives.unchanged}  # noqa: RUF012  (docutils' own convention)

    def run(self) -> list[nodes.Node]:
        question, _, answer = "\n".join(self.content).partition("\n\n")
        if not question.strip().endswith("?") or not answer.strip():
            raise self.error("an opening has a question, an empty line, and its answer")
        notebook = notebooks(Path(self.env.srcdir)).get(self.env.docname.split("/")[-1], {})
        needs = [name.strip() for name in self.options.get("needs", "").split(",") if name.strip()]
        before = ", ".join(f"{{doc}}`/notebooks/{name}`" for name in needs) or "nothing"
        facts = [f"**To know before:** {before}", *_length(notebook)]
        box = self.myst(answer.strip(), "tsl-opening")
        box.insert(0, self.myst(question.strip(), "tsl-question"))
        box.append(self.myst(" · ".join(facts), "tsl-facts"))
        return [box]


def _length(notebook: dict[str, Any]) -> list[str]:
    """How long it takes to read a chapter (200 words a minute, a quarter of a minute a figure), and how long it took to run."""
    cells = notebook.get("cells", [])
    words = sum(len("".join(cell["source"]).split()) for cell in cells if cell["cell_type"] == "markdown")
    figures = sum("figure" in cell["metadata"].get("mystnb", {}) for cell in cells)
    found = [f"**Reading:** {max(1, round(words / 200 + figures / 4))} minutes"] if cells else []
    origin = notebook.get("metadata", {}).get("tsl", {})
    if "seconds" in origin:
        found.append(f"**Run:** {origin['seconds']:.0f} s, profile `{origin['profile']}`")
    return found


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take the scripts for live code out of a page: they load from another host, and the book has no use for them."""

    def wanted(script: Any) -> bool:
        inline = getattr(script, "attributes", {}).get("body") or ""
        return "thebe" not in f"{getattr(script, 'filename', script)} {inline}".lower()

    context["script_files"] = [script for script in context.get("script_files", []) if wanted(script)]


def vendor(app: Sphinx, problem: Exception | None) -> None:
    """Copy MathJax, which comes with a Python package, into the site: no page asks another host."""
    if problem is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "vendor"
    package = importlib.metadata.distribution("sphinx-mathjax-offline")
    mathjax = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax")))
    for name in MATHJAX:
        source, place = mathjax / name, target / "mathjax" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy2(source, place)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_directive("claim-ledger", Ledger)
    app.add_directive("seed-table", SeedTable)
    app.add_directive("breaking-table", BreakingTable)
    app.add_directive("opening", Opening)
    app.add_css_file("tsl.css")
    app.setup_extension("landing")
    app.setup_extension("finding")
    app.connect(
        "config-inited", lambda app, config: setattr(config, "mathjax_path", f"vendor/mathjax/{MATHJAX[0]}")
    )
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", vendor)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
