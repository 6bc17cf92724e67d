"""A push to a hub is refused before anything is written, or says what the hub said; it never writes over a dataset."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from smidgen.data.hub import TOKEN, check_push
from smidgen.errors import UsageError

SECRET = "hf_not_to_be_printed"
ROW = '{"prompt": "q", "chosen": "a", "rejected": "b"}\n'


@pytest.mark.parametrize("name", ["pairs", "../x", "a b/c", "a/b/c", "", "a//b", "a/b.git"])
def test_a_name_that_no_hub_takes_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected --push-to owner/name, got"):
        check_push(name)


def test_without_a_token_or_a_way_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="got HF_HUB_OFFLINE; unset it"):
        check_push("me/pairs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert check_push("me/pairs") == SECRET
    for empty in (None, " "):
        monkeypatch.delenv(TOKEN) if empty is None else monkeypatch.setenv(TOKEN, empty)
        with pytest.raises(UsageError, match=r"environment variable HF_TOKEN, got none.*neither asked for nor stored"):
            check_push("me/pairs")


@contextmanager
def hub(status: int, files: list[str], *, private: bool = True) -> Iterator[tuple[str, list[tuple[str, str, dict]]]]:
    """A hub on this machine that answers every request with `status`, or lists these files; what it was asked."""
    asked: list[tuple[str, str, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            sent = json.loads(body) if body.startswith(b"{") and b"\n" not in body.strip() else {}
            asked.append((self.command, self.path, sent))
            siblings = [{"rfilename": path} for path in files]
            info = {
                "id": "me/pairs",
                "private": private,
                "siblings": siblings,
                "tags": [],
                "url": "http://127.0.0.1/datasets/me/pairs",
            }
            found = info if status == 200 else {"error": "not yours"}
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_HEAD = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def taking_hub() -> Iterator[tuple[str, dict[str, bytes], list[dict]]]:
    """A hub on this machine that takes a dataset: its address, the files it holds, and what was asked of it."""
    held: dict[str, bytes] = {}
    created: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            assert self.headers["Authorization"] == f"Bearer {SECRET}"
            self.send_json(self.found(body))

        def found(self, body: bytes) -> dict:
            if self.path == "/api/repos/create":
                created.append(json.loads(body))
                return {"url": "http://127.0.0.1/datasets/me/pairs", "id": "me/pairs"}
            if self.path.startswith("/api/datasets/me/pairs/preupload/main"):
                asked = json.loads(body)["files"]
                return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            if self.path.startswith("/api/datasets/me/pairs/commit/main"):
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        held[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                return {
                    "success": True,
                    "commitOid": "1" * 40,
                    "commitUrl": "http://127.0.0.1/datasets/me/pairs/commit/1",
                }
            siblings = [{"rfilename": path} for path in held]
            return {"id": "me/pairs", "private": True, "siblings": siblings, "tags": [], "sha": "0" * 40}

        def send_json(self, found: dict) -> None:
            content = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", held, created
    finally:
        server.shutdown()
        server.server_close()


def push(endpoint: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the hub's client reads its address when it is imported."""
    (folder / "pairs.jsonl").write_text(ROW)
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, TOKEN: SECRET}
    command = ["export", "pairs.jsonl", "--format", "trl", "--out", "out", "--push-to", "me/pairs", *flags]
    done = subprocess.run(
        [sys.executable, "-m", "smidgen", *command], cwd=folder, env=environment, text=True, capture_output=True
    )
    assert SECRET not in done.stdout + done.stderr
    assert not any(SECRET in path.read_text() for path in folder.rglob("*") if path.is_file())
    return done


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_leaves_the_folder_and_one_error(tmp_path: Path) -> None:
    done = push("http://127.0.0.1:9", tmp_path)
    assert done.returncode == 1
    assert "expected the hub to take dataset me/pairs, got" in done.stderr
    assert "run the same command again" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "out" / "train.jsonl").is_file()


@pytest.mark.slow
def test_a_hub_that_refuses_is_quoted(tmp_path: Path) -> None:
    with hub(403, []) as (endpoint, asked):
        done = push(endpoint, tmp_path)
    assert done.returncode == 1
    assert "403" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked[0][2]["visibility"] == "private"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--public",)])
def test_a_dataset_that_holds_something_is_left_as_it_is(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with hub(200, [".gitattributes", "data.csv"]) as (endpoint, asked):
        done = push(endpoint, tmp_path, *flags)
    assert done.returncode == 2
    assert "expected a new or empty dataset at me/pairs, got one that holds data.csv" in done.stderr
    assert asked[0][2]["visibility"] == ("public" if flags else "private")
    assert not any("commit" in path or "upload" in path for _, path, _ in asked)


@pytest.mark.slow
def test_an_empty_dataset_that_is_public_already_is_not_filled_unasked(tmp_path: Path) -> None:
    with hub(200, [".gitattributes"], private=False) as (endpoint, asked):
        done = push(endpoint, tmp_path)
    assert done.returncode == 2
    assert "expected a private dataset at me/pairs, got a public one" in done.stderr
    assert not any("commit" in path or "upload" in path for _, path, _ in asked)


@pytest.mark.slow
def test_a_hub_gets_the_files_as_they_lie_in_the_folder_and_not_twice(tmp_path: Path) -> None:
    with taking_hub() as (endpoint, held, created):
        done = push(endpoint, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "datasets/me/pairs" in done.stdout
        first = dict(held)
        again = push(endpoint, tmp_path)
        assert again.returncode == 2
        assert held == first
    assert created[0]["visibility"] == "private"
    own = {path.name for path in (tmp_path / "out").iterdir()} & set(first)
    assert {"README.md", "train.jsonl"} <= own
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in first.items())
