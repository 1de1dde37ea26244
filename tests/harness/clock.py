"""Servers with a wrong clock, which tests can move."""

import struct
import time

from harness.preloaded import library
from harness.process import Guard


class SkewedClock:
    """The clock of one server; `skew` moves it while the server runs."""

    def __init__(self, server: Guard) -> None:
        """Must be called before the server is started."""
        self._offset = server.directory / "clock"
        self.skew(0)
        server.environment["LD_PRELOAD"] = str(library("clock"))
        server.environment["SKEWED_CLOCK"] = str(self._offset)

    def skew(self, seconds: float) -> None:
        """Sets the clock ahead of the true time by that many seconds (behind, if negative)."""
        # Written in place, because the server has mapped the file.
        with self._offset.open("r+b" if self._offset.exists() else "w+b") as file:
            file.write(struct.pack("=q", round(seconds * 1e6)))
        # Valkey 9 reads its clock ten times a second, and commands in between have the time of the last reading.
        time.sleep(0.15)
