"""The figure of the first page: one model thinks about two kinds of test, once to its good and once to its harm."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib import rc_context

from tsl import cot, covariance, errors, exact, figures, theory

# Few steps, because the exact mean costs ten times as much with each more.
DIMENSION, TRAINING, TESTING, STEPS, PROMPTS = 10, 20, 200, 5, 4000


@cache
def chains() -> dict[str, tuple[Any, Any]]:
    """Errors of one model on what it was trained on and on what training lacked: (sampled prompts, exact means)."""
    trained = covariance.power_law(DIMENSION, 1.0)
    gamma = theory.gamma(trained, TRAINING)
    tests = {"helps": trained, "hurts": torch.eye(DIMENSION, dtype=torch.float64)}
    found = {}
    for role, (name, test) in enumerate(tests.items()):
        stream = torch.Generator().manual_seed(role)
        sampled = cot.sampled_errors(gamma, test, TESTING, STEPS, PROMPTS, generator=stream)
        found[name] = sampled, exact.expected_error(gamma, test, TESTING, STEPS)
    return found


def draw(ax: Any, found: dict[str, tuple[Any, Any]], size: float, phone: bool = False) -> None:
    """Both chains in one panel: points with intervals are measured means, the dashed line is the prediction."""
    turn = "\n" if phone else " "
    words = {
        "helps": f"tested on what{turn}it was trained on:\nthinking helps",
        "hurts": f"tested on what{turn}training lacked:\nthinking hurts",
    }
    steps = range(STEPS + 1)
    for color, (name, (sampled, mean)) in zip(
        (figures.COLORS[0], figures.COLORS[3]), found.items(), strict=True
    ):
        figures.points(ax, list(steps), *errors.mean_interval(sampled), color=color)
        figures.theory(ax, list(steps), mean)
        x, y = (2.8, 1.5e4) if name == "hurts" else (5.1, 1.6)
        ax.text(x, y, words[name], ha="right", va="center", color=color, fontsize=size, fontweight="bold")
    ax.plot([], [], "o", color=figures.GREY, label="measured")
    figures.theory(ax, [], [], label="predicted")
    ax.legend(loc="lower left", fontsize=size)
    ax.set(
        yscale="log", xlabel=figures.STEPS, ylabel="mean squared error", ylim=(0.01, 3e6), xticks=list(steps)
    )


def save(place: Path, title: str, subtitle: str) -> None:
    """Write the figure and the card that other sites show for a link to the book into a folder."""
    found = chains()
    with rc_context({"svg.hashsalt": "tsl", "svg.fonttype": "path"}):
        for name, height, width in (("chains", 3.1, 6.9), ("chains-phone", 3.6, 3.9)):
            figure, ax = figures.new(height=height, width=width)
            draw(ax, found, 10, phone=name.endswith("phone"))
            figure.savefig(place / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)
        card, ax = figures.new(height=6.3, width=12)
        card.set_layout_engine("none")
        ax.set_position((0.47, 0.15, 0.49, 0.72))
        draw(ax, found, 12.5)
        lines = title.replace(" teaches ", "\nteaches ").replace(" to think", "\nto think")
        card.text(
            0.05, 0.83, lines, fontsize=30, fontweight="bold", va="top", linespacing=1.25, color=figures.INK
        )
        card.text(
            0.05, 0.46, subtitle.replace(", ", ",\n"), fontsize=18, va="top", linespacing=1.4, color="#444444"
        )
        card.text(
            0.05,
            0.12,
            "An executable book:\nprediction and measurement in one figure",
            fontsize=13,
            color="#444444",
        )
        card.savefig(place / "card.png", dpi=100, metadata={"Software": None})
    plt.close(card)
