"""What the site passes on from others has its licence with it, and a page may be served under a strict policy."""

import fnmatch
import re
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from visits import Visit, serve, visit

#: Made by the book's own extensions while it is built.
MADE_HERE = {"card.png", "chains.svg", "chains-phone.svg", "prose.js"}


class Work(NamedTuple):
    """A row of the page of licences."""

    name: str
    version: str
    files: tuple[str, ...]
    text: Path


@pytest.fixture(scope="module")
def works(root: Path) -> list[Work]:
    """Rows of the table in book/licences.md."""
    page = root / "book" / "licences.md"
    rows = re.findall(
        r"^\| (.+?) \| ([\d.]+) \| (.+?) \| \[.+?\]\((.+?)\) \|$", page.read_text("utf-8"), re.M
    )
    assert len(rows) > 10
    return [
        Work(name, version, tuple(re.findall(r"`(.+?)`", files)), page.parent / text)
        for name, version, files, text in rows
    ]


def test_every_file_that_the_site_passes_on_has_a_licence(site: Path, root: Path, works: list[Work]) -> None:
    shipped = {
        str(path.relative_to(site / "_static")) for path in (site / "_static").rglob("*") if path.is_file()
    }
    ours = root / "book" / "_static"
    theirs = shipped - {str(path.relative_to(ours)) for path in ours.rglob("*")} - MADE_HERE
    assert len(theirs) > 100
    patterns = [pattern for work in works for pattern in work.files]
    unnamed = [file for file in theirs if not any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)]
    assert sorted(unnamed) == []
    gone = [pattern for pattern in patterns if not fnmatch.filter(theirs, pattern)]
    assert gone == [], "the table names what is no longer there"
    assert not [work.name for work in works if not (site / "_static" / "licences" / work.text.name).is_file()]


def test_licences_are_those_of_the_versions_that_are_installed(works: list[Work], site: Path) -> None:
    found = 0
    for work in works:
        name = work.text.stem
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a script: it says its version itself
            assert name in {"mathjax", "fontawesome", "bootstrap", "clipboard"}
            scripts = [
                path for pattern in work.files for path in (site / "_static").glob(pattern) if path.is_file()
            ]
            scripts += list((site / "_static" / "vendor" / name).glob("*.js"))
            assert any(work.version in path.read_text("utf-8", errors="ignore") for path in scripts), name
            continue
        found += 1
        assert there.version == work.version, name
        own = [file for file in there.files or () if re.fullmatch(r"LICENSE(\.rst)?", file.name)]
        assert any(
            Path(str(file.locate())).read_text("utf-8") == work.text.read_text("utf-8") for file in own
        ), name
    assert found > 8


def test_what_the_tests_bring_along_has_a_licence_too(root: Path) -> None:
    foreign = list((root / "tests").rglob("*.min.js"))
    assert foreign
    assert all((path.parent / "LICENSE").is_file() for path in foreign)


def test_pages_satisfy_a_policy_that_lets_nothing_in_from_outside(
    site: Path, visits: dict[Path, Visit], browser: Any
) -> None:
    assert {page.name: found.broken for page, found in visits.items() if found.broken} == {}
    # The count sees what breaks a policy: without scripts inside the page the theme does.
    with serve(site, "default-src 'self' data:") as address:
        assert visit(browser, f"{address}/book/intro.html").broken > 0
