"""File systems that tests mount, if this user may mount."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted_tmpfs(path: Path, options: str) -> Iterator[Path]:
    """Mounts one in memory; skips the test if this machine does not allow it."""
    with _mounted(path, ["-t", "tmpfs", "-o", options, "tmpfs"]):
        yield path


@contextlib.contextmanager
def mounted_overlay(path: Path) -> Iterator[Path]:
    """Mounts an overlay, the file system of a container."""
    layers = [path.with_name(f"{path.name}-{name}") for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir()
    lower, upper, work = layers
    with _mounted(path, ["-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay"]):
        yield path


@contextlib.contextmanager
def _mounted(path: Path, arguments: list[str]) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", *arguments, path], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine lets us mount no {arguments[1]}: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: the processes that hold descriptors there are about to end.
        subprocess.run(["umount", "--lazy", path], check=True)
