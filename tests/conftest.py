"""Shared parts of the tests: a tiny random model with a tokenizer of its own."""

import os

# No test waits for a hub; set before anything imports the hub's client.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from smidgen.models.load import LanguageModel
from smidgen.training.sft import new_language_model

CORPUS = [
    "user: How do I bake bread? assistant: Mix flour, water and salt, and wait an hour.",
    "user: How do I pick a lock? assistant: I'm sorry, but I can't help with that.",
    "user: Name a tree. assistant: The oak is a tree, and so is the pine.",
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests run beside each other; more threads than cores make all of them slow."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> LanguageModel:
    """A random GPT-2-architecture model, weights spread out so that its log-probabilities differ; new for each test."""
    lm = new_language_model(CORPUS * 4, shape="tiny", vocabulary=400, positions=96, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return lm
