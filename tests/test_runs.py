"""Runs: random streams of their own, the profile, the device, the stamp."""

import pytest
import torch
from scipy import stats

from tsl import runs, versions

CHAPTER = "01_the_task"


def draw(generator: torch.Generator, count: int = 2000) -> torch.Tensor:
    return torch.randn(count, generator=generator, dtype=torch.float64)


def test_a_stream_is_the_same_each_time_it_is_asked_for():
    first, second = runs.start(CHAPTER, seed=3), runs.start(CHAPTER, seed=3)
    assert torch.equal(draw(first.generator("data", 2)), draw(second.generator("data", 2)))
    assert torch.equal(draw(first.generator("data", 2)), draw(first.generator("data", 2)))


def test_streams_of_other_roles_replicas_and_seeds_are_independent():
    streams = [
        draw(run.generator(role, replica))
        for run in (runs.start(CHAPTER, seed=seed) for seed in (0, 1, 11))
        for role in ("data", "test", "data/1")
        for replica in (0, 1, 11)
    ]
    table = torch.stack(streams)
    correlation = torch.corrcoef(table) - torch.eye(len(table))
    # 351 pairs: the largest of as many correlations of 2000 independent pairs.
    assert correlation.abs().max().item() * 2000**0.5 < 4.5
    assert stats.kstest(table.flatten().numpy(), stats.norm.cdf).pvalue > 1e-4


def test_streams_do_not_touch_the_global_one():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    draw(runs.start(CHAPTER).generator("data"))
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(("profile", "value"), [("ci", 1), ("laptop", 2), ("paper", 3)])
def test_the_profile_picks_the_size(profile, value):
    assert runs.start(CHAPTER, profile=profile).pick(ci=1, laptop=2, paper=3) == value


def test_the_environment_overrides_the_profile(monkeypatch, refuses):
    monkeypatch.setenv("TSL_PROFILE", "ci")
    assert runs.start(CHAPTER, profile="paper").profile == "ci"
    monkeypatch.setenv("TSL_PROFILE", "enormous")
    with refuses("profile must be one of ci, laptop, paper, got 'enormous'"):
        runs.start(CHAPTER)


def test_the_stamp_names_all_that_a_figure_depends_on():
    run = runs.start(CHAPTER, profile="ci", seed=7)
    assert run.stamp == f"{CHAPTER} · ci · cpu · seed 7 · code {versions.code_version(CHAPTER)}"


def test_an_absent_device_is_named_with_those_that_are_there(refuses):
    absent = f"cuda:{torch.cuda.device_count()}"
    with refuses(rf"device must be one of cpu.* on this machine, got '{absent}'"):
        runs.start(CHAPTER, device=absent)
    assert runs.check_device("cpu") == torch.device("cpu")
