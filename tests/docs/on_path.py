"""`smidgen` as the blocks of a page find it on PATH: the command line of this project, already imported.

Standard library only, and little of it: it starts for every command. What the comment before a block asks for comes
in the environment: BLOCK_MODE here, flags in BLOCK_FLAGS for the waiting process.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    """Hand the command to the waiting process, with this one's streams; its exit code."""
    mode = os.environ.get("BLOCK_MODE")
    interrupted = mode == "interrupted"
    reader, writer = os.pipe() if interrupted else (-1, 2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.environ["BLOCK_SOCKET"])
        request = {"argv": sys.argv[1:], "folder": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, writer])
        with connection.makefile() as answers:
            process = int(answers.readline())
            signal.signal(signal.SIGTERM, lambda *_: os.kill(process, signal.SIGTERM))
            if interrupted:
                os.close(writer)
                _interrupt_once_served(reader, process)
            code = int(answers.read() or 1)
            return 0 if (mode, code) == ("with rows left out", 4) else code


def _interrupt_once_served(reader: int, process: int) -> None:
    from urllib.request import HTTPCookieProcessor, build_opener

    browser = build_opener(HTTPCookieProcessor())  # the address lets one browser in, by a cookie

    with open(reader, encoding="utf-8") as lines:
        for line in lines:
            sys.stderr.write(line)
            if line.startswith("http://127.0.0.1:"):
                with browser.open(line.strip()) as page:
                    page.read()
                os.kill(process, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
