"""The record of verdicts on other seeds: how it is gathered, and that the committed ones are of this ledger."""

import json

import nbformat
import pytest

from tsl import claims, paths, versions
from tsl.press import seeds


def measured(verdict: str, as_expected: bool, *values: float) -> dict[str, object]:
    checks = [
        {
            "label": f"n{i}",
            "role": "claim",
            "measured": value,
            "interval": "",
            "predicted": "",
            "passes_if": f"≤ {i}",
            "passed": value <= i,
        }
        for i, value in enumerate(values)
    ]
    return {"verdict": verdict, "as_expected": as_expected, "checks": checks}


def test_a_record_holds_every_number_of_every_seed_and_names_the_flips():
    found = {
        0: {"C1": measured("holds", True, 0.0, 0.5), "C2": measured("holds", True, 0.0)},
        1: {"C1": measured("fails", False, 0.0, 2.5), "C2": measured("holds", True, -1.0)},
    }
    gathered = seeds.gathered(found)
    assert gathered["C1"]["verdicts"] == ["holds", "fails"]
    assert gathered["C1"]["checks"][1]["measured"] == [0.5, 2.5]
    assert gathered["C1"]["checks"][1]["passed"] == [True, False]
    assert seeds.flips({"claims": gathered}) == ["C1"]


@pytest.mark.parametrize("profile", ["ci", "laptop"])
def test_a_record_that_was_edited_is_refused(profile, tmp_path, monkeypatch, refuses):
    record = seeds.read_record(profile)
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    path = seeds.record_of(profile)

    def refused(text: str) -> None:
        paths.write_whole(path, text)
        with refuses(rf"seeds-{profile}.json must be"):
            seeds.read_record(profile)

    paths.write_whole(path, json.dumps(record))
    assert seeds.read_record(profile) == record
    altered = json.loads(json.dumps(record))
    check = altered["claims"]["C3"]["checks"][-1]
    check["measured"][1] = float(check["measured"][1]) * 1.0005  # less than any tolerance
    refused(json.dumps(altered))
    refused(json.dumps(record | {"code": {}}))
    refused(json.dumps({name: value for name, value in record.items() if name != "checksum"}))
    refused("[]")
    other = next(name for name in ("ci", "laptop") if name != profile)
    path.rename(seeds.record_of(other))
    paths.write_whole(seeds.record_of(other), json.dumps(record))
    with refuses(rf"seeds-{other}.json must be"):
        seeds.read_record(other)  # the other profile's, copied
    path.unlink(missing_ok=True)
    with refuses(rf"seeds-{profile}.json must be a record"):
        seeds.read_record(profile)


def test_checks_that_differ_from_seed_to_seed_are_refused():
    with pytest.raises(ValueError, match="zip"):
        seeds.gathered(
            {0: {"C1": measured("holds", True, 0.0)}, 1: {"C1": measured("holds", True, 0.0, 1.0)}}
        )


@pytest.mark.parametrize(("profile", "least"), [("ci", 5), ("laptop", 3)])
def test_no_verdict_of_the_ledger_hangs_on_a_seed(profile, least):
    record = json.loads(seeds.record_of(profile).read_text(encoding="utf-8"))
    ledger = claims.load()
    assert list(record["claims"]) == list(ledger)
    assert seeds.flips(record) == []
    for name, claim in ledger.items():
        verdicts = record["claims"][name]["verdicts"]
        assert len(verdicts) >= least
        assert set(verdicts) == {str(claim.expected)}


def test_the_laptop_record_is_of_the_checks_that_the_book_shows():
    record = json.loads(seeds.record_of("laptop").read_text(encoding="utf-8"))
    shown = claims.collect(
        nbformat.read(paths.NOTEBOOKS / f"{source.stem}.ipynb", as_version=4)
        for source in versions.chapters()
    )
    for name, found in record["claims"].items():
        first = [(check["label"], check["measured"][0], check["passed"][0]) for check in found["checks"]]
        assert first == [(c["label"], c["measured"], c["passed"]) for c in shown[name]["checks"]], name
