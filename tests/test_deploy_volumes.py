"""Every volume for metrics in deploy/: application and exporter work on the file system that it names."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import Exporter, Gunicorn, Load, eventually, scrape
from harness.helm import install
from harness.mounts import mounted_overlay, mounted_tmpfs
from harness.paths import ROOT

REQUESTS = "gunicorn_worker_requests_total"
SIZES = {"Mi": "m", "Gi": "g"}

Volume = tuple[dict[str, Any], dict[str, Any]]


def volumes() -> dict[str, Volume]:
    """Returns for each manifest that sets the variable the mounted volume, and the user that runs there."""
    documents = {}
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            documents[f"{path.name} {document['kind']}"] = document
    values = {"mode": "sidecar", "app": {"image": "shop:1"}}
    for document in install(ROOT / "deploy" / "helm", values).objects:
        documents[f"helm {document['kind']}"] = document
    found: dict[str, Volume] = {}
    for name, document in documents.items():
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            for variable in container.get("env", ()):
                if variable["name"] == "PROMETHEUS_MULTIPROC_DIR":
                    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                    named = {volume["name"]: volume for volume in pod["volumes"]}
                    found[name] = (named[mounts[variable["value"]]], pod["securityContext"])
    return found


@contextlib.contextmanager
def mounted(volume: dict[str, Any], user: dict[str, Any], path: Path) -> Iterator[Path]:
    """Mounts it as the kubelet does: an `emptyDir` belongs to root, is writable for all, and has the pod's group."""
    if "hostPath" in volume:
        # As the comment in the manifest says.
        path.mkdir(mode=0o700)
        os.chown(path, user["runAsUser"], user["runAsGroup"])
        yield path
    elif volume["emptyDir"].get("medium") == "Memory":
        size = volume["emptyDir"]["sizeLimit"]
        size = size[:-2] + SIZES[size[-2:]]
        with mounted_tmpfs(path, f"size={size},mode=2777,gid={user['fsGroup']}"):
            yield path
    else:
        path.mkdir()
        os.chown(path, 0, user["fsGroup"])
        path.chmod(0o2777)
        yield path


class OtherUserExporter(Exporter):
    """An exporter that runs as another user."""

    user = group = 65532

    def command(self) -> list[str | Path]:
        """Runs without any further right."""
        words = ["setpriv", f"--reuid={self.user}", f"--regid={self.group}", "--clear-groups"]
        return [*words, *super().command()]


def reachable(path: Path) -> Path:
    """Lets other users pass through the directories that pytest makes."""
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    return path


def assert_metered(directory: Path, sidecar: Exporter, arguments: list[str], environment: dict[str, str]) -> None:
    """Counts are exact, also of workers that were killed, and the log has no complaint."""
    settings = {**environment, "SIDECAR_MODE": "true"}
    # Preloaded, because other users may not be able to read the interpreter of the tests.
    with Gunicorn(workers=2, environment=settings, arguments=["--preload", *arguments]) as gunicorn, sidecar:
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        before = gunicorn.worker_pids()
        for pid in before:
            gunicorn.kill_worker(pid)
        eventually(lambda: len(gunicorn.worker_pids()) == 2 and set(before).isdisjoint(gunicorn.worker_pids()))
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        eventually(lambda: len(list(directory.rglob("*.store"))), equals=4)
        for log in (gunicorn.log, sidecar.log):
            assert "cannot be" not in log, log
            assert "is left out" not in log, log


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can run processes of other users")


def test_volumes_are_found() -> None:
    kinds = {name: sorted(volume.keys() - {"name"}) for name, (volume, _) in volumes().items()}
    assert kinds == {
        "sidecar.yaml Deployment": ["emptyDir"],
        "daemonset.yaml DaemonSet": ["hostPath"],
        "helm Deployment": ["emptyDir"],
    }


@needs_root
@pytest.mark.parametrize("manifest", ["sidecar.yaml Deployment", "daemonset.yaml DaemonSet", "helm Deployment"])
def test_metrics_are_counted_on_each_volume_of_a_manifest(manifest: str, tmp_path: Path) -> None:
    volume, user = volumes()[manifest]
    with mounted(volume, user, reachable(tmp_path / "metrics")) as directory:
        settings = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        arguments = [f"--user={user['runAsUser']}", f"--group={user['runAsGroup']}"]
        assert_metered(directory, OtherUserExporter("sidecar", environment=settings), arguments, settings)


@pytest.mark.parametrize("kind", ["disk", "overlay", "tmpfs", "shm"])
def test_metrics_are_counted_on_every_file_system(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        path = tmp_path / "metrics"
        if kind == "overlay":
            stack.enter_context(mounted_overlay(path))
        elif kind == "tmpfs":
            stack.enter_context(mounted_tmpfs(path, "size=64m,mode=755"))
        elif kind == "shm":
            path = Path(f"/dev/shm/metrics-{os.getpid()}")
            stack.callback(shutil.rmtree, path)
        settings = {"PROMETHEUS_MULTIPROC_DIR": str(path)}
        assert_metered(path, Exporter("sidecar", environment=settings), [], settings)


@needs_root
@pytest.mark.parametrize("mode", [0o2770, 0o2777])
def test_a_sidecar_of_another_user_shares_the_directory_by_its_group(tmp_path: Path, mode: int) -> None:
    path = reachable(tmp_path / "metrics")
    path.mkdir()
    os.chown(path, 0, 4711)
    path.chmod(mode)
    settings = {
        "PROMETHEUS_MULTIPROC_DIR": str(path),
        "GUNICORN_EXPORTER_PROMETHEUS_MULTIPROC_GROUP": "true",
    }
    sidecar = OtherUserExporter("sidecar", environment=settings)
    sidecar.user, sidecar.group = 65533, 4711
    assert_metered(path, sidecar, ["--user=65532", "--group=4711"], settings)


@needs_root
def test_without_multiproc_group_another_users_directory_is_refused(tmp_path: Path) -> None:
    path = reachable(tmp_path / "metrics")
    path.mkdir(mode=0o700)
    os.chown(path, 65532, 65532)
    with Gunicorn(environment={"PROMETHEUS_MULTIPROC_DIR": str(path)}) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        lines = [line for line in gunicorn.log.splitlines() if "PROMETHEUS_MULTIPROC_DIR" in line]
        assert len(lines) == 1, gunicorn.log
        assert f"{path} belongs to user 65532, allowed are user 0 and root" in lines[0]
        assert list(path.iterdir()) == []


@needs_root
def test_a_missing_directory_is_made_for_the_user_of_the_workers(tmp_path: Path) -> None:
    path = reachable(tmp_path / "run") / "metrics"
    settings = {"PROMETHEUS_MULTIPROC_DIR": str(path)}
    with Gunicorn(environment=settings, arguments=["--preload", "--user=65532", "--group=65532"]) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        eventually(lambda: len(list(path.glob("*.store"))), equals=3)
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (65532, 0o700)
