import numpy as np
import torch

from smidgen.models.hidden import pooled_hidden
from smidgen.models.load import LanguageModel


def test_pooled_states_equal_one_prompt_at_a_time(tiny: LanguageModel) -> None:
    prompts = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2)]
    with torch.no_grad():
        for prompt, found in zip(prompts, pooled_hidden(tiny, prompts), strict=True):
            states = tiny.model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
            np.testing.assert_allclose(found, torch.cat([states.mean(0), states[-1]]).numpy(), atol=1e-5)
