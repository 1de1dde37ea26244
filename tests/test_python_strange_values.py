"""Labels and values that cannot be stored unchanged."""

import re
from functools import partial

from harness import Gunicorn, eventually, scrape

APP = "apps.strange:app"


def test_a_lone_surrogate_in_a_label_does_not_fail_the_request() -> None:
    """Without this package it does not fail either. The page shows an escape."""
    with Gunicorn(APP) as gunicorn:
        for _ in range(2):
            assert gunicorn.get("/surrogate").status == 200
        shown = r"lone \udcff"
        eventually(lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total", by=shown), equals=2)


def test_values_over_the_limits_are_lost_and_one_line_names_each_family() -> None:
    """The application runs as without this package, and the loss is counted."""
    with Gunicorn(APP) as gunicorn:
        assert gunicorn.get("/large").status == 200
        assert gunicorn.get("/large/value").body == b"1.0"
        eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_exporter_errors_total", where="values") >= 40)
        for family in ("strange_large", "strange_huge"):
            lines = [line for line in gunicorn.log.splitlines() if f"'{family}' takes" in line]
            assert len(lines) == 1, lines
            assert re.search(r"at most \d+ are allowed", lines[0])


def test_names_with_underscores_in_front_are_shown_and_names_of_no_format_are_refused_in_one_line() -> None:
    """Also those that an older version kept for itself. A name with a control character is in no format."""
    names = ["__mine", "__requests_started", "__requests_finished", "__leaves", "__0", "_"]
    config = (
        "from prometheus_client import Counter, Gauge\n"
        f"counters = [Counter(name, '', ['n']) for name in {names}]\n"
        "gauge = Gauge('__level', '', multiprocess_mode='max')\n"
        "hidden = Gauge('\\0level', '', multiprocess_mode='max')\n"
        "def post_request(worker, request, environ, response):\n"
        "    for counter in counters: counter.labels('1').inc(2)\n"
        "    gauge.set(3)\n"
        "    hidden.set(3)\n"
    )
    with Gunicorn(config=config) as gunicorn:
        assert gunicorn.get("/").status == 200
        for name in names:
            eventually(partial(lambda name: scrape(gunicorn.metrics_url).value(f"{name}_total", n="1"), name), equals=2)
        page = scrape(gunicorn.metrics_url)
        assert page.value("__level") == 3
        assert [name for name in page.families if name.endswith("level")] == ["__level"]
        lines = [line for line in gunicorn.log.splitlines() if "has a control character" in line]
        # One of the arbiter, which has read the configuration, and one of the worker.
        assert 1 <= len(lines) <= 2, lines
        assert all(r"family name '\0level'" in line for line in lines)


def test_a_counter_loses_one_ending_and_an_info_too() -> None:
    """`prometheus_client` removes it from a counter, and shows it again; to each info it adds one."""
    config = (
        "from prometheus_client import Counter, Info\n"
        "counters = [Counter(name, '') for name in ('a_total_total', 'c', 'b_total_total_total')]\n"
        "def post_request(worker, request, environ, response):\n"
        "    for number, counter in enumerate(counters): counter.inc(number + 1)\n"
        "    facts.info({'v': '1'})\n"
        "facts = Info('d_info', '')\n"
    )
    with Gunicorn(config=config) as gunicorn:
        assert gunicorn.get("/").status == 200
        expected = {"a_total_total": 1, "c_total": 2, "b_total_total_total": 3, "d_info_info": 1}
        for name, value in expected.items():
            eventually(partial(lambda name: scrape(gunicorn.metrics_url).value(name), name), equals=value)
        assert scrape(gunicorn.metrics_url).sum("gunicorn_exporter_errors_total") == 0
