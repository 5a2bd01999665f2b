"""What a tree of processes uses now, read from /proc."""

from __future__ import annotations

import os
from contextlib import suppress

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_MAX_PROCESSES = 4096


def in_use(root: int, spent: dict[int, float]) -> tuple[int, float, int]:
    """(bytes of memory in use that belong to no file, seconds of processor time, number) of all processes below `root`; what cannot be read counts 0.

    Memory that processes share counts for each of them. Time of processes that have ended counts as their parents' children's, or as it was last seen:
    `spent` keeps each process's own from call to call, since a parent that ignores its children is charged for none.
    """
    memory, time_s, seen = 0, sum(_ticks(root)[2:]) * _TICK_S, 0
    waiting = _children(root)
    while waiting and seen < _MAX_PROCESSES:
        pid = waiting.pop()
        seen += 1
        memory += _memory(pid)
        ticks = _ticks(pid)
        time_s += sum(ticks) * _TICK_S
        spent[pid] = max(spent.get(pid, 0.0), sum(ticks[:2]) * _TICK_S)
        waiting += _children(pid)
    return memory, max(time_s, sum(spent.values())), seen


def _memory(pid: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith((b"RssAnon:", b"RssShmem:")))
    return 0


def _ticks(pid: int) -> list[int]:
    """Clock ticks in user and system mode: its own two, then those of its children that have ended."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as file:
        return list(map(int, file.read().rpartition(b")")[2].split()[11:15]))
    return [0, 0, 0, 0]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def descendants(root: int) -> list[int]:
    """Every process below `root`."""
    found, waiting = list[int](), _children(root)
    while waiting and len(found) < _MAX_PROCESSES:
        found.append(waiting.pop())
        waiting += _children(found[-1])
    return found
