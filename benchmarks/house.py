"""What people wait for, on a copy of the repository: ``python -m benchmarks.house [--profile laptop] [--write]``.

Wall-clock seconds of the commands of README in one run, with no other work on the machine: chapters and pages from nothing, the
same with nothing changed, one chapter; and how soon a browser shows the first content of each page of the site, opened from disk.
``--write`` puts the table into the book.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.__main__ import processor, put
from tsl import paths
from tsl.press import pdf

START, END = "<!-- waiting: python -m benchmarks.house --write -->", "<!-- end of waiting -->"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def copy(target: Path) -> Path:
    """The files of the repository that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=paths.ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (paths.ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.ROOT / name, target / name)
    return target


def wait(place: Path, *command: str) -> float:
    """Seconds of a command of ``tsl`` in a copy."""
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(place)}
    subprocess.run([sys.executable, "-m", "tsl", *command], cwd=place, env=environment, check=True)
    return time.perf_counter() - began


def first_paint(site: Path) -> dict[str, float]:
    """Milliseconds until each page of a built site shows its first content."""
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=pdf.browser(), args=pdf.FLAGS)
        for address in sorted(site.glob("*/*.html")):
            page = browser.new_page()
            page.goto(address.as_uri(), wait_until="load")
            page.wait_for_function(PAINT)
            found[address.stem] = page.evaluate(PAINT)
            page.close()
        browser.close()
    return found


def table(profile: str) -> str:
    """A row for each thing to wait for."""
    with tempfile.TemporaryDirectory() as folder:
        place = copy(Path(folder))
        rows = {
            f"all chapters from nothing, `{profile}`": wait(place, "execute", "--profile", profile),
            "the pages": wait(place, "book", "--profile", profile),
            "`make book` with nothing changed": wait(place, "book", "--profile", profile),
            "one chapter (4), `ci`": wait(place, "execute", "04_hardness", "--profile", "ci", "--seed", "1"),
        }
        painted = first_paint(place / "_build" / "html").values()
    lines = [f"| {what} | {seconds:.0f} s |" for what, seconds in rows.items()]
    lines += [
        f"| first content of a page, opened from disk: median and longest of {len(painted)} "
        f"| {statistics.median(painted):.0f} and {max(painted):.0f} ms |"
    ]
    where = f"{processor()}, {os.cpu_count()} cores, {datetime.date.today():%d %B %Y}"
    return "\n".join([where + ":", "", "| What | Time |", "|---|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--write", action="store_true", help="put the table into book/reproduce.md")
    options = parser.parse_args()
    text = table(options.profile)
    print(text)
    if options.write:
        put(text, START, END)


if __name__ == "__main__":
    main()
