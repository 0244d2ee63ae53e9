"""Named paths: the one place that knows where things lie, and how a file is written whole or not at all.

The repository root is the folder above the package, whatever the working directory. A copy of the package that
runs away from a repository (installed as a wheel) can point at one with the environment variable ``TSL_ROOT``.
"""

import os
import re
import tempfile
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


def stored(folder: Path, suffix: str = ".json") -> list[Path]:
    """Files of that kind in a folder, by name: records, or weights that are kept with them.

    What editors and file managers leave beside them is none: backups, copies such as ``a (1).json``, hidden files.
    """
    return sorted(path for path in folder.glob(f"*{suffix}") if re.fullmatch(r"\w[\w-]*", path.stem))


def write_whole(path: Path | str, data: bytes | str) -> Path:
    """Write a file so that it is seen either as it was or whole, whoever else writes it at the same time.

    Its folder is made where missing; text is written as UTF-8. If it cannot be written (OSError), a file that was there
    before is untouched, and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for every writer: two that shared one would write into each other's file.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # for all to read: temporary files are their owner's alone
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path
