"""The Python environments that `scripts/setup test` made, each with the wheel of the last build."""

import fcntl
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.paths import VENVS, wheel

GUNICORN_VERSIONS = ("21.2", "23.0", "newest")


@dataclass(frozen=True)
class Venv:
    """One environment: its programs are in `bin`."""

    name: str

    @classmethod
    def gunicorn(cls, version: str = "newest") -> "Venv":
        """Returns the environment with that gunicorn (GUNICORN_VERSIONS), our wheel, Flask and prometheus_client."""
        venv = cls(f"gunicorn-{version}")
        venv.refresh()
        return venv

    @classmethod
    def frameworks(cls) -> "Venv":
        """Returns the newest gunicorn with all frameworks and servers, or the one that `make test-matrix` names."""
        venv = cls(os.environ.get("HARNESS_VENV", "frameworks"))
        venv.refresh()
        return venv

    @classmethod
    def prometheus_client(cls, version: str = "newest") -> "Venv":
        """Returns the environment with that prometheus_client and its own tests, our wheel, and pytest."""
        venv = cls(f"prometheus_client-{version}")
        venv.refresh()
        return venv

    @classmethod
    def libraries(cls) -> "Venv":
        """Returns the newest gunicorn with libraries that declare their own metrics, and our wheel."""
        venv = cls("libraries")
        venv.refresh()
        return venv

    @classmethod
    def frozen(cls) -> "Venv":
        """Returns the newest gunicorn with PyInstaller, and our wheel."""
        venv = cls("frozen")
        venv.refresh()
        return venv

    @classmethod
    def default(cls) -> "Venv":
        """Returns the newest gunicorn, or the environment that `make test-matrix` names."""
        venv = cls(os.environ.get("HARNESS_VENV", "gunicorn-newest"))
        venv.refresh()
        return venv

    @property
    def directory(self) -> Path:
        """The directory of the environment."""
        return VENVS / self.name

    @property
    def bin(self) -> Path:
        """The directory of `python` and `gunicorn`."""
        return self.directory / "bin"

    def refresh(self) -> None:
        """Installs the built wheel unless this wheel is installed already; needs no network."""
        if not self.bin.exists():
            raise FileNotFoundError(f"{self.directory} is missing: run `scripts/setup test` first")
        built = wheel()
        wanted = hashlib.sha256(built.read_bytes()).hexdigest()
        with (self.directory / ".wheel").open("a+") as stamp:
            fcntl.flock(stamp, fcntl.LOCK_EX)  # tests run at the same time
            stamp.seek(0)
            if stamp.read() == wanted:
                return
            self.run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", str(built))
            stamp.truncate(0)
            stamp.write(wanted)

    def run(self, *arguments: str) -> str:
        """Runs the environment's Python and returns what it printed."""
        done = subprocess.run([self.bin / "python", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout
