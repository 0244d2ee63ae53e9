"""Reports for people's own data, as one HTML file that asks nothing of the network: readable on a phone, in light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from tsl.texts import number, percent

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c6470; --line: #d5d9de; --page: #fff; --box: #f7f8f9;
  --right: #1d4e89; --wrong: #b3261e; --skipped: #8a6d00; --helps: #14663a; --hurts: #9b1c1c; --undecided: #4b5563; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a4adb8; --line: #3b424b; --page: #14171a;
  --box: #1c2126; --right: #8ab8f0; --wrong: #f2918b; --skipped: #e0c060; --helps: #8fe0b0; --hurts: #ff9d96;
  --undecided: #b6bec8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 0; } h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
section { border: 1px solid var(--line); border-radius: 8px; background: var(--box); padding: .8rem; margin: 1rem 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .6rem; }
svg { width: 100%; max-width: 32rem; height: auto; display: block; } svg text { fill: var(--ink); font-size: 12px; }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); } svg .zero { stroke: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7rem; }
@media (max-width: 40rem) { thead { display: none; } table, tbody, tr, td { display: block; }
  tr { padding: .4rem 0; border-bottom: 1px solid var(--line); } td { display: flex; justify-content: space-between; gap: 1rem;
  border: 0; padding: .05rem 0; } td:first-child { font-weight: 600; } td:not(:first-child)::before { content: attr(data-name);
  color: var(--soft); } }
.helps { color: var(--helps); } .hurts { color: var(--hurts); } .undecided { color: var(--undecided); }
b.helps, b.hurts, b.undecided { border: 1px solid currentColor; border-radius: 1em; padding: 0 .5em; font-size: .85rem; }
.note { color: var(--soft); font-size: .9rem; } a { color: var(--right); } li { margin: .3rem 0; }
"""

_KINDS = {"right": "right", "wrong": "wrong", "skipped": "not attempted"}
_ADVICE = {
    "helps": "Thinking longer pays",
    "hurts": "Thinking longer does harm",
    "undecided": "This log cannot say",
}


def budget_page(report: dict[str, Any], name: str) -> str:
    """The report of a log of scores by level of thinking.

    Parameters
    ----------
    report : dict
        As `tsl.advice.BudgetReport.details` gives it.
    name : str
        What the report is of, such as the log's file name.

    Returns
    -------
    str
        A whole HTML document.
    """
    compared: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for comparison in report["comparisons"]:
        compared.setdefault((comparison["model"], comparison["benchmark"]), []).append(comparison)
    cases = [(case, compared[case["model"], case["benchmark"]]) for case in report["cases"]]
    title = f"Does more thinking help? {html.escape(name)}"
    ends = [own[-1] for _, own in cases]
    counts = {outcome: sum(end["outcome"] == outcome for end in ends) for outcome in _ADVICE}
    told = ", ".join(f"{_badge(outcome)} {count}" for outcome, count in counts.items())
    body = [
        f"<h1>{title}</h1>",
        f"<p>From the first level of thinking to the last, model by model and benchmark by benchmark: {told}.</p>"
        if ends
        else "",
        f'<p class="note">{html.escape(report["correction"])}</p>',
        _warnings(report["warnings"]),
        _overview(cases) if len(cases) > 1 else "",
        *(_case(index, case, own) for index, (case, own) in enumerate(cases)),
    ]
    return _page(title, body)


def plan_page(plan: dict[str, Any], name: str) -> str:
    """The plan of what to train on for a target.

    Parameters
    ----------
    plan : dict
        As `tsl.advice.Plan.to_dict` gives it.
    name : str
        What the target is.

    Returns
    -------
    str
        A whole HTML document.
    """
    title = f"What to train on for {html.escape(name)}"
    target, gain = plan["target"], plan["benefit"]
    told = (
        f"Thinking for {plan['best_step']} steps divides the error of one step by {number(gain['median'])} "
        f"({number(gain['low'])} to {number(gain['high'])} for 80 % of prompts)."
        if plan["best_step"] > 1
        else "Thinking beyond one step does not help."
    )
    names = ("task", "weight", "coverage", "hardness", "examples in a training prompt")
    rows = [
        (
            html.escape(task["name"]),
            f"<b>{task['weight']:.2f}</b>",
            number(task["coverage"]),
            number(task["hardness"]),
            str(task["length"]),
        )
        for task in plan["tasks"]
    ]
    odd = "".join(f"<li>{html.escape(text)}</li>" for text in plan["warnings"])
    body = [
        f"<h1>{title}</h1>",
        f"<p>{told} The target has {target['features']} features, {target['samples']} samples and hardness "
        f"{number(target['hardness'])}; test prompts hold {plan['examples']} examples.</p>",
        f"<details open><summary>What to mind</summary><ul>{odd}</ul></details>" if odd else "",
        f"<section><h2>The mixture</h2>{_grid(names, rows)}<p class='note'>Coverage is how much of the target's variance "
        "training saw where it saw least; below one half such a model diverges when it thinks. The mixture's is "
        f"{number(plan['coverage'])}.</p></section>",
        f"<section><h2>Predicted error per weight</h2>{_chains(plan['errors'])}<p class='note'>Median over test prompts by "
        "thinking step, on a logarithmic scale; bars hold the middle 80 % of the prompts.</p></section>",
    ]
    return _page(title, body)


def _page(title: str, body: Sequence[str]) -> str:
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style>'
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{chr(10).join(body)}\n</body></html>\n'


def _points(value: float) -> str:
    """A difference of shares, in points: +12.3."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _title(case: dict[str, Any]) -> str:
    return html.escape(" on ".join(part for part in (case["model"], case["benchmark"]) if part) or "The log")


def _warnings(warnings: Sequence[dict[str, str]]) -> str:
    """What is wrong with the log, each thing once."""
    where: dict[str, list[str]] = {}
    for warning in warnings:
        place = f"{warning['model']} {warning['benchmark']}".strip()
        where.setdefault(warning["text"], []).append(place)
    if not where:
        return ""
    items = [
        f"<li>{f'<b>{html.escape(places[0])}</b>' if places[0] else 'The log'}"
        f"{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {html.escape(text)}</li>"
        for text, places in where.items()
    ]
    return f"<details open><summary>What is odd about this log ({len(items)})</summary><ul>{''.join(items)}</ul></details>"


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; on a phone each row is a block whose cells carry their column's name."""
    head = "".join(f"<th>{name}</th>" for name in names)
    cells = [
        "".join(f'<td data-name="{name}">{text}</td>' for name, text in zip(names, row, strict=True))
        for row in rows
    ]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _badge(outcome: str) -> str:
    return f'<b class="{outcome}">{outcome}</b>'


def _change(comparison: dict[str, Any]) -> tuple[str, str]:
    """Difference in points, and its interval."""
    low, high = _points(comparison["low"]), _points(comparison["high"])
    return _points(comparison["right_to"] - comparison["right_from"]), f"{low} to {high}"


def _overview(cases: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    """First level against last, a line for each case."""
    names = ("first → last level", "outcome", "points", "interval", "gained", "lost", "of")
    rows = []
    for index, (case, own) in enumerate(cases):
        end = own[-1]
        counts = (str(end[name]) for name in ("gained", "lost", "questions"))
        rows.append(
            (f'<a href="#case{index}">{_title(case)}</a>', _badge(end["outcome"]), *_change(end), *counts)
        )
    return _grid(names, rows)


def _case(index: int, case: dict[str, Any], own: Sequence[dict[str, Any]]) -> str:
    end, oracle, best = own[-1], case["oracle"], case["best"]
    share = next(level["right"] for level in case["levels"] if level["level"] == best)
    gain, removed = oracle["naive"], oracle["split"] is not None
    added = (
        f"{_points(oracle['split'])} points ({_points(oracle['low'])} to {_points(oracle['high'])}; level picked by one half of "
        f"the repeats and judged by the other; {_points(gain)} if judged by the same answers)"
        if removed
        else f"{_points(gain)} points at most (much of it luck: without repeats it cannot be told apart)"
    )
    return (
        f'<section id="case{index}"><h2>{_title(case)}</h2>'
        f"<p>{_badge(end['outcome'])} {_ADVICE[end['outcome']]}: {html.escape(end['source'])} → "
        f"{html.escape(end['target'])} on {case['questions']} questions.</p>"
        f'<div class="panels">{_curves(case)}{_bars(own)}</div>{_table(own)}'
        f"<p>Best level for all questions: <b>{html.escape(best)}</b> ({percent(share, 1)} right). Choosing the best level for "
        f"each question would add {added}.</p></section>"
    )


def _table(own: Sequence[dict[str, Any]]) -> str:
    names = [
        "levels",
        "outcome",
        "points",
        "interval",
        "questions to decide",
        "points per doubling of tokens",
    ]
    abstains = any(c["skipped"] for c in own)
    rows = []
    for c in own:
        decide = f"{c['needed']:,}" if c["needed"] else "no difference"
        rows.append(
            [
                f"{html.escape(c['source'])} → {html.escape(c['target'])}",
                _badge(c["outcome"]),
                *_change(c),
                "decided" if c["outcome"] != "undecided" else decide,
                "—" if c["per_doubling"] is None else _points(c["per_doubling"]),
                *([_points(c["wrong"])] if abstains else []),
            ]
        )
    return _grid([*names, "points wrong"] if abstains else names, rows)


_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 360, 230, 44, 26, 40


def _curves(case: dict[str, Any]) -> str:
    """Shares right, with intervals, and wrong and not attempted where there is such a thing, by level."""
    levels = case["levels"]
    kinds = list(_KINDS) if any(level["skipped"] for level in levels) else ["right"]
    step = (_WIDTH - _LEFT - 24) / max(len(levels) - 1, 1)

    def x(index: int) -> float:
        return _LEFT + 12 + index * step

    def y(share: float) -> float:
        return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>'
            f'<text class="soft" x="{_LEFT - 5}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for kind in kinds[::-1]:
        line = " ".join(f"{x(i):.1f},{y(level[kind]):.1f}" for i, level in enumerate(levels))
        dashes = "" if kind == "right" else ' stroke-dasharray="5 4"'
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="var(--{kind})" stroke-width="2"{dashes}/>'
        )
    for i, level in enumerate(levels):
        parts.append(
            f'<line x1="{x(i):.1f}" x2="{x(i):.1f}" y1="{y(level["low"]):.1f}" y2="{y(level["high"]):.1f}" stroke="var(--right)" '
            f'stroke-width="2"/><circle cx="{x(i):.1f}" cy="{y(level["right"]):.1f}" r="4" fill="var(--right)"/>'
        )
        anchor = "start" if i == 0 else "end" if i == len(levels) - 1 else "middle"
        # Neighbours' names on two lines, so that long ones do not meet.
        low = _HEIGHT - _BOTTOM + (16 if i % 2 == 0 or len(levels) < 3 else 31)
        at = x(i) + {"start": -12, "end": 12, "middle": 0}[anchor]
        parts.append(
            f'<text x="{at:.1f}" y="{low}" text-anchor="{anchor}">{html.escape(_short(level["level"]))}</text>'
        )
    legend = "".join(
        f'<text x="{_LEFT + 95 * i}" y="14" style="fill: var(--{kind})">{"●" if kind == "right" else "┄"} {_KINDS[kind]}</text>'
        for i, kind in enumerate(kinds)
    )
    return _svg(_HEIGHT, "Share of answers by level, with 95 % intervals", legend + "".join(parts))


def _chains(errors: dict[str, dict[str, Sequence[float | str]]]) -> str:
    """Median errors of several mixtures by step, with the middle 80 % of the prompts."""
    floor = 1e-12
    curves = {
        name: {key: [min(max(float(v), floor), 1e12) for v in values] for key, values in found.items()}
        for name, found in errors.items()
    }
    every = [v for found in curves.values() for values in found.values() for v in values]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    steps, top = len(next(iter(curves.values()))["median"]), _TOP + 16 * len(curves)
    height = top + 160 + _BOTTOM

    def x(step: int) -> float:
        return _LEFT + 12 + step * (_WIDTH - _LEFT - 24) / max(steps - 1, 1)

    def y(value: float) -> float:
        return top + 160 * (high - math.log10(value)) / max(high - low, 1)

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 5)):
        at = y(10.0**power)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="soft" x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{number(10.0**power)}</text>'
        )
    for index, (name, found) in enumerate(curves.items()):
        color = f"var(--{('right', 'skipped', 'wrong')[index % 3]})"
        dashes = ("", "6 3", "2 3")[index % 3]
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in enumerate(found["median"]))
        shift = 3 * (index - 1)
        parts += [
            f'<line x1="{x(step) + shift:.1f}" x2="{x(step) + shift:.1f}" y1="{y(found["low"][step]):.1f}" '
            f'y2="{y(found["high"][step]):.1f}" stroke="{color}" opacity=".5"/>'
            for step in range(1, steps)
        ]
        stroke = f'stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"'
        at = 12 + 16 * index
        parts.append(
            f'<polyline points="{line}" fill="none" {stroke}/>'
            f'<line x1="{_LEFT}" x2="{_LEFT + 24}" y1="{at}" y2="{at}" {stroke}/>'
            f'<text x="{_LEFT + 30}" y="{at + 4}">{html.escape(name)}</text>'
        )
    for step in sorted({0, 1, (steps - 1) // 2, steps - 1}):
        parts.append(f'<text x="{x(step):.1f}" y="{top + 178}" text-anchor="middle">{step}</text>')
    parts.append(
        f'<text class="soft" x="{_WIDTH / 2}" y="{top + 194}" text-anchor="middle">thinking steps</text>'
    )
    return _svg(height, "Predicted error by thinking step", "".join(parts))


def _bars(own: Sequence[dict[str, Any]]) -> str:
    """Questions lost (to the left) and gained (to the right), a bar for each pair of levels."""
    most = max(max(c["gained"], c["lost"]) for c in own) or 1
    middle, room = _WIDTH / 2, _WIDTH / 2 - 40
    parts = [
        f'<text x="{middle - 6}" y="14" text-anchor="end" style="fill: var(--wrong)">◀ lost</text>'
        f'<text x="{middle + 6}" y="14" style="fill: var(--right)">gained ▶</text>'
    ]
    for i, c in enumerate(own):
        top = 40 + 42 * i
        lost, gained = room * c["lost"] / most, room * c["gained"] / most
        parts.append(
            f'<text class="soft" x="{middle}" y="{top - 5}" text-anchor="middle">{html.escape(_short(c["source"]))} → '
            f"{html.escape(_short(c['target']))}</text>"
            f'<line class="zero" x1="{middle}" x2="{middle}" y1="{top - 2}" y2="{top + 18}"/>'
            f'<rect x="{middle - lost:.1f}" y="{top}" width="{lost:.1f}" height="16" fill="var(--wrong)"/>'
            f'<rect x="{middle}" y="{top}" width="{gained:.1f}" height="16" fill="var(--right)"/>'
            f'<text x="{middle - lost - 4:.1f}" y="{top + 13}" text-anchor="end">{c["lost"]}</text>'
            f'<text x="{middle + gained + 4:.1f}" y="{top + 13}">{c["gained"]}</text>'
        )
    height = 40 + 42 * len(own)
    return _svg(height, "Questions gained and lost between levels", "".join(parts))


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _svg(height: int, label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{content}</svg>"
    )
