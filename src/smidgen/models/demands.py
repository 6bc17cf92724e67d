"""What a model's files may not ask of the library that loads them: to unpickle, fetch and run code, look elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from smidgen.errors import SmidgenError

_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w.-]+\.safetensors")


def refuse_demands(name: str) -> None:
    """Look at the small files of a model, and of the one that it is an adapter of, before anything is loaded.

    Raises:
        SmidgenError: Its index names weights that are not safetensors beside it, or its configuration names a kernel,
            which is code that would be fetched from a hub and run.
    """
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        config = _object(name, "config.json")
        for found in _kernels(config):
            _refuse(name, "config.json to name no code from elsewhere", found, "Take that setting out of it")
        own = config.get("transformers_weights")
        # It may name the weights themselves, which are not to be read as text.
        for index in {_INDEX, own if isinstance(own, str) and own.endswith(".json") else _INDEX}:
            shards = _object(name, index).get("weight_map")
            for shard in shards.values() if isinstance(shards, dict) else ():
                if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
                    _refuse(name, f"{index} to name safetensors files beside it", shard, "Convert the weights")
        if not config:
            name = str(_object(name, "adapter_config.json").get("base_model_name_or_path") or name)


def _refuse(name: str, expected: str, got: Any, do: str) -> None:
    raise SmidgenError(
        f"{name}: expected {expected}, got {got!r:.100}. {do} if you trust where the model comes from, or take another."
    )


def _object(name: str, file: str) -> dict[str, Any]:
    """A JSON object among a model's files, in a folder or on a hub; empty where there is none that can be read."""
    try:
        path = cached_file(name, file)
        found = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        # Whoever reads it next says what is wrong.
        return {}
    return found if isinstance(found, dict) else {}


def _kernels(config: Any, key: str = "") -> Iterator[str]:
    """Implementations that are names of repositories, of this configuration and of those within it."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _kernels(value, key if key.endswith("_implementation") else str(name))
    elif isinstance(config, str) and key.endswith("_implementation") and "/" in config:
        yield config
