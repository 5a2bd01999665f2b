"""Every Python example of the README and the docs runs, and every command that they show exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of a page share their names, as a reader would run them; a comment behind a print is what it prints."""
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
        shown = capsys.readouterr().out
        for expected in re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE):
            assert expected in shown, f"{page.name} promises {expected!r}, the example prints {shown!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_commands_have_the_options_that_they_use(page: Path) -> None:
    from stepward.cli.main import app

    root: Any = get_command(app)
    for block in blocks(page, "console"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "stepward":
                continue
            command, rest = root, words[1:]
            while rest and rest[0] in getattr(command, "commands", {}):
                command, rest = command.commands[rest[0]], rest[1:]
            assert command is not root, f"{page.name}: no such verb in {line!r}"
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            for word in rest:
                assert not word.startswith("--") or word in known, f"{page.name}: {line!r} uses an unknown option {word}"
