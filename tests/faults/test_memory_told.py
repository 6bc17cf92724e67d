"""Memory is counted before it is taken, in control groups of both versions and within limits of a process."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.memory import refuse_beyond, room
from smidgen.training.demand import kept_bytes_a_token, refuse_too_large_a_model, refuse_too_large_a_part
from smidgen.training.parts import Parts
from smidgen.training.recipe import Recipe

CPU = torch.device("cpu")
GB = 10**9


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tests before these have freed does not count here."""
    monkeypatch.setattr("smidgen.models.memory.kept_memory", lambda: 0)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What the kernel tells of a machine with 16 GB, of which 8 are available."""
    write(tmp_path / "proc" / "meminfo", "MemTotal: 15625000 kB\nMemFree: 10 kB\nMemAvailable: 7812500 kB\n")
    return tmp_path / "proc"


def test_without_limits_the_machine_counts(proc: Path, tmp_path: Path) -> None:
    found = room(CPU, proc=proc, cgroups=tmp_path)
    assert found and found.free == 8 * GB and found.why == "of the 16.00 GB of this machine"
    assert room(CPU, proc=tmp_path / "none", cgroups=tmp_path) is None
    here = room(CPU)
    assert here and 0 < here.free <= os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()


@pytest.mark.parametrize("container", [False, True])
def test_the_tightest_group_above_counts_without_what_it_caches(proc: Path, tmp_path: Path, container: bool) -> None:
    """Version 2; in a container the path of the group is not to be seen, only its own files at the top."""
    write(proc / "self" / "cgroup", "0::/jobs/mine\n")
    groups = tmp_path / "cgroup"
    tight = groups if container else groups / "jobs"
    write(tight / "memory.max", f"{4 * GB}\n")
    write(tight / "memory.current", f"{3 * GB}\n")
    write(tight / "memory.stat", f"anon {GB}\ninactive_file {GB // 2}\nactive_file {GB // 2}\n")
    if not container:
        write(groups / "jobs" / "mine" / "memory.max", "max\n")
        write(groups / "jobs" / "mine" / "memory.current", f"{GB}\n")
    found = room(CPU, proc=proc, cgroups=groups)
    assert found and found.free == 2 * GB
    assert found.why == f"within the limit of 4.00 GB of the control group {tight}"


def test_groups_of_version_1(proc: Path, tmp_path: Path) -> None:
    write(proc / "self" / "cgroup", "5:cpu:/other\n4:memory:/mine\n")
    write(tmp_path / "memory" / "memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "memory" / "memory.usage_in_bytes", f"{9 * GB}\n")
    write(tmp_path / "memory" / "mine" / "memory.limit_in_bytes", f"{2 * GB}\n")
    write(tmp_path / "memory" / "mine" / "memory.usage_in_bytes", f"{3 * GB}\n")
    found = room(CPU, proc=proc, cgroups=tmp_path)
    assert found and found.free == 0 and str(tmp_path / "memory" / "mine") in found.why


@contextmanager
def limited_to(more: int) -> Iterator[None]:
    """Inside, this process may take so many bytes more of addresses."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_limit_of_the_process_counts() -> None:
    with limited_to(GB // 10):
        found = room(CPU)
        assert found and found.free <= GB // 10 and "of this process (ulimit -v)" in found.why
        with pytest.raises(
            SmidgenError, match=r"memory for a feast, at least 5\.00 GB; got 0\.\d+ GB free within.* Fast"
        ):
            refuse_beyond(5 * GB, CPU, what="a feast", do="Fast.")
        refuse_beyond(1, CPU, what="a crumb", do="")


_TAKES_AGAIN = """
import resource, torch
from smidgen.models.allocator import keep_freed_memory
from smidgen.models.memory import room
keep_freed_memory()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2 * 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
taken = torch.ones(250_000_000)
print(room(torch.device("cpu")).free)
del taken
print(room(torch.device("cpu")).free)
"""


def test_what_this_process_has_freed_can_be_taken_again() -> None:
    """A step's activations are kept for the next one, which must not be refused for them."""
    done = subprocess.run([sys.executable, "-c", _TAKES_AGAIN], capture_output=True, text=True, check=True)
    while_taken, freed = map(int, done.stdout.split())
    assert while_taken < 1.1 * GB and freed > 1.8 * GB


def test_optimiser_and_gradients_are_counted_before_the_first_step() -> None:
    weights = [torch.nn.Parameter(torch.empty(10_000_000))]
    refuse_too_large_a_model(weights)
    with (
        limited_to(GB // 10),
        pytest.raises(SmidgenError, match=r"10,000,000 trained weights, at least 0\.12 GB; got.*--lora"),
    ):
        refuse_too_large_a_model(weights)


@dataclass(frozen=True)
class Batch:
    weight: float = 1.0

    def __len__(self) -> int:
        return 1


def test_too_large_a_part_is_refused_with_the_size_that_fits(tiny: LanguageModel) -> None:
    recipe = Recipe(dtype="float32")
    each = kept_bytes_a_token(tiny.model, recipe)

    def parts(tokens: int) -> Parts[Batch]:
        return Parts([[0], [1]], [10, tokens], lambda examples: Batch())

    many = GB // each
    refuse_too_large_a_part(tiny.model, parts(many), recipe, CPU)
    with limited_to(GB // 2):
        with pytest.raises(SmidgenError, match=rf"memory for {many:,} tokens at once, at least 1\.00 GB") as refused:
            refuse_too_large_a_part(tiny.model, parts(many), recipe, CPU)
        fits = int(str(refused.value).partition("--micro-batch-tokens ")[2].split()[0])
        assert 0 < fits < many
        refuse_too_large_a_part(tiny.model, parts(fits - fits // 50), recipe, CPU)


def kept(model: PreTrainedModel, tokens: int, dtype: str) -> int:
    """Bytes that autograd really keeps of so many tokens, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    ids = torch.arange(tokens).reshape(1, -1) % 50
    alive = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: (alive.append(t), pack(t))[1], lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        model.base_model(input_ids=ids)
    return sum(found.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_bound_is_below_what_is_kept_and_not_far(tiny: LanguageModel, architecture: str, dtype: str) -> None:
    model = tiny.model
    if architecture == "llama":
        sizes: dict[str, Any] = {
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        }
        model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=60, **sizes))
    # The difference of two lengths: what weights are kept as does not count.
    really = (kept(model, 90, dtype) - kept(model, 30, dtype)) / 60
    bound = kept_bytes_a_token(model, Recipe(dtype=dtype))  # pyright: ignore[reportArgumentType]
    assert 0.3 * really < bound <= really
    assert 0 < kept_bytes_a_token(model, replace(Recipe(), gradient_checkpointing=True)) < bound


def huge(folder: Path, tiny: LanguageModel, n: int) -> Path:
    """A model's folder whose weights say that they are `n` numbers, in a file with no blocks on disk."""
    save_language_model(tiny, folder, card="")
    header = json.dumps({"w": {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]}}).encode()
    header += b" " * (-len(header) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 4 * n)
    return folder


def test_a_model_that_has_no_room_is_refused_before_it_is_read(tiny: LanguageModel, tmp_path: Path) -> None:
    folder = huge(tmp_path / "model", tiny, 10**11)
    with pytest.raises(SmidgenError, match=r"the 100,000,000,000 weights of .* in float32, at least 400\.00 GB; got"):
        load_language_model(folder)


def test_weights_that_stand_there_in_two_forms_are_counted_once(tiny: LanguageModel, tmp_path: Path) -> None:
    """Some hubs' folders hold the shards, and all of them in one file that nobody loads."""
    folder = huge(tmp_path / "model", tiny, 10**11)
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    tiny.model.save_pretrained(folder, max_shard_size="20KB")
    assert len([*folder.glob("model-*.safetensors")]) > 1
    n = sum(p.numel() for p in tiny.model.parameters())
    assert sum(p.numel() for p in load_language_model(folder).model.parameters()) == n
    shard = huge(tmp_path / "other", tiny, 10**11) / "model.safetensors"
    shard.rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(SmidgenError, match="the 100,000,000,000 weights of"):
        load_language_model(folder)


@pytest.mark.slow
def test_in_a_real_control_group_nobody_is_killed_for_a_model(tiny: LanguageModel, tmp_path: Path) -> None:
    """The machine has room for it, the group has not."""
    group = (
        next(top for top in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")) if top.is_dir()) / "smidgen-test"
    )
    limit = group / ("memory.limit_in_bytes" if group.parent.name == "memory" else "memory.max")
    try:
        group.mkdir()
        limit.write_text(str(GB))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    folder = huge(tmp_path / "model", tiny, 10**9)
    script = (
        "import os, sys; from pathlib import Path\n"
        "Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from smidgen.cli import main\n"
        "sys.exit(main(['bench', '--model', sys.argv[2]]))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(group), str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert f"1.00 GB of the control group {group}" in done.stderr
        assert "1,000,000,000 weights" in done.stderr and "at least 4.00 GB" in done.stderr
    finally:
        group.rmdir()
