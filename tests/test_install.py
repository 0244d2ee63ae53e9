"""The ways to install: pins with hashes, a wheel that works away from its repository, and the words `make` takes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LOCKS = ("requirements.lock", "requirements-cuda.lock")


def pins(path: Path, python: str) -> dict[str, str]:
    """What a list of pins asks for on a Python on Linux; every entry of a lock must have hashes."""
    entries = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    found = {}
    for entry in entries:
        if not entry or entry.startswith("#"):
            continue
        pin, *hashes = re.split(r"\s+--hash=", entry.strip())
        if path.suffix == ".lock":
            assert hashes, pin
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), pin
        pin, _, marker = pin.partition(";")
        if not marker or Marker(marker).evaluate(here | {"platform_machine": "x86_64"}):
            name, _, version = pin.strip().partition("==")
            found[canonicalize_name(name)] = version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_asks_for_what_the_pins_ask_for(root: Path, python: str) -> None:
    asked = pins(root / "requirements.txt", python)
    assert pins(root / LOCKS[0], python) == asked
    assert "torch" in asked


def test_cuda_stands_apart(root: Path) -> None:
    """So that a machine without a GPU can leave it out, and its torch still be checked."""
    cuda, rest = (pins(root / name, "3.13") for name in reversed(LOCKS))
    assert {"triton", "nvidia-cublas"} <= set(cuda)
    assert not [name for name in rest if name.startswith(("nvidia", "cuda", "triton"))]


@pytest.fixture(scope="module")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two wheels: built in two places, from files of two dates."""
    listed = subprocess.run(
        ["git", "ls-files", "tsl", "pyproject.toml", "README.md", "LICENSE*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    built = []
    for day in (1, 2):
        place = tmp_path_factory.mktemp("wheel")
        for name in listed:
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, place / "source" / name)
            os.utime(place / "source" / name, (86400 * day * 1000, 86400 * day * 1000))
        _pip("wheel", "--wheel-dir", str(place), str(place / "source"), SOURCE_DATE_EPOCH="1700000000")
        built += place.glob("*.whl")
    return built


def _pip(command: str, *arguments: str, **variables: str) -> None:
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_builds_give_the_same_bytes(wheels: list[Path]) -> None:
    one, other = wheels
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_an_installed_wheel_works_away_from_the_repository(wheels: list[Path], tmp_path: Path) -> None:
    _pip("install", "--target", str(tmp_path / "packages"), str(wheels[0]))
    variables = {name: value for name, value in os.environ.items() if name != "TSL_ROOT"}

    def tsl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tsl", *arguments],
            env=variables | {"PYTHONPATH": str(tmp_path / "packages")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    before = sorted(tmp_path.rglob("*.py"))
    thought = tsl("think", "--train", "1/i", "--test", "iso", "-d", "3", "-n", "20", "-m", "60", "-k", "4")
    assert thought.returncode == 0, thought.stderr
    assert "typical error" in thought.stdout
    built = tsl("book")
    assert built.returncode == 1
    assert f"there are no chapters in {tmp_path / 'packages' / 'notebooks'}" in built.stderr
    assert sorted(tmp_path.rglob("*.py")) == before
    assert not (tmp_path / "packages" / "_build").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("INSTALLER=uv",), "uv pip install --python .venv/bin/python -r requirements.txt"),
        (("TORCH=cpu",), "--no-deps --index-url https://download.pytorch.org/whl/cpu torch=="),
        (("INSTALLER=conda",), "INSTALLER must be pip or uv, got conda"),
        (("TORCH=rocm",), "TORCH must be cpu or default, got rocm"),
    ],
)
def test_make_takes_an_installer_and_a_build_of_torch(
    root: Path, words: tuple[str, ...], expected: str
) -> None:
    done = subprocess.run(
        ["make", "-n", "--always-make", "environment", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout + done.stderr
    assert (done.returncode == 0) == ("must be" not in expected)
