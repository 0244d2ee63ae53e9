"""Figures: predictions are told from measurements, bands are what they say, and every figure carries its stamp."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tsl import figures, runs


@pytest.fixture
def run() -> runs.Run:
    return runs.start("01_the_task", profile="ci")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_finish_stamps_the_figure_once_and_hands_it_out_closed(run):
    fig, ax = figures.new()
    figures.theory(ax, [0, 1], [1, 2], label="theory")
    assert plt.fignum_exists(fig.number)
    assert figures.finish(fig, run) is fig
    assert not plt.fignum_exists(fig.number)  # or a notebook would show it twice
    texts = [text.get_text() for text in fig.findobj(mpl.text.Text)]
    assert texts.count(run.stamp) == 1


def test_the_stamp_covers_no_label(run):
    fig, axes = figures.new(cols=2, height=2.0)
    for ax in axes:
        ax.set(xlabel="steps of thinking $k$", ylabel="error")
    figures.finish(fig, run)
    renderer = FigureCanvasAgg(fig).get_renderer()
    (stamp,) = [text for text in fig.findobj(mpl.text.Text) if text.get_text() == run.stamp]
    box = stamp.get_window_extent(renderer)
    assert fig.bbox.x0 <= box.x0
    assert box.x1 <= fig.bbox.x1
    for ax in axes:
        assert not box.overlaps(ax.xaxis.label.get_window_extent(renderer))


@pytest.mark.parametrize(("cols", "rows", "width"), [(1, 1, 5.6), (2, 1, 7.6), (3, 2, 7.6)])
def test_panels_share_the_width_of_the_page(cols, rows, width):
    fig, axes = figures.new(cols=cols, rows=rows, height=2.5)
    assert tuple(fig.get_size_inches()) == (width, 2.5 * rows)
    assert np.size(axes) == cols * rows


def test_predictions_are_dashed_and_above_measurements():
    _, ax = figures.new()
    figures.band(ax, [1, 2], [1, 2], [0.5, 1.5], [1.5, 2.5], label="measured")
    figures.theory(ax, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), label="predicted")
    measured, predicted = ax.lines
    assert predicted.get_linestyle() == "--"
    assert measured.get_linestyle() == "-"
    assert predicted.get_zorder() > measured.get_zorder()
    assert predicted.get_color() == figures.INK
    assert [text.get_text() for text in ax.legend().get_texts()] == ["measured", "predicted"]


def test_a_band_spans_its_interval_in_the_colour_of_its_line():
    _, ax = figures.new()
    low, high = np.array([0.5, 1.0, 1.5]), np.array([1.5, 3.0, 4.5])
    figures.band(ax, [1, 2, 3], (low + high) / 2, low, high, color=figures.COLORS[2])
    (patch,) = ax.collections
    corners = patch.get_paths()[0].vertices
    for x, bottom, top in zip([1, 2, 3], low, high, strict=True):
        heights = corners[corners[:, 0] == x, 1]
        assert (heights.min(), heights.max()) == (bottom, top)
    assert mpl.colors.to_hex(patch.get_facecolor()[0]) == mpl.colors.to_hex(ax.lines[0].get_color())


def test_error_bars_end_where_the_intervals_end():
    _, ax = figures.new()
    figures.points(ax, [1.0, 2.0], [3.0, 4.0], [2.5, 3.0], [5.0, 4.5])
    (bars,) = ax.collections
    assert [[tuple(p) for p in s] for s in bars.get_segments()] == [[(1, 2.5), (1, 5)], [(2, 3), (2, 4.5)]]


def test_a_quantile_band_holds_its_share_of_the_samples():
    samples = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, ax = figures.new()
    figures.quantile_band(ax, [1, 2, 3], samples)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), samples.median(0).values, atol=1e-2)
    corners = ax.collections[0].get_paths()[0].vertices
    for column in range(3):
        heights = corners[corners[:, 0] == column + 1, 1]
        inside = (
            ((samples[:, column] >= heights.min()) & (samples[:, column] <= heights.max())).double().mean()
        )
        assert inside.item() == pytest.approx(0.8, abs=0.002)


def test_quantile_points_have_bars_over_the_middle_of_the_samples():
    _, ax = figures.new()
    samples = np.random.default_rng(0).standard_normal((1001, 3))
    figures.quantile_points(ax, range(3), samples, quantiles=(0.25, 0.75))
    line, _, (bars,) = ax.containers[0].lines
    np.testing.assert_allclose(line.get_ydata(), np.median(samples, axis=0))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    inside = (samples >= ends[:, 0]) & (samples <= ends[:, 1])
    np.testing.assert_allclose(inside.mean(0), 0.5, atol=0.002)
    with pytest.raises(ValueError, match="two rising numbers"):
        figures.quantile_points(ax, range(3), samples, quantiles=(0.9, 0.1))


def test_a_figure_looks_the_same_whatever_the_settings_of_a_person(run):
    def drawn() -> str:
        fig, ax = figures.new()
        ax.plot([0, 1], [0, 1])
        ax.imshow(np.eye(2))
        return figures.finish(fig, run).bundle()["image/svg+xml"]

    plain = drawn()
    with mpl.rc_context(
        {"lines.linewidth": 9, "font.family": "serif", "image.cmap": "hot", "axes.grid": False}
    ):
        assert drawn() == plain


def test_colours_differ_from_each_other_and_from_the_ink_of_predictions():
    assert len({*figures.COLORS, figures.INK}) == len(figures.COLORS) + 1
