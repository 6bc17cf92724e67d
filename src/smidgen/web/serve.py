"""Serving the pages: on this machine's loopback only, until Ctrl-C; nothing that was written is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from smidgen.errors import UsageError
from smidgen.web.door import Door, new_token

LOOPBACK = "127.0.0.1"
# The address holds nothing that HTML would read otherwise.
_LEADS_ON = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Smidgen</title>
<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={address}">
<p><a href="{address}">Open the pages</a></p></html>
"""


def serve(app: ASGIApp, *, port: int = 0, browser: bool = True, say: Callable[[str], None]) -> str:
    """Serve `app` behind a door until the process is interrupted.

    Args:
        app: The pages.
        port: To listen on; 0 takes one that is free.
        browser: Whether to open the address in the user's browser.
        say: Told the address, which lets one browser in, once.

    Returns:
        The address without its token, for the record.

    Raises:
        UsageError: The port is taken, or may not be used.
    """
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        token = new_token()
        address = f"http://{LOOPBACK}:{port}/"
        config = uvicorn.Config(
            Door(app, port=port, token=token),
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        # Not after the address is known: an interrupt would wait for what is still being imported.
        config.load()
        # An interrupt is how it is meant to end, and a request to terminate ends it alike; the server has finished its
        # requests by then.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as until_the_end:
            # Whoever has read the address may interrupt at once.
            say(f"{address}?token={token}")
            # The socket listens already: a browser that is quicker than the server waits.
            if browser:
                webbrowser.open(until_the_end.enter_context(_leading_to(f"{address}?token={token}")).as_uri())
            uvicorn.Server(config).run(sockets=[listener])
        return address


@contextlib.contextmanager
def _leading_to(address: str) -> Iterator[Path]:
    """A page that leads to an address, which only this user can read; removed at the end.

    A command line, as of the browser that is opened, can be read by every user of the machine.
    """
    handle, name = tempfile.mkstemp(prefix="smidgen-", suffix=".html")  # of mode 0600
    page = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_LEADS_ON.format(address=address))
        yield page
    finally:
        page.unlink(missing_ok=True)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"expected port {port} at {LOOPBACK} to be free, got: {error.strerror}. Give another --port, or none."
        ) from error
    return listener
