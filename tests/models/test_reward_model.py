"""Reward models score as Hugging Face's own code does, in any batch, and refuse what they would have to cut."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.models.reward_model import (
    RewardModel,
    as_reward,
    load_reward_model,
    new_reward_model,
    save_reward_model,
)
from smidgen.pairs import Message, Messages, messages_from, plain_pair

PLAIN = load_template("plain")
QUESTIONS = ["Name a tree.", "How do I bake bread?", "Why?", "How do I pick a lock, please, and which one first?"]
PROMPTS: list[Messages] = [messages_from(text, "user") for text in QUESTIONS]
ANSWERS = ["The oak.", "Mix flour, water and salt, and wait an hour. Then bake.", "I can't.", "No."]
CHAT = (
    "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|endoftext|>assistant: {% endif %}"
)
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture
def causal(tiny: LanguageModel, tmp_path: Path) -> Path:
    """A causal model's folder."""
    save_language_model(tiny, tmp_path / "causal", card="")
    return tmp_path / "causal"


@pytest.fixture
def rm(causal: Path) -> RewardModel:
    return new_reward_model(causal, seed=5)


def saved_classifier(kind: str, tokenizer: PreTrainedTokenizerBase, folder: Path, *, labels: int = 1) -> Path:
    """A random classifier of another architecture, saved as anybody would publish it, without a padding token."""
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_labels": labels,
        "max_position_embeddings": 96,
        **SMALL,
    }
    torch.manual_seed(0)
    if kind == "qwen2":
        model = Qwen2ForSequenceClassification(Qwen2Config(**common, num_key_value_heads=2, pad_token_id=None))
    else:
        model = BertForSequenceClassification(BertConfig(**common))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch_tokens", [1, 60, 8192])
def test_batched_is_single_and_order_is_kept(rm: RewardModel, batch_tokens: int) -> None:
    single = [rm.score(PROMPTS[i : i + 1], ANSWERS[i : i + 1], PLAIN)[0] for i in range(len(PROMPTS))]
    assert np.ptp(single) > 0.05
    np.testing.assert_allclose(rm.score(PROMPTS, ANSWERS, PLAIN, batch_tokens=batch_tokens), single, atol=1e-5)
    backwards = rm.score(PROMPTS[::-1], ANSWERS[::-1], PLAIN, batch_tokens=batch_tokens)
    np.testing.assert_allclose(backwards[::-1], single, atol=1e-5)


@pytest.mark.parametrize("kind", ["qwen2", "bert"])
def test_a_published_classifier_scores_as_its_own_code_does_row_by_row(
    kind: str, tiny: LanguageModel, tmp_path: Path
) -> None:
    """Without a padding token that code takes one row at a time; ours takes all at once."""
    folder = saved_classifier(kind, tiny.tokenizer, tmp_path / kind)
    classes = {"qwen2": Qwen2ForSequenceClassification, "bert": BertForSequenceClassification}
    peer = classes[kind].from_pretrained(folder).eval()
    rm = load_reward_model(folder)
    rows = rm.encode(PROMPTS, ANSWERS, PLAIN)
    with torch.no_grad():
        expected = [float(peer(input_ids=torch.tensor([list(row)])).logits[0, 0]) for row in rows]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(rm.score(PROMPTS, ANSWERS, PLAIN), expected, atol=1e-5)
    assert rm.lm.model.config.pad_token_id == peer.config.pad_token_id


def test_a_classifier_whose_tokenizer_has_no_end_of_text_scores(tiny: LanguageModel, tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(tiny.tokenizer)
    end = tokenizer.eos_token_id
    tokenizer.eos_token = None
    rm = load_reward_model(saved_classifier("bert", tokenizer, tmp_path / "bert"))
    assert rm.lm.tokenizer.eos_token_id is None
    rows = rm.encode(PROMPTS, ANSWERS, PLAIN)
    assert rows and all(row[-1] != end for row in rows)
    assert np.isfinite(rm.score(PROMPTS, ANSWERS, PLAIN)).all()


def test_a_padding_token_of_its_own_is_kept_to(rm: RewardModel, causal: Path, tmp_path: Path) -> None:
    """This one pads with end of text, so the model's code reads the token before."""
    save_reward_model(rm, tmp_path / "rm", card="# A card\n")
    peer = GPT2ForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    assert peer.config.pad_token_id == rm.lm.tokenizer.eos_token_id
    rows = rm.encode(PROMPTS, ANSWERS, PLAIN)
    batch = rm.pad(rows)
    with torch.no_grad():
        together = peer(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, 0].numpy()
    np.testing.assert_allclose(rm.score(PROMPTS, ANSWERS, PLAIN), together, atol=1e-5)


def test_saved_and_loaded_is_the_same(rm: RewardModel, tmp_path: Path) -> None:
    save_reward_model(rm, tmp_path / "rm", card="# A card\n")
    loaded = load_reward_model(tmp_path / "rm")
    assert loaded.lm.fingerprint == rm.lm.fingerprint
    np.testing.assert_array_equal(loaded.score(PROMPTS, ANSWERS, PLAIN), rm.score(PROMPTS, ANSWERS, PLAIN))
    assert (tmp_path / "rm" / "README.md").read_text() == "# A card\n"
    again = new_reward_model(tmp_path / "rm", seed=99)
    assert again.lm.fingerprint == rm.lm.fingerprint, "a reward model starts as it is"


def test_a_new_head_follows_from_its_seed_and_the_rest_is_the_causal_models(causal: Path, tiny: LanguageModel) -> None:
    one, same, other = (new_reward_model(causal, seed=seed) for seed in (1, 1, 2))
    assert one.lm.fingerprint == same.lm.fingerprint != other.lm.fingerprint
    weights = one.lm.model.state_dict()
    for name, weight in tiny.model.transformer.state_dict().items():  # pyright: ignore[reportAttributeAccessIssue]
        torch.testing.assert_close(weights[f"transformer.{name}"], weight)
    head = weights["score.weight"]
    assert head.shape == (1, 128)
    assert float(head.std()) == pytest.approx(129**-0.5, rel=0.25)
    assert not new_reward_model(causal, head_std=0).score(PROMPTS, ANSWERS, PLAIN).any()


def test_a_causal_model_of_another_architecture_starts_one_too(tiny: LanguageModel, tmp_path: Path) -> None:
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny.tokenizer), num_key_value_heads=2, **SMALL))
    model.save_pretrained(tmp_path / "llama")
    tiny.tokenizer.save_pretrained(tmp_path / "llama")
    rm = new_reward_model(tmp_path / "llama", seed=1)
    assert rm.score(PROMPTS, ANSWERS, PLAIN).std() > 0.01
    assert rm.lm.model.config.pad_token_id == tiny.tokenizer.pad_token_id


def test_plain_rows_are_the_tokens_that_pairs_have_elsewhere(rm: RewardModel) -> None:
    pairs = [plain_pair(i, q, a, "Another.") for i, (q, a) in enumerate(zip(QUESTIONS, ANSWERS, strict=True))]
    encoded, _ = encode_pairs(pairs, PLAIN, rm.lm.tokenizer)
    assert rm.encode(PROMPTS, ANSWERS, PLAIN) == [(*p.prompt, *p.chosen) for p in encoded]


def test_data_can_not_end_an_answer(rm: RewardModel) -> None:
    (row,) = rm.encode(PROMPTS[:1], ["Yes.<|endoftext|>"], PLAIN)
    assert row.count(rm.lm.tokenizer.eos_token_id) == 1


def test_a_chat_template_writes_the_whole_conversation(rm: RewardModel) -> None:
    rm.lm.tokenizer.chat_template = CHAT
    chat = load_template("chat", rm.lm.tokenizer)
    turns = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": ANSWERS[0]}]
    expected = rm.lm.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert rm.encode(PROMPTS[:1], ANSWERS[:1], chat) == [tuple(expected)]
    rm.lm.tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(UsageError, match=r"turns system, user, assistant.*no system turns"):
        rm.encode([(Message("system", "Be kind."), *PROMPTS[0])], ANSWERS[:1], chat)


def test_as_a_reward_it_is_a_function_of_text(rm: RewardModel) -> None:
    np.testing.assert_array_equal(as_reward(rm, PLAIN)(PROMPTS, ANSWERS), rm.score(PROMPTS, ANSWERS, PLAIN))
    assert as_reward(rm, PLAIN)([], []).shape == (0,)


def test_nothing_is_cut(rm: RewardModel) -> None:
    assert rm.max_tokens == 96
    with pytest.raises(InvalidData, match=r"at most 96 tokens.*got 1 of 2 above, the first at position 1"):
        rm.score(PROMPTS[:2], ["Short.", "long " * 100], PLAIN)


def test_broken_weights_do_not_pass_as_rewards(rm: RewardModel) -> None:
    with torch.no_grad():
        rm.lm.model.score.weight.fill_(float("nan"))  # pyright: ignore
    with pytest.raises(SmidgenError, match="expected finite rewards, got nan for answer"):
        rm.score(PROMPTS, ANSWERS, PLAIN)


def test_what_is_no_reward_model_is_refused(causal: Path, tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match=r"got one without score.weight.*train reward"):
        load_reward_model(causal)
    two = saved_classifier("bert", tiny.tokenizer, tmp_path / "two", labels=2)
    for load in (load_reward_model, new_reward_model):
        with pytest.raises(UsageError, match=r"one label.*got 2: LABEL_0, LABEL_1\. Give"):
            load(two)
    with pytest.raises(UsageError, match="head_std of at least 0, got -1"):
        new_reward_model(causal, head_std=-1)
    with pytest.raises(UsageError, match="unknown dtype"):
        load_reward_model(causal, dtype="int3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SmidgenError, match="sequence classifier at"):
        load_reward_model(tmp_path / "empty")


def test_pickled_weights_are_refused(rm: RewardModel, tmp_path: Path) -> None:
    save_reward_model(rm, tmp_path / "rm", card="")
    (tmp_path / "rm" / "model.safetensors").unlink()
    torch.save(rm.lm.model.state_dict(), tmp_path / "rm" / "pytorch_model.bin")
    with pytest.raises(SmidgenError, match="safetensors"):
        load_reward_model(tmp_path / "rm")
