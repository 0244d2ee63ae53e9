"""The browser of the tests: the machine's own Chromium, driven by playwright, without any talk to the outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tsl.press import pdf


@contextmanager
def launch() -> Iterator[Browser]:
    """Start Chromium headless; fails with what to install where there is none."""
    flags = [*pdf.FLAGS, "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=pdf.browser(), args=flags)
        try:
            yield browser
        finally:
            browser.close()
