"""An application that fails at each request: the original package records endpoints only of failed requests."""

from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ARG001
    """Raises outside any framework, because the original does not see exceptions that a framework answers."""
    raise ValueError("as it should")
