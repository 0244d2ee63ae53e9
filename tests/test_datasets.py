"""Real feature matrices: what they are, what scaling and departures do to them, and how prompts are drawn."""

import math

import pytest
import torch
from helpers import generator
from hypothesis import given
from hypothesis import strategies as st

from tsl import covariance, errors, laws, theory
from tsl.lab import datasets
from tsl.prompts import sample_moments, sample_prompts

SHAPES = {
    "iris": (150, 4),
    "wine": (178, 13),
    "diabetes": (442, 10),
    "cancer": (569, 30),
    "stocks": (104, 6),
    "patches": (33_920, 16),
    "gapminder": (1704, 3),
    "digits": (1797, 64),
}


def second(x):
    return x.mT @ x / len(x)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_a_set_is_whole_and_its_groups_cover_it(name):
    data = datasets.dataset(name)
    assert tuple(data.x.shape) == SHAPES[name]
    assert data.x.dtype == torch.float64
    assert torch.isfinite(data.x).all()
    assert data.groups.shape == (len(data.x),)
    assert sum(len(data.group(group)) for group in data.group_names) == len(data.x)
    assert all(len(data.group(group)) > 1 for group in data.group_names)


def test_known_values_of_the_data():
    iris, digits = datasets.dataset("iris"), datasets.dataset("digits")
    assert iris.x[0].tolist() == [5.1, 3.5, 1.4, 0.2]
    assert len(iris.group("setosa")) == 50
    assert (digits.x.std(0) == 0).sum().item() == 3
    assert digits.x.max().item() == 16
    china = datasets.dataset("gapminder").x[:, 1].max().item()
    assert china == pytest.approx(1.3187e9, rel=1e-3)
    cancer = datasets.dataset("cancer")
    sizes = {group: len(cancer.group(group)) for group in cancer.group_names}
    assert sizes == {"malignant": 212, "benign": 357}


def test_patches_are_tiles_of_the_picture():
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("flower.jpg").mean(axis=2)
    tile = datasets.dataset("patches").group("flower")[161]  # 160 tiles a row: the second of the second row
    assert tile.tolist() == pytest.approx(grey[4:8, 4:8].ravel().tolist())


@pytest.mark.parametrize("name", datasets.NAMES)
def test_standardised_features_have_mean_zero_and_unit_variance(name):
    x = laws.standardise(datasets.dataset(name).x)
    assert x.mean(0).abs().max().item() < 1e-9
    variance = x.square().mean(0)
    assert ((variance - 1).abs() < 1e-9).logical_or(variance == 0).all()


def test_standardising_by_training_rows_leaves_the_shift_in_the_test_rows():
    data = datasets.dataset("cancer")
    train, test = data.group("benign"), data.group("malignant")
    assert laws.standardise(train, train).mean(0).abs().max().item() < 1e-9
    assert laws.standardise(test, train).mean(0).max().item() > 1


def test_unit_range_fills_the_unit_interval():
    x = laws.unit_range(datasets.dataset("digits").x)
    low, high = x.aminmax(dim=0)
    assert (low == 0).all()
    assert ((high == 1) | (high == 0)).all()
    assert (high == 0).sum().item() == 3


def test_compress_drops_the_pixels_that_are_never_inked_and_changes_nothing_else():
    x = laws.standardise(datasets.dataset("digits").x)
    reduced = datasets.compress(x)
    assert reduced.shape == (1797, 61)
    torch.testing.assert_close(reduced @ reduced.mT, x @ x.mT)  # all inner products, hence all labels
    assert math.isinf(covariance.hardness(second(x)))
    assert math.isfinite(covariance.hardness(second(reduced)))


def test_a_direction_that_no_row_has_costs_one_at_every_step_and_nothing_else():
    x = laws.standardise(datasets.dataset("digits").x)
    gram = sample_moments(laws.rows(x), 200, 3, generator=generator()).gram
    axes = datasets.principal_axes(x)
    whole = errors.propagated_error(gram, theory.gamma(second(x), 200), 3)
    reduced = errors.propagated_error(axes.mT @ gram @ axes, axes.mT @ theory.gamma(second(x), 200) @ axes, 3)
    torch.testing.assert_close(whole, reduced + 3)


def test_compress_to_a_rank_keeps_the_strongest_directions():
    x = laws.standardise(datasets.dataset("wine").x)
    kept = second(datasets.compress(x, 5))
    spectrum = torch.linalg.eigvalsh(second(x)).flip(0)
    torch.testing.assert_close(kept, torch.diag(spectrum[:5]), atol=1e-9, rtol=0)


def test_shuffled_columns_keep_the_marginals_and_lose_the_correlation():
    x = laws.standardise(datasets.dataset("cancer").x)
    mixed = datasets.shuffle_columns(x, generator())
    torch.testing.assert_close(mixed.sort(0).values, x.sort(0).values)
    off = second(mixed) - torch.eye(30)
    assert off.abs().max().item() < 0.25 < (second(x) - torch.eye(30)).abs().max().item()


@given(blocks=st.integers(1, 4), size=st.integers(2, 5), correlation=st.floats(0, 0.99))
def test_hardness_of_blocks(blocks, size, correlation):
    cov = datasets.block_covariance(blocks, size, correlation)
    assert covariance.hardness(cov) == pytest.approx(blocks * size / (1 - correlation))


def test_heavy_tails_leave_the_covariance_and_raise_the_fourth_moment():
    cov = datasets.block_covariance(2, 3, 0.5)
    light, heavy = (laws.student(cov, dof).draw(1, 200_000, generator(1))[0] for dof in (math.inf, 6.0))
    for x in (light, heavy):
        assert (second(x) - cov).abs().max().item() < 0.03
    assert light.pow(4).mean().item() == pytest.approx(3, rel=0.02)
    assert heavy.pow(4).mean().item() == pytest.approx(6, rel=0.25)  # 3 (ν − 2)/(ν − 4)


def test_prompts_are_rows_with_labels_of_their_weights():
    x = datasets.dataset("wine").x
    prompts = sample_prompts(laws.rows(x), 7, 5, generator=generator())
    known = {tuple(row) for row in x.tolist()}
    assert all(tuple(row) in known for row in prompts.x.flatten(0, 1).tolist())
    torch.testing.assert_close(prompts.y, torch.einsum("bnd,bd->bn", prompts.x, prompts.w))
    noisy = sample_prompts(laws.rows(x), 200, 50, noise=0.5, generator=generator())
    gap = noisy.y - torch.einsum("bnd,bd->bn", noisy.x, noisy.w)
    assert gap.std().item() == pytest.approx(0.5, rel=0.05)


def test_prompts_depend_on_the_generator_alone():
    x = datasets.dataset("iris").x
    torch.manual_seed(1)
    one = sample_prompts(laws.rows(x), 3, 4, generator=generator(5))
    torch.manual_seed(2)
    two = sample_prompts(laws.rows(x), 3, 4, generator=generator(5))
    assert torch.equal(one.x, two.x)
    assert not torch.equal(one.x, sample_prompts(laws.rows(x), 3, 4, generator=generator(6)).x)


def test_moments_match_the_exact_mean_of_the_square():
    """Σ̂² averaged over prompts tests rows, replacement and normalisation at once; chunks join seamlessly."""
    x = laws.standardise(datasets.dataset("iris").x)
    moments = sample_moments(laws.rows(x), 6, 40_000, generator=generator())
    exact = theory.second_moment(laws.rows(x), 6)
    squares = moments.gram @ moments.gram
    error = (squares.mean(0) - exact) / (squares.std(0) / len(squares) ** 0.5)
    assert error.abs().max().item() < 5
    torch.testing.assert_close(moments.cross, torch.einsum("bij,bj->bi", moments.gram, moments.w))


def test_moments_in_chunks_are_all_different():
    x = laws.standardise(datasets.dataset("digits").x)
    moments = sample_moments(laws.rows(x), 2000, 70, generator=generator())  # 31 prompts a chunk
    assert moments.gram.shape == (70, 64, 64)
    assert len(torch.unique(moments.gram.diagonal(dim1=1, dim2=2)[:, 20])) == 70


def test_every_bad_argument_is_named(refuses):
    x = datasets.dataset("iris").x
    cases = [
        ("name must be one of iris", lambda: datasets.dataset("mnist")),
        ("name must be one of setosa", lambda: datasets.dataset("iris").group("rose")),
        ("x must be finite", lambda: laws.standardise(torch.full((3, 2), math.nan))),
        ("x and reference", lambda: laws.standardise(x, x[:, :2])),
        ("x must be a feature matrix", lambda: laws.unit_range(x[:0])),
        (
            "x must be a tensor",
            lambda: laws.standardise(torch.ones(3, 2) > 0),
        ),
        ("generator must be", lambda: datasets.shuffle_columns(x, None)),
        ("rank must be between 1 and the rank 4", lambda: datasets.compress(x, 5)),
        ("x must vary", lambda: datasets.principal_axes(torch.zeros(3, 2))),
        ("correlation", lambda: datasets.block_covariance(2, 2, 1.0)),
        ("blocks", lambda: datasets.block_covariance(0, 2, 0.5)),
        ("n must be", lambda: sample_prompts(laws.rows(x), 0, 2)),
        ("size", lambda: sample_prompts(laws.rows(x), 2, 0)),
        ("noise", lambda: sample_prompts(laws.rows(x), 2, 2, noise=-1.0)),
        ("m must be", lambda: sample_moments(laws.rows(x), 0, 2)),
    ]
    for message, call in cases:
        with refuses(message):
            call()


@pytest.mark.parametrize("value", [0.3, 0.1, 1 / 3, 7.7, 123.456])
@pytest.mark.parametrize("rows", [7, 1000, 1797])
def test_a_feature_that_does_not_vary_is_only_centred(value: float, rows: int) -> None:
    """The mean of equal numbers is not exactly their value: what rounding leaves is no variance."""
    x = torch.stack([torch.full((rows,), value), torch.linspace(0, 1, rows)], 1).double()
    assert laws.standardise(x)[:, 0].abs().max() < 1e-12 * value * rows
    torch.testing.assert_close(laws.standardise(x)[:, 1].std(correction=0).item(), 1.0)
    assert laws.unit_range(x)[:, 0].abs().max() == 0
