"""Children of a process with metrics that ``multiprocessing`` starts by spawn or forkserver.

Such a child is another program: it inherits neither our modules nor a descriptor. But its parent sends it a pickled
description, made by :func:`multiprocessing.spawn.get_preparation_data`. One more entry in that prepares the child:
when it imports ``prometheus_client``, its values go to a store of its own, which it hands to the arbiter. A child
that never imports it loads nothing of this. ``concurrent.futures`` and pools start their children in the same way.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from . import imports

_ENTRY = "gunicorn_prometheus_exporter"
# Runs in the child while it reads that description; no error in it may end the child.
_SOURCE = """
import sys
try:
    try:
        from gunicorn_prometheus_exporter import children
    except ImportError:
        sys.path.append({place!r})
        try:
            from gunicorn_prometheus_exporter import children
        finally:
            sys.path.remove({place!r})
    children.begin({name!r}, {pages!r})
except Exception:
    import logging
    logging.getLogger("gunicorn.error").warning("what this child counts is on no page", exc_info=True)
"""

_lock = threading.Lock()
_parent: _Parent | None = None
_is_wrapped = False
_is_ready = False


class _Parent:
    """The entry in the description of a child; unpickling it prepares the child."""

    def __init__(self, name: bytes, pages: bytes | None) -> None:
        self._arguments = {"name": name, "pages": pages}

    def __reduce__(self) -> tuple[Any, ...]:
        place = str(Path(__file__).parent.parent)
        return exec, (_SOURCE.format(place=place, **self._arguments), {})


def follow(name: bytes | None, pages: bytes | None) -> None:
    """Makes the children of this process, and theirs, count for the arbiter of that name from now on."""
    global _parent, _is_wrapped
    if name is None:
        return
    with _lock:
        _parent = _Parent(name, pages)
        is_wrapped, _is_wrapped = _is_wrapped, True
    if not is_wrapped:
        imports.after("multiprocessing.spawn", _wrap_preparation)


def begin(name: bytes, pages: bytes | None) -> None:
    """In a child: makes it a process of the instance as soon as it has metrics."""
    global _is_ready
    follow(name, pages)
    with _lock:
        # A server of forks has been prepared, and with it its children.
        is_ready, _is_ready = _is_ready, True
    if not is_ready:
        imports.after("prometheus_client", lambda _module: _join(name, pages))


def _join(name: bytes, pages: bytes | None) -> None:
    try:
        from . import _native, client

        _native.become_child(name)
        os.register_at_fork(after_in_child=_native.forked)
        client.install(pages)
    except Exception as error:  # the child's own work is more important than its metrics
        logging.getLogger("gunicorn.error").warning("what this child counts is on no page: %s", error)


def _wrap_preparation(spawn: ModuleType) -> None:
    module: Any = spawn
    original = module.get_preparation_data

    def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        if isinstance(data, dict) and _parent is not None:
            data[_ENTRY] = _parent
        return data

    module.get_preparation_data = get_preparation_data
