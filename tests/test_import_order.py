"""A room imports only rooms below it, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stepward"
ROOMS = (
    "core", "data", "engine", "environments", "policies", "rewards", "labeling", "training", "search", "credit", "evaluation", "serving", "studio",
    "testing", "cli",
)  # fmt: skip
DOORS = {"__init__", "api"}  # the synchronous face, above every room; the command line is the one room that goes through it
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(module: str) -> str:
    """core for stepward.core.step; __init__ for stepward itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in the file, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])])
            if base == "stepward":  # `from stepward import core` names a room, `from stepward import load` the door
                yield from ((node.lineno, f"stepward.{alias.name}" if (SOURCE / alias.name).is_dir() else base) for alias in node.names)
            else:
                yield node.lineno, base


def violations(path: Path) -> list[str]:
    relative = path.relative_to(SOURCE)
    home = relative.parts[0].removesuffix(".py")
    if home in DOORS:
        return []
    package = ".".join(["stepward", *relative.parts[:-1]])
    found = []
    for line, module in imported_modules(ast.parse(path.read_text(encoding="utf-8")), package):
        if module.split(".")[0] != "stepward":
            continue
        room = room_of(module)
        if (room in DOORS and home != "cli") or (room in ROOMS and ROOMS.index(room) > ROOMS.index(home)):
            found.append(f"{relative}:{line}: {home} imports {module}")
    return found


def test_every_module_lives_in_a_known_room() -> None:
    homes = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert homes - set(ROOMS) - DOORS == set(), "a new room needs its place in the order of docs/design.md"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downwards(path: Path) -> None:
    assert violations(path) == []


def test_the_rule_sees_an_upward_import_inside_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "data" / "wrong.py"
    module.parent.mkdir()
    module.write_text("def f():\n    from stepward.search.beam import StepBeam\n    from ..core import step\n    from . import rows\n    import stepward\n")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert violations(module) == ["data/wrong.py:2: data imports stepward.search.beam", "data/wrong.py:5: data imports stepward"]


HEAVY = ("torch", "transformers", "pyarrow", "matplotlib", "sympy", "math_verify", "safetensors", "tokenizers")


@pytest.mark.parametrize("module", ["stepward", "stepward.core", "stepward.data"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCE.parent)})
    assert done.stdout.strip() == "[]"
