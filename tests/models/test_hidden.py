import numpy as np
import torch

from smidgen.models.hidden import pair_states, pooled_hidden, prompt_states
from smidgen.models.load import LanguageModel


def test_pooled_states_equal_one_prompt_at_a_time(tiny: LanguageModel) -> None:
    prompts = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2)]
    with torch.no_grad():
        for prompt, found in zip(prompts, pooled_hidden(tiny, prompts), strict=True):
            states = tiny.model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
            np.testing.assert_allclose(found, torch.cat([states.mean(0), states[-1]]).numpy(), atol=1e-5)


def test_states_of_prompts_and_pairs_equal_one_at_a_time(tiny: LanguageModel) -> None:
    prompts = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2)]
    answers = [((1, 2), (3, 4, 5, 6)), ((7,), (8, 9, 10)), ((4, 4, 4), (5,))]
    found, alone = pair_states(tiny, prompts, answers, batch_tokens=20), prompt_states(tiny, prompts)
    for row, (prompt, pair) in enumerate(zip(prompts, answers, strict=True)):
        n = len(prompt)
        for answer, side in zip(pair, (found.chosen, found.rejected), strict=True):
            with torch.no_grad():
                states = tiny.model.base_model(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[0]
            weighted = (torch.arange(1, n + 1)[:, None] * states[:n]).sum(0) / (n * (n + 1) / 2)
            for prompt_state in (found.prompt[row], alone[row]):
                np.testing.assert_allclose(prompt_state, weighted.numpy(), atol=1e-5)
            np.testing.assert_allclose(side[row], states[n - 1 : -1].mean(0).numpy(), atol=1e-5)
