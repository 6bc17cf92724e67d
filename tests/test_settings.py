"""Settings come from signatures, from YAML and from single overrides, and survive being written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.settings import (
    Registry,
    parse_overrides,
    plain_settings,
    read_settings,
    settings_model,
    settings_schema,
    settings_yaml,
)


def ranking(features: object, *, band: Literal["low", "high"] = "low", share: float = 0.5, n: int) -> str:
    """Rank.

    Args:
        features: No setting, since it is not keyword-only.
        band: Which band to keep.
        share: Share of pairs,
            0 to 1.
        n: How many.
    """
    return f"{band} {share} {n}"


names = st.text("abcdefgh_", min_size=1, max_size=8)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
settings_dicts = st.dictionaries(
    names, st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=8)
)


@given(settings_dicts)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(settings_yaml(settings), encoding="utf-8")
    assert read_settings(path) == settings


def test_groups_become_mappings_and_paths_texts() -> None:
    @dataclass(frozen=True, slots=True)
    class Recipe:
        steps: int | None = None
        rates: tuple[float, ...] = (0.1,)
        where: Path = field(default=Path("runs"))

    assert plain_settings({"recipe": Recipe()}) == {"recipe": {"steps": None, "rates": [0.1], "where": "runs"}}
    assert plain_settings(settings_model(ranking)(n=3)) == {"band": "low", "share": 0.5, "n": 3}


def test_an_empty_file_has_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert read_settings(path) == {}


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"just text", b"a: [1,", b"\xff\xfe", b"1: 2\n"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.yaml: expected"):
        read_settings(path)


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError):
        read_settings(path)


def test_overrides_nest_and_the_later_counts() -> None:
    given_items = ["a=1", "recipe.learning-rate=2e-5", "recipe.steps=null", "a=2", "names=[x, y]", "text='1'", "empty="]
    assert parse_overrides(given_items) == {
        "a": 2,
        "recipe": {"learning_rate": "2e-5", "steps": None},
        "names": ["x", "y"],
        "text": "1",
        "empty": None,
    }


@pytest.mark.parametrize("items", [["seed"], ["=1"], ["a..b=1"], ["a=[1"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]])
def test_an_override_that_means_nothing_is_refused(items: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--set|YAML"):
        parse_overrides(items)


def test_the_schema_is_the_signature() -> None:
    schema = settings_schema(ranking)
    assert list(schema["properties"]) == ["band", "share", "n"]
    assert schema["required"] == ["n"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["band"]["enum"] == ["low", "high"]
    assert schema["properties"]["share"] == {
        "default": 0.5,
        "description": "Share of pairs,\n0 to 1.",
        "title": "Share",
        "type": "number",
    }


def test_a_name_with_settings_becomes_a_function() -> None:
    registry: Registry = Registry("ranking")
    registry(ranking)
    assert registry.bind("ranking:band=high,n=3")(None) == "high 0.5 3"
    assert registry.bind(ranking, {"n": 4})(None) == "low 0.5 4"


def test_a_sum_is_combined_where_that_is_defined() -> None:
    registry: Registry = Registry("ranking", combine=lambda terms: lambda x: [(w, f(x)) for w, f in terms])
    registry(ranking)
    assert registry.bind("ranking:n=3 + -2*ranking:n=1,band=high")(None) == [(1, "low 0.5 3"), (-2, "high 0.5 1")]
    assert registry.bind("0.5 * ranking:n=3")(None) == [(0.5, "low 0.5 3")]
    assert registry.bind("ranking:n=3")(None) == "low 0.5 3"
    for spec in ("ranking:n=3 + ", "ranking:n=3 +ranking:n=3", "many*ranking:n=3"):
        with pytest.raises(UsageError):
            registry.bind(spec)
    plain: Registry = Registry("ranking")
    plain(ranking)
    with pytest.raises(UsageError, match=r"unknown ranking '2\*ranking'"):
        plain.bind("2*ranking:n=3")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("rankin:n=1", "unknown ranking 'rankin'; expected one of: ranking"),
        ("ranking:n=1,size=2", "size: .*Its settings: band, share, n"),
        ("ranking:n=many", "n: "),
        ("ranking", "n: "),
        ("ranking:n", "key=value"),
    ],
)
def test_a_wrong_specification_says_what_is_valid(spec: str, complaint: str) -> None:
    registry: Registry = Registry("ranking")
    registry(ranking)
    with pytest.raises(UsageError, match=complaint):
        registry.bind(spec)


def test_a_name_is_registered_once() -> None:
    registry: Registry = Registry("ranking")
    registry(ranking)
    with pytest.raises(ValueError, match="registered already"):
        registry(ranking)
