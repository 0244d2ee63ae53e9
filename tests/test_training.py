"""The training loop survives: kills, damaged files, full disks; and it says what a run will cost."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from tsl import paths, training
from tsl.press import chapters

# A run that kills itself: before a step, or in the middle of writing a checkpoint.
SCRIPT = """
import os, signal, sys
import torch
from tsl import gpt, training

path, out, where, when = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if where == "write":
    whole, count = os.replace, [0]
    def replace(*names):
        count[0] += 1
        die() if count[0] == when else whole(*names)
    os.replace = replace
rate = training.Schedule.rate
if where == "step":
    training.Schedule.rate = lambda self, step: die() if step == when else rate(self, step)

model = gpt.WeightGPT(gpt.GPTConfig(3, 2, 2, 16), torch.Generator().manual_seed(3))
history = gpt.train_gpt(
    model, torch.eye(3), gpt.Recipe(6, chain=3, batch=8), training.Schedule(23), torch.Generator().manual_seed(4),
    checkpoint=path, every=5,
)
torch.save({"model": model.state_dict(), "losses": history.losses}, out)
"""


def live(root: Path, folder: Path, where: str = "never", when: int = -1) -> int:
    out = folder / "end.pt"
    command = [sys.executable, "-c", SCRIPT, str(folder / "run.safetensors"), str(out), where, str(when)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def test_killed_and_started_again_it_ends_with_the_same_bits(root, tmp_path):
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir(), rough.mkdir()
    assert live(root, calm) == 0
    # Killed before the first checkpoint, between two, in the middle of writing one, and just before the end.
    for where, when in [("step", 3), ("step", 12), ("write", 2), ("step", 22)]:
        assert live(root, rough, where, when) == -signal.SIGKILL
        assert not (rough / "end.pt").exists()
    assert live(root, rough) == 0
    ends = [torch.load(folder / "end.pt", weights_only=True) for folder in (calm, rough)]
    assert ends[0]["losses"] == ends[1]["losses"]
    assert len(ends[0]["losses"]) == 23
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name]), name
    # Started once more, a finished run only reads its result.
    assert live(root, rough, "step", 0) == 0


def toy() -> tuple[nn.Module, training.Loss]:
    model = nn.Linear(2, 1)

    def loss(trained, step, generator):
        x = torch.randn(4, 2, generator=generator)
        return (trained(x) - x.sum(1, keepdim=True)).square().mean(), 4

    return model, loss


def go(path: Path, steps: int = 8, seed: int = 0, **changes) -> training.History:
    torch.manual_seed(0)  # nn.Linear draws its initial weights from the global generator
    model, loss = toy()
    generator = torch.Generator().manual_seed(seed)
    schedule = training.Schedule(steps, 1e-2)
    return training.fit(
        model, loss, schedule, generator, checkpoint=path, every=4, identity={"seed": seed}, **changes
    )


def test_losses_and_time_of_earlier_lives_are_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    first = go(path)
    again = go(path)
    assert again.losses == first.losses
    assert again.seconds == pytest.approx(first.seconds)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage", "empty"])
def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path, damage):
    path = tmp_path / "run.safetensors"
    go(path)
    good = path.read_bytes()
    middle = len(good) - 40  # inside a tensor, so that the header stays whole
    bad = {
        "cut": good[: len(good) // 2],
        "flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "garbage": b"PK\x03\x04" * 50,
        "empty": b"",
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(training.CheckpointError, match=r"damaged.*It was left as it is"):
        go(path)
    assert path.read_bytes() == bad


def test_a_checkpoint_of_another_run_is_refused_by_naming_what_differs(tmp_path):
    path = tmp_path / "run.safetensors"
    go(path)
    good = path.read_bytes()
    with pytest.raises(training.CheckpointError, match=r"another run \(seed: 0 there, 1 here\)"):
        go(path, seed=1)
    with pytest.raises(training.CheckpointError, match="schedule"):
        go(path, steps=9)
    assert path.read_bytes() == good


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(training.CheckpointError, match="format None"):
        go(path)


def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    go(path)
    good = path.read_bytes()

    def full(dir, prefix, suffix):  # every write there fails: no space left
        name = Path(dir) / f"{prefix}x{suffix}"
        name.symlink_to("/dev/full")
        return os.open(name, os.O_WRONLY), str(name)

    monkeypatch.setattr(paths.tempfile, "mkstemp", full)
    with pytest.raises(OSError, match=r"disk full: checkpoint of [\d,]+ bytes, [\d,]+ free"):
        training.save_checkpoint(path, {"weight": torch.ones(10_000)}, {})
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "deep" / "down" / "run.safetensors"
    tensors = {"a": torch.arange(6).reshape(2, 3).mT, "b": torch.tensor(1.5, dtype=torch.bfloat16)}
    training.save_checkpoint(path, tensors, {"n": 3})
    found = training.load_checkpoint(path, {"n": 3})
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_a_loss_that_is_not_a_number_stops_the_run_before_it_is_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match="loss is nan at step 0: lower learning_rate"):
        training.fit(
            nn.Linear(1, 1), lambda m, s, g: (m.weight.sum() * float("nan"), 1), training.Schedule(3),
            torch.Generator(), checkpoint=path,
        )  # fmt: skip
    assert not path.exists()


def fit_until(path: Path, loss: training.Loss, model: nn.Module, **schedule) -> None:
    training.fit(
        model, loss, training.Schedule(8, **schedule), torch.Generator(), checkpoint=path, every=4
    )  # fmt: skip


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_finite_at_a_checkpoint_leaves_weights_and_file_alone(tmp_path, value):
    path, weights = tmp_path / "run.safetensors", []

    def loss(model, step, generator):
        weights.append(model.weight.detach().clone())
        return model.weight.square().sum() * (value if step == 3 else 1.0), 1

    model = nn.Linear(2, 1)
    with pytest.raises(FloatingPointError, match=rf"loss is {value} at step 3"):
        fit_until(path, loss, model)
    assert not path.exists()  # step 3 is the fourth: a checkpoint was due after it
    assert torch.equal(model.weight, weights[3])


def test_gradients_that_are_not_finite_under_a_finite_loss_are_not_followed(tmp_path):
    path, weights = tmp_path / "run.safetensors", []

    def loss(model, step, generator):
        weights.append(model.weight.detach().clone())
        hidden = (model.weight * 0.0).sqrt().sum() if step == 6 else 0.0  # worth 0, with a slope of 0 · ∞
        return model.weight.square().sum() + hidden, 1

    model = nn.Linear(2, 1)
    with pytest.raises(FloatingPointError, match=r"gradient of a loss of .* is not finite at step 6"):
        fit_until(path, loss, model)
    assert torch.equal(model.weight, weights[6])
    kept = training.load_checkpoint(path)
    assert len(kept["losses"]) == 4
    assert all(torch.isfinite(value).all() for value in kept.values() if value.is_floating_point())


def test_a_step_that_overflows_is_not_kept_though_its_loss_was_finite(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match="weight weight is not finite at step 3"):
        # The loss sees nothing of the weight's size.
        fit_until(
            path, lambda m, s, g: (m.weight.sum() - m.weight.sum().detach().clamp(-1, 1), 1),
            Growing(), learning_rate=1.0, warmup=0.0,
        )  # fmt: skip
    assert not path.exists()


class Growing(nn.Module):
    """Its weight turns infinite with the fourth step, after the loss of that step has been taken."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.steps = 0
        self.weight.register_hook(self.count)

    def count(self, gradient):
        self.steps += 1
        if self.steps == 4:
            self.weight.data.fill_(math.inf)
        return gradient


def forge(path: Path, tensors: dict, **metadata: str) -> None:
    """Write a file whose digest is right, whatever else is wrong."""
    whole = {"format": training.FORMAT, **metadata}
    whole["digest"] = training.fingerprint(tensors, whole.get("identity", ""))
    safetensors.torch.save_file(tensors, path, whole)


@pytest.mark.parametrize("metadata", [{}, {"identity": "{"}, {"identity": "[1]"}, {"identity": "null"}])
def test_a_checkpoint_that_does_not_say_whose_it_is_is_refused_and_left_alone(tmp_path, metadata):
    path = tmp_path / "run.safetensors"
    go(path)
    forge(path, training.load_checkpoint(path), **metadata)
    bad = path.read_bytes()
    for call in (lambda: training.load_checkpoint(path), lambda: go(path)):
        with pytest.raises(training.CheckpointError, match=r"does not say what it belongs to.*left as it is"):
            call()
    assert path.read_bytes() == bad


def contents(path: Path) -> tuple[dict, dict]:
    with safetensors.safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize(
    "change",
    [
        lambda t, m: (t, {**m, "identity": m["identity"].replace('"seed": 0', '"seed": 1')}),
        lambda t, m: ({**t, "model.weight": t["model.weight"].reshape(2, 1)}, m),
        lambda t, m: ({**t, "model.weight": t["model.weight"].view(torch.int32)}, m),
        lambda t, m: ({**t, "model.weight": t["model.bias"], "model.bias": t["model.weight"]}, m),
    ],
    ids=["identity", "shape", "type", "names"],
)
def test_the_digest_covers_identity_names_types_and_shapes(tmp_path, change):
    path = tmp_path / "run.safetensors"
    go(path)
    tensors, metadata = change(*contents(path))
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(training.CheckpointError, match="does not match its digest"):
        training.load_checkpoint(path)


def test_the_digest_keeps_its_parts_apart():
    one, none = torch.tensor([97], dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8)  # 97 is "a"
    found = [
        training.fingerprint({"a": one}), training.fingerprint({"b": one}), training.fingerprint({"a": one}, "a"),
        training.fingerprint({"aa": one}), training.fingerprint({"a": one, "b": none}), training.fingerprint({"a": one[None]}),
        training.fingerprint({"a": one.to(torch.int8)}), training.fingerprint({}, "a"), training.fingerprint({}),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert training.fingerprint({"a": one, "b": none}) == training.fingerprint({"b": none, "a": one})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: {**t, "model.weight": torch.zeros(1, 3)}, r"model.weight: \(1, 3\) float32 there, \(1, 2\)"),
        (lambda t: {**t, "model.weight": t["model.weight"].double()}, "model.weight: .* float64 there"),
        (lambda t: {k: v for k, v in t.items() if k != "model.bias"}, "model.bias: nothing there"),
        (lambda t: {**t, "model.more": torch.zeros(1)}, "model.more: .* there, nothing here"),
        (lambda t: {k: v for k, v in t.items() if k != "optimizer.1.exp_avg"}, "optimizer.1.exp_avg: nothing"),
        (lambda t: {**t, "optimizer.7.step": torch.zeros(())}, "optimizer.7.step: .* there, nothing here"),
        (lambda t: {**t, "optimizer.x": torch.zeros(())}, "optimizer.x: .* there, nothing here"),
        (lambda t: {k: v for k, v in t.items() if k != "generator"}, "generator: nothing there"),
        (lambda t: {**t, "generator": torch.zeros(16, dtype=torch.uint8)}, r"generator: \(16,\)"),
        (lambda t: {k: v for k, v in t.items() if k != "losses"}, "losses: nothing there"),
        (lambda t: {**t, "losses": torch.zeros(99)}, r"losses: \(99,\) float32 there"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_before_anything_is_overwritten(tmp_path, change, named):
    path = tmp_path / "run.safetensors"
    go(path)
    tensors, metadata = contents(path)
    forge(path, change(tensors), identity=metadata["identity"])
    bad = path.read_bytes()
    model, loss = toy()
    before, generator = (
        {k: v.clone() for k, v in model.state_dict().items()},
        torch.Generator().manual_seed(0),
    )
    start = generator.get_state()
    with pytest.raises(training.CheckpointError, match=rf"does not fit the model \(.*{named}"):
        training.fit(
            model, loss, training.Schedule(8, 1e-2), generator, checkpoint=path, identity={"seed": 0}
        )
    assert path.read_bytes() == bad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(generator.get_state(), start)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model.weight", lambda value: value * math.nan, "not finite, in model.weight"),
        ("optimizer.0.exp_avg_sq", lambda value: value + math.inf, "not finite, in optimizer.0.exp_avg_sq"),
        ("generator", torch.zeros_like, "broken state of the generator"),
    ],
)
def test_a_state_of_sick_numbers_is_refused(tmp_path, name, damage, said):
    """Its shapes fit and its digest is right: it was written so."""
    path = tmp_path / "run.safetensors"
    go(path)
    tensors, metadata = contents(path)
    forge(path, {**tensors, name: damage(tensors[name])}, identity=metadata["identity"])
    model, loss = toy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    start = generator.get_state()
    schedule = training.Schedule(8, 1e-2)
    with pytest.raises(training.CheckpointError, match=rf"run.safetensors holds .*{said}.*left as it is"):
        training.fit(model, loss, schedule, generator, checkpoint=path, identity={"seed": 0})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(generator.get_state(), start)


def test_a_checkpoint_of_the_format_before_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    go(path)
    tensors, metadata = contents(path)
    safetensors.torch.save_file(tensors, path, {**metadata, "format": "tsl-checkpoint-1"})
    with pytest.raises(training.CheckpointError, match=r"format 'tsl-checkpoint-1', not 'tsl-checkpoint-2'"):
        go(path)


def test_a_checkpoint_says_on_which_kind_of_device_its_data_were_drawn(tmp_path):
    path = tmp_path / "run.safetensors"
    go(path)
    assert json.loads(contents(path)[1]["identity"])["generator"] == "cpu"
    with pytest.raises(training.CheckpointError, match="generator: 'cpu' there, 'cuda' here"):
        training.load_checkpoint(
            path, training.signature({"seed": 0}, training.Schedule(8, 1e-2), "cuda:1")
        )  # fmt: skip


def test_an_estimate_and_a_bar_are_shown_and_change_nothing(tmp_path, capsys):
    quiet = go(tmp_path / "quiet")
    capsys.readouterr()
    shown = go(tmp_path / "shown", progress=True)
    text = capsys.readouterr().err
    assert "8 steps of 4 tokens, 3 parameters on cpu: about" in text
    assert "8/8" in text
    assert shown.losses == quiet.losses


def test_without_a_terminal_progress_goes_to_a_file_and_only_there(tmp_path, capsys, monkeypatch):
    log = tmp_path / "progress" / "chapter.log"
    monkeypatch.setenv("TSL_PROGRESS", str(log))
    shown = go(tmp_path / "shown", progress=True)
    assert capsys.readouterr().err == ""
    assert "8 steps of 4 tokens" in log.read_text()
    assert "8/8" in chapters.last_line(log)
    assert shown.losses == go(tmp_path / "quiet").losses
    assert chapters.last_line(tmp_path / "nothing") == ""


def test_progress_that_cannot_be_written_does_not_end_a_training(tmp_path, capsys, monkeypatch):
    quiet = go(tmp_path / "quiet")
    (tmp_path / "file").touch()
    # No folder can be made there; the disk is full from the first line on.
    for number, name in enumerate([tmp_path / "file" / "log", "/dev/full"]):
        monkeypatch.setenv("TSL_PROGRESS", str(name))
        assert go(tmp_path / f"shown{number}", progress=True).losses == quiet.losses
    assert capsys.readouterr().err == ""


def test_a_log_that_fills_the_disk_half_way_falls_silent(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("TSL_PROGRESS", str(log))
    with training.progress_stream() as stream:
        print("before", file=stream, flush=True)

        def full(text):
            raise OSError(28, "No space left on device")

        stream.file.write = full
        assert [stream.write("abc"), stream.write("abc")] == [3, 3]
        stream.flush()
    assert log.read_text() == "before\n"


def test_the_rate_rises_falls_and_never_reaches_zero():
    schedule = training.Schedule(100, 1.0, warmup=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == 1.0
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2, "learning_rate": -1.0}, "learning_rate"),
        ({"steps": 2, "warmup": 1.0}, "warmup"),
        ({"steps": 2, "warmup": "x"}, r"warmup must lie in \[0, 1\), got 'x'"),
        ({"steps": -3}, "steps must be an integer >= 1, got -3"),
        ({"steps": 2, "learning_rate": "1e-3"}, "learning_rate must be a finite number > 0, got '1e-3'"),
        ({"steps": 2, "weight_decay": True}, "weight_decay"),
    ],
)
def test_bad_schedules_are_named(arguments, message, refuses):
    with refuses(message):
        training.Schedule(**arguments)


def test_only_two_precisions_are_known(refuses):
    with refuses("precision must be"):
        training.precision("cpu", "fp8")
