"""Instructions of a worker per request, counted by callgrind: other programs on the machine do not change them."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.requests import APPLICATIONS, BUDGETS, HERE, OURS, ask
from bench.table import Row
from harness import Gunicorn, Venv

# Gunicorn's default hooks only check whether the log level is debug; these two do nothing at all.
EMPTY_HOOKS = """
def pre_request(worker, req): pass
def post_request(worker, req, environ, resp): pass
"""


def measure(quick: bool) -> list[Row]:
    """Returns one row for each worker class."""
    requests = 50 if quick else 400
    rows = []
    for kind, ours in OURS.items():
        plain = per_request(kind, kind, requests)
        metered = per_request(kind, ours, requests)
        hooks = ""
        if kind in ("sync", "gthread", "gevent"):
            hooks = f", with empty hooks {per_request(kind, kind, requests, EMPTY_HOOKS):,.0f}"
        what = f"{plain:,.0f} in the plain worker{hooks}"
        ratio = f"{metered:,.0f}: capacity {plain / metered:.3f}"
        rows.append(Row(f"instructions a request, {kind}", ratio, what, BUDGETS.get(kind, "≥ 1.00")))
    return rows


def per_request(kind: str, worker_class: str, requests: int, config: str = "") -> float:
    """Counts those of one worker, after its first requests."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "callgrind.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "callgrind.c"], check=True)
        with _CallgrindGunicorn(kind, worker_class, config, library) as gunicorn:
            (worker,) = gunicorn.worker_pids()
            ask(gunicorn.port, 50)
            gunicorn.get("/begin")
            ask(gunicorn.port, requests)
            gunicorn.get("/end")
        (dump,) = Path(directory).glob(f"out.{worker}.1")
        totals = re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
        if totals is None:
            raise RuntimeError(f"callgrind has counted nothing of process {worker}")
        return int(totals[1]) / (requests + 1)


class _CallgrindGunicorn(Gunicorn):
    """A gunicorn under callgrind, which begins to count when the application tells it to."""

    start_patience = 180.0

    def __init__(self, kind: str, worker_class: str, config: str, library: Path) -> None:
        super().__init__(
            APPLICATIONS.get(kind, "hello:app").replace("hello", "bench.counted"),
            venv=Venv.frameworks(),
            worker_class=worker_class,
            config=config,
            app_directory=HERE.parent,
            arguments=["--timeout=0"],
            # Fixes the seed of hashes, so that each run is the same.
            environment={"PYTHONHASHSEED": "1", "CALLGRIND_LIBRARY": str(library)},
        )
        self._out = library.parent / "out.%p"

    def command(self) -> Sequence[str | Path]:
        """Returns the command that a user would type, with valgrind in front of it."""
        options = ["--tool=callgrind", "--quiet", "--instr-atstart=no", f"--callgrind-out-file={self._out}"]
        return ["valgrind", *options, self.venv.bin / "python", *super().command()]
