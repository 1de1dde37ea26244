"""deploy/docker/Dockerfile and docker-compose.yml, as far as they can be checked without a docker daemon."""

import re

import yaml

from harness.paths import ROOT

DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
IMAGES = ("exporter", "redis", "app")


def _stages() -> dict[str, str]:
    """Returns the instructions of each stage, each on one line."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    parts = re.split(r"^FROM \S+ AS (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_one_builder_compiles_for_all_images() -> None:
    """With caches for cargo; each image copies from it."""
    stages = _stages()
    assert list(stages) == ["builder", *IMAGES]
    assert len(re.findall(r"cargo build|maturin build", DOCKERFILE)) == 2
    assert "cargo build" in stages["builder"]
    assert "--mount=type=cache,target=/usr/local/cargo/registry" in stages["builder"]
    for name in IMAGES:
        assert re.search(r"--from=builder|from=builder", stages[name]), name


def test_every_image_has_a_numeric_user_labels_and_a_health_check() -> None:
    """Kubernetes can check `runAsNonRoot` only for a number."""
    for name in IMAGES:
        stage = _stages()[name]
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE), name
        assert re.search(r"^HEALTHCHECK ", stage, re.MULTILINE), name
        assert re.search(r"^EXPOSE ", stage, re.MULTILINE), name
        for label in ("title", "description", "version", "licenses", "source"):
            assert f"org.opencontainers.image.{label}=" in stage, (name, label)


def test_the_exporter_needs_no_command_word() -> None:
    """Its environment decides; it is unhealthy after two minutes in which it could serve no metrics."""
    stage = _stages()["exporter"]
    assert 'ENTRYPOINT ["gunicorn-prometheus-exporter"]' in stage
    assert "\nCMD" not in stage
    (interval, retries) = re.findall(r"--(?:interval|retries)=(\d+)", stage)
    assert int(interval) * int(retries) == 120


def test_everything_that_the_builder_copies_is_in_its_context() -> None:
    """`.dockerignore` leaves out everything else; each member of the workspace is needed to build."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    members = re.findall(r'"([\w-]+)[\w/-]*"', (ROOT / "Cargo.toml").read_text().split("members = [")[1].split("]")[0])
    assert set(members) <= allowed
    assert {"examples", "LICENSE", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"} <= allowed


def test_compose_builds_the_images_and_has_no_version() -> None:
    """The key `version` is obsolete, and newer Compose warns of it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert "version" not in compose
    targets = [service["build"]["target"] for service in compose["services"].values() if "build" in service]
    assert sorted(set(targets)) == sorted(IMAGES)
