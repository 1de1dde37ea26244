"""The parts of which scripts/dashboards.py makes dashboards: variables, panels, links, marks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OVERVIEW, WORKERS, EXPORTER = "gunicorn-overview", "gunicorn-workers", "gunicorn-exporter"
# Labels that select the targets. A Prometheus without namespaces has no such label, so "All" matches its absence too.
TARGET = 'job=~"$job",namespace=~"$namespace",instance=~"$instance"'
ENDPOINT = f'{TARGET},endpoint=~"$endpoint"'
WORKER = f'{TARGET},worker_id=~"$worker"'
RATE = "[$__rate_interval]"
# What a link keeps: the data source, the selected targets and the time.
KEPT = "${datasource:queryparam}&${namespace:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"
SHARE = {
    "mode": "absolute",
    "steps": [
        {"color": "green", "value": None},
        {"color": "orange", "value": 0.01},
        {"color": "red", "value": 0.05},
    ],
}


def quantile(share: float, bucket: str, selector: str, by: str = "") -> str:
    """Returns a quantile of a histogram."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({bucket}{{{selector}}}{RATE})))"


def summed(name: str, selector: str, by: str = "instance", function: str = "rate") -> str:
    """Returns the rates, or the increases, of a counter."""
    return f"sum by ({by}) ({function}({name}{{{selector}}}{RATE}))"


def targets(metric: str) -> list[dict[str, Any]]:
    """Returns the variables of every dashboard."""
    return [
        {
            "name": "datasource",
            "type": "datasource",
            "query": "prometheus",
            "label": "Prometheus",
            "current": {},
            "hide": 0,
        },
        variable("namespace", "Namespace", metric, ".*"),
        variable("job", "Application", f'{metric}{{namespace=~"$namespace"}}', ".+"),
        variable("instance", "Instance", f'{metric}{{namespace=~"$namespace",job=~"$job"}}', ".*"),
    ]


def variable(name: str, label: str, of: str, everything: str, values: str = "") -> dict[str, Any]:
    """Returns a variable that lists the values of a label."""
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({of}, {values or name})", "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": everything,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def link(board: str, title: str, variable: str = "", label: str = "") -> dict[str, Any]:
    """Returns a link to a dashboard that selects there what the clicked series is of."""
    selected = f"var-{variable}=${{__field.labels.{label or variable}}}&" if variable else ""
    return {"title": title, "url": f"/d/{board}?{selected}{KEPT}"}


def _panel(kind: str, title: str, text: str, queries: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
        for at, (legend, expression) in enumerate(queries.items())
    ]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "targets": targets,
        "options": options,
    }


def _defaults(unit: str, link: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    links = {"links": [link]} if link else {}
    return {"defaults": {"unit": unit, "min": 0, **more, **links}, "overrides": []}


def stat(
    title: str, text: str, expression: str, unit: str, link: dict[str, Any] | None = None, thresholds: Any = None
) -> dict[str, Any]:
    """Returns a panel with one figure."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"}
    more = {"thresholds": thresholds} if thresholds else {}
    return _panel("stat", title, text, {"": expression}, options) | {"fieldConfig": _defaults(unit, link, **more)}


def lines(
    title: str, text: str, queries: dict[str, str], unit: str, link: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Returns a graph."""
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    look = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    return _panel("timeseries", title, text, queries, options) | {"fieldConfig": _defaults(unit, link, custom=look)}


def heat(title: str, text: str, expression: str) -> dict[str, Any]:
    """Returns a heat map of a histogram."""
    options = {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Blues"}, "tooltip": {"mode": "single"}}
    panel = _panel("heatmap", title, text, {"{{le}}": expression}, options)
    panel["targets"][0]["format"] = "heatmap"
    return panel | {"fieldConfig": {"defaults": {}, "overrides": []}}


def _annotation(name: str, color: str, expression: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": expression,
        "titleFormat": name,
        "textFormat": text,
        "step": "60s",
    }


def board(
    uid: str, title: str, text: str, variables: list[dict[str, Any]], rows: list[tuple[str, list[dict[str, Any]]]]
) -> dict[str, Any]:
    """Returns a dashboard."""
    restarts = f"sum by (reason) (increase(gunicorn_worker_restart_total{{{TARGET}}}[1m])) > 0"
    reloads = f'sum by (reason) (increase(gunicorn_master_worker_restart_total{{{TARGET},reason=~"hup|usr2"}}[1m])) > 0'
    info = f"gunicorn_build_info{{{TARGET}}}"
    new = f"count by (version, gunicorn_version, python_version) ({info} unless {info} offset 2m)"
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["gunicorn"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": variables},
        "annotations": {
            "list": [
                _annotation("Worker ends", "orange", restarts, "{{reason}}"),
                _annotation("Reload or upgrade", "blue", reloads, "{{reason}}"),
                _annotation("Deploy", "green", new, "gunicorn {{gunicorn_version}}, Python {{python_version}}"),
            ]
        },
        "links": [
            {
                "type": "dashboards",
                "tags": ["gunicorn"],
                "title": "Gunicorn",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": list(_placed(rows)),
    }


def _placed(rows: list[tuple[str, list[dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    """Yields the rows and their panels, each with its place: figures side by side, graphs in two columns."""
    y = identity = 0
    for title, panels in rows:
        identity += 1
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        yield {"id": identity, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        y += 1
        is_figures = panels[0]["type"] == "stat"
        width, height, columns = (24 // len(panels), 4, len(panels)) if is_figures else (12, 8, 2)
        for at, panel in enumerate(panels):
            identity += 1
            place = {"x": at % columns * width, "y": y + at // columns * height, "w": width, "h": height}
            yield {"id": identity, **panel, "gridPos": place}
        y += -(-len(panels) // columns) * height
