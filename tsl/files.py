"""Writing a file whole or not at all: the one place where the package puts down what it must not lose."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: Readable by everybody, as files are; temporary files are born readable by their owner alone.
MODE = 0o644


def write_whole(path: Path | str, data: bytes | str) -> Path:
    """Write a file so that it is seen either as it was or whole, whoever else writes it at the same time.

    Parameters
    ----------
    path : path
        File to write or replace; its folder is made where missing.
    data : bytes or str
        All that is to stand in it; text is written as UTF-8.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If it cannot be written. A file that was there before is untouched, and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for every writer: two that shared one would write into each other's file.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path
