"""What the theory foresees for one setting: error by step, the best step, and whether and why thinking hurts in the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsl import _validate, cot, exact, laws, theory

#: Test prompts that a typical error is drawn from.
PROMPTS = 4000


@dataclass(frozen=True)
class Forecast:
    """Answer of `foresee`; print it. Errors are E‖ŵ_k − w*‖² after k = 0, 1, … steps.

    Parameters
    ----------
    typical, low, high : Tensors of shape (steps + 1,)
        Median and 10–90 % quantiles over test prompts.
    mean : Tensor of shape (at most steps + 1,)
        Exact mean over prompts, as far as a formula gives it.
    limit : Tensor of shape (steps + 1,)
        Error on unlimited test prompts.
    reach, edge : float
        Largest eigenvalue of Γ⁻¹Σ, and upper edge of the spectrum of Γ⁻¹Σ̂ on prompts of m examples: beyond 2, thinking diverges.
    m : int
        Examples in a test prompt.
    noise : float
        Standard deviation σ of the label noise.
    formula : str
        Where `mean` comes from.
    """

    typical: Float[Tensor, " k"]
    low: Float[Tensor, " k"]
    high: Float[Tensor, " k"]
    mean: Float[Tensor, " j"]
    limit: Float[Tensor, " k"]
    reach: float
    edge: float
    m: int
    noise: float
    formula: str

    @property
    def best_step(self) -> int:
        """Step of the least typical error, the first of several that only rounding tells apart."""
        return int((self.typical <= self.typical.min() + self._rounding).int().argmax())

    @property
    def overthinks(self) -> bool:
        """Whether the last step is typically worse than the best one by a tenth or more."""
        return bool(self.typical[-1] > 1.1 * self.typical.min() + self._rounding)

    @property
    def _rounding(self) -> float:
        """What rounding leaves of an error, w itself being known to sixteen digits."""
        return 1e-28 * self.typical[0].item()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why thinking hurts in the end, if it does: one text a cause."""
        found = []
        if self.reach > 2:
            found.append(
                f"training lacked what the test needs: the largest eigenvalue of Γ⁻¹Σ is {self.reach:.3g} > 2 (Remark 4.1)"
            )
        elif self.edge > 2:
            found.append(
                f"test prompts are too short for so bold a step: on {self.m} examples the spectrum of Γ⁻¹Σ̂ reaches "
                f"{self.edge:.3g} > 2 (Silverstein and Choi)"
            )
        if self.overthinks and self.noise and not found:
            found.append(f"labels are noisy (σ = {self.noise:g}): later steps fit the noise")
        return tuple(found)

    def __str__(self) -> str:
        last = len(self.typical) - 1
        wanted = {0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, self.best_step, last}
        lines = ["step   typical  10–90 % of prompts     exact mean   unlimited prompts"]
        for step in sorted(wanted & set(range(last + 1))):
            mean = f"{self.mean[step]:>12.3g}" if step < len(self.mean) else f"{'–':>12}"
            middle = f"{self.typical[step]:>8.3g}  {self.low[step]:>8.3g} to {self.high[step]:<8.3g}"
            lines.append(f"{step:>4}  {middle} {mean}  {self.limit[step]:>12.3g}")
        lines += ["", f"Best step: {self.best_step}."]
        if self.overthinks:
            lines.append("Thinking hurts in the end:")
        elif self.reasons:
            lines.append("Not yet, but with more steps thinking will hurt:")
        else:
            lines.append("Thinking does not hurt within these steps.")
        lines += [f"  {text}." for text in self.reasons]
        lines += [
            "",
            f"Formulas: Γ of Theorem 3.1; {self.formula}; typical errors from {PROMPTS:,} drawn prompts.",
        ]
        return "\n".join(lines)


def foresee(
    train: theory.Features,
    test: theory.Features,
    n: int,
    m: int,
    steps: int,
    generator: torch.Generator,
    noise: float = 0.0,
) -> Forecast:
    """Foresee what thinking does to a model trained on some features and tested on others.

    Parameters
    ----------
    train, test : Law, or Tensor of shape (d, d)
        Features of training and of test.
    n, m : int
        Examples in a training and in a test prompt, at least 1.
    steps : int
        Thinking steps, at least 1.
    generator : torch.Generator
        Source of the test prompts.
    noise : float
        Standard deviation σ of the label noise, in training and test.
    """
    m, steps = _validate.positive_int("m", m), _validate.positive_int("steps", steps)
    noise = _validate.non_negative("noise", noise)
    train, test = laws.of("train", train), laws.of("test", test)
    _validate.same_dimension(train=train.second, test=test.second)
    gamma = theory.gamma(train, n, noise)
    drawn = cot.sampled_errors(gamma, test, m, steps, PROMPTS, noise, generator).sort(dim=0).values
    low, middle, high = (drawn[round(share * (PROMPTS - 1))] for share in (0.1, 0.5, 0.9))
    mean, formula = _mean(gamma, test, m, steps, noise)
    limit = [theory.cot_error_limit(gamma, test, k) for k in range(steps + 1)]
    reach = torch.linalg.eigvals(torch.linalg.solve(gamma, test.second)).abs().max().item()
    edge = theory.spectrum_edge((gamma + gamma.mT) / 2, test.second, m)
    return Forecast(
        middle, low, high, mean, torch.tensor(limit, dtype=gamma.dtype), reach, edge, m, noise, formula
    )


def _mean(gamma: Tensor, test: laws.Law, m: int, steps: int, noise: float) -> tuple[Tensor, str]:
    """Exact mean error as far as a formula reaches, and which formula that is."""
    scale, variance = gamma[0, 0].item(), test.second[0, 0].item()
    eye = torch.eye(test.d, dtype=gamma.dtype, device=gamma.device)
    gaussian = test.kappa == 1
    if gaussian and variance and torch.equal(gamma, scale * eye) and torch.equal(test.second, variance * eye):
        # ŵ and the noise in units of the features: Σ = I.
        errors = exact.isotropic_error(test.d, m, scale / variance, steps, noise / variance**0.5)
        return errors, "the mean from zonal polynomials (exact.isotropic_error)"
    if gaussian and not noise:
        for last in range(min(steps, exact.MAX_STEPS - 1), 1, -1):
            try:
                return exact.expected_error(gamma, test.second, m, last), (
                    "the mean from moments of the Wishart law (exact.expected_error)"
                )
            except ValueError:  # its terms cancel: fewer steps have digits left
                continue
    direct = torch.tensor([float(test.d), theory.direct_error(gamma, test, m, noise)], dtype=gamma.dtype)
    return direct, "the mean of one step (theory.direct_error)"
