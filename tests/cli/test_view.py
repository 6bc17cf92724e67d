"""`smidgen view` serves this machine alone, ends as it is told to, and says what it cannot show."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.web.conftest import build_comparison, served

from smidgen.cli.app import main
from smidgen.runs import file_hash, write_text


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [{"prompt": f"p{i}", "chosen": "yes", "rejected": "no"} for i in range(3)]
    write_text(tmp_path / "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pairs.jsonl"


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--port", "70000"], ["--port", "-1"], ["--prot", "1"], []])
def test_wrong_flags_are_usage_errors(pairs, flags, capsys):
    assert main(["view", *([str(pairs)] if flags else []), *flags]) == 2
    assert "smidgen view --help" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "nothing-here", "note.txt"])
def test_nothing_to_show_is_a_usage_error_that_says_what_would_be(tmp_path, name, capsys):
    write_text(tmp_path / "note.txt", "no pairs\n")
    assert main(["view", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("expected") == 1


@pytest.mark.parametrize("content", ["", "{}\n", '{"prompt": "p"}\n'])
def test_a_file_without_a_pair_is_invalid_data(tmp_path, content, capsys):
    write_text(tmp_path / "empty.jsonl", content)
    assert main(["view", str(tmp_path / "empty.jsonl")]) == 3
    assert "empty.jsonl" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(pairs, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["view", str(pairs), "--no-browser", "--port", str(taken.getsockname()[1])]) == 2
    assert "Give another --port" in capsys.readouterr().err


def test_the_help_page_fits_a_screen(capsys):
    assert main(["view", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 27 and max(map(len, lines)) <= 80 and "--port" in "".join(lines)


def test_pages_and_reports_wait_for_no_library_of_models():
    script = (
        "import smidgen.web.app, smidgen.web.holding, smidgen.web.serve, smidgen.cli.report, smidgen.report.pdf, sys\n"
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_ctrl_c_is_how_it_ends_and_nothing_is_lost(tmp_path):
    folder = build_comparison(tmp_path / "comparison")
    before = file_hash(folder / "matches.jsonl")
    for _ in range(2):
        with served(folder, "--json") as server:
            assert httpx2.get(server.base).status_code == 403
            # Bound to the loopback alone: the machine's other addresses have nothing at this port.
            with pytest.raises(OSError), socket.create_connection(("127.0.0.2", server.port), timeout=2):
                pass
            server.process.send_signal(signal.SIGINT)
            out, err = server.process.communicate(timeout=10)
            assert server.process.returncode == 0 and "Traceback" not in err
            assert json.loads(out) == {"address": server.base, "run": str(folder)}
    assert file_hash(folder / "matches.jsonl") == before and (folder / "verdicts.sqlite").is_file()


@pytest.mark.slow
def test_ctrl_c_as_soon_as_the_address_is_known_ends_it_as_any_other(pairs):
    for _ in range(2):
        with served(pairs, "--json") as server:
            server.process.send_signal(signal.SIGINT)
            out, err = server.process.communicate(timeout=10)
            assert (server.process.returncode, "Traceback" in err) == (0, False), err
            assert json.loads(out)["address"] == server.base


@pytest.mark.slow
def test_a_given_port_is_taken_and_free_again_afterwards(pairs):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        with served(pairs, "--port", str(port)) as server:
            assert server.port == port
            other = subprocess.run(
                [sys.executable, "-m", "smidgen", "view", str(pairs), "--no-browser", "--port", str(port)],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert other.returncode == 2 and "Give another --port" in other.stderr
