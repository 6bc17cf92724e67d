"""Markers: short texts before an answer that say how people judged it, so that a model can be asked for the better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smidgen.data.templates import Template, before_answer, with_suffix
from smidgen.data.tokens import TokenIds
from smidgen.errors import UsageError

Side = Literal["good", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """What stands before a good and before a bad answer; the first of each is the one to ask with.

    Attributes:
        good: Texts that mean the same.
        bad: The same for the other kind of answer.

    Raises:
        UsageError: No marker, an empty one, or one that stands for both.
    """

    good: tuple[str, ...] = (
        "A helpful answer:",
        "A good answer:",
        "An answer that people liked:",
        "What one should say:",
        "A reply of high quality:",
    )
    bad: tuple[str, ...] = (
        "An unhelpful answer:",
        "A bad answer:",
        "An answer that people disliked:",
        "What one should not say:",
        "A reply of low quality:",
    )

    def __post_init__(self) -> None:
        for side, texts in (("good", self.good), ("bad", self.bad)):
            if not texts or not all(text.strip() for text in texts):
                raise UsageError(f"expected at least one {side} marker, none of them empty; got {list(texts)}.")
        if both := sorted(set(self.good) & set(self.bad)):
            raise UsageError(f"expected good and bad markers to differ, got {both[0]!r} for both; rename one of them.")


EncodedMarkers = dict[Side, tuple[TokenIds, ...]]


def encode_markers(markers: Markers, template: Template, tokenizer: Any) -> EncodedMarkers:
    """Each side's markers as token ids, as `before_answer` writes them."""

    def encoded(texts: Sequence[str]) -> tuple[TokenIds, ...]:
        rows = tokenizer(
            [before_answer(template, text) for text in texts],
            add_special_tokens=False,
            split_special_tokens=not template.control_tokens,
        )
        return tuple(tuple(ids) for ids in rows["input_ids"])

    return {"good": encoded(markers.good), "bad": encoded(markers.bad)}


def how_to_ask(template: Template, markers: Markers) -> dict[Side, dict[str, str]]:
    """For each side its marker, the template that asks for such an answer, and the text to put after a prompt."""

    def told(marker: str) -> dict[str, str]:
        return {
            "marker": marker,
            "template": with_suffix(template, marker).name,
            "prompt_suffix": before_answer(template, marker),
        }

    return {"good": told(markers.good[0]), "bad": told(markers.bad[0])}
