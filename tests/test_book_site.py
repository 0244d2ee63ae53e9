"""The rendered book, as a reader meets it: built strictly, complete in itself, legible on a phone and in the dark.

The site is built from the committed notebooks, the way plain ``jupyter-book build .`` does.
"""

import html
import http.server
import json
import re
import struct
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urlparse

import chromium
import pytest
from playwright.sync_api import Browser

from tsl import claims, paths, texts
from tsl.press import site as press

# What the theme itself complains about on every page.
NOISE = re.compile(r"invalid theme mode|reading 'classList'|favicon")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The book and the warnings of its strict build."""
    place = tmp_path_factory.mktemp("site")
    problems = press.build(paths.ROOT, place, place / "log")
    return place / "_build" / "html", problems


@pytest.fixture(scope="session")
def site(built: tuple[Path, list[str]]) -> Path:
    """Folder of the built site."""
    return built[0]


@pytest.fixture(scope="session")
def pages(site: Path, contents: list[str]) -> list[Path]:
    """Every page of the site, generated ones included."""
    found = sorted(site.rglob("*.html"))
    found = [page for page in found if "_static" not in page.parts]
    assert {f"{name}.html" for name in contents} <= {str(page.relative_to(site)) for page in found}
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with chromium.launch() as found:
        yield found


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Address of a server of the site."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


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


# The first page, and finding things.


def _said(site: Path, name: str) -> str:
    """Text of a page as it is read."""
    text = re.sub(
        r"<(script|style|head)\b.*?</\1>", "", (site / f"{name}.html").read_text("utf-8"), flags=re.S
    )
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def test_a_link_to_the_book_is_shown_with_a_title_a_description_and_a_card(
    site: Path, pages: list[Path]
) -> None:
    for page in (site / "index.html", site / "book" / "intro.html"):
        head = page.read_text(encoding="utf-8").split("</head>")[0]
        (title,) = re.findall(r"<title>(.*?)</title>", head)
        parts = re.split(" &#8212; | — ", title)
        assert len(set(parts)) == 2, title
        (card,) = re.findall(r'<meta property="og:image" content="(.*?)"', head)
        picture = (page.parent / card).read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (1200, 630)
        assert parts[0] in re.findall(r'<meta property="og:title" content="(.*?)"', head)
    own = [page for page in pages if page.parent.name in ("book", "notebooks")]
    words = [re.findall(r'<meta name="description" content="(.*?)"', page.read_text("utf-8")) for page in own]
    assert all(len(found) == 1 for found in words)
    long = [found[0] for found in words if len(found[0]) > 40]
    assert len(long) > 0.8 * len(own)
    assert len(set(long)) == len(long)
    assert not any(re.search(r"[$\\{}]", text) for text in long)


def test_the_first_page_shows_every_claim_by_its_outcome(site: Path) -> None:
    page = (site / "book" / "intro.html").read_text(encoding="utf-8")
    chips = dict(re.findall(r'href="[^"]*claims.html#ledger-(\w+)" title="[^"]*: ([^":]+)"', page))
    measured = claims.collect(
        json.loads(path.read_text(encoding="utf-8")) for path in paths.NOTEBOOKS.glob("*.ipynb")
    )
    assert chips == {name.lower(): found["verdict"] for name, found in measured.items()}


def test_the_first_page_tells_measured_numbers(site: Path) -> None:
    measured = claims.collect(
        json.loads(path.read_text(encoding="utf-8")) for path in paths.NOTEBOOKS.glob("*.ipynb")
    )
    said = _said(site, "book/intro")
    asked = re.findall(r"\{check\}`(\w+): (.*?)`", (paths.BOOK / "intro.md").read_text(encoding="utf-8"))
    assert len(asked) >= 4
    for name, label in asked:
        (value,) = [check["measured"] for check in measured[name]["checks"] if check["label"] == label]
        assert texts.number(value) in said, label


def test_the_first_page_tells_what_each_chapter_found(site: Path) -> None:
    """In one sentence, the first of the answer with which the chapter opens."""
    page = (site / "book" / "intro.html").read_text(encoding="utf-8")
    (part,) = re.findall(r'<div class="tsl-findings.*?</ol>', page, re.S)
    lines = [html.unescape(re.sub(r"<[^>]+>", "", line)) for line in re.findall(r"<li>.*?</li>", part, re.S)]
    chapters = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
    assert len(lines) == len(chapters)
    for path, line in zip(chapters, lines, strict=True):
        _, _, found = line.partition(": ")
        assert found.rstrip().endswith("."), path.stem
        assert not re.search(r"\{glue|\{ref|\?\?", found), path.stem


def test_five_figures_are_those_of_their_chapters(site: Path) -> None:
    page = (site / "book" / "five_figures.html").read_text(encoding="utf-8")
    shown = re.findall(
        r'href="\.\./(notebooks/\w+\.html)#([\w-]+)"><img alt="([^"]{30,})" src="([^"]+)"', page
    )
    assert len(shown) == 5
    for chapter, name, _, picture in shown:
        (figure,) = re.findall(
            rf'<figure[^>]*id="{name}".*?</figure>', (site / chapter).read_text("utf-8"), re.S
        )
        assert picture in figure


@pytest.mark.parametrize(
    ("question", "leads_to", "answer"),
    [
        ("When does thinking longer hurt?", "notebooks/06_overthinking.html", r"short.*nois"),
        ("What is a hard task?", "notebooks/04_hardness.html", r"faint direction|smallest eigenvalue"),
        ("Which claim fails, and where?", "book/claims.html#ledger-s5", r"easier fails.*Where it breaks"),
    ],
)
def test_three_questions_are_answered_a_click_away(
    question: str, leads_to: str, answer: str, served: str, browser: Browser
) -> None:
    """What is asked for stands on the first screens of the page that the question leads to."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(f"{served}/index.html", wait_until="load")
    tab.wait_for_url("**/book/intro.html")
    tab.get_by_role("link", name=question).click()
    tab.wait_for_url(f"**/{leads_to}")
    place = tab.locator("#ledger-s5" if "#" in leads_to else "article.bd-article")
    seen = " ".join(place.inner_text().split())[:1500]
    context.close()
    assert re.search(answer, seen, re.S), seen


@pytest.mark.parametrize("way", ["http", "file"])
def test_links_say_what_they_lead_to(way: str, site: Path, served: str, browser: Browser) -> None:
    """To the mouse and to the keyboard; the tip stays under the mouse, and Escape hides it."""
    base = served if way == "http" else site.as_uri()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tip = tab.locator("#tsl-tip")

    def shown(link: str) -> str:
        tab.locator(f"article.bd-article {link}").first.hover()
        tip.wait_for(state="visible")
        tab.wait_for_timeout(300)
        text = tip.inner_text()
        tip.hover()
        tab.wait_for_timeout(400)
        assert tip.is_visible()
        tab.keyboard.press("Escape")
        assert tip.is_hidden()
        tab.mouse.move(0, 0)
        return str(text)

    tab.goto(f"{base}/notebooks/06_overthinking.html", wait_until="load")
    tab.evaluate("MathJax.startup.promise.then(() => null)")
    assert "memory of the training features" in shown('a[href$="#symbol-gamma"]')
    assert "Tracy" in shown('a[href*="bibliography.html#"]:has-text("Chiani")')
    tab.goto(f"{base}/book/deviations.html", wait_until="load")
    assert "Thinking is a pseudo-Newton iteration holds" in " ".join(shown('a[href$="#claim-c2"]').split())
    link = tab.locator('article.bd-article a[href$="#claim-c1"]').first
    tab.locator('article.bd-article a[href*="bibliography.html#"]').first.focus()
    for _ in range(20):
        tab.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    assert tip.is_visible()
    assert link.get_attribute("aria-describedby") == tip.get_attribute("id")
    assert "Training finds" in tip.inner_text()
    assert tip.locator("mjx-container").count() > 0
    tab.keyboard.press("Tab")
    assert link.get_attribute("aria-describedby") is None
    context.close()


def test_what_links_lead_to_stands_in_the_pages(pages: list[Path]) -> None:
    """Equations with their mathematics, figures with their picture, terms with their meaning, for every such link."""
    kinds = {
        "#equation-": r"\\\[",
        "#fig-": r"<img src=.*caption|<img src=.*<p>",
        "#term-": "<p>",
        "#symbol-": "<p>",
    }
    met = dict.fromkeys(kinds, 0)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        stored = re.search(r'id="tsl-tips">(.*?)</script>', text, re.S)
        tips = json.loads(stored[1]) if stored else {}
        (article,) = re.findall(r'<article class="bd-article".*?</article>', text, re.S) or [""]
        for link in set(re.findall(r'<a class="[^"]*internal[^"]*" href="([^"]+)"[^>]*>(?!<img)', article)):
            for kind, holds in kinds.items():
                if kind in link:
                    met[kind] += 1
                    assert re.search(holds, tips[html.unescape(link)], re.S), (page.name, link)
        for picture in re.findall(r'<img src="([^"]+)"', " ".join(tips.values())):
            assert (page.parent / picture).is_file(), (page.name, picture)
    assert min(met.values()) > 0, met


def test_symbols_lead_to_their_meaning_without_a_script(site: Path) -> None:
    text = (site / "notebooks" / "03_pseudo_newton.html").read_text(encoding="utf-8")
    found = re.findall(
        r'class="reference internal tsl-symbol" href="([^"]+)" title="([^"]+)"', text
    ) or re.findall(r'class="tsl-symbol reference internal" href="([^"]+)" title="([^"]+)"', text)
    meanings = dict(found)
    assert "dimension of the features" in meanings.values()
    assert len(meanings) > 5
    headings = re.findall(r"<h[1-4]>.*?</h[1-4]>", text, re.S)
    assert not any("tsl-symbol" in heading for heading in headings)
    notation = (site / "book" / "notation.html").read_text(encoding="utf-8")
    anchors = re.findall(r'id="(symbol-[\w-]+)"', notation)
    assert len(anchors) == len(set(anchors)) > 20


@pytest.mark.parametrize("way", ["http", "file"])
def test_search_puts_the_place_to_begin_first_and_shows_prose(
    way: str, site: Path, served: str, browser: Browser
) -> None:
    base = served if way == "http" else site.as_uri()
    first = {
        "Γ": "book/notation.html#symbol-gamma", "gamma": "book/notation.html#symbol-gamma",
        "sigma": "book/notation.html#symbol-", "w*": "book/notation.html#symbol-w",
        "hardness": "notebooks/04_hardness.html", "overthinking": "notebooks/06_overthinking.html",
        "phase diagram": "notebooks/05_scaling_law.html", "C2": "notebooks/03_pseudo_newton.html#claim-c2",
        "thought": "book/glossary.html#term-thought",
    }  # fmt: skip
    context = browser.new_context()
    tab = context.new_page()
    for query, place in first.items():
        tab.goto(f"{base}/search.html?q={quote(query)}", wait_until="load")
        tab.wait_for_selector("#search-results p.search-summary:has-text('found')", timeout=15000)
        address = tab.locator("#search-results li > a").first.get_attribute("href")
        assert str(address).startswith(place), query
        summaries = tab.locator("#search-results li p.context").all_inner_texts()
        assert summaries, query
        assert not [text for text in summaries if re.search(r"\\\w|\$|import |def |torch\.|Show code", text)]
        assert not any(text in ("", "… …") for text in summaries)
    context.close()


def test_the_index_leads_to_numbered_sections(site: Path) -> None:
    said = _said(site, "book/subject_index")
    assert re.search(r"hardness, (Glossary; )?section 4\.\d", said)
    page = (site / "book" / "subject_index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<li><p>[^<]+<a class="reference internal"', page)) > 80
    assert "tsl." not in said.split("Index", 1)[1].split("Previous")[0]


def test_the_ledger_names_the_sections_that_it_links(site: Path) -> None:
    said = _said(site, "book/claims")
    assert len(re.findall(r"measured in section \d+(?:\.\d+)+, \S", said)) == len(claims.load())


def test_every_entry_of_the_bibliography_is_cited(root: Path) -> None:
    entries = re.findall(r"^@\w+\{(\w+),", (root / "book" / "references.bib").read_text("utf-8"), re.M)
    sources = [
        *(root / "book").glob("*.md"),
        root / "book" / "claims.yml",
        *(root / "notebooks").glob("*.md"),
    ]
    cited = {
        key.strip()
        for path in sources
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text(encoding="utf-8"))
        for key in keys.split(",")
    }
    assert set(entries) == cited
