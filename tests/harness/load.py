"""Clients that keep an application busy and remember each answer."""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from typing_extensions import Self

from harness.eventually import eventually


class Outcome(NamedTuple):
    """One request: its path, the status (0: no complete response), and its duration."""

    method: str
    path: str
    status: int
    seconds: float


class Load:
    """Threads that request paths in turn, one connection for each request, from `__enter__` to `__exit__`."""

    def __init__(self, ports: Sequence[int], paths: Sequence[str] = ("/",), *, clients: int = 4) -> None:
        """`ports` are those of applications on loopback; requests go to them in turn."""
        self.outcomes: list[Outcome] = []
        self._stop = threading.Event()
        self._turns = itertools.cycle(itertools.product(ports, paths))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    @property
    def answered(self) -> int:
        """The number of complete responses so far."""
        return sum(outcome.status != 0 for outcome in list(self.outcomes))

    @property
    def unanswered(self) -> int:
        """The number of requests so far that ended without a complete response."""
        return sum(outcome.status == 0 for outcome in list(self.outcomes))

    def statuses(self) -> Counter[int]:
        """The number of answers by status."""
        return Counter(outcome.status for outcome in list(self.outcomes))

    def slowest(self) -> float:
        """The longest duration of a request, in seconds."""
        return max((outcome.seconds for outcome in list(self.outcomes)), default=0.0)

    def wait_for(self, more: int) -> None:
        """Returns after that many more complete responses."""
        goal = self.answered + more
        eventually(lambda: self.answered >= goal, within=60)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                port, path = next(self._turns)
            begin = time.monotonic()
            status = _get(port, path)
            self.outcomes.append(Outcome("GET", path, status, time.monotonic() - begin))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()
