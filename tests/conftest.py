"""Fixtures that more than one file of tests uses."""

from collections.abc import Iterator

import pytest

from harness import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server with the module, on a unix socket, empty."""
    with RedisServer() as server:
        yield server
