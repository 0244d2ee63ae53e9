"""The rendered book, as a reader meets it: built strictly, complete in itself, legible on a phone and in the dark.

The site is built from the committed notebooks, the way plain ``jupyter-book build .`` does.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from playwright.sync_api import Browser

from tsl import claims

# What the theme itself complains about on every page.
NOISE = re.compile(r"invalid theme mode|reading 'classList'|favicon")


class _Parser(HTMLParser):
    """Links, anchors and images of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag == "img":
            self.images.append(values)
            self.links.append(str(values["src"]))
        if tag == "script" and values.get("src"):
            self.links.append(str(values["src"]))


def _parse(page: Path) -> _Parser:
    parser = _Parser()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_the_book_builds_without_a_warning(built: tuple[Path, list[str]]) -> None:
    assert built[1] == []


def test_every_internal_link_image_and_script_leads_somewhere(pages: list[Path]) -> None:
    parsed = {page: _parse(page) for page in pages}
    broken = []
    for page, parser in parsed.items():
        for link in parser.links:
            address, anchor = urldefrag(link)
            parts = urlparse(address)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file() or (
                anchor and target in parsed and unquote(anchor) not in parsed[target].anchors
            ):
                broken.append(f"{page.name}: {link}")
    assert [link for link in broken if not re.search(r": (search|genindex|prf-prf)\.html|#$", link)] == []


def test_every_image_says_what_it_shows(pages: list[Path]) -> None:
    silent = [
        f"{page.name}: {image['src']}"
        for page in pages
        for image in _parse(page).images
        if not (image.get("alt") or "").strip()
    ]
    assert silent == []


def test_every_figure_of_a_chapter_has_a_caption_and_words_of_its_own(pages: list[Path]) -> None:
    for page in pages:
        if page.parent.name == "notebooks":
            shown = [image for image in _parse(page).images if "_images/" in str(image["src"])]
            assert shown, page.name
            assert all(len(str(image["alt"])) > 25 for image in shown), page.name


def test_the_ledger_links_each_claim_to_the_place_where_it_is_measured(site: Path) -> None:
    ledger = (site / "book" / "claims.html").read_text()
    for claim in claims.load().values():
        assert f'href="../notebooks/{claim.chapter}.html#{claim.label}"' in ledger, claim.id
        assert f'id="ledger-{claim.id.lower()}"' in ledger


def test_no_markup_is_left_raw(pages: list[Path]) -> None:
    for page in pages:
        text = re.sub(r"<(script|pre|code)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"<[^>]+>", "", text)
        assert not re.search(r"\$\$|\{glue|\{ref\}|\{cite|:::|\(claim-[csx]\d+\)=", text), page.name


@pytest.mark.parametrize("way", ["http", "file"])
def test_pages_ask_nobody_outside_and_typeset_without_errors(
    way: str, site: Path, pages: list[Path], served: str, browser: Browser
) -> None:
    base = served if way == "http" else site.as_uri()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    outside: list[str] = []
    complaints: list[str] = []
    tab = context.new_page()
    tab.on(
        "request",
        lambda request: (
            None if request.url.startswith((base, "data:", "blob:")) else outside.append(request.url)
        ),
    )
    tab.on(
        "console",
        lambda message: (
            complaints.append(f"{tab.url}: {message.text} ({message.location.get('url')})")
            if message.type == "error"
            else None
        ),
    )
    tab.on("pageerror", lambda error: complaints.append(f"{tab.url}: {error}"))
    tab.on("requestfailed", lambda request: complaints.append(f"{tab.url}: failed {request.url}"))
    mathematics = 0
    for page in pages:
        tab.goto(f"{base}/{page.relative_to(site)}", wait_until="load")
        if tab.locator(".math").count():
            tab.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
            tab.evaluate("MathJax.startup.promise.then(() => null)")
            mathematics += tab.locator("mjx-container").count()
        assert tab.locator("mjx-merror").count() == 0, page.name
        assert (
            tab.locator("img").evaluate_all(
                "all => all.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            )
            == []
        )
    context.close()
    assert mathematics > 100
    assert outside == []
    # A browser does not let a page that was opened from a file fetch another file: the theme's own look-ups fail there.
    allowed = re.compile(f"{NOISE.pattern}|file:|Fetch API|CORS") if way == "file" else NOISE
    assert [text for text in complaints if not allowed.search(text)] == []


def test_no_page_is_wider_than_a_phone(site: Path, pages: list[Path], served: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    tab = context.new_page()
    wide = {}
    for page in pages:
        tab.goto(f"{served}/{page.relative_to(site)}", wait_until="load")
        if tab.locator(".math").count():
            tab.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
            tab.evaluate("MathJax.startup.promise.then(() => null)")
        width = tab.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide[page.name] = width
    context.close()
    assert wide == {}


_CONTRAST = """() => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll('.tsl-badge')].map(badge => {
    const style = getComputedStyle(badge), a = light(style.color), b = light(style.backgroundColor);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_verdicts_are_legible(scheme: str, served: str, browser: Browser) -> None:
    """Contrast of every badge against its ground is at least 4.5, as WCAG asks of small text."""
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(f"{served}/book/claims.html", wait_until="load")
    assert tab.evaluate("document.documentElement.dataset.theme") == scheme
    contrasts = tab.evaluate(_CONTRAST)
    context.close()
    assert len(contrasts) > len(claims.load())
    assert min(contrasts) >= 4.5


def test_search_finds_a_word_of_the_book(served: str, browser: Browser) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{served}/search.html?q=overthinking", wait_until="load")
    tab.wait_for_selector("#search-results li a", timeout=15000)
    assert tab.locator("#search-results li a").count() > 0
    context.close()
