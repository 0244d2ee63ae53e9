"""The batched engine against one configuration at a time."""

import pytest
import torch

from tsl import covariance, errors, exact, sweep, theory


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def configurations() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    train = [covariance.power_law(4, 1.0), covariance.rotate(covariance.power_law(4, 0.5), generator(0))]
    test = [covariance.rotate(covariance.power_law(4, 0.3), generator(1)) / 2, covariance.power_law(4, 0.5)]
    return (
        torch.stack([theory.gamma(cov, n) for cov, n in zip(train, (8, 5), strict=True)]),
        torch.stack(test),
        [12, 3],
    )


def test_same_draws_give_the_same_curves_as_the_plain_recursion() -> None:
    gammas, covs, lengths = configurations()
    fast = sweep.error_curves(gammas, covs, lengths, steps=7, replicas=5, generator=generator(2))
    factors = sweep.bartlett(4, lengths, 5, generator(2))
    for index in range(2):
        half = covariance.square_root(covs[index]) @ factors[index]
        torch.testing.assert_close(fast[index], errors.propagated_error(half @ half.mT, gammas[index], 7))


def test_means_are_the_exact_ones() -> None:
    gammas, covs, lengths = configurations()
    drawn = sweep.error_curves(gammas, covs, lengths, steps=3, replicas=100_000, generator=generator(3))
    for index in range(2):
        mean = exact.expected_error(gammas[index], covs[index], lengths[index], 3)
        z = (drawn[index].mean(0) - mean)[1:] / errors.standard_error(drawn[index])[1:]
        assert z.abs().max() < 4


def test_factors_have_the_moments_of_a_wishart_matrix_on_both_sides_of_d() -> None:
    lengths = [2, 5, 40]
    factors = sweep.bartlett(5, lengths, 100_000, generator(4))
    gram = factors @ factors.mT
    torch.testing.assert_close(
        gram.mean(1), torch.eye(5, dtype=torch.float64).expand(3, 5, 5), atol=0.02, rtol=0
    )
    for index, m in enumerate(lengths):
        assert int(torch.linalg.matrix_rank(gram[index, 0])) == min(m, 5)
        square = gram[index].square().sum((-1, -2)).mean().item()
        assert square == pytest.approx(float(exact.trace_moment(5, m, 2)) / m**2, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": [12]}, "same C configurations"),
        ({"lengths": [12, 0]}, r"lengths\[1\] must be"),
        ({"steps": -1}, "steps must be"),
        ({"replicas": 0}, "replicas must be"),
        ({"gammas": torch.zeros(2, 4, 4, dtype=torch.float64)}, "gammas must be positive definite"),
    ],
)
def test_names_what_is_wrong(change: dict, message: str) -> None:
    gammas, covs, lengths = configurations()
    arguments = {"gammas": gammas, "covs": covs, "lengths": lengths, "steps": 2, "replicas": 2}
    with pytest.raises(ValueError, match=message):
        sweep.error_curves(**(arguments | change))


def test_many_configurations_are_cut_into_parts_that_memory_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    gammas, covs, lengths = configurations()
    whole = sweep.error_curves(gammas, covs, lengths, steps=3, replicas=100_000, generator=generator(3))
    monkeypatch.setattr(sweep, "_ELEMENTS", 100_000 * 16)  # one configuration at a time
    parts = sweep.error_curves(gammas, covs, lengths, steps=3, replicas=100_000, generator=generator(3))
    assert parts.shape == whole.shape
    spread = errors.standard_error(whole, dim=1) + 1e-12
    assert ((parts.mean(1) - whole.mean(1)).abs() < 6 * spread).all()


def test_an_asymmetric_preconditioner_is_refused_and_not_silently_symmetrised() -> None:
    gammas, covs, lengths = configurations()
    pair = [covariance.rotate(covariance.power_law(4, 1.0, trace=4.0), generator(seed)) for seed in (5, 6)]
    mixed = theory.gamma_mixture(pair, [0.5, 0.5], [20, 20])
    with pytest.raises(ValueError, match="gammas must be symmetric"):
        sweep.error_curves(torch.stack([gammas[0], mixed]), covs, lengths, steps=2, replicas=2)
    with pytest.raises(ValueError, match="covs must be positive semi-definite"):
        sweep.error_curves(gammas, -covs, lengths, steps=2, replicas=2)
