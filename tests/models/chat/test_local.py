"""A local model's reply follows from the question, whoever is answered with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from smidgen.data.templates import load_template
from smidgen.models.chat.base import NoReply, Sampling
from smidgen.models.chat.local import open_local, own_template
from smidgen.models.chat.source import Answer
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel
from smidgen.pairs import Message, Messages, messages_from

QUESTIONS = ["How?", "How do I bake bread?", "Name a tree, and then name another tree.", "Why?", "Lock."]
GREEDY = Sampling(max_new_tokens=6)
DRAWN = Sampling(max_new_tokens=6, temperature=1.0, top_p=0.9)


def answers(
    lm: LanguageModel, questions: Sequence[tuple[Messages, Sampling]], *, together: bool, batch_size: int = 16
) -> list[Answer | BaseException]:
    async def main() -> list[Answer | BaseException]:
        async with open_local(lm, load_template("plain"), batch_size=batch_size) as source:
            asked = [source.answer(messages, sampling, "") for messages, sampling in questions]
            if together:
                return await asyncio.gather(*asked, return_exceptions=True)
            return [await one for one in asked]

    return asyncio.run(main())


def test_a_reply_is_the_same_alone_and_in_company(tiny: LanguageModel) -> None:
    several = [Sampling(max_new_tokens=6, temperature=1.0, number=number) for number in (0, 1)]
    questions = [(messages_from(q, "user"), s) for q in QUESTIONS for s in (GREEDY, DRAWN, *several)]
    alone = answers(tiny, questions, together=False)
    assert answers(tiny, questions, together=True) == alone
    assert answers(tiny, questions[::-1], together=True, batch_size=3)[::-1] == alone
    # Another number is another draw, and the same number the same.
    first, second = ([alone[4 * i + 2 + n] for i in range(len(QUESTIONS))] for n in (0, 1))
    assert first != second


def test_greedy_is_what_the_generator_writes(tiny: LanguageModel) -> None:
    (found,) = answers(tiny, [(messages_from("Name a tree.", "user"), GREEDY)], together=True)
    assert isinstance(found, Answer)
    prompt = tiny.tokenizer("user: Name a tree. assistant:")["input_ids"]
    (written,) = generate(tiny, [prompt], max_new_tokens=6)
    text = tiny.tokenizer.decode(list(written), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert found.text == str(text).removeprefix(" ") and found.prompt_tokens == len(prompt)
    assert found.cut == (len(written) == 6) and found.completion_tokens == len(written) + (not found.cut)


def test_more_than_the_model_has_room_for_gets_no_reply_and_spoils_nobody_elses(tiny: LanguageModel) -> None:
    long = messages_from("How do I bake bread? " * 40, "user")
    questions = [(messages_from("Why?", "user"), GREEDY), (long, GREEDY)]
    fine, none = answers(tiny, questions, together=True)
    assert isinstance(fine, Answer)
    assert isinstance(none, NoReply) and none.reason == "too_long" and "96 positions" in none.detail


def test_near_the_last_position_a_reply_is_cut(tiny: LanguageModel) -> None:
    question = messages_from("How? " * 28, "user")
    (found,) = answers(tiny, [(question, Sampling(max_new_tokens=500))], together=True)
    assert isinstance(found, Answer) and found.prompt_tokens and found.completion_tokens
    assert found.prompt_tokens + found.completion_tokens <= 96


def test_roles_that_the_template_does_not_take_get_no_reply(tiny: LanguageModel) -> None:
    tiny.tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}"  # noqa: E501

    async def main() -> Answer:
        template = own_template(tiny)
        assert template.name == "chat"
        async with open_local(tiny, template) as source:
            return await source.answer((Message("system", "Be kind."), Message("user", "Why?")), GREEDY, "")

    with pytest.raises(NoReply, match="bad_request"):
        asyncio.run(main())


def test_an_error_of_the_model_reaches_who_asked(tiny: LanguageModel) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of memory")

    tiny.model.forward = fail
    (found,) = answers(tiny, [(messages_from("Why?", "user"), GREEDY)], together=True)
    assert isinstance(found, RuntimeError)
