"""VictoriaMetrics, and its agent that writes to another, read our pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from test_exporter_formats import KEY, declare_all

from harness import Exporter, Gunicorn, Prometheus, RedisServer, eventually
from harness.paths import ROOT

TOOLS = ROOT / ".tools" / "victoria-metrics"


class VictoriaMetrics(Prometheus):
    """Answers the same queries, and reads the same scrape configuration."""

    name = "victoria-metrics"

    def __init__(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """`jobs` are jobs with their targets; without any it only receives what an agent writes."""
        super().__init__(jobs, binary=TOOLS / "victoria-metrics")

    def command(self) -> Sequence[str | Path]:
        """It shows a sample at once, not after 30 s."""
        return [
            self.binary,
            f"-promscrape.config={self.config_path}",
            f"-storageDataPath={self.directory / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-search.latencyOffset=1ms",
            "-search.disableCache",
        ]

    def assert_ready(self) -> None:
        """It answers a query."""
        self.query("1")


class Agent(VictoriaMetrics):
    """`vmagent`: scrapes, and keeps no data."""

    name = "vmagent"

    def __init__(self, jobs: Mapping[str, Sequence[str]], to: VictoriaMetrics) -> None:
        """Writes to the given database."""
        super().__init__(jobs)
        self.to = to

    def command(self) -> Sequence[str | Path]:
        """Data that it cannot write at once waits in the guard's directory."""
        return [
            TOOLS / "vmagent",
            f"-promscrape.config={self.config_path}",
            f"-remoteWrite.url={self.to.url}/api/v1/write",
            f"-remoteWrite.tmpDataPath={self.directory / 'queue'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
        ]

    def assert_ready(self) -> None:
        """It answers with its targets."""
        self.targets()


def assert_read(database: VictoriaMetrics, exporter: Exporter) -> None:
    """A sample of each type, and special names in the escaping for clients that read plain text."""
    of = f'instance="127.0.0.1:{exporter.port}"'
    assert database.value(f"temperature{{{of}}}") == -2.5
    jobs = database.query(f"jobs_total{{{of}}} == 3")
    assert [one["metric"]["queue"] for one in jobs] == ['a "b"\\\n']
    assert database.value(f'wait_seconds_bucket{{{of},le="0.5"}}') == 1
    assert database.value(f'wait_seconds_bucket{{{of},le="+Inf"}}') == 1
    assert database.value(f"native_seconds_count{{{of}}}") == 3
    assert database.value(f'_ber_all_total{{{of},ein_label="x"}}') == 2
    assert database.value(f"up{{{of}}}") == 1


def test_victoria_metrics_scrapes_the_exporter(redis: RedisServer) -> None:
    declare_all(redis)
    with Exporter(redis=redis) as exporter, VictoriaMetrics({"shop": [f"127.0.0.1:{exporter.port}"]}) as database:
        eventually(lambda: assert_read(database, exporter), within=60)
        assert [target["lastError"] for target in database.targets()] == [""]
        # The counter must be seen to grow.
        redis.execute("METRICS.INC", KEY, "jobs", "BY", 4, "LABELS", 1, "queue", "other")
        eventually(lambda: database.value('jobs_total{queue="other"}'), equals=4.0, within=60)


def test_vmagent_scrapes_an_instance_and_writes_to_victoria_metrics() -> None:
    with (
        Gunicorn(workers=2) as gunicorn,
        VictoriaMetrics({}) as database,
        Agent({"shop": [f"127.0.0.1:{gunicorn.metrics_port}"]}, to=database),
    ):
        for _ in range(5):
            gunicorn.get("/order")
        eventually(lambda: database.value("sum(gunicorn_worker_requests_total)"), equals=5.0, within=60)
        eventually(lambda: database.value('shop_orders_total{kind="book"}'), equals=5.0, within=60)
        assert len(database.query('gunicorn_worker_state{state="running"} == 1')) == 2
