"""WSGI applications under an ASGI worker, by the adapters of a2wsgi, asgiref, starlette and uvicorn.

An adapter makes the environment of WSGI from the scope of ASGI. The integrations of WSGI frameworks write their facts
into that environment. So this integration adds the scope's request to it, which then gets these facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import REQUEST, tells_routes, wrap


def install(adapter: Any) -> None:
    """Wraps the step that makes the environment; asgiref's is a method."""
    wrap(getattr(adapter, "WsgiToAsgiInstance", adapter), "build_environ", _passing_the_request)


def _passing_the_request(original: Any) -> Any:
    def build_environ(*args: Any) -> Any:
        environ = original(*args)
        scope = next((one for one in args if isinstance(one, Mapping) and "type" in one and "path" in one), {})
        request = scope.get(REQUEST)
        if request is not None:
            environ[REQUEST] = request
            request.is_routed = tells_routes("wsgi")
        return environ

    return build_environ
