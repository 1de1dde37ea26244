"""Hooks of mkdocs.yml: pages of the repository outside docs/, and links to any file of the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError  # type: ignore[import-not-found]
from mkdocs.structure.files import File  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[1]
# Pages of the site that are not in docs/.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "redis-module/README.md": "redis-module.md",
    "redis-module/BATCH.md": "redis-module-batch.md",
}
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)?(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Rewrites links, which are written for a reader of the repository."""
    uri = page.file.src_uri
    source = next((source for source, name in OUTSIDE.items() if name == uri), f"docs/{uri}")

    def rewritten(found: re.Match[str]) -> str:
        before, target, anchor = found.groups()
        if target is None or re.match(r"[a-z]+:", target):
            return found[0]
        return f"{before}{_place(source, target, config.repo_url)}{anchor or ''})"

    parts = _CODE.split(markdown)
    # Every second part is code.
    parts[::2] = [_LINK.sub(rewritten, part) for part in parts[::2]]
    return "".join(parts)


def _place(source: str, target: str, repository: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in OUTSIDE:
        return OUTSIDE[path]
    if not (ROOT / path).exists():
        raise PluginError(f"{source} links to {target}, and there is no such file")
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository.rstrip('/')}/{kind}/main/{path}"
