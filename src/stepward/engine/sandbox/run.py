"""Run: how a program in the sandbox ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_OUT_OF_TIME = ("wall time", "processor time")


@dataclass(frozen=True, kw_only=True)
class Run:
    """`exit`: the exit status, None where a signal (`signal`) ended the program. `out`, `err`: what it wrote, cut at the limit (`truncated`).

    `ended`: which limit ended it ("wall time", "processor time", "memory", "output", "files", "processes"), None where it ended by itself.
    `out_of_memory`: over the limit on memory, or refused some and said so last (Python's MemoryError). `wall_s`, `cpu_s`: seconds on the clock and of
    processors, of all its processes.
    `max_rss_mb`: MiB of its largest process. `files`: what was collected; `files_cut`: some were left out for their number or size.
    """

    exit: int | None
    signal: int | None
    out: bytes
    err: bytes
    truncated: bool
    ended: str | None
    wall_s: float
    cpu_s: float
    max_rss_mb: float
    files: Mapping[str, bytes] = field(default_factory=dict)
    files_cut: bool = False

    @property
    def ok(self) -> bool:
        """It ended by itself with status 0."""
        return self.exit == 0 and self.ended is None

    @property
    def timed_out(self) -> bool:
        return self.ended in _OUT_OF_TIME

    @property
    def out_of_memory(self) -> bool:
        return self.ended == "memory" or (not self.ok and self.err.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError"))

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.ended is not None:
            return f"ended for its {self.ended}"
        if self.out_of_memory:
            return "out of memory"
        return f"exit status {self.exit}" if self.signal is None else f"killed by signal {self.signal}"
