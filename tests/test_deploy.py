"""`scripts/deploy`: what the unit, the compose file and the Dockerfile name is there, and they stay closed."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from securechat import cli
from securechat.server import app
from securechat.server.carrying.payer import HELD_BY_ANYBODY, MAX_HELD_BY_ALL
from securechat.server.config import ENVIRONMENT_PREFIX, ServerConfig, load_config
from securechat.server.descriptors import MOST_FILES
from securechat.server.operator.serving import MAX_CONNECTIONS
from securechat.wire.limits import MAX_FRAME

DEPLOY = Path(__file__).parents[1] / "scripts" / "deploy"
UNIT = DEPLOY / "securechat.service"
OPERATIONS = DEPLOY.parents[1] / "docs" / "operations.md"

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
    assert parse(["admin", "users", "list"]) == {"as_json": False}


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


def megabytes(text: str) -> int:
    """Read a size as systemd and Docker write it."""
    number, unit = re.fullmatch(r"(\d+)([mMgG])", text).groups()  # type: ignore[union-attr]  # else it fails here
    return int(number) * (1024 if unit in "gG" else 1)


def test_memory_and_threads_have_a_limit_that_holds_what_the_server_may_use() -> None:
    service = compose()
    (memory,), (swap,), (tasks,) = unit()["MemoryMax"], unit()["MemorySwapMax"], unit()["TasksMax"]
    assert megabytes(memory) == megabytes(service["mem_limit"]) == megabytes(service["memswap_limit"])
    assert swap == "0"
    everybody, each = MAX_HELD_BY_ALL >> 20, HELD_BY_ANYBODY + MAX_FRAME >> 20
    base = 256  # the program, a hundred connections, two passwords
    enough_for = (megabytes(memory) - everybody - base) // each
    assert ServerConfig().max_clients <= enough_for
    told = " ".join(re.findall(r"\n## Memory\n(.*?)\n## ", OPERATIONS.read_text(), re.DOTALL)[0].split())
    assert f"all together {everybody} MiB" in told
    assert f"and {each} MiB for each still fit" in told
    assert f"`max_clients` above {enough_for} raise the limit by {each} MiB for each" in told
    assert int(tasks) == service["pids_limit"] >= MAX_CONNECTIONS + 32


LOCKED = [DEPLOY / "requirements.txt", DEPLOY / "build.txt"]


def locked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """The packages in a file of locked ones: version and hashes of each."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)(?: ; [^-]+)?((?: +--hash=sha256:[0-9a-f]{64})+) *", line)
            assert match is not None, line
            found[match[1]] = match[2], match[3].split()
    return found


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: str(path.name))
def test_every_locked_package_has_hashes_and_no_line_names_an_index(path: Path) -> None:
    assert locked(path)
    assert "://" not in path.read_text()
    assert "index" not in path.read_text()


def test_what_the_package_needs_is_locked_in_a_version_that_it_takes() -> None:
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())
    for path, wanted in zip(LOCKED, (project["project"]["dependencies"], project["build-system"]["requires"])):  # noqa: B905 - of one length
        packages = locked(path)
        for requirement in wanted:
            name, version = re.split(">=", requirement)
            least = tuple(map(int, version.split(".")))
            found = packages[name.lower().replace("_", "-")][0]
            assert tuple(map(int, found.split(".")))[: len(least)] >= least, (requirement, found)


def test_the_image_takes_locked_packages_alone_and_its_base_can_be_pinned() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "${BASE}"]
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert compose()["build"]["args"]["BASE"] == f"${{BASE:-{base}}}"
    before, _, after = text.partition("ENV PIP_REQUIRE_HASHES=0")
    assert "PIP_REQUIRE_HASHES=1 PIP_ONLY_BINARY=:all:" in before
    assert before.count("pip install -r /locked/") == 2
    installs = re.findall(r"pip (?:install|wheel) .*", after)
    assert len(installs) == 2
    assert "PIP_NO_INDEX=1" in after
    assert all("--no-deps" in line for line in installs)


def test_the_image_is_built_from_what_the_package_needs_only() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert all((DEPLOY.parents[1] / name).exists() for name in kept)
    assert "securechat" in kept
    assert not any("key" in name or "certs" in name for name in kept)
