"""A registry that the application makes shows this process' values, and :9091 shows nothing of it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import Gunicorn, Venv, eventually, scrape

VERSIONS = ("0.19", "0.22", "newest")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", ["/probe", "/textfile"])
def test_a_registry_of_one_request_shows_that_request(version: str, path: str) -> None:
    """The registry shows only its request, whichever worker answers; it names no process and is not on our page."""
    with Gunicorn("apps.private:app", workers=2, venv=Venv.prometheus_client(version)) as gunicorn:
        for number in range(20):
            body = gunicorn.get(f"{path}?{number}").body.decode()
            samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
            by_name = {sample.name: sample for sample in samples}
            assert by_name["probe_up"].labels == {"target": str(number)}
            assert by_name["probe_tries_total"].value == 1
            assert by_name["probe_seconds_count"].value == 1
            assert by_name["probe_version_info"].labels == {"target": str(number)}
            assert by_name["probe_clock"].value == 7
            assert len([sample for sample in samples if sample.name == "probe_up"]) == 1
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=20)
        assert not [name for name in scrape(gunicorn.metrics_url).families if name.startswith("probe")]


def test_thousands_of_registries_leave_nothing_in_a_store() -> None:
    """They leave nothing in the worker's shared memory, and nothing on the page of the instance."""
    with Gunicorn("apps.private:app") as gunicorn:
        gunicorn.get("/probe?warm")
        for number in range(1500):
            gunicorn.get(f"/probe?{number}")
        assert len(gunicorn.get("/probe?last").body) < 4000
        seen = scrape(gunicorn.metrics_url)
        assert seen.sum("gunicorn_exporter_errors_total") == 0
        assert not [name for name in seen.families if name.startswith("probe")]


def test_a_registry_is_merged_once_it_is_given_to_a_collector() -> None:
    """The page then also has its earlier counts."""
    with Gunicorn("apps.private:app") as gunicorn:
        gunicorn.get("/later")
        gunicorn.get("/later")
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=2)
        assert scrape(gunicorn.metrics_url).samples("given_later_total") == []
        gunicorn.get("/given")
        eventually(lambda: scrape(gunicorn.metrics_url).value("given_later_total", kind="b"), equals=1)
        assert scrape(gunicorn.metrics_url).value("given_later_total", kind="a") == 2


def test_a_metric_is_on_the_page_once_it_is_registered() -> None:
    """The page then also has its earlier counts."""
    with Gunicorn("apps.private:app") as gunicorn:
        gunicorn.get("/move")
        eventually(lambda: scrape(gunicorn.metrics_url).value("moved_total"), equals=1)


def test_a_private_registry_of_a_configuration_file_stays_private() -> None:
    """It may have been made before the worker class was loaded."""
    config = (
        "from prometheus_client import CollectorRegistry, Counter, multiprocess\n"
        "early = Counter('early_private', 'Made before', ['kind'], registry=CollectorRegistry())\n"
        "early.labels('a').inc()\n"
        "given = CollectorRegistry()\n"
        "given.register(type('Nothing', (multiprocess.MultiProcessCollector,), {'__init__': lambda self: None,\n"
        "    'collect': lambda self: []})())\n"
        "merged = Counter('early_merged', 'Made before', registry=given)\n"
        "merged.inc(3)\n"
        "def post_worker_init(worker):\n"
        "    early.labels('b').inc()\n"
    )
    with Gunicorn("apps.private:app", config=config) as gunicorn:
        eventually(lambda: scrape(gunicorn.metrics_url).value("early_merged_total"), equals=3)
        assert scrape(gunicorn.metrics_url).samples("early_private_total") == []
