"""Functions by name, and their keyword-only arguments as settings: declared there and nowhere else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, get_type_hints

from docstring_parser import DocstringStyle, parse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from smidgen.errors import UsageError
from smidgen.settings.ranges import is_out_of_range, out_of_range
from smidgen.settings.specs import parse_spec, parse_sum

F = TypeVar("F", bound=Callable[..., Any])
_registries: list[Registry[Any]] = []


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


def settings_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function's settings."""
    return settings_model(function).model_json_schema()


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
    if name in known and is_out_of_range(error):
        return out_of_range(name, known[name].rebuild_annotation(), error)
    words = {"extra_forbidden": "no such setting", "missing": "needed, and not given"}
    return f"{name}: {words.get(error['type']) or error['msg']}"
