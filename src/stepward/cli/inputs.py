"""What verbs read: problems, trajectories and examples from files or from an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stepward.cli.output import remarks
from stepward.core import Environment, Example, InputError, Problem, SearchResult, Trajectory
from stepward.data.load import detect, read_examples
from stepward.data.problems import read_problems
from stepward.data.set_aside import SetAside
from stepward.data.shards import shards_in
from stepward.data.store import SUFFIXES, read_records
from stepward.environments.load import make_problems

T = TypeVar("T")
DEFAULT_PROBLEMS = 100


def check_out(out: Path | None) -> None:
    """Refuse an output file that could not be written in the end, before anything is paid for. Raises: InputError naming the known suffixes."""
    if out is not None and not out.name.endswith(SUFFIXES):
        raise InputError(f"cannot tell the format of --out {out}; end its name in one of {', '.join(SUFFIXES)}")


def problems_from(data: Sequence[Path], environment: Environment, *, seed: int, split: str, limit: int | None, skip_bad_rows: bool = False) -> list[Problem]:
    """Problems from files, or made by the environment when there is no file."""
    if not data:
        return make_problems(environment, seed=seed, n=limit or DEFAULT_PROBLEMS, split=split)
    return list(islice(_every_file(data, read_problems, skip_bad_rows), limit))


def examples_from(data: Sequence[Path], *, limit: int | None = None, format: str = "auto", skip_bad_rows: bool = False) -> list[Example]:
    """Examples from files of any known format; a trajectory counts as an example without labels."""
    return list(islice(_every_file(data, partial(_read, format=format), skip_bad_rows), limit))


def trajectories_from(data: Sequence[Path], *, limit: int | None = None, skip_bad_rows: bool = False) -> list[Trajectory]:
    """The trajectories of `examples_from`."""
    return [example.trajectory for example in examples_from(data, limit=limit, skip_bad_rows=skip_bad_rows)]


def looked_at(data: Sequence[Path], *, limit: int | None = None, skip_bad_rows: bool = False) -> list[Example | SearchResult]:
    """What the report shows: examples of any known format, and search results."""

    def read(path: Path, **options: Any) -> Iterator[Example | SearchResult]:
        if detect(path, on_error="set_aside" if skip_bad_rows else "raise") != "records":
            yield from _read(path, format="auto", **options)
            return
        for record in read_records(path, **options):
            yield record if isinstance(record, SearchResult) else _as_example(record, path)

    return list(islice(_every_file(data, read, skip_bad_rows), limit))


def _read(path: Path, *, format: str, **options: Any) -> Iterator[Example]:
    if format == "auto" and detect(path) == "records":
        for record in read_records(path, **options):
            yield _as_example(record, path)
        return
    yield from read_examples(path, format, **options)


def _as_example(record: Any, path: Path) -> Example:
    if isinstance(record, Trajectory):
        return Example(record)
    if isinstance(record, Example):
        return record
    raise InputError(f"{path} holds {type(record).__name__} records; expected trajectories or examples")


def _every_file(data: Sequence[Path], read: Callable[..., Iterator[T]], skip_bad_rows: bool) -> Iterator[T]:
    aside = SetAside()
    for path in [file for given in data for file in (shards_in(given) or [given])]:
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        yield from read(path, on_error="set_aside", set_aside=aside) if skip_bad_rows else read(path)
    if len(aside):
        aside.write()
        remarks.print(aside.summary(), markup=False)
