"""A small repository with two chapters and a ledger, and the command line on it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

FRONT = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
PARAMETERS = """```{code-cell} ipython3
:tags: [parameters]
profile = "laptop"
device = "cpu"
seed = 0
```
"""
FIRST = (
    FRONT
    + "# First\n\nPlain prose.\n\n"
    + PARAMETERS
    + """
```{code-cell} ipython3
import subprocess
print("profile", profile, "seed", seed)
subprocess.run(["sh", "-c", "echo noise of a child >&2; echo more noise"], check=True);
```
"""
)
SECOND = (
    FRONT
    + "# Second\n\n"
    + PARAMETERS
    + """
```{code-cell} ipython3
from tsl import claims, runs
run = runs.start("02_second", profile=profile, device=device, seed=seed)
```

(claim-c1)=
## A claim

```{code-cell} ipython3
claims.record(run, "C1", claims.close("answer", 42, 42, abs=1))
```
"""
)
TOC = """format: jb-book
root: book/intro
options:
  numbered: true
chapters:
  - file: notebooks/01_first
  - file: notebooks/02_second
  - file: book/claims
"""
LEDGER = """- id: C1
  title: The answer
  origin: ours
  source: nowhere
  evidence: [simulation]
  bounds: none
  statement: It is $42$.
  chapter: 02_second
  expected: holds
- id: C2
  title: Another
  origin: ours
  source: nowhere
  evidence: [simulation]
  bounds: none
  statement: It is to come.
  chapter: 03_third
  expected: holds
"""


def lay_out(place: Path, root: Path) -> None:
    """Write the small repository into a folder."""
    (place / "book").mkdir(parents=True)
    (place / "notebooks").mkdir()
    shutil.copytree(root / "book" / "_ext", place / "book" / "_ext")
    shutil.copytree(root / "book" / "_static", place / "book" / "_static")
    for name in ("_config.yml", "requirements.txt", "pyproject.toml"):
        shutil.copy(root / name, place / name)
    for name, text in {
        "_toc.yml": TOC,
        "book/intro.md": "# A small book\n\nText.\n",
        "book/claims.md": "# Ledger\n\n```{claim-ledger}\n```\n",
        "book/references.bib": "",
        "book/claims.yml": LEDGER,
        "notebooks/01_first.md": FIRST,
        "notebooks/02_second.md": SECOND,
    }.items():
        (place / name).write_text(text)


def environment(place: Path, root: Path) -> dict[str, str]:
    """Variables with which `tsl` works on it."""
    return os.environ | {"TSL_ROOT": str(place), "PYTHONPATH": str(root)}


def tsl(place: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line on it."""
    command = [sys.executable, "-m", "tsl", *arguments]
    return subprocess.run(
        command, env=environment(place, root), cwd=place.parent, capture_output=True, text=True, check=False
    )


def started(place: Path, root: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line at work on it, to be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "tsl", *arguments],
        env=environment(place, root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit its deafness to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
