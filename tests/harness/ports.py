"""Free TCP ports of loopback."""

import random
import socket

# Below the range from which the kernel takes ports of outgoing connections, so that such a connection cannot take one.
_RANGE = range(12_000, 32_000)


def free_port() -> int:
    """Returns a port on which no process listens; it is random, so that tests that run at the same time get others."""
    for port in random.sample(_RANGE, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port found")
