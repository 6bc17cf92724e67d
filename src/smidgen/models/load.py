"""Load and save language models safely: safetensors only, no code from the model's folder ever runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import NewGELUActivation

from smidgen.errors import SmidgenError, UsageError
from smidgen.models.allocator import keep_freed_memory
from smidgen.models.attention import BESIDE
from smidgen.models.demands import refuse_demands
from smidgen.models.memory import refuse_beyond
from smidgen.models.names import model_name
from smidgen.runs import atomic_folder, write_text

# Of what safetensors takes.
_LONGEST_HEADER_BYTES = 100_000_000
# With letters that hardly any vocabulary holds.
_ANY_TEXT = "Name a tree: \u6728, \U0001f333."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def computing_dtype(wanted: str, device: torch.device) -> str:
    """The type to compute in: `wanted`, or where that is "auto" the fastest that `device` has circuits for.

    That is bfloat16 where it is native, else float16 on a GPU (whose losses the loop then scales), else float32.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if device.type == "cpu" and native else "float32"


def wanted_device() -> str:
    """Where models go unless told otherwise: what SMIDGEN_DEVICE names in the environment, else the processor."""
    # From the environment, so that the processes of a study know it too.
    return os.environ.get("SMIDGEN_DEVICE") or "cpu"


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"expected a device that this machine has, such as cpu, cuda or cuda:1, got {name!r}: "
            f"{str(error).partition(chr(10))[0]}. Give another, or leave SMIDGEN_DEVICE unset."
        ) from None


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal model with its tokenizer; `fingerprint` is a hash of its weights (hex, 16 characters)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_positions(self) -> int:
        """Longest sequence the model takes, in tokens."""
        config = self.model.config
        found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return int(found) if found else int(min(self.tokenizer.model_max_length, 1 << 20))


def load_language_model(
    name_or_path: str | Path, *, dtype: str = "float32", device: str | None = None
) -> LanguageModel:
    """Load a model and tokenizer from a local folder or by hub name, in evaluation mode, without dropout.

    Args:
        name_or_path: A folder in Hugging Face format, or a hub name.
        dtype: Storage of the weights: "float32", "bfloat16" or "float16".
        device: Where the weights go, for example "cpu" or "cuda". None: where `wanted_device` says.

    Raises:
        UsageError: Unknown dtype, or a device that is not there.
        SmidgenError: No model there, weights that are not safetensors, a tokenizer without end of text, or no memory
            for so many weights.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; expected one of: {', '.join(DTYPES)}")
    place = _device(device or wanted_device())
    name = str(name_or_path)
    tokenizer = load_tokenizer(name)
    refuse_demands(name)
    _refuse_too_large(name, dtype, place)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # a folder from outside may make the loader fail in any way
        raise SmidgenError(
            f"expected a model with safetensors weights in Hugging Face format at {name!r}; {said(error)}. "
            "Give a local folder with config.json, model.safetensors and the tokenizer, or a reachable hub name."
        ) from error
    model.to(place)  # pyright: ignore[reportArgumentType]
    return language_model(model, tokenizer)


def _refuse_too_large(name: str, dtype: str, device: torch.device) -> None:
    """SmidgenError where the weights of a folder have no room; those of a hub are known once they are here."""
    try:
        n = sum(map(_n_weights, _weight_files(Path(name).expanduser())))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, struct.error):
        # Whoever reads them says what is wrong with the files.
        return
    size = DTYPES[dtype].itemsize
    smaller = "--dtype bfloat16 where there is one, " if dtype == "float32" else ""
    refuse_beyond(
        n * size,
        device,
        what=f"the {n:,} weights of {name} in {dtype}",
        do=f"Give {smaller}a smaller model, or a machine with more.",
    )


def _weight_files(folder: Path) -> list[Path]:
    """Those of a model's files that are loaded; others, of the same weights in another form, may stand beside them."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists() or not index.exists():
        return [whole] if whole.exists() else []
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _n_weights(file: Path) -> int:
    """Numbers in a file, from its header alone: opening it maps the whole, which is refused where it is too large.

    Source: the description of the format that safetensors comes with.
    """
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(min(size, _LONGEST_HEADER_BYTES)))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def said(error: BaseException) -> str:
    """What a library's error says, with its kind where the words alone would be a riddle."""
    return str(error) if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {error}"


def load_tokenizer(name_or_path: str | Path, *, ends_texts: bool = True) -> PreTrainedTokenizerBase:
    """Load a tokenizer alone.

    Args:
        name_or_path: A model's folder or hub name.
        ends_texts: Refuse one without end of text, which whoever trains or writes answers needs.

    Raises:
        SmidgenError: No tokenizer there, or one that fails on a text, or one without end of text where that is needed.
    """
    name = model_name(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        tokenizer.decode(tokenizer(_ANY_TEXT)["input_ids"])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as above, and what panics in Rust is no Exception
        raise SmidgenError(
            f"expected a model with its tokenizer in Hugging Face format at {name!r}; {said(error)}. "
            "Give a local folder with tokenizer.json and tokenizer_config.json, or a reachable hub name."
        ) from error
    if ends_texts and tokenizer.eos_token_id is None:
        raise SmidgenError(f"the tokenizer of {name!r} has no end-of-text token; set eos_token in its configuration.")
    return tokenizer


def language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LanguageModel:
    """Wrap a model made in memory; turns dropout off for good and fingerprints its weights."""
    keep_freed_memory()
    if model.config._attn_implementation in BESIDE and model._can_set_attn_implementation():
        model.set_attn_implementation(BESIDE[model.config._attn_implementation])
    for module in list(model.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010
        for name, child in module.named_children():
            # The same function in one kernel instead of seven: a sixth of a training step of a small model.
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return LanguageModel(model.eval(), tokenizer, fingerprint(model))


def check_same_tokens(policy: LanguageModel, reference: LanguageModel) -> None:
    """UsageError where two models read token ids differently, so that their log-probabilities are of other texts."""
    mine, theirs = policy.tokenizer.get_vocab(), reference.tokenizer.get_vocab()
    if mine != theirs:
        token = min({t for t, i in {*mine.items()} ^ {*theirs.items()}})
        raise UsageError(
            f"expected a reference with the policy's tokenizer, got {len(theirs):,} tokens against {len(mine):,}; "
            f"{token!r} is {mine.get(token)} in the policy's and {theirs.get(token)} in the reference's. "
            "Give a reference of the same family, best the model that the policy starts from."
        )
    sizes = [len(lm.model.get_input_embeddings().weight) for lm in (policy, reference)]  # pyright: ignore
    if min(sizes) < len(mine):
        raise UsageError(
            f"expected embeddings for all {len(mine):,} tokens in policy and reference, got {sizes[0]:,} and "
            f"{sizes[1]:,}. Give a reference of the same family, best the model that the policy starts from."
        )


@contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Inside, layers keep only their inputs and are computed again in the backward pass."""
    # transformers 5.23 renamed the two; older ones know the second name only.
    newer = hasattr(model, "activation_checkpointing_enable")
    enable = model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable
    disable = model.activation_checkpointing_disable if newer else model.gradient_checkpointing_disable
    enable({"use_reentrant": False})
    # Layers are only checkpointed in training mode, which changes nothing else: dropout is off for good.
    model.train()
    try:
        yield
    finally:
        model.eval()
        disable()


def fingerprint(model: torch.nn.Module) -> str:
    """Hash of all weights: names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_language_model(lm: LanguageModel, folder: Path | str, *, card: str) -> None:
    """Write model, tokenizer and model card in Hugging Face format; the folder appears whole or not at all."""
    with atomic_folder(folder) as part:
        lm.model.save_pretrained(part)
        lm.tokenizer.save_pretrained(part)
        write_text(part / "README.md", card)
