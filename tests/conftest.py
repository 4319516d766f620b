"""Settings and fixtures for the whole suite."""

from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from hypothesis import settings

from tests.support.cheap import make_clients_cheap, make_server_cheap

# Speed is measured by scripts/bench; a busy machine must not fail a property. The same examples in each run: what fails
# was broken by the change at hand. `--hypothesis-profile=long` looks for what nobody has met yet.
settings.register_profile("securechat", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5000, print_blob=True)
settings.load_profile("securechat")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, `server.pem` and `server-key.pem`."""
    folder = tmp_path_factory.mktemp("certs")
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    leaf.private_key_pem.write_to_path(folder / "server-key.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "server.pem", append=True)
    return folder


@pytest.fixture
def cheap_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a password is derived and hashed for nothing; `support.cheap` does the same for another one."""
    make_server_cheap(monkeypatch.setitem)
    make_clients_cheap(monkeypatch.setitem, monkeypatch.setattr)


LONG = ("faults", "test_commands", "test_live", "test_mls_vectors")
"""Begun first: with two processes, what takes long should not be what one of them has left at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.path.parts or name == item.path.stem for name in LONG))


# ---- --no-skips: in CI, where everything can be had, nothing may skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="what skips has failed; for CI")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        fail_if_skipped(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(collector.config, report)
    return report


def fail_if_skipped(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    """With --no-skips, make a failure of a skip."""
    if config.getoption("--no-skips") and report.skipped:
        report.outcome = "failed"
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"this may not skip with --no-skips. {reason}"
