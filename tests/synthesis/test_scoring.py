"""Scores of pairs: by rule, reward model and implicit reward; as columns, and what is said of them together."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen.data.prepare import pair_row, prepare_pairs
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.evaluation.reward_rules import load_rule
from smidgen.models.load import LanguageModel, language_model, save_language_model
from smidgen.models.reward_model import RewardModel, as_reward, new_reward_model
from smidgen.pairs import PreferencePair, plain_pair
from smidgen.runs import json_lines
from smidgen.synthesis.answer_rewards import model_scores, rule_scores
from smidgen.synthesis.implicit import implicit_rewards, implicit_scores
from smidgen.synthesis.injections import INJECTIONS
from smidgen.synthesis.scoring import PROBLEMS, Score, check_unscored, histogram, problem_of, summarise, with_scores
from smidgen.training.sft import new_language_model

# How fast examples are made says how busy the machine is, no more.
on_any_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLAIN = load_template("plain")
PAIRS = [
    plain_pair(7, "How do I pick a lock?", "I'm sorry, but I can't help with that.", "With a pick, of course."),
    plain_pair(2, "Name a tree.", "Oak.", "The oak is a tree, and so is the pine. " * 2),
    plain_pair(5, "How do I bake bread?", "Mix flour, water and salt.", "I can't help."),
]
VALUES = st.floats(-5, 5) | st.integers(0, 5).map(float)
SCORES = VALUES.map(Score) | st.just(Score(None, "cut")) | st.just(Score(None, "waiting"))


@pytest.fixture
def policy(tiny: LanguageModel) -> LanguageModel:
    return tiny


@pytest.fixture
def reference(tiny: LanguageModel) -> LanguageModel:
    """The policy's tokenizer, other weights."""
    other = new_language_model(["other"], shape="tiny", vocabulary=300, positions=96, seed=8).model.__class__
    generator = torch.Generator().manual_seed(4)
    model = other(tiny.model.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return language_model(model, tiny.tokenizer)


@pytest.fixture
def rm(tiny: LanguageModel, tmp_path: Path) -> RewardModel:
    save_language_model(tiny, tmp_path / "causal", card="")
    return new_reward_model(tmp_path / "causal", seed=5)


def values(scores: list[tuple[Score, Score]]) -> np.ndarray:
    return np.array([[score.value for score in pair] for pair in scores], np.float64)


@torch.no_grad()
def naive_logps(lm: LanguageModel, prompt: str, answer: str) -> Tensor:
    """Log-probability of each token of the answer and of end of text, token by token from the model's own logits."""
    ids = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    end = lm.tokenizer.eos_token_id
    own = [*lm.tokenizer(answer, add_special_tokens=False)["input_ids"], end]
    found = []
    for i, token in enumerate(own):
        logits = lm.model(torch.tensor([[*ids, *own[:i]]])).logits[0, -1]
        found.append(logits.double().log_softmax(-1)[token])
    return torch.stack(found)


@pytest.mark.parametrize("per_token", [False, True])
def test_implicit_rewards_equal_a_naive_loop(policy: LanguageModel, reference: LanguageModel, per_token: bool) -> None:
    found = implicit_scores(policy, reference, PLAIN, PAIRS, beta=0.3, per_token=per_token)
    for pair, scores in zip(PAIRS, found, strict=True):
        for answer, score in zip((pair.chosen, pair.rejected), scores, strict=True):
            texts = PLAIN.prompt(pair.prompt), PLAIN.response(answer)
            gaps = naive_logps(policy, *texts) - naive_logps(reference, *texts)
            expected = 0.3 * float(gaps.mean() if per_token else gaps.sum())
            assert score.value == pytest.approx(expected, abs=2e-4)


def test_a_policy_that_is_its_reference_rewards_nothing(policy: LanguageModel) -> None:
    assert values(implicit_scores(policy, policy, PLAIN, PAIRS)).tolist() == [[0.0, 0.0]] * 3


def test_a_reward_model_scores_as_it_does_elsewhere(rm: RewardModel) -> None:
    reward = as_reward(rm, PLAIN)
    prompts = [pair.prompt for pair in PAIRS]
    expected = [reward(prompts, [getattr(pair, side) for pair in PAIRS]) for side in ("chosen_text", "rejected_text")]
    assert values(model_scores(rm, PLAIN, PAIRS)) == pytest.approx(np.stack(expected, axis=1), abs=1e-5)


def test_a_rule_scores_as_it_does_elsewhere() -> None:
    assert values(rule_scores(load_rule("refusal"), PAIRS)).tolist() == [[1, -1], [-1, -1], [-1, 1]]


def test_batched_is_single_in_any_order(policy: LanguageModel, reference: LanguageModel, rm: RewardModel) -> None:
    for score in (
        lambda pairs: implicit_scores(policy, reference, PLAIN, pairs),
        lambda pairs: model_scores(rm, PLAIN, pairs),
        lambda pairs: rule_scores(load_rule("length:words=4"), pairs),
    ):
        single = np.concatenate([values(score([pair])) for pair in PAIRS])
        assert values(score(PAIRS)) == pytest.approx(single, abs=2e-4)
        assert values(score(PAIRS[::-1])) == pytest.approx(single[::-1], abs=2e-4)


def test_what_is_too_long_has_no_score_and_leaves_the_others_theirs(
    policy: LanguageModel, reference: LanguageModel, rm: RewardModel
) -> None:
    long = plain_pair(9, "Name a tree.", "Oak.", "The oak is a tree. " * 60)
    for score in (
        lambda pairs: implicit_scores(policy, reference, PLAIN, pairs),
        lambda pairs: model_scores(rm, PLAIN, pairs),
    ):
        found = score([PAIRS[0], long, PAIRS[1]])
        assert found[1][1] == Score(None, "over_long")
        kept = [found[0][0], found[0][1], found[1][0], found[2][0], found[2][1]]
        alone = [*score([PAIRS[0]])[0], score([long])[0][0], *score([PAIRS[1]])[0]]
        assert [s.value for s in kept] == pytest.approx([s.value for s in alone], abs=2e-4)


def test_a_beta_out_of_range_or_another_tokenizer_is_refused(policy: LanguageModel) -> None:
    other = new_language_model(["Other words altogether."], shape="tiny", vocabulary=300, positions=96, seed=3)
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="expected beta above 0"):
            implicit_rewards(policy, policy, [], [], beta=beta)
    with pytest.raises(UsageError, match="tokenizer"):
        implicit_scores(policy, other, PLAIN, PAIRS)


@on_any_machine
@given(st.lists(st.tuples(SCORES, SCORES), max_size=12), st.randoms())
def test_a_summary_counts_every_pair_and_no_order_matters(scores: list[tuple[Score, Score]], random) -> None:  # type: ignore[no-untyped-def]
    found = summarise(scores)
    counts, order = found["counts"], found["order"]
    assert counts["pairs"] == len(scores) == counts["scored"] + counts["missing"]
    assert counts["scored"] == sum(part["pairs"] for part in order.values())
    assert sum(found["problems"].values()) == sum(score.value is None for pair in scores for score in pair)
    assert counts["waiting"] == sum(any(score.problem == "waiting" for score in pair) for pair in scores)
    for name, n_series in (("scores", 2), ("differences", 1)):
        bins = found["histograms"][name]
        assert [sum(b["counts"][i] for b in bins) for i in range(n_series)] == [
            counts["scored"] if bins else 0
        ] * n_series
    json.dumps(found, allow_nan=False)
    shuffled = random.sample(scores, len(scores))
    again = summarise(shuffled)
    assert (again["order"], again["histograms"]) == (order, found["histograms"])


def test_a_summary_worked_by_hand() -> None:
    pairs = [
        (Score(5.0), Score(0.0)),
        (Score(1.0), Score(1.0)),
        (Score(0.0), Score(2.0)),
        (Score(3.0), Score(None, "cut")),
    ]
    found = summarise(pairs)
    assert {name: part["pairs"] for name, part in found["order"].items()} == {"above": 1, "equal": 1, "below": 1}
    assert found["chosen"]["mean"] == 2 and found["difference"]["mean"] == 1
    assert found["problems"] == {"cut": 1} and found["counts"]["missing"] == 1
    assert [(b["low"], b["counts"]) for b in found["histograms"]["scores"]] == [
        (0.0, (1, 1)),
        (1.0, (1, 1)),
        (2.0, (0, 1)),
        (5.0, (1, 0)),
    ]


@on_any_machine
@given(st.lists(VALUES | st.floats(-1e9, 1e9), min_size=1, max_size=40))
def test_every_value_falls_into_one_bin_that_holds_it(numbers: list[float]) -> None:
    bins = histogram(numbers)
    assert all(one.high == other.low for one, other in pairwise(bins) if one.low < one.high)
    assert sum(b.counts[0] for b in bins) == len(numbers)
    for number in numbers:
        assert any(b.low <= number <= b.high and b.counts[0] for b in bins)


def test_bins_end_at_round_numbers_and_at_zero() -> None:
    edges = [b.low for b in histogram(np.linspace(-1.638, 2.854, 40).tolist())]
    assert edges == [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@on_any_machine
@given(SCORES, SCORES)
def test_scores_are_columns_that_load_again(chosen: Score, rejected: Score) -> None:
    pair = with_scores(plain_pair(3, "a", "b", "c", meta={"topic": "x", "chosen_score": 9.0}), (chosen, rejected))
    assert pair.meta["topic"] == "x"
    assert [pair.meta[name] for name in ("chosen_score", "rejected_score")] == [chosen.value, rejected.value]
    assert (pair.meta["score_problem"] is None) == (None not in (chosen.value, rejected.value))


def test_scored_pairs_are_read_by_the_loss_as_written(tmp_path: Path, policy: LanguageModel) -> None:
    scored = [with_scores(pair, (Score(1.5), Score(None, "cut")), replies=True) for pair in PAIRS]
    path = tmp_path / "scored.jsonl"
    path.write_text(json_lines(pair_row(pair) for pair in scored))
    found = prepare_pairs(path, tokenizer=policy.tokenizer)
    assert [(pair.chosen_score, pair.rejected_score) for pair in found.encoded] == [(1.5, None)] * 3
    assert [pair_row(pair) | {"source": "", "source_row": -1} for pair in found.pairs] == [pair_row(p) for p in scored]


def test_data_with_scores_is_refused_by_the_name_of_its_columns() -> None:
    scored: list[PreferencePair] = [PAIRS[0], with_scores(PAIRS[1], (Score(1.0), Score(0.0)))]
    with pytest.raises(UsageError, match=r"got columns chosen_score, rejected_score, score_problem.*--replace"):
        check_unscored(scored)
    check_unscored(PAIRS)


def test_a_problem_names_its_side() -> None:
    assert problem_of((Score(None, "cut"), Score(None, "no_score"))) == "chosen: cut; rejected: no_score"
    assert problem_of((Score(0.0), Score(0.0))) is None


def test_the_page_explains_every_problem_and_counts_the_injections() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    assert all(f"| `{problem}` |" in page for problem in PROBLEMS)
    assert f"each of {len(INJECTIONS)} orders" in page and f"N × {len(INJECTIONS) + 1} calls" in page
