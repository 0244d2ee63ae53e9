"""The decoder: what it may see, what cannot matter to it, and that the cache changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import cot, covariance, gpt, training
from tsl.prompts import Prompts, sample_prompts

ENCODINGS = ("pairs", "interleaved")
ATTENTIONS = ("softmax", "linear")


def some_prompts(n: int = 7, d: int = 3, size: int = 4, seed: int = 0) -> Prompts:
    return sample_prompts(torch.eye(d), n, size, generator=torch.Generator().manual_seed(seed))


def model(encoding: str = "pairs", attention: str = "softmax", layers: int = 3, d: int = 3) -> gpt.WeightGPT:
    config = gpt.GPTConfig(
        d, layers, heads=2, width=16, attention=attention, encoding=encoding, positions=128
    )
    made = gpt.WeightGPT(config, torch.Generator().manual_seed(5))
    # Far from the small initial values, where a wrong mask or position would hide below the tolerance.
    generator = torch.Generator().manual_seed(6)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made.eval()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 12), steps=st.integers(0, 6), size=st.integers(1, 5))
def test_thinking_with_the_cache_equals_reading_everything_again(encoding, attention, n, steps, size):
    thinker, prompts = model(encoding, attention), some_prompts(n, size=size, seed=n)
    chain = cot.chain_of_thought(thinker, prompts, steps)
    assert chain.shape == (size, steps + 1, 3)
    assert torch.equal(chain[:, 0], torch.zeros(size, 3))
    for step in range(steps):
        with torch.no_grad():
            answer = thinker(prompts, chain[:, : step + 1])[:, -1]
        scale = 1 + chain[:, step + 1].abs().max()
        assert (answer - chain[:, step + 1]).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("encoding", ["pairs", "interleaved"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_thinking_within_a_window_reads_the_zero_and_the_last_estimates_alone(encoding, attention):
    thinker, prompts = model(encoding, attention), some_prompts()
    chain = thinker.think(prompts, 7, window=3)
    with torch.no_grad():
        for j in range(7):
            read = chain[:, : j + 1] if j < 3 else torch.cat([chain[:, :1], chain[:, j - 1 : j + 1]], 1)
            torch.testing.assert_close(thinker(prompts, read)[:, -1], chain[:, j + 1], rtol=1e-4, atol=1e-4)
    assert torch.equal(thinker.think(prompts, 7, window=7), thinker.think(prompts, 7))
    assert not torch.equal(chain, thinker.think(prompts, 7))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_answer_does_not_see_later_estimates(encoding, attention):
    thinker, prompts = model(encoding, attention), some_prompts()
    chain = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1))
    other = chain.clone()
    other[:, 3:] = 9.0
    with torch.no_grad():
        before, after = thinker(prompts, chain), thinker(prompts, other)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-5)
    assert (before[:, 3:] - after[:, 3:]).abs().min() > 1e-3


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_block_without_prefix_is_causal_at_every_position(attention):
    block = gpt.Block(16, 4, attention)
    h = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)
    for position in range(9):
        (seen,) = torch.autograd.grad(block(h)[0, position].sum(), h)
        touched = seen[0].abs().sum(-1) > 0
        assert touched[: position + 1].all()
        assert not touched[position + 1 :].any()


def test_a_block_that_is_not_causal_sees_every_position_from_each():
    block = gpt.Block(16, 4)
    h = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)
    for position in range(6):
        (seen,) = torch.autograd.grad(block(h, causal=False)[0, position].sum(), h)
        assert (seen[0].abs().sum(-1) > 0).all()


def by_hand(thinker: gpt.WeightGPT, prompts: Prompts, chain: torch.Tensor) -> torch.Tensor:
    """The last answers of one pass over the whole sequence, with the mask and the attention written out."""
    examples = thinker.tokens(prompts)
    columns = torch.cat([examples, thinker._estimates(chain)], 1)
    T, n = columns.shape[1], examples.shape[1]
    pairs = thinker.config.encoding == "pairs"
    sees = torch.tensor([[s <= t or (pairs and s < n and t < n) for s in range(T)] for t in range(T)])
    h = thinker.read_in(columns)
    if not pairs:
        h = h + thinker.position.weight[:T]
    for block in thinker.blocks:
        heads = [
            part.unflatten(-1, (thinker.config.heads, -1)).transpose(1, 2)
            for part in block.attention.qkv(block.norm_attention(h)).chunk(3, -1)
        ]
        scores = heads[0] @ heads[1].mT / heads[0].shape[-1] ** 0.5
        if thinker.config.attention == "softmax":
            weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        else:
            weights = scores * sees / sees.sum(1, keepdim=True)
        h = h + block.attention.out((weights @ heads[2]).transpose(1, 2).flatten(2))
        h = h + block.mlp(block.norm_mlp(h))
    return thinker.read_out(thinker.norm(h[:, n:]))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 8), steps=st.integers(1, 5))
def test_a_pass_equals_attention_written_out_and_a_rollout_a_pass_over_its_own_chain(
    encoding, attention, n, steps
):
    thinker, prompts = model(encoding, attention), some_prompts(n, seed=n)
    chain = thinker.think(prompts, steps - 1)
    answers = {
        "by hand": by_hand(thinker, prompts, chain),
        "pass": thinker(prompts, chain),
        "rollout": thinker.rollout(prompts, steps),
    }
    slopes = {}
    for name, answer in answers.items():
        torch.testing.assert_close(answer, answers["by hand"], rtol=1e-4, atol=1e-4)
        error = (answer - prompts.w[:, None]).square().sum()
        slopes[name] = torch.cat(
            [
                slope.flatten()
                for slope in torch.autograd.grad(error, list(thinker.parameters()), allow_unused=True)
                if slope is not None
            ]
        )
        gap = (slopes[name] - slopes["by hand"]).norm() / slopes["by hand"].norm()
        assert gap < 1e-4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_order_of_examples_cannot_matter_to_pairs_and_matters_to_interleaved(attention):
    prompts = some_prompts(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    shuffled = Prompts(prompts.x[:, order], prompts.y[:, order], prompts.w)
    gaps = {}
    for encoding in ENCODINGS:
        thinker = model(encoding, attention)
        gaps[encoding] = (thinker.think(prompts, 4) - thinker.think(shuffled, 4)).abs().max()
    assert gaps["pairs"] < 1e-4
    assert gaps["interleaved"] > 1e-2


def test_linear_attention_is_the_masked_average_of_the_values():
    attention = gpt.SelfAttention(6, 1, "linear")
    h = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        q, k, v = attention.qkv(h)[0].split(6, dim=-1)
        expected = [sum((q[t] @ k[s]) * v[s] for s in range(t + 1)) / (6**0.5 * (t + 1)) for t in range(5)]
        torch.testing.assert_close(
            attention(h)[0], attention.out(torch.stack(expected)), rtol=1e-5, atol=1e-6
        )


def test_the_paper_preset_has_nine_and_a_half_million_parameters():
    paper = gpt.WeightGPT(gpt.GPTConfig.paper(20))
    assert (paper.config.layers, paper.config.heads, paper.config.width) == (12, 8, 256)
    assert paper.config.encoding == "interleaved"
    assert 9.5e6 <= paper.size < 9.6e6


def test_pairs_take_prompts_of_any_length_and_interleaved_says_where_its_positions_end(refuses):
    long = some_prompts(80)
    assert model("pairs").think(long, 3).shape == (4, 4, 3)
    with refuses(r"163 positions.*positions=128"):
        model("interleaved").think(long, 3)


def test_tokens_are_the_columns_of_the_embedding():
    prompts = some_prompts(2)
    pairs = model("pairs").tokens(prompts)
    assert torch.equal(pairs, torch.cat([prompts.x, prompts.y[..., None], torch.zeros(4, 2, 4)], -1))
    woven = model("interleaved").tokens(prompts)
    assert woven.shape == (4, 4, 8)
    assert torch.equal(woven[:, 0::2, :3], prompts.x)
    assert torch.equal(woven[:, 1::2, 0], prompts.y)
    assert woven[:, 1::2, 1:].abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gpt.GPTConfig(0), "d must be"),
        (lambda: gpt.GPTConfig(3, encoding="woven"), "encoding must be"),
        (lambda: gpt.WeightGPT(gpt.GPTConfig(3, heads=3, width=16)), "heads must be"),
        (lambda: gpt.SelfAttention(8, 2, "square"), "attention must be"),
        (lambda: gpt.Recipe(0), "n must be"),
        (lambda: gpt.Recipe(5, curriculum=2.0), "curriculum must lie"),
        (lambda: model().think(some_prompts(d=2), 1), "dimension d=3"),
        (lambda: model().think(some_prompts(), -1), "steps must be"),
    ],
)
def test_bad_arguments_are_named(make, message, refuses):
    with refuses(message):
        make()


def test_the_curriculum_grows_dimension_and_length_and_hides_the_rest():
    recipe = gpt.Recipe(20, curriculum=0.5)
    stages = [recipe.stage(6, step, 100) for step in range(100)]
    assert stages[0] == (3, 10)
    assert stages[50:] == [(6, 20)] * 50
    assert stages == sorted(stages)
    assert gpt.Recipe(20, curriculum=0.0).stage(6, 0, 100) == (6, 20)
    prompts = some_prompts(5, d=4)
    part = gpt._leading(prompts, 2)
    assert part.x[..., 2:].abs().max() == part.w[:, 2:].abs().max() == 0
    torch.testing.assert_close(part.y, torch.einsum("bnd,bd->bn", part.x, part.w))


def test_training_on_its_own_chain_teaches_a_model_to_think_and_direct_prediction_does_not():
    after = {}
    for chain in (1, 3):
        made = gpt.WeightGPT(gpt.GPTConfig(2, 2, 2, 24), torch.Generator().manual_seed(0))
        recipe = gpt.Recipe(10, chain=chain, batch=32, curriculum=0.0)
        schedule = training.Schedule(300, 5e-3)
        history = gpt.train_gpt(made, torch.eye(2), recipe, schedule, torch.Generator().manual_seed(1))
        assert len(history.losses) == 300
        assert sum(history.losses[-20:]) < 0.5 * sum(history.losses[:20])
        exam = sample_prompts(torch.eye(2), 10, 500, generator=torch.Generator().manual_seed(2))
        error = (made.think(exam, 3) - exam.w[:, None]).square().sum(-1).mean(0)
        after[chain] = error
    assert after[3][2] < 0.7 * after[3][1]
    assert after[1][2] > 2 * after[1][1]


def test_bfloat16_follows_float32():
    made = model()
    prompts, chain = some_prompts(), torch.zeros(4, 1, 3)
    with torch.no_grad(), training.precision("cpu", "bf16"):
        low = made(prompts, chain)
    assert low.dtype == torch.bfloat16
    with torch.no_grad():
        high = made(prompts, chain)
    assert 0 < (low - high).abs().max() < 0.1 * (1 + high.abs().max())


def test_one_step_of_training_under_bfloat16_moves_every_weight():
    made = gpt.WeightGPT(gpt.GPTConfig(3, 2, 2, 16))
    before = [parameter.detach().clone() for parameter in made.parameters()]
    gpt.train_gpt(
        made, torch.eye(3), gpt.Recipe(5, chain=2, batch=8, precision="bf16"), training.Schedule(2),
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert all(not torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in made.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_rollout_gives_every_weight_a_gradient(encoding, precision):
    """Its chain is made without gradients: no weight may keep a copy, in another precision, that has none."""
    thinker, prompts = model(encoding), some_prompts()
    with training.precision("cpu", precision):
        answers = thinker.rollout(prompts, 3)
    (answers.float() - prompts.w[:, None]).square().sum().backward()
    for name, parameter in thinker.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_power_law_features_of_float64_train_a_float32_model():
    made = gpt.WeightGPT(gpt.GPTConfig(3, 1, 2, 16))
    cov = covariance.power_law(3, 1.0, trace=3.0)
    history = gpt.train_gpt(made, cov, gpt.Recipe(4), training.Schedule(2), torch.Generator().manual_seed(0))
    assert all(loss > 0 for loss in history.losses)
