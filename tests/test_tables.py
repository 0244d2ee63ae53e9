"""Tables of one's own, and the two commands that read them: what is said, and what is refused before anything is written."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tsl import advice, cli, covariance, laws
from tsl.lab import datasets, tables

ROWS = torch.tensor([[1.0, 2.5], [3.0, -4.0], [0.5, 1e-7]], dtype=torch.float64)


@pytest.mark.parametrize("kind", [".csv", ".csv.gz", ".tsv", ".jsonl", ".npy"])
def test_the_same_features_from_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    path, frame = tmp_path / f"x{kind}", pd.DataFrame(ROWS.numpy(), columns=["a", "b"])
    if kind == ".npy":
        np.save(path, ROWS.numpy())
    elif kind == ".jsonl":
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == ".tsv" else ",")
    torch.testing.assert_close(tables.features(path), ROWS, rtol=1e-12, atol=0)


def test_a_first_line_of_numbers_is_a_row_and_not_names(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1.0,2.5\n3.0,-4.0\n0.5,1e-7\n")
    torch.testing.assert_close(tables.features(tmp_path / "x.csv"), ROWS)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.xlsx", "", "must be a table"),
        ("none.csv", None, "cannot be read"),
        ("x.csv", "", "cannot be read"),
        ("x.csv", "a,b\n", "at least one row"),
        ("x.csv", "a,b\n1,red\n", "finite numbers only, got others in b"),
        ("x.csv", "a,b\n1,\n", "finite numbers only, got others in b"),
        ("x.npy", "text", "cannot be read"),
        ("x.jsonl", "{", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(name, text, message, tmp_path, refuses) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with refuses(message) as caught:
        tables.features(tmp_path / name)
    assert name in str(caught.value)


def test_spectra_by_name_and_from_files(tmp_path, refuses) -> None:
    torch.testing.assert_close(tables.spectrum("1/i", 5), covariance.power_law(5, 1.0))
    torch.testing.assert_close(tables.spectrum("iso", 4), torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(tables.spectrum("i^-0.5", 4), covariance.power_law(4, 0.5))
    (tmp_path / "values.csv").write_text("3\n2\n1\n")
    (tmp_path / "whole.csv").write_text("2,1\n1,2\n")
    (tmp_path / "skew.csv").write_text("2,1\n0,2\n")
    found = tables.spectrum(str(tmp_path / "values.csv"), 10)
    torch.testing.assert_close(found, torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)))
    assert tables.spectrum(str(tmp_path / "whole.csv"), 10)[0, 1] == 1
    for text, message in ((str(tmp_path / "skew.csv"), "symmetric"), ("2/i", "spectrum must be iso")):
        with refuses(message):
            tables.spectrum(text, 3)


def test_think_says_what_the_forecast_says(capsys) -> None:
    assert (
        cli.main(["think", "--train", "1/i", "--test", "iso", "-d", "6", "-n", "50", "-m", "100", "-k", "8"])
        == 0
    )
    said = capsys.readouterr().out
    assert "training lacked what the test needs" in said
    assert "Theorem 3.1" in said
    assert said.count("█") > 20
    assert cli.main(["think", "--train", "2/i", "-n", "5", "-m", "5"]) == 2
    assert cli.main(["think", "--train", "iso", "-n", "0", "-m", "5"]) == 2


def test_plan_is_that_of_the_library_and_refuses_before_it_writes(tmp_path, capsys) -> None:
    wine = datasets.dataset("wine")
    for group in wine.group_names:
        pd.DataFrame(wine.group(group).numpy()).to_csv(tmp_path / f"{group}.csv", index=False)
    task = [f"--task={group}={tmp_path / f'{group}.csv'}" for group in ("class_0", "class_1")]
    out, page = tmp_path / "plan.json", tmp_path / "plan.html"
    options = ["--target", str(tmp_path / "class_2.csv"), "--standardise", "--steps", "4", "--json", str(out)]
    assert cli.main(["plan", *options, *task]) == 0
    target = wine.group("class_2")
    offered = {group: laws.standardise(wine.group(group), target) for group in ("class_0", "class_1")}
    generator = torch.Generator().manual_seed(0)
    made = advice.plan_training(offered, laws.standardise(target), 100, 100, 4, generator)
    assert cli.main(["plan", *options[:-2], "--html", str(page), *task]) == 0
    assert all(text in page.read_text() for text in ("class_0", "recommended", "<svg", "viewport"))
    assert not re.search(r"(src|href)=\"(?!data:|#)", page.read_text())
    assert cli.main(["plan", *options[:-2], "--html", "/proc/nowhere/plan.html", *task]) == 1
    written = json.loads(out.read_text())
    assert [card["weight"] for card in written["tasks"]] == pytest.approx(made.weights.tolist(), abs=1e-6)
    assert str(made.best_step) in capsys.readouterr().out
    out.unlink()
    for wrong in (["--task", "nameless.csv"], ["--task", "a=none.csv"], [task[0], task[0]]):
        assert cli.main(["plan", *options, *wrong]) == 2
        assert not out.exists()
