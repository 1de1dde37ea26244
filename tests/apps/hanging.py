"""A WSGI application whose requests do not end, or end their worker: /wait, /spin, /block, /die/HOW."""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Each path is a way to hang or to die."""
    path: str = environ["PATH_INFO"]
    if path.startswith("/wait"):
        time.sleep(60)
    elif path == "/spin":
        spin()
    elif path == "/block":
        block()
    elif path.startswith("/die/"):
        die(path.removeprefix("/die/"))
    start_response("200 OK", [("Content-Length", "0")])
    return []


def spin() -> None:
    """Runs in Python for a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def block(seconds: int = 60) -> None:
    """Stays in C for a minute and keeps the lock of the interpreter, so that no Python code runs."""
    ctypes.PyDLL(None).sleep(seconds)


def die(how: str) -> None:
    """Ends this process."""
    if how == "segv":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(9)
    elif how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))
        try:
            bytearray(2**28)
        except MemoryError:
            os.kill(os.getpid(), signal.SIGKILL)
