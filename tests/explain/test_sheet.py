"""A sheet is its explanations in a row, each found by name with its settings; what is wrong says where."""

from __future__ import annotations

from typing import Any

import pytest

from smidgen.errors import UsageError
from smidgen.explain.base import as_data, explanation
from smidgen.explain.dpo import dpo
from smidgen.explain.sheet import sheet

PAIR = {"policy": [0.2, 0.3], "reference": [0.2, 0.4]}


def test_every_explanation_can_stand_on_a_sheet() -> None:
    assert explanation.names() == ["beta", "dpo", "objectives", "policy", "ratings", "reward"]


def test_a_sheet_is_its_explanations_in_order() -> None:
    found = sheet({
        "reward": {"chosen": 0.5, "rejected": 0.8},
        "dpo": [PAIR | {"beta": 2}, {"policy": [0.2, 0.3], "reference": [0.2, 0.2]}],
    })  # fmt: skip
    assert [one.name for one in found] == ["reward", "dpo", "dpo"]
    assert found[1] == dpo(policy=(0.2, 0.3), reference=(0.2, 0.4), beta=2)
    assert [section["explanation"] for section in as_data(found)["sections"]] == ["reward", "dpo", "dpo"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, "at least one section, got none; name one of: beta, dpo"),
        ({"dop": {}}, "sheet, dop: unknown explanation 'dop'; expected one of: beta, dpo"),
        ({"dpo": PAIR | {"betta": 1}}, "sheet, dpo: explanation dpo: betta: no such setting. Its settings: policy"),
        ({"dpo": {"policy": [0.2, 0.3]}}, "sheet, dpo: explanation dpo: reference: needed, and not given"),
        ({"dpo": PAIR | {"beta": -1}}, "sheet, dpo: expected beta above 0, got -1"),
        ({"dpo": 3}, "sheet, dpo: expected its settings"),
        ({"dpo": [PAIR, "x"]}, "sheet, dpo: expected its settings"),
        ({"reward": {"chosen": "high", "rejected": 1}}, "sheet, reward: .*number"),
    ],
)
def test_what_is_no_sheet(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sheet(sections)
