"""Free TCP ports of loopback."""

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections, so that none of those steals one.
_RANGE = range(12_000, 32_000)


def free_port() -> int:
    """A port that nobody listens on; drawn at random, so that tests side by side do not meet."""
    for port in random.sample(_RANGE, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port found")
