"""Helm installs the chart into an API server of the tests; Kubernetes knows every object that arrives there."""

import json
import shlex
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
    "exporter": {"env": [{"name": "LOG_FORMAT", "value": "json"}]},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "metrics", "operator": "Exists"}],
}
CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "an application that shares": {"app": APP},
    "sidecar": {"mode": "sidecar", "app": APP},
    "another's Redis": {"redis": {"deploy": False, "host": "redis.internal", "existingSecret": ""}},
    "everything, shared": {"app": APP, **ALL_OF_EVERYTHING},
    "everything, sidecar": {"mode": "sidecar", "app": APP, **ALL_OF_EVERYTHING},
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


EXPORTER = {"Deployment metrics-exporter", "Service metrics-exporter"}
REDIS = {"ConfigMap metrics-redis", "Service metrics-redis", "StatefulSet metrics-redis"}
APPLICATION = {"Deployment metrics-app", "Service metrics-app"}


@pytest.mark.parametrize(
    ("case", "objects"),
    [
        ("as it comes", EXPORTER | REDIS),
        ("another's Redis", EXPORTER),
        ("sidecar", APPLICATION),
        ("everything, sidecar", APPLICATION | {"NetworkPolicy metrics-metrics", "PodMonitor metrics"}),
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
    assert monitor["spec"][endpoints] == [{"port": "metrics", "path": "/metrics", "interval": "15s"}]
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
        ({"redis": {"existingSecret": ""}}, "redis.existingSecret is needed where redis.deploy is true"),
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
    assert names == {"metrics-app", "metrics-exporter", "metrics-redis"}


def test_values_are_those_of_the_schema() -> None:
    """Each value has a description of its type, and each description has a value."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _names(schema) - {"global"} == _keys(values)


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
