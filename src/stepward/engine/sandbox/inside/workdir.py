"""The program's folder: what is put there before it starts, what is taken from it afterwards (never through a link), and how it is removed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_DEPTH = 16


def write_files(folder: str, names: Sequence[str], contents: Sequence[bytes]) -> None:
    """Put files into the still empty folder; names are relative, with folders made as needed."""
    for name, content in zip(names, contents, strict=True):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)


def collect(folder: str, patterns: Sequence[str], *, max_files: int, max_bytes: int) -> tuple[dict[str, bytes], bool]:
    """The regular files whose path in the folder matches a pattern, and whether some were left out for their number or size. Links are not followed."""
    found: dict[str, bytes] = {}
    left, cut = max_bytes, False
    if not patterns:
        return found, cut
    root = os.open(folder, _READ_FLAGS | os.O_DIRECTORY)
    for name, parent in _walk(root, "", 0):
        if not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        if len(found) >= max_files:
            cut = True
            break
        content = _read(parent, name.rpartition("/")[2], left)
        if content is None:
            continue
        if len(content) > left:
            cut = True
            continue
        found[name] = content
        left -= len(content)
    os.close(root)
    return found, cut


def _walk(fd: int, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    """(path, descriptor of its folder) of every entry that claims to be a file."""
    with suppress(OSError):
        for entry in sorted(os.scandir(fd), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if depth < _MAX_DEPTH:
                    with suppress(OSError):
                        inner = os.open(entry.name, _READ_FLAGS | os.O_DIRECTORY, dir_fd=fd)
                        try:
                            yield from _walk(inner, f"{prefix}{entry.name}/", depth + 1)
                        finally:
                            os.close(inner)
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, fd


def _read(parent: int, name: str, limit: int) -> bytes | None:
    """At most `limit` + 1 bytes; None for what is not a regular file of this folder alone or cannot be read."""
    try:
        fd = os.open(name, _READ_FLAGS, dir_fd=parent)
    except OSError:
        return None
    with open(fd, "rb") as file:
        return file.read(limit + 1) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def usage(folder: str, *, max_files: int) -> tuple[int, int]:
    """(bytes on disk, entries) of a folder, links not followed; counting stops above `max_files`."""
    size = count = 0
    waiting = [folder]
    while waiting and count <= max_files:
        with suppress(OSError):
            for entry in os.scandir(waiting.pop()):
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                with suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
    return size, count


def remove(folder: str) -> None:
    """Remove a folder and all in it, however deep it is nested and whatever its modes are. Links are removed, not followed."""
    serial, ours = 0, os.urandom(8).hex()  # names that nobody can have taken
    while True:
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        if not names:
            break
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.isdir(path) or os.path.islink(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in os.listdir(path):  # what is nested comes up one level: no path ever grows long
                serial += 1
                source = os.path.join(path, inner)
                if os.path.isdir(source) and not os.path.islink(source):
                    os.chmod(source, 0o700)
                os.rename(source, os.path.join(folder, f"{ours}{serial}"))
            os.rmdir(path)
    os.rmdir(folder)
