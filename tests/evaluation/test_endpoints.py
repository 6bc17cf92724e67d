import numpy as np
import pytest

from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.endpoints import degenerate, degeneration, preference_accuracy
from smidgen.models.logprobs import score_answers


@pytest.fixture(scope="module")
def pairs() -> list[EncodedPair]:
    rng = np.random.default_rng(0)

    def draw(n):
        return tuple(int(i) for i in rng.integers(1, 300, n))

    return [EncodedPair(i, draw(3 + i % 4), (*draw(2 + i % 5), 0), (*draw(1 + i % 3), 0)) for i in range(12)]


@pytest.fixture(scope="module")
def logps(lm, pairs) -> tuple[np.ndarray, np.ndarray]:
    scored = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs])
    chosen, rejected = (np.array([answers[side].sum() for answers in scored], np.float64) for side in (0, 1))
    return chosen, rejected


def test_the_reference_itself_is_undecided_however_it_was_batched(lm, pairs, logps):
    chosen, rejected = logps
    for batch_tokens in (16, 8192):
        found = preference_accuracy(
            lm, pairs, ref_chosen_logps=chosen, ref_rejected_logps=rejected, batch_tokens=batch_tokens
        )
        assert (found == 0.5).all()


def test_accuracy_is_of_log_ratios_not_of_log_probabilities(lm, pairs, logps):
    chosen, rejected = logps
    gain = np.where(np.arange(len(pairs)) % 2, 1.0, -1.0)
    # A reference that gives the chosen answer `gain` nats less leaves the policy an implicit margin of `gain`.
    found = preference_accuracy(lm, pairs, ref_chosen_logps=chosen - gain, ref_rejected_logps=rejected)
    assert (found == (gain > 0)).all()
    found = preference_accuracy(lm, pairs, ref_chosen_logps=chosen, ref_rejected_logps=rejected - gain)
    assert (found == (gain < 0)).all()


def test_reference_log_probs_must_be_of_these_pairs(lm, pairs, logps):
    chosen, rejected = logps
    with pytest.raises(ValueError, match="12 pairs"):
        preference_accuracy(lm, pairs, ref_chosen_logps=chosen[:-1], ref_rejected_logps=rejected[:-1])
    with pytest.raises(ValueError, match="finite"):
        preference_accuracy(lm, pairs, ref_chosen_logps=chosen * np.nan, ref_rejected_logps=rejected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "... !!! --",
        "no no no no no no",
        "the red house and the red house and the red house and the red house",
        "you can you could can you could you can could you can you could you can",
    ],
)
def test_empty_and_repeating_answers_are_degenerate(text):
    assert degenerate(text)


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "No.",
        "I'm sorry, but I can't help with that.",
        "Step one: mix. Step two: bake. Step three: eat. Step four: wash up.",
        "a b c, a b c, a b c.",  # three times, which a refrain may be
    ],
)
def test_short_and_plain_answers_are_not(text):
    assert not degenerate(text)


def test_degeneration_is_one_judgement_a_completion():
    found = degeneration(["", "Fine, thanks."])
    assert found.tolist() == [True, False]
    assert degeneration([]).shape == (0,)
