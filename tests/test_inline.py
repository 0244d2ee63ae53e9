"""One figure by one command: the figure of the page, from the cells before it and from no others."""

import json

import nbformat
import pytest
from test_pipeline import HEAD

from tsl import claims, cli, paths, versions
from tsl.press import inline
from tsl.press.chapters import Settings

TWO_FIGURES = (
    HEAD
    + """```{code-cell} ipython3
import matplotlib.pyplot as plt

def drawn(height):
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, height])
    plt.close(figure)
    return figure
```

```{code-cell} ipython3
---
mystnb:
  figure: {name: fig-a, caption: "The line ends at the seed. And so on."}
---
drawn(seed)
```

```{code-cell} ipython3
---
mystnb:
  figure: {name: fig-b, caption: "Never reached."}
---
raise RuntimeError("a cell after the figure that was asked for")
```
"""
)


@pytest.fixture
def two(tmp_path, monkeypatch):
    (tmp_path / "01_two.md").write_text(TWO_FIGURES)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "_build" / "executed")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_figure_is_drawn_with_the_seed_asked_for_and_without_what_follows(two, refuses):
    figure = inline.drawn("fig-a", Settings("ci", seed=7))
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0, 7]
    with pytest.raises(RuntimeError, match="a cell after"):
        inline.drawn("fig-b", Settings("ci"))
    with refuses("figure must be one of fig-a, fig-b, got 'fig-c'"):
        inline.drawn("fig-c", Settings("ci"))


def test_the_same_figure_is_the_same_file(two, capsys):
    options = ["figure", "fig-a", "--profile", "ci"]
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf", "one.png", "two.png"):
        assert cli.main([*options, "--out", name]) == 0
    for kind in ("svg", "pdf", "png"):
        assert (two / f"one.{kind}").read_bytes() == (two / f"two.{kind}").read_bytes()
    assert cli.main([*options, "--seed", "1", "--out", "other.svg"]) == 0
    assert (two / "other.svg").read_bytes() != (two / "one.svg").read_bytes()


@pytest.mark.parametrize("options", [["fig-c"], ["fig-a", "--out", "x.gif"], ["fig-a", "--seed", "-1"]])
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(two, options):
    assert cli.main(["figure", *options]) == 2
    assert not list(two.glob("*.gif")) + list(two.glob("*.svg"))


def test_all_pictures_of_the_book_are_listed_with_their_finding(capsys):
    assert cli.main(["figure", "--list"]) == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    shown = []
    for source in versions.chapters():
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        for cell in notebook.cells:
            if any(
                "image/png" in o.get("data", {}) or "image/svg+xml" in o.get("data", {})
                for o in cell.get("outputs", [])
            ):
                shown.append([cell.metadata["mystnb"]["figure"]["name"], source.stem])
    assert listed == shown


def test_the_ledger_is_printed_with_what_the_committed_notebooks_measured(capsys):
    record = json.loads((paths.RESULTS / "ledger" / "seeds-laptop.json").read_text())["claims"]
    assert cli.main(["claims"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(claims.load())
    for name, line in lines.items():
        assert f": {record[name]['verdicts'][0]}" in line
    assert cli.main(["claims", "C3"]) == 0
    told = capsys.readouterr().out
    assert all(check["label"] in told for check in record["C3"]["checks"])
    assert cli.main(["claims", "C99"]) == 2
