"""Confinement: what a mechanism made of the process that entered it, and the request that says what is to be run. No mechanism is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INSIDE_ID = 1000  # user and group as untrusted programs see themselves in a user namespace
WORK = "/work"


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """The process lives behind its walls now; what else holds there.

    `work`: the one folder that can be written. `own_files`: nothing outside can be seen or changed, not even names and modes. `processes`: programs may
    start some, because their number can be limited. `own_signals`: no signal reaches a process outside; else the filter forbids signals to others, and to
    leave the process group. `extra_processes`: how many processes of ours count against the limit. `landlock`: the version whose rules hold, 0 for none.
    """

    work: str
    own_files: bool
    processes: bool
    own_signals: bool
    extra_processes: int
    landlock: int = 0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The numbers of a request; see `stepward.engine.sandbox.Limits` for what they mean."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    output_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    disk_bytes: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run. `visible`: folders and files of the machine that can be read. `folder`: for mechanisms without a file system of their own, where to work."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    mechanism: str
    limits: Limits
    visible: Sequence[str]
    collect: Sequence[str]
    names: Sequence[str]
    folder: str

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Request:
        fields = {name: header[name] for name in ("argv", "environment", "mechanism", "visible", "collect", "names", "folder")}
        return cls(limits=Limits(**header["limits"]), **fields)
