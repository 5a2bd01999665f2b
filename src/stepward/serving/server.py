"""serve: a listening socket, signals and a graceful end around the application. What requests mean is in `app`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from stepward.core import InputError, MissingExtra, RewardModel
from stepward.serving.settings import ServeSettings

logger = logging.getLogger("stepward.serve")
_SENDING_S = 5  # for answers that are being sent when everything is scored
_BACKLOG = 2048


def serve(
    load: Callable[[], RewardModel],
    settings: ServeSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], None] = logger.info,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish what was accepted; return how many solutions were given up after the drain time-out.

    `load` makes the model, in a thread: the server listens at once and is ready when it returns. `port` 0 takes a free one. `announce` is told the
    address, when the model is ready, and what happens at the end. A second signal ends the server without waiting.

    Raises: MissingExtra; InputError when the port is taken; whatever `load` raised.
    """
    for package, name in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("prometheus_client", "prometheus-client")):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra(name, "serve") from error
    return asyncio.run(_serve(load, settings, host, port, announce))


async def _serve(load: Callable[[], RewardModel], settings: ServeSettings, host: str, port: int, announce: Callable[[str], None]) -> int:
    import uvicorn

    from stepward.serving.app import create_app
    from stepward.serving.desk import Desk

    loop = asyncio.get_running_loop()
    listener = bound(host, port)
    app = create_app(load, settings)
    desk: Desk = app.state.desk

    class Server(uvicorn.Server):
        """uvicorn, except that the first signal begins to drain and the socket stays open for it: health checks see the server leave."""

        given_up = 0
        ending: asyncio.Task[None] | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            address, number = listener.getsockname()[:2]
            announce(f"listening on http://{f'[{address}]' if ':' in address else address}:{number}, loading the model")
            self.watching = asyncio.create_task(self.watch())

        async def watch(self) -> None:
            state = await desk.settled()
            if state == "failed":
                self.should_exit = True
            elif state == "ready":
                announce(f"ready: {desk.fingerprint}")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            del sig, frame
            if desk.state == "draining" or not self.started:
                self.should_exit = self.force_exit = True
            else:
                loop.call_soon_threadsafe(self.drain)

        def drain(self) -> None:
            if self.ending is None:
                self.ending = asyncio.create_task(self.finish())

        async def finish(self) -> None:
            announce(f"stopping: {desk.n_items} solutions are finished first")
            self.given_up = await desk.drain(settings.drain_timeout_s)
            if self.given_up:
                announce(f"gave up {self.given_up} solutions that were not done after {settings.drain_timeout_s:g} s")
            self.should_exit = True

    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False, "ws": "none", "lifespan": "on", "backlog": _BACKLOG}
    server = Server(uvicorn.Config(app, timeout_graceful_shutdown=_SENDING_S, **options))
    try:
        await server.serve(sockets=[listener])
    finally:
        listener.close()
    if desk.error is not None:
        raise desk.error
    announce("stopped")
    return server.given_up or desk.n_items


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to this address. Raises: InputError saying why it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"cannot listen on {host}:{port}: {error}; choose another --port (0 takes a free one) or --host") from error
    return listener
