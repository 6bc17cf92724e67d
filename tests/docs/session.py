"""One Python namespace for a page, in a process of its own: what a page registers or changes stays there."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.pages import Block

SECONDS = 500


@contextmanager
def python_session(folder: Path, environment: dict[str, str]) -> Iterator[Callable[[Block, str], None]]:
    """Runs blocks, each as the code that is given beside it, one after the other in one namespace.

    The function raises PageError, with the line of the page and all that was printed, where a block raises.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, tempfile.TemporaryFile() as log:
        connection.settimeout(SECONDS)
        connection.connect(environment["BLOCK_SOCKET"])
        request = {"folder": str(folder), "environment": environment}
        with Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), log.fileno(), log.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], streams)
        with connection.makefile("r", encoding="utf-8") as answers:

            def run(block: Block, code: str) -> None:
                piece = {"page": block.page, "line": block.line, "code": code}
                connection.sendall((json.dumps(piece) + "\n").encode())
                answer = json.loads(answers.readline() or '{"failed": 0, "said": "the process ended"}')
                if answer["failed"] is not None:
                    log.seek(0)
                    printed = log.read().decode(errors="replace")
                    raise block.error(f"expected this to run, got:\n{printed}{answer['said']}", answer["failed"])

            yield run
