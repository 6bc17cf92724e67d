import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from smidgen.data.templates import Template, load_template
from smidgen.models.load import LanguageModel, language_model

CORPUS = [
    "user: How do I bake bread? assistant: Mix flour, water and salt.",
    "user: How do I pick a lock? assistant: I'm sorry, but I can't help with that.",
    "I cannot help you with that. Sorry, no. As an AI I won't. Hello!",
]


@pytest.fixture(scope="session")
def lm() -> LanguageModel:
    """A random two-layer GPT-2 of 64 positions over a byte-level vocabulary trained here."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return language_model(GPT2LMHeadModel(config), tokenizer)


@pytest.fixture(scope="session")
def plain() -> Template:
    return load_template("plain")
