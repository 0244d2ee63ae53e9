"""The project's own promises: one set of pins, one table of contents, workflows that can be trusted."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tsl import paths, versions


def _pins(root: Path) -> dict[str, str]:
    lines = [
        line
        for line in (root / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return _split(lines)


def _split(lines: list[str]) -> dict[str, str]:
    """Pins by canonical name, with the marker that limits them to one Python, if any."""
    return {canonicalize_name(name): version for name, version in (line.split("==", 1) for line in lines)}


def _direct(root: Path) -> list[Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    optional = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [Requirement(text) for text in [*project["dependencies"], *optional]]


def test_environment_yml_has_the_pins_of_requirements_txt(root: Path) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[-1] == "-e .", "without the package itself a notebook would not find it"
    assert _split(pip[:-1]) == _pins(root)
    supported = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"python{supported}" in environment["dependencies"]


def test_every_direct_dependency_is_pinned_inside_its_range(root: Path) -> None:
    pins = _pins(root)
    for requirement in _direct(root):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


def test_everything_the_package_and_the_tests_import_is_a_direct_dependency(root: Path) -> None:
    distribution = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
    direct = {canonicalize_name(requirement.name) for requirement in _direct(root)}
    files = [*(root / "tsl").rglob("*.py"), *(root / "tests").glob("*.py")]
    own = {"tsl", "_pytest", *(path.stem for path in [*files, *(root / "book" / "_ext").glob("*.py")])}
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    imported = {name.split(".")[0] for name in names}
    foreign = {name for name in imported if name not in sys.stdlib_module_names} - own
    assert {canonicalize_name(distribution.get(name, name)) for name in foreign} <= direct


def test_installed_packages_agree_with_each_other_and_with_the_pins(root: Path) -> None:
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    found = dict(re.findall(r"^([\w.-]+)==([^+\s]+)", listed, re.MULTILINE))
    installed = {canonicalize_name(name): version for name, version in found.items()}
    # Without the markers: some pins are for one Python.
    pins = {name: pin.partition(";")[0].strip() for name, pin in _pins(root).items()}
    assert {name: version for name, version in installed.items() if pins.get(name, version) != version} == {}


def test_the_contents_list_every_chapter_in_order_and_every_page(root: Path, contents: list[str]) -> None:
    assert [Path(name).name for name in contents if name.startswith("notebooks/")] == [
        source.stem for source in versions.chapters()
    ]
    pages = {f"book/{path.stem}" for path in (root / "book").glob("*.md")}
    assert {name for name in contents if name.startswith("book/")} == pages


def test_workflows_pin_their_actions_and_ask_for_little(root: Path) -> None:
    for path in (root / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        used = re.findall(r"uses: (\S+)(.*)", text)
        assert used
        for action, comment in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
            assert re.match(r" # v\d+\.\d+\.\d+$", comment), action
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            writes = {scope for scope, level in job["permissions"].items() if level == "write"}
            assert writes <= ({"pages", "id-token"} if name == "publish" else set())


def test_the_package_imports_quickly_nothing_heavy() -> None:
    code = (
        "import sys, tsl; print(sorted({'torch', 'matplotlib', 'papermill', 'seaborn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_generated_file_is_committed(root: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in tracked if name.startswith(("_build/", ".venv/")) or "__pycache__" in name] == []


def test_a_checkout_is_the_same_on_every_system(root: Path) -> None:
    """Names that differ in more than case and are allowed everywhere, short enough to lie deep; line ends that git keeps."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len({name.lower() for name in tracked}) == len(tracked)
    forbidden = re.compile(
        r'[<>:"\\|?*\s]|[. ]$|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|$)|[^\x20-\x7e]', re.IGNORECASE
    )
    assert [name for name in tracked if forbidden.search(name) or len(name) > 120] == []
    ends = subprocess.run(
        ["git", "ls-files", "--eol"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line for line in ends if line.startswith(("i/crlf", "i/mixed"))] == []
    assert [line for line in ends if "attr/text=auto eol=lf" not in line and "i/-text" not in line] == []


@pytest.mark.parametrize(
    "target",
    [
        "book",
        "publish",
        "pdf",
        "serve",
        "test",
        "coverage",
        "format",
        "clean",
        "distclean",
        "environment",
        "lock",
    ],
)
def test_help_names_every_target(root: Path, target: str) -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True)
    assert f"make {target} " in done.stdout


def test_cleaning_keeps_the_checkpoints_of_long_trainings(root: Path) -> None:
    def removed(target: str) -> str:
        return subprocess.run(
            ["make", "-n", target], cwd=root, capture_output=True, text=True, check=True
        ).stdout

    kept = paths.CHECKPOINTS.relative_to(paths.ROOT).as_posix()
    assert paths.BUILD not in paths.CHECKPOINTS.parents
    assert kept not in removed("clean").split()
    assert kept in removed("distclean").split()
    ignored = subprocess.run(
        ["git", "check-ignore", f"{kept}/08/x"], cwd=root, check=False, capture_output=True
    )
    assert ignored.returncode == 0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("PYTHON=/nowhere/python", "/nowhere/python not found: install Python 3.11 to 3.14"),
        ("PYTHON=false", "false is not Python 3.11 to 3.14"),
    ],
)
def test_make_says_what_is_missing(root: Path, tmp_path: Path, assignment: str, message: str) -> None:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text((root / name).read_text())
    done = subprocess.run(
        ["make", "book", assignment], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_cannot_make_environments_is_passed_over_and_takes_none_away(
    root: Path, tmp_path: Path
) -> None:
    """As Debian's is without its package python3-venv; and a Python may lie in a folder with a blank in its name."""
    place, tools = tmp_path / "place", tmp_path / "my tools"
    (place / ".venv").mkdir(parents=True)
    (place / ".venv" / "mine").touch()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (place / name).write_text((root / name).read_text())
    tools.mkdir()
    bare = tools / "python3.14"
    bare.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.modules[\'ensurepip\'] = None; exec(sys.argv[1])" "$2"\n'
    )
    bare.chmod(0o755)
    search = {"PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=place, env=search, capture_output=True, text=True, check=False
        )

    said = make("environment", f"PYTHON={bare}")
    assert said.returncode != 0
    assert "with venv" in said.stdout
    assert (place / ".venv" / "mine").exists()
    assert "python3.14" not in make("-n", "environment").stdout


def test_an_interrupted_install_is_not_taken_for_finished(root: Path, tmp_path: Path) -> None:
    """A python whose pip fails half way: no stamp is left, and the next `make` begins again."""
    (tmp_path / "Makefile").write_text((root / "Makefile").read_text())
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    fake = tmp_path / "python"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exit 0\nmkdir -p .venv/bin; '
        'printf "#!/bin/sh\\nexit 1\\n" > .venv/bin/python; chmod +x .venv/bin/python\n'
    )
    fake.chmod(0o755)
    for _ in range(2):
        done = subprocess.run(
            ["make", "environment", f"PYTHON={fake}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert "Making the environment" in done.stdout
        assert not list((tmp_path / ".venv").glob(".ready*"))
