"""A network of one's own, for what has to run on the ports it has by default."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_CLONE_NEWNET = 0x4000_0000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Inside, this thread and the processes it starts see a loopback device of their own, where every port is free.

    It takes the right to make network namespaces. Without it the machine's network stays, where a port that is taken
    makes the test fail.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            yield
            return
        try:
            _loopback_up()
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot return to the network of the machine")
    finally:
        os.close(before)


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
