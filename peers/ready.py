"""How the Python peers listen: on 127.0.0.1, on a port the system picks, told by one line on stdout."""

import os
import socket
import sys

import uvicorn


def bind() -> tuple[socket.socket, str]:
    """Binds PORT (0 picks one) and returns the socket with the origin that reaches it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


class Announced(uvicorn.Server):
    """A server that prints `READY <url>` once it accepts requests."""

    def __init__(self, app, url: str) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False))
        self.url = url

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        print(f"READY {self.url}", flush=True)


def serve(app, listener: socket.socket, url: str) -> None:
    """Runs the application until the process is ended."""
    server = Announced(app, url)
    server.run(sockets=[listener])
    sys.exit(0 if server.started else 1)
