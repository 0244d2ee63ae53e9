"""What the README and the first page of the book promise runs as it stands there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tsl import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_PAGE = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
RECIPES = [
    recipe for text in (README, FIRST_PAGE) for recipe in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
SAYS = ["helps", "strong x1", "hurts"] * 2


def test_there_is_a_recipe_for_a_log_for_features_and_for_a_model() -> None:
    assert len(RECIPES) == len(SAYS)
    for recipe in RECIPES:
        steps = [line for line in ast.parse(recipe).body if not isinstance(line, ast.Import | ast.ImportFrom)]
        assert len(steps) <= 5


@pytest.mark.parametrize(("recipe", "says"), list(zip(RECIPES, SAYS, strict=True)))
def test_a_recipe_runs_and_answers(recipe: str, says: str, root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", recipe], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_its_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for name in re.findall(r"(?:^\$ |`)tsl (\w+)", README + FIRST_PAGE, re.MULTILINE):
        assert cli.main([name, "--help"]) == 0
