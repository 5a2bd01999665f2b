"""stepward doctor"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from stepward import __version__
from stepward.cli.options import JsonOption
from stepward.cli.output import print_json, print_table

_PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "safetensors", "httpx", "pyarrow", "pydantic", "math-verify", "sympy", "matplotlib")
_EXTRAS = {
    "train": ("accelerate", "tensorboard"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "lora": ("peft",),
    "quantized": ("bitsandbytes",),
    "tools": ("z3-solver", "duckdb", "pint"),
    "ray": ("ray",),
}


def doctor(json: JsonOption = False) -> None:
    """Show what is installed and what works on this machine: packages, extras, accelerators, the grader's workers, the sandbox.

    Example: stepward doctor --json
    """
    report = {
        "stepward": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": {extra: _extra(extra, names) for extra, names in _EXTRAS.items()},
        "accelerators": _accelerators(),
        "tiny policy": _tiny(),
        "grader": _grader(),
        "sandbox": _sandbox(),
    }
    if json:
        print_json(report)
        return
    rows: list[list[Any]] = []
    for name, value in report.items():
        rows.extend([f"{name}: {key}", item] for key, item in value.items()) if isinstance(value, dict) else rows.append([name, value])
    print_table("stepward doctor", ["what", "found"], [[name, "not installed" if value is None else value] for name, value in rows])


def machine() -> dict[str, Any]:
    """Processors and memory, as far as the system tells."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "memory_gib": None if memory is None else round(memory / 2**30, 1)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(extra: str, names: tuple[str, ...]) -> str:
    missing = [name for name in names if _version(name) is None]
    return "installed" if not missing else f"missing {', '.join(missing)}; run: pip install 'stepward[{extra}]'"


def _accelerators() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: PyTorch is not installed"
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"none; PyTorch runs on the CPU with {torch.get_num_threads()} threads"


def _tiny() -> str:
    from stepward.core.errors import StepwardError
    from stepward.policies.load import tiny_folder

    try:
        return f"{sum(file.stat().st_size for file in tiny_folder().iterdir()) / 1e6:.1f} MB"
    except (StepwardError, OSError) as error:
        return f"unusable: {error}"


def _grader() -> str:
    from stepward.environments.grader import AnswerGrader

    try:
        with AnswerGrader(workers=1, time_limit_s=5.0) as grader:
            outcome = grader.grade_sync(r"\frac{1}{2}", "0.5")
    except Exception as error:  # a report of what works must not fail itself
        return f"broken: {error!r}"
    return "works in a killable worker process" if outcome.correct else f"unexpected answer: {outcome}"


def _sandbox() -> dict[str, str]:
    """Each mechanism by trial: a program in it has run and could not get out; then what is used."""
    from stepward.core.errors import StepwardError
    from stepward.engine.sandbox import best_sandbox, probe
    from stepward.engine.sandbox.sandbox import MECHANISMS

    found = {}
    for mechanism in MECHANISMS:
        try:
            finding = probe(mechanism)
        except Exception as error:  # a report of what works must not fail itself
            found[mechanism] = f"broken: {error!r}"
            continue
        works = f"works, with {finding.python}" + (f" ({finding.reason})" if finding.reason else "")
        found[mechanism] = works if finding.works else f"does not work: {finding.reason}"
    try:
        with best_sandbox() as box:
            found["used"] = box.mechanism
    except StepwardError as error:
        found["used"] = str(error)
    return found
