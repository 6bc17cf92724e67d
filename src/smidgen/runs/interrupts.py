"""Ctrl-C: once, what is being written or loaded is finished and the command ends; twice, everything ends at once.

Imports nothing that takes time, since a user may press it before anything has begun.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
INTERRUPTED = 130
# How often it is looked whether what was being imported has been loaded.
_AGAIN_SECONDS = 0.02


@dataclass(slots=True)
class _State:
    """Of this process; the main thread's, since signals are delivered there.

    Attributes:
        presses: Of Ctrl-C since the command began.
        writing: How many writes are under way, one inside the other.
        waiting: Whether an interrupt waits for them to end.
        instead: What to do at the first press where an exception would do harm; the innermost counts.
    """

    presses: int = 0
    writing: int = 0
    waiting: bool = False
    instead: list[Callable[[], object]] = field(default_factory=list)


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first Ctrl-C raises KeyboardInterrupt once nothing is being written or imported; the second ends all.

    Before the command has `begun`, there is nothing to wait for: one that comes during an import ends the process.

    Nothing changes where the process was started deaf to it, as jobs in the background are, or in another thread. Once
    it was pressed, it stays so: a second press must be heard while threads and workers end.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual in (signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.presses, _state.waiting = 0, False
    signal.signal(signal.SIGINT, _pressed)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is _heard:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if not _state.presses and signal.getsignal(signal.SIGINT) is _pressed:
            signal.signal(signal.SIGINT, usual)


def begun(work: Callable[[], T]) -> T:
    """Call what a command is there for: it may have made things, so that an interrupt lets it put them away."""
    return work()


def _pressed(number: int, frame: FrameType | None) -> None:
    _state.presses += 1
    if _state.presses > 1:
        _leave("stopped at once; run the same command again")
    importing, has_begun = _look(frame)
    if importing and not has_begun and not _state.writing:
        _leave("interrupted before it began; run the same command again")
    _heard(number, frame)


def _heard(number: int, frame: FrameType | None) -> None:
    """Heed an interrupt, or be called again where libraries are being loaded, which complain of it or swallow it."""
    if _state.writing:
        _state.waiting = True
    elif _look(frame)[0]:
        signal.signal(signal.SIGALRM, _heard)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    elif _state.instead:
        _state.instead[-1]()
    else:
        raise KeyboardInterrupt


def _look(frame: FrameType | None) -> tuple[bool, bool]:
    """Whether something is being imported, and whether the command has begun; what stands around that is not ours."""
    importing = False
    while frame is not None:
        if frame.f_code is begun.__code__:
            return importing, True
        importing = importing or frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return importing, False


def _leave(message: str) -> None:
    # A progress bar may have hidden the cursor.
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    with suppress(OSError):
        if "--json" in sys.argv:
            error = f'{{"kind": "interrupted", "message": "{message}"}}'
            os.write(1, f'{{"error": {error}, "exit_code": {INTERRUPTED}}}\n'.encode())
        os.write(2, f"{cursor}smidgen: {message}\n".encode())
    os._exit(INTERRUPTED)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside is a write that a first Ctrl-C does not break off; it is heard when the outermost such write has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.writing += 1
    try:
        yield
    finally:
        _state.writing -= 1
    if _state.waiting and not _state.writing:
        _state.waiting = False
        raise KeyboardInterrupt


@contextmanager
def deaf_children() -> Iterator[None]:
    """Inside, processes that are started never hear Ctrl-C, which a terminal sends to them too: their parent ends them.

    One that comes meanwhile is heard here on leaving.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where Ctrl-C cancels the work: what waits for an answer is ended in order, then all ends.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    import asyncio

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        _state.instead.append(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            return await work
        finally:
            _state.instead.pop()

    before = _state.presses
    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        if _state.presses == before:
            raise
        raise KeyboardInterrupt from None
