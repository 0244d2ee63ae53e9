"""The browser of the tests: the machine's own Chromium, driven by playwright, without any talk to the outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tsl.press.pdf import BROWSERS, FLAGS


@contextmanager
def launch() -> Iterator[Browser]:
    """Start Chromium headless; fails with what to install where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, f"no browser found: install one of {', '.join(BROWSERS)}"
    flags = [*FLAGS, "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        try:
            yield browser
        finally:
            browser.close()
