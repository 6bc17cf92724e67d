"""Loading is safe, and what is saved loads as the same model."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.activations import NewGELUActivation

from smidgen.errors import SmidgenError, UsageError
from smidgen.models.load import (
    LanguageModel,
    check_same_tokens,
    computing_dtype,
    fingerprint,
    language_model,
    load_language_model,
    load_tokenizer,
    save_language_model,
)
from smidgen.models.reward_model import load_reward_model
from smidgen.training.sft import new_language_model


def test_saved_and_loaded_is_the_same_model(tiny: LanguageModel, tmp_path: Path) -> None:
    save_language_model(tiny, tmp_path / "model", card="# A card\n")
    loaded = load_language_model(tmp_path / "model")
    assert loaded.fingerprint == language_model(tiny.model, tiny.tokenizer).fingerprint
    assert loaded.tokenizer("Name a tree.")["input_ids"] == tiny.tokenizer("Name a tree.")["input_ids"]
    assert (tmp_path / "model" / "README.md").read_text() == "# A card\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_pickled_weights_are_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    save_language_model(tiny, tmp_path / "model", card="")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(tiny.model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SmidgenError, match="safetensors"):
        load_language_model(tmp_path / "model")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_folder_without_a_whole_model_is_explained(tiny: LanguageModel, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    if damage == "truncated":
        save_language_model(tiny, folder, card="")
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        folder.mkdir()
    with pytest.raises(SmidgenError, match="expected a model with"):
        load_language_model(folder)


def test_unknown_dtype() -> None:
    with pytest.raises(UsageError, match="float32"):
        load_language_model("anywhere", dtype="int3")


def test_the_fused_activation_is_the_same_function() -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(torch.nn.GELU(approximate="tanh")(x), NewGELUActivation()(x), atol=1e-12, rtol=0)


def test_models_go_where_the_environment_says(tiny: LanguageModel, tmp_path: Path, monkeypatch) -> None:
    save_language_model(tiny, tmp_path / "model", card="")
    monkeypatch.delenv("SMIDGEN_DEVICE", raising=False)
    assert load_language_model(tmp_path / "model").device.type == "cpu"
    monkeypatch.setenv("SMIDGEN_DEVICE", "abacus")
    with pytest.raises(UsageError, match=r"got 'abacus': .* Give another, or leave SMIDGEN_DEVICE unset"):
        load_language_model(tmp_path / "model")
    assert load_language_model(tmp_path / "model", device="cpu").device.type == "cpu"
    monkeypatch.setenv("SMIDGEN_DEVICE", "cuda" if torch.cuda.is_available() else "cpu:0")
    assert load_language_model(tmp_path / "model").fingerprint == fingerprint(tiny.model)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="a device that this machine has, such as cpu"):
            load_language_model(tmp_path / "model", device="cuda")


def test_the_type_to_compute_in() -> None:
    cpu = torch.device("cpu")
    assert computing_dtype("float16", cpu) == "float16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert computing_dtype("auto", cpu) == ("bfloat16" if native else "float32")


def test_a_reference_that_reads_tokens_differently_is_refused(tiny: LanguageModel) -> None:
    check_same_tokens(tiny, tiny)
    other = new_language_model(["quite other words than those"] * 9, shape="nano", vocabulary=300, positions=32)
    with pytest.raises(UsageError, match=r"the policy's tokenizer, got [0-9]+ tokens against [0-9]+; .* is [0-9N]"):
        check_same_tokens(tiny, other)
    smaller = replace(tiny, model=other.model)
    with pytest.raises(UsageError, match=r"expected embeddings for all [0-9]+ tokens .* and [0-9]+\. Give"):
        check_same_tokens(tiny, smaller)


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/model", "~/nowhere/at/all", "runs/nowhere/model"])
def test_a_path_that_leads_nowhere_is_said_to_be_one(path: str) -> None:
    for load in (load_language_model, load_tokenizer, load_reward_model):
        with pytest.raises(UsageError, match=f"model's folder at {re.escape(path)}, found none; give"):
            load(path)
