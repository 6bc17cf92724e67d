"""`settings schema`: of every command and of all that is registered, as JSON schema that a validator takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from smidgen.assets import COMPLETION_FLAGS
from smidgen.cli.schema import all_commands, command_schema, registries
from smidgen.errors import UsageError
from smidgen.settings import OpenShare, PositiveShare, Share, check_ranges, range_words, settings_schema
from smidgen.training.recipe import Recipe

COMMANDS = tuple(json.loads(COMPLETION_FLAGS.read_text(encoding="utf-8"))["commands"])
# Numbers that may be anything: rewards, scores, and probabilities that may be given as logarithms.
ANY_NUMBER = {"policy", "reference", "rewards", "rest_reward", "scores", "chosen", "rejected"}
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    """Every schema there is, by name."""
    root, names = all_commands()
    found = {name: command_schema(root, name) for name in names}
    return found | {f"{r.kind} {f.__name__}": settings_schema(f) for r in registries() for f in r}


def settings_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name, schema and whether it is required, of each setting in a schema and in its groups."""
    for name, found in schema["properties"].items():
        if "properties" in found:
            yield from settings_of(found)
        else:
            yield name, found, name in schema.get("required", ())


def test_every_schema_is_one_and_no_command_is_missing(schemas: dict[str, dict[str, Any]]) -> None:
    assert set(COMMANDS) <= set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False


def test_every_setting_has_a_description_a_type_and_a_default(
    schemas: dict[str, dict[str, Any]],
) -> None:
    for where, schema in schemas.items():
        for name, found, required in settings_of(schema):
            assert found.get("description"), (where, name)
            assert {"type", "anyOf", "enum", "const"} & set(found), (where, name)
            in_place_of_text = (where, name) == ("train sft", "pairs")
            assert required or "default" in found or in_place_of_text, (where, name)
            if "default" in found:
                Draft202012Validator(found).validate(found["default"])


def test_every_number_has_its_range(schemas: dict[str, dict[str, Any]]) -> None:
    for where, schema in schemas.items():
        for name, found, _ in settings_of(schema):
            for part in (found, found.get("items", {}), *found.get("anyOf", ())):
                if part.get("type") in ("integer", "number") and name not in ANY_NUMBER:
                    assert BOUNDS & set(part), (where, name)


def test_a_wrong_value_is_refused_by_the_schema(schemas: dict[str, dict[str, Any]]) -> None:
    given = {"pairs": ["p.jsonl"], "model": "m", "out": "o"}
    check = Draft202012Validator(schemas["train dpo"])
    assert check.is_valid(given)
    for wrong in ({"lora_rank": 2.5}, {"beta": 0}, {"bta": 1}, {"schedule": "wavy"}, {"label_smoothing": 0.5}):
        assert not check.is_valid(given | wrong), wrong


def test_ranges_are_said_in_words() -> None:
    assert [range_words(kind) for kind in (Share, PositiveShare, OpenShare, float)] == [
        "from 0 to 1",
        "above 0 and at most 1",
        "above 0 and below 1",
        "",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"lora_rank": 2.5}, "whole number of at least 0, got 2.5"), ({"warmup_steps": -1}, "of at least 0, got -1")],
)
def test_a_dataclass_is_held_to_its_ranges(wrong: dict[str, Any], message: str) -> None:
    check_ranges(Recipe())
    with pytest.raises(UsageError, match=message):
        Recipe(**wrong)
