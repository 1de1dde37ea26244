#!/usr/bin/env python3
"""Prints deploy/helm/README.md, with a table of the values from the comments of values.yaml: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

VALUES = Path(__file__).resolve().parents[1] / "deploy" / "helm" / "values.yaml"
HEAD = """\
# Chart

Installs the exporter with its own Redis, and the application if `app.image` names it; with `mode=sidecar` an exporter
beside each pod's application, and no Redis.

    helm install metrics deploy/helm --set app.image=registry.example.com/shop:2.4.1

Without any value it works too: the exporter, a Redis with a generated password, and notes that say how an application
joins. First build the images of [deploy/docker](../docker/Dockerfile), and push them to a registry that the cluster
reads (`imageRegistry`).

- **Prometheus** finds the target by annotations ([kubernetes.yml](../prometheus/kubernetes.yml) reads them), or with
  the operator by `scrape.monitor.enabled=true` and `scrape.annotations=false`. The monitors also scrape the exporters'
  own metrics.
- **Rules and dashboards**: `prometheusRule.enabled=true`, `dashboards.enabled=true`.
- **The application stays ready** whatever happens to its metrics: nothing of them is in its readiness.
- **The password of Redis** is generated once, and stays at upgrades. Tools that render without a cluster
  (`helm template`, Argo CD) generate another each time: there, name a secret with `redis.existingSecret`.

## Values

This table is written by `make docs` from `values.yaml`.

| value | default | |
| --- | --- | --- |
"""


def main() -> None:
    """Prints the page."""
    rows = (f"| `{key}` | {f'`{default}`' if default else ''} | {text} |\n" for key, default, text in values())
    print(HEAD + "".join(rows), end="")


def values() -> Iterator[tuple[str, str, str]]:
    """Yields key, default and comment of each value."""
    path: list[str] = []
    comment: list[str] = []
    for line in VALUES.read_text().splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif found := re.match(r"( *)([\w]+):(?: (.*))?$", line):
            indent, name, default = found.groups()
            path[len(indent) // 2 :] = [name]
            if default is not None:
                if not comment:
                    raise SystemExit(f"{'.'.join(path)} has no comment in {VALUES.name}")
                yield ".".join(path), default.strip('"'), " ".join(comment)
            comment = []


if __name__ == "__main__":
    main()
