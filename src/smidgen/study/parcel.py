"""What travels to machines without a common disk: a folder's files as arrays of bytes, and back into a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.data.literals import split_reference
from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.runs import atomic_folder, content_hash

# By name; arrays of uint8, since those are mapped and not copied where they arrive.
Files = Mapping[str, np.ndarray]

_OF_MODELS = {".safetensors", ".json", ".txt", ".model", ".jinja"}


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model on its way.

    Attributes:
        fingerprint: Of the weights that must arrive.
        files: What gives its folder's files where it is needed.
    """

    fingerprint: str
    files: object


def read_folder(folder: Path, *, suffixes: set[str] | None = None) -> dict[str, np.ndarray]:
    """The files that lie in a folder itself, by name; with `suffixes`, only those."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: np.fromfile(path, np.uint8) for path in files if not suffixes or path.suffix in suffixes}


def write_folder(folder: Path, files: Files) -> None:
    """Write what `read_folder` read; the folder appears whole or not at all.

    Raises:
        ValueError: A name that leads out of the folder.
    """
    with atomic_folder(folder) as part:
        for name, content in files.items():
            if Path(name).name != name:
                raise ValueError(f"expected the name of a file, got {name!r}")
            np.asarray(content).tofile(part / name)


def small_files(names: Iterable[str]) -> dict[str, bytes]:
    """The content of those names that are files here, such as a plugin, a list of patterns or FILE.py#NAME."""
    paths = {name: split_reference(name)[0] for name in names}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def placed(name: str, files: Mapping[str, bytes], folder: Path) -> str:
    """What to call a name here, where `small_files` of another machine came with it: its file is written."""
    if name not in files:
        return name
    path, variable = split_reference(name)
    own = folder / content_hash(name) / path.name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(files[name])
    return f"{own}#{variable}" if variable else str(own)


def model_files(lm: LanguageModel) -> dict[str, np.ndarray]:
    """A model's files as it was read from a folder; written anew where it was not."""
    folder = Path(lm.model.name_or_path or "")
    if lm.model.name_or_path and folder.is_dir():
        return read_folder(folder, suffixes=_OF_MODELS)
    with tempfile.TemporaryDirectory() as temporary:
        save_language_model(lm, Path(temporary) / "model", card="")
        return read_folder(Path(temporary) / "model", suffixes=_OF_MODELS)


def check_arrived(lm: LanguageModel, shipped: ShippedModel) -> LanguageModel:
    """The model, if it is the one that was sent.

    Raises:
        SmidgenError: Its weights are others.
    """
    if lm.fingerprint != shipped.fingerprint:
        raise SmidgenError(
            f"expected a model with fingerprint {shipped.fingerprint} to arrive, got {lm.fingerprint}: its files "
            "changed while the command ran. Leave the model's folder alone, and run the same command again."
        )
    return lm
