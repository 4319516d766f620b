"""`scripts/deploy`: what the unit, the compose file and the Dockerfile name is there, and they stay closed."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from securechat import cli
from securechat.server import app
from securechat.server.config import ENVIRONMENT_PREFIX, ServerConfig, load_config
from securechat.server.descriptors import MOST_FILES

DEPLOY = Path(__file__).parents[1] / "scripts" / "deploy"
UNIT = DEPLOY / "securechat.service"

MOST_EXPOSED = 1.4
"""What `systemd-analyze security` gives the unit, from 0 (nothing) to 10; the network is what most of it is about.

0.2 of it is for `setpriority`, by which password workers give way to the chat (`passwords.NICENESS`).
"""


def parse(command: list[str]) -> dict[str, Any]:
    """Have click parse a command line of securechat: the command's parameters. Raises click.UsageError."""
    step: click.Command = cli.main
    context = step.make_context("securechat", command.copy())
    while isinstance(step, click.Group):
        name, found, rest = step.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        step = found
        context = step.make_context(name, rest, parent=context)
    return context.params


def unit() -> Mapping[str, list[str]]:
    """All settings of the service, each with its values."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service: dict[str, Any] = document["services"]["securechat"]
    return service


def image() -> dict[str, str]:
    """The last stage's instructions, joined; ENV's variables have entries of their own."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]
    found = dict(re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE))
    return found | dict(each.split("=", 1) for each in found["ENV"].split())


def image_config() -> ServerConfig:
    return load_config({}, image() | compose()["environment"])


def test_the_twin_of_a_command_that_is_not_there_is_found() -> None:
    with pytest.raises(click.UsageError):
        parse(["serve"])
    with pytest.raises(click.UsageError):
        parse(["server", "--configuration", "x"])
    assert parse(["admin", "users", "list"]) == {}


def test_the_unit_starts_a_server_with_settings_that_there_are() -> None:
    (command,) = unit()["ExecStart"]
    program, *arguments = shlex.split(command)
    assert program == "/opt/securechat/bin/securechat"
    assert parse(arguments)["file"] == Path("/etc/securechat/server.toml")
    config = load_config({}, {}, DEPLOY / "server.toml")
    assert config.data == Path("/var/lib") / unit()["StateDirectory"][0]
    assert config.cert.parent == config.key.parent == Path("/etc/securechat")
    assert unit()["ExecReload"] == ['/bin/sh -c "kill -HUP $MAINPID"']
    assert float(unit()["TimeoutStopSec"][0]) > 2 * app.DRAIN_SECONDS
    assert int(unit()["LimitNOFILE"][0]) >= MOST_FILES


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    program = tmp_path / "securechat"
    program.touch(mode=0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/securechat/bin/securechat", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)  # noqa: S607
    assert (done.returncode, done.stderr) == (0, "")

    def exposure(path: Path) -> float:
        shown = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", path],  # noqa: S607
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found = re.search(r"Overall exposure level for securechat.service: ([\d.]+)", shown)
        assert found is not None, shown
        return float(found[1])

    assert exposure(copy) <= MOST_EXPOSED
    copy.write_text(copy.read_text().replace("ProtectSystem=strict\n", "").replace("NoNewPrivileges=yes\n", ""))
    assert exposure(copy) > MOST_EXPOSED


def test_the_image_starts_a_server_as_nobody_special() -> None:
    dockerfile = image()
    assert shlex.join(["securechat"]) in dockerfile["ENTRYPOINT"]
    parse(re.findall(r'"([^"]*)"', dockerfile["CMD"]))
    assert dockerfile["USER"] == compose()["user"] == "10001:10001"
    settings = vars(ServerConfig())
    assert all(name.removeprefix(ENVIRONMENT_PREFIX).lower() in settings for name in compose()["environment"])
    assert not image_config().data.is_relative_to("/opt")


def test_the_compose_file_gives_the_image_what_it_needs_and_no_more() -> None:
    service, config = compose(), image_config()
    assert (DEPLOY / service["build"]["context"]).resolve() == DEPLOY.parents[1]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert service["ports"] == [f"{config.port}:{config.port}"]
    mounts = {mount.split(":")[1]: mount.split(":")[2:] for mount in service["volumes"]}
    assert mounts == {str(config.data): [], str(config.cert.parent): ["ro"]}
    assert config.key.parent == config.cert.parent
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["stop_grace_period"] == "30s"
    assert service["ulimits"]["nofile"] >= MOST_FILES
    check = service["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    assert f"http://127.0.0.1:{config.metrics_port}/readyz" in check[3]
    compile(check[3], "healthcheck", "exec")


def test_the_image_is_built_from_what_the_package_needs_only() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert all((DEPLOY.parents[1] / name).exists() for name in kept)
    assert "securechat" in kept
    assert not any("key" in name or "certs" in name for name in kept)
