"""Limits: what one run may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stepward.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use; a run that goes over a limit is ended, or the call that would have is refused.

    `wall_s`: seconds on the clock. `cpu_s`: seconds of processor time, of each process (whole seconds, rounded up) and of all together. `memory_mb`: MiB of
    address space of each process, and of memory in use by all together. `output_kb`: KiB of each of standard output and standard error. `processes`: processes
    and threads at one time; 1 where the mechanism allows no others. `open_files`: of each process. `file_mb`: MiB of each file. `disk_mb`, `files`: MiB and
    number of all files written.
    """

    wall_s: float = 10.0
    cpu_s: float = 5.0
    memory_mb: int = 512
    output_kb: int = 1024
    processes: int = 16
    open_files: int = 64
    file_mb: int = 8
    disk_mb: int = 32
    files: int = 1024

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise InputError(f"sandbox Limits.{name} must be a positive number, got {value!r}")
            if name not in ("wall_s", "cpu_s") and not isinstance(value, int):
                raise InputError(f"sandbox Limits.{name} must be a whole number, got {value!r}")
        if self.memory_mb < 32 or self.open_files < 8:
            raise InputError(f"sandbox Limits: no program starts with less than 32 MiB and 8 open files, got {self.memory_mb!r} and {self.open_files!r}")

    def to_wire(self) -> dict[str, Any]:
        """Seconds and bytes, as the monitor takes them."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "memory_bytes": self.memory_mb << 20,
            "output_bytes": self.output_kb << 10,
            "processes": self.processes,
            "open_files": self.open_files,
            "file_bytes": self.file_mb << 20,
            "disk_bytes": self.disk_mb << 20,
            "files": self.files,
        }
