"""How much memory there is, before it is taken: a processor's process that takes too much is killed, not told.

What is free is the least of what the machine has, what every control group around this process allows, and what its
own limit of addresses leaves; and on top of it what this process has freed and keeps, which nobody else can have.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from smidgen.errors import SmidgenError
from smidgen.models.allocator import kept_memory

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Names of a group's limit, of what it uses, and of the parts of that which the kernel gives back when asked: files that
# are cached. Of version 2 and of version 1 of control groups.
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


@dataclass(frozen=True, slots=True, order=True)
class Room:
    """Memory that may still be taken.

    Attributes:
        free: Bytes.
        why: What limits it, in words.
    """

    free: int
    why: str


def room(device: torch.device, *, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Room | None:
    """What is free on a device; None where nobody says.

    Args:
        proc: Where the kernel tells of processes.
        cgroups: Where it tells of control groups.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What PyTorch has set aside and does not use can be taken as well.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Room(free + unused, f"of the {in_gb(total)} of {torch.cuda.get_device_name(device)}")
    if device.type != "cpu":
        return None
    found = min((*_of_machine(proc), *_of_groups(proc, cgroups), *_of_process(proc)), default=None)
    # For the kernel that is taken; a training whose second step takes what its first has freed would be refused.
    return found and replace(found, free=found.free + kept_memory())


def _of_machine(proc: Path) -> Iterator[Room]:
    lines = _text(proc / "meminfo").splitlines()
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" in found:
        yield Room(found["MemAvailable"], f"of the {in_gb(found['MemTotal'])} of this machine")


def _of_groups(proc: Path, cgroups: Path) -> Iterator[Room]:
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops, names = [cgroups, cgroups / "unified"], _V2
        elif "memory" in controllers.split(","):
            tops, names = [cgroups / "memory"], _V1
        else:
            continue
        for top in tops:
            # In a container, its own group may be all that is to be seen, at the top.
            inside = top / path.lstrip("/")
            for group in (inside, *inside.parents):
                if group.is_relative_to(top):
                    yield from _of_group(group, *names)


def _of_group(group: Path, limit_name: str, usage_name: str, cached_names: tuple[str, ...]) -> Iterator[Room]:
    limit, usage = (_text(group / name).strip() for name in (limit_name, usage_name))
    # Without a limit, version 2 says "max", and version 1 a number that no machine has.
    if limit.isdecimal() and usage.isdecimal() and int(limit) < 1 << 60:
        stat = dict(line.split()[:2] for line in _text(group / "memory.stat").splitlines())
        free = int(limit) - int(usage) + sum(int(stat.get(name, 0)) for name in cached_names)
        yield Room(max(0, free), f"within the limit of {in_gb(int(limit))} of the control group {group}")


def _of_process(proc: Path) -> Iterator[Room]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(proc / "self" / "statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        free = limit - int(pages[0]) * resource.getpagesize()
        yield Room(max(0, free), f"within the limit of {in_gb(limit)} of this process (ulimit -v)")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def in_gb(n: int) -> str:
    """Bytes for people.

    >>> in_gb(1_234_000_000)
    '1.23 GB'
    """
    return f"{n / 1e9:.2f} GB"


def refuse_beyond(needed: int, device: torch.device, *, what: str, do: str, found: Room | None = None) -> None:
    """Refuse what would not fit, before it is begun.

    Args:
        needed: Bytes, rather too few than too many: what fits must not be refused.
        device: Where.
        what: It is, to follow "memory for".
        do: Against it.
        found: What is free; None to look.

    Raises:
        SmidgenError: It needs more than there is.
    """
    found = found or room(device)
    if found and needed > found.free:
        raise SmidgenError(
            f"expected memory for {what}, at least {in_gb(needed)}; got {in_gb(found.free)} free {found.why}. {do}"
        )
