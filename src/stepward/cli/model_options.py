"""How reward models are loaded, as options that every verb with a `--model` has: written once, and given to the verb as one `LoadOptions`."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from stepward.cli.options import DeviceOption
from stepward.core import InputError
from stepward.rewards.load import LoadOptions


def _options(
    *,
    device: DeviceOption = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="Numbers of reward models with weights: float32, bfloat16, float16.")] = "float32",
    convention: Annotated[
        str | None, typer.Option("--convention", metavar="NAME_OR_FILE", help="How the model is read: a family's name or a JSON file. Default: recognised.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FOLDER_OR_ID", help="The reference model of an implicit PRM (a log-ratio of two models), or none.")
    ] = None,
    load_in: Annotated[str | None, typer.Option("--load-in", help="Load quantised weights: 8bit, 4bit.")] = None,
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=0, help="Memory for the states of prefixes that later requests start with.")] = 256,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="FOLDER_OR_ID", help="The tokenizer of a model that vllm:URL or sglang:URL serves.")
    ] = None,
    served_name: Annotated[str | None, typer.Option("--served-name", metavar="NAME", help="A model's name on the server that scores or judges.")] = None,
    server_token: Annotated[
        str | None, typer.Option("--server-token-env", metavar="NAME", help="Environment variable with the token of the server that scores.")
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option("--judge", metavar="KEY=VALUE", help="An option of a generative judge, such as k=8 or reduce=majority. Repeatable.")
    ] = None,
) -> LoadOptions:
    token = None if server_token is None else os.environ.get(server_token)
    if server_token is not None and not token:
        raise InputError(f"--server-token-env: there is no environment variable {server_token!r}, or it is empty")
    return LoadOptions(
        device=device,
        dtype=dtype,
        convention=convention,
        reference=reference,
        load_in=load_in,  # type: ignore[arg-type]  # checked where it is used
        cache_bytes=cache_mb << 20,
        tokenizer=tokenizer,
        model_name=served_name,
        token=token,
        judge=dict(map(_pair, judge or [])),
    )


def loads_models(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options above in place of its parameter `load`, through which it gets them as `LoadOptions`."""
    hints, own = get_type_hints(verb, include_extras=True), inspect.signature(verb).parameters
    added_hints, added = get_type_hints(_options, include_extras=True), inspect.signature(_options).parameters

    @wraps(verb)
    def wrapped(**given: Any) -> None:
        options = _options(**{name: given.pop(name) for name in added})
        verb(**given, load=options)

    shared = [parameter.replace(annotation=added_hints[name]) for name, parameter in added.items()]
    kept = [parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY) for name, parameter in own.items() if name != "load"]
    place = list(own).index("load")
    parameters = [*kept[:place], *shared, *kept[place:]]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def _pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is JSON is taken as such."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--judge takes KEY=VALUE, got {text!r}")
    try:
        return key.replace("-", "_"), json.loads(value)
    except ValueError:
        return key.replace("-", "_"), value
