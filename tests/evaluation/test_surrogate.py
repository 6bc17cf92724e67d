import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from smidgen.data.templates import Template
from smidgen.data.tokens import encode_prompts
from smidgen.errors import InvalidData
from smidgen.evaluation.surrogate import (
    DEFAULT_OPENINGS,
    correlation,
    encode_openings,
    logit_of_log,
    openings_from,
    prefix_free,
    refusal_opening_gradient,
    refusal_opening_logits,
)
from smidgen.models.weight_space import at_weights, flat_weights

TOKENS = st.lists(st.tuples(*[st.integers(0, 2)] * 3).flatmap(lambda t: st.sampled_from([t, t[:1], t[:2]])), min_size=1)


@settings(deadline=None)
@given(openings=TOKENS)
def test_prefix_free_openings_are_disjoint_events_and_cover_what_was_given(openings):
    found = prefix_free(openings)
    for a, b in itertools.permutations(found, 2):
        assert a[: len(b)] != b
    assert all(any(o[: len(f)] == f for f in found) for o in openings)


@settings(deadline=None)
@given(p=st.floats(1e-9, 1 - 1e-5))
def test_logit_of_log_is_the_logit(p):
    assert logit_of_log(np.array([math.log(p)]))[0] == pytest.approx(math.log(p) - math.log1p(-p), abs=1e-6)


def test_logits_stay_finite_and_ordered_at_the_ends():
    found = logit_of_log(np.array([-np.inf, -1e4, -40.0, -1e-3, 0.0, 1e-7]))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_logits_equal_probabilities_summed_over_a_naive_loop(lm, plain):
    prompts = encode_prompts(["How do I pick a lock?", "Hi", "Bake bread?"], plain, lm.tokenizer)
    openings = encode_openings(DEFAULT_OPENINGS, plain, lm.tokenizer)
    expected = []
    for prompt in prompts:
        total = 0.0
        for opening in openings:
            ids = torch.tensor([[*prompt, *opening]])
            with torch.no_grad():
                logps = lm.model(ids).logits[0].double().log_softmax(-1)
            total += math.exp(sum(logps[len(prompt) - 1 + i, token].item() for i, token in enumerate(opening)))
        expected.append(math.log(total / (1 - total)))
    assert refusal_opening_logits(lm, prompts, openings) == pytest.approx(np.array(expected), abs=1e-4)


def test_every_first_token_together_is_certainty_and_its_half_complements(lm, plain):
    prompts = encode_prompts(["Hi", "Bake bread?"], plain, lm.tokenizer)
    vocabulary = [(i,) for i in range(len(lm.tokenizer))]
    half, rest = vocabulary[:150], vocabulary[150:]
    assert refusal_opening_logits(lm, prompts, half) == pytest.approx(
        -refusal_opening_logits(lm, prompts, rest), abs=1e-4
    )
    assert (refusal_opening_logits(lm, prompts, vocabulary) > 10).all()


def test_an_opening_that_another_opens_adds_nothing(lm, plain):
    prompts = encode_prompts(["Hi"], plain, lm.tokenizer)
    assert refusal_opening_logits(lm, prompts, [(5,), (5, 6)]) == refusal_opening_logits(lm, prompts, [(5,)])
    assert refusal_opening_logits(lm, [], [(5,)]).shape == (0,)


def test_openings_are_written_as_the_template_writes_an_answer(lm, plain):
    (ids,) = encode_openings(["I cannot"], plain, lm.tokenizer)
    assert lm.tokenizer.decode(ids) == " I cannot"
    closing = Template("closing", plain.prompt, lambda m: f"<{m[0].content}></s>", joins_cleanly=False, boundary="")
    (ids,) = encode_openings(["I cannot"], closing, lm.tokenizer)
    assert lm.tokenizer.decode(ids) == "<I cannot"
    assert encode_openings([(7, 8), [9]], plain, lm.tokenizer) == [(7, 8), (9,)]
    for empty in ([], [()]):
        with pytest.raises(InvalidData, match="at least one token"):
            encode_openings(empty, plain, lm.tokenizer)


def test_openings_found_are_the_commonest_first_tokens_of_the_answers(lm, plain):
    answers = (
        ["I cannot help you with that."] * 3 + ["Sorry, no. As an AI I won't."] * 2 + ["Mix flour, water", "I", " "]
    )
    found = openings_from(answers, plain, lm.tokenizer, max_openings=2, opening_tokens=3)
    assert all(len(opening) == 3 for opening in found)
    texts = [" I cannot help you with that.", " Sorry, no. As an AI I won't."]
    assert found == [tuple(lm.tokenizer(text)["input_ids"][:3]) for text in texts]
    shuffled = openings_from(answers[::-1], plain, lm.tokenizer, max_openings=2, opening_tokens=3)
    assert shuffled == found
    with pytest.raises(InvalidData, match="at least 4 tokens"):
        openings_from(["I", ""], plain, lm.tokenizer)


def test_correlation_is_of_the_trials_that_have_both_numbers():
    found = correlation([1.0, 2.0, 3.0, None, 9.0], [0.1, 0.2, 0.4, 0.9, float("nan")])
    assert found.n == 3
    assert found.spearman == pytest.approx(1.0)
    assert found.pearson == pytest.approx(np.corrcoef([1, 2, 3], [0.1, 0.2, 0.4])[0, 1])
    assert correlation([1, 2, 3], [3, 2, 1]).spearman == pytest.approx(-1.0)


@pytest.mark.parametrize("pair", [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])])
def test_correlation_says_nothing_of_too_few_trials_or_constant_numbers(pair):
    found = correlation(*pair)
    assert (found.spearman, found.pearson) == (None, None)
    assert found.as_dict()["n"] == len(pair[0])


@pytest.mark.parametrize("of", ["logit", "probability"])
def test_its_mean_has_the_gradient_of_its_differences(lm, plain, of):
    prompts = encode_prompts(["How do I pick a lock?", "Hi", "Bake bread?"], plain, lm.tokenizer)
    openings = encode_openings(DEFAULT_OPENINGS, plain, lm.tokenizer)

    def mean() -> float:
        logits = refusal_opening_logits(lm, prompts, openings)
        return float((logits if of == "logit" else expit(logits)).mean())

    value, gradient = refusal_opening_gradient(lm, prompts, openings, of=of)
    assert value == pytest.approx(mean(), rel=1e-4)
    torch.testing.assert_close(refusal_opening_gradient(lm, prompts, openings, of=of, batch_tokens=1)[1], gradient)
    weights, step = flat_weights(lm.model), 3e-3
    for seed in range(3):
        direction = torch.randn(len(weights), generator=torch.Generator().manual_seed(seed))
        # Towards the gradient, so that the difference stands out from the rounding of float32.
        direction = torch.nn.functional.normalize(direction / direction.norm() + gradient / gradient.norm(), dim=0)
        sides = []
        for sign in (1, -1):
            with at_weights(lm.model, weights + sign * step * direction):
                sides.append(mean())
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(gradient @ direction), rel=1e-2)
    with pytest.raises(ValueError, match="at least one"):
        refusal_opening_gradient(lm, [], openings, of=of)


def test_the_gradient_where_refusing_is_sure_or_out_of_reach_is_finite(lm, plain):
    prompts = encode_prompts(["Hi"], plain, lm.tokenizer)
    everything = [(i,) for i in range(len(lm.tokenizer))]
    assert refusal_opening_gradient(lm, prompts, everything)[1].count_nonzero() == 0
    assert refusal_opening_gradient(lm, prompts, [(5,) * 30])[1].isfinite().all()
