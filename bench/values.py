"""What the two hooks of a request cost, and `inc()` and `observe()` of prometheus_client, inside a worker."""

import json
import statistics
import tempfile
from pathlib import Path

from bench.table import Row, nanoseconds
from harness import Gunicorn, eventually

HERE = Path(__file__).parent
PROBE = (HERE / "worker_probe.py").read_text()
OURS = "gunicorn_prometheus_exporter.PrometheusWorker"


def measure(quick: bool) -> list[Row]:
    """Three workers in turn: ours, a plain one, and a plain one with prometheus_client's files."""
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "plain": [], "files": []}
    for _ in range(2 if quick else 5):
        figures["ours"].append(_probe(OURS))
        figures["plain"].append(_probe("sync"))
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            figures["files"].append(_probe("sync", {"PROMETHEUS_MULTIPROC_DIR": directory}))

    def of(side: str, what: str) -> str:
        return nanoseconds(statistics.median(run[what] for run in figures[side]))

    def values(what: str) -> str:
        return f"single process {of('plain', what)}, its files {of('files', what)}"

    return [
        Row("both hooks of a request", of("ours", "hooks"), f"gunicorn's own two {of('plain', 'hooks')}", "≤ 300 ns"),
        Row("Counter.inc()", of("ours", "inc"), values("inc"), "≤ single process"),
        Row("Histogram.observe()", of("ours", "observe"), values("observe"), "≤ single process"),
    ]


def _probe(worker_class: str, environment: dict[str, str] | None = None) -> dict[str, float]:
    gunicorn = Gunicorn(
        "hello:app", worker_class=worker_class, config=PROBE, environment=environment, app_directory=HERE
    )
    result = gunicorn.directory / "result.json"
    gunicorn.environment["PROBE_RESULT"] = str(result)
    with gunicorn:
        figures: dict[str, float] = json.loads(eventually(result.read_text, within=60))
    return figures
