"""tools:code: steps that contain Python, checked by running it in the sandbox."""

from stepward.rewards.code.executor import SandboxedPython
from stepward.rewards.code.verifier import CodeVerifier

__all__ = ["CodeVerifier", "SandboxedPython"]
