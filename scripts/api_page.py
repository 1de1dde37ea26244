#!/usr/bin/env python3
"""Prints docs/api.md, from the docstrings of the Python package: `make docs`.

Reads the source and imports nothing, so that worker classes whose libraries are missing are described as well.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "py-client" / "python" / "gunicorn_prometheus_exporter"
HEAD = """\
# Python reference

The names of the package `gunicorn_prometheus_exporter`. Most applications need one: a worker class.

This page is written by `make docs` from the docstrings; a test compares it with them.
"""
SECTIONS = (
    ("Worker classes", "For `worker_class`, or `gunicorn -k`.", lambda name, _: name.endswith("Worker")),
    (
        "Configuration and programs",
        "",
        lambda _, place: place in ("config", "programs"),
    ),
    (
        "Hooks",
        "For `gunicorn.conf.py`. The worker class alone does what they do, and they are harmless beside it.",
        lambda _, place: place == "compat.hooks",
    ),
    (
        "Names of the original package",
        "For code that was written for it. New code does not need them.",
        lambda *_: True,
    ),
)


def main() -> None:
    """Prints the page."""
    print(page(), end="")


def page() -> str:
    """Returns the page, in Markdown."""
    places = _places()
    parts = [HEAD]
    for title, text, belongs in SECTIONS:
        names = sorted(name for name, place in places.items() if belongs(name, place))
        parts.append("\n".join([f"## {title}\n", *([f"{text}\n"] if text else [])]))
        parts.extend(_described(name, places.pop(name)) for name in names)
    parts.append(_testing())
    return _plain("\n".join(parts))


def _plain(text: str) -> str:
    """Returns the text in Markdown: fences, and neither roles nor double backticks."""
    text = re.sub(r":(?:class|func|meth):`\.?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = text.replace("``", "`")
    block = r"(?:^    .*\n)+"
    return re.sub(block, lambda found: f"```python\n{inspect.cleandoc(found[0])}\n```\n", text, flags=re.MULTILINE)


def _places() -> dict[str, str]:
    """Returns the module of each public name."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_PLACES":
            places: dict[str, str] = ast.literal_eval(node.value)
            return places
    raise SystemExit("the package has no table _PLACES")


def _described(name: str, place: str) -> str:
    node, module = _find(name, place)
    if module is None:
        return f"### `{name}{_native_arguments(name)}`\n\n{_find_native(name)}\n"
    if isinstance(node, ast.ClassDef):
        return "\n".join([f"### `{name}`\n", _text(node), *_methods(node)])
    if isinstance(node, ast.FunctionDef):
        return f"### `{name}{_arguments(node)}`\n\n{_text(node)}"
    return f"### `{name}`\n\n{_value_text(name, module)}"


def _find(name: str, place: str) -> tuple[ast.AST | None, ast.Module | None]:
    """Returns the definition and its module, which may import it from another; no module for the native part."""
    path = PACKAGE / f"{place.replace('.', '/')}.py"
    if place.endswith("_native"):
        return None, None
    if not path.exists():
        path = PACKAGE / place.replace(".", "/") / "__init__.py"
    module = ast.parse(path.read_text())
    for node in module.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node, module
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            level = place.split(".")[: -node.level or None]
            return _find(name, ".".join([*level, *(node.module or "").split(".")]).strip("."))
    return None, module


def _native_arguments(name: str) -> str:
    for node in ast.parse((PACKAGE / "_native.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _arguments(node)
    raise SystemExit(f"{name} is not in _native.pyi")


def _find_native(name: str) -> str:
    """Returns the doc comment of a function of the native part."""
    for path in sorted((PACKAGE.parents[1] / "src").rglob("*.rs")):
        lines = path.read_text().splitlines()
        for at, line in enumerate(lines):
            if line.startswith(f"pub(crate) fn {name}("):
                start = at
                while lines[start - 1].startswith(("///", "#[", "//")):
                    start -= 1
                return "\n".join(one[3:].strip() for one in lines[start:at] if one.startswith("///"))
    raise SystemExit(f"{name} has no documentation")


def _value_text(name: str, module: ast.Module) -> str:
    """Returns the text below an assignment, or the comment `#:` above it."""
    for before, after in zip(module.body, module.body[1:], strict=False):
        targets = getattr(before, "targets", [getattr(before, "target", None)])
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(str(after.value.value)) + "\n"
            return (ast.get_docstring(module) or "") + "\n"
    raise SystemExit(f"{name} has no documentation")


def _text(node: ast.ClassDef | ast.FunctionDef) -> str:
    text = ast.get_docstring(node)
    if text is None:
        raise SystemExit(f"{node.name} has no documentation")
    return text + "\n"


def _methods(node: ast.ClassDef) -> list[str]:
    """Returns a line for each public method that has a docstring."""
    found = [
        one
        for one in node.body
        if isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and ast.get_docstring(one)
    ]
    lines = [f"- `{one.name}{_arguments(one)}`: {_first_sentence(one)}" for one in found]
    return [*lines, ""] if lines else []


def _first_sentence(node: ast.FunctionDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def _arguments(node: ast.FunctionDef) -> str:
    if any(isinstance(one, ast.Name) and one.id in ("property", "cached_property") for one in node.decorator_list):
        return ""
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ")
    arguments = "" if arguments in ("self", "cls") else arguments
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({arguments}){returns}"


def _testing() -> str:
    module = ast.parse((PACKAGE / "testing.py").read_text())
    return f"## `gunicorn_prometheus_exporter.testing`\n\n{ast.get_docstring(module)}\n"


if __name__ == "__main__":
    main()
