"""An application that fails whatever it is asked: the original package knows the endpoints of such requests only."""

from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ARG001
    """No framework makes an answer of it, or the original would not see it."""
    raise ValueError("as it should")
