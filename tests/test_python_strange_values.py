"""Labels and values that cannot be stored unchanged."""

import re

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
