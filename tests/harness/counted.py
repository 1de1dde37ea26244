"""Requests that have ended, as the instance's own page shows them."""

from harness.eventually import eventually
from harness.gunicorn import Gunicorn
from harness.scrape import Scrape, scrape

TOTAL = "gunicorn_http_requests_total"
EXCEPTIONS = "gunicorn_http_exceptions_total"


def counted(gunicorn: Gunicorn, requests: int) -> Scrape:
    """Returns the page once that many requests have ended; under ASGI a client gets its answer a little earlier."""

    def page() -> Scrape:
        seen = scrape(gunicorn.metrics_url)
        assert seen.sum("gunicorn_worker_requests_total") == seen.sum(TOTAL) == requests
        assert seen.sum("gunicorn_http_requests_in_progress") == 0
        return seen

    return eventually(page)
