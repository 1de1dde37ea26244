"""The applications of hello.py for bench/instructions.py: /begin and /end start and stop the counting of callgrind."""

import ctypes
import os
from typing import Any

from bench import hello

_callgrind = ctypes.CDLL(os.environ["CALLGRIND_LIBRARY"])


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The WSGI application."""
    _mark(environ["PATH_INFO"])
    return hello.app(environ, start_response)


async def asgi_app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    _mark(scope.get("path", ""))
    await hello.asgi_app(scope, receive, send)


def _mark(path: str) -> None:
    if path == "/begin":
        _callgrind.begin()
    elif path == "/end":
        _callgrind.end()
