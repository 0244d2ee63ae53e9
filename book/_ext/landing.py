"""The face of the book: its first page, and the title, description and card with which a link to it is shown elsewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from finding import plain, spoken
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole
from tslbook import _chip, _chips, _Generated, _verdict, notebooks, opening

from tsl import claims, paths, texts
from tsl.claims import Verdict

log = logging.getLogger(__name__)

SUBTITLE = "when thinking longer helps, and when it hurts"


class Chains(_Generated):
    """``{two-chains}``: the figure of the first page, computed while the book is built."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["tsl-face"] = True
        import two_chains as two  # it loads torch, and only the first page needs it

        helped, harmed = (float(mean[-1]) / two.DIMENSION for _, mean in two.chains().values())
        caption = (
            f"One model, the same number of thoughts. {two.STEPS} thoughts leave {texts.percent(helped, 1)} of the error "
            f"where the test is like training, and multiply it by {texts.number(float(f'{harmed:.2g}'))} where the test asks "
            f"for directions that training hardly showed. Points are means over {texts.number(two.PROMPTS)} prompts with "
            f"95\u00a0% intervals; dashed lines are what theory says they must be. (Dimension {two.DIMENSION}; eigenvalues "
            f"$1/i$ and {two.TRAINING} examples in training; in the tests {two.TESTING} examples, and the same or equal "
            "eigenvalues.)"
        )
        figure = nodes.figure(classes=["tsl-face"])
        alt = (
            "Error on a logarithmic scale against steps of thinking. One curve falls at each step, the other rises at each step; "
            "measured points lie on dashed predicted lines."
        )
        figure += self.html(
            '<picture><source media="(max-width: 576px)" srcset="../_static/chains-phone.svg" width="390" height="360">'
            f'<img src="../_static/chains.svg" width="690" height="310" alt="{alt}"></picture>'
        )
        figure += nodes.legend("", *self.myst(caption).children)
        return [figure]


def pictures(app: Sphinx, problem: Exception | None) -> None:
    """Write the figure of the first page and the card that other sites show for a link to the book."""
    if problem is not None or not any("tsl-face" in found for found in app.env.metadata.values()):
        return
    import two_chains

    two_chains.save(Path(app.outdir) / "_static", app.config.html_title, SUBTITLE)
    _front_door(app)


def _front_door(app: Sphinx) -> None:
    """The address of the book itself leads to the first page; it carries the same title, description and card."""
    first = app.config.root_doc if "root_doc" in app.config else "book/intro"
    page = (Path(app.outdir) / f"{first}.html").read_text(encoding="utf-8")
    head = "\n".join(
        re.findall(r"<title>.*?</title>|<meta (?:name=\"description\"|property)[^>]*>", page, re.S)
    )
    head = head.replace('content="../_static/', 'content="_static/')
    (Path(app.outdir) / "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n{head}\n'
        f'<meta http-equiv="Refresh" content="0; url={first}.html"></head>\n'
        f'<body><a href="{first}.html">{html.escape(app.config.html_title)}</a></body></html>\n',
        encoding="utf-8",
    )


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give each page a description of its own, and the first page a title that is not said twice."""
    if doctree is None:
        return
    first = page == app.config.root_doc
    if first:
        context["docstitle"] = SUBTITLE
    chapter = notebooks(Path(app.srcdir)).get(page.split("/")[-1], {})
    words = _plain(" ".join(opening(chapter) or ())) or _first_paragraph(doctree)
    title = context["title"] if first else f"{context['title']} — {app.config.html_title}"
    base = (app.config.html_baseurl or "").rstrip("/")
    up = f"{base}/" if base else "../" * page.count("/")
    tags = {"og:type": "article", "og:title": re.sub("<[^>]+>", "", title), "og:description": words}
    if any("tsl-face" in found for found in app.env.metadata.values()):
        tags |= {"og:image": f"{up}_static/card.png", "og:image:width": "1200", "og:image:height": "630"}
    lines = [f'<meta name="description" content="{html.escape(words)}">']
    lines += [
        f'<meta property="{name}" content="{html.escape(html.unescape(text))}">'
        for name, text in tags.items()
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def _first_paragraph(doctree: nodes.document) -> str:
    found = next(iter(doctree.findall(nodes.paragraph)), None)
    return _plain(spoken(found)) if found is not None else ""


def _plain(text: str) -> str:
    """Text without markup, cut after a word at about the length that is shown."""
    text = re.sub(r"\$([^$]+)\$", lambda tex: plain(tex[1]), text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)( <[^`]*)?`|\[([^\]]*)\]\([^)]*\)", r"\1\3", text)
    text = " ".join(re.sub(r"[*`$\\]", "", text).split())
    return text if len(text) <= 240 else text[:240].rsplit(" ", 1)[0] + " …"


class Outcomes(_Generated):
    """``{outcome-chips}``: every claim as a chip, by outcome, linked to its card in the ledger."""

    def run(self) -> list[nodes.Node]:
        srcdir = Path(self.env.srcdir)
        ledger = claims.load(srcdir / "book" / "claims.yml")
        measured = claims.collect(notebooks(srcdir).values())
        self.depend_on(srcdir / "book" / "claims.yml", *(srcdir / "notebooks").glob("*.ipynb"))
        up = "../" * self.env.docname.count("/")
        lines = []
        for verdict in Verdict:
            rows = [claim for claim in ledger.values() if _verdict(measured.get(claim.id)) == verdict]
            if rows:
                chips = "".join(_chip(claim, verdict, f"{up}book/claims.html") for claim in rows)
                title = f'<span class="tsl-chips-title"><span class="{verdict.css}">{verdict}</span> {len(rows)}</span>'
                lines.append(_chips(title, chips))
        return [self.html(f'<div class="tsl-score tsl-outcomes">{"".join(lines)}</div>')]


class Findings(_Generated):
    """``{findings}``: each chapter with the first sentence of the answer that it opens with."""

    def run(self) -> list[nodes.Node]:
        srcdir = Path(self.env.srcdir)
        self.depend_on(*(srcdir / "notebooks").glob("*.ipynb"))
        lines = []
        for name, notebook in notebooks(srcdir).items():
            found = opening(notebook)
            said = f": {self.elsewhere(first_sentence(found[1]))}" if found else ""
            lines.append(f"{int(name[:2])}. {{doc}}`/notebooks/{name}`{said}")
        return [self.myst("\n".join(lines), "tsl-findings")]

    def elsewhere(self, text: str) -> str:
        """Links of a chapter to its neighbours, as they must read on this page."""
        text = re.sub(r"\]\((\d\d_\w+)(\.md)?([#)])", r"](../notebooks/\1.ipynb\3", text)
        return re.sub(r"\]\(\.\./book/", "](", text).replace("\n", " ")


def first_sentence(text: str) -> str:
    """What stands before the first full stop that a new sentence follows."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z\[`$*])", text.strip(), maxsplit=1)[0]


class Figure(_Generated):
    """``{figure-of} fig-law``: the figure of that label, taken from its chapter, below a sentence, the content."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        place = _Place(label=self.arguments[0], location=self.get_location())
        return [self.myst("\n".join(self.content)), place]


class _Place(nodes.General, nodes.Element):
    """Where a chapter's figure will stand, once all chapters are read."""


def place_figures(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Copy each figure that a page asks for out of the chapter that made it: there is one file, shown twice."""
    for place in list(doctree.findall(_Place)):
        source, anchor, _ = app.env.get_domain("std").labels.get(place["label"], ("", "", ""))
        found = [
            figure
            for figure in (app.env.get_doctree(source).findall(nodes.figure) if source else ())
            if anchor in figure["ids"] and next(iter(figure.findall(nodes.image)), None) is not None
        ]
        if not found:
            log.warning("no figure %s in the book", place["label"], location=place["location"])
            place.parent.remove(place)
            continue
        image = next(iter(found[0].findall(nodes.image))).deepcopy()
        image["candidates"] = image.get("candidates", {"*": image["uri"]})
        target = f"{app.builder.get_relative_uri(docname, source)}#{anchor}"
        link = nodes.reference("", "", image, refuri=target, internal=True)
        place.replace_self(nodes.figure("", link))


class Check(SphinxRole):
    """``{check}`C4: label of a check```: the number that was measured for it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, label = (part.strip() for part in self.text.partition(":"))
        srcdir = Path(self.env.srcdir)
        for path in (srcdir / "notebooks").glob("*.ipynb"):
            self.env.note_dependency(str(path))
        found = claims.collect(notebooks(srcdir).values()).get(name, {"checks": []})
        values = [check["measured"] for check in found["checks"] if check["label"] == label]
        if not values:
            log.warning("claim %s has no check %r", name, label, location=self.get_location())
        return [nodes.Text(texts.number(values[0]) if values else "?")], []


class Citation(_Generated):
    """``{how-to-cite}``: the entries for this book and for the paper, from CITATION.cff."""

    def run(self) -> list[nodes.Node]:
        file = paths.ROOT / "CITATION.cff"
        self.depend_on(file)
        cff = yaml.safe_load(file.read_text(encoding="utf-8"))
        paper = cff["references"][0]
        authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
        entries = f"""
```bibtex
@software{{tslbook,
  title   = {{{cff["title"]}}},
  author  = {{{{{" and ".join(one["name"] for one in cff["authors"])}}}}},
  year    = {{{str(cff["date-released"])[:4]}}},
  version = {{{cff["version"]}}}
}}
@inproceedings{{javanmard2026role,
  title     = {{{paper["title"]}}},
  author    = {{{authors}}},
  booktitle = {{{paper["conference"]["name"]}}},
  year      = {{{paper["year"]}}},
  note      = {{{paper["identifiers"][0]["value"]}}}
}}
```"""
        return [
            self.myst(f"{cff['message']} The entries are those of `CITATION.cff`.\n{entries}", "tsl-cite")
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_node(_Place)
    app.add_directive("two-chains", Chains)
    app.add_directive("outcome-chips", Outcomes)
    app.add_directive("findings", Findings)
    app.add_directive("figure-of", Figure)
    app.add_directive("how-to-cite", Citation)
    app.add_role("check", Check())
    app.add_css_file("face.css")
    app.connect("doctree-resolved", place_figures)
    app.connect("html-page-context", describe)
    app.connect("build-finished", pictures, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
