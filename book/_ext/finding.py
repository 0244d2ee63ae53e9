"""Finding things: symbols and links that say what they mean, an index, and a search whose results are prose.

Symbols and index entries are put into the pages while they are read. What a link leads to is taken from the finished
pages, so that every kind of target is shown as its own page shows it; the pages stay whole without JavaScript and from a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import yaml
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment.adapters.indexentries import IndexEntries
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from tslbook import _Generated

from tsl import claims

log = logging.getLogger(__name__)

NOTATION, GLOSSARY = "book/notation", "book/glossary"
_NAMES = "alpha beta gamma delta eta lambda pi rho sigma tau kappa Gamma Lambda Sigma Delta"
_LETTER = dict(zip((f"\\{name}" for name in _NAMES.split()), "αβγδηλπρστκΓΛΣΔ", strict=True))
_SIGN = {
    "\\to": "→", "\\infty": "∞", "\\le": "≤", "\\ge": "≥", "\\cdot": "·", "\\times": "×", "\\approx": "≈",
    "\\propto": "∝", "\\sum": "Σ", "\\ll": "≪", "\\gg": "≫", "\\in": "∈", "\\ell": "ℓ", "\\sqrt": "√",
    "\\top": "ᵀ", "\\langle": "⟨", "\\rangle": "⟩", "\\lVert": "‖", "\\rVert": "‖", "\\|": "‖", "\\,": " ",
    "\\;": " ", "\\ ": " ", "\\varepsilon": "ε", "\\ne": "≠", "\\sim": "~",
}  # fmt: skip


def plain(tex: str) -> str:
    r"""Read mathematics aloud on paper: ``\hat\Sigma`` is Σ̂, ``w^*`` is w*; what stays unreadable is an ellipsis."""
    text = re.sub(r"^\s*\\[(\[]|\\[)\]]\s*$|\$", "", tex)
    text = re.sub(r"\\frac\s*(\{[^{}]*\}|\w)\s*(\{[^{}]*\}|\w)", r"\1/\2", text)
    text = re.sub(
        r"\\(?:mathrm|operatorname|mathbb|mathcal|text|bar|tilde|left|right)\b|\\[bB]igg?[lr]?\b", "", text
    )
    text = text.replace("\\lambda_{\\min}", "λmin")
    text = re.sub(r"\\[A-Za-z]+|\\.", lambda name: (_LETTER | _SIGN).get(name[0], name[0]), text)
    text = re.sub(r"\\hat\s*\{?(\w)\}?", "\\1\u0302", text)
    text = text.replace("^*", "*").replace("^{-1}", "⁻¹").replace("^2", "²")
    text = re.sub(r"[{}]|_(?=\w|\{)", "", text)
    return "…" if "\\" in text or len(text) > 40 else " ".join(text.split())


def key(tex: str) -> str:
    """How a symbol is looked up: spaces and braces do not matter."""
    return re.sub(r"[\s{}]|\\mathrm", "", tex)


class Symbols(SphinxTransform):
    """Give each row of Notation an anchor, and index entries for the symbol's sign and for its name (Γ, gamma)."""

    default_priority = 800  # before the domains read the document

    def apply(self, **kwargs: Any) -> None:
        if self.env.docname != NOTATION:
            return
        rows, taken = list(self.document.findall(nodes.row)), set[str]()
        for row in rows:
            signs = [math.astext() for math in row[0].findall(nodes.math)]
            if not signs:
                continue
            tex = [part for sign in signs for part in re.split(r",\s+", sign)]
            name = "symbol-" + nodes.make_id(re.sub(r"[\\^*]", " ", tex[0]))
            row["ids"].append(_fresh(name, taken))
            taken.add(row["ids"][0])
            row["symbols"] = tex
            words = {
                form
                for sign in tex
                for form in (plain(sign), "" if "^{-1}" in sign else _named(sign))
                if form
            }
            entries = [("single", word, row["ids"][0], "main", None) for word in sorted(words)]
            table = row.parent
            while not isinstance(table, nodes.table):
                table = table.parent
            table.parent.insert(table.parent.index(table), addnodes.index(entries=entries))


def _named(tex: str) -> str:
    """A symbol as one types it: the names of its letters."""
    return " ".join(re.sub(r"\\mathrm|\([^)]*\)|\^\{-1\}|[{}_^*\\]", " ", tex).split())


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "-2"
    return name


class Subjects(SphinxTransform):
    """Index entries of chapters: the subjects of ``book/subjects.yml``, each at the labels where it is treated."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        for subject, labels in _subjects(self.app).items():
            for rank, label in enumerate(labels):
                # "main" for the place to begin at: the search puts it first.
                here = self.document.nameids.get(label)
                if here:
                    entry = ("single", subject, here, "" if rank else "main", None)
                    self.document.insert(0, addnodes.index(entries=[entry]))


def link_symbols(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link a symbol that stands alone in inline mathematics to its row on Notation, once in each section."""
    if docname == NOTATION or NOTATION not in app.env.found_docs:
        return
    known = _symbols(app)
    for section in [doctree, *doctree.findall(nodes.section)]:
        met: set[str] = set()
        for math in _own(section):
            found = known.get(key(math.astext()))
            if found and found[0] not in met and _linkable(math):
                met.add(found[0])
                target = f"{app.builder.get_relative_uri(docname, NOTATION)}#{found[0]}"
                link = nodes.reference(
                    "", "", internal=True, refuri=target, reftitle=found[1], classes=["tsl-symbol"]
                )
                math.replace_self(link)
                link += math


def _symbols(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Anchor and meaning of each symbol."""
    if not hasattr(app.builder, "tsl_symbols"):
        app.builder.tsl_symbols = {
            key(sign): (row["ids"][0], spoken(row[1]))
            for row in app.env.get_doctree(NOTATION).findall(nodes.row)
            for sign in row.get("symbols", [])
        }
    return dict(app.builder.tsl_symbols)


def spoken(node: nodes.Node) -> str:
    """Text of a node with its mathematics readable."""
    texts = (
        plain(part.astext()) if isinstance(part.parent, nodes.math) else part.astext()
        for part in node.findall(nodes.Text)
    )
    return " ".join("".join(texts).split())


def _own(section: nodes.Element) -> Iterator[nodes.math]:
    """Inline mathematics of a section that is in none of its subsections."""
    for child in section.children:
        if isinstance(child, nodes.math):
            yield child
        elif isinstance(child, nodes.Element) and not isinstance(child, nodes.section | nodes.math_block):
            yield from list(_own(child))


def _linkable(math: nodes.math) -> bool:
    """Headings, links, and what is drawn elsewhere as well stay as they are."""
    parent = math.parent
    while parent is not None:
        if isinstance(
            parent, nodes.title | nodes.reference | addnodes.pending_xref | nodes.term | nodes.rubric
        ):
            return False
        parent = parent.parent
    return True


class Index(_Generated):
    """``{book-index}``: the subjects of the book with the places where they are treated."""

    def run(self) -> list[nodes.Node]:
        return [_IndexPlace()]


class _IndexPlace(nodes.General, nodes.Element):
    """Where the index will stand, once all pages are read."""


def fill_index(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the index: every entry but those of the package's functions, which the page on the package lists."""
    for place in list(doctree.findall(_IndexPlace)):
        up = "../" * docname.count("/")
        page = nodes.container()
        for letter, entries in IndexEntries(app.env).create_index(app.builder, group_entries=False):
            lines = nodes.bullet_list(classes=["tsl-index"])
            for word, (links, _, _) in entries:
                found = [link for link in links if not re.match(r"book/api", link[1])]
                if found:
                    line = nodes.paragraph("", "", nodes.Text(f"{word}, "))
                    for number, (_, address) in enumerate(found):
                        line += [nodes.Text("; ")] if number else []
                        line += nodes.reference("", _name(app, address), internal=True, refuri=up + address)
                    lines += nodes.list_item("", line)
            if len(lines):
                section = nodes.section(ids=[f"index-{nodes.make_id(letter) or f'{ord(letter[0]):x}'}"])
                section += [nodes.title(text=letter), lines]
                page += section
        place.replace_self(page.children)
    for subject, labels in _subjects(app).items() if docname == app.config.root_doc else ():
        for label in labels:
            if label not in app.env.get_domain("std").anonlabels:
                log.warning("subject %r: no label %r in the book", subject, label)


def _subjects(app: Sphinx) -> dict[str, list[str]]:
    """Subjects with their labels, and the claims with theirs: one looks for C5, too."""
    path = Path(app.srcdir) / "book" / "subjects.yml"
    if not path.exists():
        return {}
    ledger = claims.load(path.with_name("claims.yml"))
    subjects: dict[str, list[str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return subjects | {name: [claim.label] for name, claim in ledger.items()}


def _name(app: Sphinx, address: str) -> str:
    """Name of a place: the number of a chapter's section, another page's title."""
    page, anchor = urldefrag(address)
    docname = page.removesuffix(".html")
    numbers = app.env.toc_secnumbers.get(docname, {})
    for section in app.env.get_doctree(docname).findall(nodes.section):
        number = numbers.get(f"#{section['ids'][0]}")
        if anchor in section["ids"] and number:
            return "section " + ".".join(map(str, number))
    return app.env.titles[docname].astext()


# What a link leads to, and what a search finds: both from the finished pages.


def finish(app: Sphinx, problem: Exception | None) -> None:
    """Put into each page what its links lead to, and write the prose of all pages for the search."""
    if problem is not None or app.builder.format != "html":
        return
    outdir = Path(app.outdir)
    files = {name: outdir / f"{name}.html" for name in app.env.found_docs}
    sources = {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.exists()}
    articles = {name: _article(text) for name, text in sources.items()}
    anchors = {
        name: {str(tag["id"]): tag for tag in article.find_all(id=True)} for name, article in articles.items()
    }
    shown: dict[tuple[str, str], str] = {}
    for name, article in articles.items():
        tips = {}
        for link in article.select("a.internal[href], a.tsl-chip[href]"):
            address, anchor = urldefrag(str(link["href"]))
            target = _resolve(name, address)
            if target not in articles or (target == name and not anchor) or link.find("img"):
                continue
            if (target, anchor) not in shown:
                shown[target, anchor] = _snippet(articles[target], anchors, target, unquote(anchor))
            if text := shown[target, anchor]:
                tips[str(link["href"])] = _moved(text, target, name)
        if tips:
            data = json.dumps(tips, ensure_ascii=False).replace("</", "<\\/")
            script = f'<script type="application/json" id="tsl-tips">{data}</script>'
            files[name].write_text(sources[name].replace("</body>", f"{script}\n</body>"), encoding="utf-8")
    prose = {name: list(_prose(article)) for name, article in articles.items()}
    text = json.dumps(prose, ensure_ascii=False, separators=(",", ":"))
    (outdir / "_static" / "prose.js").write_text(f"window.tslProse = {text};\n", encoding="utf-8")


def _article(text: str) -> Tag:
    """The article of a page, without code, and the marks of links to headings."""
    page = BeautifulSoup(text, "html.parser")
    article = page.select_one("article.bd-article") or page
    for part in article.select("a.headerlink, script, style, div.cell_input, div.highlight, nav"):
        part.decompose()
    return article


def _resolve(page: str, address: str) -> str:
    """Name of the page that an address on a page means."""
    if not address:
        return page
    parts = page.split("/")[:-1]
    for part in unquote(address).removesuffix(".html").split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _snippet(article: Tag, anchors: dict[str, dict[str, Tag]], page: str, anchor: str) -> str:
    """What is shown of a target: an equation, a figure, a claim, an entry, a meaning, or how a section begins."""
    if not anchor:
        found = article.select_one(".tsl-question")
        return str(_clean(found)) if found else ""
    claim = re.fullmatch(r"(?:claim|ledger)-([csx]\d+)", anchor)
    if claim:
        card = anchors.get("book/claims", {}).get(f"ledger-{claim[1]}")
        parts = (
            [] if card is None else [card.select_one(".tsl-claim-head"), card.select_one(".tsl-statement")]
        )
        return "".join(str(_clean(part)) for part in parts if part)
    target = anchors[page].get(anchor)
    if target is None:
        return ""
    if target.name == "tr" and (cells := target.find_all("td")):
        return _clean(cells[1]).decode_contents()
    if target.name == "figure":
        image, words = target.select_one("img"), target.select_one(".caption-text")
        picture = f'<img src="{image["src"]}" alt="">' if image else ""
        return picture + (f"<p>{_clean(words).decode_contents()}</p>" if words else "")
    if target.name == "dt":
        meaning = target.find_next_sibling("dd")
        first = meaning.find("p") if meaning else None
        return str(_clean(first)) if first else ""
    if target.name == "section" or (target.name == "span" and not target.get_text(strip=True)):
        section = target if target.name == "section" else target.find_parent("section")
        first = section.find("p") if section else None
        return str(_clean(first)) if first else ""
    if (
        "citation" in (target.get("class") or [])
        or "proof" in (target.get("class") or [])
        or target.name == "div"
    ):
        inside = _clean(target)
        for label in inside.select(".label, .backrefs, .fn-bracket"):
            label.decompose()
        return inside.decode_contents() if len(inside.get_text()) < 1500 else ""
    return ""


def _clean(tag: Tag) -> Tag:
    """A copy that can stand elsewhere: without links and ids of its own."""
    copy = BeautifulSoup(str(tag), "html.parser")
    whole = copy.find(True)
    assert isinstance(whole, Tag)
    for link in copy.find_all("a"):
        link.unwrap()
    for part in copy.find_all(id=True):
        del part["id"]
    return whole


def _moved(text: str, source: str, page: str) -> str:
    """A snippet with its pictures' addresses as they must read on another page."""

    def move(match: re.Match[str]) -> str:
        return f'src="{"../" * page.count("/")}{_resolve(source, match[1])}"'

    return re.sub(r'src="([^":]+)"', move, text)


def _prose(article: Tag) -> Iterator[tuple[str, str]]:
    """Paragraphs of a page, each with the anchors of its sections, and with mathematics that can be read."""
    for part in article.select("p, dd, li, figcaption, td"):
        inside = part.find(["p", "ul", "ol", "dl"]) or part.find_parent(["pre", "figcaption"])
        if inside or "admonition-title" in (part.get("class") or []):
            continue
        copy = BeautifulSoup(str(part), "html.parser")
        for math in copy.select(".math"):
            math.replace_with(plain(math.get_text()))
        words = " ".join(copy.get_text().split())
        if len(words) > 20:
            above = [part, *part.find_parents(["section", "tr", "dl"])]
            entry = part.find_previous("dt", id=True) if part.find_parent("dd") else None
            names = [str(one["id"]) for one in [entry, *above] if one is not None and one.get("id")]
            names += [
                str(one["id"]) for one in above for one in one.find_all("span", id=True, recursive=False)
            ]
            yield " ".join(names), words


def search_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Scripts of the search page: the prose of all pages, and what makes results of it."""
    if page == "search":
        app.add_js_file("prose.js", loading_method="defer")
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_node(_IndexPlace)
    app.add_transform(Symbols)
    app.add_transform(Subjects)
    app.add_directive("book-index", Index)
    app.add_js_file("tips.js", loading_method="defer")
    app.connect("doctree-resolved", link_symbols)
    app.connect("doctree-resolved", fill_index)
    app.connect("html-page-context", search_page)
    app.connect("build-finished", finish, priority=300)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
