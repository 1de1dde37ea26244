"""`make site`: every page is built, every link inside the site leads somewhere, and the search finds words."""

import json
import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest

from harness.paths import ROOT, VENVS


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a link, a part that the browser loads, or an anchor."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        if tag in ("script", "img"):
            self.loaded.add(found.get("src", ""))
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(found.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    directory = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [VENVS / "site" / "bin" / "mkdocs", "build", "--strict", "--site-dir", directory]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return directory


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """Also its anchors; links to other sites are not fetched, and nothing is loaded from them."""
    pages = {path.relative_to(site).as_posix(): _Page(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 20
    for name, page in pages.items():
        assert not [one for one in page.loaded if one.startswith(("http", "//"))], name
        for link in page.links:
            target, anchor = urldefrag(urljoin(f"/{name}", link))
            if urlsplit(target).netloc or name == "404.html" or not target.startswith("/"):
                continue
            path = target.lstrip("/") + ("index.html" if target.endswith("/") else "")
            assert (site / path).exists(), f"{name} links to {link}"
            if anchor and path in pages:
                assert anchor in pages[path].anchors, f"{name} links to {link}"


def test_the_search_finds_settings_metrics_and_lines(site: Path) -> None:
    """The index has the words of every kind of page."""
    index = json.loads((site / "search" / "search_index.json").read_text())
    text = json.dumps(index["docs"])
    for word in (
        "REDIS_PASSWORD_FILE",
        "gunicorn_http_requests_total",
        "METRICS.EXPOSE",
        "load_yaml_config",
        "check-config",
    ):
        assert word in text, word


def test_every_page_of_docs_is_in_the_navigation(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.stem / "index.html").exists(), page.name
