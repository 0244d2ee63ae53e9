"""The table of speeds in the book is one that the command made, and its peers do the same work."""

import importlib
import re

import torch

from tsl import cot, covariance, lsa, theory

speed, batch, lsa_cot = (
    importlib.import_module(f"benchmarks.{name}") for name in ("__main__", "batch", "lsa_cot")
)


def test_peers_compute_what_ours_computes():
    cov = covariance.power_law(lsa_cot.D, 1.0)
    gamma = theory.gamma(cov, lsa_cot.TRAIN)
    model = lsa.LinearSelfAttention.from_theory(cov, lsa_cot.TRAIN)
    some = speed.draw(30, 4)
    ours = cot.pseudo_newton(some.moments(), gamma, 5)
    torch.testing.assert_close(lsa_cot.literal(model, some, 5), ours)
    torch.testing.assert_close(model.think(some, 5), ours)


def test_batches_of_settings_agree_on_average():
    ours, peer = (run(40, 3).mean(1) for run in (batch.batched, batch.by_setting))
    assert ours.shape == peer.shape
    assert ((ours / peer).log().abs().mean(0) < 0.2).all()


def test_the_page_shows_a_table_of_this_command():
    page = speed.PAGE.read_text(encoding="utf-8")
    table = page.partition(speed.START)[2].partition(speed.END)[0]
    assert re.search(r"one thread, torch [\d.]+\S*, \d+ runs?, \d\d \w+ \d{4}:", table)
    source = (speed.PAGE.parents[1] / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
    names = re.findall(r"^\| (?!What|---)(.+?) \|", table, re.MULTILINE)
    assert len(names) >= 14
    assert all(name.split(",")[0].partition(" over ")[0] in source for name in names if "memory" not in name)


def test_numbers_of_the_table_are_short():
    assert [speed.number(v) for v in (1064.4, 19.96, 0.994, 0.031, 136.2)] == [
        "1064",
        "20",
        "0.99",
        "0.03",
        "136",
    ]
