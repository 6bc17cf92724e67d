"""The user's public prompts: seen once, at the end, by the models that a study started from and ended in.

They are few and known to everybody, so they carry no claim; but they are what others have numbers for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smidgen.data.checks import find_leaks
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.evaluation.patterns import load_patterns
from smidgen.pairs import PairTable
from smidgen.runs import write_json

PUBLIC_SCORES = "public.json"


@dataclass(frozen=True, slots=True)
class PublicPrompts:
    """Prompts of both classes, and the refusal list that is looked for anywhere, in the prompt too."""

    harmful: tuple[str, ...]
    harmless: tuple[str, ...]
    patterns: str


def read_public(harmful: Path | None, harmless: Path | None, patterns: str) -> PublicPrompts | None:
    """The public prompts, read before anything is trained; None where there are none.

    Raises:
        UsageError: Only one of the two lists.
        InvalidData: A list that cannot be read.
    """
    load_patterns(patterns)
    if harmful is None and harmless is None:
        return None
    if harmful is None or harmless is None:
        raise UsageError("expected both --public-harmful and --public-harmless, or neither; got one of them.")
    return PublicPrompts(tuple(load_prompts(harmful)), tuple(load_prompts(harmless)), patterns)


def report_public(
    public: PublicPrompts,
    models: Mapping[str, str],
    pairs: PairTable,
    out: Path,
    *,
    template: str,
    pattern_lists: tuple[str, ...],
    max_new_tokens: int,
) -> None:
    """Write public.json: each model's benchmark on the public prompts, every text, and prompts that training holds.

    Args:
        models: By what they are (base, aligned, subset): a folder or hub name each.
        pairs: All pairs, for prompts that stand among them too.
    """
    # Public prompts are read before the study begins, and should not have to wait for the engine.
    from smidgen.evaluation.refusal import bench, summarize
    from smidgen.models.load import load_language_model

    found: dict[str, Any] = {}
    for name, model in models.items():
        lm = load_language_model(model)
        scores = bench(
            lm,
            load_template(template, lm.tokenizer),
            public.harmful,
            public.harmless,
            prompt_set="public",
            pattern_lists=pattern_lists,
            anywhere=public.patterns,
            max_new_tokens=max_new_tokens,
        )
        found[name] = {**summarize(scores), "completions": [asdict(score) for score in scores]}
    leaks = find_leaks(pairs, [*public.harmful, *public.harmless])
    write_json(out / PUBLIC_SCORES, {"models": found, "leaks": [asdict(leak) for leak in leaks]})
