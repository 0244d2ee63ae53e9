"""Bind the rendered site into one PDF: every page in the order of the contents, links alive within the one document.

The pages are put together as one page beside the site's own files, and headless Chromium prints it.
"""

import html
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tsl import paths

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PDF = paths.BUILD / "book.pdf"
LEFT_OUT = {"book/api"}  # a hundred pages to look things up in
_FOOT = (
    '<div style="width:100%; font:8px sans-serif; color:#666; text-align:center">'
    '<span class="pageNumber"></span></div>'
)
_PRINT: dict[str, Any] = {
    "format": "A4", "tagged": True, "outline": True, "print_background": True, "display_header_footer": True,
    "header_template": "<span></span>", "footer_template": _FOOT,
    "margin": {"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
}  # fmt: skip
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class PdfError(RuntimeError):
    """The book could not be printed; the text says why."""


def contents(toc: Path) -> Iterator[tuple[str, str]]:
    """Pages of the book in reading order, each with the caption of its part if it opens one."""
    listed: dict[str, Any] = yaml.safe_load(toc.read_text(encoding="utf-8"))
    yield listed["root"], ""
    for part in listed.get("parts", []):
        files = [chapter["file"] for chapter in part["chapters"] if chapter["file"] not in LEFT_OUT]
        yield from ((name, "" if number else part["caption"]) for number, name in enumerate(files))


def bind(site: Path, toc: Path, title: str) -> str:
    """The whole book as one page that lies in the site's folder: a title, the contents, then every page.

    What points to another page of the book points into this one; what points to a file beside it is plain text.
    """
    pages = {name: (part, _article(site, name)) for name, part in contents(toc)}
    names = set(pages)
    lines, bodies = [], []
    for name, (part, article) in pages.items():
        heading = re.search(r"<h1>(.*?)(?:<a class=\"headerlink\".*?)?</h1>", article, re.S)
        label = heading[1] if heading else name
        if part:
            lines.append(f"</ol><h2>{html.escape(part)}</h2><ol>")
        lines.append(f'<li><a href="#{_slug(name)}">{label}</a></li>')
        bodies.append(
            f'<section class="tsl-chapter" id="{_slug(name)}">{_rewritten(article, name, names)}</section>'
        )
    first = next(iter(pages))
    styles = re.findall(r'<link [^>]*href="[^"]*\.css[^"]*"[^>]*>', _text(site, first))
    scripts = next((found for name in pages if (found := _scripts(site, name))), "")
    head = _local("\n".join(styles), posixpath.dirname(first)) + scripts
    cover = f'<header class="tsl-cover"><h1>{html.escape(title)}</h1></header>'
    cover += f'<nav class="tsl-contents"><ol>{"".join(lines)}</ol></nav>'
    return (
        f'<!DOCTYPE html>\n<html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8"/>'
        f"<title>{html.escape(title)}</title>{head}</head>"
        f'<body class="tsl-book"><article class="bd-article">{cover}{"".join(bodies)}</article></body></html>'
    )


def _scripts(site: Path, name: str) -> str:
    """The scripts that set formulas, from a page that has any."""
    found = re.search(
        r"<script>window\.MathJax = .*?</script>\s*<script[^>]*mathjax[^>]*></script>", _text(site, name)
    )
    return _local(found[0], posixpath.dirname(name)) if found else ""


def _text(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


def _article(site: Path, name: str) -> str:
    found = re.search(r'<article class="bd-article">(.*)</article>', _text(site, name), re.S)
    if not found:
        raise PdfError(f"{name}.html is not a page of the book: build it with `make book`")
    text = re.sub(r"<script\b.*?</script>", "", found[1], flags=re.S)
    return re.sub(r"</?noscript\b[^>]*>", "", text)  # what stands in for a script


def _slug(name: str, anchor: str = "") -> str:
    return "--".join(["page-" + name.replace("/", "-"), *([anchor] if anchor else [])])


def _local(text: str, folder: str) -> str:
    """Text whose tags, links apart, have their addresses as seen from the site's folder."""
    tag = r'(<(?!a\b)[a-z]\w*\b[^>]*?\b(?:src|href)=")([^"]*)'
    return re.sub(tag, lambda found: found[1] + _seen(found[2], folder), text)


def _seen(address: str, folder: str) -> str:
    """An address within a page of a folder, seen from the site's folder."""
    plain = "://" in address or address.startswith(("data:", "#", "mailto:"))
    return address if plain else posixpath.normpath(posixpath.join(folder, address))


def _rewritten(article: str, name: str, names: set[str]) -> str:
    """A page's text with names of its own, pictures from where they lie, and links into the one document."""
    folder = posixpath.dirname(name)

    def link(found: re.Match[str]) -> str:
        address, _, anchor = found[2].partition("#")
        if "://" in address or address.startswith("mailto:"):
            return found[0]
        target = posixpath.normpath(posixpath.join(folder, address)) if address else f"{name}.html"
        page = target.removesuffix(".html")
        if page in names and target.endswith(".html"):
            return f'<a{found[1]}href="#{_slug(page, anchor)}"'
        return f"<a{found[1]}"  # a file beside the book

    article = re.sub(r'<a\b([^>]*?\s)href="([^"]*)"', link, article)
    article = _local(article, folder)
    own = r'(<[a-z]\w*\b[^>]*?\s)(id|for|aria-labelledby|aria-describedby|aria-controls)="([^"]+)"'
    return re.sub(own, lambda found: f'{found[1]}{found[2]}="{_slug(name, found[3])}"', article)


def browser() -> str:
    """Path of a Chromium on this machine; PdfError if there is none."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        raise PdfError(f"no browser found: install one of {', '.join(BROWSERS)}")
    return program


def print_book(output: Path = PDF, site: Path = paths.SITE, toc: Path = paths.ROOT / "_toc.yml") -> Path:
    """Print the site as one PDF; PdfError if there is no site, no browser, or no playwright."""
    if not (site / "index.html").exists():
        raise PdfError("there is no book yet; build it with `make book`")
    program = browser()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise PdfError(
            "playwright is not installed: pip install playwright (no browser of its own is needed)"
        ) from None
    title = yaml.safe_load((toc.parent / "_config.yml").read_text(encoding="utf-8"))["title"]
    bound = paths.write_whole(site / ".book.html", bind(site, toc, title))
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
            page = chromium.new_page(color_scheme="light")
            page.set_default_timeout(300_000)
            page.goto(bound.as_uri(), wait_until="load")
            page.evaluate(_READY)
            output.parent.mkdir(parents=True, exist_ok=True)
            page.pdf(path=output, **_PRINT)
            chromium.close()
    finally:
        bound.unlink(missing_ok=True)
    return output


# Every fold open but the long lists of checks, every picture there, every formula set.
_READY = """async () => {
  document.querySelectorAll('details:not(.tsl-fold)').forEach(fold => { fold.open = true; });
  document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; });
  await Promise.all([...document.images].map(image => image.complete || new Promise(done => {
    image.onload = image.onerror = done;
  })));
  if (window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
}"""
