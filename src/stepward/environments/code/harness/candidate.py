"""The candidate's process: loads the program and answers calls. It never sees a test or an expected value; whatever it says is only a value."""

from __future__ import annotations

import os
import sys
from typing import Any

from stepward.environments.code.harness.codec import decode, encode, receive, send


def main() -> None:
    """Serve on the standard streams, which the program itself gets as /dev/null."""
    reading, writing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    namespace: dict[str, Any] = {"__name__": "program"}
    held: list[Any] = []

    def name(value: Any) -> list[Any]:
        held.append(value)
        return ["held", len(held) - 1, type(value).__name__]

    def named(value: list[Any]) -> Any:
        return held[value[1]] if value[0] == "held" else namespace[value[1]]

    while True:
        message = receive(reading)
        try:
            if message["do"] == "load":
                sys.setrecursionlimit(3000)
                exec(compile(message["source"], "<program>", "exec"), namespace)
                result: Any = sorted(key for key in namespace if isinstance(key, str))
            elif message["do"] == "call":
                function = decode(message["what"], named)
                arguments = [decode(value, named) for value in message["arguments"]]
                keywords = {key: decode(value, named) for key, value in message["keywords"].items()}
                result = function(*arguments, **keywords)
            elif message["do"] == "get":
                result = getattr(decode(message["what"], named), message["name"])
            else:
                result = bool(decode(message["what"], named))
            answer = {"value": encode(result, name)}
        except BaseException as error:
            answer = {"raised": type(error).__name__, "text": _text(error)}
        send(writing, answer)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except BaseException:
        return ""


if __name__ == "__main__":
    main()
