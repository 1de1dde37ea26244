"""The plain application, with ways to end its worker and to fork from it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter, Gauge, Histogram

from apps import plain

JOBS = Counter("shop_jobs", "Jobs done, by whom", ["by"])
JOB_SECONDS = Histogram("shop_job_seconds", "How long they took", buckets=(1.0,))
RUNNING = Gauge("shop_jobs_running", "Jobs under way", multiprocess_mode="livesum")

_held: list[bytearray] = []


def app(environ: dict[str, Any], start_response: plain.StartResponse) -> Iterable[bytes]:
    """Routes of `plain`, and /pid /signal?number= /exit?code= /hog?mib= /fork /pool."""
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    if path == "/pid":
        return _answer(start_response, str(os.getpid()))
    if path == "/signal":
        signal.signal(int(query["number"][0]), signal.SIG_DFL)
        os.kill(os.getpid(), int(query["number"][0]))
        time.sleep(30)
    if path == "/exit":
        os._exit(int(query["code"][0]))
    if path == "/hog":
        _held.append(bytearray(b"x") * (int(query["mib"][0]) << 20))
        return _answer(start_response, "held")
    if path == "/fork":
        return _answer(start_response, str(_fork(query)))
    if path == "/pool":
        JOBS.labels("parent").inc()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(10))
            pool.close()
            pool.join()
        return _answer(start_response, "done")
    return plain.app(environ, start_response)


def work(_number: int) -> None:
    """The work of a child."""
    JOBS.labels("child").inc()
    JOB_SECONDS.observe(0.5)


def _fork(query: dict[str, list[str]]) -> int:
    JOBS.labels("parent").inc()
    pid = os.fork()
    if pid == 0:
        RUNNING.set(1)
        work(0)
        time.sleep(float(query.get("seconds", ["0"])[0]))
        os._exit(0)
    if "seconds" not in query:
        os.waitpid(pid, 0)
    return pid


def _answer(start_response: plain.StartResponse, text: str) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
