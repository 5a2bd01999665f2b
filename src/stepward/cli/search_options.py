"""Options that the verbs search and compare share."""

from __future__ import annotations

from typing import Annotated

import typer

WithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="PART=SPEC",
        help="A policy or reward model beside the main ones, for strategies that take one: prover=tiny, judge=critic:http://HOST/v1. Repeatable.",
    ),
]
WithNameOption = Annotated[
    list[str] | None, typer.Option("--with-name", metavar="PART=NAME", help="The model's name on the server of a --with policy behind HTTP. Repeatable.")
]
