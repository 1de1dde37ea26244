"""Servers with a wrong clock, which tests can move."""

import struct
import subprocess
import tempfile
from pathlib import Path

from harness.paths import TARGET, TESTS
from harness.process import Guard


class SkewedClock:
    """The clock of one server; `skew` moves it while the server runs."""

    def __init__(self, server: Guard) -> None:
        """Must be called before the server is started."""
        self._offset = server.directory / "clock"
        self.skew(0)
        server.environment["LD_PRELOAD"] = str(_library())
        server.environment["SKEWED_CLOCK"] = str(self._offset)

    def skew(self, seconds: float) -> None:
        """Sets the clock ahead of the true time by that many seconds (behind, if negative)."""
        # Written in place, because the server has mapped the file.
        with self._offset.open("r+b" if self._offset.exists() else "w+b") as file:
            file.write(struct.pack("=q", round(seconds * 1e6)))


def _library() -> Path:
    """Returns the library; compiles it if it is missing or older than its source."""
    source, library = TESTS / "harness/clock.c", TARGET / "tests/libskewed_clock.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            built = Path(scratch, library.name)
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", built, source], check=True)
            built.replace(library)
    return library
