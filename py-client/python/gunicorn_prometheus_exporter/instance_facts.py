"""Facts of an instance that its exporter shows: its name, its listeners, and what it is built of."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import gunicorn


def listeners(sockets: list[Any]) -> list[tuple[int, bool, str]]:
    """Returns for each socket its inode, whether it is a unix socket, and its name."""
    found = []
    for listener in sockets:
        address = listener.getsockname()
        is_unix = not isinstance(address, tuple)
        name = os.fsdecode(address) if is_unix else _host_and_port(address)
        found.append((os.fstat(listener.fileno()).st_ino, is_unix, name))
    return found


def _host_and_port(address: tuple[Any, ...]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


def build(cfg: Any) -> list[tuple[str, str]]:
    """Returns the labels of ``gunicorn_build_info``, apart from our own version."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    return [
        ("gunicorn_version", gunicorn.__version__),
        ("python_version", python),
        ("python_implementation", sys.implementation.name),
        ("worker_class", cfg.worker_class_str),
    ]


def default_name(cfg: Any, listeners: list[Any]) -> str:
    """``<host name>:<port of the first bind>``, or the file name of a unix socket."""
    addresses = [listener.getsockname() for listener in listeners] or cfg.address
    first = addresses[0] if addresses else ("", 0)
    if isinstance(first, bytes):
        first = os.fsdecode(first)
    if isinstance(first, str):
        return Path(first).name or socket.gethostname()
    return f"{socket.gethostname()}:{first[1]}"
