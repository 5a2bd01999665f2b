"""Progress: a bar with rate and remaining time on standard error; silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Progress(Protocol):
    """What long work reports to."""

    def advance(self, k: int = 1) -> None: ...

    def reach(self, n_done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...


class SilentProgress:
    """Counts in `n_done` and `last_note`, and shows nothing."""

    def __init__(self) -> None:
        self.n_done = 0
        self.last_note = ""

    def advance(self, k: int = 1) -> None:
        """k more items are done."""
        self.n_done += k

    def reach(self, n_done: int, total: int) -> None:
        """n_done of `total` items are done: for work that learns its total late, or goes on from where it was."""
        del total
        self.n_done = n_done

    def note(self, text: str) -> None:
        """A short remark beside the bar, e.g. a running mean."""
        self.last_note = text


@contextmanager
def progress(label: str, *, total: int | None = None, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """`with progress("label steps", total=n) as bar: bar.advance(k)`.

    Shows count, rate and remaining time on `stream` (default: standard error). Silent when `quiet`, or when the stream is not a terminal.
    """
    target = sys.stderr if stream is None else stream
    if quiet or not target.isatty():
        yield SilentProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with RichProgress(*columns, console=Console(file=target)) as bars:
        yield _Bar(bars, label, total)


class _Bar:
    def __init__(self, bars: object, label: str, total: int | None) -> None:
        from rich.progress import Progress as RichProgress

        assert isinstance(bars, RichProgress)
        self._bars = bars
        self._task = bars.add_task(label, total=total, rate="", remark="")

    def advance(self, k: int = 1) -> None:
        self._bars.advance(self._task, k)
        self._show_rate()

    def reach(self, n_done: int, total: int) -> None:
        self._bars.update(self._task, completed=n_done, total=total)
        self._show_rate()

    def _show_rate(self) -> None:
        speed = self._bars.tasks[0].speed
        if speed is not None:
            self._bars.update(self._task, rate=f"{speed:.3g}/s")

    def note(self, text: str) -> None:
        self._bars.update(self._task, remark=text)
