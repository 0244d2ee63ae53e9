"""One execution of a chapter: its profile, its random streams, its stamp and what it measured."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import torch

from tsl import _validate, texts, versions

T = TypeVar("T")

Profile = Literal["ci", "laptop", "paper"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True)
class Run:
    """A chapter being executed. Make one with `start`.

    Parameters
    ----------
    chapter, profile, device, seed
        As `start` takes them.
    version : str
        Content hash of the chapter's code and of the modules it uses.
    measurements : list
        Filled by `tsl.claims.record`.
    """

    chapter: str
    profile: str
    device: torch.device
    seed: int
    version: str
    measurements: list[Any] = field(default_factory=list, repr=False)

    def pick(self, *, ci: T, laptop: T, paper: T) -> T:
        """Out of a value for each profile, the one of this run's."""
        return {"ci": ci, "laptop": laptop, "paper": paper}[self.profile]

    def generator(self, role: str, replica: int = 0) -> torch.Generator:
        """Random stream of its own for a role and a replica, on the processor; every call starts the stream afresh.

        Parameters
        ----------
        role, replica : str, int
            What the numbers are for, such as ``"data"`` or ``"init"``; which of several independent repetitions.
        """
        if not isinstance(role, str) or not role:
            raise ValueError(f"role must be a non-empty text, got {role!r}")
        _validate.at_least("replica", replica, 0)
        digest = hashlib.blake2b(f"{self.seed}/{role}/{replica}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def tell(self, **values: Any) -> None:
        """Hand values to the prose: ``run.tell(gain=0.1234)`` makes ``{glue:text}`gain``` read 0.123.

        Texts stay as they are, numbers are formatted by `tsl.texts.number`. A name's ``_`` is ``-`` in the prose.
        """
        from myst_nb import glue  # reads a configuration; a run that only computes can do without

        for name, value in values.items():
            text = value if isinstance(value, str) else texts.number(value)
            glue(name.replace("_", "-"), text, display=False)

    @property
    def stamp(self) -> str:
        """Provenance in one line, drawn on every figure."""
        return f"{self.chapter} · {self.profile} · {self.device} · seed {self.seed} · code {self.version}"


def start(chapter: str, profile: str = "laptop", device: str = "cpu", seed: int = 0) -> Run:
    """Begin a chapter's run.

    Parameters
    ----------
    chapter : str
        Stem of its source in ``notebooks/``, such as ``"04_hardness"``.
    profile : {"ci", "laptop", "paper"}
        Size of the experiments; the environment variable ``TSL_PROFILE`` overrides it.
    device, seed : str, int
        A torch device that is present (``"cpu"``, ``"cuda"``, ``"cuda:1"``), and the root of every random stream.
    """
    profile = os.environ.get("TSL_PROFILE") or profile
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    _validate.at_least("seed", seed, 0)
    return Run(chapter, profile, check_device(device), seed, versions.code_version(chapter))


def check_device(device: str) -> torch.device:
    """Return the torch device of that name (``"cpu"``, ``"cuda"`` or ``"cuda:N"``), if this machine has it."""
    present = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        found = None
    names = {"cpu", *present, *(["cuda"] if len(present) > 1 else [])}
    if found is None or str(found) not in names:
        raise ValueError(f"device must be one of {', '.join(sorted(names))} on this machine, got {device!r}")
    return found
