"""Catalogues: the four kinds of tasks with the stated spectra, and axes as far apart as asked."""

import math

import pytest
import torch
from helpers import generator

from tsl import covariance
from tsl.lab import catalogues


@pytest.mark.parametrize("frame", [catalogues.turned(0.3), catalogues.shuffled, catalogues.unrelated])
def test_catalogue_has_the_four_kinds_with_the_stated_spectra(frame):
    tasks = catalogues.catalogue(7, 3, frame, generator(), jitter=0.0)
    assert tasks.kind.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert tasks.lengths == (20, 20, 20, 100, 100, 100) * 2
    for cov, hard in zip(tasks.covs, tasks.hard.tolist(), strict=True):
        wanted = covariance.power_law(7, 0.8 if hard else 0.2, trace=7.0).diagonal().sort().values
        torch.testing.assert_close(torch.linalg.eigvalsh(cov), wanted)


def test_frames_are_orthogonal_and_ordered_by_their_distance_from_the_standard_axes():
    overlap = {}
    for name, frame in {
        "none": catalogues.turned(0.0),
        "little": catalogues.turned(0.2),
        "unrelated": catalogues.unrelated,
    }.items():
        basis = frame(15, generator(3))
        torch.testing.assert_close(basis.T @ basis, torch.eye(15, dtype=torch.float64), atol=1e-12, rtol=0)
        overlap[name] = basis.diagonal().square().mean().item()
    assert overlap["none"] == pytest.approx(1)
    assert overlap["little"] == pytest.approx(math.cos(0.2) ** 2, abs=0.02)  # the angle of a turn
    assert overlap["unrelated"] < 0.3
    shuffled = catalogues.shuffled(15, generator(1))
    assert sorted(shuffled.argmax(0).tolist()) == list(range(15))
    assert shuffled.unique().tolist() == [0, 1]


def test_masses_and_uniform_weights_account_for_everything():
    tasks = catalogues.catalogue(5, 2, catalogues.shuffled, generator())
    torch.testing.assert_close(tasks.masses(tasks.uniform()), torch.full((4,), 0.25, dtype=torch.float64))
    hard = tasks.masses(tasks.uniform(tasks.hard))
    torch.testing.assert_close(hard, torch.tensor([0, 0, 0.5, 0.5], dtype=torch.float64))
    assert tasks.only(tasks.hard).lengths == (20, 20, 100, 100)


def test_units_of_largest_eigenvalue_one_change_the_scale_and_nothing_else():
    tasks = catalogues.catalogue(5, 2, catalogues.unrelated, generator())
    unit = tasks.top_one()
    torch.testing.assert_close(torch.linalg.eigvalsh(unit.covs)[:, -1], torch.ones(8, dtype=torch.float64))
    scale = tasks.covs.diagonal(dim1=1, dim2=2).sum(1) / unit.covs.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(scale[:, None, None] * unit.covs, tasks.covs)
    assert unit.lengths == tasks.lengths


def test_a_prompt_shows_each_task_as_exactly_as_its_length_allows():
    tasks = catalogues.catalogue(5, 400, catalogues.unrelated, generator())
    gap = (tasks.seen(generator(1)).covs - tasks.covs).square().sum((1, 2))
    # E‖Σ̂ − Λ‖² = (tr(Λ²) + tr(Λ)²)/n for n Gaussian features.
    due = (tasks.covs.square().sum((1, 2)) + 25) / torch.tensor(tasks.lengths)
    long = torch.tensor(tasks.lengths) == 100
    for kind in (long, ~long):
        assert (gap[kind].mean() / due[kind].mean()).item() == pytest.approx(1, abs=0.1)


def test_catalogue_is_reproducible_and_random_only_through_its_generator():
    first, again = (catalogues.catalogue(6, 2, catalogues.unrelated, generator(5)).covs for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, catalogues.catalogue(6, 2, catalogues.unrelated, generator(6)).covs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catalogues.catalogue(0, 1, catalogues.shuffled, generator()), "d must"),
        (lambda: catalogues.catalogue(3, 0, catalogues.shuffled, generator()), "copies must"),
        (lambda: catalogues.catalogue(3, 1, catalogues.shuffled, generator(), jitter=0.5), "jitter must"),
        (lambda: catalogues.turned(-1.0), "angle must"),
    ],
)
def test_bad_input_is_named(call, message, refuses):
    with refuses(message):
        call()
