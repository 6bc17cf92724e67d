"""axolotl: JSONL of messages with chosen and rejected messages, and the configuration that reads it."""

from __future__ import annotations

from typing import Any

import yaml

from smidgen.data.export.base import Layout, Row, export_format, prompt_chosen_rejected
from smidgen.pairs import PreferencePair, as_turns

_USAGE = """\
`axolotl.yaml` is the part of a configuration that reads this data; add `base_model` and how to train, then
`axolotl train axolotl.yaml` from this folder.
"""
_MESSAGES = {
    "type": "chat_template.default",
    "field_messages": "messages",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "message_property_mappings": {"role": "role", "content": "content"},
    "roles": {"user": ["user"], "assistant": ["assistant"], "system": ["system"]},
}
_TEXTS = {
    "type": {
        "field_prompt": "prompt",
        "field_chosen": "chosen",
        "field_rejected": "rejected",
        "prompt_format": "{prompt}",
        "chosen_format": "{chosen}",
        "rejected_format": "{rejected}",
    }
}


@export_format
def axolotl(name: str, *, template: str | None = None) -> Layout:
    """train.jsonl and axolotl.yaml, for `rl: dpo` and the methods that take the same data (ipo, simpo).

    Args:
        name: The dataset's name.
        template: Texts by this template, plain, hh or verbatim (axolotl's user_defined.default); without it, messages
            (axolotl's chat_template.default).

    Source: axolotl documentation, "RLHF (Beta)", DPO.
    """
    if template is None:
        return Layout(row=_row, path="train.jsonl", usage=_USAGE, files={"axolotl.yaml": _configuration(_MESSAGES)})
    row, reads_back = prompt_chosen_rejected(template)
    files = {"axolotl.yaml": _configuration(_TEXTS)}
    return Layout(row=row, path="train.jsonl", usage=_USAGE, files=files, reads_back=reads_back)


def _row(pair: PreferencePair) -> Row:
    chosen, rejected = (as_turns(answer)[0] for answer in (pair.chosen, pair.rejected))
    return {"messages": as_turns(pair.prompt), "chosen": chosen, "rejected": rejected}


def _configuration(reading: dict[str, Any]) -> str:
    dataset = {"path": "train.jsonl", "ds_type": "json", "split": "train", **reading}
    return yaml.safe_dump({"rl": "dpo", "datasets": [dataset]}, sort_keys=False)
