"""Errors of the sandbox."""

from __future__ import annotations

from stepward.core.errors import InputError, RequestFailed


class NoSandbox(InputError):
    """No mechanism works on this machine, so untrusted code is not run; the message says what was tried, why it failed and the remedy."""


class SandboxFailed(RequestFailed):
    """A program could not be started in the sandbox, or what watched it died. It says nothing about the program."""
