"""The files of .github: workflows that actionlint accepts, forms, and what a project of this kind has."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.paths import ROOT, VENVS

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def test_actionlint_accepts_the_workflows() -> None:
    """Syntax, expressions, names of runners and permissions, and inputs of actions."""
    program = shutil.which("actionlint") or str(VENVS / "actionlint" / "bin" / "actionlint")
    done = subprocess.run([program, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_workflow_has_more_rights_than_it_needs(path: Path) -> None:
    """A job that writes asks for it by itself."""
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job or "uses" in job, name


def test_the_files_of_a_community_exist() -> None:
    """Each has content, and forms have a name and fields."""
    for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "LICENSE", "CHANGELOG.md"):
        assert (ROOT / name).stat().st_size > 400, name
    assert (GITHUB / "pull_request_template.md").is_file()
    assert yaml.safe_load((GITHUB / "dependabot.yml").read_text())["version"] == 2
    forms = list((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for form in forms:
        content = yaml.safe_load(form.read_text())
        assert content["name"]
        assert content["body"]


def test_every_folder_that_dependabot_reads_has_dependencies() -> None:
    """A renamed folder would be left without updates."""
    for update in yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]:
        for folder in update.get("directories", [update.get("directory")]):
            assert (ROOT / folder.strip("/")).is_dir(), folder
