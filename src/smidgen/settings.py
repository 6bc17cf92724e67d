"""Settings come from signatures: a function's keyword-only arguments are its settings, declared nowhere else.

A `Registry` names functions of one kind (losses, selectors, benchmarks). Registration alone makes a function
known to the command line, to the docs' tables and to the contract tests.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import yaml
from annotated_types import Interval
from docstring_parser import DocstringStyle, parse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from smidgen.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

# Ranges are declared where the type is, and so stand in the schema, in messages and in what is refused.
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


def settings_model(function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only arguments of `function` as a strict pydantic model: types, defaults, nothing else allowed.

    What the docstring says of an argument becomes its description, in the JSON schema and on the command line.
    """
    hints = get_type_hints(function, include_extras=True)
    documented = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE).params
    said = {p.arg_name: p.description for p in documented}
    found: dict[str, Any] = {
        name: (hints.get(name, Any), Field(... if p.default is p.empty else p.default, description=said.get(name)))
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **found)


_registries: list[Registry[Any]] = []


def registries() -> tuple[Registry[Any], ...]:
    """Every registry of the modules that were imported so far."""
    return tuple(_registries)


class Registry(Generic[F]):
    """Functions of one kind, by name.

    Args:
        kind: What its functions are, for messages.
        combine: Makes one function of several and their weights, where that is defined: then a sum such as
            `a:key=value + 0.2*b` names a function too.

    >>> loss = Registry("loss")
    >>> @loss
    ... def dpo(logps, *, beta: float = 0.1): ...
    >>> loss.names()
    ['dpo']
    """

    def __init__(self, kind: str, *, combine: Callable[[Sequence[tuple[float, Any]]], F] | None = None) -> None:
        self.kind = kind
        self.combine = combine
        self._functions: dict[str, F] = {}
        _registries.append(self)

    def __call__(self, function: F) -> F:
        name = function.__name__
        if name in self._functions:
            raise ValueError(f"a {self.kind} named {name} is registered already; names must be distinct")
        self._functions[name] = function
        return function

    def __iter__(self) -> Iterator[F]:
        return iter(self._functions.values())

    def names(self) -> list[str]:
        return sorted(self._functions)

    def forget(self, module: str) -> None:
        """Unregister the functions of a module that did not run to its end, so that it can be run again."""
        for name in [name for name, function in self._functions.items() if function.__module__ == module]:
            del self._functions[name]

    def get(self, name: str) -> F:
        """The function registered as `name`; UsageError, listing the valid names, where there is none."""
        if name not in self._functions:
            raise UsageError(f"unknown {self.kind} {name!r}; expected one of: {', '.join(self.names())}")
        return self._functions[name]

    def bind(self, spec: str | Callable[..., Any], settings: Mapping[str, Any] | None = None) -> Callable[..., Any]:
        """A function with its settings fixed, from its name, `name:key=value,key=value`, or the callable itself.

        Raises:
            UsageError: An unknown name or setting, or a value of the wrong type.
        """
        if callable(spec):
            return functools.partial(spec, **(settings or {}))
        if self.combine and ("*" in spec or " + " in spec):
            return self.combine([(weight, self._bind_name(term, settings)) for weight, term in parse_sum(spec)])
        return self._bind_name(spec, settings)

    def _bind_name(self, spec: str, settings: Mapping[str, Any] | None) -> Callable[..., Any]:
        name, given = parse_spec(spec)
        function = self.get(name)
        given = {**given, **(settings or {})}
        try:
            checked = settings_model(function)(**given)
        except ValidationError as error:
            known = settings_model(function).model_fields
            problems = "; ".join(_said(e, known) for e in error.errors())
            valid = ", ".join(known) or "none"
            raise UsageError(f"{self.kind} {name}: {problems}. Its settings: {valid}") from None
        return functools.partial(function, **{key: getattr(checked, key) for key in type(checked).model_fields})


def _said(error: Mapping[str, Any], known: Mapping[str, FieldInfo]) -> str:
    """A validator's complaint in the words of whoever wrote the spec."""
    name = ".".join(map(str, error["loc"]))
    if name in known and error["type"] in _OUT_OF_RANGE:
        return out_of_range(name, known[name].rebuild_annotation(), error)
    words = {"extra_forbidden": "no such setting", "missing": "needed, and not given"}
    return f"{name}: {words.get(error['type']) or error['msg']}"


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


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name:key=value,key=value`, values read as YAML scalars.

    >>> parse_spec("margin_band:band=low,signed=false")
    ('margin_band', {'band': 'low', 'signed': False})
    """
    name, _, rest = spec.partition(":")
    settings: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"expected key=value after {name}:, got {item!r}")
        settings[key.strip()] = yaml_value(value, item)
    return name, settings


def parse_sum(spec: str) -> list[tuple[float, str]]:
    """Split a sum of weighted specs; plus signs stand between spaces, and a weight of 1 may be left out.

    >>> parse_sum("dpo:beta=0.1 + 0.2*nll")
    [(1.0, 'dpo:beta=0.1'), (0.2, 'nll')]
    """
    terms: list[tuple[float, str]] = []
    for term in re.split(r"\s\+\s", spec):
        weight, times, rest = term.partition("*")
        try:
            terms.append((float(weight), rest.strip()) if times else (1.0, term.strip()))
        except ValueError:
            raise UsageError(f"expected a number before * in {term!r}, got {weight!r}; write 0.2*nll") from None
    return terms


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


def settings_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function's settings."""
    return settings_model(function).model_json_schema()
