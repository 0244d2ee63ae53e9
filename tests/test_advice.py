"""What a practitioner asks: right where the answer is known, silent where it cannot know, and predictions come true."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import generator
from scipy import stats

from tsl import advice, cot, covariance, errors, logs, lsa, prompts, theory


def features(cov: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    noise = torch.randn((count, len(cov)), generator=generator(seed), dtype=torch.float64)
    return noise @ covariance.square_root(cov)


def law(alpha: float, d: int = 8) -> torch.Tensor:
    return covariance.power_law(d, alpha, trace=float(d))


def plan(tasks, target, seed=100, count=4000, **kwargs):
    matrices = {name: features(cov, count, index) for index, (name, cov) in enumerate(tasks.items())}
    chosen = {"lengths": 100, "examples": 400, "steps": 6, "generator": generator(seed)} | kwargs
    return advice.plan_training(matrices, features(target, count, 99), **chosen)


def test_the_task_that_equals_the_target_gets_the_weight():
    made = plan({"same": law(0.8), "easy": law(0.1), "reversed": law(0.8).flip(0, 1)}, law(0.8))
    assert made.tasks[0].weight > 0.9
    assert made.weights.sum().item() == pytest.approx(1)
    assert not made.warnings


def test_complementary_specialists_are_mixed_although_neither_covers_the_target():
    wide, spike = torch.full((4,), 1.9), torch.full((4,), 0.02)
    left, right = torch.diag(torch.cat([wide, spike]).double()), torch.diag(torch.cat([spike, wide]).double())
    made = plan({"left": left, "right": right}, torch.eye(8, dtype=torch.float64))
    assert all(card.coverage < advice.SAFE for card in made.tasks)
    assert made.coverage > advice.SAFE
    assert (
        0.002 < made.weights.min() < 0.2
    )  # far from equal: the strong directions of a rare task dominate E[Σ̂²]
    recommended, equal, alone = (curve.median(0).values for curve in made.errors.values())
    assert recommended[-1] < equal[-1] < 0.1 * equal[1]
    assert alone[-1] > alone[1] > recommended[1]


def test_an_uncovered_target_draws_a_warning_and_thinking_is_not_recommended():
    skewed = torch.diag(torch.tensor([4, 3, 0.5, 0.3, 0.1, 0.05, 0.03, 0.02], dtype=torch.float64))
    made = plan({"skewed": skewed}, torch.eye(8, dtype=torch.float64), lengths=30)
    assert made.coverage < advice.SAFE
    assert any("covers" in text for text in made.warnings)
    assert made.overthinks
    assert made.best_step <= 1


def test_a_plan_whose_errors_overflow_says_so_and_can_be_printed():
    skewed = torch.diag(torch.tensor([1e4, 1, 1e-4], dtype=torch.float64))
    made = plan({"skewed": skewed}, torch.eye(3, dtype=torch.float64), lengths=10**6, steps=200)
    assert made.errors["recommended"][:, -1].isinf().all()
    assert made.overthinks
    assert made.best_step <= 1
    assert "inf" in str(made)


def test_coverage_and_hardness_are_those_of_theory():
    made = plan({"one": law(0.5)}, law(0.8), count=200_000)
    top = torch.linalg.eigvals(torch.linalg.solve(theory.gamma(law(0.5), 100), law(0.8))).real.max().item()
    assert made.tasks[0].coverage == pytest.approx(1 / top, rel=0.02)
    assert made.tasks[0].hardness == pytest.approx(covariance.hardness(law(0.5)), rel=0.02)
    assert made.target_hardness == pytest.approx(covariance.hardness(law(0.8)), rel=0.02)


def test_predicted_error_comes_true_for_a_model_trained_on_the_recommended_mixture():
    covs = {"a": law(0.8), "b": law(0.8).flip(0, 1), "c": law(0.3)}
    made = plan(covs, law(0.5), count=20_000)
    mixture = prompts.TaskMixture(list(covs.values()), made.weights, [100] * 3)
    learned = lsa.empirical_optimum(mixture.sample_moments(100_000, generator(5)))
    grams = covariance.wishart(law(0.5), 400, 2000, generator(6))
    measured = errors.propagated_error(grams, torch.linalg.inv(learned), 6).median(0).values / 8
    predicted = made.errors["recommended"].median(0).values
    torch.testing.assert_close(measured[:4], predicted[:4], rtol=0.15, atol=1e-6)


def test_few_samples_draw_a_warning_and_still_give_a_plan():
    made = plan({"same": law(0.8), "easy": law(0.1)}, law(0.8), count=12)
    assert any("samples" in text for text in made.warnings)
    assert made.weights.sum().item() == pytest.approx(1)


def test_heavy_tails_are_worth_fewer_samples():
    gaussian = features(law(0.8), 200, 1)
    tails = gaussian * torch.empty(200, 1, dtype=torch.float64).cauchy_(generator=generator(2)).abs()
    found = [
        advice.plan_training({"a": gaussian}, rows, 50, 100, 2, generator(3)) for rows in (gaussian, tails)
    ]
    assert 150 < found[0].worth <= 200
    assert found[1].worth < 40
    assert not any("samples" in text for text in found[0].warnings)
    assert any("samples" in text and "worth" in text for text in found[1].warnings)


def test_a_rare_task_that_decides_draws_a_warning_and_its_promise_fails_without_the_prompts():
    """Only a task of large moments covers the first axis: it gets a tiny share, which few training prompts do not show."""
    covs = {"mild": law(0.0) - torch.diag(0.99 * torch.eye(8)[0].double()), "large": 10 * law(0.0)}
    made = plan(covs, law(0.0), steps=8)
    assert 0 < made.tasks[1].weight < 1e-3
    assert made.needed["large"] > advice.RARE > made.needed["mild"]
    assert any("large is rare" in text for text in made.warnings)
    mixture = prompts.TaskMixture(list(covs.values()), made.weights, [100] * 2)
    learned = lsa.empirical_optimum(mixture.sample_moments(2000, generator(0)))
    fresh = covariance.wishart(law(0.0), 400, 100, generator(6))
    measured = errors.propagated_error(fresh, torch.linalg.inv(learned), 8).median(0).values[-1] / 8
    assert measured > 100 * made.errors["recommended"].median(0).values[-1]


def test_a_common_unit_of_all_features_changes_no_advice():
    made = [
        advice.plan_training(
            {name: unit * features(law(a), 200, i) for i, (name, a) in enumerate({"a": 0.2, "b": 0.9}.items())},
            unit * features(law(0.6), 200, 5), 50, 100, 4, generator(1),
        )
        for unit in (1.0, 1e-6, 1e5)
    ]  # fmt: skip
    for other in made[1:]:
        torch.testing.assert_close(other.weights, made[0].weights, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            other.errors["recommended"], made[0].errors["recommended"], rtol=1e-3, atol=1e-9
        )
        assert other.coverage == pytest.approx(made[0].coverage, rel=1e-4)


def test_a_feature_in_faint_units_is_not_taken_for_absent():
    """A direction that is covered must look covered, however small its unit."""
    units = torch.ones(8, dtype=torch.float64)
    units[-1] = 1e-7
    rows = features(law(0.3), 4000, 2) * units
    made = advice.plan_training(
        {"same": features(law(0.3), 4000, 3) * units}, rows, 10**6, 400, 2, generator(0)
    )
    assert made.coverage == pytest.approx(1, abs=0.15)


def test_promises_of_few_rows_are_wider_than_those_of_many():
    widths = []
    for count in (40, 4000):
        made = plan({"same": law(0.8)}, law(0.8), count=count)
        low, high = made.errors["recommended"].quantile(torch.tensor([0.1, 0.9]).double(), 0)[:, 1]
        widths.append((high / low).log())
    assert widths[0] > 1.5 * widths[1]


def test_the_report_names_every_task_and_states_the_benefit():
    made = plan({"same": law(0.8), "easy": law(0.1)}, law(0.8))
    text = str(made)
    assert all(name in text for name in ("same", "easy", "recommended", "equal weights", "hardness"))
    middle, low, high = made.benefit
    assert 1 < low <= middle <= high
    assert f"divides the error of one step by {middle:.3g}" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {}}, "tasks must"),
        ({"tasks": {"a": torch.zeros(1, 3)}}, "at least 2 rows"),
        ({"tasks": {"a": torch.full((4, 3), float("nan"))}}, "finite"),
        ({"tasks": {"a": torch.zeros(4, 3)}}, r"tasks\['a'\] must not be zero"),
        ({"target": torch.zeros(4, 3)}, "target must not be zero"),
        ({"tasks": {"a": torch.ones(4, 2)}}, "dimension"),
        ({"lengths": 0}, r"lengths\[0\] must"),
        ({"lengths": [5, 5]}, "lengths"),
        ({"examples": 0}, "examples must"),
        ({"steps": 0}, "steps must"),
    ],
)
def test_bad_input_is_named(change, message, refuses):
    base = {
        "tasks": {"a": features(law(0.2, 3), 20, 0)},
        "target": features(law(0.2, 3), 20, 1),
        "lengths": 10,
        "examples": 10,
        "steps": 2,
        "generator": generator(),
    }
    with refuses(message):
        advice.plan_training(**(base | change))


def model(gamma: torch.Tensor):
    return lambda batch, steps: cot.pseudo_newton(batch.moments(), gamma, steps)


IDENTITY = torch.eye(5, dtype=torch.float64)


def test_converging_chain_helps() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(0))
    found = advice.thinking_helps(model(theory.gamma(IDENTITY, 10)), batch, 8)
    assert found.verdict == "helps"
    assert found.best == 8
    assert "helps" in str(found)


def test_diverging_chain_hurts() -> None:
    batch = prompts.sample_prompts(IDENTITY, 60, 200, generator=generator(1))
    found = advice.thinking_helps(model(theory.gamma(covariance.power_law(5, 1.0), 30)), batch, 8)
    assert found.verdict == "hurts"
    assert found.harmed[-1] > 0.9
    assert found.low[-1] > 1


def test_chain_that_stands_still_is_undecided() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 100, generator=generator(2))
    guesses = torch.randn(100, 7, 5, dtype=torch.float64, generator=generator(3))
    found = advice.thinking_helps(lambda _, steps: guesses[:, : steps + 1], batch, 6)
    assert found.verdict == "undecided"
    assert ((found.low <= 1) & (found.high >= 1)).all()


def test_true_weights_and_overflow_do_not_matter() -> None:
    batch = prompts.sample_prompts(IDENTITY, 20, 50, generator=generator(4))
    blind = prompts.Prompts(batch.x, batch.y, torch.full_like(batch.w, torch.nan))
    chain = torch.full((50, 5, 5), torch.inf, dtype=torch.float64)
    chain[:, :2] = 0
    found = advice.thinking_helps(lambda *_: chain, blind, 4)
    assert found.verdict == "hurts"
    assert not torch.isnan(found.low).any()


def test_simultaneous_error_rate_is_kept_when_nothing_changes() -> None:
    wrong = 0
    for trial in range(200):
        noise = torch.randn(60, 6, 3, dtype=torch.float64, generator=generator(100 + trial))
        batch = prompts.sample_prompts(torch.eye(3, dtype=torch.float64), 10, 60, generator=generator(trial))
        found = advice.thinking_helps(
            lambda _, steps, noise=noise: noise[:, : steps + 1], batch, 5, held_out=2
        )
        wrong += bool(((found.low > 1) | (found.high < 1)).any())
    assert stats.binomtest(wrong, 200, 0.05, alternative="greater").pvalue > 1e-3


def test_bad_questions_are_named(refuses) -> None:
    batch = prompts.sample_prompts(IDENTITY, 4, 30, generator=generator(6))
    think = model(IDENTITY)
    with refuses("budget must be"):
        advice.thinking_helps(think, batch, 1)
    with refuses("held_out must be below"):
        advice.thinking_helps(think, batch, 3, held_out=4)
    with refuses("confidence must lie"):
        advice.thinking_helps(think, batch, 10, confidence=-3.0)


def log(
    chances, questions=200, repeats=1, seed=0, model="m", benchmark="b", spread=0.25, grades=False
) -> pd.DataFrame:
    """A made-up log: `chances` holds the mean chance of a right answer at each level; a question keeps its difficulty."""
    draws = np.random.default_rng(seed)
    ease = draws.uniform(-spread, spread, questions)
    parts = []
    for level, chance in chances.items():
        right = draws.random((questions, repeats)) < (chance + ease)[:, None]
        parts.append(
            pd.DataFrame(
                {
                    "model": model,
                    "benchmark": benchmark,
                    "level": level,
                    "question": np.repeat(np.arange(questions), repeats),
                    "repeat": np.tile(np.arange(repeats), questions),
                    "correct": np.where(right, "A", "C" if level == "low" else "B").ravel()
                    if grades
                    else right.astype(int).ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_a_budget_that_helps_hurts_or_does_nothing_is_told_apart():
    rows = log({"low": 0.4, "medium": 0.6, "high": 0.6}, questions=400)
    up, still, whole = advice.budget_helps(rows).comparisons
    assert [c.outcome for c in (up, still, whole)] == ["helps", "undecided", "helps"]
    assert up.low > 0 > still.low
    down = advice.budget_helps(
        rows.assign(level=rows["level"].map({"low": "high", "high": "low", "medium": "medium"}))
    )
    assert down.comparisons[-1].outcome == "hurts"
    assert down.comparisons[-1].high == pytest.approx(-whole.low)


def test_counts_are_those_of_the_log_and_the_dictionary_has_its_shape():
    rows = log({"off": 0.4, "on": 0.5})
    wide = rows.pivot(index="question", columns="level", values="correct")
    report = advice.budget_helps(rows)
    (only,) = report.to_dict()["comparisons"]
    keys = "model benchmark from to questions right_from right_to gained lost low high outcome"
    assert " ".join(only) == keys
    assert (only["from"], only["to"], only["questions"]) == ("off", "on", 200)
    assert only["gained"] == (wide["on"] > wide["off"]).sum()
    assert only["lost"] == (wide["on"] < wide["off"]).sum()
    assert only["right_to"] == pytest.approx(wide["on"].mean())
    assert json.loads(json.dumps(report.details(), allow_nan=False))["comparisons"][0]["source"] == "off"
    _, low, high = errors.paired_difference(int(only["gained"]), int(only["lost"]), 200)
    assert (only["low"], only["high"]) == pytest.approx((low, high))


def test_outcomes_are_mcnemars_exact_test_with_holms_correction():
    """The peer: McNemar's test and Holm's correction, as statsmodels has them, where it is installed; scipy's exact
    binomial test of the changed answers is McNemar's exact test.
    """
    rows = pd.concat(
        log({"low": 0.5, "medium": 0.5 + gain, "high": 0.5 + 2 * gain}, seed=seed, benchmark=f"b{seed}")
        for seed, gain in enumerate([0, 0.02, 0.06, 0.08, 0.1])
    )
    found = advice.budget_helps(rows).comparisons
    exact = [stats.binomtest(c.gained, c.gained + c.lost).pvalue for c in found]
    assert [c.pvalue for c in found] == pytest.approx(errors.holm(exact))
    by_hand = sorted(exact)
    rejected = next((i for i, p in enumerate(by_hand) if p > 0.05 / (len(exact) - i)), len(exact))
    assert 0 < rejected < len(found)
    assert sum(c.outcome != "undecided" for c in found) == rejected


def test_the_peer_agrees():
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rows = pd.concat(
        log({"low": 0.5, "high": 0.5 + gain}, seed=seed, benchmark=f"b{seed}")
        for seed, gain in enumerate([0, 0.05, 0.1, 0.15, 0.2])
    )
    found = advice.budget_helps(rows).comparisons
    raw = []
    for c in found:
        tied = c.questions - c.gained - c.lost
        raw.append(contingency.mcnemar([[tied, c.lost], [c.gained, 0]], exact=True).pvalue)
    rejected, adjusted, *_ = multitest.multipletests(raw, 0.05, "holm")
    assert [c.pvalue for c in found] == pytest.approx(list(adjusted))
    assert [c.outcome != "undecided" for c in found] == list(rejected)


def test_repeats_of_a_question_do_not_count_as_questions():
    # Eight copies of every answer say nothing new; a test that took rows for independent would decide.
    once = log({"off": 0.5, "on": 0.58}, questions=60, seed=3)
    again = pd.concat(once.assign(repeat=repeat) for repeat in range(8))
    single, repeated = (advice.budget_helps(rows).comparisons[0] for rows in (once, again))
    assert single.outcome == repeated.outcome == "undecided"
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))
    # Eight fresh answers do say more.
    fresh = advice.budget_helps(log({"off": 0.5, "on": 0.58}, questions=60, repeats=8, seed=3)).comparisons[0]
    assert fresh.high - fresh.low < 0.6 * (single.high - single.low)


def test_without_any_effect_a_log_is_decided_as_rarely_as_promised_and_intervals_cover():
    # Twelve comparisons of different kinds a log; fewer runs than one would like, for time.
    wrong = covered = compared = 0
    for run in range(30):
        rows = pd.concat(
            [
                log({"low": 0.5, "medium": 0.5, "high": 0.5}, 45, 4, 10 * run, "m", "repeated", 0.45),
                log({"low": 0.9, "medium": 0.9, "high": 0.9}, 100, 1, 10 * run + 1, "m", "easy", 0.1),
                log({"low": 0.3, "medium": 0.3, "high": 0.3}, 200, 1, 10 * run + 2, "m", "hard", 0.3),
            ]
        )
        found = advice.budget_helps(rows).comparisons
        wrong += any(c.outcome != "undecided" for c in found)
        covered += sum(c.low <= 0 <= c.high for c in found)
        compared += len(found)
    assert stats.binomtest(wrong, 30, 0.05, alternative="greater").pvalue > 1e-3
    assert covered >= 0.99 * compared


def test_the_interval_of_repeated_answers_covers_the_true_difference():
    inside = 0
    for seed in range(60):
        (only,) = advice.budget_helps(log({"off": 0.5, "on": 0.62}, 45, 4, seed, spread=0.35)).comparisons
        inside += only.low <= 0.12 <= only.high
    assert stats.binomtest(inside, 60, 0.95, alternative="less").pvalue > 1e-3


def test_the_number_of_questions_it_needs_does_decide():
    few = advice.budget_helps(log({"off": 0.5, "on": 0.58}, questions=100, seed=8)).comparisons[0]
    assert few.outcome == "undecided"
    change, size = few.right_to - few.right_from, (few.gained + few.lost) / few.questions
    draws = np.random.default_rng(0).multinomial(
        few.needed, [(size + change) / 2, (size - change) / 2, 1 - size], size=400
    )
    decided = np.mean([stats.binomtest(int(a), int(a + b)).pvalue <= 0.05 for a, b, _ in draws])
    assert 0.72 < decided < 0.88


def test_the_oracles_optimism_goes_when_repeats_are_split():
    # No level is better for any question: what picking the best for each seems to add is luck.
    rows = log({"low": 0.5, "medium": 0.5, "high": 0.5}, questions=150, repeats=6, seed=5)
    oracle = advice.budget_helps(rows).cases[0].oracle
    assert oracle.naive > 0.1
    assert oracle.low < 0.02
    assert abs(oracle.split) < 0.03
    assert advice.budget_helps(log({"low": 0.5, "high": 0.5})).cases[0].oracle.split is None
    # Half of the questions need thinking, the others are spoiled by it: here an oracle is worth much.
    first = log({"low": 0.9, "high": 0.1}, questions=80, repeats=6, seed=6, spread=0.1)
    second = log({"low": 0.1, "high": 0.9}, questions=80, repeats=6, seed=7, spread=0.1)
    both = pd.concat([first, second.assign(question=second["question"] + 80)])
    assert advice.budget_helps(both).cases[0].oracle.split == pytest.approx(0.4, abs=0.06)


def test_gain_per_doubling_of_tokens_and_shares_by_level():
    rows = log({"low": 0.3, "high": 0.6}, grades=True)
    rows["tokens"] = np.where(rows["level"] == "low", 100, 800)
    report = advice.budget_helps(rows)
    (only,) = report.comparisons
    assert only.per_doubling == pytest.approx((only.right_to - only.right_from) / 3)
    low, high = report.cases[0].levels
    assert (low.wrong, high.skipped) == (0, 0)
    assert low.skipped == pytest.approx(1 - low.right)
    assert low.low < low.right < low.high
    assert report.cases[0].best == "high"
    assert "not attempted" in str(report)


def test_groups_are_compared_within_and_counted():
    rows = log({"low": 0.4, "high": 0.6})
    rows["difficulty"] = np.where(rows["question"] < 100, "easy", "hard")
    report = advice.budget_helps(logs.understand(rows, groups=["difficulty"]))
    assert [c.benchmark for c in report.comparisons] == ["b", "b [difficulty easy]", "b [difficulty hard]"]
    assert sum(c.gained for c in report.comparisons[1:]) == report.comparisons[0].gained
    assert "among all 3 comparisons" in report.correction


def test_a_log_with_nothing_to_compare_says_so(refuses):
    report = advice.budget_helps(log({"low": 0.5}))
    assert report.comparisons == ()
    assert "nothing to compare" in str(report)
    with refuses("confidence must lie"):
        advice.budget_helps(log({"low": 0.5, "high": 0.5}), 1.5)
