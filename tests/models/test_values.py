"""Values are read where their tokens are predicted, in every layout, from the pass that scores the answers."""

import pytest
import torch

from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps
from smidgen.models.rows import LAYOUTS, Layout, collate_rows
from smidgen.models.values import ValuedAnswers

PROMPTS, ANSWERS = [(5, 6, 7), (9, 10)], [((11, 12, 13, 0),), ((14, 0),)]


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_a_value_is_the_heads_reading_of_the_state_that_predicts_its_token(tiny: LanguageModel, layout: Layout) -> None:
    start = torch.randn(128, generator=torch.Generator().manual_seed(0))
    valued = ValuedAnswers(AnswerLogps(tiny.model, layout), start)
    batch = collate_rows(PROMPTS, ANSWERS, layout=layout)
    logps, values = valued(batch)
    assert torch.equal(logps.values, AnswerLogps(tiny.model, layout)(batch).values)
    for i, (prompt, (answer,)) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        states = tiny.model.base_model(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[0]
        expected = states[len(prompt) - 1 : -1] @ start
        torch.testing.assert_close(values[i, : len(answer)], expected, atol=1e-4, rtol=0)
        assert not values[i, len(answer) :].any()


def test_without_a_start_or_with_another_width_values_start_at_0(tiny: LanguageModel) -> None:
    batch = collate_rows(PROMPTS, ANSWERS, layout="packed")
    for start in (None, torch.ones(64)):
        valued = ValuedAnswers(AnswerLogps(tiny.model, "packed"), start)
        assert not valued.starts_from_reward
        assert not valued(batch)[1].any()
    with pytest.raises(InvalidData, match="finite"):
        ValuedAnswers(AnswerLogps(tiny.model, "packed"), torch.full((128,), float("nan")))


def test_both_head_and_trunk_learn_from_values(tiny: LanguageModel) -> None:
    valued = ValuedAnswers(AnswerLogps(tiny.model, "packed"), torch.ones(128))
    valued(collate_rows(PROMPTS, ANSWERS, layout="packed"))[1].sum().backward()
    assert valued.value_head.weight.grad is not None
    assert valued.value_head.bias.grad is not None
    assert valued.value_head.bias.grad.item() == 6  # one for each token
    assert tiny.model.get_input_embeddings().weight.grad is not None  # pyright: ignore
    assert {name for name, _ in valued.named_parameters() if name.startswith("value_head")} == {
        "value_head.weight",
        "value_head.bias",
    }
