"""Sandbox: untrusted programs run here or not at all. Own processes, no network, a minimal read-only file system, limits on everything."""

from stepward.engine.sandbox.errors import NoSandbox, SandboxFailed
from stepward.engine.sandbox.limits import Limits
from stepward.engine.sandbox.probe import Finding, best_sandbox, probe
from stepward.engine.sandbox.run import Run
from stepward.engine.sandbox.sandbox import Sandbox

__all__ = ["Finding", "Limits", "NoSandbox", "Run", "Sandbox", "SandboxFailed", "best_sandbox", "probe"]
