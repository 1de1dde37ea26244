"""The only way in which these tests wait."""

import http.client
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_ANY: Final = object()
_NOT_YET = (AssertionError, OSError, http.client.HTTPException)


def eventually(fact: Callable[[], T], *, equals: object = _ANY, within: float = 30.0) -> T:
    """Calls `fact` until it holds, and returns its result.

    It holds when it neither returns False nor raises an AssertionError or an error of the network, and equals `equals`
    if that is given. After `within` seconds, the last reason is raised as the error.
    """
    end = time.monotonic() + within
    while True:
        try:
            value = fact()
            if equals is not _ANY:
                assert value == equals, f"{value!r} != {equals!r}"
            assert value is not False, "still False"
        except _NOT_YET as reason:
            if time.monotonic() > end:
                raise AssertionError(f"not within {within:g} s: {reason}") from reason
        else:
            return value
        time.sleep(0.02)
