"""Tables of one's own, from files: feature matrices and spectra for the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate
from tsl.covariance import power_law

#: How a file's name may end; those of pandas may be compressed (.gz).
KINDS = (".csv", ".tsv", ".parquet", ".jsonl", ".npy")


def read(path: Path | str) -> pd.DataFrame:
    """Read a table; what cannot be read is a ValueError that names the file and what is the matter."""
    path = Path(path)
    kind = next((kind for kind in KINDS if path.name.removesuffix(".gz").endswith(kind)), None)
    if kind is None:
        raise ValueError(f"{path} must be a table ({', '.join(KINDS)}, all but .npy also as .gz)")
    try:
        if kind == ".npy":
            table = pd.DataFrame(np.load(path, allow_pickle=False))
        elif kind == ".parquet":
            table = pd.read_parquet(path)
        elif kind == ".jsonl":
            table = pd.read_json(path, lines=True)
        else:
            table = pd.read_csv(path, sep="\t" if kind == ".tsv" else ",")
    except (OSError, ValueError, ImportError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        raise ValueError(f"{path} cannot be read: {problem}") from None
    if table.empty:
        raise ValueError(f"{path} must hold at least one row, got an empty table")
    return table


def features(path: Path | str) -> Float[Tensor, "N d"]:
    """Read a feature matrix, a row per observation.

    A first line of numbers counts as a row and not as names, unless it counts 0, 1, 2, … as pandas names columns.
    """
    table = read(path)
    names = [str(name) for name in table.columns]
    counted = names == [str(index) for index in range(len(names))]
    if all(map(_is_number, names)) and not counted:
        table = pd.concat([pd.DataFrame([names], columns=table.columns), table])
    found = table.apply(pd.to_numeric, errors="coerce")
    wrong = [str(name) for name in found.columns if not np.isfinite(found[name].to_numpy(float)).all()]
    if wrong:
        raise ValueError(f"{path} must hold finite numbers only, got others in {', '.join(wrong)}")
    return torch.tensor(found.to_numpy(float))


def spectrum(text: str, d: int) -> Float[Tensor, "d d"]:
    """Covariance that a text stands for: ``iso``, ``1/i``, ``i^-0.5`` (largest eigenvalue 1), or a file.

    A file holds eigenvalues, in one row or one column, or a covariance, d rows of d.
    """
    exponents = {"iso": 0.0, "1/i": 1.0}
    if text in exponents or (text.startswith("i^-") and _is_number(text[3:])):
        alpha = exponents[text] if text in exponents else float(text[3:])
        return power_law(d, alpha)
    if not Path(text).is_file():
        raise ValueError(f"spectrum must be iso, 1/i, i^-ALPHA or a file, got {text!r}")
    values = features(text)
    if 1 in values.shape:
        if (values < 0).any():
            raise ValueError(f"{text} must hold eigenvalues >= 0, got {values.min().item():.3g}")
        return torch.diag(values.flatten())
    return _validate.covariance(text, values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
