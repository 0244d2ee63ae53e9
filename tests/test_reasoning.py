"""Worked chains are right, budgets do what they say, and a model learns to think from them."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from tsl import training
from tsl.lab import chargpt, reasoning, records
from tsl.lab.chargpt import CharGPT
from tsl.lab.problems import (
    BLANK,
    END,
    GO,
    Problems,
    digits,
    draw,
    encode,
    gcd_problems,
    hold_out,
    root_problems,
    spell,
    worked,
)  # fmt: skip


def small(layers=2, max_steps=4, places=2, seed=0):
    return CharGPT(places, max_steps, layers, heads=2, width=16, generator=generator(seed))


@pytest.fixture(scope="module")
def gcd():
    return gcd_problems(2, 8)


@pytest.fixture(scope="module")
def root():
    return root_problems(2, 8)


# --- the problems --------------------------------------------------------------------------------------------------


def test_gcd_answers_are_those_of_the_standard_library(gcd):
    pairs = gcd.question.tolist()
    assert gcd.answer.tolist() == [math.gcd(a, b) for a, b in pairs]
    assert min(gcd.answer.tolist()) == 2


def test_gcd_problems_are_all_that_there_are(gcd):
    def subtractions(a, b):  # sum of the partial quotients of Euclid's division, less one for the last
        total = 0
        while b:
            total, a, b = total + a // b, b, a % b
        return total - 1

    wanted = {
        (a, b)
        for a in range(1, 100)
        for b in range(1, 100)
        if math.gcd(a, b) > 1 and 1 <= subtractions(a, b) <= 8
    }
    assert {tuple(pair) for pair in gcd.question.tolist()} == wanted
    assert gcd.steps.tolist() == [subtractions(a, b) for a, b in gcd.question.tolist()]


def test_every_euclid_step_keeps_the_divisor_and_shrinks_the_pair(gcd):
    chain = torch.cat([gcd.question[:, None], gcd.states], 1)
    assert torch.equal(torch.gcd(chain[..., 0], chain[..., 1]), gcd.answer[:, None].expand(-1, 9))
    going = torch.arange(8) < gcd.steps[:, None]
    assert torch.equal(chain.sum(-1).diff(dim=1) < 0, going)  # shrinks until it ends, then rests


def test_euclid_chains_end_where_both_numbers_are_the_answer(gcd):
    last = gcd.states[torch.arange(len(gcd)), gcd.steps - 1]
    assert torch.equal(last, gcd.answer[:, None].expand(-1, 2))


def test_root_chains_evaluate_the_polynomial_and_stop_at_its_first_root(root):
    b, c = root.question.T
    for problem in range(0, len(root), 7):
        n = int(root.steps[problem])
        values = [(x * x + int(b[problem]) * x + int(c[problem])) % 100 for x in range(1, n + 1)]
        assert root.states[problem, :n].tolist() == [[x, v] for x, v in enumerate(values, 1)]
        assert values.index(0) == n - 1 == int(root.answer[problem]) - 1


def test_the_two_families_look_alike(gcd, root):
    texts = [
        spell(encode(family.take(torch.tensor([k])), torch.tensor([3]), 2)[0])
        for family in (gcd, root)
        for k in range(5)
    ]
    shapes = {"".join("d" if s.isdigit() else s for s in text[1:]) for text in texts}
    assert shapes == {"dddd;dddd;dddd;dddd=dd"}


# --- writing them down ---------------------------------------------------------------------------------------------


def test_a_known_problem_is_written_as_in_the_book(gcd):
    chosen = gcd.take((gcd.question == torch.tensor([38, 52])).all(1))
    assert worked(gcd, [38, 52], 2) == "g3852;3814;2414;1014;1004;0604;0204;0202=02"
    assert spell(encode(chosen, torch.tensor([0]), 2)[0]) == "g3852=02"


@given(st.integers(0, 999), st.integers(3, 5))
def test_digits_spell_the_number(number, places):
    written = digits(torch.tensor(number), places)
    assert int("".join(map(str, written.tolist()))) == number


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 8)), min_size=1, max_size=6))
def test_encoding_can_be_read_back(choices):
    everything = gcd_problems(2, 8)
    problems = everything.take(torch.tensor([index % len(everything) for index, _ in choices]))
    written = torch.tensor([count for _, count in choices])
    for row, text in enumerate(map(spell, encode(problems, written, 2))):
        work, answer = text[1:].split("=")
        pairs = [[int(pair[:2]), int(pair[2:])] for pair in work.split(";")]
        assert pairs[0] == problems.question[row].tolist()
        assert pairs[1:] == problems.states[row, : written[row]].tolist()
        assert int(answer) == problems.answer[row]


def test_a_split_keeps_mirror_images_together(gcd):
    train, test = hold_out(gcd, 0.3, generator())
    seen = {tuple(sorted(pair)) for pair in train.question.tolist()}
    held = {tuple(sorted(pair)) for pair in test.question.tolist()}
    assert not seen & held
    assert len(train) + len(test) == len(gcd)
    assert 0.2 < len(test) / len(gcd) < 0.4


def test_draws_are_even_over_difficulty(gcd):
    counts = draw(gcd, 8000, generator()).steps.bincount(minlength=9)[1:]
    assert ((counts - 1000).abs() < 5 * math.sqrt(1000 * 7 / 8)).all()


# --- the model and its budgets -------------------------------------------------------------------------------------


def test_the_cache_changes_nothing():
    model = small()
    tokens = torch.randint(0, 15, (3, 14), generator=generator())
    caches = [chargpt.Cache() for _ in model.blocks]
    steps = [model(tokens[:, :5], caches)] + [model(tokens[:, t : t + 1], caches) for t in range(5, 14)]
    torch.testing.assert_close(torch.cat(steps, 1), model(tokens))


def test_thinking_equals_rereading_the_whole_text(gcd):
    """The one cached pass with all its forced answers equals greedy decoding of each budget from scratch."""
    model, problems = small(), gcd.take(torch.arange(0, 60, 12))
    thought = chargpt.think(model, problems, 3)

    def force(text, marker, count):
        text = torch.cat([text, torch.full((len(problems), 1), marker)], 1)
        for _ in range(count):
            text = torch.cat([text, model(text)[:, -1:, :10].argmax(-1)], 1)
        return text

    work = encode(problems, torch.zeros_like(problems.steps), 2)[:, :5]
    for budget in range(4):
        after = model(work)[:, -1]
        assert torch.equal(thought.would_stop[:, budget], after[:, END] > after[:, GO])
        tens, units = force(work, END, 2)[:, -2:].T
        assert torch.equal(thought.answer[:, budget], 10 * tens + units)
        work = force(work, GO, 4)
    assert torch.equal(digits(thought.states, 2).flatten(2), work[:, 5:20].view(len(problems), 3, 5)[..., 1:])


def test_the_solution_is_not_shown_to_the_model(gcd):
    model, problems = small(), gcd.take(torch.arange(9))
    forged = Problems(
        problems.family, problems.question, problems.states * 0, problems.steps, problems.answer * 0
    )
    for honest, blind in zip(chargpt.think(model, problems, 4), chargpt.think(model, forged, 4), strict=True):
        assert torch.equal(honest, blind)


def test_a_cold_model_writes_what_is_likeliest_and_a_warm_one_what_is_likely(gcd):
    model, problems = small(), gcd.take(torch.arange(9))
    greedy = chargpt.think(model, problems, 3)
    for cold, likeliest in zip(chargpt.think(model, problems, 3, 1e-6, generator()), greedy, strict=True):
        assert torch.equal(cold, likeliest)
    one = gcd.take(torch.zeros(4000, dtype=torch.long))
    drawn = chargpt.think(model, one, 0, 1.0, generator()).answer[:, 0] // 10  # the first digit of the answer
    tokens = torch.cat([encode(one, torch.zeros_like(one.steps), 2)[:1, :5], torch.tensor([[END]])], 1)
    law = model(tokens)[0, -1, :10].softmax(-1)
    assert (drawn.bincount(minlength=10) - 4000 * law).abs().max() < 5 * math.sqrt(4000 / 4)


def test_a_vote_is_that_of_most_and_a_tie_goes_to_the_first():
    answers = torch.tensor([[3, 5, 5, 7], [4, 2, 2, 4], [9, 8, 7, 6]])
    assert chargpt.vote(answers).tolist() == [5, 4, 9]
    assert chargpt.vote(answers[:, :1]).tolist() == [3, 4, 9]


def test_natural_length_is_the_first_stop_after_the_first_step():
    stops = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]]).bool()
    zero = torch.zeros(3, 4, dtype=torch.long)
    thought = chargpt.Thought(zero, stops, torch.zeros(3, 3, 2, dtype=torch.long))
    assert thought.natural().tolist() == [2, 3, 1]


def test_the_loss_looks_at_the_work_and_the_answer_only(gcd):
    model, problems = small(), gcd.take(gcd.steps <= 4).take(torch.tensor([0, 50, 100]))
    tokens = encode(problems, problems.steps, 2)
    logits = model(tokens).log_softmax(-1)
    wanted = []
    for row in range(3):
        for t in range(5, tokens.shape[1]):
            if tokens[row, t] != BLANK:
                wanted.append(-logits[row, t - 1, tokens[row, t]])
    torch.testing.assert_close(model.loss(tokens), torch.stack(wanted).mean())


# --- the experiment ------------------------------------------------------------------------------------------------


class Euclid(CharGPT):
    """Not a network: writes true Euclid chains and reads the answer off the last state."""

    def __init__(self, places=2, max_steps=8):
        super().__init__(places, max_steps, 1, 1, 4, generator())
        self.text = None

    def forward(self, tokens, caches=None):
        start = caches[0].length
        self.text = tokens if start == 0 else torch.cat([self.text[:, :start], tokens], 1)
        for cache in caches:
            cache.extend(*2 * [torch.zeros(1, 1, tokens.shape[1], 1)])
        logits = torch.zeros(*tokens.shape, 15)
        for row, line in enumerate(map(spell, self.text)):
            logits[row, -1, self.following(line)] = 1.0
        return logits

    def following(self, line):
        chain, _, answer = line[1:].partition("=")
        numbers = [part for part in chain.split(";") if len(part) == 4]
        a, b = int(numbers[-1][:2]), int(numbers[-1][2:])
        if "=" in line:
            return int(f"{min(a, b):02}"[len(answer)]) if len(answer) < 2 else BLANK
        begun = chain.rsplit(";", 1)[-1] if ";" in chain else ""
        if len(begun) == 4 or ";" not in chain:
            return END if a == b else GO
        a, b = (a - b, b) if a > b else (a, b - a) if b > a else (a, b)
        return int(f"{a:02}{b:02}"[len(begun)])


def test_evaluation_of_a_perfect_reasoner(gcd):
    problems = gcd.take(torch.arange(0, len(gcd), 11))
    found = reasoning.examine(Euclid(), problems)
    assert found["natural"] == found["exact"] == [1.0] * 8
    assert found["stop"] == pytest.approx(range(1, 9))
    assert sum(found["counts"]) == len(problems)
    for n, row in enumerate(found["accuracy"], 1):
        assert row[n:] == [1.0] * (9 - n)  # from the natural length on, the answer stands
        assert row == sorted(row)  # and before it, thinking never hurts


def test_a_transcript_is_what_the_model_wrote(gcd):
    few = gcd.take(torch.arange(0, 500, 50))
    thought = chargpt.think(Euclid(), few, 8)
    for row, question in enumerate(few.question.tolist()):
        assert chargpt.transcript(few, thought, row, 2) == worked(gcd, question, 2)


def test_averages_weigh_problems_not_difficulties():
    found = {
        "accuracy": [[0.1, 0.9, 0.3], [0.2, 0.4, 0.8]], "natural": [0.9, 0.7], "counts": [30, 10],
    }  # fmt: skip
    (run,) = [{"settings": {"size": {"max_steps": 2}}, "result": {"easy": {"gcd": found}}}]
    assert reasoning.average([run, run], "easy", "natural").tolist() == pytest.approx([0.85, 0.85])
    assert reasoning.average([run], "easy", "natural", 2).item() == pytest.approx(0.7)
    assert reasoning.average([run], "easy", "needed").item() == pytest.approx(0.75 * 0.9 + 0.25 * 0.8)
    assert reasoning.average([run], "easy", "accuracy", 1, 1)[0].tolist() == [0.1, 0.9, 0.3]
    offsets, excess = reasoning.by_excess([run], "easy")
    assert offsets.tolist() == [-1, 0, 1]
    assert excess[0].tolist() == pytest.approx([0.4, (30 * 0.9 + 10 * 0.8) / 40, 0.3])


def test_a_reasoner_that_answers_with_the_smaller_number_gains_what_each_step_takes_away(gcd):
    """`Euclid` answers an unfinished state with its smaller number: thinking on equals being asked about the state."""
    problems = gcd.take(torch.arange(0, len(gcd), 23))
    left = torch.tensor(reasoning.reduced(Euclid(), problems))
    torch.testing.assert_close(left, torch.tensor(reasoning.examine(Euclid(), problems)["accuracy"]))


def test_natural_lengths_of_a_perfect_reasoner_are_the_steps_that_problems_need(gcd):
    problems = gcd.take(torch.arange(0, len(gcd), 11))
    found = {"settings": {}, "result": {"easy": {"gcd": reasoning.examine(Euclid(), problems)}}}
    assert found["result"]["easy"]["gcd"]["stopped"] == torch.diag(problems.steps.bincount()[1:]).tolist()
    many, share, needed = reasoning.by_length([found], "easy", 3, 5)
    chosen = (problems.steps >= 3) & (problems.steps <= 5)
    assert (many.item(), share.item()) == (int(chosen.sum()), 1.0)
    assert needed.item() == pytest.approx(problems.steps[chosen].double().mean().item())


def test_lengths_are_shared_out_over_what_the_model_itself_chose():
    found = {"stopped": [[6, 2], [1, 3]], "solved": [[3, 2], [0, 3]]}
    (run,) = [{"settings": {}, "result": {"few": {"gcd": found}}}]
    assert [part.item() for part in reasoning.by_length([run], "few", 2)] == [5, 1.0, 8 / 5]
    assert [part.item() for part in reasoning.by_length([run], "few", 1, 1)] == [7, 3 / 7, 8 / 7]


def test_many_short_chains_cost_what_a_long_one_does():
    for steps, places in ((8, 2), (12, 3), (5, 1)):
        shares = reasoning.splits(steps, places)
        longest = steps * (2 * places + 1) + 1 + places
        assert shares[steps] == 1
        assert all(length * chains == steps for length, chains in shares.items() if length)
        assert shares[0] * (1 + places) <= longest < (shares[0] + 1) * (1 + places)


def test_chains_without_luck_all_vote_for_one_answer(gcd):
    problems = gcd.take(torch.arange(0, len(gcd), 97))
    votes = torch.tensor(reasoning.in_parallel(Euclid(), problems, 1e-3, generator()))
    alone = torch.tensor(reasoning.examine(Euclid(), problems)["accuracy"])
    torch.testing.assert_close(votes, alone[:, [0, 1, 2, 4, 8]], equal_nan=True)


def test_a_question_is_met_where_its_next_step_was_shown(gcd):
    learnt = gcd.take((gcd.question == torch.tensor([38, 52])).all(1))
    asked = [[38, 52], [38, 14], [24, 14], [10, 14], [4, 2], [2, 4], [52, 38], [14, 38]]
    problems = gcd.take(torch.stack([(gcd.question == torch.tensor(q)).all(1) for q in asked]).any(0))
    met = {tuple(q) for q in problems.question[reasoning.met(problems, learnt)].tolist()}
    assert met == {(38, 52), (38, 14), (24, 14), (10, 14), (2, 4)}  # and not the end, (2, 2)


def test_questions_met_are_what_is_left_when_the_others_are_taken_away():
    whole = {"counts": [10, 20, 4], "natural": [0.9, 0.5, 0.25]}
    unmet = {"counts": [4, 5, 4], "natural": [0.75, 0.2, 0.25]}
    (run,) = [{"settings": {}, "result": {"few": {"gcd": whole, "unmet": unmet}}}]
    met, other = reasoning.met_and_unmet([run, run], "few", 1, 2)
    assert met.tolist() == pytest.approx([(9 + 10 - 3 - 1) / 21] * 2)
    assert other.tolist() == pytest.approx([4 / 9] * 2)
    assert math.isnan(reasoning.met_and_unmet([run], "few", 3)[0].item())


def test_the_books_held_out_questions_are_partly_met():
    """Of about half of the held-out questions training has shown the next step; none of those of the most steps."""
    for seed in range(4):
        found = reasoning.material(reasoning.SMALL, generator(seed))
        met = reasoning.met(found.gcd_test, found.gcd)
        assert 0.43 < met.double().mean().item() < 0.54
        assert not met[found.gcd_test.steps == 8].any()
        assert seed or int((~met).sum()) == 222


def test_held_out_problems_are_never_learnt_from():
    found = reasoning.material(reasoning.Size(places=3, max_steps=3), generator())
    assert len(found.gcd_test) < len(found.gcd)
    for train, test in ((found.gcd, found.gcd_test), (found.root, found.root_test)):
        assert len(test) <= reasoning.EXAM
        asked = {tuple(sorted(pair)) for pair in test.question.tolist()}
        assert not asked & {tuple(sorted(pair)) for pair in train.question.tolist()}


def test_diets_show_what_they_say(gcd):
    chains = reasoning.Diet(easiest=5, distinct=40).chains(gcd, generator())
    assert len(chains) == 40
    assert int(chains.steps.min()) >= 5
    assert int(reasoning.DIETS["easy"].chains(gcd, generator()).steps.max()) == 4


def test_a_model_learns_one_digit_euclid():
    """Twenty seconds of training suffice where the numbers have one digit: it must think, and think exactly."""
    size = reasoning.Size(places=1, max_steps=3, layers=2, heads=2, width=32)
    problems = reasoning.Material(gcd_problems(1, 3), root_problems(1, 3), gcd_problems(1, 3), None)
    model = size.model(generator())
    history = reasoning.tune(
        model, problems, reasoning.Diet(), training.Schedule(250, 8e-3), size.batch, generator(1)
    )
    found = reasoning.examine(model, problems.gcd)
    answered = [value for value, count in zip(found["natural"], found["counts"], strict=True) if count]
    assert min(answered) > 0.9
    assert history.losses[-1] < 0.2 * history.losses[0]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(reasoning.paths, "RESULTS", tmp_path)
    made = reasoning.Size(max_steps=3, layers=1, heads=2, width=8, batch=4, base=1, tune=1)
    monkeypatch.setitem(reasoning.SIZES, "tiny", made)
    return made


def study(seed, diets=("aligned",), folder=None):
    return reasoning.job(reasoning.settings("tiny", diets, seed), folder)


def test_a_study_is_reproducible_and_a_diet_does_not_depend_on_the_others(tmp_path, tiny):
    both = study(3, ["misaligned", "aligned"])
    alone = study(3, "aligned", tmp_path)
    again = study(3, "aligned", tmp_path)  # from the checkpoints
    for name in ("base", "aligned"):
        assert both[name]["gcd"] == alone[name]["gcd"] == again[name]["gcd"]
        assert both[name]["root"] == alone[name]["root"]


def test_a_stored_record_is_not_made_again_unless_size_or_diets_have_changed(tmp_path, tiny, monkeypatch):
    made = []

    def job(settings):
        made.append(settings)
        return reasoning.job(settings)

    def recall():
        asked = reasoning.settings("tiny", ["few", "elastic"], 0)
        return records.sweep(job, [asked], tmp_path, workers=1, fresh=False)

    (first,) = recall()
    assert first["settings"]["size"]["width"] == 8
    assert set(first["result"]) == {"base", "few", "elastic"}
    (again,) = recall()
    assert json.dumps(again, sort_keys=True) == json.dumps(first, sort_keys=True)
    assert len(made) == 1
    # The size or a diet has changed since: its numbers answer another question.
    with monkeypatch.context() as patch:
        patch.setitem(reasoning.SIZES, "tiny", replace(tiny, width=4))
        recall()
    with monkeypatch.context() as patch:
        patch.setitem(reasoning.DIETS, "few", reasoning.Diet(distinct=41))
        recall()
    assert len(made) == 3


def test_a_study_is_told_in_one_line(tiny):
    asked = reasoning.settings("tiny", "aligned", 5)
    text = reasoning.headline({"settings": asked, "result": study(5)})
    assert text.startswith("seed=5: base ")
    assert ", aligned 0" in text


def test_weights_of_the_book_are_found():
    assert reasoning.stored_model("small", 0, "aligned").max_steps == reasoning.SMALL.max_steps


def test_stored_weights_think_like_the_model_they_came_from(tmp_path, tiny, refuses):
    study(0, ["aligned"], tmp_path)
    reasoning.export("tiny", 0, ["aligned"], tmp_path)
    weights = training.load_checkpoint(reasoning.checkpoint(tmp_path, tiny, 0, "aligned"))
    model = reasoning.stored_model("tiny", 0, "aligned")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[f"model.{name}"], rtol=1e-3, atol=1e-6)
    with refuses("diet must be 'aligned', got 'mixed'"):
        reasoning.stored_model("tiny", 0, "mixed")
    with refuses(r"seed=1 must have stored weights, got no file .*10_tiny/weights_seed1"):
        reasoning.stored_model("tiny", 1, "aligned")
    for call in (
        lambda: reasoning.stored_model("huge", 0, "mixed"),
        lambda: reasoning.export("huge", 0, ["aligned"], tmp_path),
    ):
        with refuses(r"size must be 'small' or .*, got 'huge'"):
            call()


def test_no_two_sizes_share_a_checkpoint_and_one_of_another_size_is_refused(tmp_path, tiny):
    # Of one shape and one schedule: only the chains and the problems differ, and no tensor would tell.
    other = replace(tiny, tune=2)
    files = [
        reasoning.checkpoint(tmp_path, size, 0, "base")
        for size in (reasoning.SMALL, reasoning.PAPER, tiny, other)
    ]
    assert len(set(files)) == 4
    study(0, [], tmp_path)
    files[2].rename(files[3])
    with pytest.raises(training.CheckpointError, match=r"another run \(size: .*'tune': 1"):
        reasoning.job({**reasoning.settings("tiny", [], 0), "size": asdict(other)}, tmp_path)


def test_a_checkpoint_of_another_seed_or_another_base_is_refused(tmp_path, tiny):
    one, two = tmp_path / "one", tmp_path / "two"
    study(0, ["aligned"], one)
    study(1, ["aligned"], two)
    for name in ("base", "aligned"):
        mine, other = (reasoning.checkpoint(folder, tiny, s, name) for folder, s in ((one, 0), (two, 1)))
        good = mine.read_bytes()
        mine.write_bytes(other.read_bytes())
        for call in (
            lambda: study(0, ["aligned"], one),
            lambda: reasoning.export("tiny", 0, ["aligned"], one),
        ):
            with pytest.raises(training.CheckpointError, match=r"seed: 1 there, 0 here"):
                call()
        mine.write_bytes(good)
    # The same seed and size, but the base has been trained anew and came out different.
    base = reasoning.checkpoint(one, tiny, 0, "base")
    with training.safetensors.safe_open(base, "pt") as file:
        identity = json.loads(file.metadata()["identity"])
    state = training.load_checkpoint(base)
    state["model.read_out.weight"] = state["model.read_out.weight"] + 1e-6
    training.save_checkpoint(base, state, identity)
    with pytest.raises(training.CheckpointError, match=r"another run \(start: "):
        study(0, ["aligned"], one)
    with pytest.raises(training.CheckpointError, match=r"another run \(start: "):
        reasoning.export("tiny", 0, ["aligned"], one)
    assert not reasoning.weights("tiny", 0).exists()


def test_weights_of_a_training_that_is_not_finished_are_not_stored(tmp_path, tiny):
    study(0, ["aligned"], tmp_path)
    file = reasoning.checkpoint(tmp_path, tiny, 0, "aligned")
    with training.safetensors.safe_open(file, "pt") as opened:
        identity = json.loads(opened.metadata()["identity"])
    state = training.load_checkpoint(file)
    training.save_checkpoint(file, {**state, "losses": state["losses"][:0]}, identity)
    with pytest.raises(training.CheckpointError, match="finished training of 1 steps, got 0"):
        reasoning.export("tiny", 0, ["aligned"], tmp_path)
    assert not reasoning.weights("tiny", 0).exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gcd_problems(0), "places must be an integer >= 1, got 0"),
        (lambda: gcd_problems(4), "places must be 1, 2 or 3"),
        (lambda: root_problems(1, 10), "max_steps must be below 10"),
        (lambda: hold_out(gcd_problems(1, 3), 1.0, generator()), "held_out must lie"),
        (
            lambda: chargpt.think(small(), gcd_problems(1, 3), 5),
            "budget must be at most max_steps=4",
        ),
        (
            lambda: chargpt.think(small(), gcd_problems(1, 3), -1),
            "budget must be an integer >= 0",
        ),
        (
            lambda: chargpt.think(small(), gcd_problems(1, 3), 1, -0.5),
            "temperature must be a finite number >= 0, got -0.5",
        ),
        (
            lambda: chargpt.think(small(), gcd_problems(1, 3), 1, 0.5),
            "generator must be given where digits are drawn",
        ),
        (lambda: small()(torch.zeros(1, 40, dtype=torch.long)), "tokens must fit max_steps=4"),
        (lambda: reasoning.Diet(gcd=1.5), r"gcd must lie in \[0, 1\], got 1.5"),
        (lambda: reasoning.Diet(gcd="x"), r"gcd must lie in \[0, 1\], got 'x'"),
        (lambda: reasoning.Size(places=-1), "places must be an integer >= 1, got -1"),
        (lambda: reasoning.Size(places=4), "places must be 1, 2 or 3, got 4"),
        (
            lambda: reasoning.Size(places=1, max_steps=10),
            r"max_steps must be below 10\*\*places = 10, got 10",
        ),
        (lambda: reasoning.Size(heads=3), "heads must be at least 1 and divide width=64, got heads=3"),
        (lambda: reasoning.Size(batch=1), "batch must be an integer >= 2, got 1"),
        (lambda: reasoning.Size(tune=0), "tune must be an integer >= 1, got 0"),
        (lambda: reasoning.Size(rate="8e-3"), "rate must be a finite number > 0, got '8e-3'"),
        (lambda: reasoning.export("small", 0, ["keto"], None), "diets must be among aligned.*'keto'"),
        (lambda: reasoning.Diet(easiest=4, hardest=3), "hardest must be an integer >= 4"),
        (
            lambda: reasoning.Diet(distinct=10**6).chains(gcd_problems(1, 3), generator()),
            "must leave problems",
        ),
        (lambda: reasoning.settings(diets=["keto"]), "diets must be among aligned.*'keto'"),
        (lambda: reasoning.settings(diets="keto"), "diets must be among aligned.*'keto'"),
        (lambda: reasoning.settings("huge"), "size must be 'small' or 'paper', got 'huge'"),
        (lambda: reasoning.settings(seed=-1), "seed must be an integer >= 0, got -1"),
        (lambda: reasoning.settings(colour=1), "settings must be size, diets and seed, got colour"),
    ],
)
def test_bad_input_is_named(call, message, refuses):
    with refuses(message):
        call()


def test_encode_refuses_states_that_are_not_there(gcd, refuses):
    few = gcd.take(torch.arange(2))
    with refuses("written must hold 2 numbers from 0 to 8"):
        encode(few, torch.tensor([1, 9]), 2)
