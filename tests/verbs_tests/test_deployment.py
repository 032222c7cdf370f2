"""Files for deployment: what they start is what the program takes, and they hold no secrets."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_search

DEPLOY = Path(__file__).parents[2] / "deploy"


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"])


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def commands() -> list[list[str]]:
    started = [service["command"] for service in compose().values() if "command" in service]
    pods = [each["spec"]["template"]["spec"] for each in kubernetes()]
    return started + [container["args"] for pod in pods for container in pod["containers"]]


def test_every_command_is_understood() -> None:
    assert {words[0] for words in commands()} == {"search", "worker"}
    for words in commands():
        run_search._parser(words[0]).parse_args(words)


def test_the_store_is_told_by_the_environment_and_without_a_password() -> None:
    for name in ("master", "worker"):
        [(variable, url)] = compose()[name]["environment"].items()
        assert variable == "MAPGROVE_STORE"
        assert "${MONGO_PASSWORD}" in url
    for each in kubernetes():
        [container] = each["spec"]["template"]["spec"]["containers"]
        [variable] = container["env"]
        assert variable["name"] == "MAPGROVE_STORE"
        assert "secretKeyRef" in variable["valueFrom"]
    for path in DEPLOY.iterdir():
        assert not re.search(r"mongodb://[^:@\s]+:(?!PASSWORD|\$)[^@\s]+@", path.read_text()), path


def test_every_mounted_volume_is_one_that_there_is() -> None:
    for each in kubernetes():
        pod = each["spec"]["template"]["spec"]
        names = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == names
    [deployment] = [each for each in kubernetes() if each["kind"] == "Deployment"]
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_sound(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o111
