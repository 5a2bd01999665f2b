"""`stepward label --method NAME --help`: one method's page, in place of the verb's."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from typer.core import TyperCommand

from stepward.core import InputError
from stepward.labeling.load import method_named
from stepward.labeling.methods import Method

_ASKED = "stepward.method"
_FLAGS = {
    "policy": "--policy SPEC (or --prover SPEC, where another policy is to complete prefixes)",
    "judge": "--judge-model SPEC",
    "tools": "--tools NAME+NAME (default: all)",
}


class LabelCommand(TyperCommand):
    """The verb `label`, whose help is a method's page when a method is named beside --help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ASKED] = _named(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        name = ctx.meta.get(_ASKED)
        if name is None:
            super().format_help(ctx, formatter)
            return
        try:
            show_method(method_named(name), Console(highlight=False))
        except InputError as error:
            raise typer.BadParameter(str(error)) from error


def _named(args: list[str]) -> str | None:
    """The method that the arguments name."""
    for place, argument in enumerate(args):
        if argument == "--method" and place + 1 < len(args):
            return args[place + 1]
        if argument.startswith("--method="):
            return argument.partition("=")[2]
    return None


def show_method(method: Method, console: Console) -> None:
    """Name, what it does and its source, what it needs, and its parameters."""
    console.print(f"stepward label --method {method.name}\n", style="bold", markup=False)
    console.print(Markdown(method.doc) if console.is_terminal else method.doc, markup=False)
    if method.needs:
        console.print("\nNeeds: " + ", ".join(_FLAGS[need] for need in method.needs), markup=False)
    fixed = ", ".join(f"{name} = {value}" for name, value in method.fixed)
    if fixed:
        console.print(f"\nFixed by this name: {fixed}", markup=False)
    if not method.parameters:
        console.print("\nNo parameters.")
        return
    table = Table("parameter", "may be", "default", header_style="bold")
    for parameter in method.parameters:
        default: Any = "(must be given)" if parameter.required else parameter.default if parameter.text else "(Python)"
        table.add_row(parameter.name, parameter.kind, str(default))
    console.print("\nParameters, each set with --set NAME=VALUE:")
    console.print(table)
