import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from smidgen.pairs import plain_pair

CORPUS = [
    "user: How do I bake bread? assistant: Mix flour, water and salt.",
    "\n\nHuman: Tell me a story.\n\nAssistant: Once upon a time there was a small house.",
    "I can help you with that. I cannot help you with that. <|endoftext|>",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of the GPT-2 kind, trained here."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped without."""
    folder = Path(__file__).parents[2].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture
def row() -> dict[str, Any]:
    return {"prompt": "How are you?", "chosen": "Well, thank you.", "rejected": "Go away."}


@pytest.fixture
def write_jsonl(tmp_path: Path):
    """Write rows, or raw lines, to a file of this test's folder."""

    def write(*rows: dict[str, Any] | bytes, name: str = "pairs.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows))
        return path

    return write


@pytest.fixture
def pair():
    return plain_pair(0, "How are you?", "Well, thank you.", "Go away.", source="a.jsonl", source_row=4)
