"""Cost of the two hooks of a request, and of `inc()` and `observe()` of prometheus_client, inside a worker."""

import json
import statistics

from bench import peers
from bench.table import Row, nanoseconds
from harness import Gunicorn, RedisServer, Venv, eventually

PROBE = (peers.HERE / "worker_probe.py").read_text()
# Fewer calls for the original with Redis, because each takes milliseconds.
FEW_CALLS = {"PROBE_CALLS": "40"}


def measure(quick: bool) -> list[Row]:
    """Measures workers in turn: ours, a plain one, one with prometheus_client's files, and the original's."""
    rows = []
    for kind, ours in peers.OURS.items():
        runs = [_run(kind, ours) for _ in range(1 if quick else 3)]
        rows += [
            _row(runs, "hooks", f"both hooks of a request, {kind}", "≤ 300 ns"),
            _row(runs, "inc", f"Counter.inc(), {kind}", "≤ single process"),
            _row(runs, "observe", f"Histogram.observe(), {kind}", "≤ single process"),
        ]
    return rows


def _run(kind: str, ours: str) -> dict[str, dict[str, float]]:
    """Returns nanoseconds, by side and by the function that was called."""
    figures = {"embedded": _probe(_gunicorn(ours)), "plain": _probe(_gunicorn(kind))}
    with RedisServer() as redis:
        figures["with Redis"] = _probe(_gunicorn(ours, redis))
    figures["files"] = _probe(peers.with_files(_gunicorn(kind)))
    with RedisServer(tcp=True, module=None) as redis:
        figures["original"] = _probe(peers.original(kind, redis, config=PROBE, environment=FEW_CALLS))
    return figures


def _gunicorn(worker_class: str, redis: RedisServer | None = None) -> Gunicorn:
    return Gunicorn(
        "hello:app",
        venv=Venv.default(),
        worker_class=worker_class,
        config=PROBE,
        redis=redis,
        app_directory=peers.HERE,
    )


def _probe(gunicorn: Gunicorn) -> dict[str, float]:
    result = gunicorn.directory / "result.json"
    gunicorn.environment["PROBE_RESULT"] = str(result)
    with gunicorn:
        figures: dict[str, float] = json.loads(eventually(result.read_text, within=60))
    return figures


def _row(runs: list[dict[str, dict[str, float]]], what: str, title: str, budget: str) -> Row:
    def of(side: str) -> str:
        return nanoseconds(statistics.median(run[side][what] for run in runs))

    if what == "hooks":
        beside = f"gunicorn's own two {of('plain')}"
    else:
        beside = f"single process {of('plain')}, its files {of('files')}, original package with Redis {of('original')}"
    return Row(title, f"{of('embedded')}, with Redis {of('with Redis')}", beside, budget)
