"""The answers that a scraper gets while something is wrong; they end when the cause ends."""

import http.client
import signal
import socket
import urllib.error
import urllib.request

import pytest
from test_exporter_standalone import Answer, ask, declare_some, fill

from harness import Exporter, RedisServer, eventually, scrape
from harness.ports import free_port

KEY = "gunicorn:metrics"


def unavailable(exporter: Exporter) -> str:
    """Returns the line of a 503; any other answer is an AssertionError."""
    answer: Answer = ask(exporter, "/metrics")
    line = answer.body.decode()
    assert answer.status == 503, answer
    assert line.count("\n") == 1, line
    return line.rstrip("\n")


def test_pages_are_back_when_redis_is_back() -> None:
    with RedisServer(tcp=True) as redis, Exporter(redis=redis) as exporter:
        declare_some(redis)
        before = scrape(exporter.metrics_url).body
        redis.shutdown(keep_data=True)
        assert unavailable(exporter) == f"redis at 127.0.0.1:{redis.port} cannot be reached: connection refused"
        assert ask(exporter, "/healthz").status == 200
        assert ask(exporter, "/readyz").status == 503
        redis.start()
        assert scrape(exporter.metrics_url).body == before
        own = scrape(f"{exporter.url}/-/metrics")
        assert own.value("gunicorn_exporter_scrapes_total", path="/metrics", result="unavailable") == 1


def test_the_exporter_starts_before_redis() -> None:
    redis = RedisServer()
    with Exporter(redis=redis) as exporter:
        assert unavailable(exporter) == f"redis at {redis.socket} cannot be reached: connection refused"
        with redis:
            declare_some(redis)
            assert scrape(exporter.metrics_url).value("temperature") == -2.5


def test_a_redis_that_hangs_is_a_503_after_two_seconds() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        declare_some(redis)
        before = scrape(exporter.metrics_url).body
        redis.send(signal.SIGSTOP)
        try:
            assert unavailable(exporter) == f"redis at {redis.socket} did not answer within 2000 ms"
        finally:
            redis.send(signal.SIGCONT)
        eventually(lambda: scrape(exporter.metrics_url).body, equals=before)


def test_the_scrapers_deadline_is_kept() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        redis.send(signal.SIGSTOP)
        try:
            answer = ask(exporter, "/metrics", X_Prometheus_Scrape_Timeout_Seconds="0.2")
            assert (answer.status, answer.body) == (503, b"the deadline of the scrape has passed\n")
        finally:
            redis.send(signal.SIGCONT)


def test_a_scraper_can_tell_that_its_page_was_cut_off() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        fill(redis, series=8_000, label_bytes=4_000)
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == 200
            response.read(1_000)
            redis.execute("FLUSHALL")
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()
        eventually(lambda: "was broken off: the registry changed so much" in exporter.log)


def test_a_registry_that_was_rolled_back_is_not_shown_before_its_writers_are_back() -> None:
    with RedisServer(module_arguments=["healing-time", "2000"]) as redis, Exporter(redis=redis) as exporter:
        redis.execute("METRICS.SET", KEY, "temperature", "-2.5", "WRITER", "w", "LEASE", 60_000)
        redis.shutdown(keep_data=True)
        redis.start()
        assert unavailable(exporter) == "the registry was rolled back and waits for its writers, try again soon"
        assert eventually(lambda: scrape(exporter.metrics_url)).value("temperature") == -2.5


def test_a_key_of_another_type_is_named() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        redis.execute("SET", KEY, "text")
        assert unavailable(exporter) == (
            f"key {KEY} of redis at {redis.socket} holds another type than a metric registry: "
            "choose another exporter.redis.key_prefix"
        )


def test_a_redis_without_the_module_is_named() -> None:
    with RedisServer(module=None) as redis, Exporter(redis=redis) as exporter:
        assert unavailable(exporter) == (
            f"redis at {redis.socket} does not know the command METRICS.EXPOSE: "
            "load libredis_metrics.so with loadmodule in redis.conf"
        )


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_for_redis_is_named(password: str | None) -> None:
    environment = {} if password is None else {"REDIS_PASSWORD": password}
    with RedisServer(tcp=True) as redis, Exporter(redis=redis, environment=environment) as exporter:
        redis.execute("CONFIG", "SET", "requirepass", "right")
        line = unavailable(exporter)
        assert line == (
            f"redis at 127.0.0.1:{redis.port} refuses to log in: "
            "check exporter.redis.username and exporter.redis.password"
        )
        assert "wrong" not in exporter.log
        redis.execute("CONFIG", "SET", "requirepass", "")


def test_the_right_password_works() -> None:
    with RedisServer(tcp=True) as redis, Exporter(redis=redis, environment={"REDIS_PASSWORD": "right"}) as exporter:
        declare_some(redis)
        redis.execute("CONFIG", "SET", "requirepass", "right")
        assert scrape(exporter.metrics_url).value("temperature") == -2.5
        redis.execute("CONFIG", "SET", "requirepass", "")


def test_a_redis_user_needs_only_the_right_to_expose() -> None:
    login = {"GUNICORN_EXPORTER_REDIS_USERNAME": "scraper", "REDIS_PASSWORD": "pw"}
    with RedisServer(tcp=True) as redis, Exporter(redis=redis, environment=login) as exporter:
        declare_some(redis)
        redis.execute("ACL", "SETUSER", "scraper", "on", ">pw", "%R~gunicorn:metrics*", "+metrics.expose")
        page = scrape(exporter.metrics_url)
        assert page.value("temperature") == -2.5
        assert page.samples("gunicorn_exporter_registry_info") == []
        redis.execute("ACL", "SETUSER", "scraper", "resetkeys", "~other*")
        assert unavailable(exporter) == (
            f"redis at 127.0.0.1:{redis.port} does not allow this user METRICS.EXPOSE on {KEY}"
        )


def test_a_port_in_use_is_named_once_and_taken_when_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port()))
        holder.listen()
        port = holder.getsockname()[1]
        with RedisServer() as redis, _StartingExporter(redis=redis, port=port) as exporter:
            eventually(lambda: "ERROR" in exporter.log)
            holder.close()
            eventually(lambda: ask(exporter, "/healthz").status, equals=200)
            errors = [line for line in exporter.log.splitlines() if "ERROR" in line]
            assert len(errors) == 1
            assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in errors[0]
            assert "exporter.prometheus.metrics_port (PROMETHEUS_METRICS_PORT)" in errors[0]
            own = urllib.request.urlopen(f"{exporter.url}/-/metrics", timeout=10).read().decode()
            assert 'gunicorn_exporter_errors_total{where="listen"} ' in own


class _StartingExporter(Exporter):
    """An exporter that does not need to serve to count as started."""

    def __init__(self, *, redis: RedisServer, port: int) -> None:
        super().__init__(redis=redis)
        self.port = port
        self.environment["PROMETHEUS_METRICS_PORT"] = str(port)

    def assert_ready(self) -> None:
        """Its process runs."""


def test_a_client_that_says_nothing_does_not_keep_others_waiting() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        declare_some(redis)
        silent = [socket.create_connection(("127.0.0.1", exporter.port), timeout=30) for _ in range(100)]
        try:
            for client in silent:
                client.sendall(b"GET /metrics HTTP/1.1\r\nX-")
            assert scrape(exporter.metrics_url).value("temperature") == -2.5
        finally:
            for client in silent:
                client.close()


def test_half_a_request_after_an_answer_does_not_delay_an_orderly_end() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
            client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            client.sendall(b"GET /metrics HTTP/1.1\r\nX-")
            # When the exporter answers another request, it has read this one, or reads it within the last word.
            assert scrape(exporter.metrics_url).samples("temperature") == []
            assert exporter.stop() == 0
        assert "broken off" not in exporter.log


def test_bytes_that_are_no_http_request_are_refused() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(
                urllib.request.Request(exporter.metrics_url, headers={f"X-{n}": "y" for n in range(200)}), timeout=10
            )
        assert refused.value.code == 431
        refused.value.close()
        assert scrape(exporter.metrics_url).samples("temperature") == []
