"""The pictures of the documentation, made by a real browser.

    make screenshots     writes docs/page.png; look at it before you commit it

`make test` makes the same picture of fewer requests, and checks that it shows them.
"""

import os
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from harness import Gunicorn, Load
from harness.paths import ROOT

SHOP = ROOT / "examples" / "flask_app"
# Where the pictures go, and how long requests are sent before.
DIRECTORY = os.environ.get("SCREENSHOTS")
SECONDS = 75 if DIRECTORY else 3
# One request in a hundred meets the defect.
PATHS = ["/", "/books/1", "/books/2", "/books/3"] * 24 + ["/books/9"] * 3 + ["/broken"]


def test_the_picture_of_the_live_page_shows_traffic(tmp_path: Path) -> None:
    """Three workers, some requests each second, and one in a hundred fails."""
    directory = ROOT / DIRECTORY if DIRECTORY else tmp_path
    with Gunicorn("shop:app", workers=3, app_directory=SHOP) as gunicorn, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
            page.goto(f"http://127.0.0.1:{gunicorn.metrics_port}/")
            with Load([gunicorn.port], PATHS, clients=1) as load:
                load.wait_for(more=len(PATHS))
                time.sleep(SECONDS)
                page.wait_for_function("document.body.innerText.includes('/books/<int:number>')")
                page.screenshot(path=directory / "page.png", full_page=True)
        finally:
            browser.close()
    header = (directory / "page.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20], "big") == 1280
    assert int.from_bytes(header[20:24], "big") > 600
