"""Helm installs the chart into an API server of the tests; Kubernetes knows every object that arrives there."""

import base64
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_deploy_files import assert_kubernetes_knows

from harness.helm import HelmError, install, lint
from harness.paths import ROOT

CHART = ROOT / "deploy" / "helm"
APP = {"image": "shop:1", "env": [{"name": "GREETING", "value": "hi"}]}
WORKLOADS = ("Deployment", "StatefulSet")
ALL_OF_EVERYTHING = {
    "scrape": {"annotations": False, "monitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "networkPolicy": {"enabled": True},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Gunicorn"}},
    "serviceAccount": {"name": "shop", "annotations": {"team": "shop"}},
    "exporter": {
        "env": [{"name": "LOG_FORMAT", "value": "json"}],
        "extraEnv": [{"name": "RUST_LOG", "value": "warn"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "extraArgs": ["--log-format=json"],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        "podLabels": {"part": "exporter"},
        "podAnnotations": {"note": "exporter"},
        "image": {"registry": "registry.example.com", "digest": f"sha256:{'a' * 64}", "pullPolicy": "Always"},
    },
    "redis": {"storageClass": "fast", "podAnnotations": {"note": "redis"}},
    "imagePullSecrets": [{"name": "registry"}],
    "imageRegistry": "mirror.example.com",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "metrics", "operator": "Exists"}],
    "priorityClassName": "high",
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "commonLabels": {"team": "shop"},
    "commonAnnotations": {"owner": "shop"},
    "nameOverride": "metrics-of-shop",
    "fullnameOverride": "metrics",
}
FULL_APP = {
    "image": {
        "registry": "registry.example.com",
        "repository": "shop",
        "tag": "2.4.1",
        "digest": "",
        "pullPolicy": "Always",
    },
    "command": ["gunicorn"],
    "extraArgs": ["shop:app"],
    "env": [{"name": "GREETING", "value": "hi"}],
    "extraEnv": [{"name": "MORE", "value": "1"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
    "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    "podLabels": {"part": "app"},
    "podAnnotations": {"note": "app"},
    "service": {"type": "NodePort", "port": 8080, "annotations": {"note": "service"}},
    "autoscaling": {"enabled": True, "maxReplicas": 5},
    "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
}
CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "an application that shares": {"app": APP},
    "sidecar": {"mode": "sidecar", "app": APP},
    "another's Redis": {"redis": {"deploy": False, "host": "redis.internal", "existingSecret": ""}},
    "everything, shared": {"app": FULL_APP, **ALL_OF_EVERYTHING},
    "everything, sidecar": {"mode": "sidecar", "app": FULL_APP, **ALL_OF_EVERYTHING},
}


def _installed(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    objects = install(CHART, values).objects
    named = {f"{one['kind']} {one['metadata']['name']}": one for one in objects}
    assert len(named) == len(objects)
    return named


@pytest.mark.parametrize("values", CASES.values(), ids=list(CASES))
def test_kubernetes_knows_every_field_and_nothing_needs_root(values: dict[str, Any], tmp_path: Path) -> None:
    """Checks the schemas of the Kubernetes API; the test below checks the operator's monitors."""
    installed = _installed(values)
    manifest = tmp_path / "installed.yaml"
    own = [one for one in installed.values() if not one["apiVersion"].startswith("monitoring.coreos.com/")]
    manifest.write_text(yaml.safe_dump_all(own))
    assert_kubernetes_knows(manifest)
    for one in installed.values():
        if one["kind"] not in WORKLOADS:
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_helm_lint_finds_nothing() -> None:
    assert lint(CHART) == []


ACCOUNT = {"ServiceAccount metrics"}
EXPORTER = {"Deployment metrics-exporter", "Service metrics-exporter", *ACCOUNT}
REDIS = {"ConfigMap metrics-redis", "Secret metrics-redis", "Service metrics-redis", "StatefulSet metrics-redis"}
APPLICATION = {"Deployment metrics-app", "Service metrics-app"}
DASHBOARDS = {f"ConfigMap metrics-{path.stem}" for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
OPTIONAL = {
    *("ServiceAccount shop", "NetworkPolicy metrics-metrics", "PrometheusRule metrics", *DASHBOARDS),
    *("HorizontalPodAutoscaler metrics-app", "PodDisruptionBudget metrics-app"),
}


@pytest.mark.parametrize(
    ("case", "objects"),
    [
        ("as it comes", EXPORTER | REDIS),
        ("another's Redis", EXPORTER),
        ("sidecar", APPLICATION | ACCOUNT),
        ("everything, sidecar", APPLICATION | OPTIONAL | {"PodMonitor metrics"}),
        (
            "everything, shared",
            APPLICATION
            | OPTIONAL
            | (EXPORTER - ACCOUNT)
            | REDIS
            | {"ServiceMonitor metrics", "PodMonitor metrics-app", "NetworkPolicy metrics-redis"},
        ),
    ],
)
def test_only_the_selected_objects_are_installed(case: str, objects: set[str]) -> None:
    assert _installed(CASES[case]).keys() == objects


@pytest.mark.parametrize("mode", ["standalone", "sidecar"])
def test_prometheus_finds_each_registry_once(mode: str) -> None:
    """Annotations or a monitor name the exporter if metrics are shared, and then not the pods that share them."""
    by_annotation = _installed({"mode": mode, "app": APP})
    scraped = [
        name
        for name, one in by_annotation.items()
        if one["kind"] in WORKLOADS
        and "prometheus.io/scrape" in one["spec"]["template"]["metadata"].get("annotations", {})
    ]
    workload = "metrics-exporter" if mode == "standalone" else "metrics-app"
    assert scraped == [f"Deployment {workload}"]
    everything = _installed(CASES["everything, shared" if mode == "standalone" else "everything, sidecar"])
    assert "prometheus.io/scrape" not in json.dumps(everything)
    kind, endpoints = ("ServiceMonitor", "endpoints") if mode == "standalone" else ("PodMonitor", "podMetricsEndpoints")
    monitor = everything[f"{kind} metrics"]
    assert monitor["spec"][endpoints] == [
        {"port": "metrics", "path": path, "interval": "15s"} for path in ("/metrics", "/-/metrics")
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    # A ServiceMonitor selects services, a PodMonitor pods: by labels, and by the name of one of their ports.
    target = (
        everything[f"Service {workload}"]
        if mode == "standalone"
        else everything[f"Deployment {workload}"]["spec"]["template"]
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= target["metadata"]["labels"].items()
    assert '"name": "metrics"' in json.dumps(target["spec"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mode": "both"}, "mode"),
        ({"mode": "sidecar"}, "app.image is needed in the mode sidecar"),
        ({"redis": {"deploy": False}}, "redis.host is needed where redis.deploy is false"),
        ({"exporter": {"image": {"digest": "latest"}}}, "digest"),
        ({"app": {"image": {"tag": "1"}}}, "repository"),
        ({"exporter": {"imagee": "x"}}, "imagee"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(HelmError, match=reason):
        install(CHART, values)


def test_the_notes_say_how_to_see_the_page() -> None:
    assert "port-forward service/metrics-exporter 9091" in install(CHART, {}).notes
    assert "REDIS_HOST=metrics-redis" in install(CHART, {}).notes
    assert "port-forward deployment/metrics-app 9091" in install(CHART, CASES["sidecar"]).notes
    unannounced = {"scrape": {"annotations": False}}
    assert "Prometheus does not find the target yet" in install(CHART, unannounced).notes


@pytest.mark.parametrize("page", ["README.md", "docs/deployment.md"])
def test_the_command_of_the_documentation_installs_the_application(page: str) -> None:
    (words,) = [
        shlex.split(line) for line in (ROOT / page).read_text().splitlines() if line.startswith("    helm install ")
    ]
    release, chart, option, setting = words[2:]
    assert option == "--set"
    assert setting.startswith("app.image=")
    image = setting.removeprefix("app.image=")
    names = {one["metadata"]["name"] for one in install(ROOT / chart, {"app": {"image": image}}, release).objects}
    assert names == {"metrics", "metrics-app", "metrics-exporter", "metrics-redis"}


def test_values_are_those_of_the_schema() -> None:
    """Each value has a description of its type, and each description has a value."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _names(schema) - {"global"} == _keys(values)


def test_the_table_of_the_chart_is_that_of_the_values() -> None:
    """`make docs` writes it from the comments of values.yaml."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "chart_page.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (CHART / "README.md").read_text()


def test_the_password_of_redis_is_generated_where_none_is_named() -> None:
    """Application, exporter and Redis read the same one; another one is used if it is named."""
    installed = _installed({"app": APP})
    secret = installed["Secret metrics-redis"]
    assert re.fullmatch(r"[A-Za-z0-9]{40}", base64.b64decode(secret["data"]["password"]).decode())
    assert _secrets(installed) == {"metrics-redis"}
    named = _installed({"app": APP, "redis": {"existingSecret": "mine"}})
    assert "Secret metrics-redis" not in named
    assert _secrets(named) == {"mine"}
    own = _installed({"redis": {"deploy": False, "host": "redis.internal"}})
    assert "REDIS_PASSWORD" not in json.dumps(own)


def _secrets(installed: Mapping[str, Any]) -> set[str]:
    return set(
        re.findall(r'"secretKeyRef": \{"key": "password", "name": "(.*?)"', json.dumps(installed, sort_keys=True))
    )


def test_metrics_never_make_the_application_unready() -> None:
    """A pod is ready if all of its containers are, so only the application's own has a probe."""
    for mode in ("standalone", "sidecar"):
        pod = _installed({"mode": mode, "app": APP})["Deployment metrics-app"]["spec"]["template"]["spec"]
        assert [one["name"] for one in pod["containers"] if "readinessProbe" in one] == ["app"]
    for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            containers = one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
            probed = [container["name"] for container in containers if "readinessProbe" in container]
            assert len(containers) < 2 or probed == [containers[0]["name"]], path


@pytest.mark.parametrize("mode", ["standalone", "sidecar"])
def test_every_value_arrives(mode: str) -> None:
    """Labels and annotations everywhere, images by their parts, and everything that is extra."""
    installed = _installed({"mode": mode, "app": FULL_APP, **ALL_OF_EVERYTHING})
    for one in installed.values():
        assert one["metadata"]["labels"]["team"] == "shop"
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "metrics-of-shop"
        assert one["metadata"]["annotations"]["owner"] == "shop"
    pods = {name: one["spec"]["template"] for name, one in installed.items() if one["kind"] in WORKLOADS}
    for pod in pods.values():
        assert pod["spec"]["serviceAccountName"] == "shop"
        assert pod["spec"]["priorityClassName"] == "high"
    app = pods["Deployment metrics-app"]
    assert app["metadata"]["labels"]["part"] == app["metadata"]["annotations"]["note"] == "app"
    assert app["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    container = app["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example.com/shop:2.4.1", "Always")
    assert (container["command"], container["args"]) == (["gunicorn"], ["shop:app"])
    assert {"GREETING", "MORE"} < {one["name"] for one in container["env"]}
    assert container["envFrom"] == [{"configMapRef": {"name": "more"}}]
    assert "/tls" in {one["mountPath"] for one in container["volumeMounts"]}
    assert "replicas" not in installed["Deployment metrics-app"]["spec"]
    service = installed["Service metrics-app"]
    assert service["spec"]["type"] == "NodePort"
    assert {"note": "service", "owner": "shop"}.items() <= service["metadata"]["annotations"].items()
    exporter = (app if mode == "sidecar" else pods["Deployment metrics-exporter"])["spec"]["containers"][-1]
    assert exporter["image"] == f"registry.example.com/gunicorn-metrics-exporter@sha256:{'a' * 64}"
    assert exporter["args"] == [mode, "--log-format=json"]
    assert {"LOG_FORMAT", "RUST_LOG"} < {one["name"] for one in exporter["env"]}
    if mode == "standalone":
        redis = pods["StatefulSet metrics-redis"]["spec"]["containers"][0]
        assert redis["image"] == "mirror.example.com/gunicorn-metrics-redis:1.0.0"


def test_rules_and_dashboards_of_the_chart_are_those_of_the_repository() -> None:
    """The operator and Grafana's sidecar get what files would give them."""
    installed = _installed(CASES["everything, shared"])
    rules = [
        yaml.safe_load((ROOT / f"deploy/prometheus/{name}.yml").read_text()) for name in ("rules", "original-names")
    ]
    assert installed["PrometheusRule metrics"]["spec"]["groups"] == [group for one in rules for group in one["groups"]]
    assert installed["PrometheusRule metrics"]["metadata"]["labels"]["release"] == "prometheus"
    for path in (ROOT / "deploy/grafana/dashboards").glob("*.json"):
        found = installed[f"ConfigMap metrics-{path.stem}"]
        assert json.loads(found["data"][path.name]) == json.loads(path.read_text())
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"]["grafana_folder"] == "Gunicorn"


def _names(schema: dict[str, Any], path: str = "") -> set[str]:
    properties: dict[str, Any] = schema.get("properties", {})
    return {f"{path}{name}" for name in properties}.union(
        *(_names(one, f"{path}{name}.") for name, one in properties.items())
    )


def _keys(values: dict[str, Any], path: str = "") -> set[str]:
    names = set()
    for name, value in values.items():
        names.add(f"{path}{name}")
        if isinstance(value, dict) and name not in ("resources", "labels", "nodeSelector", "affinity"):
            names |= _keys(value, f"{path}{name}.")
    return names
