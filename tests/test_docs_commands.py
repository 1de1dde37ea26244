"""The files to which the documentation links exist, and so do the commands that it names."""

import re
import subprocess
from pathlib import Path

import pytest

from harness.paths import EXPORTER, ROOT, built

PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Checks links to files of this repository; links to other sites are not fetched."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """Checks paths of this repository in the text; `NAME` stands for a file that a reader adds."""
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "target")
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
        assert "NAME" in name or (ROOT / name).exists(), f"{page.name} names {name}"


def test_commands_of_the_exporter_that_pages_name_exist() -> None:
    """Checks every page."""
    help_text = subprocess.run([built(EXPORTER), "--help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^  ([a-z-]+)", help_text.split("Commands:")[1].split("Options:")[0], re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"gunicorn-prometheus-exporter ([a-z][a-z-]+)", page.read_text()))
        assert named <= commands, f"{page.name} names {named - commands}"


def test_make_targets_that_pages_name_exist() -> None:
    """Checks every page."""
    makefile = (ROOT / "Makefile").read_text()
    words = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
        named |= set(re.findall(r"^    make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= words, f"{page.name} names {named - words}"


def test_lines_of_troubleshooting_are_those_of_the_program() -> None:
    """Each quoted line is in the source that writes it; `…` stands for any text."""
    crates = ("exporter", "agent", "settings", "model")
    folders = (*(ROOT / crate / "src" for crate in crates), ROOT / "py-client")
    paths = [path for folder in folders for kind in ("*.rs", "*.py") for path in folder.rglob(kind)]
    source = "\n".join(path.read_text() for path in paths)
    source = re.sub(r"\\\n\s*", "", source)
    quoted = re.findall(r"^\| `([^`|]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    lines = [line for line in quoted if " " in line and not line.startswith("endpoint=")]
    assert len(lines) > 15
    for line in lines:
        for part in re.split(r"…", line):
            words = part.strip(" :;,()")
            if len(words) > 3:
                assert words in source, f"nothing writes {words!r}, of {line!r}"


def _logged() -> list[str]:
    """Returns each warning and error that the code logs, as it is written there, without tests."""
    rust = (
        r'tracing::(?:warn|error)!\(\s*"((?:[^"\\]|\\.)*)"',
        r'"(?:warning|error)",\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)"',
    )
    python = (r'(?:log|_LOG)\.(?:warning|error|critical|exception)\(\s*f?"((?:[^"\\]|\\.)*)"',)
    lines = []
    for folder in ("exporter/src", "agent/src", "py-client/src", "py-client/python"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix not in (".rs", ".py") or "tests" in path.stem:
                continue
            source = re.sub(r"\\\n\s*", "", path.read_text().split("#[cfg(test)]")[0])
            for pattern in rust if path.suffix == ".rs" else python:
                lines.extend(re.findall(pattern, source))
    return lines


def test_every_line_of_the_log_is_in_troubleshooting() -> None:
    """Each warning and error is found there by its longest words between names and numbers."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    lines = _logged()
    assert len(lines) > 60
    for line in lines:
        parts = [part.strip(" :;,()'") for part in re.split(r"\{[^}]*\}|%s|%d", line)]
        words = max(parts, key=len)
        # Some lines are wholly made elsewhere, and their words are in the tables by the test above.
        if len(words) > 12:
            assert any(part in page for part in parts if len(part) > 12), f"docs/troubleshooting.md has no {line!r}"


def test_what_pages_let_pip_install_exists() -> None:
    """An index has another package of our name, so pages install the wheel that `make build` leaves.

    Only the page for the index itself, py-client/README.md, names the package there.
    """
    pages = [*PAGES, *(ROOT / "examples").rglob("*.md"), *(ROOT / "system-test").glob("*.md")]
    lines = [line for page in pages for line in re.findall(r"pip install ([^`\n]*)", page.read_text())]
    assert len(lines) > 5
    for line in lines:
        assert "gunicorn-prometheus-exporter" not in line, line
