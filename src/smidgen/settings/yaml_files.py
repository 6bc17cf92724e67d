"""Settings as YAML: a file's, a command line's, and a run's own, which can be read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from smidgen.errors import UsageError

MOST_SETTINGS_BYTES = 200_000
_MOST_NODES = 100_000
# Longer, a number in YAML's base 60 takes minutes to read.
_MOST_NUMBER = 400


def load_yaml(text: str) -> Any:
    """What a YAML text holds, of plain types alone.

    A few lines of YAML can stand for billions of values, or for a list within itself, by names for what stood before;
    here every value counts as often as it is named.

    Raises:
        ValueError: Not YAML, a name given twice in one mapping, or more than a settings file can mean.
    """
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        said = "lists or mappings nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(said) from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    waiting, n_nodes = [root], 0
    while waiting:
        node = waiting.pop()
        n_nodes += 1
        if n_nodes > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES:,} values, or one that holds itself")
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if twice := {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ():
                raise ValueError(f"{min(twice)!r} twice, line {node.start_mark.line + 1} and below")
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif len(node.value) > _MOST_NUMBER and not node.tag.endswith(":str"):
            raise ValueError(f"a number of {len(node.value):,} characters, line {node.start_mark.line + 1}")


def yaml_value(text: str, item: str) -> Any:
    """The value of a setting on the command line; UsageError, naming the whole item, where it is no YAML."""
    try:
        return load_yaml(text)
    except ValueError:
        raise UsageError(f"expected a YAML value after =, got {text[:200]!r} in {item[:200]!r}; quote it") from None


def read_settings(path: Path | str) -> dict[str, Any]:
    """The settings in a YAML file; an empty file has none.

    Raises:
        UsageError: Not YAML, or not a mapping of names to values.
    """
    try:
        if (size := Path(path).stat().st_size) > MOST_SETTINGS_BYTES:
            raise ValueError(f"{size:,} bytes, above {MOST_SETTINGS_BYTES:,}")
        found = load_yaml(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path}: expected settings as YAML in UTF-8, got {' '.join(str(error).split())}. Correct it there."
        ) from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError(f"{path}: expected settings as `name: value` lines, got {type(found).__name__}: {found!r:.80}")
    return found


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`a.b=c` items as nested settings, values read as YAML; where two name the same setting, the later counts.

    Raises:
        UsageError: No `=`, an empty name, a value that is not YAML, or a name both of a setting and of a group.

    >>> parse_overrides(["seed=1", "recipe.steps=200", "recipe.schedule=linear"])
    {'seed': 1, 'recipe': {'steps': 200, 'schedule': 'linear'}}
    """
    settings: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        *groups, last = path = name.strip().replace("-", "_").split(".")
        if not equals or not all(path):
            raise UsageError(f"expected --set a.b=c, got {item!r}; name a setting, then = and its value")
        value = yaml_value(text, item)
        inner = settings
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{item!r} takes {group} for a group of settings, another --set for a single one")
        if isinstance(inner.get(last), dict):
            raise UsageError(f"{item!r} takes {last} for a single setting, another --set for a group of settings")
        inner[last] = value
    return settings


def plain_settings(value: Any) -> Any:
    """Settings as YAML and JSON know them: dataclasses and pydantic models as mappings, paths as texts.

    >>> plain_settings({"out": Path("runs"), "pairs": ("a", "b")})
    {'out': 'runs', 'pairs': ['a', 'b']}
    """
    if isinstance(value, BaseModel):
        return plain_settings({name: getattr(value, name) for name in type(value).model_fields})
    if is_dataclass(value) and not isinstance(value, type):
        return plain_settings({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain_settings(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_settings(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def settings_yaml(settings: Any) -> str:
    """Settings as the YAML that `read_settings` reads back."""
    # Escaped: of characters written as they are, YAML reads some line breaks back as spaces.
    return yaml.safe_dump(plain_settings(settings), sort_keys=False, allow_unicode=False)
