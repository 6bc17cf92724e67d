"""Workers on a Ray cluster: what one does, who does what next, and what happens when one dies.

The driver hands every worker one item at a time. An item whose worker died is done again by another one, and by no
more than a few: what kills every worker is not to be tried for ever. Only modules that were asked for Ray import this.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from smidgen import __version__
from smidgen.errors import SmidgenError, UsageError
from smidgen.models.load import LanguageModel, wanted_device
from smidgen.study.parcel import ShippedModel, model_files, write_folder
from smidgen.study.scratch import forget, hold, one_at_a_time

MOST_TRIES = 3
_START_SECONDS = 180
_CLEAN_SECONDS = 30
# Results must not depend on which machine computed them.
_SAME_EVERYWHERE = ("torch", "transformers", "tokenizers", "numpy")


class Job(Protocol):
    """Sent to every worker once, opened there, and then asked item by item.

    Attributes:
        kind: Of several jobs of one kind, a worker keeps the last one open.
    """

    @property
    def kind(self) -> str: ...

    def name(self, item: Any) -> str:
        """What to call an item before people."""
        ...

    def open(self, node: Node) -> Callable[[Any], Any]:
        """What does one item, with everything it needs in memory."""
        ...


class Node:
    """A worker's machine: a folder that all workers of a fleet on it share, filled once."""

    def __init__(self, fleet: str) -> None:
        self.folder = hold(fleet)
        self.own = self.folder / f"worker-{os.getpid()}"

    def once(self, name: str, sent: Any, write: Callable[[Path, Any], None]) -> Path:
        """A file or folder of the machine's; fetched and written by the first worker that wants it."""
        path = self.folder / name
        with one_at_a_time(self.folder):
            if not path.exists():
                write(path, ray.get(sent))
        return path

    def model(self, shipped: ShippedModel) -> Path:
        return self.once(f"model-{shipped.fingerprint}", shipped.files, write_folder)


class Worker:
    """A process on some machine of the cluster, with what it has opened in memory."""

    def __init__(self, fleet: str) -> None:
        self._node = Node(fleet)
        self._opened: dict[str, tuple[str, Callable[[Any], Any]]] = {}

    def hello(self) -> dict[str, Any]:
        """Where it is, and what it computes with."""
        return {"host": socket.gethostname(), "pid": os.getpid(), "versions": versions()}

    def do(self, kind: str, job: list[ray.ObjectRef], item: Any) -> Any:
        """Do one item of a job; of each kind, the job last asked for stays open."""
        name = job[0].hex()
        if self._opened.get(kind, ("", None))[0] != name:
            self._opened.pop(kind, None)
            self._opened[kind] = name, ray.get(job[0]).open(self._node)
        return self._opened[kind][1](item)


def versions() -> dict[str, str]:
    """What must be the same on every machine."""
    return {"smidgen": __version__, **{name: version(name) for name in _SAME_EVERYWHERE}}


class Fleet:
    """Workers of this command on the cluster that this process is connected to.

    Args:
        workers: Most at a time; 0 for as many as the cluster has processors for.
        threads: Processors of each.
        say: Called with a line whenever a worker died.
    """

    def __init__(self, *, workers: int, threads: int, say: Callable[[str], None]) -> None:
        self._workers, self._threads, self._say = workers, threads, say
        self._name = f"fleet-{os.urandom(4).hex()}"
        self._gpu = wanted_device().startswith("cuda")
        self._idle: deque[Any] = deque()
        self._starting: dict[ray.ObjectRef, Any] = {}
        self._running: dict[ray.ObjectRef, tuple[Any, int]] = {}
        self._shipped: dict[str, ShippedModel] = {}
        self._failed_starts = 0

    def ship(self, lm: LanguageModel) -> ShippedModel:
        """Put a model where every machine can fetch it once."""
        if lm.fingerprint not in self._shipped:
            self._shipped[lm.fingerprint] = ShippedModel(lm.fingerprint, ray.put(model_files(lm)))
        return self._shipped[lm.fingerprint]

    def put(self, value: Any) -> ray.ObjectRef:
        return ray.put(value)

    def results(self, job: Job, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Position and result of every item, as they come; items are begun in the order given.

        Raises:
            SmidgenError: An item's worker died each time it was tried, or no worker can be started. What is under way
                is waited for first.
            Exception: What the job itself raised.
        """
        sent = [ray.put(job)]
        waiting, tries, hopeless = deque(range(len(items))), [0] * len(items), ""
        try:
            while waiting or self._running:
                self._start(len(waiting) + len(self._running))
                while waiting and self._idle:
                    worker, i = self._idle.popleft(), waiting.popleft()
                    tries[i] += 1
                    self._running[worker.do.remote(job.kind, sent, items[i])] = worker, i
                for ref in ray.wait([*self._running, *self._starting], num_returns=1, timeout=1.0)[0]:
                    if ref in self._starting:
                        self._welcome(ref)
                        continue
                    i, result, death = self._ended(ref)
                    if death is None:
                        yield i, result
                    elif tries[i] < MOST_TRIES:
                        self._say(f"a worker died at {job.name(items[i])}; another one does it again.")
                        waiting.appendleft(i)
                    else:
                        hopeless = hopeless or f"{job.name(items[i])} ({_first_line(death)})"
                        waiting.clear()
        finally:
            # Whoever stops here does not wait for what is under way, and must not take it for the next job's.
            for worker, _ in self._running.values():
                ray.kill(worker)
            self._running.clear()
        if hopeless:
            raise SmidgenError(
                f"expected every piece of work to be done in {MOST_TRIES} tries, but {hopeless} ended its worker "
                "process each time, most likely for want of memory; what is finished is kept. Give machines with more "
                "memory, or fewer --workers, and run the same command again to go on."
            )

    def _ended(self, ref: ray.ObjectRef) -> tuple[int, Any, RayError | None]:
        """Position and result of an item that is done, or what its worker died of."""
        worker, i = self._running.pop(ref)
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            self._idle.append(worker)
            raise error.cause from None
        except RayError as error:
            ray.kill(worker)
            return i, None, error
        self._idle.append(worker)
        return i, result, None

    def close(self) -> None:
        """End all workers, and remove what they kept on their machines."""
        for worker in (*self._idle, *self._starting.values()):
            ray.kill(worker)
        self._idle.clear()
        self._starting.clear()
        here = ray.get_runtime_context().get_node_id()
        others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
        clean = cast(Any, ray.remote(num_cpus=0, max_retries=0)(forget))
        places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in others]
        asked = [clean.options(scheduling_strategy=place).remote(self._name) for place in places]
        forget(self._name)
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=_CLEAN_SECONDS)

    def _start(self, wanted: int) -> None:
        """Start as many workers as there is work and room for."""
        alive = len(self._idle) + len(self._starting) + len(self._running)
        for _ in range(min(wanted, self._room()) - alive):
            worker = (
                ray.remote(Worker)
                .options(
                    num_cpus=self._threads,
                    num_gpus=int(self._gpu),
                    max_restarts=0,
                    max_task_retries=0,
                    runtime_env={"env_vars": self._environment()},
                )
                .remote(self._name)
            )
            self._starting[cast(Any, worker).hello.remote()] = worker
            self._waited_since = time.monotonic()
        nobody = not self._idle and not self._running
        if nobody and self._starting and time.monotonic() - self._waited_since > _START_SECONDS:
            raise SmidgenError(
                f"expected a worker on the Ray cluster, got none within {_START_SECONDS} s; others may hold its "
                f"processors. Wait for them, or give fewer --threads than {self._threads}."
            )

    def _room(self) -> int:
        """Workers that the cluster as it is now can hold, at most as many as wanted.

        Raises:
            UsageError: None.
        """
        found = ray.cluster_resources()
        room = sum(int(node["Resources"].get("CPU", 0)) // self._threads for node in ray.nodes() if node["Alive"])
        if self._gpu:
            room = min(room, int(found.get("GPU", 0)))
        if not room:
            wanted = f"{self._threads} processors" + (" and a GPU" if self._gpu else "")
            raise UsageError(
                f"expected a machine with {wanted} for a worker, got a cluster with {int(found.get('CPU', 0))} "
                f"processors and {int(found.get('GPU', 0))} GPUs. Give fewer --threads, or add machines."
            )
        return min(self._workers or room, room)

    def _environment(self) -> dict[str, str]:
        # All models are sent, so nobody has to ask a hub; of several GPUs, Ray shows each worker its own alone.
        return {
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
            "SMIDGEN_DEVICE": "cuda" if self._gpu else wanted_device(),
        }

    def _welcome(self, ref: ray.ObjectRef) -> None:
        """Take a worker in once it has said what it computes with."""
        worker = self._starting.pop(ref)
        try:
            found = ray.get(ref)
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts < MOST_TRIES:
                return
            raise SmidgenError(
                f"expected a worker to start on the Ray cluster, but {self._failed_starts} in a row ended at once: "
                f"{_last_line(error)}. Install the same smidgen on every machine: pip install 'smidgen[ray]'."
            ) from None
        self._failed_starts = 0
        self._idle.append(worker)
        here = versions()
        if other := {name: theirs for name, theirs in found["versions"].items() if theirs != here[name]}:
            mine = ", ".join(f"{name} {here[name]}" for name in other)
            theirs = ", ".join(f"{name} {found}" for name, found in other.items())
            raise SmidgenError(
                f"expected {mine} on every machine of the cluster, got {theirs} on {found['host']}: results would "
                "depend on who computed them. Install the same versions everywhere."
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()
