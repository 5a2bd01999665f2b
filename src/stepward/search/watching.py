"""Watching: whoever wants to see a search's tree while it grows. Strategies know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stepward.core import Tree

_watchers: ContextVar[tuple[Callable[[Tree], None], ...]] = ContextVar("stepward_watchers", default=())


@contextmanager
def watching(show: Callable[[Tree], None]) -> Iterator[None]:
    """Call `show(tree)` whenever a search that is started in the body has added to or judged its tree. `show` must be quick and must not change it."""
    token = _watchers.set((*_watchers.get(), show))
    try:
        yield
    finally:
        _watchers.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """Nobody watches what the body does."""
    token = _watchers.set(())
    try:
        yield
    finally:
        _watchers.reset(token)


def announce(tree: Tree) -> None:
    """Tell the watchers that the tree has changed."""
    for show in _watchers.get():
        show(tree)
