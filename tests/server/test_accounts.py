import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import argon2
import pytest

from securechat import files
from securechat.client.password import login_secret
from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.server.accounts import file as accounts_file
from securechat.server.accounts import passwords
from securechat.server.accounts import store as accounts
from securechat.server.accounts.passwords import PasswordWorkers, check_registration
from securechat.server.accounts.records import Account, ResumeToken
from securechat.server.accounts.store import AccountStore
from securechat.wire import limits

T = TypeVar("T")
PATIENCE = 30.0
CHEAP = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=8, time_cost=1, parallelism=1
)
SECRET, OTHER_SECRET = b"s" * 32, b"o" * 32
HASH = argon2.PasswordHasher.from_parameters(CHEAP).hash(SECRET)
DEVICE, OTHER_DEVICE = b"d" * 16, b"e" * 16
MONTH_MS = accounts.TOKEN_SECONDS * 1000


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "accounts.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[AccountStore]:
    store = AccountStore(path, clock=clock)
    yield store
    store.close()


@pytest.fixture
def workers(store: AccountStore) -> Iterator[PasswordWorkers]:
    workers = PasswordWorkers(store, cost=CHEAP)
    yield workers
    workers.close()


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.code


def reopened(store: AccountStore, path: Path, clock: Clock) -> AccountStore:
    store.close()
    return AccountStore(path, clock=clock)


class Asked:
    """Calls the workers and waits for their answer, as a session would."""

    def __init__(self, workers: PasswordWorkers) -> None:
        self.workers = workers

    def login(self, name: str, secret: bytes = SECRET, device: bytes = DEVICE) -> ResumeToken:
        answer: Future[ResumeToken | SecurechatError] = Future()
        self.workers.submit_login(name, secret, device, answer.set_result)
        return self.result(answer)

    def register(self, name: str, secret: bytes = SECRET) -> Account:
        answer: Future[Account | SecurechatError] = Future()
        self.workers.submit_register(name, secret, answer.set_result)
        return self.result(answer)

    @staticmethod
    def result(answer: "Future[T | SecurechatError]") -> T:
        outcome = answer.result(PATIENCE)
        if isinstance(outcome, SecurechatError):
            raise outcome
        return outcome


@pytest.fixture
def ask(workers: PasswordWorkers) -> Asked:
    return Asked(workers)


# --- the file -----------------------------------------------------------------------------------------------------


def test_an_account_is_on_disk_when_its_future_ends(store: AccountStore, path: Path) -> None:
    store.add("alice", HASH).result(PATIENCE)
    document = json.loads(path.read_text())
    assert document == {
        "format": "securechat accounts",
        "version": 1,
        "accounts": [{"name": "alice", "hash": HASH, "created": 1_700_000_000, "enabled": True, "tokens": []}],
    }


def test_accounts_and_tokens_survive_a_restart(store: AccountStore, path: Path, clock: Clock) -> None:
    made = store.add("alice", HASH).result(PATIENCE)
    token = store.issue_token("alice", DEVICE).result(PATIENCE)
    again = reopened(store, path, clock)
    try:
        account = again.get("alice")
        assert account
        assert (account.hash, account.created) == (made.hash, made.created)
        assert again.redeem(token.token, DEVICE) == ("alice", token.expires)
    finally:
        again.close()


def test_the_file_its_generation_before_and_its_lock_are_for_the_owner_only(store: AccountStore, path: Path) -> None:
    store.add("alice", HASH).result(PATIENCE)
    store.add("bob", HASH).result(PATIENCE)
    assert {file.name for file in path.parent.iterdir()} == {
        "accounts.json", "accounts.json.previous", "accounts.json.lock",
    }  # fmt: skip
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in path.parent.iterdir())


def test_the_generation_before_is_kept(store: AccountStore, path: Path) -> None:
    store.add("alice", HASH).result(PATIENCE)
    before = path.read_bytes()
    store.add("bob", HASH).result(PATIENCE)
    assert path.with_name("accounts.json.previous").read_bytes() == before


def test_a_second_server_is_refused_until_the_first_ends(store: AccountStore, path: Path) -> None:
    with pytest.raises(StorageError, match="another server is using"):
        AccountStore(path)
    store.close()
    AccountStore(path).close()


def test_a_write_that_fails_changes_nothing(
    store: AccountStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("alice", HASH).result(PATIENCE)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(files, "_sync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            store.add("bob", HASH).result(PATIENCE)
    assert store.get("bob") is None
    assert path.read_bytes() == before
    store.add("bob", HASH).result(PATIENCE)
    assert store.get("bob")


def test_changes_asked_for_at_once_are_written_together(
    store: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    gate = threading.Event()
    write = files.write_atomically

    def slow(path: Path, data: bytes, *, previous: Path) -> None:
        assert gate.wait(PATIENCE)
        writes.append(len(data))
        write(path, data, previous=previous)

    monkeypatch.setattr(accounts_file, "write_atomically", slow)
    futures = [store.add(f"user{n}", HASH) for n in range(50)]
    gate.set()
    for future in futures:
        future.result(PATIENCE)
    assert len(writes) <= 2
    assert len(store) == 50


def test_closing_writes_what_was_asked_for(path: Path, clock: Clock) -> None:
    store = AccountStore(path, clock=clock)
    futures = [store.add(f"user{n}", HASH) for n in range(10)]
    store.close()
    assert all(future.done() for future in futures)
    with pytest.raises(StorageError, match="shutting down"):
        store.add("late", HASH)
    again = AccountStore(path)
    assert len(again) == 10
    again.close()


REGISTER_UNTIL_KILLED = """
import sys
from pathlib import Path
from securechat.server.accounts.store import AccountStore
store = AccountStore(Path(sys.argv[1]))
for n in range(len(store), 10_000):
    store.add(f"user{n}", sys.argv[2]).result()
    print(f"user{n}", flush=True)
"""


def test_a_server_killed_at_any_moment_loses_no_account_that_it_confirmed(path: Path) -> None:
    confirmed: list[str] = []
    for round_ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", REGISTER_UNTIL_KILLED, str(path), HASH],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            assert server.stdout
            confirmed += [server.stdout.readline().strip() for _ in range(10 + round_)]
            server.kill()
            confirmed += [line.strip() for line in server.stdout if line.endswith("\n")]
        survivors = AccountStore(path)
        assert all(survivors.get(name) for name in confirmed)
        assert len(survivors) - len(confirmed) in {0, 1}  # the one that was on disk but not yet confirmed
        confirmed = [account.name for account in survivors._accounts.values()]
        survivors.close()


def document(**change: object) -> str:
    account = {"name": "alice", "hash": HASH, "created": 1, "enabled": True, "tokens": []} | change
    return json.dumps({"format": "securechat accounts", "version": 1, "accounts": [account]}, indent=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1, column 1"),
        (document()[:-10], "line 10, column 15"),
        (document().replace('"created": 1,', '"created" 1,'), "line 8, column 14"),
        (document().replace("alice", "al\udcffice"), "line 6: the bytes there are not UTF-8"),
        (document().replace('"enabled"', '"hash": "x", "enabled"'), "holds the key 'hash' twice"),
        (document(name="bob").replace("\n ]", ', {"name": 1}]'), r"\$.accounts\[1\].name"),
        (document(hash="plain"), "account 'alice' whose hash is not one of Argon2id"),
        (document(hash=HASH.replace("argon2id", "argon2d")), "account 'alice' whose hash"),
        (document(hash=HASH.replace("m=8", "m=9999999")), "account 'alice' whose hash asks for more work"),
        (document(hash=HASH.replace("t=1", "t=999")), "account 'alice' whose hash asks for more work"),
        (document(hash=HASH.replace("p=1", "p=99")), "account 'alice' whose hash asks for more work"),
        (document(hash=HASH.replace("m=8", "m=7")), "account 'alice' whose hash asks for more work"),
        (document(hash=HASH + "\n"), "account 'alice' whose hash"),
        (document(name="Alice"), "'Alice', which nobody can have"),
        (document(name="a b"), "'a b', which nobody can have"),
        (document(created=-1), r"\$.accounts\[0\].created"),
        (document(created=10**40), r"\$.accounts\[0\].created"),
        (document(tokens=[{"device": "x", "hash": "y", "expires": 1}]), r"\$.accounts\[0\].tokens\[0\].device"),
        (document(admin=True), "unknown field `admin`"),
        (document().replace('"version": 1', '"version": 2'), "of another version"),
        (document().replace("securechat accounts", "other"), r"\$.format"),
        ('{"users": {}}', "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"version": ' + "9" * 10_000 + "}", "damaged"),
        ("NaN", "damaged"),
        (document().replace("securechat accounts", "\\ud800"), "damaged"),
        (document(tokens=[{"device": "\ud800", "hash": "y", "expires": 1}]), "damaged"),
    ],
)
def test_a_damaged_file_stops_the_start_with_its_position_and_is_left_alone(
    path: Path, content: str, words: str
) -> None:
    path.parent.mkdir()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(StorageError, match=words) as caught:
        AccountStore(path)
    assert "It was left as it is" in str(caught.value)
    assert path.read_bytes() == before
    path.write_text(document())
    AccountStore(path).close()  # nothing of the failed start is in the way: not even its lock


HUGE = "x" * 10_000_000

HUGE_FILES: dict[str, Callable[[], str]] = {
    "a name": lambda: document(name=HUGE),
    "a value": lambda: document(created=HUGE),
    "a key": lambda: document(**{HUGE: 1}),
    "a key twice": lambda: document().replace('"enabled"', f'"{HUGE}": 1, "{HUGE}": 2, "enabled"'),
    "a format": lambda: document().replace("securechat accounts", HUGE),
    "a key of a token": lambda: document(tokens=[{HUGE: 1}]),
    "a million tokens": lambda: document(tokens=["x"] * 1_000_000),
    "a number": lambda: "1" * len(HUGE),
    "no JSON": lambda: HUGE,
}


@pytest.mark.parametrize("what", HUGE_FILES)
def test_a_file_with_something_huge_in_it_is_refused_in_a_sentence(path: Path, what: str) -> None:
    path.parent.mkdir()
    path.write_text(HUGE_FILES[what]())
    with pytest.raises(StorageError) as caught:
        AccountStore(path)
    told = str(caught.value).replace(str(path), "")
    assert ("damaged" in told or "twice" in told or "nobody can have" in told, len(told) < 1000) == (True, True)


@pytest.mark.parametrize("name", ["\ud800", "Bob", "a b", HUGE], ids=["no text", "case", "space", "huge"])
def test_an_invite_for_a_name_that_nobody_can_have_is_damage(path: Path, name: str) -> None:
    path.parent.mkdir()
    invite = {"hash": "0" * 64, "created": 1, "expires": 1 << 52, "account": name}
    path.write_text(json.dumps(json.loads(document()) | {"invites": [invite]}))
    with pytest.raises(StorageError, match="holds an invite for .*, which nobody can have"):
        AccountStore(path)


def test_the_writer_survives_what_nobody_foresaw(store: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(accounts_file, "write_atomically", lambda *_, **__: 1 // 0)
        with pytest.raises(StorageError, match="the server failed to write its accounts"):
            store.add("alice", HASH).result(PATIENCE)
    assert store.add("alice", HASH).result(PATIENCE).name == "alice"


PHC = "$argon2id$v=19$m=8,t=1,p=1$" + "A" * 22 + "$" + "A" * 43


@pytest.mark.parametrize(
    "phc",
    [
        "", "$", "A" * 10_000_000, "\ud800" + PHC, PHC + "\0", PHC.upper(), " " + PHC, PHC + "\n", PHC[1:],
        PHC.replace("argon2id", "argon2i"), PHC.replace("argon2id", "argon2d"), PHC.replace("argon2id", "scrypt"),
        PHC.replace("v=19", "v=16"), PHC.replace("$v=19", ""), PHC.replace("v=19", "v=4294967315"),
        PHC.replace("m=8", "m=4294967295"), PHC.replace("m=8", "m=262145"), PHC.replace("m=8", "m=0"),
        PHC.replace("m=8", "m=08"), PHC.replace("m=8", "m=-8"), PHC.replace("m=8", "m=8e3"),
        PHC.replace("m=8", "m=\uff18"), PHC.replace("m=8", "m=" + "9" * 10_000),
        PHC.replace("t=1", "t=4294967295"), PHC.replace("t=1", "t=17"), PHC.replace("t=1", "t=0"),
        PHC.replace("p=1", "p=16777215"), PHC.replace("p=1", "p=17"), PHC.replace("p=1", "p=0"),
        PHC.replace("p=1", "p=2"), PHC.replace("m=8,t=1", "t=1,m=8"), PHC.replace("p=1", "p=1,keyid=AAAA"),
        PHC.replace("p=1", "p=1,data=AAAA"), PHC.replace(",p=1", ""), PHC[:-1], PHC + "A", PHC + "=",
        PHC.replace("A" * 22, ""), PHC.replace("A" * 22, "A" * 1_000_000), PHC.replace("A" * 43, "-" * 43),
    ],
    ids=lambda phc: ascii(phc[:100]),
)  # fmt: skip
def test_a_hash_that_is_not_of_ours_is_refused_before_anything_is_computed(
    path: Path, phc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` would take the memory and the time that the hash asks for, or fail in ways of its own."""
    for computes in ("hash", "verify"):
        monkeypatch.setattr(argon2.PasswordHasher, computes, lambda *_: pytest.fail("computed"))
    path.parent.mkdir()
    path.write_text(document(hash=phc))
    with pytest.raises(StorageError, match="account 'alice' whose hash") as caught:
        AccountStore(path)
    assert len(str(caught.value)) < 1000


def test_the_twin_is_compared_with(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(hash=PHC))
    store = AccountStore(path)
    workers = PasswordWorkers(store, cost=CHEAP)
    assert refused(lambda: Asked(workers).login("alice")) == "login-refused"
    workers.close()
    store.close()


def test_two_accounts_that_differ_in_case_only_are_damage(path: Path) -> None:
    path.parent.mkdir()
    one, other = json.loads(document(name="straße")), json.loads(document(name="strasse"))
    one["accounts"] += other["accounts"]
    path.write_text(json.dumps(one))
    with pytest.raises(StorageError, match="which differ in case at most"):
        AccountStore(path)


def test_an_endless_file_is_refused_without_reading_all_of_it(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(StorageError, match="larger than"):
        AccountStore(path)


def test_a_missing_file_beside_its_generation_before_is_damage(store: AccountStore, path: Path) -> None:
    """Starting empty would let strangers register the names of those who were in it."""
    store.add("alice", HASH).result(PATIENCE)
    store.add("bob", HASH).result(PATIENCE)
    store.close()
    path.unlink()
    with pytest.raises(StorageError, match="is missing, but accounts.json.previous is there"):
        AccountStore(path)


def test_what_a_crash_left_half_written_is_no_hindrance(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    path.with_name("accounts.json.new").write_text('{"half')
    store = AccountStore(path, clock=clock)
    store.add("alice", HASH).result(PATIENCE)
    store.close()
    assert json.loads(path.read_text())["accounts"][0]["name"] == "alice"


def test_nothing_secret_is_printed(store: AccountStore) -> None:
    account = store.add("alice", HASH).result(PATIENCE)
    token = store.issue_token("alice", DEVICE).result(PATIENCE)
    shown = repr(store.get("alice")) + repr(account) + repr(token)
    assert HASH not in shown
    assert token.token.hex() not in shown
    assert repr(token.token) not in shown


def test_neither_secret_nor_token_is_in_the_file(ask: Asked, path: Path) -> None:
    ask.register("alice", b"\x01" * 32)
    token = ask.login("alice", b"\x01" * 32)
    content = path.read_bytes()
    assert token.token not in content
    assert token.token.hex().encode() not in content
    assert b"\x01" * 32 not in content
    assert (b"01" * 32) not in content


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Alice", "a b", "", "#lobby", "x" * 33])
def test_only_the_one_spelling_of_a_name_can_be_registered(
    store: AccountStore, workers: PasswordWorkers, name: str
) -> None:
    with pytest.raises(UsageError):
        store.add(name, HASH)
    with pytest.raises(UsageError):
        workers.submit_register(name, SECRET, lambda _: None)
    assert len(store) == 0


def test_names_are_unique_whatever_their_case(store: AccountStore) -> None:
    store.add("straße", HASH).result(PATIENCE)
    assert refused(store.add("strasse", HASH).result) == "name-taken"
    assert store.get("strasse") is None
    assert store.get("straße")


def test_of_two_colliding_names_asked_for_at_once_one_wins(store: AccountStore) -> None:
    for n in range(20):
        first, second = store.add(f"ß{n}", HASH), store.add(f"ss{n}", HASH)
        assert first.result(PATIENCE).name == f"ß{n}"
        assert refused(second.result) == "name-taken"


def test_a_full_store_takes_no_more(store: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("alice", HASH).result(PATIENCE)
    monkeypatch.setattr(accounts, "MAX_ACCOUNTS", 1)
    assert refused(store.add("bob", HASH).result) == "registration-closed"


# --- registering and logging in -----------------------------------------------------------------------------------


def test_who_has_registered_can_log_in(ask: Asked) -> None:
    ask.register("alice")
    assert len(ask.login("alice").token) == 32


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(ask: Asked) -> None:
    ask.register("alice")
    answers = []
    for name, secret in (("alice", OTHER_SECRET), ("nobody", SECRET)):
        with pytest.raises(RefusedError) as caught:
            ask.login(name, secret)
        answers.append((caught.value.code, str(caught.value)))
    assert answers == [("login-refused", "wrong user name or password")] * 2


def test_an_unknown_name_costs_a_hash_of_the_same_parameters(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask.register("alice")
    verified: list[argon2.Parameters] = []
    verify = argon2.PasswordHasher.verify

    def counting(self: argon2.PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - theirs
        verified.append(argon2.extract_parameters(hash if isinstance(hash, str) else hash.decode()))
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counting)
    for name in ("alice", "nobody"):
        assert refused(lambda name=name: ask.login(name, OTHER_SECRET)) == "login-refused"  # type: ignore[misc]  # bound now
    assert verified == [CHEAP, CHEAP]


def test_registering_again_with_the_same_password_succeeds_and_changes_nothing(ask: Asked, path: Path) -> None:
    first = ask.register("alice")
    before = path.read_bytes()
    assert ask.register("alice") == first
    assert path.read_bytes() == before


def test_registering_a_taken_name_with_another_password_is_refused(ask: Asked) -> None:
    ask.register("alice")
    assert refused(lambda: ask.register("alice", OTHER_SECRET)) == "name-taken"
    ask.login("alice")


def test_the_same_registration_twice_at_once_succeeds_twice(workers: PasswordWorkers) -> None:
    for n in range(20):
        answers: queue.Queue[Account | SecurechatError] = queue.Queue()
        for _ in range(2):
            workers.submit_register(f"user{n}", SECRET, answers.put)
        one, other = answers.get(timeout=PATIENCE), answers.get(timeout=PATIENCE)
        assert isinstance(one, Account)
        assert one == other


def test_a_registration_is_answered_only_when_it_is_on_disk(ask: Asked, path: Path) -> None:
    for n in range(10):
        ask.register(f"user{n}")
        assert json.loads(path.read_text())["accounts"][-1]["name"] == f"user{n}"


def test_a_registration_that_cannot_be_written_is_answered_with_the_reason(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(StorageError, match="No space left"):
        ask.register("alice")


def test_a_disabled_account_cannot_log_in(path: Path) -> None:
    path.parent.mkdir()
    token = {"device": DEVICE.hex(), "hash": hashlib.sha256(b"t" * 32).hexdigest(), "expires": 1 << 50}
    path.write_text(document(enabled=False, tokens=[token]))
    store = AccountStore(path)
    workers = PasswordWorkers(store, cost=CHEAP)
    try:
        with pytest.raises(RefusedError, match="disabled by the operator"):
            Asked(workers).login("alice")
        with pytest.raises(RefusedError, match="wrong user name or password"):
            Asked(workers).login("alice", OTHER_SECRET)
        assert refused(lambda: store.redeem(b"t" * 32, DEVICE)) == "token-refused"
    finally:
        workers.close()
        store.close()


def test_a_login_brings_an_old_hash_to_the_present_cost(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    dearer = argon2.Parameters(argon2.Type.ID, 19, 16, 32, time_cost=2, memory_cost=16, parallelism=1)
    workers = PasswordWorkers(store, cost=dearer)
    try:
        Asked(workers).login("alice")
        account = store.get("alice")
        assert account
        assert argon2.extract_parameters(account.hash) == dearer
        Asked(workers).login("alice")
        unchanged = store.get("alice")
        assert unchanged
        assert unchanged.hash == account.hash
    finally:
        workers.close()


def test_the_hashes_we_make_are_hashes_we_read() -> None:
    for cost in (CHEAP, passwords.COST):
        assert accounts_file._PHC.fullmatch(argon2.PasswordHasher.from_parameters(cost).hash(SECRET))


def test_the_workers_leave_a_processor_for_the_chat() -> None:
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    assert {1: 1, 2: 1}.get(processors, 2) == passwords.WORKERS


def test_few_hash_at_once_sixteen_wait_and_the_next_is_told_busy(
    workers: PasswordWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing, gate = threading.Semaphore(0), threading.Event()
    verify = argon2.PasswordHasher.verify

    def slow(self: argon2.PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - theirs
        hashing.release()
        assert gate.wait(PATIENCE)
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    answers: queue.Queue[ResumeToken | SecurechatError] = queue.Queue()

    def login() -> None:
        workers.submit_login("nobody", SECRET, DEVICE, answers.put)

    for _ in range(passwords.WORKERS):
        login()
    for _ in range(passwords.WORKERS):
        assert hashing.acquire(timeout=PATIENCE)
    for _ in range(passwords.QUEUE):
        login()
    assert refused(login) == "busy"
    assert not hashing.acquire(blocking=False)  # no more are begun
    gate.set()
    outcomes = [answers.get(timeout=PATIENCE) for _ in range(passwords.WORKERS + passwords.QUEUE)]
    assert {outcome.code for outcome in outcomes if isinstance(outcome, RefusedError)} == {"login-refused"}
    login()
    assert isinstance(answers.get(timeout=PATIENCE), RefusedError)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_chat_comes_before_those_who_want_in(workers: PasswordWorkers) -> None:
    lower = min(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + passwords.NICENESS, 19)
    deadline = time.monotonic() + PATIENCE
    while {os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in workers._threads} != {lower}:
        assert time.monotonic() < deadline, "they have not begun"
        time.sleep(0.01)


def test_a_worker_survives_a_hash_that_runs_out_of_memory(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    ask.register("alice")

    def fail(*_: object) -> bool:
        raise argon2.exceptions.VerificationError("Memory allocation error")

    with monkeypatch.context() as broken:
        broken.setattr(argon2.PasswordHasher, "verify", fail)
        for _ in range(2 * passwords.WORKERS):
            assert refused(lambda: ask.login("alice")) == "busy"
    ask.login("alice")


def test_closing_answers_what_is_queued_and_refuses_the_rest(store: AccountStore) -> None:
    workers = PasswordWorkers(store, cost=CHEAP)
    answers: queue.Queue[Account | SecurechatError] = queue.Queue()
    for n in range(10):
        workers.submit_register(f"user{n}", SECRET, answers.put)
    workers.close()
    assert answers.qsize() == 10
    assert refused(lambda: workers.submit_register("late", SECRET, answers.put)) == "busy"


# --- resume tokens ------------------------------------------------------------------------------------------------


def test_a_token_stands_for_its_account_until_it_expires(store: AccountStore, clock: Clock) -> None:
    store.add("alice", HASH).result(PATIENCE)
    token = store.issue_token("alice", DEVICE).result(PATIENCE)
    assert token.expires == clock.now * 1000 + MONTH_MS
    assert store.redeem(token.token, DEVICE) == ("alice", token.expires)
    clock.now += accounts.TOKEN_SECONDS
    assert refused(lambda: store.redeem(token.token, DEVICE)) == "token-refused"


def test_a_token_is_good_for_its_own_device_only(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    token = store.issue_token("alice", DEVICE).result(PATIENCE)
    assert refused(lambda: store.redeem(token.token, OTHER_DEVICE)) == "token-refused"
    assert refused(lambda: store.redeem(b"x" * 32, DEVICE)) == "token-refused"


def test_a_new_token_of_a_device_replaces_its_old_one_and_no_other(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    old = store.issue_token("alice", DEVICE).result(PATIENCE)
    other = store.issue_token("alice", OTHER_DEVICE).result(PATIENCE)
    new = store.issue_token("alice", DEVICE).result(PATIENCE)
    assert refused(lambda: store.redeem(old.token, DEVICE)) == "token-refused"
    assert store.redeem(new.token, DEVICE)
    assert store.redeem(other.token, OTHER_DEVICE)


def test_revoking_takes_all_tokens_but_the_kept_one(store: AccountStore, path: Path, clock: Clock) -> None:
    store.add("alice", HASH).result(PATIENCE)
    kept = store.issue_token("alice", DEVICE).result(PATIENCE)
    lost = store.issue_token("alice", OTHER_DEVICE).result(PATIENCE)
    store.revoke_tokens("alice", keep=DEVICE).result(PATIENCE)
    assert store.redeem(kept.token, DEVICE)
    assert refused(lambda: store.redeem(lost.token, OTHER_DEVICE)) == "token-refused"
    store.revoke_tokens("alice").result(PATIENCE)
    again = reopened(store, path, clock)
    try:
        assert refused(lambda: again.redeem(kept.token, DEVICE)) == "token-refused"
    finally:
        again.close()


def test_an_account_has_tokens_for_a_bounded_number_of_devices(store: AccountStore, clock: Clock) -> None:
    store.add("alice", HASH).result(PATIENCE)
    tokens = []
    for n in range(limits.MAX_DEVICES + 1):
        clock.now += 1
        tokens.append(store.issue_token("alice", bytes([n]) * 16).result(PATIENCE))
    assert refused(lambda: store.redeem(tokens[0].token, bytes([0]) * 16)) == "token-refused"
    assert store.redeem(tokens[1].token, bytes([1]) * 16)
    assert store.redeem(tokens[-1].token, bytes([limits.MAX_DEVICES]) * 16)


def test_nobody_gets_a_token_without_an_account(store: AccountStore) -> None:
    assert refused(store.issue_token("nobody", DEVICE).result) == "not-found"


# --- who may register ---------------------------------------------------------------------------------------------


def test_registration_is_open_closed_or_by_invite() -> None:
    check_registration("open", "", "")
    check_registration("invite", "Tiger 7", "Tiger 7")
    for mode, code, presented in (("closed", "", ""), ("invite", "Tiger 7", "tiger 7"), ("invite", "Tiger 7", "")):
        with pytest.raises(RefusedError) as caught:
            check_registration(mode, code, presented)  # type: ignore[arg-type]  # one of the three modes
        assert caught.value.code == "registration-closed"


# --- what the client sends ----------------------------------------------------------------------------------------


def test_the_login_secret_depends_on_password_server_and_account() -> None:
    server_id = bytes(16)
    secret = login_secret("Correct horse", server_id, "Alice")
    assert len(secret) == 32
    assert secret == login_secret("Correct\u3000horse", server_id, "alice")  # normalised alike
    assert len({
        secret,
        login_secret("correct horse", server_id, "alice"),
        login_secret("Correct horse", b"\1" * 16, "alice"),
        login_secret("Correct horse", server_id, "bob"),
    }) == 4  # fmt: skip


def test_the_login_secret_never_changes_from_release_to_release() -> None:
    frozen = "80371814586d351281caca43f776e3a4862b782aa22507dcdf4128f354bcc637"
    assert login_secret("password", bytes(range(16)), "alice").hex() == frozen


