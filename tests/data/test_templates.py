import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from smidgen.data.rows import split_dialogue
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.pairs import Message, messages_from

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONVERSATION = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye"))


def with_chat_template(tokenizer, template, eos="<|im_end|>"):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=eos, chat_template=template)


def test_plain_is_the_exercise_template():
    template = load_template("plain")
    text = template.prompt(messages_from("What is up?", "user")) + template.response(
        messages_from("Much.", "assistant")
    )
    assert text == "user: What is up? assistant: Much."
    assert template.prompt(CONVERSATION) == "user: Hi assistant: Hello. user: Bye assistant:"


@pytest.mark.parametrize("name", ["plain", "hh"])
def test_the_space_belongs_to_the_response(name):
    template = load_template(name)
    assert not template.prompt(CONVERSATION).endswith(" ")
    assert template.response(messages_from("Well.", "assistant")) == " Well."
    assert template.joins_cleanly


turn_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(deadline=None)
@given(st.lists(st.tuples(turn_text, turn_text), max_size=3), turn_text, turn_text)
def test_hh_writes_the_dialogue_that_was_read(earlier, question, answer):
    prompt = tuple(m for q, a in earlier for m in (Message("user", q), Message("assistant", a)))
    prompt += (Message("user", question),)
    template = load_template("hh")
    text = template.prompt(prompt) + template.response(messages_from(answer, "assistant"))
    if text.count("\n\nHuman:") == len(earlier) + 1 and text.count("\n\nAssistant:") == len(earlier) + 1:
        assert split_dialogue(text, "chosen") == (prompt, messages_from(answer, "assistant"))


@pytest.mark.parametrize("answer", ["Well.", "end", "  spaced ", "<|im_end|>", "⟦answer⟧", "\n"])
def test_chat_is_the_tokenizers_own_text_less_the_end(tokenizer, answer):
    chatty = with_chat_template(tokenizer, CHATML)
    template = load_template("chat", chatty)
    messages = messages_from(answer, "assistant")
    turns = [{"role": m.role, "content": m.content} for m in (*CONVERSATION, *messages)]
    whole = chatty.apply_chat_template(turns, tokenize=False)
    assert template.prompt(CONVERSATION) + template.response(messages) + "<|im_end|>\n" == whole
    assert not template.joins_cleanly
    assert "apart" in template.boundary


def test_chat_keeps_a_closing_mark_that_is_not_the_end_of_text(tokenizer):
    template = load_template("chat", with_chat_template(tokenizer, CHATML, eos="<|endoftext|>"))
    assert template.response(messages_from("Well.", "assistant")) == "Well.<|im_end|>"


def test_chat_follows_a_template_that_trims(tokenizer):
    template = load_template("chat", with_chat_template(tokenizer, CHATML.replace("m.content", "m.content | trim")))
    assert template.response(messages_from("  Well. ", "assistant")) == "Well."


def test_chat_needs_a_chat_template(tokenizer):
    for given_tokenizer in (None, tokenizer):
        with pytest.raises(UsageError, match="expected a tokenizer with a chat template"):
            load_template("chat", given_tokenizer)


def test_chat_refuses_a_template_it_cannot_split(tokenizer):
    odd = (
        "{% if add_generation_prompt %}Question?{% else %}{% for m in messages %}{{ m.content }}{% endfor %}{% endif %}"
    )
    with pytest.raises(UsageError, match="after its generation prompt"):
        load_template("chat", with_chat_template(tokenizer, odd))


def test_chat_says_which_turns_a_template_refuses(tokenizer):
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
    template = load_template("chat", with_chat_template(tokenizer, strict))
    with pytest.raises(UsageError, match="turns system, user: no system turn"):
        template.prompt((Message("system", "Be kind."), Message("user", "Hi")))


def test_an_unknown_name_lists_the_templates():
    with pytest.raises(UsageError, match="chat, hh, plain"):
        load_template("alpaca")


def test_a_suffix_stands_before_every_answer_spaced_as_an_answer_is(tokenizer):
    question = messages_from("Hi", "user")
    for name, ending in (("plain", "assistant: So:"), ("hh", "\n\nAssistant: So:"), ("chat", "assistant\nSo:\n")):
        chatty = with_chat_template(tokenizer, CHATML)
        template, bare = load_template(f"{name}:suffix=So:", chatty), load_template(name, chatty)
        assert template.prompt(question).endswith(ending)
        assert template.name == f"{name}:suffix=So:"
        assert template.response(messages_from("Yes.", "assistant")) == bare.response(
            messages_from("Yes.", "assistant")
        )
    with pytest.raises(UsageError, match="expected a text after plain"):
        load_template("plain:suffix= ")
    with pytest.raises(UsageError, match="unknown template"):
        load_template("plane:suffix=So:")
