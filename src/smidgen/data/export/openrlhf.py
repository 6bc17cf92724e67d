"""OpenRLHF: JSONL of prompt, chosen and rejected, and the flags that name these keys."""

from __future__ import annotations

from smidgen.data.export.base import Layout, export_format, prompt_chosen_rejected

_USAGE = """\
```
python -m openrlhf.cli.train_dpo --model.model_name_or_path MODEL \\
    --data.dataset train.jsonl --data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected{chat}
```

Before version 0.10 the flags had no group: `--pretrain MODEL --dataset train.jsonl --prompt_key prompt --chosen_key
chosen --rejected_key rejected{old_chat}`{old_note}.
"""


@export_format
def openrlhf(name: str, *, template: str | None = None) -> Layout:
    """train.jsonl for OpenRLHF's train_dpo and train_rm.

    Args:
        name: The dataset's name.
        template: Texts by this template, plain, hh or verbatim; without it, lists of messages, for
            --data.apply_chat_template.

    Source: OpenRLHF README, "Prepare Datasets" and "Reward Model Training".
    """
    row, reads_back = prompt_chosen_rejected(template)
    usage = _USAGE.format(
        chat="" if template else " \\\n    --data.apply_chat_template",
        old_chat="" if template else " --apply_chat_template",
        old_note=', and `--input_template "{}"` to leave the texts as they are' if template else "",
    )
    return Layout(row=row, path="train.jsonl", usage=usage, reads_back=reads_back)
