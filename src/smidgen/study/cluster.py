"""A Ray cluster for one command: the user's, by its address, or one on this machine that ends with the command.

Whoever reaches a cluster without a token may run code on it, so a token is always asked for, nothing of a local
cluster listens on other than the loopback address, and no dashboard is started.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from smidgen.errors import SmidgenError, UsageError
from smidgen.study.scratch import hold, let_go

_OLDEST = (2, 52)  # the first with tokens
_CONNECT_SECONDS = 10
_PROBE_SECONDS = 60
_PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
# Ray would report dead workers on standard output, where a command's own outcome goes; the fleet says it better.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
# It keeps Ray from putting the machine's own address in the place of 127.0.0.1, whatever its name says.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Ray's own 15 has workers give way to all else that the machine does, this command included.
_AS_OTHERS = {"RAY_worker_niceness": "0"}


@contextmanager
def ray_cluster(address: str | None, *, processors: int) -> Iterator[None]:
    """Inside, this process is the driver of a Ray cluster.

    Args:
        address: Of the cluster's head, host:port, or "auto" for the one on this machine; None starts one here.
        processors: That a cluster started here has to give.

    Raises:
        UsageError: Ray is not installed or too old, an address that is none, or no token for it.
        SmidgenError: No cluster answers there, or it does not take this process.
    """
    check_installed()
    if address is None:
        with _local(processors):
            yield
        return
    with _environment({**_QUIET, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}):
        _check_token()
        _probe(address)
        ray = _import_ray(here_only=False)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _local(processors: int) -> Iterator[None]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _own_token()}
    with _environment({**_QUIET, **_LOOPBACK, **_AS_OTHERS, **token}):
        ray = _import_ray(here_only=True)
        folder = hold(f"ray-{secrets.token_hex(4)}")
        try:
            ray.init(
                num_cpus=processors,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder),
            )
            yield
        finally:
            ray.shutdown()
            let_go(folder)


def _import_ray(*, here_only: bool) -> ModuleType:
    """Ray, with the environment as it is now; it reads it when it is imported, for which others may have been first."""
    import ray
    from ray._private import ray_constants
    from ray._private.ray_logging import stdout_deduplicator
    from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]

    stdout_deduplicator.skip_re = re.compile(_QUIET["RAY_DEDUP_LOGS_SKIP_REGEX"])
    ray_constants.ENABLE_RAY_CLUSTER = not here_only
    Config.initialize("")
    return ray


def check_installed() -> None:
    """UsageError where Ray is not installed, or is too old to ask for a token."""
    try:
        found = version("ray")
    except PackageNotFoundError:
        raise UsageError(
            "--executor ray: expected Ray to be installed, found none; pip install 'smidgen[ray]', or leave "
            "--executor out to run on this machine alone."
        ) from None
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise UsageError(
            f"--executor ray: expected Ray {oldest} or newer, got {found}; older ones know no tokens, and whoever "
            "reaches them may run code. pip install -U 'smidgen[ray]'."
        )


@cache
def _own_token() -> str:
    # One for all clusters of a process: Ray reads it once.
    return secrets.token_hex(32)


def _check_token() -> None:
    """UsageError where Ray would find no token, or the user has not said that there is to be none."""
    places = (os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH"))
    default = Path.home() / ".ray" / "auth_token"
    if os.environ["RAY_AUTH_MODE"] == "token" and not any(places) and not default.exists():
        raise UsageError(
            "--address: expected the cluster's token in RAY_AUTH_TOKEN, in a file named by RAY_AUTH_TOKEN_PATH or in "
            "~/.ray/auth_token, found none. Copy it from the cluster's head; `ray get-auth-token` there prints it. "
            "RAY_AUTH_MODE=disabled goes without, where everybody who reaches the cluster may run code on it."
        )


def _probe(address: str) -> None:
    """Find out in a process that can be given up whether the cluster takes us: Ray itself tries for minutes."""
    if address != "auto":
        _check_answers(address)
    command = [sys.executable, "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SmidgenError(
            f"--address {address}: expected a Ray cluster's head, got no answer from it within {_PROBE_SECONDS} s. "
            "Give host:port as `ray start --head` printed it, and see that its token is this one."
        ) from None
    if done.returncode:
        raise SmidgenError(f"--address {address}: {_why_refused(done.stderr)}")


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--address: expected host:port of a Ray cluster's head, or auto, got {address!r}. The command runs on a "
            "machine of the cluster; ray:// addresses are for machines outside."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise SmidgenError(
            f"--address {address}: expected a Ray cluster's head, but nobody answers there ({error}). Start one with "
            "`ray start --head`, or leave --address out to use this machine."
        ) from None


def _why_refused(output: str) -> str:
    """What the cluster, or Ray on this machine, has against us, from the end of what Ray wrote."""
    if "Version mismatch" in output:
        said = " ".join(output[output.rindex("Version mismatch") :].split())
        return f"expected the same Python and Ray here and there. {said} Install the same on every machine."
    if "uthentication" in output or "UNAUTHENTICATED" in output or "Unauthenticated" in output:
        return (
            "expected the cluster's token, got another one: it refuses this. Copy it from the cluster's head, where "
            "`ray get-auth-token` prints it, into RAY_AUTH_TOKEN or ~/.ray/auth_token."
        )
    last = next((line for line in reversed(output.strip().splitlines()) if line.strip()), "no reason given")
    return (
        f"expected a cluster that this machine belongs to; Ray says: {last.strip()} "
        "Run `ray start --address` here first, and the command after it."
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Inside, the environment has these values too, for this process and those that Ray starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
