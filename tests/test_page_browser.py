"""The live page in a real browser, on a desk and on a phone, with scripts and without."""

import http.client
import json
import os
import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness import Exporter, Gunicorn, RedisServer, Venv, eventually
from harness.in_flight import overview, sent, traces_in_progress
from harness.paths import ROOT

SHOP = ROOT / "examples" / "flask_app"
CHROMIUM = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
    " --no-first-run"
)
DESK, PHONE = (1280, 900), (390, 844)
# The contrast that WCAG 2 requires for text of this size.
CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def shop() -> Iterator[Gunicorn]:
    """The example with some history: pages, orders, and a defect."""
    config = (SHOP / "gunicorn.conf.py").read_text()
    with Gunicorn("shop:app", workers=2, config=config, app_directory=SHOP) as gunicorn:
        for _ in range(10):
            gunicorn.get("/")
            gunicorn.get("/books/1")
        gunicorn.get("/broken")
        yield gunicorn


def _address(gunicorn: Gunicorn) -> str:
    return f"http://127.0.0.1:{gunicorn.metrics_port}/"


def _open(
    browser: Browser, url: str, size: tuple[int, int] = DESK, scheme: str = "light", scripts: bool = True
) -> tuple[Page, list[str]]:
    """Opens the page; returns it with the errors of the browser."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith((url, "data:")) else complaints.append(request.url)
    )
    page.goto(url)
    return page, complaints


def _answer(port: int, path: str, accept: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read().decode()
    finally:
        connection.close()


def test_browsers_get_the_page_and_scrapers_the_metrics(shop: Gunicorn) -> None:
    """The header Accept decides."""
    status, headers, text = _answer(shop.metrics_port, "/", "text/html,application/xhtml+xml,*/*;q=0.8")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert text.startswith("<!doctype html>")
    for accept in ("*/*", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"):
        status, headers, text = _answer(shop.metrics_port, "/", accept)
        assert headers["content-type"].startswith("text/plain")
        assert "gunicorn_worker_requests_total{" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_shows_changes_live(browser: Browser, shop: Gunicorn, size: tuple[int, int], scheme: str) -> None:
    """It loads nothing from other servers, has no errors, needs no sideways scrolling, and all text is readable."""
    page, complaints = _open(browser, _address(shop), size, scheme)
    page.wait_for_selector("#rate .spark polyline", state="attached")
    before = page.inner_text("#rate .note")
    shop.get("/books/2")
    page.wait_for_function("before => document.querySelector('#rate .note').innerText !== before", arg=before)
    assert page.inner_text("#workers .value") == "2"
    assert "/books/<int:number>" in page.inner_text("#endpoint-rows")
    assert "ZeroDivisionError" in page.inner_text("#exceptions")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert _worst_contrast(page) >= CONTRAST
    assert complaints == []
    page.context.close()


def test_the_keyboard_reaches_every_control(browser: Browser, shop: Gunicorn) -> None:
    """Tab reaches them in the order of the page; screen readers announce the choice."""
    page, _ = _open(browser, _address(shop))
    page.wait_for_selector("#rate .spark polyline", state="attached")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText"))
    assert reached == ["Skip to the endpoints", "Pause", "Busiest", "Slowest", "Failing"]
    page.keyboard.press("Enter")
    assert page.get_attribute("[data-sort=failing]", "aria-pressed") == "true"
    shop.get("/broken")
    page.wait_for_selector("#endpoint-rows tr:first-child th:has-text('/broken')")
    page.context.close()


def test_the_page_shows_its_numbers_without_scripts(browser: Browser, shop: Gunicorn) -> None:
    """The page shows counts since the start, and no control that needs a script."""
    page, _ = _open(browser, _address(shop), scripts=False)
    assert page.inner_text("#when") == "Counted since the start."
    assert "ZeroDivisionError" in page.inner_text("#exceptions")
    row = page.inner_text("#endpoint-rows tr:has-text('/broken')")
    assert int(row.split()[-1]) >= 1
    assert not page.is_visible("button")
    page.context.close()


def test_the_page_of_an_idle_application_says_what_to_do(browser: Browser) -> None:
    """The empty page says what to do, and is replaced at the first request."""
    config = (SHOP / "gunicorn.conf.py").read_text()
    with Gunicorn("shop:app", workers=1, config=config, app_directory=SHOP) as gunicorn:
        page, _ = _open(browser, _address(gunicorn))
        assert "curl" in page.inner_text("#empty")
        gunicorn.get("/")
        page.wait_for_selector("#empty", state="hidden")
        page.context.close()


def test_the_page_names_the_problem_with_redis_and_recovers(browser: Browser) -> None:
    """The page does not show old figures as if they were new."""
    redis = RedisServer()
    with redis, Exporter(redis=redis) as exporter:
        page, _ = _open(browser, f"{exporter.url}/")
        assert page.inner_text("#headline") == "Waiting for the first worker"
        assert "no registry at this key" in page.inner_text("#empty")
        assert "gunicorn:metrics" in page.inner_text("#empty")
        page.wait_for_selector("#when:text-matches('^Live')")
        redis.kill()
        page.wait_for_selector("#headline:text-is('No figures')")
        assert page.inner_text("#scope").startswith("Redis is away: redis at ")
        assert "Start it" in page.inner_text("#scope")
        assert re.match(r"Since \d\d:\d\d:\d\d. The figures below are those of \d\d:", page.inner_text("#when"))
        assert page.eval_on_selector("#figures", "node => getComputedStyle(node).opacity") == "0.4"
        status, _headers, text = _answer(exporter.port, "/", "text/html")
        assert status == 503
        assert "No figures" in text
        assert "Redis is away" in text
        assert re.search(r"Since \d\d:\d\d:\d\d", text)
        assert "worker class" not in text
        late, _ = _open(browser, f"{exporter.url}/")
        assert "Redis is away" in late.inner_text("#scope")
        assert not late.is_visible("#figures")
        late.context.close()
        redis.start()
        page.wait_for_selector("#headline:text-is('Waiting for the first worker')")
        page.context.close()


def test_the_figures_of_the_page_are_those_of_the_metrics(shop: Gunicorn) -> None:
    """The script adds up in the same way as a scraper."""

    def total() -> float:
        figures = json.loads(_answer(shop.metrics_port, "/-/page.json", "*/*")[2])["figures"]
        assert sum(worker["requests"] for worker in figures["workers"]) == figures["requests"]
        return float(figures["requests"])

    before = total()
    for _ in range(3):
        shop.get("/")
    eventually(total, equals=before + 3)


_COLOURS = """() => {
  const luminance = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
      .map(part => part / 255).map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratios = [];
  for (const node of document.querySelectorAll('body *')) {
    const hasText = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!hasText || !node.checkVisibility()) continue;
    const [one, other] = [luminance(getComputedStyle(node).color), luminance(behind(node))];
    ratios.push((Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
  }
  return Math.min(...ratios);
}"""


def _worst_contrast(page: Page) -> float:
    """Returns the lowest contrast of all visible text with its background."""
    return float(page.evaluate(_COLOURS))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_shows_what_runs_and_the_deaths(browser: Browser, size: tuple[int, int], scheme: str) -> None:
    """No request, one, two hundred, and after ten deaths; oldest first, with and without scripts."""
    worker = "gunicorn_prometheus_exporter.PrometheusUvicornWorker"
    with Gunicorn(
        "apps.hanging_asgi:app",
        venv=Venv.frameworks(),
        worker_class=worker,
        arguments=["--graceful-timeout=1", "--timeout=2"],
        environment={"GUNICORN_EXPORTER_HTTP_IN_FLIGHT": "path"},
    ) as gunicorn:
        page, complaints = _open(browser, _address(gunicorn), size, scheme)
        page.wait_for_function("() => document.querySelector('#more-running').innerText === 'No request.'")
        assert page.inner_text("#deaths") == "None."
        with sent(gunicorn, ("GET", "/wait/first")):
            page.wait_for_function("() => document.querySelector('#running-rows').innerText.includes('/wait/first')")
            with sent(gunicorn, *[("POST", "/wait/<b>")] * 199) as others:
                eventually(lambda: len(traces_in_progress(gunicorn)), equals=200)
                page.wait_for_function("() => document.querySelectorAll('#running-rows tr').length === 50")
                assert "/wait/first" in page.inner_text("#running-rows tr:first-child")
                assert page.inner_text("#more-running") == "And 150 more, which began later."
                assert len(others) == 199
                assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
                gunicorn.kill_worker(gunicorn.worker_pids()[0])
                eventually(partial(_deaths, gunicorn), equals=1)
        for number in range(9):
            with sent(gunicorn, ("GET", "/spin" if number == 8 else "/die/exit")):
                eventually(partial(_deaths, gunicorn), equals=number + 2)
        page.wait_for_function("() => document.querySelectorAll('#deaths li').length === 10")
        assert "while answering 200 requests: GET /wait/first for" in page.inner_text("#deaths li:last-child")
        page.click("#deaths li:first-child summary")
        assert "in spin" in page.inner_text("#deaths li:first-child pre")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert _worst_contrast(page) >= CONTRAST
        if folder := os.environ.get("HARNESS_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/deaths-{size[0]}-{scheme}.png", full_page=True)
        page.context.close()
        plain, more_complaints = _open(browser, _address(gunicorn), size, scheme, scripts=False)
        assert plain.locator("#deaths li").count() == 10
        plain.context.close()
        assert complaints + more_complaints == []


def _deaths(gunicorn: Gunicorn) -> int:
    return len(overview(gunicorn)["deaths"])
