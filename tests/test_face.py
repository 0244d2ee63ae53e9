"""The first page, and finding things: links that say what they lead to, the search, the glossary, the index."""

import html
import json
import re
import struct
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from tsl import claims, paths, texts


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
    tab.evaluate("document.querySelectorAll('details').forEach(each => (each.open = true))")
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
        tab.wait_for_selector("#search-results li p.context", timeout=15000)  # they come one after the other
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
