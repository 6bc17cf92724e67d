"""A dataset's files onto a hub: a new repository, private unless said otherwise; the token is the environment's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from smidgen.errors import SmidgenError, UsageError

TOKEN = "HF_TOKEN"
# What a hub puts into a repository that is otherwise empty.
_OWN_FILES = {".gitattributes"}


def check_push(name: str) -> str:
    """What can be said of a push before anything is written: the token it would use.

    Raises:
        UsageError: A name that is not owner/name, no token, or an environment that forbids hubs.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"expected --push-to owner/name, got {name!r}: {error}") from None
    if "/" not in name:
        raise UsageError(f"expected --push-to owner/name, got {name!r}; say whose dataset it is to be.")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UsageError(
            "expected a way to the hub for --push-to, got HF_HUB_OFFLINE; unset it, or leave --push-to out."
        )
    if not (token := os.environ.get(TOKEN, "").strip()):
        raise UsageError(
            f"expected a token that may write to {name} in the environment variable {TOKEN}, got none; set it for this "
            "command. It is neither asked for nor stored."
        )
    return token


def push_files(files: Mapping[str, Path], name: str, token: str, *, public: bool = False) -> str:
    """Put files into a hub's new or still empty dataset repository; its address.

    Args:
        files: Where each lies, by its path in the dataset.
        name: owner/name.
        token: See `check_push`.
        public: Whether everybody may read it.

    Raises:
        UsageError: The repository holds something, or is public where that was not asked for.
        SmidgenError: The hub refused, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    try:
        url = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        there = api.dataset_info(name)
        held = sorted({file.rfilename for file in there.siblings or ()} - _OWN_FILES)
        is_open = not there.private and not public
        if not held and not is_open:
            operations = [CommitOperationAdd(path, file) for path, file in files.items()]
            api.create_commit(name, operations, commit_message="Preference pairs from Smidgen", repo_type="dataset")
    except Exception as error:  # the client raises errors of many libraries, down to the network's
        said = str(error).replace(token, "***").strip().partition("\n")[0].rstrip(".")
        raise SmidgenError(
            f"expected the hub to take dataset {name}, got {type(error).__name__}: {said}. The folder is written; run "
            "the same command again once the hub can be reached and the token may write there."
        ) from None
    if held:
        raise UsageError(
            f"expected a new or empty dataset at {name}, got one that holds {', '.join(held[:3])}; nothing there was "
            "changed. Give another name."
        )
    if is_open:
        raise UsageError(
            f"expected a private dataset at {name}, got a public one; nothing there was changed. Give --public, or "
            "another name."
        )
    return str(url)
