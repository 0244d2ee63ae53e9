"""Named paths: the one place that knows where things lie, so that no chapter or figure builds a path by hand.

The repository root is the folder above the package, whatever the working directory. A copy of the package that
runs away from a repository (installed as a wheel) can point at one with the environment variable ``TSL_ROOT``.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("TSL_ROOT") or PACKAGE.parent).resolve()

NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
CLAIMS = BOOK / "claims.yml"
RESULTS = ROOT / "results"
REQUIREMENTS = ROOT / "requirements.txt"

# Trainings of hours, half done: not built, not committed, and kept by `make clean`.
CHECKPOINTS = ROOT / ".checkpoints"

# Everything below is generated and can be deleted at any time (`make clean`).
BUILD = ROOT / "_build"
EXECUTED = BUILD / "executed"
SOURCE = BUILD / "source"
SITE = BUILD / "html"
VENDOR = BUILD / "vendor"
