"""The GPU path rehearsed where no GPU is: everything runs on a device that is not the processor, to the same numbers."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import small_book
import torch
from helpers import generator
from pretend import OnGPU, on_a_gpu
from test_odd_inputs import ROWS, Row, assert_same, changed, leaves, world

from tsl.lab import reasoning, transformers

SHAPE = {"d": 3, "n": 4, "chain": 3, "layers": 2, "heads": 2, "width": 8, "steps": 4, "batch": 4}
EXAM = {"tests": [[0.0, 5]], "think": 4, "prompts": 8}


def test_the_rehearsal_refuses_what_a_gpu_refuses():
    with on_a_gpu() as gpu:
        there = torch.ones(3, device=gpu)
        assert (there + 1).sum().item() == 6
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, generator=generator(), device=gpu)
        with pytest.raises(RuntimeError, match="not supported"):
            np.asarray(there)


@ROWS
def test_public_functions_compute_the_same_on_another_device(row: Row):
    w = world(3, torch.tensor([1.5, 0.7, 0.4], dtype=torch.float64))
    expected = row.answer(w)
    with on_a_gpu() as gpu:
        found = row.answer(changed(w, lambda name, value: value.to(gpu)))
        found = tuple(part.cpu() if isinstance(part, torch.Tensor) else part for part in leaves(found))
    assert_same(found, tuple(leaves(expected)), rel=1e-12)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"encoding": "interleaved", "curriculum": 0.5},
        {"attention": "linear"},
        {"kind": "lsa"},
    ],
    ids=["pairs", "interleaved", "linear attention", "lsa"],
)
def test_a_seed_trains_the_same_transformer_and_tests_it_to_the_same_numbers_on_another_device(kind):
    asked = transformers.settings(**SHAPE, **EXAM, **kind)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = transformers.job(asked)
    with on_a_gpu() as gpu:
        trained, _ = transformers.train(transformers.Cell(**asked), device=gpu)
        assert all(isinstance(weight.data, OnGPU) for weight in trained.parameters())
        found = transformers.job(asked, device=gpu)
    for one in (expected, found):
        one.pop("training_seconds")
    assert found == expected


def test_a_study_of_reasoning_comes_to_the_same_on_another_device(monkeypatch):
    size = reasoning.Size(places=1, max_steps=3, layers=1, heads=2, width=8, batch=8, base=2, tune=2)
    monkeypatch.setitem(reasoning.SIZES, "tiny", size)
    asked = reasoning.settings("tiny", ["aligned", "elastic"], 0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = reasoning.job(asked)
    with on_a_gpu() as gpu:
        found = reasoning.job(asked, device=gpu)
    for name in expected:
        for one in (expected, found):
            one[name].pop("seconds")
    assert json.dumps(found) == json.dumps(expected)  # as texts, since nan is nan


def test_the_command_for_a_gpu_is_walked_up_to_its_first_kernel(root, tmp_path):
    """README's command, on a machine that says it has a card: all but the card itself plays along."""
    listed = subprocess.run(
        ["make", "-n", "book", "PROFILE=paper", "DEVICE=cuda"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = ["book", "--profile", "paper", "--device", "cuda", "--seed", "0"]
    (command,) = [line.split() for line in listed.splitlines() if " -m tsl book " in line]
    assert command[-len(options) :] == options
    place, claims = tmp_path / "book", tmp_path / "claims"
    small_book.lay_out(place, root)
    started = (
        'from tsl import runs\nrun = runs.start("01_first", profile=profile, device=device, seed=seed)\n'
    )
    kernel = (
        f"open('{tmp_path}/stamp', 'w').write(run.stamp)\nimport torch\ntorch.ones(1, device=run.device)\n"
    )
    (place / "notebooks/01_first.md").write_text(
        small_book.FIRST.replace("import subprocess\n", started + kernel)
    )
    claims.mkdir()
    (claims / "sitecustomize.py").write_text("import torch\ntorch.cuda.device_count = lambda: 1\n")
    variables = small_book.environment(place, root)
    done = subprocess.run(
        [sys.executable, "-m", "tsl", "execute", *options[1:]],  # what comes before the pages
        env=variables | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{variables['PYTHONPATH']}:{claims}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (tmp_path / "stamp").read_text().startswith("01_first · paper · cuda · seed 0 · ")
    assert re.search("not compiled with CUDA|no NVIDIA driver|No CUDA GPUs", said), said
    assert "torch.ones(1, device=run.device)" in said
    assert done.returncode == 1
    assert "02_second: ran in" in said
