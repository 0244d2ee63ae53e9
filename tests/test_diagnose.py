"""`tsl diagnose`: one command from a log to outcomes; what is wrong with a log ends with a message and nothing written."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsl import advice, cli, logs
from tsl.press import reports


def log() -> pd.DataFrame:
    """Two models, one of which gains much; grades A, B, C; tokens; a grouping."""
    draws = np.random.default_rng(0)
    parts = []
    for model, gain in (("big <1>", 0.3), ("small & old", 0.0)):
        for rank, level in enumerate(("no_think", "budget512", "budget2048")):
            right = draws.random(80) < 0.4 + gain * rank / 2
            skipped = draws.random(80) < 0.3
            rows = {"Model": model, "dataset": "quiz", "budget": level, "id": np.arange(80)}
            grades = np.where(right, "A", np.where(skipped, "C", "B"))
            parts.append(
                pd.DataFrame(rows | {"grade": grades, "output_tokens": 50 + 400 * rank, "kind": "x"})
            )
    return pd.concat(parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log().to_csv(tmp_path / "log.csv.gz", index=False)
    return tmp_path / "log.csv.gz"


def test_one_command_tells_writes_and_agrees_with_the_package(path, tmp_path, capsys):
    made = [tmp_path / name for name in ("report.html", "report.json")]
    assert cli.main(["diagnose", str(path), "--html", str(made[0]), "--json", str(made[1])]) == 0
    told = capsys.readouterr().out
    assert "question = id, level = budget, correct = grade" in told
    assert "big <1> on quiz: 80 questions" in told
    found = json.loads(made[1].read_text())
    assert found == advice.budget_helps(logs.understand(log())).to_dict()
    assert set(found) == {"comparisons", "warnings"}
    assert [c["outcome"] for c in found["comparisons"]][2::3] == ["helps", "undecided"]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("log.csv", lambda t, p: t.to_csv(p, index=False)),
        ("log.tsv", lambda t, p: t.to_csv(p, index=False, sep="\t")),
        ("log.jsonl", lambda t, p: t.to_json(p, orient="records", lines=True)),
        ("log.jsonl.gz", lambda t, p: t.to_json(p, orient="records", lines=True)),
        ("log.parquet", lambda t, p: t.to_parquet(p)),
    ],
)
def test_every_kind_of_file_says_the_same(path, tmp_path, name, write):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write(log().reset_index(drop=True), tmp_path / name)
    texts = []
    for source in (path, tmp_path / name):
        assert cli.main(["diagnose", str(source), "--json", str(tmp_path / "out.json")]) == 0
        texts.append((tmp_path / "out.json").read_text())
    assert texts[0] == texts[1]


def test_columns_order_and_groups_are_taken_from_the_command_line(tmp_path, capsys):
    rows = log().rename(columns={"id": "nummer"})
    rows["budget"] = rows["budget"].map({"no_think": "a", "budget512": "b", "budget2048": "c"})
    rows.to_csv(tmp_path / "log.csv", index=False)
    options = ["--column", "question=nummer", "--order", "c,b,a", "--group", "kind"]
    assert cli.main(["diagnose", str(tmp_path / "log.csv"), *options]) == 0
    told = capsys.readouterr().out
    assert "c → a: hurts" in told
    assert "quiz [kind x]" in told
    assert cli.main(["diagnose", str(tmp_path / "log.csv"), "--column", "question=nummer"]) == 0
    assert "cannot be guessed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "cannot be read"),
        ("question,level,correct\n", [], "empty table"),
        ("question,level\n1,low\n", [], "no column for correct"),
        ("a,b\n1,2\n", [], "no column for question .*level .*correct .*its columns: a, b"),
        ("question,level,correct\n1,low,maybe\n", [], "got 'maybe'"),
        ("question,level,correct\n1,low,1\n", ["--column", "question"], "no column ''"),
        ("question,level,correct\n1,low,1\n", ["--group", "kind"], "no column 'kind'"),
        ("question,level,correct\n1,low,1\n", ["--confidence", "2"], "confidence must lie"),
        (None, [], "cannot be read"),
    ],
)
def test_a_bad_log_ends_with_a_message_and_nothing_written(tmp_path, capsys, content, options, message):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    before = sorted(tmp_path.iterdir())
    outputs = ["--html", str(tmp_path / "a.html"), "--json", str(tmp_path / "b.json")]
    assert cli.main(["diagnose", str(path), *options, *outputs]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert sorted(tmp_path.iterdir()) == before


def page() -> str:
    return reports.budget_page(advice.budget_helps(logs.understand(log())).details(), "my <log>.csv")


def test_the_page_escapes_names_and_names_every_comparison():
    text = page()
    assert "big &lt;1&gt; on quiz" in text
    assert "my &lt;log&gt;.csv" in text
    assert "<1>" not in text
    assert text.count('class="helps"') >= 2
    assert "small &amp; old" in text
    assert text.count("<svg") == 4
    assert not re.search(r"https?:|@import|<script|<link[^>]*stylesheet", text)


def test_the_page_fits_a_phone_in_light_and_dark_and_asks_for_nothing(tmp_path, browser):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    papers = set()
    for scheme in ("light", "dark"):
        view = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        asked: list[str] = []
        view.on("request", lambda request, asked=asked: asked.append(request.url))
        view.goto((tmp_path / "page.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
        heights = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        assert min(view.evaluate(heights)) > 10
        assert len([url for url in asked if not url.startswith("data:")]) == 1
        papers.add(view.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
