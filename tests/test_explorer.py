"""What can be tried on a page computes what the package computes: two languages that must not part.

Every explorable is opened as the book's directive writes it, from disk, and its numbers are read from `window.tsl`.
"""

from __future__ import annotations

import io
import math
import re

import explorables
import numpy as np
import pandas as pd
import pytest
import torch
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from tsl import advice, cot, covariance, errors, exact, lsa, paths, prompts, stopping, theory

STATIC = paths.BOOK / "_static"
KIND = {"dtype": torch.float64}


@pytest.fixture(scope="module")
def open_page(browser, tmp_path_factory):
    """Opens a page with one explorable, once; a mistake in its script fails the test."""
    opened = {}

    def get(name, **options):
        key = name, tuple(options)
        if key not in opened:
            place = tmp_path_factory.mktemp(name) / "page.html"
            place.write_text(
                "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
                f"<title>{name}</title><link rel=stylesheet href='{(STATIC / 'tsl.css').as_uri()}'>"
                f"<main>{explorables.markup(name, STATIC.as_uri() + '/')}</main></html>"
            )
            tab = browser.new_page(**options)
            problems = []
            tab.on("pageerror", lambda problem: problems.append(str(problem)))
            tab.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
            tab.goto(place.as_uri())
            opened[key] = tab, problems
        tab, problems = opened[key]
        assert not problems
        return tab

    return get


def move(page, name, **values):
    """Move sliders as a reader would, by their names; a slider that is a list goes to the place of the value."""
    for slider, value in values.items():
        page.eval_on_selector(
            f"[data-explorable={name}] input[data-name={slider}]",
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }",
            str(value),
        )


def tensor(values):
    return torch.tensor(values, **KIND)


def same(found, expected, rel=1e-9):
    """Assert that numbers of a page are those of the package."""
    expected = torch.as_tensor(expected, **KIND)
    torch.testing.assert_close(tensor(found), expected, rtol=rel, atol=1e-12 * expected.abs().max().item())


ALL = list(explorables.EXPLORABLES)


@pytest.mark.parametrize("name", ALL)
def test_static_stand_in_shows_on_paper_and_without_scripts(open_page, name):
    page = open_page(name)
    static, live = (page.locator(f".tsl-exp-{part}") for part in ("static", "live"))
    assert live.is_visible()
    assert not static.is_visible()
    page.emulate_media(media="print")
    assert static.is_visible()
    assert not live.is_visible()
    page.emulate_media(media="screen")
    silent = open_page(name, java_script_enabled=False)
    assert silent.locator(".tsl-exp-static").is_visible()
    assert not silent.locator(".tsl-exp-live").is_visible()
    assert silent.locator(".tsl-exp-static").bounding_box()["height"] > 80


@pytest.mark.parametrize("name", ALL)
def test_all_of_it_fits_a_phone_and_everything_to_touch_has_a_name(open_page, name):
    page = open_page(name, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    touched = page.get_by_role("slider").all() + page.get_by_role("button").all()
    assert len(touched) >= 4
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, button, textarea, [role=button]')]"
        ".filter(e => !(e.labels?.[0]?.innerText || e.innerText || e.ariaLabel || '').trim()).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("name", ALL)
def test_its_buttons_change_what_it_says(open_page, name):
    page = open_page(name)
    said = set()
    for button in page.locator(".tsl-exp-try button").all():
        button.click()
        said.add(page.inner_text(".tsl-exp-verdict"))
    assert len(said) >= 3


def build(place, **pages):
    """A small book of these pages, and what was said while it was made."""
    for name, text in pages.items():
        (place / f"{name}.md").write_text(text)
    said = io.StringIO()
    settings = {
        "extensions": ["myst_parser", "explorables"],
        "html_static_path": [str(STATIC)],
        "root_doc": "explore",
    }
    with docutils_namespace(), patch_docutils():
        Sphinx(
            place, None, place / "html", place / "trees", "html", settings, status=None, warning=said
        ).build()
    return {name: (place / "html" / f"{name}.html").read_text() for name in pages}, said.getvalue()


def test_only_pages_with_an_explorable_load_its_script_and_the_list_leads_there(tmp_path):
    made, said = build(
        tmp_path,
        explore="# Try\n\n```{explorables}\n```\n\n```{toctree}\none\ntwo\nnone\n```\n",
        one="# First\n\n```{explorable} stop\n```\n",
        two="# Second\n\n```{explorable} log\n```\n\n```{explorable} mix\n```\n",
        none="# Third\n",
    )
    assert not said
    scripts = {name: set(re.findall(r"explorable[-a-z]*\.js", text)) for name, text in made.items()}
    assert scripts["one"] == {"explorables.js", "explorable-stop.js"}
    assert scripts["two"] == {"explorables.js", "explorable-log.js", "explorable-mix.js"}
    assert scripts["none"] == scripts["explore"] == set()
    for page, name in (("one", "stop"), ("two", "log"), ("two", "mix")):
        assert f'href="{page}.html#explore-{name}"' in made["explore"]
        assert f'id="explore-{name}"' in made[page]
    assert "explore-thought" not in made["explore"]


def test_two_explorables_of_a_page_do_not_get_in_each_others_way(tmp_path, browser):
    build(tmp_path, explore="# Try\n\n```{explorable} spectra\n```\n\n```{explorable} stop\n```\n")
    tab = browser.new_page()
    tab.goto((tmp_path / "html" / "explore.html").as_uri())
    ids = tab.evaluate("[...document.querySelectorAll('.tsl-exp [id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) > 10
    move(tab, "stop", noise=4)
    assert tab.inner_text("#explore-stop output") == "2"
    assert tab.inner_text("#explore-spectra output") == "1"
    tab.close()


def test_every_explorable_stands_in_one_chapter():
    sources = [path.read_text() for path in (paths.ROOT / "notebooks").glob("[0-9][0-9]_*.md")]
    found = [
        name for text in sources for name in re.findall(r"^```\{explorable\} (\w+)$", text, re.MULTILINE)
    ]
    assert sorted(found) == sorted(explorables.EXPLORABLES)


def test_unknown_and_doubled_explorables_are_refused(tmp_path):
    pages = {"explore": "# Try\n\n```{explorable} though\n```\n\n```{toctree}\na\nb\n```\n"}
    _, said = build(
        tmp_path, **pages, a="# A\n\n```{explorable} log\n```\n", b="# B\n\n```{explorable} log\n```\n"
    )
    assert "explorable log stands on page a already" in said
    assert "explorable must be one of thought, phase" in said
    assert "'though'" in said


# A thought in two dimensions


@pytest.mark.parametrize(
    ("first", "second", "angle", "n", "m", "seed"),
    [
        (1.0, 0.3, 0, 20, 50, 1),
        (0.6, 0.2, 0, 100, 50, 1),
        (1.0, 0.3, 90, 100, 50, 1),
        (1.3, 0.1, 35, 5, 3, 4),
    ],
)
def test_chain_and_rates_of_a_thought(open_page, first, second, angle, n, m, seed):
    page = open_page("thought")
    setting = {
        "first": first,
        "second": second,
        "angle": angle,
        "n": n,
        "m": m,
        "w": [0.7, -1.1],
        "seed": seed,
    }
    found = page.evaluate("s => tsl.thought.state(s)", setting)
    turn = math.radians(angle)
    axes = tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    gamma = theory.gamma(axes @ torch.diag(tensor([first, second])) @ axes.mT, n)
    gram, w = tensor(found["gram"])[None], tensor([setting["w"]])
    moments = prompts.Moments(gram, torch.einsum("bij,bj->bi", gram, w), w)
    chain = cot.pseudo_newton(moments, gamma, 20)
    same(found["gamma"], gamma)
    same(found["path"], chain[0])
    same(found["errors"], errors.squared_error(chain, w)[0])
    rates = torch.linalg.eigvals(torch.linalg.solve(gamma, gram[0])).real
    same(sorted(rate["re"] for rate in found["rates"]), rates.sort().values)
    assert (found["kind"] == "explodes") == bool((1 - rates).abs().max() > 1)


def test_prompt_of_a_thought_has_the_covariance_of_the_test(open_page):
    page = open_page("thought")
    grams = page.evaluate(
        "Array.from({length: 300}, (_, s) => tsl.gram(tsl.diagonal(tsl.thought.TEST.map(Math.sqrt)), 20, tsl.random(s)))"
    )
    expected = theory.second_moment(torch.diag(tensor([1.0, 0.3])), 20)
    assert errors.z_scores(tensor(grams) @ tensor(grams), expected).abs().max() < 4


@pytest.mark.parametrize(
    ("button", "kind"),
    [
        ("it converges", "converges"),
        ("weaker", "zigzags"),
        ("other directions", "explodes"),
        ("short", "explodes"),
    ],
)
def test_a_thought_converges_zigzags_and_explodes(open_page, button, kind):
    page = open_page("thought")
    page.locator(".tsl-exp-try button", has_text=button).click()
    assert page.get_attribute("#explore-thought", "data-kind") == kind
    assert kind[:-1] in page.inner_text(".tsl-exp-verdict")


def test_weights_of_a_thought_move_by_keyboard_and_by_pointer(open_page):
    page = open_page("thought")
    handle = page.locator(".tsl-exp-handle")
    handle.focus()
    before = handle.get_attribute("aria-label")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    after = handle.get_attribute("aria-label")
    assert before == "w* at 1.2, 1.0; arrow keys move it"
    assert after == "w* at 1.1, 1.1; arrow keys move it"
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + 30)
    page.mouse.up()
    assert handle.bounding_box()["x"] < box["x"] - 30
    assert handle.get_attribute("aria-label") != after


# The phase diagram


@pytest.mark.parametrize(("m", "n"), [(100, 40), (12, 7), (40, 200), (400, 400), (6, 3), (20, 20)])
def test_phase_exact_mean_and_law(open_page, m, n):
    found = open_page("phase").evaluate("([m, n]) => tsl.phase.state(m, n)", [m, n])
    white = torch.eye(20, **KIND)
    gamma = theory.gamma(white, n)
    same(found["g"], gamma[0, 0])
    assert (found["phase"] == "overthinks") == theory.overthinks(gamma, white, m)
    assert found["edge"] / found["g"] == pytest.approx(theory.spectrum_edge(gamma, white, m), rel=1e-9)
    torch.testing.assert_close(
        tensor(found["mean"]), exact.isotropic_error(20, m, gamma[0, 0].item(), 20), rtol=1e-9, atol=0
    )
    law = tensor([theory.cot_error_bound(white, n, k) for k in range(21)])
    torch.testing.assert_close(tensor(found["law"]), law, rtol=1e-9, atol=0)


@pytest.mark.parametrize("m", [12, 20, 60])
def test_sampled_spectra_of_the_phase_diagram_have_wishart_moments(open_page, m):
    draws = "Array.from({length: 2000}, (_, s) => tsl.phase.spectrum(m, tsl.random(s)))"
    spectra = tensor(open_page("phase").evaluate(f"m => {draws}", m))
    assert ((spectra > 1e-9).sum(1) == min(m, 20)).all()
    for power in (1, 2, 3):
        expected = float(exact.trace_moment(20, m, power)) / m**power
        assert errors.z_scores((spectra**power).sum(1), expected).abs() < 4


def test_median_of_the_phase_diagram_is_that_of_chains(open_page):
    found = open_page("phase").evaluate(
        "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(seed => tsl.phase.state(40, 40, seed))"
    )
    gamma, white = theory.gamma(torch.eye(20, **KIND), 40), torch.eye(20, **KIND)
    spectra = tensor([state["spectra"] for state in found])
    own = ((1 - spectra[..., None] / gamma[0, 0]) ** (2 * torch.arange(21))).sum(2)
    same([state["median"] for state in found], own.median(1).values)
    _, low, high = errors.median_interval(own.flatten(0, 1), 0.999)
    grams = covariance.wishart(white, 40, 10_000, torch.Generator().manual_seed(0))
    many = errors.propagated_error(grams, gamma, 20).median(0).values
    assert ((many >= low - 1e-9) & (many <= high + 1e-9)).all()


@pytest.mark.parametrize("m", [12, 60])
def test_density_of_the_phase_diagram_is_the_one_of_the_theory(open_page, m):
    x = torch.arange(0.5, 40000) * (6 / 40000)
    density = tensor(
        open_page("phase").evaluate("([m, x]) => x.map(v => tsl.phase.density(m, v))", [m, x.tolist()])
    )
    g = theory.gamma(torch.eye(20, **KIND), 30)[0, 0].item()
    bulk = (density * (1 - x / g) ** 6).sum() * (6 / 40000)
    assert bulk + max(0, 1 - m / 20) == pytest.approx(theory.marchenko_pastur_error(20 / m, g, 3), abs=1e-4)


@pytest.mark.parametrize(
    ("button", "phase"),
    [("converges", "converges"), ("saturates", "saturates"), ("overthinks", "overthinks")],
)
def test_phase_diagram_goes_where_the_reader_clicks(open_page, button, phase):
    page = open_page("phase")
    page.locator(".tsl-exp-try button", has_text=button).click()
    assert page.get_attribute("#explore-phase", "data-phase") == phase
    assert phase in page.inner_text(".tsl-exp-verdict")
    box = page.locator(".tsl-exp-panels svg").first.bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.75 * box["height"])
    assert page.get_attribute("#explore-phase", "data-phase") == "overthinks"


# Training and test spectra


@pytest.mark.parametrize(
    ("alpha", "beta", "n", "k"),
    [
        (1.0, 1.0, 20, 5),
        (0.0, 0.0, 30, 3),
        (1.0, 0.0, 30, 6),
        (0.0, 1.5, 5, 20),
        (0.35, 0.8, 100, 1),
        (1.5, 0.0, 100, 20),
        (1.0, 1.0, 20, 0),
    ],
)
def test_error_under_the_sliders_is_the_error_of_the_theory(open_page, alpha, beta, n, k):
    page = open_page("spectra")
    move(page, "spectra", alpha=alpha, beta=beta, n=n, k=k)
    train, test = covariance.power_law(10, alpha), covariance.power_law(10, beta)
    expected = theory.cot_error_limit(theory.gamma(train, n), test, k)
    assert float(page.get_attribute("#explore-spectra", "data-error")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_page_says_when_thinking_hurts(open_page, alpha, beta):
    page = open_page("spectra")
    page.locator(".tsl-exp-try button", has_text="endless").click()
    move(page, "spectra", alpha=alpha, beta=beta, n=30, k=5)
    gamma = theory.gamma(covariance.power_law(10, alpha), 30)
    grows = theory.overthinks(gamma, covariance.power_law(10, beta))
    assert ("grows in the long run" in page.inner_text(".tsl-exp-verdict")) == grows
    assert (page.locator(".tsl-exp-panels .tsl-exp-fill-red").count() > 0) == grows


@pytest.mark.parametrize(
    ("alpha", "beta", "n", "m"),
    [(1.0, 1.0, 20, 200), (1.0, 0.0, 30, 20), (0.5, 0.2, 50, 5), (0.0, 0.0, 50, 15)],
)
def test_sampled_prompts_under_the_sliders(open_page, alpha, beta, n, m):
    page = open_page("spectra")
    found = page.evaluate("s => tsl.spectra.state(s)", {"alpha": alpha, "beta": beta, "n": n, "m": m})
    root = covariance.power_law(10, beta / 2)
    grams = root @ tensor(page.evaluate("m => tsl.spectra.white(m)", m)) @ root
    curves = errors.propagated_error(grams, theory.gamma(covariance.power_law(10, alpha), n), 20)
    torch.testing.assert_close(tensor(found["curves"]), curves, rtol=1e-6, atol=0)
    torch.testing.assert_close(tensor(found["median"]), curves.median(0).values, rtol=1e-6, atol=0)
    torch.testing.assert_close(tensor(found["mean"]), curves.mean(0), rtol=1e-6, atol=0)
    assert found["grew"] == pytest.approx((curves[:, 20] > curves[:, 15]).double().mean().item())


@pytest.mark.parametrize("m", [6, 40])
def test_prompts_drawn_by_the_page_have_exact_mean_errors(open_page, m):
    draws = "Array.from({length: 3000}, (_, s) => tsl.whiteGram(10, m, tsl.random(s)))"
    grams = tensor(open_page("spectra").evaluate(f"m => {draws}", m))
    gamma = theory.gamma(covariance.power_law(10, 0.3), 15)
    exactly = exact.expected_error(gamma, torch.eye(10, **KIND), m, 2)
    found = errors.propagated_error(grams, gamma, 2)
    assert errors.z_scores(found[:, 1:], exactly[1:]).abs().max() < 4


# When to stop


@pytest.mark.parametrize(
    ("noise", "m", "n", "seed"), [(0.5, 15, 20, 1), (2.0, 40, 10, 4), (0.0, 6, 40, 2), (1.0, 80, 5, 3)]
)
def test_rule_and_oracle_on_a_prompt(open_page, noise, m, n, seed):
    setting = {"noise": noise, "m": m, "n": n, "seed": seed}
    found = open_page("stop").evaluate("s => tsl.stop.state(s)", setting)
    drawn = found["prompt"]
    batch = prompts.Prompts(*(tensor(drawn[part])[None] for part in ("x", "y", "w")))
    gamma = theory.gamma(torch.eye(5, **KIND), n, noise)
    model = lsa.LinearSelfAttention.from_gamma(gamma)
    error = errors.squared_error(cot.chain_of_thought(model, batch, 20), batch.w)
    score = stopping.held_out_error(model, batch, 20, folds=20)
    same(found["g"], gamma[0, 0])
    torch.testing.assert_close(tensor(found["errors"]), error[0], rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(tensor(found["score"]), score[0], rtol=1e-6, atol=1e-15)
    assert found["rule"] == stopping.first_turn(score, patience=2)
    assert found["oracle"] == error.argmin()


def test_rule_waits_as_long_as_the_package_says(open_page):
    drawn = "Array.from({length: 150}, (_, s) => tsl.stop.judge(tsl.stop.prompt(6, 1, tsl.random(s)), tsl.stop.scale(20, 1)))"
    found = open_page("stop").evaluate(drawn)
    score = tensor([prompt["score"] for prompt in found])
    waited = stopping.first_turn(score, patience=2)
    assert [prompt["rule"] for prompt in found] == waited.tolist()
    assert (waited != stopping.first_turn(score)).any()  # a rule that waits one step less would show


def test_prompts_to_stop_on_err_as_those_of_the_package(open_page):
    judge = "tsl.stop.judge(tsl.stop.prompt(20, 1, tsl.random(s)), tsl.stop.scale(20, 1)).errors"
    found = tensor(open_page("stop").evaluate(f"Array.from({{length: 1500}}, (_, s) => {judge})"))
    exactly = exact.isotropic_error(5, 20, theory.gamma(torch.eye(5, **KIND), 20, 1.0)[0, 0].item(), 3, 1.0)
    assert errors.z_scores(found[:, :4], exactly).abs().max() < 4


def test_another_prompt_is_another_and_comes_back(open_page):
    page = open_page("stop")
    page.reload()
    first = page.inner_text(".tsl-exp-verdict")
    page.locator(".tsl-exp-try button", has_text="another").click()
    assert page.inner_text(".tsl-exp-verdict") != first
    assert "Prompt 2" in page.inner_text(".tsl-exp-verdict")
    page.reload()
    assert page.inner_text(".tsl-exp-verdict") == first


# A log


def made_up(kind, seed):
    """A log with a gain from level to level, of single answers or repeats, of one model or two."""
    random = np.random.default_rng(seed)
    rows = []
    for model in ("a", "b") if kind == "models" else ("a",):
        for level, gain in zip(
            ("off", "low", "medium", "high"), random.uniform(-0.15, 0.3, 4).cumsum(), strict=True
        ):
            for question in range(60):
                ability = (question / 60) ** 0.7
                for repeat in range(int(random.integers(1, 4)) if kind == "repeats" else 1):
                    right = random.random() < np.clip(ability + gain, 0.02, 0.98)
                    if kind != "gaps" or random.random() < 0.9:
                        rows.append((model, question, level, repeat, int(right)))
    table = pd.DataFrame(rows, columns=["model", "question", "level", "repeat", "correct"])
    if kind == "words":
        table = table.assign(correct=table["correct"].map({1: "CORRECT", 0: "INCORRECT"}))
    if kind == "sizes":
        table = table.assign(
            level=table["level"].map({"off": "0", "low": "1k", "medium": "4k", "high": "16k"})
        )
    if kind == "ordered":
        places = {"off": 4, "low": 1, "medium": 3, "high": 2}
        table = table.assign(level_order=table["level"].map(places))
    return table.drop(columns="model") if kind == "single" else table


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["single", "repeats", "models", "gaps", "words", "sizes", "ordered"])
def test_log_is_judged_as_by_the_command(open_page, kind, seed):
    table = made_up(kind, seed).sample(frac=1, random_state=seed)
    found = open_page("log").evaluate("text => tsl.log.compare(text)", table.to_csv(index=False))
    expected = advice.budget_helps(table)
    assert len(found["comparisons"]) == len(expected.comparisons) >= 4
    ours = {(c["model"], c["from"], c["to"]): c for c in found["comparisons"]}
    for c in expected.comparisons:
        mine = ours[c.model, c.source, c.target]
        for name in ("questions", "gained", "lost", "outcome", "needed"):
            assert mine[name] == getattr(c, name), name
        for name in ("right_from", "right_to", "low", "high", "pvalue"):
            assert mine[name] == pytest.approx(getattr(c, name), abs=1e-9), name


def test_logs_that_cannot_be_read_are_told_why(open_page):
    page = open_page("log")
    area = page.locator("textarea")
    for text, told in (
        ("question,effort\n1,low", "No column for correct"),
        ("question,level,correct\n1,low,maybe", "not maybe"),
        ("question,level,correct\n1,low,1\n2,low,0", "nothing to compare"),
    ):
        area.fill(text)
        assert told in page.inner_text(".tsl-exp-verdict")
    area.fill("question;level;correct\n1;x;1\n2;x;0\n1;y;1\n2;y;1")
    assert "cannot be guessed" in page.inner_text("#explore-log ul")
    page.get_by_label("levels, least").fill("y, x")
    assert "y → x" in page.inner_text("#explore-log .tsl-exp-live table")
    page.get_by_label("levels, least").fill("")


def test_log_is_read_from_a_file_and_nothing_is_sent(open_page, tmp_path):
    page = open_page("log")
    place = tmp_path / "log.csv"
    made_up("single", 3).to_csv(place, index=False)
    page.get_by_label("choose a file").set_input_files(place)
    page.wait_for_function("document.querySelector('textarea').value.includes('repeat')")
    assert page.locator("#explore-log .tsl-exp-live tbody tr").count() == 4
    assert open_page("log") is page  # which fails when a request has left it


@pytest.mark.parametrize("outcome", ["helps", "hurts"])
def test_made_up_logs_say_what_they_promise(open_page, outcome):
    page = open_page("log")
    page.locator(".tsl-exp-try button", has_text=outcome).click()
    outcomes = page.get_attribute("#explore-log", "data-outcomes").split()
    assert outcomes[-1] == outcome
    assert not {"helps", "hurts"} - {outcome} & set(outcomes)


# Mix two tasks


@pytest.mark.parametrize(
    ("weak", "angle", "share", "n", "turn"),
    [
        (0.1, 90, 0.0, 100, 90),
        (0.1, 90, 0.1, 100, 90),
        (0.3, 35, 0.7, 5, 60),
        (0.02, 50, 0.4, 1000, 20),
        (1.0, 45, 0.5, 20, 0),
    ],
)
def test_mixture_and_what_diverges(open_page, weak, angle, share, n, turn):
    setting = {"weak": weak, "angle": angle, "share": share, "n": n, "turn": turn}
    found = open_page("mix").evaluate("s => tsl.mix.state(s)", setting)

    def skewed(degrees):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        axes = tensor([[c, -s], [s, c]])
        return axes @ torch.diag(tensor([1.0, weak])) @ axes.mT

    tasks, test = [skewed(0), skewed(angle)], skewed(turn)
    gamma = theory.gamma_mixture(tasks, [1 - share, share], [n, n])
    same(found["gamma"], gamma)
    rates = torch.linalg.eigvals(torch.linalg.solve(gamma, test)).real
    same(sorted(rate["re"] for rate in found["rates"]), rates.sort().values)
    same(found["errors"], [theory.cot_error_limit(gamma, test, k) for k in range(21)], rel=1e-8)
    for task, alone in zip(tasks, found["alone"], strict=True):
        expected = [theory.cot_error_limit(theory.gamma(task, n), test, k) for k in range(21)]
        same(alone, expected, rel=1e-8)
    assert found["diverges"] == theory.overthinks((gamma + gamma.mT) / 2, test)
    # What the picture claims: Σ sticks out of the ellipse of 2Γ exactly if thinking diverges.
    assert found["diverges"] == bool(torch.linalg.eigvalsh(gamma + gamma.mT - test)[0] < 0)
    torch.testing.assert_close(gamma, gamma.mT)


def test_a_tenth_of_the_second_task_is_enough(open_page):
    page = open_page("mix")
    page.locator(".tsl-exp-try button", has_text="alone, on the second").click()
    assert page.get_attribute("#explore-mix", "data-diverges") == "true"
    page.locator(".tsl-exp-try button", has_text="one prompt in ten").click()
    assert page.get_attribute("#explore-mix", "data-diverges") == "false"
