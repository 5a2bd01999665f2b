"""`stepward label --method NAME --help`, `stepward search --strategy NAME --help`: the page of one method or strategy, in place of the verb's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from typer.core import TyperCommand

from stepward.core import InputError
from stepward.engine.named import Named
from stepward.labeling.load import method_named
from stepward.labeling.methods import Method
from stepward.search.entry import Entry
from stepward.search.load import COMPONENTS, strategy_named

_ASKED = "stepward.asked"
_FLAGS = {
    "policy": "--policy SPEC (or --prover SPEC, where another policy is to complete prefixes)",
    "judge": "--judge-model SPEC",
    "tools": "--tools NAME+NAME (default: all)",
}


class _NamedHelp(TyperCommand):
    """A verb whose help is the page of what `option` names, when that stands beside --help."""

    option: ClassVar[str]

    def page(self, name: str, console: Console) -> None:
        raise NotImplementedError

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ASKED] = _named(args, self.option)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        name = ctx.meta.get(_ASKED)
        if name is None:
            super().format_help(ctx, formatter)
            return
        try:
            self.page(name, Console(highlight=False))
        except InputError as error:
            raise typer.BadParameter(str(error)) from error


class LabelCommand(_NamedHelp):
    """The verb `label`."""

    option = "--method"

    def page(self, name: str, console: Console) -> None:
        show_method(method_named(name), console)


class SearchCommand(_NamedHelp):
    """The verb `search`."""

    option = "--strategy"

    def page(self, name: str, console: Console) -> None:
        show_strategy(strategy_named(name), console)


COMMANDS: dict[str, type[TyperCommand]] = {"label": LabelCommand, "search": SearchCommand}


def command_of(verb: Callable[..., None]) -> type[TyperCommand] | None:
    """The command class of a verb; None for a plain one."""
    return COMMANDS.get(verb.__name__)


def show_method(method: Method, console: Console) -> None:
    """Name, what it does and its source, what it needs, and its parameters."""
    _show(f"stepward label --method {method.name}", method, [_FLAGS[need] for need in method.needs], console)


def show_strategy(entry: Entry, console: Console) -> None:
    """The same of a strategy."""
    _show(f"stepward search --strategy {entry.name}", entry, strategy_needs(entry), console)
    if entry.factors:
        console.print(f"\n--set n=N is short for {entry.n_words}: {entry.factors[0]} follows from it.", markup=False)
    for what in dict.fromkeys(noun.what for noun in entry.nested.values()):
        known = [f"{one.name}: {one.about}" for one in COMPONENTS.values() if one.what == what]
        if known:
            console.print(f"\nKinds of {what}: " + "; ".join(known), markup=False)


def strategy_needs(entry: Entry) -> list[str]:
    """What a strategy takes beside settings, as the options that give it."""
    found = ["--policy SPEC"]
    for field in entry.fields:
        if field.name == "model":
            found.append("--model SPEC (a reward model)")
        elif part := entry.parts.get(field.name):
            kind = "another policy" if part.kind == "policy" else "another reward model"
            found.append(f"--with {part.name}=SPEC ({kind}{'' if part.required else ', optional'})")
    return found


def _named(args: Sequence[str], option: str) -> str | None:
    """What the arguments give for the option."""
    for place, argument in enumerate(args):
        if argument == option and place + 1 < len(args):
            return args[place + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _show(title: str, named: Named, needs: Sequence[str], console: Console) -> None:
    console.print(f"{title}\n", style="bold", markup=False)
    console.print(Markdown(named.doc) if console.is_terminal else named.doc, markup=False)
    if needs:
        console.print("\nNeeds: " + ", ".join(needs), markup=False)
    fixed = ", ".join(f"{name} = {value}" for name, value in named.fixed)
    if fixed:
        console.print(f"\nFixed by this name: {fixed}", markup=False)
    if not named.parameters:
        console.print("\nNo parameters.")
        return
    table = Table("parameter", "may be", "default", header_style="bold")
    for parameter in named.parameters:
        table.add_row(parameter.name, parameter.kind, parameter.shown_default)
    console.print("\nParameters, each set with --set NAME=VALUE:")
    console.print(table)
