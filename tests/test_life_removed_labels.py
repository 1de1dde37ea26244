"""Gauges that are made and removed for ever: memory holds what is alive, and what is alive is exact."""

import os
from functools import partial
from pathlib import Path

import pytest

from harness import Gunicorn, RedisServer, eventually, scrape

APP = "apps.removing:app"
SLICE = 1000
"""Gauges made and removed by one request. The exporter releases their records within a second or two."""


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def churn(gunicorn: Gunicorn, path: str, slices: int) -> None:
    """Makes and removes gauges, and lets the exporter see it in between."""
    for _ in range(slices):
        assert gunicorn.get(path).status == 200
        # Two pages: the first takes what was removed out of the registries, then its records are released.
        for _ in range(2):
            assert scrape(gunicorn.metrics_url).samples("coming") == []


@pytest.mark.parametrize("with_redis", [False, True])
def test_memory_stays_flat_while_gauges_are_made_and_removed(with_redis: bool, redis: RedisServer) -> None:
    total = int(os.environ.get("REMOVED_LABELS", "40000"))
    slices = total // SLICE
    with Gunicorn(APP, redis=redis if with_redis else None) as gunicorn:
        (worker,) = gunicorn.worker_pids()
        # Warming up is a quarter of it.
        churn(gunicorn, f"/?count={SLICE}", slices // 4)
        before = (resident_mib(worker), resident_mib(gunicorn.exporter_pid()))
        used = int(redis.client.info("memory")["used_memory"])
        churn(gunicorn, f"/?count={SLICE}", slices - slices // 4)
        after = (resident_mib(worker), resident_mib(gunicorn.exporter_pid()))
        grown = [late - early for early, late in zip(before, after, strict=True)]
        assert max(grown) < 3, f"MiB of worker and exporter: {before}, then {after}"
        assert int(redis.client.info("memory")["used_memory"]) - used < 2**20
        page = eventually(lambda: scrape(gunicorn.metrics_url))
        assert page.value("rounds_total") == slices * SLICE
        assert page.value("staying", n=str(SLICE)) == slices
        assert page.sum("gunicorn_exporter_errors_total") == 0


def test_what_stays_is_exact_under_threads_and_kills(redis: RedisServer) -> None:
    with Gunicorn(APP, redis=redis) as gunicorn:
        churn(gunicorn, "/?count=200&threads=4", 5)
        churn(gunicorn, "/clear?count=300", 3)
        os.kill(gunicorn.exporter_pid(), 9)
        eventually(lambda: scrape(gunicorn.metrics_url).value("rounds_total"), equals=4000)
        churn(gunicorn, "/?count=200&threads=4", 5)
        (worker,) = gunicorn.worker_pids()
        gunicorn.kill_worker(worker)
        eventually(lambda: gunicorn.worker_pids() not in ([], [worker]), equals=True)
        churn(gunicorn, "/?count=200&threads=4", 5)
        page = eventually(lambda: scrape(gunicorn.metrics_url))
        assert page.value("rounds_total") == 12000
        assert page.value("staying", n="200") == 60
        assert page.samples("coming") == []


def test_a_removed_counter_stays_on_the_page_until_its_ttl(redis: RedisServer) -> None:
    with Gunicorn(APP, redis=redis) as gunicorn:
        gunicorn.get("/counters?count=20")
        assert eventually(lambda: scrape(gunicorn.metrics_url).sum("ended_total"), equals=20) == 20
        assert gunicorn.get("/no_counters?count=0").status == 200
        assert redis.execute("METRICS.TTL", "gunicorn:metrics", "ended", 3000) == 20
        assert scrape(gunicorn.metrics_url).sum("ended_total") == 20
        eventually(lambda: scrape(gunicorn.metrics_url).samples("ended_total"), equals=[])
        assert scrape(gunicorn.metrics_url).sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize("with_redis", [False, True])
def test_what_was_counted_before_a_removal_is_in_the_total(with_redis: bool, redis: RedisServer) -> None:
    with Gunicorn(APP, redis=redis if with_redis else None) as gunicorn:
        for requests in (1, 2, 3):
            assert gunicorn.get("/short?count=20").status == 200
            page = eventually(lambda: scrape(gunicorn.metrics_url))
            assert [page.value("short_total", n=str(number)) for number in range(20)] == [2 * requests] * 20
            assert page.sum("short_histogram_count") == page.sum("short_summary_count") == 20 * requests
            assert page.sum("short_summary_sum") == 60 * requests
        # The last ones of a worker that dies at once.
        assert gunicorn.get("/short?count=20").status == 200
        (worker,) = gunicorn.worker_pids()
        gunicorn.kill_worker(worker)
        eventually(lambda: scrape(gunicorn.metrics_url).sum("short_total"), equals=160)
        page = scrape(gunicorn.metrics_url)
        assert page.sum("short_histogram_count") == page.sum("short_summary_count") == 80
        assert page.sum("gunicorn_exporter_errors_total") == 0


def test_a_gauge_that_is_made_again_while_it_is_removed_begins_anew() -> None:
    """Otherwise the new child would go on with the value of the one that was removed."""
    with Gunicorn(APP) as gunicorn:
        assert gunicorn.get("/again").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).value("staying", n="cleared"), equals=1)
        assert [sample.value for sample in scrape(gunicorn.metrics_url).samples("staying")] == [1]


def test_what_was_counted_and_removed_before_a_process_has_its_store_is_in_the_total() -> None:
    """Before the arbiter has one, in a hook of Gunicorn, and between a worker's fork and its start."""
    config = (
        "from prometheus_client import Counter, Histogram, Summary\n"
        "metrics = [Counter('early', '', ['n']), Histogram('early_histogram', '', ['n'], buckets=[1])]\n"
        "metrics.append(Summary('early_summary', '', ['n']))\n"
        "def count(label):\n"
        "    for _ in range(2):\n"
        "        for metric in metrics:\n"
        "            (metric.labels(label).inc if metric._type == 'counter' else metric.labels(label).observe)(3)\n"
        "            metric.remove(label)\n"
        "def on_starting(server): count('early')\n"
        "def when_ready(server): count('both')\n"
        "def post_fork(server, worker): count('both'); count('fork')\n"
    )
    with Gunicorn(workers=2, config=config) as gunicorn:
        page = eventually(lambda: scrape(gunicorn.metrics_url))
        expected = {"early": 1, "fork": 2, "both": 3}
        for label, times in expected.items():
            total = partial(lambda n: scrape(gunicorn.metrics_url).value("early_total", n=n), label)
            eventually(total, equals=6 * times)
            page = scrape(gunicorn.metrics_url)
            assert page.value("early_histogram_count", n=label) == 2 * times
            assert page.value("early_histogram_sum", n=label) == page.value("early_summary_sum", n=label) == 6 * times
        assert page.sum("gunicorn_exporter_errors_total") == 0
