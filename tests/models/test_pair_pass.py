"""One pass over pairs equals the passes it replaces, in every layout."""

import numpy as np
import pytest

from smidgen.models.hidden import pair_states, pooled_hidden
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.models.pair_pass import pass_over_pairs
from smidgen.models.rows import LAYOUTS, Layout

PROMPTS = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2), (1, 2)]
ANSWERS = [((1, 2), (3, 4, 5, 6)), ((7,), (8, 9, 10)), ((4, 4, 4), (5,)), ((3,), (4,))]


@pytest.mark.parametrize("batch_tokens", [12, 8192])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_pass_equals_the_passes_it_replaces(tiny: LanguageModel, layout: Layout, batch_tokens: int) -> None:
    found = pass_over_pairs(tiny, PROMPTS, ANSWERS, layout=layout, batch_tokens=batch_tokens)
    scored = score_answers(tiny, PROMPTS, ANSWERS)
    for side, logps in enumerate((found.chosen_logps, found.rejected_logps)):
        np.testing.assert_allclose(logps, [answers[side].sum(dtype=np.float64) for answers in scored], atol=1e-4)
    np.testing.assert_allclose(found.prompt, pooled_hidden(tiny, PROMPTS), atol=1e-5)
    states = pair_states(tiny, PROMPTS, ANSWERS)
    for name in ("prompt", "chosen", "rejected"):
        np.testing.assert_allclose(getattr(found.states, name), getattr(states, name), atol=1e-5)


def test_the_model_is_left_as_it_was(tiny: LanguageModel) -> None:
    pass_over_pairs(tiny, PROMPTS, ANSWERS)
    assert not tiny.model.base_model._forward_hooks


def test_a_pass_runs_the_model_once_over_every_token(tiny: LanguageModel) -> None:
    fed: list[int] = []

    def count(module: object, args: tuple, kwargs: dict) -> None:
        fed.append(kwargs["input_ids"].numel())

    tiny.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    pass_over_pairs(tiny, PROMPTS, ANSWERS, layout="packed")
    assert sum(fed) == sum(map(len, PROMPTS)) + sum(len(a) + len(b) - 2 for a, b in ANSWERS)
