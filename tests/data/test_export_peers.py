"""The peers' own loaders read what was exported, and TRL's first loss on it is this project's own on the same pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smidgen.assets import DEMO
from smidgen.data.export import Origin, export_pairs
from smidgen.data.export.base import export_format
from smidgen.data.prepare import prepare_pairs
from smidgen.data.sources import rows_in_memory
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.pair_pass import pass_over_pairs
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

BETA = 0.3
# End of text closes an answer, and nothing stands behind it: what follows it is TRL's business and not ours.
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def conversations() -> list[PreferencePair]:
    """Single turns, several turns and a system prompt."""
    questions = ["What is a tree?", "Name a colour.", "Say hello.", "Who are you?"]
    pairs = [
        plain_pair(i + 7, q, f"A kind answer, number {i}.", f"No {i}!", source="made", source_row=i, meta={"kind": "x"})
        for i, q in enumerate(questions)
    ]
    earlier = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "And then?"))
    for i, prompt in enumerate([earlier, (Message("system", "Be kind."), *earlier)], start=20):
        answers = {name: messages_from(f"{name} {i}", "assistant") for name in ("chosen", "rejected")}
        pairs.append(PreferencePair(idx=i, prompt=prompt, source="made", source_row=i, meta={"kind": None}, **answers))
    return pairs


@pytest.mark.parametrize("spec", [*export_format.names(), "trl:template=plain", "llama_factory:formatting=alpaca"])
def test_datasets_reads_every_folder_as_its_card_says(spec: str, tmp_path: Path) -> None:
    import datasets
    import yaml

    exported = export_pairs(conversations(), spec, name="made", origin=Origin(sources=["made"], license="cc-by-4.0"))
    exported.write(tmp_path / "made")
    found: Any = datasets.load_dataset(str(tmp_path / "made"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["idx"] == [pair.idx for pair in conversations()]
    assert found["kind"] == ["x"] * 4 + [None] * 2
    head = yaml.safe_load((tmp_path / "made" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    said = datasets.Features._from_yaml_list(head["dataset_info"]["features"])
    assert said == found.features
    if "template" not in spec:
        assert list(prepare_pairs(rows_in_memory(found)).pairs) == conversations()


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    """The demo's model, away from itself as reference, so that the first loss is not ln 2."""
    lm = load_language_model(str(DEMO / "model"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std() * 0.1)
    return lm


def own_loss(policy: LanguageModel, pairs: list[PreferencePair], template: str) -> float:
    """DPO's loss, averaged over pairs, from the engine's log-probabilities."""
    encoded, left_out = encode_pairs(pairs, load_template(template, policy.tokenizer), policy.tokenizer)
    assert not left_out
    prompts, answers = [p.prompt for p in encoded], [(p.chosen, p.rejected) for p in encoded]
    own, ref = (pass_over_pairs(lm, prompts, answers) for lm in (policy, load_language_model(str(DEMO / "model"))))
    difference = (own.chosen_logps - own.rejected_logps) - (ref.chosen_logps - ref.rejected_logps)
    return float(np.logaddexp(0, -BETA * difference).mean())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spec", "template"), [("trl:template=plain", "plain"), ("trl:template=hh", "hh"), ("trl", "chat")]
)
def test_trl_trains_on_the_file_and_begins_with_our_loss(
    spec: str, template: str, policy: LanguageModel, tmp_path: Path
) -> None:
    import datasets
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    policy.tokenizer.chat_template = CHAT
    pairs = [*list(prepare_pairs(DEMO / "pairs.jsonl").pairs[:6]), *(conversations() if template != "hh" else [])]
    expected = own_loss(policy, pairs, template)
    assert abs(expected - np.log(2)) > 0.005
    exported = export_pairs(pairs, spec, name="made", origin=Origin(sources=["made"]))
    exported.write(tmp_path / "made")
    rows = datasets.load_dataset(str(tmp_path / "made"), split="train", cache_dir=str(tmp_path / "cache"))
    args = DPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=len(pairs),
        max_steps=2,
        beta=BETA,
        learning_rate=1e-3,
        bf16=False,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=False,
        lr_scheduler_type="constant",
    )
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    trainer = DPOTrainer(
        model=policy.model,
        ref_model=load_language_model(str(DEMO / "model")).model,
        args=args,
        train_dataset=rows,
        processing_class=policy.tokenizer,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    policy.model.load_state_dict(before)
    assert losses[0] == pytest.approx(expected, abs=1e-4)
    assert losses[1] < losses[0]
