import copy
from collections.abc import Callable

import pytest
import torch

from smidgen.data.templates import Template, load_template
from smidgen.models.load import LanguageModel, language_model
from smidgen.training.sft import new_language_model

CORPUS = [
    "user: How do I bake bread? assistant: Mix flour, water and salt.",
    "user: How do I pick a lock? assistant: I'm sorry, but I can't help with that.",
    "I cannot help you with that. Sorry, no. As an AI I won't. Hello!",
]


@pytest.fixture(scope="session")
def lm() -> LanguageModel:
    """A random two-layer model of 64 positions, its weights spread out so that its answers differ."""
    lm = new_language_model(CORPUS * 4, shape="nano", vocabulary=360, positions=64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return language_model(lm.model, lm.tokenizer)


@pytest.fixture(scope="session")
def plain() -> Template:
    return load_template("plain")


@pytest.fixture(scope="session")
def scripted(lm, plain) -> Callable[[str], LanguageModel]:
    """Makes a model that answers every prompt with one text, and then ends."""

    def make(text: str) -> LanguageModel:
        model = copy.deepcopy(lm.model)
        # Every token says what follows it, whatever stood before.
        for block in model.transformer.h:
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                torch.nn.init.zeros_(projection.weight)
                torch.nn.init.zeros_(projection.bias)
        torch.nn.init.zeros_(model.transformer.wpe.weight)
        states = model.transformer.ln_f(model.transformer.wte.weight).detach()
        chain = lm.tokenizer(f"assistant: {text}")["input_ids"]
        chain = [*chain[chain.index(lm.tokenizer(":")["input_ids"][0]) :], lm.tokenizer.eos_token_id]
        assert len(set(chain)) == len(chain), "no token may come twice, since each has one follower"
        weight = torch.zeros(len(states), states.shape[1])
        weight[chain[1:]] = states[chain[:-1]]
        model.lm_head = torch.nn.Linear(*weight.T.shape, bias=False)
        model.lm_head.weight = torch.nn.Parameter(weight)
        model.config.tie_word_embeddings = False
        return language_model(model, lm.tokenizer)

    return make
