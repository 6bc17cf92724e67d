"""Shared parts of the tests: a tiny random model with a tokenizer of its own, log-probabilities, a browser."""

import os

# No test waits for a hub; set before anything imports the hub's client.
os.environ["HF_HUB_OFFLINE"] = "1"

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.sft import new_language_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine is no failure: neither the time of an example nor that of drawing one says whether a law holds.
settings.register_profile("smidgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("smidgen")

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


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """The system's Chromium; without one, its tests are skipped, and in CI they fail."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        told = "no Chromium on this machine; install it (apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
    with sync_playwright() as playwright:
        # As root, as in containers, Chromium's own sandbox does not start.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield (chromium := playwright.chromium.launch(executable_path=path, args=flags))
        chromium.close()


@pytest.fixture
def made_logps() -> Callable[..., PairLogps]:
    """Makes pairs with random log-probabilities, answers of 1 to `tokens` tokens, and scores in the chosen's favour."""

    def make(
        n: int = 6, tokens: int = 5, *, seed: int = 0, at_reference: bool = False, dtype: torch.dtype = torch.float64
    ) -> PairLogps:
        generator = torch.Generator().manual_seed(seed)

        def answers(like: TokenLogps | None = None) -> TokenLogps:
            values = -2 * torch.rand(n, tokens, generator=generator, dtype=torch.float64)
            lengths = torch.randint(1, tokens + 1, (n,), generator=generator)
            mask = torch.arange(tokens) < lengths[:, None] if like is None else like.mask
            return TokenLogps((values * mask).to(dtype), mask)

        chosen, rejected = answers(), answers()
        low = torch.rand(n, generator=generator)
        return PairLogps(
            policy_chosen=chosen,
            policy_rejected=rejected,
            ref_chosen=chosen if at_reference else answers(chosen),
            ref_rejected=rejected if at_reference else answers(rejected),
            chosen_score=low + 0.1 + torch.rand(n, generator=generator),
            rejected_score=low,
            idx=torch.arange(n) + 10,
        )

    return make
