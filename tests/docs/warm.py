"""The command line behind a socket: imported once, forked for every command, so that each takes its own time only.

Importing takes seconds, most commands on small data one. A forked command is a process of its own, with its own
folder, environment, streams and exit code, as if it had been started from the shell.

    python -m tests.docs.warm SOCKET     # imports everything, then serves until its standard input is closed

A request is one JSON object and three file descriptors. A command answers with its process id, a newline, and at its
end its exit code; a Python session with a JSON object for every piece of code.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
import linecache
import os
import pkgutil
import select
import shlex
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable
from importlib import import_module
from typing import Any

from tests.docs.commands import known_flags

LONGEST = 1 << 20
# These import Ray, which reads its environment at that moment: commands set it before.
WHEN_NEEDED = {"smidgen.study.execute_ray", "smidgen.study.fleet"}


def serve(path: str) -> None:
    """Fork a process for every request, until standard input is closed."""
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: each tells its exit code itself
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                data, streams, *_ = socket.recv_fds(connection, LONGEST, 3)
                if os.fork() == 0:
                    listener.close()
                    _become(connection, json.loads(data), streams)
                for stream in streams:
                    os.close(stream)
    # Whatever is still at work goes, too; and an interpreter that has imported everything takes seconds to take down.
    os.killpg(0, signal.SIGKILL)


def _import_everything() -> None:
    import smidgen

    for module in pkgutil.walk_packages(smidgen.__path__, "smidgen."):
        if not module.name.endswith("__main__") and module.name not in WHEN_NEEDED:
            import_module(module.name)
    assert "ray" not in sys.modules, "expected Ray to be imported by commands alone; name its module in WHEN_NEEDED"


def _become(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
    """Be the process that was asked for, and end as it does."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = 1
    try:
        if "argv" in request:
            connection.sendall(f"{os.getpid()}\n".encode())
            code = _command(request["argv"])
            sys.stdout.flush()
            connection.sendall(str(code).encode())
        else:
            code = _session(connection)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _command(argv: list[str]) -> int:
    from smidgen.cli import main

    argv = [*argv, *known_flags(argv, shlex.split(os.environ.get("BLOCK_FLAGS", "")))]
    sys.argv = ["smidgen", *argv]
    try:
        return main(argv)
    except SystemExit as error:
        return int(error.code or 0)


def _session(connection: socket.socket) -> int:
    """Run pieces of Python in one namespace, as they come."""
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.path.insert(0, "")
    with connection.makefile("r", encoding="utf-8") as pieces:
        for line in pieces:
            answer = _run(json.loads(line), names)
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall((json.dumps(answer) + "\n").encode())
    return 0


def _run(piece: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Run code that stands at a line of a page; where and how it failed, if it did."""
    page, line = piece["page"], piece["line"]
    # Blank lines put the code where it stands, so that tracebacks and errors of syntax name the page's own lines.
    code = "\n" * (line - 1) + piece["code"]
    linecache.cache[page] = (len(code), None, io.StringIO(code).readlines(), page)
    try:
        compiled = compile(code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)  # as a notebook's cell
        if (awaited := eval(compiled, names)) is not None:
            asyncio.run(_finish(awaited))
    except SyntaxError as error:
        return {"failed": error.lineno or line, "said": traceback.format_exc(limit=0)}
    except BaseException as error:
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == page]
        return {"failed": frames[0] if frames and frames[0] else line, "said": traceback.format_exc()}
    return {"failed": None, "said": ""}


async def _finish(awaited: Awaitable[None]) -> None:
    await awaited


if __name__ == "__main__":
    serve(sys.argv[1])
