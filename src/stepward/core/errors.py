"""Errors: each says who failed, on what value, and what to do. Users' mistakes are `ValueError`s; failed requests are `RequestFailed`."""

from __future__ import annotations


class StepwardError(Exception):
    """Base of every error that stepward raises on purpose."""


class InputError(StepwardError, ValueError):
    """A value that the caller gave cannot be used; the message names the value and the remedy."""


class FormatError(InputError):
    """A malformed row of a file: says file, line (1-based), field and reason."""

    def __init__(self, reason: str, *, file: str = "", line: int | None = None, field: str = "") -> None:
        self.reason, self.file, self.line, self.field = reason, file, line, field
        place = file + (f":{line}" if line is not None else "")
        super().__init__(": ".join(part for part in (place, f"field {field!r}" if field else "", reason) if part))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_format_error, (self.reason, self.file, self.line, self.field))


def _rebuild_format_error(reason: str, file: str, line: int | None, field: str) -> FormatError:
    return FormatError(reason, file=file, line=line, field=field)


class CountMismatch(StepwardError, ValueError):
    """A backend returned another number of values than there are steps; nothing is trimmed to fit."""


class ContextOverflow(StepwardError):
    """A text does not fit a model's context; no step is dropped silently."""


class MissingExtra(StepwardError, ImportError):
    """An optional dependency is not installed; the message is the one install line."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed; run: pip install 'stepward[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return (MissingExtra, (self.package, self.extra))


class RequestFailed(StepwardError):
    """A request failed for good, after its retries. Algorithms turn it into unscored values with this reason."""


class RequestRetryable(RequestFailed):
    """A request failed in a way that trying again may mend (429, 5xx, time-out); `retry_after_s` when the server said so."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StopRun(StepwardError):
    """An error that no other item of a run can escape (a full disk, a journal that cannot be written): it ends the run and is never a value."""


FAILURES = (RequestFailed, ContextOverflow, CountMismatch, InputError)
"""What an algorithm turns into an unscored value with its reason. Everything else ends the run."""
