"""Ranges of numbers, declared where a setting's type is: in the schema, in messages, and in what is refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from annotated_types import Interval
from pydantic import TypeAdapter, ValidationError

from smidgen.errors import UsageError

Share = Annotated[float, Interval(ge=0, le=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]
OpenShare = Annotated[float, Interval(gt=0, lt=1)]
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_RANGES = {
    ("minimum",): "of at least {minimum:g}",
    ("exclusiveMinimum",): "above {exclusiveMinimum:g}",
    ("minimum", "maximum"): "from {minimum:g} to {maximum:g}",
    ("minimum", "exclusiveMaximum"): "from {minimum:g} to below {exclusiveMaximum:g}",
    ("exclusiveMinimum", "maximum"): "above {exclusiveMinimum:g} and at most {maximum:g}",
    ("exclusiveMinimum", "exclusiveMaximum"): "above {exclusiveMinimum:g} and below {exclusiveMaximum:g}",
}


def is_out_of_range(error: Mapping[str, Any]) -> bool:
    """Whether a validator's complaint is of a number's range."""
    return error["type"] in _OUT_OF_RANGE


def out_of_range(name: str, annotation: Any, error: Mapping[str, Any]) -> str:
    """What a validator found wrong with a number: what was expected and what came.

    Args:
        name: Of the setting, as its user writes it.
        annotation: Its type, with its range.
        error: The first of a `ValidationError`.
    """
    kind = {"int_from_float": "as a whole number "}.get(error["type"], "")
    return f"expected {name} {kind}{range_words(annotation)}, got {error['input']}"


def range_words(annotation: Any) -> str:
    """The range that an annotation declares, in words; empty where it declares none.

    >>> range_words(PositiveShare)
    'above 0 and at most 1'
    """
    schema = TypeAdapter(annotation).json_schema()
    parts = (schema, *schema.get("anyOf", ()), schema.get("items", {}))
    bounds = {key: value for part in parts for key, value in part.items()}
    words = _RANGES.get(tuple(key for key in _BOUNDS if key in bounds), "")
    return words.format_map(bounds)


def check_ranges(settings: Any) -> None:
    """Hold a dataclass's values to the ranges that its annotations declare.

    Raises:
        UsageError: A number out of its range.
    """
    for name, (annotation, adapter) in _ranged_fields(type(settings)).items():
        value = getattr(settings, name)
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            said = out_of_range(name, annotation, error.errors()[0])
            raise UsageError(f"{said}; leave it out for its default.") from None


@functools.cache
def _ranged_fields(kind: type) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: (hint, TypeAdapter(hint)) for name, hint in hints.items() if range_words(hint)}
