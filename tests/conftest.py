"""What all tests share. Every shape in `tsl` is checked at run time (``--jaxtyping-packages`` in pyproject.toml)."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import pytest

os.environ.pop("TSL_PROFILE", None)  # a profile left over in the shell must not change what is tested
# The same examples every time, and no verdict by the clock: a slow machine is not a wrong formula.
hypothesis.settings.register_profile("tsl", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("tsl")


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
