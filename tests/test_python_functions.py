"""Gauges with `set_function`: only processes that evaluate the function have a value."""

import signal

import pytest

from harness import Gunicorn, Scrape, eventually, scrape

SINGLE = {"min": 7.0, "livemin": 7.0, "max": 7.0, "livemax": 7.0, "sum": 14.0, "livesum": 14.0}


def by_pid(page: Scrape, name: str) -> dict[str, float]:
    """Returns the values by the last part of their label `pid`."""
    return {sample.labels["pid"].rpartition(":")[2]: sample.value for sample in page.samples(name)}


@pytest.mark.parametrize("place", ["memory", "redis"])
@pytest.mark.parametrize("preloads", [False, True], ids=["", "preload"])
def test_an_arbiter_that_has_loaded_the_application_has_no_value(
    preloads: bool, place: str, request: pytest.FixtureRequest
) -> None:
    """A zero of the arbiter would be a series of its own, and the minimum of all."""
    server = request.getfixturevalue("redis") if place == "redis" else None
    arguments = ["--preload"] if preloads else []
    with Gunicorn("apps.functions:app", workers=2, arguments=arguments, redis=server) as gunicorn:

        def assert_only_workers() -> None:
            page = scrape(gunicorn.metrics_url)
            workers = {str(pid): 7.0 for pid in gunicorn.worker_pids()}
            for name in ("asked_all", "asked_liveall", "asked_labelled"):
                assert by_pid(page, name) == workers, name
            for mode, value in SINGLE.items():
                assert page.value(f"asked_{mode}") == value, mode
            assert page.samples("asked_broken") == []

        eventually(assert_only_workers)
        before = set(gunicorn.worker_pids())
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: len(gunicorn.worker_pids()) == 2 and before.isdisjoint(gunicorn.worker_pids()))
        eventually(
            lambda: (
                set(by_pid(scrape(gunicorn.metrics_url), "asked_liveall"))
                == {str(pid) for pid in gunicorn.worker_pids()}
            )
        )
        assert str(gunicorn.pid) not in by_pid(scrape(gunicorn.metrics_url), "asked_all")
