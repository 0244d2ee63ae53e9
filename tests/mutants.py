"""Plausible slips in the package, one at a time, with which `test_mutations` breaks the chapters' checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tsl import baselines, cot, covariance, exact, laws, prompts
from tsl.prompts import Prompts

Function = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """A function of the package with a slip in it.

    Parameters
    ----------
    function : str
        Which function, as ``module.function``.
    slip : str
        What is wrong, for a reader.
    wrong : callable
        The right function -> the wrong one.
    chapters : tuple of str
        Where it is tried; in every chapter that calls the function, if empty.
    anew : bool
        Whether it is made into the records of a sweep, so that those of the whole chapter must not be taken for its own.
    """

    function: str
    slip: str
    wrong: Callable[[Function], Function]
    chapters: tuple[str, ...] = ()
    anew: bool = False

    @property
    def name(self) -> str:
        """Function and slip, by which the mutant is known."""
        return f"{self.function}: {self.slip}"


def _thoughtless(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a model whose chain repeats its first thought."""
    if "tests" not in record["result"]:  # of another experiment
        return record
    tests = [
        test | {"error": [*test["error"][:2], *[test["error"][1]] * (len(test["error"]) - 2)]}
        for test in record["result"]["tests"]
    ]
    return record | {"result": record["result"] | {"tests": tests}}


def _changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Function], Function]:
    """A slip in what is measured of each test of a trained transformer."""

    def wrong(right: Function) -> Function:
        def made(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
            found = right(*args, **kwargs)
            return [
                r | {"result": r["result"] | {"tests": [t | change(t) for t in r["result"]["tests"]]}}
                for r in found
            ]

        return made

    return wrong


def _misread(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Function], Function]:
    """A slip in how curves of errors are read from records; of what else is in them not."""

    def wrong(right: Function) -> Function:
        def read(runs: Any, m: int, what: str = "error", *rest: Any) -> torch.Tensor:
            found = right(runs, m, what, *rest)
            return change(found) if what in ("error", "median", "windowed") else found

        return read

    return wrong


def _best_so_far(test: dict[str, Any]) -> dict[str, Any]:
    alone = test["alone"]
    return {"alone": [alone[0], *(min(alone[1 : k + 1]) for k in range(1, len(alone)))]}


def _one_noise(right: Function) -> Function:
    """All chains of a prompt share their noise."""

    def wrong(moments: Any, gamma: Any, steps: int, count: int, noise: float, source: Any) -> Any:
        one = right(moments, gamma, steps, 1, noise, source)
        return one.expand(-1, count, -1, -1)

    return wrong


CHOOSING, PLANNING = "07_choosing_tasks", "13_planning"


def _last_takes_half(weights: torch.Tensor) -> torch.Tensor:
    halved = weights / 2
    halved[-1] += 0.5
    return halved


def _exchanged(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a study whose aligned and misaligned tunings have each other's names."""
    names = {"aligned": "misaligned", "elastic": "elastic misaligned"}
    names |= {b: a for a, b in names.items()}
    if "base" not in record["result"]:  # of another experiment
        return record
    return record | {"result": {names.get(name, name): found for name, found in record["result"].items()}}


def _of_all(right: Function) -> Function:
    """Natural chains of some lengths that are right, as a share of all problems."""

    def wrong(runs: Any, diet: str, low: int = 1, high: int | None = None) -> tuple[Any, ...]:
        many, share, needed = right(runs, diet, low, high)
        return many, share * many / right(runs, diet)[0], needed

    return wrong


def _shifted(right: Function) -> Function:
    """Means whose lengths of chains start at 1."""

    def wrong(runs: Any, diet: str, what: str, *rest: Any, **named: Any) -> Any:
        found = right(runs, diet, what, *rest, **named)
        return found.roll(-1, -1) if what == "accuracy" else found

    return wrong


def _common(tasks: Any, probs: Any, lengths: Any, *rest: Any) -> tuple[Any, ...]:
    """A mixture without its rare tasks."""
    kept = [index for index, share in enumerate(probs) if share >= 0.01]
    total = sum(float(probs[index]) for index in kept)
    shares = [float(probs[index]) / total for index in kept]
    return ([tasks[index] for index in kept], shares, [lengths[index] for index in kept], *rest)


_ALL = [
    # --- theory
    Mutant(
        "theory.gamma",
        "forgets that a finite prompt spreads its covariance, Γ = Λ",
        lambda right: lambda cov, n, noise=0.0: right(cov, 10**9, noise),
    ),
    Mutant(
        "theory.gamma_mixture",
        "averages the Γ of the tasks instead of their moments",
        lambda right: (
            lambda tasks, probs, lengths, noise=0.0: sum(
                float(p) * right([task], [1.0], [n], noise)
                for p, task, n in zip(probs, tasks, lengths, strict=True)
            )
        ),
    ),
    Mutant(
        "theory.direct_error",
        "believes in twice the context",
        lambda right: lambda gamma, cov, m, noise=0.0: right(gamma, cov, 2 * m, noise),
    ),
    Mutant(
        "theory.direct_error_bound",
        "a hundred times too low",
        lambda right: lambda cov, n, m: right(cov, n, m) / 100,
    ),
    Mutant(
        "theory.cot_error_bound",
        "the exponent k for 2k",
        lambda right: lambda cov, n, k: cov.shape[0] * (right(cov, n, k) / cov.shape[0]) ** 0.5,
    ),
    Mutant(
        "theory.cot_error_limit",
        "a step too many",
        lambda right: lambda gamma, cov, k: right(gamma, cov, k + 1),
    ),
    Mutant(
        "theory.marchenko_pastur_error",
        "half as many examples",
        lambda right: lambda ratio, g, k: right(2 * ratio, g, k),
    ),
    Mutant(
        "theory.required_context",
        "the exponent 1/4k for 1/2k",
        lambda right: lambda cov, k, eps: right(cov, 2 * k, eps),
    ),
    Mutant(
        "exact.isotropic_error",
        "believes in twice the context",
        lambda right: lambda d, m, g, steps, noise=0.0: right(d, 2 * m, g, steps, noise),
    ),
    Mutant(
        "laws.rows",
        "takes all features for Gaussian",
        lambda right: lambda x, jitter=0.0: laws.gaussian(right(x, jitter).second),
        ("09_real_features",),
    ),
    Mutant(
        "theory.gamma_mixture",
        "drops tasks of less than one prompt in a hundred",
        lambda right: lambda *args, **kwargs: right(*_common(*args), **kwargs),
        ("09_real_features",),
    ),
    # --- what is measured
    Mutant(
        "cot.pseudo_newton",
        "a step half as long",
        lambda right: lambda moments, gamma, steps: right(moments, 2 * gamma, steps),
    ),
    Mutant(
        "errors.propagated_error",
        "a step half as long",
        lambda right: lambda gram, gamma, steps: right(gram, 2 * gamma, steps),
    ),
    Mutant(
        "covariance.wishart",
        "prompts of twice the examples that they say",
        lambda right: (
            lambda cov, m, size, generator=None: right(
                cov, 2 * m if isinstance(m, int) else [2 * length for length in m], size, generator
            )
        ),
    ),
    # --- chapter 5
    Mutant(
        "theory.depth_law",
        "the exponent 4k for 2k",
        lambda right: lambda ratio, g, k: right(ratio, g, 2 * k),
    ),
    Mutant(
        "cot.pseudo_newton",
        "every second thought is lost",
        lambda right: (
            lambda moments, gamma, steps: right(moments, gamma, steps)[
                :, [(k + 1) // 2 for k in range(steps + 1)]
            ]
        ),
        chapters=("05_scaling_law",),
    ),
    Mutant(
        "cot.sampled_errors",
        "prompts that show the whole covariance, Σ̂ = Σ",
        lambda right: lambda gamma, law, m, *rest: right(gamma, law, 10**7, *rest),
        chapters=("05_scaling_law",),
    ),
    Mutant(
        "errors.propagated_error",
        "a step twice as long",
        lambda right: lambda gram, gamma, steps: right(2 * gram, gamma, steps),
        chapters=("05_scaling_law",),
    ),
    Mutant(
        "covariance.wishart",
        "prompts that show the whole covariance, Σ̂ = Σ",
        lambda right: (
            lambda cov, m, size, generator=None: right(
                cov, 10**7 if isinstance(m, int) else [10**7] * len(m), size, generator
            )
        ),
        chapters=("05_scaling_law",),
    ),
    Mutant(
        "lsa.train_population",
        "labels that know nothing of the features' covariance",
        lambda right: (
            lambda first, second, steps, *rest, **named: right(
                torch.eye(len(first)).to(first), second, steps, *rest, **named
            )
        ),
    ),
    Mutant(
        "exact.isotropic_error",
        "four times the noise",
        lambda right: lambda d, m, g, steps, noise=0.0: right(d, m, g, steps, 4 * noise),
        ("06_overthinking",),
    ),
    # --- chapters 2 to 4
    Mutant(
        "lsa.embed",
        "thinks of something at the start, ŵ₀ ≠ 0",
        lambda right: (
            lambda prompts, w0=None: right(prompts, torch.full_like(prompts.w, 1.0) if w0 is None else w0)
        ),
        ("02_training",),
    ),
    Mutant(
        "lsa.train_lsa",
        "W13 follows c, whether asked or not",
        lambda right: (
            lambda *args, train_w=False, tie=False, **named: right(
                *args, train_w=train_w, tie=train_w, **named
            )
        ),
        ("02_training",),
    ),
    Mutant(
        "lsa.empirical_optimum",
        "shrinks as under a ridge penalty",
        lambda right: lambda moments: 0.8 * right(moments),
        ("02_training",),
    ),
    Mutant(
        "prompts.sample_moments",
        "small training sets are ten times as large as they say",
        lambda right: (
            lambda law, n, size, *rest, **named: right(
                law, n, 10 * size if size <= 1000 else size, *rest, **named
            )
        ),
        ("02_training",),
    ),
    Mutant(
        "prompts.sample_moments",
        "labels with a noise that nobody asked for",
        lambda right: lambda law, n, size, noise=0.0, generator=None: right(law, n, size, 5.0, generator),
        ("02_training",),
    ),
    Mutant(
        "cot.chain_of_thought",
        "a thought late",
        lambda right: (
            lambda model, prompts, steps: torch.nn.functional.pad(
                right(model, prompts, steps)[:, :-1], (0, 0, 1, 0)
            )
        ),
        ("03_pseudo_newton",),
    ),
    Mutant(
        "baselines.gradient_descent",
        "knows the inverse",
        lambda right: lambda prompts, steps, learning_rate=None: baselines.newton(prompts, steps),
        ("03_pseudo_newton",),
    ),
    Mutant(
        "baselines.conjugate_gradient",
        "never conjugates",
        lambda right: lambda prompts, steps: baselines.gradient_descent(prompts, steps),
        ("03_pseudo_newton",),
    ),
    Mutant(
        "baselines.newton",
        "half a step",
        lambda right: lambda prompts, steps: right(prompts, steps) / 2,
        ("03_pseudo_newton",),
    ),
    Mutant(
        "covariance.rotate",
        "does not rotate",
        lambda right: lambda cov, generator=None: cov,
        ("03_pseudo_newton",),
    ),
    Mutant(
        "covariance.power_law",
        "forgets the exponent",
        lambda right: lambda d, alpha, trace=None: right(d, 0.0, trace),
        ("04_hardness",),
    ),
    Mutant(
        "errors.propagated_error",
        "what was learned for what was missed",
        lambda right: lambda gram, gamma, steps: gamma.shape[-1] - right(gram, gamma, steps),
        ("04_hardness",),
    ),
    Mutant(
        "cot.sampled_errors",
        "what was learned for what was missed",
        lambda right: lambda gamma, *rest, **named: len(gamma) - right(gamma, *rest, **named),
        ("04_hardness",),
    ),
    Mutant(
        "theory.direct_error_bound",
        "the hardness squared in both terms",
        lambda right: lambda cov, n, m: right(cov, n, m) + (1 + covariance.hardness(cov)) ** 2 * len(cov) / m,
        ("04_hardness",),
    ),
    # --- choosing tasks
    Mutant(
        "selection.select_tasks_qp",
        "plans for an isotropic target, whatever the target",
        lambda right: (
            lambda tasks, target: right(tasks, torch.eye(laws.of("target", target).d, dtype=torch.float64))
        ),
    ),
    Mutant(
        "selection.select_tasks",
        "never chooses",
        lambda right: (
            lambda covs, *args, **kwargs: torch.full_like(right(covs, *args, **kwargs), 1 / len(covs))
        ),
    ),
    Mutant(
        "selection.select_tasks_qp",
        "hands the weights out in reverse order",
        lambda right: lambda tasks, target: right(tasks, target).flip(0),
    ),
    Mutant(
        "selection.select_tasks_qp",
        "the last task takes half of what the others should have",
        lambda right: lambda tasks, target: _last_takes_half(right(tasks, target)),
    ),
    Mutant(
        "selection.select_tasks",
        "plans for an isotropic target, whatever the target",
        lambda right: (
            lambda tasks, lengths, target, steps, grams=None: right(
                tasks, lengths, torch.eye(laws.of("target", target).d, dtype=torch.float64), steps
            )
        ),
        chapters=(CHOOSING, PLANNING),
    ),
    Mutant(
        "lab.catalogues.catalogue",
        "takes the easy tasks for the hard ones",
        lambda right: (
            lambda *args, **named: (found := right(*args, **named)) and replace(found, hard=~found.hard)
        ),
    ),
    Mutant(
        "prompts.TaskMixture",
        "draws the likeliest task only",
        lambda right: (
            lambda tasks, probs, lengths: right(
                tasks,
                [float(i == int(torch.as_tensor(probs).argmax())) for i in range(len(lengths))],
                lengths,
            )
        ),
        chapters=(CHOOSING, PLANNING),
    ),
    Mutant(
        "prompts.sample_prompts",
        "features without their covariance",
        lambda right: (
            lambda law, n, size, *args, **kwargs: right(
                torch.eye(laws.of("law", law).d, dtype=torch.float64), n, size, *args, **kwargs
            )
        ),
        chapters=(CHOOSING, PLANNING),
    ),
    Mutant(
        "errors.z_scores",
        "the spread of one sample for that of the mean",
        lambda right: lambda values, *args: right(values, *args) / len(values) ** 0.5,
        chapters=(CHOOSING,),
    ),
    Mutant(
        "advice.plan_training",
        "tells its promises from the last step to the first",
        lambda right: (
            lambda *args: replace(
                plan := right(*args), errors={name: curve.flip(1) for name, curve in plan.errors.items()}
            )
        ),
        chapters=(PLANNING,),
    ),
    Mutant(
        "lab.selection_study.digit_pair",
        "tests on the rows it has planned with",
        lambda right: lambda *args: (*(found := right(*args))[:2], found[1]),
    ),
    # --- stopping
    Mutant(
        "stopping.held_out_error",
        "scores the examples that the model was shown",
        lambda right: (
            lambda model, prompts, steps, folds=20: (
                (prompts.y[:, None] - cot.chain_of_thought(model, prompts, steps) @ prompts.x.mT)
                .square()
                .mean(-1)
            )
        ),
        ("06_overthinking",),
    ),
    Mutant(
        "stopping.held_out_error",
        "hides half of the prompt",
        lambda right: lambda model, prompts, steps, folds=20: right(model, prompts, steps, 2),
        ("06_overthinking",),
    ),
    Mutant(
        "stopping.residual",
        "scores the thought before",
        lambda right: (
            lambda chain, prompts: torch.cat([right(chain, prompts)[:, :1], right(chain, prompts)[:, :-1]], 1)
        ),
        ("06_overthinking",),
    ),
    Mutant(
        "stopping.increment_ratio",
        "compares squares",
        lambda right: lambda chain: right(chain).square(),
        ("06_overthinking",),
    ),
    Mutant(
        "stopping.posterior_mean",
        "believes in weights as large as the noise",
        lambda right: lambda prompts, ratio=None: right(prompts, 1.0),
        ("06_overthinking",),
    ),
    Mutant(
        "stopping.posterior_mean",
        "a factor of two",
        lambda right: lambda prompts, ratio=None: 2 * right(prompts, ratio),
        ("06_overthinking",),
    ),
    Mutant(
        "lab.stopping_rules.regret",
        "compares with the worst fixed step",
        lambda right: (
            lambda error, answered, draws: {
                "mean": answered[draws].mean(1) / error[draws].mean(1).max(1).values,
                "median": answered[draws].median(1).values / error[draws].median(1).values.max(1).values,
            }
        ),
        ("06_overthinking",),
    ),
    # --- thinking
    Mutant(
        "cot.pseudo_newton",
        "a step twice as long",
        lambda right: lambda moments, gamma, steps: right(moments, gamma / 2, steps),
        ("06_overthinking",),
    ),
    Mutant(
        "cot.sampled_errors",
        "every thought but the first is lost",
        lambda right: (
            lambda *args, **named: (
                lambda error: torch.cat([error[:, :2], error[:, 1:2].expand(-1, error.shape[1] - 2)], 1)
            )(right(*args, **named))
        ),
        ("06_overthinking",),
    ),
    Mutant(
        "gpt._visible",
        "in training no estimate sees those before it",
        lambda right: (
            lambda new, total, device: (
                right(new, total, device)
                & (
                    (torch.arange(total) < total - new)
                    | (torch.arange(total) == torch.arange(total - new, total)[:, None])
                )
            )
        ),
        ("08_thinking_transformers",),
        anew=True,
    ),
    Mutant(
        "gpt.train_gpt",
        "trains on the direct answer alone, without a chain of its own",
        lambda right: (
            lambda model, cov, recipe, *rest, **named: right(
                model, cov, replace(recipe, chain=1), *rest, **named
            )
        ),
        ("08_thinking_transformers",),
        anew=True,
    ),
    Mutant(
        "lab.transformers.windowed",
        "the window is forgotten",
        lambda right: lambda model, prompts, steps, window: right(model, prompts, steps, steps),
        ("08_thinking_transformers",),
        anew=True,
    ),
    Mutant(
        "lab.parallel.break_even_noise",
        "forgets that later thoughts think about the noise of earlier ones",
        lambda right: (
            lambda d, m, g, steps, count: (
                (exact.isotropic_error(d, m, g, steps)[-1] / (d * steps * (count - 1 / count))).sqrt().item()
            )
        ),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.reasoning.met_and_unmet",
        "takes what was met for what was not",
        lambda right: lambda *args: right(*args)[::-1],
        ("10_reasoning_in_miniature",),
    ),
    Mutant(
        "lab.small_choices.think_under",
        "a normaliser that never counts thoughts",
        lambda right: lambda model, prompts, w0, steps, counts=False: right(model, prompts, w0, steps),
        ("12_small_choices",),
    ),
    Mutant(
        "lab.small_choices.free_c",
        "forgets the outer square root",
        lambda right: lambda gamma, c0=1.0: right(gamma, c0) ** 2,
        ("12_small_choices",),
    ),
    Mutant(
        "cot.chain_lessons",
        "asks for all of the way at each step",
        lambda right: (
            lambda moments, damping, length: (
                lambda lessons: prompts.Moments(lessons.gram, lessons.cross, lessons.w / damping)
            )(right(moments, damping, length))
        ),
        ("06_overthinking",),
    ),
    # --- trained models and logs
    Mutant(
        "lab.records.sweep",
        "every thought but the first is lost",
        lambda right: lambda *args, **kwargs: [_thoughtless(r) for r in right(*args, **kwargs)],
    ),
    Mutant(
        "lab.records.sweep",
        "every thought of the one chain is lost",
        _changed(lambda test: {"alone": test["alone"][:1] * len(test["alone"])}),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.records.sweep",
        "one chain is ended at its best step so far, which nobody knows",
        _changed(_best_so_far),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.transformers.curve",
        "reads the chain backwards",
        _misread(lambda error: error.flip(1)),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.transformers.curve",
        "reads a step too late",
        _misread(lambda error: torch.cat([error[:, 1:], error[:, -1:]], 1)),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.transformers.curve",
        "reads the longest prompts, whichever are asked for",
        lambda right: (
            lambda runs, m, *rest: right(runs, max(test["m"] for test in runs[0]["result"]["tests"]), *rest)
        ),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "errors.squared_error",
        "the distance, not its square",
        lambda right: lambda chain, w: right(chain, w).sqrt(),
        ("08_thinking_transformers",),
    ),
    Mutant(
        "lab.parallel.noisy_chains",
        "all chains of a prompt share their noise",
        _one_noise,
    ),
    Mutant(
        "lab.parallel.noisy_chains",
        "is never without noise",
        lambda right: (
            lambda moments, gamma, steps, count, noise, source: right(
                moments, gamma, steps, count, max(noise, 0.3), source
            )
        ),
    ),
    Mutant(
        "lab.parallel.split",
        "each part is the whole prompt",
        lambda right: (
            lambda prompts, parts: Prompts(
                *(values.repeat_interleave(parts, 0) for values in (prompts.x, prompts.y, prompts.w))
            )
        ),
    ),
    Mutant(
        "lab.chargpt.think",
        "reads the answer one character too far",
        lambda right: lambda *args: (thought := right(*args))._replace(answer=thought.answer + 1),
    ),
    Mutant(
        "errors.paired_difference",
        "takes what was lost for gained",
        lambda right: lambda gained, lost, *rest: right(lost, gained, *rest),
    ),
    Mutant(
        "errors.sign_flip_pvalue",
        "one-sided: sees gains alone",
        lambda right: lambda changes: right(changes) if sum(changes) > 0 else 1.0,
        chapters=("11_real_models",),
    ),
    Mutant(
        "lab.real_models.new_answers",
        "takes what was not attempted for wrong",
        lambda right: lambda moves: right(moves[[0, 2, 1]][:, [0, 2, 1]]),
    ),
    Mutant(
        "lab.real_models.returns",
        "levels from the last to the first",
        lambda right: lambda share, tokens: right(share, tokens)[::-1],
    ),
    Mutant(
        "lab.real_models.pace",
        "forgets that tokens grow",
        lambda right: lambda share, tokens: (right(share, tokens)[0], 1.0),
    ),
    Mutant(
        "lab.records.sweep",
        "two tunings exchanged",
        lambda right: lambda *args, **kwargs: [_exchanged(r) for r in right(*args, **kwargs)],
        chapters=("10_reasoning_in_miniature",),
    ),
    Mutant(
        "lab.reasoning.by_length",
        "short chains for long ones",
        lambda right: lambda runs, diet, low=1, high=None: right(runs, diet, 9 - (high or 8), 9 - low),
    ),
    Mutant("lab.reasoning.by_length", "divides by all problems, not by those of the length", _of_all),
    Mutant("lab.reasoning.average", "lengths of chains start at 1", _shifted),
    # --- small choices
    Mutant(
        "lsa.embed",
        "every chain starts at zero",
        lambda right: lambda prompts, w0=None: right(prompts),
        chapters=("12_small_choices",),
    ),
    Mutant(
        "errors.geometric_mean",
        "the sign of the logarithm",
        lambda right: lambda values, dim=0: 1 / right(values, dim),
        chapters=("12_small_choices",),
    ),
    Mutant(
        "theory.second_moment",
        "forgets that a finite prompt spreads its covariance",
        lambda right: lambda law, n, middle=None: right(law, 10**9, middle),
        chapters=("12_small_choices",),
    ),
]
MUTANTS = {mutant.name: mutant for mutant in _ALL}
