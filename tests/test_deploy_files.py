"""The platforms accept the files in deploy/, as far as this can be checked without the platforms."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import hcl2
import pytest
import redis
import yaml

from harness import Exporter, Gunicorn, RedisServer, eventually, scrape
from harness.paths import EXPORTER, MODULE, ROOT, built

DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def _run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_knows_every_field(manifest: Path) -> None:
    assert_kubernetes_knows(manifest)


def assert_kubernetes_knows(manifest: Path) -> None:
    """Compares it with the schemas of the Kubernetes API."""
    assert "passed" in _run(BIN / "kubernetes-validate", "--strict", manifest)


def test_autoscalers_follow_a_recorded_series() -> None:
    """The HPA is valid; it and KEDA ask for the series that the rules record."""
    folder = DEPLOY / "kubernetes" / "autoscaling"
    assert_kubernetes_knows(folder / "hpa.yaml")
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    adapter = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())["rules"]["external"][0]
    scaler = yaml.safe_load((folder / "hpa.yaml").read_text())["spec"]["metrics"][0]["external"]
    trigger = yaml.safe_load((folder / "keda.yaml").read_text())["spec"]["triggers"][0]["metadata"]
    assert adapter["seriesQuery"] in recorded
    assert adapter["name"]["as"] == scaler["metric"]["name"]
    assert f"max({adapter['seriesQuery']}{{" in trigger["query"]


def test_no_pod_of_a_shared_registry_is_scraped_beside_the_exporter() -> None:
    """Each pod's page would contain the metrics of all pods."""
    scraped = [
        document["metadata"]["name"]
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / "shared.yaml").read_text())
        if "prometheus.io/scrape" in str(document.get("spec", {}).get("template", {}).get("metadata", {}))
    ]
    assert scraped == ["metrics-exporter"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_no_container_needs_root(manifest: Path) -> None:
    """No container runs as root, writes to its image, gains rights, or holds a token of the cluster."""
    for document in yaml.safe_load_all(manifest.read_text()):
        if document["kind"] not in ("Deployment", "DaemonSet", "StatefulSet"):
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """The programs that the units name exist here, because systemd checks that."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd")
    units = []
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = [
            "ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in unit.read_text().splitlines()
        ]
        units.append(tmp_path / unit.name)
        units[-1].write_text("\n".join(lines) + "\n")
    assert _run("systemd-analyze", "verify", *units) == ""


def test_redis_starts_with_metrics_conf_and_its_users_have_exactly_their_rights(tmp_path: Path) -> None:
    """They can do no more: the user that pushes cannot read other keys, the user that reads cannot write."""
    fragment = (DEPLOY / "redis" / "metrics.conf").read_text()
    assert "/usr/local/lib/libredis_metrics.so" in fragment
    (tmp_path / "metrics.conf").write_text(fragment.replace("/usr/local/lib/libredis_metrics.so", str(MODULE)))
    users = _without_comments((DEPLOY / "redis" / "users.acl").read_text())
    (tmp_path / "users.acl").write_text(f"{users}user admin on nopass ~* +@all\n")
    socket = tmp_path / "redis.sock"
    (tmp_path / "redis.conf").write_text(
        f"include {tmp_path}/metrics.conf\naclfile {tmp_path}/users.acl\nport 0\nunixsocket {socket}\ndir {tmp_path}\n"
    )
    url = f"unix://{socket}?user={{}}&pass={{}}"
    push = {"REDIS_ENABLED": "true", "GUNICORN_EXPORTER_REDIS_URL": url.format("gunicorn", "change-me")}
    read = {"REDIS_ENABLED": "true", "GUNICORN_EXPORTER_REDIS_URL": url.format("exporter", "change-me-too")}
    with ConfiguredRedis(tmp_path / "redis.conf", socket):
        admin = redis.Redis(unix_socket_path=str(socket), username="admin", password="")
        with Gunicorn(environment=push) as gunicorn, Exporter(environment=read) as exporter:
            gunicorn.get("/order")
            for page in (gunicorn.metrics_url, exporter.metrics_url):
                eventually(lambda page=page: scrape(page).sum("gunicorn_worker_requests_total"), equals=1)  # type: ignore[misc]
                assert urlopen(page.removesuffix("/metrics") + "/").status == 200
            # The exporter compares declarations after some seconds.
            eventually(lambda: any(name.lower().endswith("metrics.families") for name in admin.info("commandstats")))
            done = subprocess.run(
                [built(EXPORTER), "push", "--job=nightly"],
                input="# TYPE rows gauge\nrows 7\n",
                env={**os.environ, "GUNICORN_EXPORTER_REDIS_URL": url.format("jobs", "change-me-as-well")},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        denied = {(entry["username"], entry["object"]) for entry in admin.acl_log()}
        # `push` asks, and does without an answer.
        assert denied <= {("jobs", "role")}
        assert "does not allow" not in gunicorn.log + exporter.log
        writer = redis.Redis(unix_socket_path=str(socket), username="gunicorn", password="change-me")
        reader = redis.Redis(unix_socket_path=str(socket), username="exporter", password="change-me-too")
        for client, command in (
            (writer, ("GET", "session:1")),
            (writer, ("METRICS.PUSH", "other:metrics", "w", 1, b"")),
            (reader, ("METRICS.PUSH", "gunicorn:metrics", "w", 1, b"")),
            (reader, ("FLUSHALL",)),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)  # type: ignore[no-untyped-call]


def _without_comments(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))


class ConfiguredRedis(RedisServer):
    """A redis-server whose only configuration is one file."""

    def __init__(self, config: Path, socket: Path) -> None:
        """`socket` is the path that the file sets."""
        super().__init__()
        self.config = config
        self.socket = socket

    def command(self) -> list[str | Path]:
        """The command of an administrator."""
        return ["redis-server", self.config]

    def assert_ready(self) -> None:
        """A user can log in."""
        client = redis.Redis(unix_socket_path=str(self.socket), username="exporter", password="change-me-too")
        assert client.ping()


def test_ansible_accepts_the_playbook() -> None:
    """Checks its syntax, its modules and the names of their arguments."""
    directory = DEPLOY / "ansible"
    arguments = ("--syntax-check", "-i", directory / "inventory.ini", directory / "playbook.yml")
    _run(BIN / "ansible-playbook", *arguments, LC_ALL="C.UTF-8", ANSIBLE_LOCAL_TEMP="/tmp")
    for name in ("../../target/release", "../redis/metrics.conf", "../systemd/gunicorn-prometheus-exporter.service"):
        assert name in (directory / "playbook.yml").read_text()


def test_terraform_accepts_its_files() -> None:
    """Checks their syntax, and their form if Terraform is installed; providers are not loaded."""
    for path in (DEPLOY / "terraform").glob("*.tf"):
        assert hcl2.loads(path.read_text())
    if shutil.which("terraform"):
        _run("terraform", f"-chdir={DEPLOY / 'terraform'}", "fmt", "-check")


def test_cloud_definitions_have_the_fields_of_their_platforms() -> None:
    """Checks names of fields, and that each program starts once and has a port."""
    task = json.loads((DEPLOY / "cloud" / "ecs-task.json").read_text())
    assert task["networkMode"] == "awsvpc"
    assert {port["containerPort"] for port in task["containerDefinitions"][0]["portMappings"]} == {8000, 9091}
    service = yaml.safe_load((DEPLOY / "cloud" / "cloud-run.yaml").read_text())
    assert service["apiVersion"] == "serving.knative.dev/v1"
    assert service["spec"]["template"]["metadata"]["annotations"]["run.googleapis.com/cpu-throttling"] == "false"
    group = yaml.safe_load((DEPLOY / "cloud" / "aci.yaml").read_text())
    assert {port["port"] for port in group["properties"]["ipAddress"]["ports"]} == {8000, 9091}


def test_compose_mounts_files_that_exist() -> None:
    """The files are beside docker-compose.yml."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", ()):
            assert (ROOT / volume.split(":")[0]).exists(), volume
