"""The Python environments that `scripts/setup test` made, each with the wheel that was built last."""

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
        """The environment with that gunicorn (see GUNICORN_VERSIONS), our wheel, Flask and prometheus_client."""
        venv = cls(f"gunicorn-{version}")
        venv.refresh()
        return venv

    @classmethod
    def frameworks(cls) -> "Venv":
        """The newest gunicorn with every framework and server that the package knows, or that of `make test-matrix`."""
        venv = cls(os.environ.get("HARNESS_VENV", "frameworks"))
        venv.refresh()
        return venv

    @classmethod
    def prometheus_client(cls, version: str = "newest") -> "Venv":
        """The environment with that prometheus_client and that one's own tests, our wheel, and pytest."""
        venv = cls(f"prometheus_client-{version}")
        venv.refresh()
        return venv

    @classmethod
    def libraries(cls) -> "Venv":
        """The newest gunicorn, and the libraries that declare metrics of their own, with our wheel."""
        venv = cls("libraries")
        venv.refresh()
        return venv

    @classmethod
    def default(cls) -> "Venv":
        """The newest gunicorn, unless `make test-matrix` named another environment."""
        venv = cls(os.environ.get("HARNESS_VENV", "gunicorn-newest"))
        venv.refresh()
        return venv

    @property
    def directory(self) -> Path:
        """Its root."""
        return VENVS / self.name

    @property
    def bin(self) -> Path:
        """Where `python` and `gunicorn` are."""
        return self.directory / "bin"

    def refresh(self) -> None:
        """Installs the built wheel unless that very one is there already; needs no network."""
        if not self.bin.exists():
            raise FileNotFoundError(f"{self.directory} is missing: run `scripts/setup test` first")
        built = wheel()
        wanted = hashlib.sha256(built.read_bytes()).hexdigest()
        with (self.directory / ".wheel").open("a+") as stamp:
            fcntl.flock(stamp, fcntl.LOCK_EX)  # tests run side by side
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
