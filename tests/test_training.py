"""The training loop survives: kills, damaged files, full disks; and it says what a run will cost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from tsl import notebooks, training

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


def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(tmp_path):
    path = tmp_path / "run.safetensors"
    go(path)
    good = path.read_bytes()
    path.with_name(path.name + ".partial").symlink_to("/dev/full")  # every write there fails: no space left
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
    with pytest.raises(FloatingPointError, match="NaN at step 0"):
        training.fit(
            nn.Linear(1, 1), lambda m, s, g: (m.weight.sum() * float("nan"), 1), training.Schedule(3),
            torch.Generator(), checkpoint=path,
        )  # fmt: skip
    assert not path.exists()


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
    assert "8/8" in notebooks.last_line(log)
    assert shown.losses == go(tmp_path / "quiet").losses
    assert notebooks.last_line(tmp_path / "nothing") == ""


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
    ],
)
def test_bad_schedules_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.Schedule(**arguments)


def test_only_two_precisions_are_known():
    with pytest.raises(ValueError, match="precision must be"):
        training.precision("cpu", "fp8")
