"""The part of docs/search.md that is made of the strategies' own words. `python -m stepward.cli.strategy_page docs/search.md` writes it anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from stepward.cli.method_help import strategy_needs
from stepward.core import InputError
from stepward.engine.named import Parameter
from stepward.search.entry import Entry
from stepward.search.load import COMPONENTS, STRATEGIES

_BEGIN = "<!-- made by `python -m stepward.cli.strategy_page docs/search.md`; write in the docstrings of the classes -->"
_END = "<!-- end of what is made -->"


def strategy_page() -> str:
    """Markdown: every strategy with its docstring, what it needs and its parameters; then the components that go into them."""
    parts = [_entry(entry, f"`{entry.name}`", ", ".join(strategy_needs(entry))) for entry in STRATEGIES.values()]
    parts.append("## What goes into strategies\n\nGiven as settings, `--set evaluator=NAME:KEY=VALUE`.")
    parts += [_entry(entry, f"{entry.what} `{entry.name}`", ", ".join(strategy_needs(entry))) for entry in COMPONENTS.values()]
    return "\n\n".join(parts)


def renewed(text: str) -> str:
    """The page with that part made anew. Raises: InputError for a page without the two marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise InputError(f"the page has no place for the strategies: the lines {_BEGIN!r} and {_END!r}")
    return f"{before}{_BEGIN}\n\n{strategy_page()}\n\n{_END}{after}"


def _entry(entry: Entry, title: str, needs: str) -> str:
    lines = [f"### {title}", entry.doc]
    if entry.fixed:
        lines.append("Fixed by this name: " + ", ".join(f"{name} = {value}" for name, value in entry.fixed) + ".")
    lines.append(f"Needs: {_code(needs)}.")
    if entry.parameters:
        lines.append("\n".join(["| parameter | may be | default |", "|---|---|---|", *_rows(entry.parameters)]))
    return "\n\n".join(lines)


def _rows(parameters: Iterable[Parameter]) -> list[str]:
    return [f"| `{one.name}` | {_cell(one.kind)} | {_cell(one.shown_default)} |" for one in parameters]


def _cell(text: str) -> str:
    """The list of all names of a kind is left out: it stands below."""
    return re.sub(r" \(NAME:KEY=VALUE:..., one of [^)]*\)", "", text).replace("|", "\\|") or "–"


def _code(needs: str) -> str:
    return re.sub(r"--[a-z]+ [A-Za-z_=]+", lambda found: f"`{found[0]}`", needs)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
