"""The book on every surface: for readers who do not see it, in the dark, on a phone, on paper, and to take away."""

import csv
import io
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import surfaces
from playwright.sync_api import Browser, Page
from visits import Visit

from tsl import figures, paths, pictures, runs, versions
from tsl.press import pdf

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RULES = ("empty-table-header", "label-content-name-mismatch")  # beyond those that the levels turn on
OWN = 1_500_000  # bytes that a page may ask for beside what all pages share


def opened(tab: Page, address: str) -> Page:
    """A page with its formulas set."""
    tab.goto(address, wait_until="load")
    if tab.locator(".math").count():
        tab.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        tab.evaluate("MathJax.startup.promise.then(() => null)")
    return tab


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    """What a figure of two panels, of which one has an interval, hands to the notebook that shows it."""
    run = runs.start("01_the_task", profile="ci")
    fig, (left, right) = figures.new(cols=2, height=2.0)
    figures.points(left, [1.0, 2.0], [3.0, 4.0], [2.5, 3.0], [5.0, 4.5], label="measured")
    figures.theory(left, [1.0, 2.0], [3.5, 4.0], label="predicted")
    right.plot([0.0, 1.0], [1.0, 0.0])
    right.axhline(0.5)
    for ax, name in ((left, "error"), (right, "share")):
        ax.set(xlabel="steps", ylabel=name)
    return figures.finish(fig, run).bundle()


def lines(data: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(surfaces.table(data))))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_reader_is_shut_out(
    scheme: str, site: Path, pages: list[Path], served: str, browser: Browser
) -> None:
    """axe-core finds nothing against WCAG 2, levels A and AA."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    options = {
        "runOnly": {"type": "tag", "values": [*LEVELS, "best-practice"]},
        "rules": {name: {"enabled": True} for name in RULES},
    }
    found = []
    for page in pages:
        opened(tab, f"{served}/{page.relative_to(site)}")
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        tab.evaluate(AXE)
        for rule in tab.evaluate("options => axe.run(document, options).then(r => r.violations)", options):
            if rule["id"] in RULES or {*rule["tags"]} & {*LEVELS}:
                found += [f"{page.name}: {rule['id']}: {node['html'][:120]}" for node in rule["nodes"]]
    context.close()
    assert found == []


def test_axe_would_find_what_was_wrong(browser: Browser) -> None:
    """The rules that are asked for do run: a page with one fault of each is caught."""
    tab = browser.new_page()
    tab.set_content(
        '<html lang="en"><title>t</title><main><h1>t</h1><button aria-label="Other">Seen</button>'
        '<p style="color:#aaa;background:#fff">pale</p><table><tr><th></th><th>a</th></tr></table></main></html>'
    )
    tab.evaluate(AXE)
    run = "rules => axe.run(document, {runOnly: {type: 'rule', values: rules}}).then(r => r.violations.map(v => v.id))"
    faults = [*RULES, "color-contrast"]
    assert sorted(tab.evaluate(run, faults)) == sorted(faults)
    tab.close()


def test_a_page_weighs_little_beside_what_all_share(site: Path, visits: dict[Path, Visit]) -> None:
    heavy = {}
    for page, found in visits.items():
        own = sum((site / name).stat().st_size for name in found.asked if not name.startswith("_static/"))
        assert own >= page.stat().st_size
        if own > OWN or any("fontawesome.js" in name for name in found.asked):
            heavy[page.name] = own
    assert heavy == {}


def test_a_figure_is_as_dark_as_its_page(site: Path, served: str, browser: Browser) -> None:
    """Its paper has the page's own ground, its ink stands out from it, and its colours are still colours."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    tab = opened(context.new_page(), f"{served}/notebooks/03_pseudo_newton.html")
    figure = tab.locator("figure img:visible").first
    figure.scroll_into_view_if_needed()
    tab.wait_for_function("image => image.complete && image.naturalWidth", arg=figure.element_handle())
    seen = (matplotlib.image.imread(io.BytesIO(figure.screenshot()))[..., :3] * 255).round()
    ground = [
        int(v) for v in re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    ]
    context.close()
    assert np.abs(seen[1, 1] - ground[:3]).max() <= 6
    assert seen.mean() < 90
    assert seen.min(2).max() > 200  # ink
    assert np.ptp(seen, axis=2).max() > 100  # hues


@pytest.mark.parametrize("width", [390, 480])
def test_figures_are_legible_on_a_phone(
    width: int, site: Path, pages: list[Path], served: str, browser: Browser
) -> None:
    """No type under seven pixels, what does not fit the column can be moved by a finger, and verdicts do fit."""
    context = browser.new_context(viewport={"width": width, "height": 844}, is_mobile=True, has_touch=True)
    tab = context.new_page()
    small, count = [], 0
    for page in pages:
        if page.parent.name != "notebooks":
            continue
        opened(tab, f"{served}/{page.relative_to(site)}")
        source = json.loads((paths.NOTEBOOKS / f"{page.stem}.ipynb").read_text(encoding="utf-8"))
        for _, name, told in surfaces.pictures(source):
            images = tab.locator(f'.tsl-panel img[src$="{name}"]')
            assert images.count() == len(told["panels"]["parts"]), (page.name, name)
            for shown in images.evaluate_all("all => all.map(i => i.getBoundingClientRect().width)"):
                count += 1
                if shown / told["panels"]["size"][0] * told["panels"]["type"] < 6.99:
                    small.append((page.name, name, shown))
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page.name
        checks = tab.locator(".tsl-claim .tsl-claim-scroll")
        assert checks.evaluate_all("all => all.every(t => t.scrollWidth <= t.clientWidth)"), page.name
    context.close()
    assert small == []
    assert count >= sum(
        "figure" in c.metadata.get("mystnb", {})
        for p in versions.chapters()
        for c in versions.read_source(p).cells
    )


def test_no_open_code_is_wider_than_its_column(visits: dict[Path, Visit]) -> None:
    assert {page.name: found.cut for page, found in visits.items() if found.cut} == {}


def test_a_figure_hands_over_the_numbers_it_draws(told: dict[str, object]) -> None:
    rows = lines(told[pictures.DATA]["data"])
    measured = [row for row in rows if row["series"] == "measured"]
    assert [[float(row[name]) for name in ("x", "y", "low", "high")] for row in measured] == [
        [1, 3, 2.5, 5],
        [2, 4, 3, 4.5],
    ]
    assert [(float(row["x"]), float(row["y"])) for row in rows if row["series"] == "predicted"] == [
        (1, 3.5),
        (2, 4),
    ]
    assert [row["panel"] for row in rows] == ["1"] * 4 + ["2"] * 3
    assert [row["y"] for row in rows if row["panel"] == "2" and not row["x"]] == [
        "0.5"
    ]  # a line across the panel


def test_a_figure_says_where_it_may_be_cut(told: dict[str, object]) -> None:
    left, right = told[pictures.DATA]["panels"]["parts"]
    assert left[0] + left[2] <= right[0] + 0.02
    assert right[0] > 0.4
    assert max(part[1] + part[3] for part in (left, right)) < 0.99  # the stamp stays behind


def test_panels_that_share_an_axis_stay_together() -> None:
    fig, axes = figures.new(cols=2, sharey=True)
    for ax in axes:
        ax.plot([0, 1], [0, 1])
    told = figures.finish(fig, runs.start("01_the_task", profile="ci")).bundle()
    assert len(told[pictures.DATA]["panels"]["parts"]) == 1


def test_the_same_figure_has_the_same_text() -> None:
    def drawn() -> str:
        fig, ax = figures.new()
        figures.band(ax, [1, 2], [1, 2], [0.5, 1.5], [1.5, 2.5], label="measured")
        return figures.finish(fig, runs.start("01_the_task", profile="ci")).bundle()["image/svg+xml"]

    assert drawn() == drawn()


def test_a_cloud_of_points_is_handed_over_as_pixels() -> None:
    fig, ax = figures.new()
    ax.scatter(*np.random.default_rng(0).normal(size=(2, 20_000)), s=1)
    bundle = figures.finish(fig, runs.start("01_the_task", profile="ci")).bundle()
    assert "image/png" in bundle
    assert "image/svg+xml" not in bundle
    (series,) = bundle[pictures.DATA]["data"][0]["series"]
    assert series["every"] * len(series["x"]) >= 20_000 > len(series["x"])


def test_every_chapter_offers_its_notebook_its_text_and_the_data_of_its_figures(
    site: Path, pages: list[Path]
) -> None:
    for page in pages:
        if page.parent.name == "notebooks":
            text = page.read_text(encoding="utf-8")
            for suffix in ("ipynb", "md"):
                assert f"_sources/notebooks/{page.stem}.{suffix}" in text
                assert (site / "_sources" / "notebooks" / f"{page.stem}.{suffix}").is_file()
            data = re.findall(r'href="\.\./(_downloads/data/[^"]+\.csv)"', text)
            assert len(data) == len(set(data)) >= text.count("<figure"), page.name
            assert all(len((site / name).read_text(encoding="utf-8").splitlines()) > 1 for name in data), (
                page.name
            )


@pytest.mark.parametrize("address", ["", "https://github.com/someone/book"])
def test_colab_and_binder_are_offered_where_there_is_an_address(address: str, pages: list[Path]) -> None:
    config = SimpleNamespace(
        html_theme_options={"repository_url": address, "launch_buttons": {"thebe": False}}
    )
    surfaces.configure(None, config)
    offered = {name for name, url in config.html_theme_options["launch_buttons"].items() if url}
    assert offered == ({"colab_url", "binderhub_url"} if address else set())
    assert not any("colab.research" in page.read_text(encoding="utf-8") for page in pages)  # ours has none


def test_the_bound_book_has_every_page_once_and_every_link_within(site: Path) -> None:
    bound = pdf.bind(site, paths.ROOT / "_toc.yml", "A title")
    anchors = re.findall(r'\sid="([^"]+)"', bound)
    assert [name for name, count in Counter(anchors).items() if count > 1] == []
    listed = [name for name, _ in pdf.contents(paths.ROOT / "_toc.yml")]
    assert len(listed) > 15
    assert {pdf._slug(name) for name in listed} <= set(anchors)
    links = re.findall(r'<a\b[^>]*href="([^"]*)"', bound)
    inner = {link[1:] for link in links if link.startswith("#")}
    assert len(inner) > 200
    assert inner - set(anchors) == set()
    assert all(link.startswith(("#", "https://", "http://")) for link in links)
    shown = re.findall(r'<img\b[^>]*src="([^"]+)"', bound)
    assert [name for name in shown if not name.startswith("data:") and not (site / name).is_file()] == []


def test_the_printed_book_is_a_pdf_whose_links_are_alive(site: Path, tmp_path: Path) -> None:
    """Two chapters of it: all of them take half a minute."""
    toc = tmp_path / "_toc.yml"
    (tmp_path / "_config.yml").write_text("title: A title\n")
    chapters = ["notebooks/02_training", "notebooks/03_pseudo_newton"]
    part = {"caption": "A part", "chapters": [{"file": name} for name in chapters]}
    toc.write_text(json.dumps({"root": "book/intro", "parts": [part]}))
    bound = re.sub(r'<a class="headerlink".*?</a>', "", pdf.bind(site, toc, "A title"), flags=re.S)
    links = len(re.findall(r"<a\b[^>]*href=", bound))
    assert links > 5
    before = sorted(path.name for path in site.iterdir())
    with ThreadPoolExecutor(1) as other:  # a thread drives one browser, and this one has its own
        job = other.submit(pdf.print_book, tmp_path / "book.pdf", site, toc)
        printed = job.result().read_bytes()
    assert printed.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type /Page\b", printed)) < 40
    assert len(re.findall(rb"/Subtype /Link", printed)) >= links
    assert b"/Dest" in printed
    assert sorted(path.name for path in site.iterdir()) == before


def test_a_printed_page_is_light_its_folds_are_open_and_its_code_is_wrapped(
    served: str, browser: Browser
) -> None:
    context = browser.new_context(viewport={"width": 700, "height": 900}, color_scheme="dark")
    tab = opened(context.new_page(), f"{served}/notebooks/03_pseudo_newton.html")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    assert tab.locator(".bd-article details:not([open])").count() == 0
    assert (
        tab.locator(".tag_hide-input > details:visible").count() == 0
    )  # the code of a figure stays in the notebook
    grounds = tab.locator(".bd-article pre:visible").evaluate_all(
        "all => all.map(p => getComputedStyle(p).backgroundColor)"
    )
    assert {*grounds} == {"rgb(255, 255, 255)"}
    wide = "all => all.filter(pre => pre.scrollWidth > pre.clientWidth + 1).length"
    assert tab.locator(".bd-article pre:visible").evaluate_all(wide) == 0
    tab.emulate_media(media="screen")
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    context.close()
