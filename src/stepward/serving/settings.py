"""ServeSettings: what one server allows and answers. Reading options and environment variables belongs to the command line."""

from __future__ import annotations

import ipaddress
import math
import socket
from dataclasses import dataclass, field

from stepward.core import InputError, check_aggregation
from stepward.serving.frames import FRAMES

_POSITIVE = ("max_body_bytes", "max_items", "max_steps", "max_queue", "request_timeout_s", "drain_timeout_s")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Limits and manners of one server.

    `token`: what clients must send as `Authorization: Bearer TOKEN` (None: nobody is asked); `open_metrics`: not for /metrics. `name`: the model's name
    on /pooling and /v1/models. `aggregation`: the number for a solution where a request names no other. `step_tag`: what ends a step in the text of
    /pooling. `prompt_frame`: the chat template of the prompts that /get_reward gets ("auto": told by its user mark). `unscored_reward`: what /get_reward
    answers for a solution without a known score (None: null). `max_body_bytes` bounds one request, `max_items` its solutions, `max_steps` the steps of
    each; `max_queue` the solutions that are accepted and not yet answered, of all requests together. Times are in seconds.

    Raises: InputError for a value that cannot be used.
    """

    name: str = "stepward"
    token: str | None = field(default=None, repr=False)
    open_metrics: bool = False
    aggregation: str = "min"
    step_tag: str = "<extra_0>"
    prompt_frame: str = "auto"
    unscored_reward: float | None = None
    max_body_bytes: int = 4 << 20
    max_items: int = 256
    max_steps: int = 1024
    max_queue: int = 1024
    request_timeout_s: float = 300.0
    drain_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        for name in _POSITIVE:
            value = getattr(self, name)
            if not value > 0 or not math.isfinite(value):
                raise InputError(f"{name} must be positive, got {value!r}")
        if self.max_items > self.max_queue:
            raise InputError(
                f"max_items = {self.max_items} solutions of one request never fit max_queue = {self.max_queue}; raise max_queue or lower max_items"
            )
        if not self.step_tag:
            raise InputError("step_tag must not be empty; give the text that ends a step, for example <extra_0>")
        if self.prompt_frame not in ("auto", "plain", *FRAMES):
            raise InputError(f"unknown prompt_frame {self.prompt_frame!r}; choose one of auto, plain, {', '.join(FRAMES)}")
        if self.unscored_reward is not None and not math.isfinite(self.unscored_reward):
            raise InputError(f"unscored_reward must be a finite number, got {self.unscored_reward!r}; leave it out to answer null")
        if self.token is not None and (not self.token.isascii() or not self.token.isprintable() or not self.token.strip() or " " in self.token):
            raise InputError("the token must be printable ASCII without spaces, and not empty")


def check_exposure(host: str, *, token: str | None, insecure: bool) -> None:
    """Refuse to serve beyond this machine without a token, unless `insecure` says that this is meant.

    Raises: InputError, also for a host that does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"cannot resolve --host {host!r}: {error}") from error
    local = all(ipaddress.ip_address(address[0].partition("%")[0]).is_loopback for *_, address in found if isinstance(address[0], str))
    if not local and token is None and not insecure:
        raise InputError(
            f"--host {host} is reachable from other machines and no token is set: everybody there could use this model. Give --token-env NAME or "
            "--token-file FILE; or --insecure, where something in front of the server asks for credentials"
        )
