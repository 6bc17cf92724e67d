"""Markers as tokens are what asking with them writes, for every template."""

import pytest
from transformers import PreTrainedTokenizerFast

from smidgen.data.markers import Markers, encode_markers, how_to_ask
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_prompts
from smidgen.pairs import messages_from

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("name", ["plain", "hh", "chat"])
def test_the_tokens_learned_behind_are_the_tokens_asked_with(tokenizer, name):
    chatty = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>", chat_template=CHATML
    )
    template, markers = load_template(name, chatty), Markers()
    encoded = encode_markers(markers, template, chatty)
    bare = encode_prompts(["Name a tree."], template, chatty)[0]
    for side, told in how_to_ask(template, markers).items():
        asking = load_template(told["template"], chatty)
        assert encode_prompts(["Name a tree."], asking, chatty) == [bare + encoded[side][0]]
        question = messages_from("Name a tree.", "user")
        assert asking.prompt(question) == template.prompt(question) + told["prompt_suffix"]


def test_a_marker_that_names_a_control_token_stays_text(tokenizer):
    plain = load_template("plain")
    encoded = encode_markers(Markers(good=("<|endoftext|>:",), bad=("Bad:",)), plain, tokenizer)
    assert tokenizer.eos_token_id not in encoded["good"][0]
