"""Two real processes end where one does, by copies (DDP) and by shards (FSDP2); the first one writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from smidgen.models.load import LanguageModel, save_language_model
from smidgen.training.checkpoints import Keep, _gathered, last_good
from smidgen.training.loop import LossTerms, Recipe, train
from smidgen.training.record import NotFinite

STEPS = 9
RECIPE = Recipe(learning_rate=0.02, schedule="linear", dtype="float32")


@dataclass(frozen=True, slots=True)
class Points:
    """Points of a curve to learn, one part of a step."""

    x: Tensor
    idx: Tensor
    weight: float

    def __len__(self) -> int:
        return len(self.x)


def points(start: int, parts: list[list[int]], bad: int | None = None) -> Iterator[list[Points]]:
    """Of each step's five points, those of these parts; at step `bad`, the last of the five has no value."""
    for step in range(start, STEPS):
        x = torch.randn(5, 2, generator=torch.Generator().manual_seed(step))
        if step + 1 == bad:
            x[4] = torch.nan
        yield [Points(x[part], 10 * step + torch.tensor(part), len(part)) for part in parts]


def curve(model: nn.Module, part: Points) -> LossTerms:
    return LossTerms(((model(part.x) - part.x.sin().sum(-1, keepdim=True)) ** 2).mean(), len(part))


def trained(parts: list[list[int]], **around: Any) -> tuple[Tensor, list[float]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 7), nn.Tanh(), nn.Linear(7, 1))
    log = train(model, curve, lambda start: points(start, parts), recipe=RECIPE, steps=STEPS, log_every=2, **around)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), [row["loss"] for row in log.rows]


def _one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    # The first has more parts than the second.
    parts = [[[0], [1, 2]], [[3, 4]]][rank]
    found: dict[str, Any] = {}
    for name, shard in (("copies", False), ("shards", True)):
        keep = Keep(folder=folder / name, every_steps=5)
        found[name] = trained(parts, shard=shard, keep=keep)
        found[f"{name}, again"] = trained(parts, shard=shard, keep=keep)
    try:
        keep = Keep(folder=folder / "bad", every_steps=3)
        model = nn.Linear(2, 1)
        train(model, curve, lambda start: points(start, parts, bad=5), recipe=RECIPE, steps=STEPS, keep=keep)
    except NotFinite as error:
        found["message"] = str(error)
    found["held"] = list(_gathered([("weights", torch.ones(2))]))
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    weights, losses = trained([[0, 1, 2, 3, 4]])
    spawn(_one_of_two, args=(tmp_path,), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in ("copies", "shards"):
            for ends, ends_losses in (found[name], found[f"{name}, again"]):
                torch.testing.assert_close(ends, weights, atol=1e-5, rtol=0)
                assert ends_losses == pytest.approx(losses, abs=1e-5)
        assert "at step 5, on the examples with idx 40, 41, 42, 43, 44." in found["message"]
        assert found["message"].endswith(f"The last good checkpoint is {tmp_path / 'bad' / 'step-3'}.")
        # Eight processes of one machine must not each hold what one of them writes.
        assert found["held"] == ([] if rank else ["weights"])
    # A checkpoint is whole, whoever wrote it: one process goes on from that of two.
    for name in ("copies", "shards"):
        assert last_good(tmp_path / name) == tmp_path / name / "step-5"
        ends, ends_losses = trained([[0, 1, 2, 3, 4]], keep=Keep(folder=tmp_path / name, every_steps=5))
        torch.testing.assert_close(ends, weights, atol=1e-5, rtol=0)
        assert ends_losses == pytest.approx(losses, abs=1e-5)


# The command line under a launcher.


DDP = ["accelerate.commands.launch", "--multi_gpu"]
FSDP2 = ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2"]


def launched(launcher: list[str]) -> list[str]:
    settings = {"num_processes": 2, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
    flags = [f"--{name}={value}" for name, value in settings.items()]
    return [*launcher, *flags, "--main_process_port=0"]


@pytest.fixture
def arguments(tiny: LanguageModel, tmp_path: Path) -> list[str]:
    save_language_model(tiny, tmp_path / "model", card="")
    rows = [{"prompt": f"Question {i}?", "chosen": "Good " * (1 + i % 3), "rejected": f"Bad {i}."} for i in range(20)]
    for name in ("pairs", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = [
        "--pairs",
        f"{tmp_path}/pairs.jsonl",
        "--heldout",
        f"{tmp_path}/heldout.jsonl",
        "--model",
        f"{tmp_path}/model",
    ]
    recipe = ["--steps", "12", "--batch-size", "5", "--learning-rate", "1e-4", "--dtype", "float32"]
    return ["train", "dpo", *data, *recipe, "--micro-batch-tokens", "60", "--json"]


def run(*argv: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights_of(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "flags"),
    [
        (launched(DDP), []),
        (launched(FSDP2), []),
        (launched(FSDP2), ["--lora-rank", "4"]),
        (["torch.distributed.run", "--nproc-per-node", "2"], ["--shard", "--gradient-checkpointing"]),
    ],
    ids=["DDP", "FSDP2", "FSDP2, adapters", "torchrun, FSDP2, checkpointed layers"],
)
def test_launched_twice_it_ends_where_it_does_once(
    arguments: list[str], tmp_path: Path, launcher: list[str], flags: list[str]
) -> None:
    one = json.loads(run("smidgen", *arguments, *flags, "--out", tmp_path / "one"))
    kept = ("--checkpoint-every", "5", "--keep-checkpoints", "--out", tmp_path / "two")
    # Only the first process speaks: the output is one JSON object.
    two = json.loads(run(*launcher, "-m", "smidgen", *arguments, *flags, *kept))
    measured = ("loss", "heldout_loss", "heldout_accuracy", "heldout_margin_nats")
    assert [two[name] for name in measured] == pytest.approx([one[name] for name in measured], abs=1e-4)
    torch.testing.assert_close(weights_of(tmp_path / "two"), weights_of(tmp_path / "one"), atol=2e-5, rtol=0)
    moved = max(
        float((weights_of(tmp_path / "one")[n] - t).abs().max())
        for n, t in load_file(tmp_path / "model" / "model.safetensors").items()
    )
    assert moved > 2e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "launchers"),
    [(["sft"], [FSDP2]), (["reward", "--heldout-share", "0"], [FSDP2, DDP])],
    ids=["sft", "reward"],
)
def test_answers_and_rewards_end_where_one_process_ends(
    arguments: list[str], tmp_path: Path, command: list[str], launchers: list[list[str]]
) -> None:
    at = arguments.index("--heldout")
    given = ["train", *command, *arguments[2:at], *arguments[at + 2 :]]
    one = json.loads(run("smidgen", *given, "--out", tmp_path / "one"))
    for number, launcher in enumerate(launchers):
        out = tmp_path / f"two-{number}"
        two = json.loads(run(*launched(launcher), "-m", "smidgen", *given, "--out", out))
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        # Attention does not see the keys' bias: its gradient is rounding alone, and Adam takes whole steps by it.
        two_ends, one_ends = (
            {name: weights for name, weights in weights_of(folder).items() if "c_attn.bias" not in name}
            for folder in (out, tmp_path / "one")
        )
        torch.testing.assert_close(two_ends, one_ends, atol=2e-5, rtol=0)


@pytest.mark.slow
def test_all_weights_in_shards_killed_and_called_again_are_never_killed(arguments: list[str], tmp_path: Path) -> None:
    arguments[arguments.index("--steps") + 1] = "60"
    command = [*launched(FSDP2), "-m", "smidgen", *arguments, "--checkpoint-every", "10", "--out"]
    whole = json.loads(run(*command, tmp_path / "whole"))
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", *command, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list((out / "checkpoints").glob("step-*")):
        time.sleep(0.005)
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    process.wait()
    kept = last_good(out / "checkpoints")
    assert kept and not (out / "model").exists()
    # Put together, whatever the number of processes that goes on from it.
    sizes = {name.removeprefix("model."): t.shape for name, t in load_file(kept / "weights.safetensors").items()}
    assert sizes == {name: t.shape for name, t in weights_of(tmp_path / "whole").items()}
    again = json.loads(run(*command, out))
    assert again["loss"] == whole["loss"]
    for name, weights in weights_of(tmp_path / "whole").items():
        assert torch.equal(weights_of(out)[name], weights), name


@pytest.mark.slow
def test_what_two_processes_left_unfinished_two_others_end(arguments: list[str], tmp_path: Path) -> None:
    out, given = tmp_path / "two", [*arguments, "--lora-rank", "4", "--checkpoint-every", "5", "--keep-checkpoints"]
    command = [*launched(FSDP2), "-m", "smidgen", *given, "--out", out]
    whole = json.loads(run(*command))
    ended = weights_of(out)
    # As it stood when it was killed between steps 5 and 10.
    (out / "DONE").unlink()
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / "step-10")
    again = json.loads(run(*command))
    assert again["loss"] == pytest.approx(whole["loss"], abs=1e-4)
    torch.testing.assert_close(weights_of(out), ended, atol=2e-5, rtol=0)
