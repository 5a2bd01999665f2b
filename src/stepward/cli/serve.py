"""stepward serve"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stepward.cli.model_options import loads_models
from stepward.cli.options import ModelOption
from stepward.cli.output import remarks
from stepward.core import InputError
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions, load_reward_model

_LEAVE_S = 1.0  # for the interpreter's own end


@loads_models
def serve(
    model: ModelOption,
    host: Annotated[str, typer.Option("--host", help="Address to listen on. Others than this machine's own need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one and prints it.")] = 8000,
    name: Annotated[str | None, typer.Option("--name", help="The model's name on /pooling and /v1/models. Default: its specification.")] = None,
    token_env: Annotated[str | None, typer.Option("--token-env", metavar="NAME", help="Environment variable with the token that clients must send.")] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", metavar="FILE", help="File with that token.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without a token.")] = False,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Do not ask for the token on /metrics.")] = False,
    aggregation: Annotated[str, typer.Option("--aggregation", help="One number a solution, where a request names no other.")] = "min",
    step_tag: Annotated[str, typer.Option("--step-tag", metavar="TEXT", help="What ends a step in the text that /pooling gets.")] = "<extra_0>",
    prompt_frame: Annotated[
        str, typer.Option("--prompt-frame", help="Chat template of the prompts that /get_reward gets: auto, plain, chatml, llama3, deepseek, mistral.")
    ] = "auto",
    unscored_reward: Annotated[
        float | None, typer.Option("--unscored-reward", help="What /get_reward answers for a solution without a known score. Default: null.")
    ] = None,
    max_body_bytes: Annotated[int, typer.Option("--max-body-bytes", min=1, help="Largest request.")] = 4 << 20,
    max_items: Annotated[int, typer.Option("--max-items", min=1, help="Solutions in one request.")] = 256,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="Steps of one solution.")] = 1024,
    max_queue: Annotated[int, typer.Option("--max-queue", min=1, help="Solutions accepted and not yet answered, of all clients; beyond it 429.")] = 1024,
    request_timeout: Annotated[float, typer.Option("--request-timeout", min=0.001, metavar="SECONDS", help="Longest wait for an answer.")] = 300.0,
    drain_timeout: Annotated[float, typer.Option("--drain-timeout", min=0.001, metavar="SECONDS", help="Longest wait at the end.")] = 30.0,
    load: LoadOptions = DEFAULT_LOAD,
) -> None:
    """Serve step scores over HTTP.

    Requests of many clients are scored together. POST /v1/score takes problems and solutions; /pooling speaks vLLM's and /get_reward OpenRLHF's language.
    SIGTERM and Ctrl-C finish what was accepted.

    Example: stepward serve --model tools:arithmetic --port 8000
    """
    from stepward.serving.server import serve as run
    from stepward.serving.settings import ServeSettings, check_exposure

    settings = ServeSettings(
        name=model if name is None else name,
        token=read_token(token_env, token_file),
        open_metrics=open_metrics,
        aggregation=aggregation,
        step_tag=step_tag,
        prompt_frame=prompt_frame,
        unscored_reward=unscored_reward,
        max_body_bytes=max_body_bytes,
        max_items=max_items,
        max_steps=max_steps,
        max_queue=max_queue,
        request_timeout_s=request_timeout,
        drain_timeout_s=drain_timeout,
    )
    check_exposure(host, token=settings.token, insecure=insecure)
    given_up = run(partial(load_reward_model, model, load), settings, host=host, port=port, announce=_say)
    sys.stdout.flush()
    sys.stderr.flush()
    if given_up:  # their batch may still run, and the interpreter would wait for its thread
        os._exit(0)
    leaving = threading.Timer(_LEAVE_S, os._exit, (0,))  # so may the batch of a client that has hung up
    leaving.daemon = True
    leaving.start()


def read_token(env: str | None, file: Path | None) -> str | None:
    """The token from an environment variable or a file; None when neither is given. Raises: InputError when there is none in it."""
    if env is not None and file is not None:
        raise InputError("give either --token-env or --token-file, not both")
    if env is not None:
        found = os.environ.get(env, "")
        if not found:
            raise InputError(f"--token-env {env}: this environment variable is empty or not set")
        return found
    if file is None:
        return None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {file}: {error}") from error
    if not found:
        raise InputError(f"--token-file {file}: the file is empty")
    return found


def _say(remark: str) -> None:
    remarks.print(f"stepward serve: {remark}", markup=False)
