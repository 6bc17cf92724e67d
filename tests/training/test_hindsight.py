"""Chain of Hindsight: every token's mask by hand, the loss as a naive loop has it, and a model that does as asked."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from smidgen.assets import DEMO
from smidgen.data.markers import EncodedMarkers, Markers, encode_markers
from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair, encode_pairs
from smidgen.errors import InvalidData, UsageError
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel, load_tokenizer
from smidgen.models.logprobs import AnswerLogps
from smidgen.models.rows import LAYOUTS, Layout
from smidgen.pairs import plain_pair
from smidgen.training.hindsight import (
    ROW_KINDS,
    TEXT,
    HindsightRow,
    collate_hindsight,
    fitting,
    general_rows,
    hidden_tokens,
    hindsight_objective,
    hindsight_rows,
    step_of,
    train_hindsight,
)
from smidgen.training.loop import Recipe
from smidgen.training.parts import split_by_tokens

ONE_EACH = Markers(good=("A helpful answer:",), bad=("An unhelpful answer:",))
# Of the demo's tokenizer; a bar stands between tokens.
PROMPT = "user|:| |N|ame| a| t|ree|.| assistant|:"
GOOD, BAD = " A| help|f|ul| answ|er|:", " A|n| un|he|lp|f|ul| answ|er|:"
OAK, NO = " T|he| o|ak|.|<|endoftext|>", " No|.|<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(DEMO / "model")


def words(text: str) -> list[str]:
    return text.replace("<|endoftext|>", "<END>").split("|")


def as_text(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> list[str]:
    return [str(tokenizer.decode([i])).replace("<|endoftext|>", "<END>") for i in ids]


@pytest.mark.parametrize(
    ("kind", "marker", "answer"),
    [
        ("good", GOOD, [(OAK, True)]),
        ("bad", BAD, [(NO, True)]),
        ("good_bad", GOOD, [(OAK, True), (BAD, False), (NO, True)]),
        ("bad_good", BAD, [(NO, True), (GOOD, False), (OAK, True)]),
    ],
)
def test_every_token_of_a_pair_is_learned_or_not_as_written_here(
    tokenizer: PreTrainedTokenizerBase, kind: str, marker: str, answer: list[tuple[str, bool]]
) -> None:
    plain = load_template("plain")
    pairs, _ = encode_pairs([plain_pair(0, "Name a tree.", "The oak.", "No.")], plain, tokenizer)
    rows = {row.kind: row for row in hindsight_rows(pairs, encode_markers(ONE_EACH, plain, tokenizer), seed=0)}
    row = rows[kind]
    assert list(rows) == list(ROW_KINDS)
    assert as_text(tokenizer, row.prompt) == words(PROMPT) + words(marker)
    expected = [(word, learned) for part, learned in answer for word in words(part)]
    assert list(zip(as_text(tokenizer, row.answer), row.learned, strict=True)) == expected
    # What the batch computes the loss with, padding included.
    batch = collate_hindsight([row, rows["good_bad"]], step_of([row]), layout="packed")
    assert batch.token_weight[0].tolist() == [float(learned) for _, learned in expected] + [0.0] * (
        len(rows["good_bad"].answer) - len(expected)
    )


def test_an_answer_that_was_cut_has_no_end_of_text_and_is_learned_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = load_template("plain")
    pairs, _ = encode_pairs([plain_pair(0, "Name a tree.", "The oak.", "No.")], plain, tokenizer, answer_head=2)
    row = hindsight_rows(pairs, encode_markers(ONE_EACH, plain, tokenizer), seed=0)[2]
    assert as_text(tokenizer, row.answer) == [" T", "he", *words(BAD), " No", "."]
    assert row.learned == (True, True, *(False,) * 10, True, True)


def test_markers_are_drawn_from_seed_and_pair_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode_markers(Markers(), load_template("plain"), tokenizer)
    pairs = made_pairs(40)
    rows = hindsight_rows(pairs, encoded, seed=1)
    assert sorted(hindsight_rows(pairs[::-1], encoded, seed=1), key=lambda row: row.idx) == rows
    assert hindsight_rows(pairs, encoded, seed=2) != rows
    for side, known in encoded.items():
        seen = {row.prompt[len(pairs[row.idx // 4].prompt) :] for row in rows if row.kind == side}
        assert seen == set(known)
    assert len({row.idx for row in rows}) == len(rows)


def test_markers_that_say_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one good marker"):
        Markers(good=())
    with pytest.raises(UsageError, match="at least one bad marker"):
        Markers(bad=("fine:", " "))
    with pytest.raises(UsageError, match="to differ, got 'same:'"):
        Markers(good=("same:",), bad=("other:", "same:"))


# Of the tiny model's tokenizer.
END = 0
MADE_MARKERS: EncodedMarkers = {"good": ((30, 31),), "bad": ((40, 41, 42),)}


def made_pairs(n: int) -> list[EncodedPair]:
    return [
        EncodedPair(
            idx=i,
            prompt=tuple(3 + (i * 7 + k) % 20 for k in range(2 + i % 5)),
            chosen=(*(60 + (i + k) % 9 for k in range(1 + i % 6)), END),
            rejected=(*(90 + (i + 2 * k) % 9 for k in range(1 + (i * 3) % 5)), END),
        )
        for i in range(n)
    ]


def naive_nll(lm: LanguageModel, row: HindsightRow, hidden: np.ndarray | None = None) -> list[float]:
    """Of each learned token, from the model's own forward over the row alone."""
    # The last token is predicted, not fed.
    ids = torch.tensor([[*row.prompt, *row.answer[:-1]]])
    seen = torch.ones_like(ids)
    if hidden is not None:
        seen[0] = torch.from_numpy(~hidden).long()
    with torch.no_grad():
        logps = lm.model(input_ids=ids, attention_mask=seen).logits.log_softmax(-1)[0]
    start = len(row.prompt)
    return [
        -float(logps[start + j - 1, token])
        for j, (token, learned) in enumerate(zip(row.answer, row.learned, strict=True))
        if learned
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loss_is_the_mean_over_learned_tokens(tiny: LanguageModel, layout: Layout) -> None:
    rows = hindsight_rows(made_pairs(3), MADE_MARKERS, seed=0)
    batch = collate_hindsight(rows, step_of(rows), layout=layout)
    expected = np.mean([nll for row in rows for nll in naive_nll(tiny, row)])
    assert hindsight_objective(AnswerLogps(tiny.model, layout), batch).loss.item() == pytest.approx(expected, abs=1e-4)
    assert batch.weight == sum(sum(row.learned) for row in rows)


@pytest.mark.parametrize("layout", ["separate", "model"])
def test_hidden_tokens_are_hidden_from_all_others(tiny: LanguageModel, layout: Layout) -> None:
    rows = hindsight_rows(made_pairs(3), MADE_MARKERS, seed=0)
    step = step_of(rows, mask_share=0.9, lot="lot")
    hidden = [hidden_tokens(len(row) - 1, 0.9, seed="lot", idx=row.idx) for row in rows]
    assert sum(map(np.sum, hidden)) > 20
    expected = np.mean([nll for row, h in zip(rows, hidden, strict=True) for nll in naive_nll(tiny, row, h)])
    plain = np.mean([nll for row in rows for nll in naive_nll(tiny, row)])
    batch = collate_hindsight(rows, step, layout=layout)
    found = hindsight_objective(AnswerLogps(tiny.model, layout), batch)
    assert abs(expected - plain) > 1e-3
    assert found.loss.item() == pytest.approx(expected, abs=1e-4)
    assert found.tokens == sum(len(row) - 1 for row in rows)


def test_the_share_hidden_is_drawn_for_each_row_and_the_first_token_stays() -> None:
    drawn = np.array([hidden_tokens(400, 0.05, seed="0/hidden/3", idx=idx) for idx in range(300)])
    assert not drawn[:, 0].any()
    # The mean of a share drawn evenly from 0 to 0.05 is 0.025; 300 draws put it within 0.003 of that.
    assert drawn.mean() == pytest.approx(0.025, abs=0.003)
    assert drawn.mean(1).min() < 0.005
    assert drawn.mean(1).max() > 0.045
    assert (hidden_tokens(400, 0.05, seed="0/hidden/3", idx=7) == drawn[7]).all()
    assert (hidden_tokens(400, 0.05, seed="0/hidden/4", idx=7) != drawn[7]).any()


def test_text_adds_its_own_mean_however_a_step_is_cut(tiny: LanguageModel) -> None:
    rows = hindsight_rows(made_pairs(3), MADE_MARKERS, seed=0)
    text = general_rows(tiny, ["The oak is a tree, and so is the pine. " * 8])
    assert all(row.kind == TEXT and all(row.learned) for row in text)
    means = [np.mean([nll for row in part for nll in naive_nll(tiny, row)]) for part in (rows, text)]
    together = [*rows, *text]
    step = step_of(together, general_weight=0.3)
    scorer = AnswerLogps(tiny.model, "packed")
    for most_tokens in (10_000, 60, 1):
        parts = split_by_tokens(range(len(together)), [len(row) for row in together], most_tokens)
        batches = [collate_hindsight([together[i] for i in part], step, layout="packed") for part in parts]
        total = sum(batch.weight for batch in batches)
        cost = sum(hindsight_objective(scorer, batch).loss.item() * batch.weight / total for batch in batches)
        assert cost == pytest.approx(means[0] + 0.3 * means[1], abs=1e-4)
    assert len(parts) == len(together)


def test_padding_and_neighbours_leave_the_gradient_alone(tiny: LanguageModel) -> None:
    """Rows batched give the gradient of rows one by one; markers and prompts are scored but give none."""
    rows = hindsight_rows(made_pairs(2), MADE_MARKERS, seed=0)

    def gradient(groups: list[list[HindsightRow]]) -> torch.Tensor:
        tiny.model.zero_grad()
        total = sum(sum(row.learned) for row in chain(*groups))
        for group in groups:
            batch = collate_hindsight(group, step_of(rows), layout="packed")
            loss = hindsight_objective(AnswerLogps(tiny.model, "packed"), batch).loss
            (loss * batch.weight / total).backward()
        return torch.cat([p.grad.flatten() for p in tiny.model.parameters() if p.grad is not None])

    batched, single = gradient([rows]), gradient([[row] for row in rows])
    torch.testing.assert_close(batched, single, atol=1e-5, rtol=1e-4)
    unlike = [replace(row, learned=(True,) * len(row.answer)) for row in rows]
    assert (gradient([unlike]) - batched).abs().max() > 1e-3


def test_a_trained_model_answers_as_it_is_asked(tiny: LanguageModel) -> None:
    pairs = made_pairs(3)
    rows = hindsight_rows(pairs, MADE_MARKERS, seed=0)
    recipe = Recipe(learning_rate=3e-3, steps=50, batch_size=12)
    log = train_hindsight(tiny, rows, recipe=recipe, seed=0)
    assert log.rows[-1]["loss"] < 0.2
    good = [pair.prompt + MADE_MARKERS["good"][0] for pair in pairs]
    bad = [pair.prompt + MADE_MARKERS["bad"][0] for pair in pairs]
    assert generate(tiny, good, max_new_tokens=8) == [pair.chosen[:-1] for pair in pairs]
    assert generate(tiny, bad, max_new_tokens=8) == [pair.rejected[:-1] for pair in pairs]


def test_the_same_seed_and_text_give_the_same_model_in_parts_or_not(tiny: LanguageModel) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    rows = hindsight_rows(made_pairs(4), MADE_MARKERS, seed=0)
    text = general_rows(tiny, ["The oak is a tree, and so is the pine. " * 8])
    ends = []
    for seed, most in ((0, 16384), (0, 40), (1, 16384)):
        tiny.model.load_state_dict(before)
        recipe = Recipe(learning_rate=1e-4, steps=4, batch_size=6, micro_batch_tokens=most, dtype="float32")
        train_hindsight(tiny, rows, text=text, general_weight=0.5, mask_share=0.2, recipe=recipe, seed=seed)
        ends.append(torch.cat([p.detach().flatten().clone() for p in tiny.model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], atol=2e-5, rtol=0)
    assert (ends[0] - ends[2]).abs().max() > 1e-4


def test_rows_that_do_not_fit_are_parted_from_those_that_do() -> None:
    rows = hindsight_rows(made_pairs(6), MADE_MARKERS, seed=0)
    short, long = fitting(rows, 14)
    assert {len(row) <= 14 for row in short} == {True}
    assert {len(row) > 14 for row in long} == {True}
    assert len(short) + len(long) == len(rows)


def test_what_cannot_be_trained_on_is_refused(tiny: LanguageModel) -> None:
    rows = hindsight_rows(made_pairs(2), MADE_MARKERS, seed=0)
    recipe = Recipe(steps=1)
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="general_weight above 0"):
            train_hindsight(tiny, rows, general_weight=weight, recipe=recipe, seed=0)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="mask_share from 0"):
            train_hindsight(tiny, rows, mask_share=share, recipe=recipe, seed=0)
    with pytest.raises(InvalidData, match="at least one row"):
        train_hindsight(tiny, [], recipe=recipe, seed=0)
    with pytest.raises(InvalidData, match="at most 97"):
        train_hindsight(tiny, [replace(rows[0], prompt=(5,) * 120)], recipe=recipe, seed=0)
    with pytest.raises(InvalidData, match="white space"):
        general_rows(tiny, ["", " \n"])
