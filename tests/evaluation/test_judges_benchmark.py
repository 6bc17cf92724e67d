"""The benchmark of judges against people: labels are what they say, and an interval is over pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.judges import read_pairs, summary

from smidgen.errors import InvalidData
from smidgen.evaluation.verdicts import TIE, WIN, Verdict


def write(folder: Path, *labels: object) -> None:
    rows = [{"input": "Name a tree.", "output_1": "Oak.", "output_2": "Rose.", "label": label} for label in labels]
    (folder / "LLMBar_Natural.json").write_text(json.dumps(rows))


def test_labels_are_one_and_two(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    assert read_pairs(tmp_path)[1] == [1.0, 0.0]
    for wrong in (0, 3, "1", None):
        write(tmp_path, 1, wrong)
        with pytest.raises(InvalidData, match=r"label of 1 or 2.*Correct or remove"):
            read_pairs(tmp_path)


def test_the_two_replies_on_a_pair_are_not_two_draws() -> None:
    def verdict(number: int, orders: str) -> Verdict:
        flipped, outcome = orders in ("1 1", "2 2"), WIN if orders == "1 2" else TIE
        place = {"number": number, "letter": "A", "model_a": "a", "model_b": "b"}
        return Verdict(judge="chat", outcome=outcome, flipped=flipped, orders=orders, **place)  # pyright: ignore[reportArgumentType]

    # Half of the pairs always the first, half always the second: each pair's two replies are the same one.
    by_place = summary([verdict(i, "1 1" if i % 2 else "2 2") for i in range(20)], [1.0] * 20)["took_the_first"]
    by_text = summary([verdict(i, "1 2") for i in range(20)], [1.0] * 20)["took_the_first"]
    assert by_place["mean"] == by_text["mean"] == 0.5
    # A Wilson interval on 40 replies is .30 wide for both; over 20 pairs the first is wider, the second narrower.
    assert by_place["high"] - by_place["low"] > 0.4 > 0.25 > by_text["high"] - by_text["low"]
