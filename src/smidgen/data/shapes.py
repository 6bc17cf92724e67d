"""Rows of other programs' preference formats, under this project's own names: prompt, chosen, rejected.

A row is known by its columns: one of the prompt's names beside one of the answers'. A name that the row also uses for
something else stays what it was, so that a row with a `prompt` column is never read as another program's.

Source: TRL, "Dataset formats and types"; LLaMA-Factory, "data/README"; axolotl, "RLHF (Beta)"; OpenRLHF, "Prepare
Datasets"; distilabel, "FormatTextGenerationDPO".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smidgen.data.checks import BadRow, excerpt

# Each in the order in which it is looked for.
ANSWERS = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("generations", "ratings"))
PROMPTS = ("prompt", "conversations", "messages", "instruction", "question", "input")
SYSTEMS = ("system", "system_prompt")
HISTORY = "history"
STRUCTURAL = frozenset({*PROMPTS, *SYSTEMS, HISTORY, *(name for names in ANSWERS for name in names)})
"""Every column name that can decide what a row says."""

HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def own_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The row with `prompt`, `chosen` and `rejected` in place of the columns that stand for them elsewhere.

    Of `generations` with `ratings`, the best rated is chosen and the worst rejected, and both ratings are kept. A
    system prompt in a column of its own becomes the first turn. Without any prompt column the answers must be whole
    dialogues, and `prompt` is missing from the result too.

    Raises:
        BadRow: The columns are none that are known, or hold what cannot be read.

    >>> own_columns({"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4", "lang": "en"})
    {'lang': 'en', 'prompt': 'Add.\\n1 2', 'chosen': '3', 'rejected': '4'}
    """
    answers, used = _answers(columns)
    prompt, of_prompt = _prompt(columns, answers["chosen"], answers["rejected"])
    kept = {name: value for name, value in columns.items() if name not in used | of_prompt}
    return kept | prompt | answers


def used_columns(columns: Mapping[str, Any]) -> frozenset[str]:
    """The columns that a row's pair is made of; of a row that holds none, the project's own names."""
    try:
        answers, used = _answers(columns)
        return frozenset(used | _prompt(columns, answers["chosen"], answers["rejected"])[1])
    except BadRow:
        return frozenset({"prompt", *ANSWERS[0]})


def is_dialogue(value: Any) -> bool:
    """Whether an answer is a list of messages that begins with another turn than the answer's own."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], Mapping)
        and value[0].get("role", value[0].get("from")) not in ("assistant", "gpt")
    )


def _answers(columns: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    names = next((names for names in ANSWERS if all(name in columns for name in names)), None)
    if names is None:
        missing = " and no ".join(name for name in ANSWERS[0] if name not in columns)
        raise BadRow("missing_column", f"no {missing} among {excerpt(list(columns), 200)}")
    first, second = (columns[name] for name in names)
    if names == ANSWERS[2]:
        return _rated(first, second), set(names)
    return {"chosen": first, "rejected": second}, set(names)


def _rated(generations: Any, ratings: Any) -> dict[str, Any]:
    """The best and the worst of several answers; those without a rating are passed over."""
    if not isinstance(generations, list) or not isinstance(ratings, list) or len(generations) != len(ratings):
        raise BadRow("bad_ratings", f"ratings are {excerpt(ratings)} for {excerpt(generations)}")
    rated = [(rating, i) for i, rating in enumerate(ratings) if rating is not None]
    if len(rated) < 2 or not all(isinstance(r, int | float) and not isinstance(r, bool) and r == r for r, _ in rated):
        raise BadRow("bad_ratings", f"fewer than two ratings that are numbers: {excerpt(ratings)}")
    best, worst = max(rated, key=lambda item: item[0]), min(rated, key=lambda item: item[0])
    if best[0] == worst[0]:
        raise BadRow("tied_ratings", f"every rating is {best[0]}")
    return {
        "chosen": generations[best[1]],
        "rejected": generations[worst[1]],
        "chosen_rating": best[0],
        "rejected_rating": worst[0],
    }


def _prompt(columns: Mapping[str, Any], chosen: Any, rejected: Any) -> tuple[dict[str, Any], set[str]]:
    """The prompt under its own name, where there is one, and the columns it is made of."""
    name = next((name for name in PROMPTS if name in columns), None)
    if name != "prompt" and _hold_prompts(chosen, rejected):
        return {}, set()
    if name is None:
        if isinstance(chosen, str):
            raise BadRow(
                "no_prompt",
                f"no {', '.join(PROMPTS)} among {excerpt(list(columns), 200)}, and chosen is no dialogue with "
                f"Human: and Assistant: turns: {excerpt(chosen)}",
            )
        return {}, set()
    if name == "instruction":
        value, used = _instruction(columns)
    else:
        value, used = columns[name], {name}
    system = next((key for key in SYSTEMS if isinstance(columns.get(key, 0), str | None)), None)
    takes_system = isinstance(value, str) or name in ("instruction", "conversations")
    if system is None or not takes_system or _is_led_by_system(value) or _hold_prompts(chosen, rejected):
        return {"prompt": value}, used
    if (columns[system] or "").strip():
        turns = value if isinstance(value, list) else [{"role": "user", "content": value}]
        value = [{"role": "system", "content": columns[system]}, *turns]
    return {"prompt": value}, used | {system}


def _hold_prompts(chosen: Any, rejected: Any) -> bool:
    """Whether both answers are dialogues, messages or hh-rlhf's text, that hold the prompt themselves."""
    return all(is_dialogue(answer) or (isinstance(answer, str) and _has_turns(answer)) for answer in (chosen, rejected))


def _has_turns(text: str) -> bool:
    return HH_TURN.search(text) is not None


def _is_led_by_system(value: Any) -> bool:
    """Whether a list of messages has a system prompt of its own."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and first.get("role", first.get("from")) == "system"


def _instruction(columns: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """Alpaca's prompt: the instruction, its input on the next line, and earlier rounds before both."""
    parts = [columns["instruction"], columns.get("input")]
    joined = "\n".join(part for part in parts if part) if all(isinstance(p, str | None) for p in parts) else ""
    text = joined or parts[0]
    used = {"instruction", *({"input"} & columns.keys())}
    if not (rounds := columns.get(HISTORY)):
        return text, used | ({HISTORY} & columns.keys())
    if not isinstance(rounds, list) or not all(isinstance(r, list | tuple) and len(r) == 2 for r in rounds):
        raise BadRow("bad_messages", f"history is no list of question and answer: {excerpt(rounds)}")
    turns = [
        {"role": role, "content": text} for r in rounds for role, text in zip(("user", "assistant"), r, strict=True)
    ]
    return [*turns, {"role": "user", "content": text}], used | {HISTORY}
