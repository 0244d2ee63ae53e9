"""What all tests share. Every shape in `tsl` is checked at run time (``--jaxtyping-packages`` in pyproject.toml)."""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import pretend
import pytest
from visits import POLICY, Visit, serve, visit

os.environ.pop("TSL_PROFILE", None)  # a profile left over in the shell must not change what is tested
# Chapters run beside the tests: a second thread would wait, busily, for the core that they have.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples every time, and no verdict by the clock: a slow machine is not a wrong formula.
hypothesis.settings.register_profile("tsl", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("tsl")


pretend.register()  # before the first gradient: torch counts its devices then


# Begun with the tests and asked for in their turn: it runs in other processes, and one core of two would be idle.
_AHEAD = ThreadPoolExecutor(1)
_begun: dict[str, Future[Any]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is made ahead is asked for last."""
    items.sort(key=lambda item: "ahead" in item.fixturenames)


def pytest_runtestloop(session: pytest.Session) -> None:
    """Begin what modules want to have done by the time that their tests ask for `ahead`."""
    if session.config.option.collectonly:
        return
    for item in session.items:
        name = item.module.__name__
        if "ahead" in item.fixturenames and name not in _begun:
            _begun[name] = _AHEAD.submit(item.module.AHEAD)


def pytest_sessionfinish() -> None:
    """What nobody will ask for any more is not begun."""
    _AHEAD.shutdown(wait=False, cancel_futures=True)


@pytest.fixture(scope="module")
def ahead(request: pytest.FixtureRequest) -> Any:
    """What the function ``AHEAD`` of the module returns, begun when the tests began."""
    return _begun[request.module.__name__].result()


@contextmanager
def _unchecked() -> Iterator[None]:
    """Let the package's own validation answer, as it does for a user, instead of the run-time check of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def refuses() -> Callable[[str], Any]:
    """``with refuses("n must be"):`` the package itself answers bad input, not the run-time check of shapes."""

    @contextmanager
    def expect(match: str) -> Iterator[Any]:
        with pytest.raises(ValueError, match=match) as caught, _unchecked():
            yield caught

    return expect


@pytest.fixture(scope="session")
def as_a_user() -> Callable[[], Any]:
    """``with as_a_user():`` the package is called without the run-time check of shapes, as by a user."""
    return _unchecked


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def contents(root: Path) -> list[str]:
    """Files that the table of contents names, without suffix, in reading order."""
    return re.findall(r"^[\s-]*(?:root|file): (\S+)", (root / "_toc.yml").read_text(), re.MULTILINE)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The book and the warnings of its strict build."""
    from tsl import paths  # not before the checks of shapes are in place
    from tsl.press import site as press

    place = tmp_path_factory.mktemp("site")
    problems = press.build(paths.ROOT, place, place / "log")
    return place / "_build" / "html", problems


@pytest.fixture(scope="session")
def site(built: tuple[Path, list[str]]) -> Path:
    """Folder of the built site."""
    return built[0]


@pytest.fixture(scope="session")
def pages(site: Path, contents: list[str]) -> list[Path]:
    """Every page of the site, generated ones included, without the one that only sends the reader on to the first."""
    found = sorted(site.rglob("*.html"))
    found = [page for page in found if "_static" not in page.parts and page != site / "index.html"]
    assert {f"{name}.html" for name in contents} <= {str(page.relative_to(site)) for page in found}
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    import chromium

    with chromium.launch() as found:
        yield found


@pytest.fixture(scope="session")
def served(site: Path) -> Iterator[str]:
    """Address of a server of the site."""
    with serve(site) as address:
        yield address


@pytest.fixture(scope="session")
def visits(site: Path, pages: list[Path], browser: Any) -> dict[Path, Visit]:
    """What came of opening each page for the first time, under a policy that lets nothing in from outside."""
    with serve(site, POLICY) as address:
        return {page: visit(browser, f"{address}/{page.relative_to(site)}") for page in pages}
