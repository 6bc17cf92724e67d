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
