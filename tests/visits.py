"""Pages of the site opened as by a reader who comes for the first time, and what came of it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser

#: Nothing from outside; what stands in the page itself may be used.
POLICY = "default-src 'self' 'unsafe-inline' data:"
_COUNT = "window.broken = 0; document.addEventListener('securitypolicyviolation', () => broken++)"
_WIDE = (
    "all => all.filter(pre => pre.scrollWidth > pre.clientWidth + 1).map(pre => pre.innerText.slice(0, 60))"
)


class Visit(NamedTuple):
    """What a page asked for, by path, how often it broke the policy, and its open code that its column cuts."""

    asked: set[str]
    broken: int
    cut: list[str]


@contextmanager
def serve(site: Path, policy: str = "") -> Iterator[str]:
    """Address of a server of the site, whose pages must keep a Content-Security-Policy where one is given."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def end_headers(self) -> None:
            if policy:
                self.send_header("Content-Security-Policy", policy)
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def visit(browser: Browser, address: str) -> Visit:
    """Open a page with nothing remembered of the others and wait until it asks for nothing more."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    asked = set[str]()
    tab.on("request", lambda request: asked.add(unquote(urlsplit(request.url).path).lstrip("/")))
    tab.add_init_script(_COUNT)
    tab.goto(address, wait_until="networkidle")
    found = Visit(
        asked,
        tab.evaluate("broken"),
        tab.locator("div.cell_input pre:visible").evaluate_all(_WIDE),
    )
    tab.close()
    return found
