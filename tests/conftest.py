"""Settings and fixtures for the whole suite."""

import gc
import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from hypothesis import settings

from securechat import dumps
from tests.support.cheap import make_clients_cheap, make_server_cheap, make_stocks_small
from tests.support.newest import make_new_ones_at_once

# Speed is measured by scripts/bench; a busy machine must not fail a property. The same examples in each run: what fails
# was broken by the change at hand. `--hypothesis-profile=long` looks for what nobody has met yet.
settings.register_profile("securechat", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5000, print_blob=True)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=20)  # once for each mutant
settings.load_profile("securechat")

make_new_ones_at_once()

os.environ["XDG_CONFIG_HOME"] = os.devnull  # no settings file of whoever runs the tests


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


@pytest.fixture(autouse=True)
def folder_of_the_test(tmp_path: Path) -> Path:
    """The first of all fixtures, so that the folder goes last: others stop what still writes there."""
    return tmp_path


@pytest.fixture(autouse=True)
def process_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is run in this process leaves its limits alone; `test_dumps` starts others to look at."""
    monkeypatch.setattr(dumps, "forbid", lambda: None)


@pytest.fixture
def cheap_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a password is derived and hashed for nothing; `support.cheap` does the same for another one."""
    make_server_cheap(monkeypatch.setitem)
    make_clients_cheap(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture
def small_stocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a client keeps 4 key packages at the server."""
    make_stocks_small(monkeypatch.setattr)


LONG = ("faults", "test_commands", "test_live", "test_mls_vectors")
"""Begun first: with several processes, what takes long should not be what one of them has left at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.path.parts or name == item.path.stem for name in LONG))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what is collected here: it stays, and takes long to be searched in each round."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


# ---- a test that failed may leave a thread of the server's, which the interpreter would wait for, for ever

STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Name such threads and end the process. (xdist ends its workers by itself.)"""
    left = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    if left and not hasattr(config, "workerinput"):
        sys.stdout.write(f"left running: {', '.join(left)}\n")
        sys.stdout.flush()
        os._exit(config.stash.get(STATUS, 0) or 1)  # a test that passes must not leave any


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
