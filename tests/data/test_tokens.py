import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from smidgen.data import tokens
from smidgen.data.prepare import prepare_pairs
from smidgen.data.templates import load_template
from smidgen.data.tokens import count_cut_answers, encode_pairs, encode_prompts, end_of_text, joins_cleanly, tokenise
from smidgen.errors import UsageError
from smidgen.pairs import messages_from, plain_pair

PLAIN = load_template("plain")
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


def response_ids(tokenizer, answer):
    ids = tokenizer(PLAIN.response(messages_from(answer, "assistant")), split_special_tokens=True)["input_ids"]
    return (*ids, tokenizer.eos_token_id)


@pytest.mark.parametrize("name", ["plain", "hh"])
@settings(deadline=None)
@given(prompt=text, chosen=text, rejected=text)
def test_apart_and_joined_agree_on_any_text(tokenizer, name, prompt, chosen, rejected):
    report = joins_cleanly(load_template(name), tokenizer, [plain_pair(0, prompt, chosen, rejected)])
    assert report.n_differ == 0, report.first
    assert report.share == 1


@pytest.mark.parametrize("name", ["plain", "hh"])
@pytest.mark.parametrize("place", ["data/gpt2-tokenizer", "models/hh-mini-sft"])
def test_apart_and_joined_agree_on_real_rows(shared, name, place):
    real = AutoTokenizer.from_pretrained(shared / place)
    pairs = prepare_pairs(shared / "data/small-world/pairs.jsonl").pairs[::5]
    report = joins_cleanly(load_template(name), real, pairs)
    assert (report.n_answers, report.n_differ) == (2000, 0), report.first


def test_a_boundary_that_does_not_join_is_shown(pair):
    across = Tokenizer(models.BPE())  # no splitting into words, so a token may span the boundary
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["</s>"], show_progress=False)
    across.train_from_iterator(["user: How are you? assistant: Well, thank you. assistant: Go away."] * 9, trainer)
    report = joins_cleanly(PLAIN, PreTrainedTokenizerFast(tokenizer_object=across, eos_token="</s>"), [pair, pair])
    assert (report.n_answers, report.n_differ, report.share) == (4, 4, 0)
    assert report.first is not None
    idx, apart, joined = report.first
    assert idx == pair.idx
    assert apart != joined


@settings(deadline=None)
@given(st.lists(st.tuples(text, text), max_size=4))
def test_answers_end_in_end_of_text_and_a_batch_equals_its_rows(tokenizer, texts):
    pairs = [plain_pair(i, prompt, answer, answer + "!") for i, (prompt, answer) in enumerate(texts)]
    encoded, quarantined = encode_pairs(pairs, PLAIN, tokenizer)
    assert not quarantined
    assert [e.idx for e in encoded] == [p.idx for p in pairs]
    assert [e.chosen for e in encoded] == [response_ids(tokenizer, p.chosen_text) for p in pairs]
    assert encode_prompts([p.prompt_text for p in pairs], PLAIN, tokenizer) == [e.prompt for e in encoded]
    assert [encode_pairs([p], PLAIN, tokenizer)[0][0] for p in pairs] == encoded
    assert count_cut_answers(encoded, tokenizer) == 0


@settings(deadline=None)
@given(prompt=text, chosen=text, rejected=text, limit=st.integers(1, 60), head=st.none() | st.integers(1, 20))
def test_a_pair_is_whole_or_cut_as_asked_or_quarantined(tokenizer, prompt, chosen, rejected, limit, head):
    pair = plain_pair(7, prompt, chosen, rejected)
    encoded, quarantined = encode_pairs([pair], PLAIN, tokenizer, max_length=limit, answer_head=head)
    (prompt_ids,) = encode_prompts([prompt], PLAIN, tokenizer)
    answers = [response_ids(tokenizer, chosen), response_ids(tokenizer, rejected)]
    if head and len(prompt_ids) + max(map(len, answers)) > limit:
        answers = [a[:head] for a in answers]
    fits = len(prompt_ids) + max(map(len, answers)) <= limit
    if fits and answers[0] != answers[1]:
        assert [(e.prompt, e.chosen, e.rejected) for e in encoded] == [(prompt_ids, *answers)]
    else:
        assert not encoded
        assert [q.reason == "over_long" for q in quarantined] == [not fits]
        assert quarantined[0].idx == 7


def test_without_a_limit_the_head_cuts_every_long_answer(tokenizer):
    pairs = [plain_pair(0, "Hi", "One two three four five.", "Go."), plain_pair(1, "Hi", "A.", "B.")]
    encoded, _ = encode_pairs(pairs, PLAIN, tokenizer, answer_head=5)
    assert len(encoded[0].chosen) == 5
    assert encoded[0].rejected == response_ids(tokenizer, "Go.")[:5]
    n_long = sum(len(response_ids(tokenizer, a)) > 5 for p in pairs for a in (p.chosen_text, p.rejected_text))
    assert count_cut_answers(encoded, tokenizer) == n_long > 0


def test_answers_equal_after_the_cut_are_quarantined(tokenizer):
    pair = plain_pair(3, "Hi", "I can help you with that.", "I cannot help you.", source="a", source_row=8)
    encoded, quarantined = encode_pairs([pair], PLAIN, tokenizer, answer_head=1)
    assert not encoded
    assert [(q.source, q.line, q.idx, q.reason) for q in quarantined] == [("a", 9, 3, "equal_after_cut")]


def test_answers_that_a_tokenizer_cannot_tell_apart_are_quarantined():
    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    blind = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")
    _, quarantined = encode_pairs([plain_pair(0, "Hi", "Yes", "No")], PLAIN, blind)
    assert [q.reason for q in quarantined] == ["equal_tokens"]


def test_a_prompt_too_long_by_itself_says_so(tokenizer):
    pair = plain_pair(0, "word " * 50, "A.", "B.")
    _, quarantined = encode_pairs([pair], PLAIN, tokenizer, max_length=20, answer_head=2)
    assert quarantined[0].reason == "over_long"
    assert "the prompt alone" in quarantined[0].detail


def test_data_cannot_end_an_answer(tokenizer):
    encoded, _ = encode_pairs([plain_pair(0, "a<|endoftext|>b", "Yes<|endoftext|>no", "No")], PLAIN, tokenizer)
    eos = end_of_text(tokenizer)
    assert eos not in encoded[0].prompt
    assert encoded[0].chosen.index(eos) == len(encoded[0].chosen) - 1


def test_what_the_tokenizer_puts_first_opens_the_prompt_only(tokenizer):
    from tokenizers.processors import TemplateProcessing

    opening = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    opening.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    opens = PreTrainedTokenizerFast(tokenizer_object=opening, eos_token="<|endoftext|>")
    pair = plain_pair(0, "Hi", "Yes.", "No.")
    (bare,), (with_opening,) = (encode_pairs([pair], PLAIN, t)[0] for t in (tokenizer, opens))
    assert with_opening.prompt == (1, *bare.prompt)
    assert with_opening.chosen == bare.chosen
    assert joins_cleanly(PLAIN, opens, [pair]).n_differ == 0


def test_no_pairs_are_no_tokens(tokenizer):
    assert encode_pairs([], PLAIN, tokenizer) == ([], [])
    assert encode_prompts([], PLAIN, tokenizer) == []


def test_bad_settings_say_what_to_do(tokenizer, pair):
    with pytest.raises(UsageError, match="max_length of at least 1"):
        encode_pairs([pair], PLAIN, tokenizer, max_length=0)
    with pytest.raises(UsageError, match="answer_head of at least 1"):
        encode_pairs([pair], PLAIN, tokenizer, answer_head=0)
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UsageError, match="end-of-text token"):
        encode_pairs([pair], PLAIN, endless)


@pytest.mark.parametrize(
    ("column", "score"),
    [
        (4, 4.0),
        (-0.5, -0.5),
        ("4.5", 4.5),
        (" -3 ", -3.0),
        (True, 1.0),
        (None, None),
        ("", None),
        ("good", None),
        ("nan", None),
        ("1e999", None),
        (10**400, None),
    ],
    ids=lambda value: repr(value)[:8],
)
def test_scores_come_from_the_columns_of_that_name(tokenizer, column, score):
    def pair(**meta):
        return plain_pair(0, "Hi", "Hello.", "Go away, and then go on.", meta=meta)

    for head in (None, 4):
        (encoded,), _ = encode_pairs([pair(chosen_score=column, rejected_score=2)], PLAIN, tokenizer, answer_head=head)
        assert (encoded.chosen_score, encoded.rejected_score) == (score, 2.0)
    (without,), _ = encode_pairs([pair(score=1)], PLAIN, tokenizer)
    assert (without.chosen_score, without.rejected_score) == (None, None)


def test_weights_and_groups_come_from_the_columns_of_that_name(tokenizer):
    metas = [
        {"weight": "0.5", "group": "nurses"},
        {"weight": 2, "group": "cooks"},
        {"weight": 1, "group": "nurses"},
        {},
    ]
    pairs = [plain_pair(i, "Hi", f"Hello {i}.", "Go away.", meta=meta) for i, meta in enumerate(metas)]
    encoded, _ = encode_pairs(pairs, PLAIN, tokenizer)
    assert [pair.weight for pair in encoded] == [0.5, 2.0, 1.0, None]
    assert [pair.group for pair in encoded] == [1, 0, 1, None]
    backwards, _ = encode_pairs(pairs[::-1], PLAIN, tokenizer)
    assert [pair.group for pair in backwards] == [None, 1, 0, 1]


def test_blocks_of_texts_change_nothing_and_an_id_is_one_object(tokenizer, monkeypatch):
    texts = [
        f"user: {word} {word[::-1]}" for word in ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    ]
    whole = tokenise(texts, PLAIN, tokenizer, opens=True, closing=(9,))
    monkeypatch.setattr(tokens, "_TEXTS_AT_ONCE", 2)
    rows = tokenise(texts, PLAIN, tokenizer, opens=True, closing=(9,))
    assert rows == whole
    assert all(row[-1] == 9 for row in rows)
    assert len({id(number) for row in rows for number in row}) == len({number for row in rows for number in row})


def test_blocks_of_pairs_change_nothing(tokenizer, monkeypatch):
    given = [plain_pair(i, f"Hi {i % 2}", f"Hello {i}.", "Go.", meta={"group": f"g{i % 3}"}) for i in range(7)]
    whole = encode_pairs(given, PLAIN, tokenizer, max_length=20)
    monkeypatch.setattr(tokens, "_PAIRS_AT_ONCE", 2)
    assert encode_pairs(given, PLAIN, tokenizer, max_length=20) == whole
