"""``{explorable} NAME``: something to try on a page, with a figure or table in its place on paper and without scripts.

``{explorables}`` lists those of the book, with links. A page that has one loads ``_static/explorables.js`` and
``_static/explorable-NAME.js``, other pages load neither. What stands for it is made here from `tsl`, so it needs no browser.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from docutils import nodes
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from tsl import advice, cot, covariance, errors, exact, figures, lsa, prompts, stopping, theory

KIND: dict[str, Any] = {"dtype": torch.float64}


class Explorable(NamedTuple):
    """What a page says of an explorable: its title, what to do with it, what its static stand-in shows, and how that is made."""

    title: str
    todo: str
    caption: str
    still: Callable[[], str]


def _image(figure: Any, alt: str) -> str:
    """A figure as an image inside of the page."""
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "explorable"}), io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        data = base64.b64encode(file.getvalue()).decode()
    plt.close(figure)
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def _thought() -> str:
    """Three chains in the plane: converging, zigzagging, exploding."""
    test, w = torch.diag(torch.tensor([1.0, 0.3], **KIND)), torch.tensor([[1.2, 1.0]], **KIND)
    trained = {
        "it converges": ([1.0, 0.3], 8),
        "it zigzags": ([0.6, 0.2], 5),
        "it explodes": ([0.3, 1.0], 4),
    }
    figure, axes = figures.new(cols=3, height=2.7, width=8.4, sharey=True)
    turn = torch.linspace(0, 2 * math.pi, 100, **KIND)
    circle = torch.stack([turn.cos(), turn.sin() / 0.3**0.5])
    for ax, (title, (spectrum, steps)) in zip(axes, trained.items(), strict=True):
        gamma = theory.gamma(torch.diag(torch.tensor(spectrum, **KIND)), 50)
        chain = cot.pseudo_newton(prompts.Moments(test[None], w @ test, w), gamma, steps)[0]
        for level in (0.4, 0.9, 1.6, 2.6):
            ax.plot(*(w.mT + level * circle), color="#cccccc", linewidth=0.8)
        ax.plot(*chain.mT, "o-", color=figures.COLORS[3 if "explodes" in title else 0], linewidth=1.2)
        ax.plot(*w.mT, "*", color=figures.INK, markersize=10)
        ax.set(xlim=(-2.6, 4.2), ylim=(-1.4, 3.4), title=title, xlabel="first weight")
    axes[0].set_ylabel("second weight")
    return _image(
        figure, "Three chains of answers in the plane: one reaches the star, one overshoots, one leaves."
    )


def _phase() -> str:
    """The phase diagram with a point in each phase, and the errors there."""
    d, steps = 20, 20
    points = {"converges": (200, 40), "saturates": (12, 7), "overthinks": (40, 200)}
    figure, (left, right) = figures.new(cols=2, height=3.0)
    across = torch.logspace(math.log10(0.05), math.log10(3.6), 100, **KIND)
    border = ((1 + across.sqrt()) ** 2 / 2 - 1) / (1 + 1 / d)
    left.fill_between(across, border.clamp(min=0.05), 0.05, color="#f7d9d3")
    left.fill_between(across, border.clamp(min=0.05), 7.2, where=across > 1, color="#d6e6f5")
    figures.theory(left, across[border > 0.05], border[border > 0.05])
    for color, (name, (m, n)) in zip(figures.COLORS, points.items(), strict=False):
        g = theory.gamma(torch.eye(d, **KIND), n)[0, 0].item()
        left.plot(d / m, d / n, "o", color=color)
        left.annotate(name, (d / m, d / n), (5, 5), textcoords="offset points", fontsize=9)
        figures.theory(right, range(steps + 1), exact.isotropic_error(d, m, g, steps), name, color)
        law = [theory.cot_error_bound(torch.eye(d, **KIND), n, k) for k in range(steps + 1)]
        figures.bound(right, range(steps + 1), law, color=color)
    left.set(xscale="log", yscale="log", xlim=(0.05, 3.6), ylim=(0.05, 7.2), xlabel="$d/m$", ylabel="$d/n$")
    right.set(yscale="log", ylim=(1e-6, 1e6), xlabel=figures.STEPS, ylabel=figures.ERROR)
    right.legend(loc="upper left")
    return _image(
        figure, "A phase diagram with three points, and the exact mean error at each against steps."
    )


def _spectra() -> str:
    """Factors of a thought and errors for three pairs of spectra."""
    d, n, steps = 10, 30, 20
    pairs = {"α = β = 1": (1.0, 1.0), "α = 1, β = 0": (1.0, 0.0), "α = 0, β = 1": (0.0, 1.0)}
    figure, (left, right) = figures.new(cols=2, height=3.0)
    for shift, color, (name, (alpha, beta)) in zip(
        (-0.27, 0, 0.27), figures.COLORS, pairs.items(), strict=False
    ):
        gamma, test = theory.gamma(covariance.power_law(d, alpha), n), covariance.power_law(d, beta)
        sizes = (1 - test.diagonal() / gamma.diagonal()).abs()
        left.bar((torch.arange(1, d + 1) + shift).numpy(), sizes.numpy(), 0.27, color=color)
        limit = [theory.cot_error_limit(gamma, test, k) for k in range(steps + 1)]
        figures.limit(right, range(steps + 1), limit, name, color)
    figures.limit(left, (0.5, d + 0.5), (1.0, 1.0))
    left.set(xlabel="direction $i$", ylabel="$|1 - \\sigma_i/\\gamma_i|$", xticks=range(1, d + 1))
    right.set(yscale="log", ylim=(1e-3, 1e6), xlabel=figures.STEPS, ylabel=figures.ERROR)
    right.legend(loc="upper left")
    return _image(
        figure, "Factors of a thought by direction, and errors against steps, for three pairs of spectra."
    )


def _stop() -> str:
    """A chain about a noisy prompt: its error, and the held-out error that the rule sees."""
    d, n, m, steps, noise = 5, 10, 20, 20, 2.0
    white = torch.eye(d, **KIND)
    batch = prompts.sample_prompts(white, m, 1, noise, torch.Generator().manual_seed(6))
    model = lsa.LinearSelfAttention.from_gamma(theory.gamma(white, n, noise))
    error = errors.squared_error(cot.chain_of_thought(model, batch, steps), batch.w)[0]
    score = stopping.held_out_error(model, batch, steps)
    rule, best = int(stopping.first_turn(score, 2)), int(error.argmin())
    figure, axes = figures.new(cols=2, height=2.8)
    for ax, values, name in zip(
        axes, (error, score[0]), (figures.ERROR, "held-out error of labels"), strict=True
    ):
        ax.plot(range(steps + 1), values, ".-")
        ax.plot(rule, values[rule], "s", color=figures.COLORS[3], label="the rule stops", markersize=7)
        ax.set(xlabel=figures.STEPS, ylabel=name, yscale="log")
    axes[0].plot(best, error[best], "o", color=figures.COLORS[2], label="the oracle stops", markersize=7)
    axes[0].legend()
    return _image(
        figure,
        "Error of a chain and its held-out error against steps, with the steps of the rule and of the oracle.",
    )


def _log() -> str:
    """The report on a small log, as a table."""
    rows = []
    for question in range(40):
        for level, right in (
            ("low", question < 18),
            ("medium", 2 <= question < 34),
            ("high", 3 <= question < 35),
        ):
            rows.append({"question": question, "level": level, "correct": int(right)})
    head = ("Levels", "Difference, interval", "Outcome", "Gained", "Lost", "Right")
    lines = [
        (
            f"{c.source} → {c.target}",
            f"{c.right_to - c.right_from:+.1%} ({c.low:+.1%} to {c.high:+.1%})",
            c.outcome,
            c.gained,
            c.lost,
            f"{c.right_from:.1%} → {c.right_to:.1%} of {c.questions}",
        )
        for c in advice.budget_helps(pd.DataFrame(rows)).comparisons
    ]
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>" for line in lines
    )
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    wide = '<div class="tsl-exp-wide" tabindex="0" role="region" aria-label="Comparisons">'
    table = f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody>"
    return f'{wide}<table class="tsl-claim-table">{table}</table></div>'


def _mix() -> str:
    """Ellipses of two shares of a second task, and the errors on it."""
    steps, n = 12, 100
    tasks = [torch.diag(torch.tensor(spectrum, **KIND)) for spectrum in ([1.0, 0.1], [0.1, 1.0])]
    turn = torch.linspace(0, 2 * math.pi, 100, **KIND)
    circle = torch.stack([turn.cos(), turn.sin()])
    figure, axes = figures.new(cols=3, height=2.9, width=8.4)
    for ax, share in zip(axes, (0.0, 0.1), strict=False):
        gamma = theory.gamma_mixture(tasks, [1 - share, share], [n, n])
        ax.plot(*(tasks[1].sqrt() @ circle), color=figures.COLORS[3], label="Σ of the test")
        figures.theory(ax, *((2 * gamma).clamp(min=0).sqrt() @ circle), label="2Γ")
        ax.set(title=f"share π = {share}", aspect="equal", xlim=(-1.7, 1.7), ylim=(-1.7, 1.7))
        limit = [theory.cot_error_limit(gamma, tasks[1], k) for k in range(steps + 1)]
        figures.limit(
            axes[2], range(steps + 1), limit, f"π = {share}", figures.COLORS[3 if share == 0 else 0]
        )
    axes[0].legend(loc="upper right")
    axes[2].set(yscale="log", xlabel=figures.STEPS, ylabel=figures.ERROR)
    axes[2].legend()
    return _image(
        figure,
        "Ellipses of the test and of twice Gamma without and with a tenth of the second task, and the errors.",
    )


EXPLORABLES = {
    "thought": Explorable(
        "A thought in two dimensions",
        "Drag w*, turn the training data, shorten the prompt: the chain of answers converges, zigzags or "
        "explodes, and one eigenvalue of Γ⁻¹Σ̂ decides.",
        "Chains of answers on the contours of the loss; the star is w*. Training on what is tested (left) converges; on weaker "
        "features (middle) it oversteps and still arrives; on other directions (right) it leaves.",
        _thought,
    ),
    "phase": Explorable(
        "The phase diagram as a controller",
        "Click a pair (d/m, d/n): the spectrum against 2g, and how far median, exact mean and scaling law part.",
        "Left: the phases for d = 20, with their boundary (dashed) and a point in each. Right: the exact mean error there "
        "(dashed) and the scaling law (dotted; below 10⁻⁶ cut off), which ignores m and falls far below.",
        _phase,
    ),
    "spectra": Explorable(
        "Training and test spectra",
        "Two spectra, n, m and k: thinking buys the faint directions, or blows up those that training hardly "
        "showed.",
        "Training eigenvalues 1/i^α, test eigenvalues 1/i^β, n = 30, an endless test prompt. Where training hardly showed "
        "what the test asks for (α = 1, β = 0), bars stand above 1 and the error grows; the other way round is slow and safe.",
        _spectra,
    ),
    "stop": Explorable(
        "When to stop",
        "Noise, a short prompt, another prompt: where the held-out rule stops, where the oracle would, and what "
        "it costs.",
        "One noisy prompt (d = 5, m = 20, σ = 2; training n = 10). Left: the error of the answer, which only the oracle sees. "
        "Right: the error of labels held out of the prompt; the rule stops where it turns.",
        _stop,
    ),
    "mix": Explorable(
        "Mix two tasks",
        "The angle of two tasks and the share of the second: 2Γ against Σ, and how little of a task is enough.",
        "Two tasks with eigenvalues 1 and 0.1 across each other, tested on the second, n = 100, an endless test prompt. Trained "
        "on the first alone Σ sticks out of 2Γ and the error grows; a tenth of the second task is enough to stop that.",
        _mix,
    ),
    "log": Explorable(
        "Your log",
        "Paste or drop answers of your own model: gained, lost, an interval and a verdict. Nothing leaves the "
        "page.",
        "A made-up log of 40 questions at three levels. On the page you can paste your own, with the columns question, "
        "level and correct; the command “tsl diagnose LOG” does the same, and looks for copies and other faults besides.",
        _log,
    ),
}


def markup(name: str, static: str) -> str:
    """HTML of an explorable; `static` leads from its page to the folder of scripts and ends with a slash."""
    about = EXPLORABLES[name]
    title = html.escape(f"Try it: {about.title[0].lower()}{about.title[1:]}")
    return (
        f'<link rel="stylesheet" href="{static}explorables.css">'
        f'<div class="tsl-exp" id="explore-{name}" data-explorable="{name}" role="group" aria-label="{title}">'
        f'<p class="tsl-exp-title">{title}</p>'
        '<div class="tsl-exp-live" hidden></div>'
        f'<div class="tsl-exp-static">{about.still()}<p class="tsl-exp-note">{html.escape(about.caption)}</p></div>'
        "</div>"
        f'<script defer src="{static}explorables.js"></script>'
        f'<script defer src="{static}explorable-{name}.js"></script>'
    )


def _placed(env: BuildEnvironment) -> dict[str, str]:
    """Page of each explorable, by name."""
    if not hasattr(env, "explorables"):
        env.explorables = {}
    return env.explorables


class ExplorableDirective(SphinxDirective):
    """``{explorable} NAME``, NAME one of `EXPLORABLES`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, page = self.arguments[0], self.env.docname
        if name not in EXPLORABLES:
            raise self.error(f"explorable must be one of {', '.join(EXPLORABLES)}, got {name!r}")
        if _placed(self.env).setdefault(name, page) != page:
            raise self.error(f"explorable {name} stands on page {_placed(self.env)[name]} already")
        return [nodes.raw("", markup(name, "../" * page.count("/") + "_static/"), format="html")]


class explorable_list(nodes.General, nodes.Element):
    """Where the list of explorables goes once all pages are read."""


class ListDirective(SphinxDirective):
    """``{explorables}``: a list of what can be tried, with links to where it stands."""

    def run(self) -> list[nodes.Node]:
        return [explorable_list()]


def fill_lists(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write the list, now that every page is known."""
    env, builder = app.env, app.builder
    for place in list(doctree.findall(explorable_list)):
        rows = []
        for name, about in EXPLORABLES.items():
            if (found := _placed(env).get(name)) is not None:
                address = f"{builder.get_relative_uri(page, found)}#explore-{name}"
                where = html.escape(env.titles[found].astext())
                rows.append(
                    f'<li><p><a href="{address}">{html.escape(about.title)}</a> ({where}). {html.escape(about.todo)}</p></li>'
                )
        place.replace_self(nodes.raw("", f"<ul>{''.join(rows)}</ul>" if rows else "", format="html"))


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """A page is read again: what stood on it may have left."""
    for name in [name for name, found in _placed(env).items() if found == page]:
        del env.explorables[name]


def merge(app: Sphinx, env: BuildEnvironment, pages: list[str], other: BuildEnvironment) -> None:
    """Take over what another process has read."""
    _placed(env).update({name: page for name, page in _placed(other).items() if page in pages})


def lists_again(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Pages with a list are written anew with every build: what they list stands on others."""
    return [page for page in env.found_docs if page.endswith("explore")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("explorable", ExplorableDirective)
    app.add_directive("explorables", ListDirective)
    app.add_node(explorable_list)
    app.connect("doctree-resolved", fill_lists)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", lists_again)
    return {"version": "2", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
