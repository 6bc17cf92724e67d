"""Completions: what their luck follows from, where they end, and what a model reads of a long prompt."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_prompts
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.complete import complete, completed, end_that_fits
from smidgen.evaluation.drawing import Drawing, until
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel

PROMPTS = ["How do I bake bread?", "Name a tree.", "How do I pick a lock?", "Name a tree.", "Mix flour"]
PLAIN, VERBATIM = load_template("plain"), load_template("verbatim")


def test_luck_follows_from_seed_prompt_and_letter_alone(tiny: LanguageModel) -> None:
    whole = complete(tiny, PLAIN, PROMPTS, n=3, seed=5, max_new_tokens=6)
    alone = complete(tiny, PLAIN, PROMPTS[::-1], n=3, seed=5, max_new_tokens=6, batch_size=1)
    assert alone.rows[::-1] == whole.rows
    fewer = complete(tiny, PLAIN, PROMPTS[2:3], n=1, seed=5, max_new_tokens=6)
    assert fewer.rows[0].texts == whole.rows[2].texts[:1]
    assert whole.rows[1] == whole.rows[3]
    assert len({text for row in whole.rows for text in row.texts}) > 4
    assert complete(tiny, PLAIN, PROMPTS, n=3, seed=6, max_new_tokens=6).rows != whole.rows


def test_at_temperature_0_the_most_probable_tokens_are_taken(tiny: LanguageModel) -> None:
    found = complete(tiny, VERBATIM, PROMPTS, n=1, temperature=0, max_new_tokens=5)
    ids = generate(tiny, encode_prompts(PROMPTS, VERBATIM, tiny.tokenizer), max_new_tokens=5)
    assert [row.texts for row in found.rows] == [(tiny.tokenizer.decode(list(tokens)),) for tokens in ids]


def test_settings_are_kept_with_the_completions(tiny: LanguageModel) -> None:
    found = complete(tiny, PLAIN, PROMPTS[:1], model="m", label="SUMMARY", n=2, seed=4, top_k=3, stop=["x"])
    assert (found.model, found.label, found.n_letters) == ("m", "SUMMARY", 2)
    assert found.meta["seed"] == 4 and found.meta["top_k"] == 3 and found.meta["stop"] == '["x"]'


def ends_at_once(tiny: LanguageModel) -> LanguageModel:
    """Without weights all tokens are as probable, the first one is taken, and that is now an end of text."""
    with torch.no_grad():
        for parameter in tiny.model.parameters():
            parameter.zero_()
    tiny.model.generation_config.eos_token_id = 0  # pyright: ignore[reportOptionalMemberAccess]
    return tiny


def test_only_the_limit_of_tokens_cuts(tiny: LanguageModel) -> None:
    (row,) = completed(tiny, VERBATIM, ["Mix flour"], Drawing(n=1, temperature=0, max_new_tokens=4))
    assert row.cut == (True,) and len(row.texts[0]) > 1
    (stopped,) = completed(
        tiny, VERBATIM, ["Mix flour"], Drawing(n=1, temperature=0, max_new_tokens=4, stop=(row.texts[0][1:],))
    )
    assert stopped.texts == (row.texts[0][0],) and stopped.cut == (False,)
    (ended,) = completed(ends_at_once(tiny), VERBATIM, ["Mix flour"], Drawing(n=1, temperature=0, max_new_tokens=4))
    assert ended.texts == ("",) and ended.cut == (False,)


@given(st.text(alphabet="ab\n", max_size=8), st.lists(st.text(alphabet="ab\n", min_size=1, max_size=2), max_size=3))
def test_a_text_goes_up_to_the_first_text_to_stop_at(text: str, stop: list[str]) -> None:
    kept = until(text, stop)
    assert text.startswith(kept) and not any(end in kept for end in stop)
    assert kept == text or any(text[len(kept) :].startswith(end) for end in stop)


@pytest.mark.parametrize("room", [9, 20, 96])
@pytest.mark.parametrize("template", [PLAIN, VERBATIM])
def test_the_longest_end_that_fits_is_read(tiny: LanguageModel, template, room: int) -> None:
    prompt = " ".join(PROMPTS)

    def n_tokens(text: str) -> int:
        return len(encode_prompts([text], template, tiny.tokenizer)[0])

    end = end_that_fits(tiny, template, prompt, room)
    assert prompt.endswith(end) and n_tokens(end) <= room
    assert end == prompt or n_tokens(prompt[len(prompt) - len(end) - 1 :]) > room


def test_a_cut_prompt_keeps_its_name_and_luck(tiny: LanguageModel) -> None:
    drawing = Drawing(n=2, seed=1, max_new_tokens=5)
    whole = completed(tiny, VERBATIM, ["Say: Name a tree."], drawing, asked=["Name a tree."])
    assert whole[0].prompt == "Say: Name a tree."
    assert whole != completed(tiny, VERBATIM, ["Say: Name a tree."], drawing)


def test_a_prompt_without_room_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidData, match=r"prompt 2 \('flour .* at most 95 tokens, .* 96 positions .*, got 1\d\d"):
        complete(tiny, VERBATIM, ["Hi", "flour " * 100, "Hi"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"temperature": 0, "n": 2}, "one completion a prompt at temperature 0"),
        ({"temperature": -1}, "temperature of 0 or above"),
        ({"temperature": float("nan")}, "temperature of 0 or above"),
        ({"top_p": 0}, "top_p above 0"),
        ({"top_p": float("nan")}, "top_p above 0"),
        ({"top_k": -1}, "top_k of at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens of at least 1"),
        ({"stop": ("",)}, "a text to stop at"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Drawing(**wrong)
