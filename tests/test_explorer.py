"""The page with sliders computes what `tsl.theory` computes: the two are written in different languages and must not part."""

from __future__ import annotations

import pytest
from chromium import launch

from tsl import covariance, paths, theory

STATIC = paths.BOOK / "_static"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "index.html").write_text(
        "<!doctype html><meta charset=utf-8>"
        f'<link rel="stylesheet" href="{(STATIC / "explorer.css").as_uri()}"><div id="tsl-explorer"></div>'
        f'<script src="{(STATIC / "explorer.js").as_uri()}"></script>'
    )
    with launch() as browser:
        tab = browser.new_page()
        tab.goto((folder / "index.html").as_uri())
        yield tab


def set_slider(page, name, value):
    page.eval_on_selector(
        f"#tsl-ex-{name}", "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(value)
    )


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
def test_error_on_the_page_is_the_error_of_the_theory(page, alpha, beta, n, k):
    for name, value in {"alpha": alpha, "beta": beta, "n": n, "k": k}.items():
        set_slider(page, name, value)
    train, test = covariance.power_law(10, alpha), covariance.power_law(10, beta)
    expected = theory.cot_error_limit(theory.gamma(train, n), test, k)
    assert float(page.get_attribute("#tsl-explorer", "data-error")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_page_says_when_thinking_hurts(page, alpha, beta):
    for name, value in {"alpha": alpha, "beta": beta, "n": 30, "k": 5}.items():
        set_slider(page, name, value)
    gamma = theory.gamma(covariance.power_law(10, alpha), 30)
    grows = theory.overthinks(gamma, covariance.power_law(10, beta))
    assert ("grows in the long run" in page.inner_text(".tsl-ex-verdict")) == grows
    assert (page.locator(".tsl-ex-grows").count() > 0) == grows
