"""LLaMA-Factory: a JSON list in its sharegpt or alpaca format, and the entry of dataset_info.json that describes it."""

from __future__ import annotations

import json
from typing import Any, Literal

from smidgen.data.checks import BadRow
from smidgen.data.export.base import Layout, Row, export_format
from smidgen.pairs import Messages, PreferencePair

_USAGE = """\
```
llamafactory-cli train --stage dpo --do_train --model_name_or_path MODEL --template TEMPLATE \\
    --dataset_dir . --dataset {name} --output_dir out
```

Or add the entry of `dataset_info.json` to the one of your own data folder, with `file_name` the way to `train.json`.
"""
_PATH = "train.json"
_TAGS = {"user": "human", "assistant": "gpt", "system": "system"}


@export_format
def llama_factory(name: str, *, formatting: Literal["sharegpt", "alpaca"] = "sharegpt") -> Layout:
    """train.json and dataset_info.json, for the stages dpo and rm of LLaMA-Factory.

    It takes turns of user and assistant alternately, after at most one system prompt.

    Args:
        name: The dataset's name.
        formatting: sharegpt: `conversations` and messages; alpaca: `instruction`, with `history` and `system`.

    Source: LLaMA-Factory, "data/README", preference datasets of both formats.
    """
    columns = {"messages": "conversations"} if formatting == "sharegpt" else _ALPACA
    entry: dict[str, Any] = {"file_name": _PATH}
    entry |= {"formatting": "sharegpt"} if formatting == "sharegpt" else {}
    entry |= {"ranking": True, "columns": {**columns, "chosen": "chosen", "rejected": "rejected"}}
    return Layout(
        row=_sharegpt if formatting == "sharegpt" else _alpaca,
        path=_PATH,
        usage=_USAGE.format(name=name),
        files={"dataset_info.json": json.dumps({name: entry}, indent=2) + "\n"},
    )


_ALPACA = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"}


def _sharegpt(pair: PreferencePair) -> Row:
    _split(pair.prompt)
    turns = [{"from": _TAGS[turn.role], "value": turn.content} for turn in (*pair.prompt, *pair.chosen, *pair.rejected)]
    *conversations, chosen, rejected = turns
    return {"conversations": conversations, "chosen": chosen, "rejected": rejected}


def _alpaca(pair: PreferencePair) -> Row:
    system, turns = _split(pair.prompt)
    *earlier, question = [turn.content for turn in turns]
    return {
        "instruction": question,
        "input": "",
        "system": system[0].content if system else "",
        "history": [[q, a] for q, a in zip(earlier[::2], earlier[1::2], strict=True)],
        "chosen": pair.chosen_text,
        "rejected": pair.rejected_text,
    }


def _split(prompt: Messages) -> tuple[Messages, Messages]:
    """The system prompt, and the turns after it; BadRow where these do not alternate, beginning with the user."""
    n_system = int(prompt[0].role == "system")
    turns = prompt[n_system:]
    if [turn.role for turn in turns] != [("user", "assistant")[i % 2] for i in range(len(turns))] or not turns:
        roles = ", ".join(turn.role for turn in prompt)
        raise BadRow("not_expressible", f"turns of user and assistant must alternate, the prompt has {roles}")
    return prompt[:n_system], turns
