import itertools
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
from types import SimpleNamespace
from typing import Any, TypeVar

import argon2
import msgspec
import pytest

from securechat import files, lookalikes
from securechat.client.password import login_secret
from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.server.accounts import file as accounts_file
from securechat.server.accounts import password_queue, passwords
from securechat.server.accounts import store as accounts
from securechat.server.accounts.passwords import PasswordWorkers, check_registration
from securechat.server.accounts.records import Account
from securechat.server.accounts.store import AccountStore
from tests.support.waiting import wait_until

T = TypeVar("T")
CA_PIN = bytes(range(32))
PATIENCE = 60.0
CHEAP = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=8, time_cost=1, parallelism=1
)
SECRET, OTHER_SECRET = b"s" * 32, b"o" * 32
HASH, OTHER_HASH = (argon2.PasswordHasher.from_parameters(CHEAP).hash(SECRET) for _ in range(2))


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


CA = "0b" * 32
"""Who signs for the server, as the accounts have it."""


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
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
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

    def login(self, name: str, secret: bytes = SECRET, former: bytes = b"") -> Account:
        answer: Future[Account | SecurechatError] = Future()
        self.workers.submit_login(name, secret, answer.set_result, former=former)
        return self.result(answer)

    def register(self, name: str, secret: bytes = SECRET, *, invite: str = "", invited: bool = False) -> Account:
        answer: Future[Account | SecurechatError] = Future()
        self.workers.submit_register(name, secret, answer.set_result, invite=invite, invited=invited)
        return self.result(answer)

    def change(self, name: str, secret: bytes, new: bytes) -> Account:
        answer: Future[Account | SecurechatError] = Future()
        self.workers.submit_change(name, secret, new, answer.set_result)
        return self.result(answer)

    def delete(self, name: str, secret: bytes) -> Account:
        answer: Future[Account | SecurechatError] = Future()
        self.workers.submit_delete(name, secret, answer.set_result)
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
        "version": 2,
        "accounts": [
            {
                "name": "alice", "hash": HASH, "created": 1_700_000_000, "enabled": True,
                "generation": 1_700_000_000_000,
                "ca": "", "secret_set": 0, "deleted": 0,
            }
        ],
    }


PERSIAN = "علی\u200cرضا"
"""An honest name with a joiner, which is not shown."""

FIVE_MARKS = "ɐ" + 5 * "\u0301"

LOOKALIKES = [
    ("ɑlice", "alice"), ("alıce", "alice"), ("a1ice", "alice"), ("сосо", "coco"), ("rnodern", "modern"),
    ("b0b", "bob"), ("vvalter", "walter"), ("i\u0307smail", "ismail"), ("strasse", "straße"),
]  # fmt: skip


@pytest.mark.parametrize(("taken", "wanted"), [*LOOKALIKES, *((two, one) for one, two in LOOKALIKES)])
def test_a_name_that_looks_like_one_that_is_taken_is_refused_also_after_a_restart(
    store: AccountStore, path: Path, clock: Clock, taken: str, wanted: str
) -> None:
    store.add(taken, HASH).result(PATIENCE)
    assert refused(lambda: store.add(wanted, HASH).result(PATIENCE)) == "name-taken"
    again = reopened(store, path, clock)
    try:
        with pytest.raises(RefusedError, match=f"{wanted} (looks like one that )?is taken") as caught:
            again.add(wanted, HASH).result(PATIENCE)
        assert caught.value.code == "name-taken"
        assert taken not in str(caught.value)
        assert again.get(wanted) is None
    finally:
        again.close()


HONEST = ("manana", "mañana", "zoe", "zoë", "李雷", "иван", "ivan", "anna", "hanna", "o'brien", "ian", "lan")


def test_names_that_are_only_near_each_other_go_side_by_side(store: AccountStore) -> None:
    for name in HONEST:
        store.add(name, HASH).result(PATIENCE)
    assert len(store) == len(HONEST)


def test_with_ten_thousand_accounts_a_new_name_is_compared_with_none_of_them(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(mode=0o700)
    many = [Account(f"user{number}", HASH, 1, generation=1) for number in range(accounts.MAX_ACCOUNTS - 1)]
    accounts_file.write_accounts(path, many, [])
    store = AccountStore(path, clock=clock)
    asked: list[str] = []

    def likeness(name: str) -> str:
        asked.append(name)
        return lookalikes.likeness(name)

    monkeypatch.setattr(accounts, "likeness", likeness)
    try:
        assert refused(lambda: store.add("usero", HASH).result(PATIENCE)) == "name-taken"  # it looks like user0
        store.add("alice", HASH).result(PATIENCE)
        assert set(asked) == {"usero", "alice"}
    finally:
        store.close()


def test_of_two_lookalikes_at_once_exactly_one_gets_in(store: AccountStore) -> None:
    busy = threading.Event()
    store._ask(lambda _: busy.wait(PATIENCE))  # so that all of them are written at once
    futures = [store.add(name, HASH) for name in ("alice", "ɑlice", "alıce", "a1ice")]
    busy.set()
    outcomes = [type(future.exception(PATIENCE)) for future in futures]
    assert outcomes == [type(None), *[RefusedError] * 3]
    assert len(store) == 1


def test_accounts_that_would_be_refused_today_go_on(path: Path, clock: Clock) -> None:
    old = ["admin", "alice", "ɑlice", "al\u02bcice", "alice.", FIVE_MARKS, PERSIAN]
    path.parent.mkdir(mode=0o700)
    accounts_file.write_accounts(path, [Account(name, HASH, 1, generation=1) for name in old], [])
    store = AccountStore(path, clock=clock)
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
    try:
        ask = Asked(workers)
        assert len(store) == len(old)
        for name in old:
            assert ask.login(name).name == name
            assert ask.register(name).name == name  # the reply was lost, perhaps
            assert refused(lambda name=name: ask.register(name, OTHER_SECRET)) == "name-taken"  # type: ignore[misc]  # bound now
            store.set_enabled(name, enabled=False).result(PATIENCE)
    finally:
        workers.close()
        store.close()


def test_accounts_survive_a_restart(store: AccountStore, path: Path, clock: Clock) -> None:
    made = store.add("alice", HASH).result(PATIENCE)
    again = reopened(store, path, clock)
    try:
        account = again.get("alice")
        assert account
        assert account == made
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
        broken.setattr(files, "sync_open", full)
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


def document(version: int = 2, **change: object) -> str:
    account = {"name": "alice", "hash": HASH, "created": 1, "enabled": True, "generation": 0} | change
    return json.dumps({"format": "securechat accounts", "version": version, "accounts": [account]}, indent=1)


def test_an_old_file_is_read_without_its_tokens_and_written_as_a_new_one(path: Path) -> None:
    token = {"device": "64" * 16, "hash": "00" * 32, "expires": 1}
    account = {"name": "alice", "hash": HASH, "created": 1, "enabled": True, "tokens": [token]}
    path.parent.mkdir()
    path.write_text(json.dumps({"format": "securechat accounts", "version": 1, "accounts": [account]}))
    store = AccountStore(path)
    try:
        assert store.all() == [Account("alice", HASH, 1, generation=0)]
        store.set_enabled("alice", enabled=False).result(PATIENCE)
    finally:
        store.close()
    written = json.loads(path.read_text())
    assert written["version"] == 2
    assert "tokens" not in written["accounts"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1, column 1"),
        (document()[:-10], "line 10, column 18"),
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
        (document(created=(1 << 53) + 1), r"\$.accounts\[0\].created"),
        (document(generation=-1), r"\$.accounts\[0\].generation"),
        (document(tokens=[]), "unknown field `tokens`"),
        (document(admin=True), "unknown field `admin`"),
        (document(version=3), "of another version"),
        (document(version=1, created=-1), r"\$.accounts\[0\].created"),
        ('{"version": 1, "accounts": [3]}', "damaged"),
        ('{"version": 1, "accounts": 3}', "damaged"),
        (document().replace("securechat accounts", "other"), r"\$.format"),
        ('{"users": {}}', "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"version": ' + "9" * 10_000 + "}", "damaged"),
        ("NaN", "damaged"),
        (document().replace("securechat accounts", "\\ud800"), "damaged"),
        (document(name="\ud800"), "damaged"),
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
    "a million accounts": lambda: document().replace("[", "[" + "0," * 1_000_000),
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


def test_the_writer_survives_what_nobody_foresaw(
    store: AccountStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(accounts_file, "write_atomically", lambda *_, **__: 1 // 0)
        with pytest.raises(StorageError, match="the server failed to write its accounts"):
            store.add("alice", HASH).result(PATIENCE)
    assert "internal error while accounts were written" in caplog.text
    assert store.add("alice", HASH).result(PATIENCE).name == "alice"


def test_who_has_asked_and_given_up_keeps_nobody_else_from_what_they_ask_for(store: AccountStore) -> None:
    busy = threading.Event()
    store._ask(lambda _: busy.wait(PATIENCE))  # so that the others are written at once
    first, given_up = store.add("alice", HASH), store.add("bob", HASH)
    assert given_up.cancel()
    busy.set()
    assert first.result(PATIENCE).name == "alice"
    assert store.add("carol", HASH).result(PATIENCE).name == "carol"


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


@pytest.mark.parametrize("cost", ["m=262144,t=16,p=16", "m=128,t=1,p=16", "m=8,t=1,p=1"])
def test_the_dearest_and_the_cheapest_hash_that_are_honest_are_read(path: Path, cost: str) -> None:
    path.parent.mkdir()
    path.write_text(document(hash=PHC.replace("m=8,t=1,p=1", cost)))
    AccountStore(path).close()


@pytest.mark.parametrize(("phc", "enabled"), [(HASH, False), ("", True)], ids=["with a hash", "enabled"])
def test_a_deleted_account_that_could_log_in_is_damage(path: Path, phc: str, *, enabled: bool) -> None:
    path.parent.mkdir()
    path.write_text(document(deleted=1, hash=phc, enabled=enabled))
    with pytest.raises(StorageError, match="that was deleted and can log in"):
        AccountStore(path)


def test_the_twin_is_compared_with(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(hash=PHC))
    store = AccountStore(path)
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
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


def test_a_file_is_read_up_to_its_limit(
    store: AccountStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("alice", HASH).result(PATIENCE)
    monkeypatch.setattr(accounts_file, "MAX_FILE", path.stat().st_size)
    assert [account.name for account in accounts_file.read_accounts(path)[0]] == ["alice"]
    monkeypatch.setattr(accounts_file, "MAX_FILE", path.stat().st_size - 1)
    with pytest.raises(StorageError, match="larger than"):
        accounts_file.read_accounts(path)


def test_whom_the_operator_enables_keeps_the_invites(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    code = store.create_invite("alice", 60).result(PATIENCE).code
    store.set_enabled("alice", enabled=True).result(PATIENCE)
    assert store.find_invite(code, "alice") is not None
    store.set_enabled("alice", enabled=False).result(PATIENCE)
    assert store.find_invite(code, "alice") is None


def test_the_latest_time_that_a_file_can_hold_is_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(created=1 << 53))
    store = AccountStore(path)
    assert [account.created for account in store.all()] == [1 << 53]
    store.close()


def test_an_endless_file_is_refused_without_reading_all_of_it(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(StorageError, match="larger than 67,108,864 bytes"):
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
    assert HASH not in repr(store.get("alice")) + repr(account)


def test_the_secret_is_not_in_the_file(ask: Asked, path: Path) -> None:
    ask.register("alice", b"\x01" * 32)
    ask.login("alice", b"\x01" * 32)
    content = path.read_bytes()
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
    for name, told in (("strasse", "strasse is taken"), ("straße", "straße is taken")):
        with pytest.raises(RefusedError, match=told) as caught:
            store.add(name, HASH).result(PATIENCE)
        assert caught.value.code == "name-taken"
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
    assert ask.login("alice").name == "alice"


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


def test_the_same_registration_twice_at_once_succeeds_twice(
    store: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "WORKERS", 2)
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
    answers: queue.Queue[Account | SecurechatError] = queue.Queue()
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    store._ask(hold)  # so that neither finds what the other one has made
    assert begun.wait(PATIENCE)
    for _ in range(2):
        workers.submit_register("alice", SECRET, answers.put)
    wait_until(lambda: len(store._asked) == 2)
    go_on.set()
    one, other = (answers.get(timeout=PATIENCE) for _ in range(2))
    workers.close()
    assert isinstance(one, Account)
    assert one == other == store.get("alice")


def test_where_not_all_workers_can_start_none_is_left(store: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WORKERS", 2)
    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name == "password-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    with pytest.raises(RuntimeError, match="can't start"):
        PasswordWorkers(store, ca=CA, cost=CHEAP)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("password-")]


def test_a_registration_is_answered_only_when_it_is_on_disk(ask: Asked, path: Path) -> None:
    for n in range(10):
        ask.register(f"user{n}")
        assert json.loads(path.read_text())["accounts"][-1]["name"] == f"user{n}"


def test_a_registration_that_cannot_be_written_is_answered_with_the_reason(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_open", full)
    with pytest.raises(StorageError, match="No space left"):
        ask.register("alice")


def test_a_disabled_account_cannot_log_in(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(enabled=False))
    store = AccountStore(path)
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
    try:
        with pytest.raises(RefusedError, match="disabled by the operator"):
            Asked(workers).login("alice")
        with pytest.raises(RefusedError, match="wrong user name or password"):
            Asked(workers).login("alice", OTHER_SECRET)
    finally:
        workers.close()
        store.close()


def test_a_login_brings_an_old_hash_to_the_present_cost(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    dearer = argon2.Parameters(argon2.Type.ID, 19, 16, 32, time_cost=2, memory_cost=16, parallelism=1)
    workers = PasswordWorkers(store, ca=CA, cost=dearer)
    try:
        Asked(workers).login("alice")
        account = store.set_enabled("alice", enabled=True).result(PATIENCE)  # written after the new hash
        assert argon2.extract_parameters(account.hash) == dearer
        Asked(workers).login("alice")
        unchanged = store.set_enabled("alice", enabled=True).result(PATIENCE)
        assert unchanged.hash == account.hash
    finally:
        workers.close()


def test_the_hashes_we_make_are_hashes_we_read() -> None:
    for cost in (CHEAP, passwords.COST):
        assert accounts_file._PHC.fullmatch(argon2.PasswordHasher.from_parameters(cost).hash(SECRET))


def test_the_workers_leave_a_processor_for_the_chat() -> None:
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    assert passwords.workers_on(processors) == passwords.WORKERS
    assert [passwords.workers_on(number) for number in (1, 2, 3, 4, 64)] == [1, 1, 2, 2, 2]


def test_a_hash_costs_what_owasp_asks_for_and_all_at_once_92_mib() -> None:
    assert (passwords.COST.memory_cost, passwords.COST.time_cost, passwords.COST.parallelism) == (46 << 10, 1, 1)
    assert passwords.MAX_WORKERS * passwords.COST.memory_cost == 92 << 10


def test_few_hash_at_once_some_wait_and_the_next_is_told_busy(
    workers: PasswordWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing, gate = threading.Semaphore(0), threading.Event()
    verify = argon2.PasswordHasher.verify

    def slow(self: argon2.PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - theirs
        hashing.release()
        assert gate.wait(PATIENCE)
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    answers: queue.Queue[Account | SecurechatError] = queue.Queue()

    names = (f"nobody{number}" for number in itertools.count())

    def login() -> None:
        workers.submit_login(next(names), SECRET, answers.put)

    for _ in range(passwords.WORKERS):
        login()
    for _ in range(passwords.WORKERS):
        assert hashing.acquire(timeout=PATIENCE)
    for _ in range(password_queue.QUEUE):
        login()
    assert refused(login) == "busy"
    for submit in (
        lambda: workers.submit_register("alice", SECRET, answers.put),
        lambda: workers.submit_change("alice", SECRET, SECRET, answers.put),
        lambda: workers.submit_delete("alice", SECRET, answers.put),
    ):
        assert refused(submit) == "busy"  # what is reserved is for logins from where the account is known
    assert not hashing.acquire(blocking=False)  # no more are begun
    gate.set()
    outcomes = [answers.get(timeout=PATIENCE) for _ in range(passwords.WORKERS + password_queue.QUEUE)]
    assert {outcome.code for outcome in outcomes if isinstance(outcome, RefusedError)} == {"login-refused"}
    login()
    assert isinstance(answers.get(timeout=PATIENCE), RefusedError)


def test_what_a_hash_takes_is_counted_for_the_address_that_has_asked_for_it(
    workers: PasswordWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, float]] = []
    monkeypatch.setattr(passwords, "time", SimpleNamespace(thread_time=iter([5.0, 7.0]).__next__))
    monkeypatch.setattr(workers._jobs, "count", lambda *fields: counted.append(fields))
    answers: queue.Queue[Account | SecurechatError] = queue.Queue()
    workers.submit_login("nobody", SECRET, answers.put, address="192.0.2.7")
    assert isinstance(answers.get(timeout=PATIENCE), RefusedError)
    wait_until(lambda: counted == [("192.0.2.7", 2.0)])


def test_whoever_comes_once_waits_for_none_of_those_who_come_all_the_time() -> None:
    jobs, often = password_queue.PasswordQueue(), [f"127.0.1.{number}" for number in range(10)]
    job = password_queue.Job(lambda: None, lambda _: None)

    def wait(address: str) -> None:
        jobs.put(job, address=address, account=address, familiar=False)

    for address in often:
        wait(address)
    for _ in range(2 * len(often)):
        taken = jobs.take()
        assert taken is not None
        address, _ = taken
        jobs.count(address, 0.2)
        wait(address)
    wait("127.0.2.1")
    order = [taken[0] for _ in range(len(often) + 1) if (taken := jobs.take())]
    assert order == ["127.0.2.1", *often]  # and these take turns


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_chat_comes_before_those_who_want_in(workers: PasswordWorkers) -> None:
    lower = min(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + 10, 19)
    deadline = time.monotonic() + PATIENCE
    while {os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in workers._threads} != {lower}:
        assert time.monotonic() < deadline, "they have not begun"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (argon2.exceptions.VerificationError("Memory allocation error"), "short of memory"),
        (argon2.exceptions.HashingError("Memory allocation error"), "short of memory"),
        (MemoryError(), "short of memory"),
        (ZeroDivisionError("unforeseen"), "could not check the password"),
    ],
    ids=repr,
)
def test_a_worker_survives_a_hash_that_fails(
    ask: Asked, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    ask.register("alice")

    def fail(*_: object) -> bool:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(argon2.PasswordHasher, "verify", fail)
        for _ in range(2 * passwords.WORKERS):
            with pytest.raises(RefusedError, match=told) as caught:
                ask.login("alice")
            assert caught.value.code == "busy"
    ask.login("alice")


def test_closing_answers_what_is_queued_and_refuses_the_rest(store: AccountStore) -> None:
    workers = PasswordWorkers(store, ca=CA, cost=CHEAP)
    answers: queue.Queue[Account | SecurechatError] = queue.Queue()
    for n in range(10):
        workers.submit_register(f"user{n}", SECRET, answers.put)
    workers.close()
    assert answers.qsize() == 10
    assert refused(lambda: workers.submit_register("late", SECRET, answers.put)) == "busy"


# --- generations --------------------------------------------------------------------------------------------------


def test_a_login_leaves_the_file_as_it_is(ask: Asked, path: Path) -> None:
    ask.register("alice")
    before = path.stat()
    assert ask.login("alice") == ask.login("alice")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_each_reset_and_each_switch_begins_a_generation_and_nothing_else_does(
    store: AccountStore, clock: Clock, path: Path
) -> None:
    seen = [store.add("alice", HASH).result(PATIENCE).generation]
    store.replace_hash("alice", HASH, OTHER_HASH).result(PATIENCE)
    same = store.set_enabled("alice", enabled=True).result(PATIENCE)
    assert (same.hash, same.generation) == (OTHER_HASH, seen[0])
    clock.now -= 3600  # a clock that was set back brings no generation back
    code = store.create_invite("alice", 60).result(PATIENCE).code
    seen.append(store.reset("alice", HASH, code).result(PATIENCE).generation)
    seen.append(store.set_enabled("alice", enabled=False).result(PATIENCE).generation)
    clock.now += 7200
    seen.append(store.set_enabled("alice", enabled=True).result(PATIENCE).generation)
    assert seen == sorted(set(seen))
    assert seen[-1] == int(clock.now * 1000)
    again = reopened(store, path, clock)
    account = again.get("alice")
    again.close()
    assert account
    assert account.generation == seen[-1]


# --- who may register ---------------------------------------------------------------------------------------------


def test_registration_is_open_closed_or_by_invite() -> None:
    check_registration("open", "", "")
    check_registration("invite", "Tiger 7", "Tiger 7")
    for mode, code, presented, said in (
        ("closed", "", "", "takes no new accounts"), ("invite", "Tiger 7", "tiger 7", "the one given is not it"),
        ("invite", "Tiger 7", "", "asks for an invite code; ask its operator for one"),
    ):  # fmt: skip
        with pytest.raises(RefusedError, match=said) as caught:
            check_registration(mode, code, presented)  # type: ignore[arg-type]  # one of the three modes
        assert caught.value.code == "registration-closed"


# --- the secret of a former CA ---------------------------------------------------------------------------------------


def test_a_former_secret_lets_in_and_the_new_one_takes_its_place_on_disk(
    workers: PasswordWorkers, store: AccountStore, path: Path
) -> None:
    asked = Asked(workers)
    before = asked.register("alice")
    workers.ca = "0c" * 32
    asked.login("alice", former=OTHER_SECRET)  # wrong, beside the right one: nothing changes but whose secret it is
    before = msgspec.structs.replace(before, ca=workers.ca)
    store.set_enabled("alice", enabled=True).result(PATIENCE)  # changes come in their order
    assert store.get("alice") == before
    workers.ca = "0d" * 32
    after = asked.login("alice", OTHER_SECRET, former=SECRET)
    assert json.loads(path.read_text())["accounts"][0]["hash"] == after.hash != before.hash
    assert after.generation == before.generation
    assert asked.login("alice", OTHER_SECRET) == after
    assert refused(lambda: asked.login("alice", SECRET)) == "login-refused"
    assert asked.login("alice", OTHER_SECRET, former=SECRET) == after  # who comes second finds it done


def test_a_former_secret_that_is_wrong_opens_nothing_and_changes_nothing(
    workers: PasswordWorkers, store: AccountStore
) -> None:
    asked = Asked(workers)
    before = asked.register("alice")
    for name in ("alice", "nobody"):
        with pytest.raises(RefusedError, match="wrong user name or password"):
            asked.login(name, OTHER_SECRET, former=b"x" * 32)
    assert store.get("alice") == before
    assert store.get("nobody") is None


def test_the_secret_of_a_former_ca_is_taken_once_after_another_ca_has_signed_and_never_else(
    workers: PasswordWorkers, store: AccountStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has seen a secret does not change the password by it. The twin: the CA is another one, and it is told."""
    asked = Asked(workers)
    before = asked.register("alice")
    assert before.ca == CA
    assert refused(lambda: asked.login("alice", OTHER_SECRET, former=SECRET)) == "login-refused"
    assert (store.get("alice"), asked.login("alice")) == (before, before)
    workers.ca = "0c" * 32
    with caplog.at_level("INFO", "securechat"):
        after = asked.login("alice", OTHER_SECRET, former=SECRET)
    assert (after.ca, after.generation) == (workers.ca, before.generation)
    assert "secret replaced" in caplog.text
    assert refused(lambda: asked.login("alice", SECRET, former=OTHER_SECRET)) == "login-refused"
    assert asked.login("alice", OTHER_SECRET) == after


def test_a_login_under_the_ca_of_today_closes_the_account_to_secrets_of_others(
    workers: PasswordWorkers, store: AccountStore
) -> None:
    """Where the file does not say of which CA a secret is, as older ones do not."""
    asked = Asked(workers)
    before = asked.register("alice")
    store.replace_hash("alice", before.hash, before.hash).result(PATIENCE)
    assert store.get("alice") == msgspec.structs.replace(before, ca="")
    asked.login("alice")
    store.set_enabled("alice", enabled=True).result(PATIENCE)  # changes come in their order
    assert refused(lambda: asked.login("alice", OTHER_SECRET, former=SECRET)) == "login-refused"
    assert store.get("alice") == before


def test_a_disabled_account_takes_no_new_secret(workers: PasswordWorkers, store: AccountStore) -> None:
    asked = Asked(workers)
    asked.register("alice")
    workers.ca = "0c" * 32
    disabled = store.set_enabled("alice", enabled=False).result(PATIENCE)
    assert refused(lambda: asked.login("alice", OTHER_SECRET, former=SECRET)) == "login-refused"
    assert store.get("alice") == disabled


def test_of_several_that_offer_a_former_secret_at_once_all_are_let_in(workers: PasswordWorkers) -> None:
    asked = Asked(workers)
    asked.register("alice")
    workers.ca = "0c" * 32
    answers: list[Future[Account | SecurechatError]] = [Future(), Future(), Future()]
    for answer in answers:
        workers.submit_login("alice", OTHER_SECRET, answer.set_result, former=SECRET)
    for answer in answers:
        asked.result(answer)
    asked.login("alice", OTHER_SECRET)


def test_a_password_that_was_reset_meanwhile_is_not_replaced(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    code = store.create_invite("alice", 60).result(PATIENCE).code
    reset = store.reset("alice", OTHER_HASH, code).result(PATIENCE)
    assert store.replace_hash("alice", HASH, "of the former one's successor").result(PATIENCE) == reset
    assert store.get("alice") == reset


def test_of_two_resets_with_one_code_at_once_the_first_counts(store: AccountStore) -> None:
    store.add("alice", HASH).result(PATIENCE)
    code = store.create_invite("alice", 60).result(PATIENCE).code
    first, second = (store.reset("alice", value, code) for value in (OTHER_HASH, "of whoever else has the code"))
    reset = first.result(PATIENCE)
    assert refused(lambda: second.result(PATIENCE)) == "registration-closed"
    assert (reset.hash, store.get("alice")) == (OTHER_HASH, reset)


# --- invites ------------------------------------------------------------------------------------------------------


def test_an_invite_makes_one_account_and_says_no_more_than_that(store: AccountStore, ask: Asked, clock: Clock) -> None:
    made = store.create_invite("", 60).result(PATIENCE)
    assert made.code not in repr(made)
    assert (made.invite.created, made.invite.expires) == (clock.now * 1000, clock.now * 1000 + 60_000)
    assert refused(lambda: ask.register("alice", invited=True)) == "registration-closed"
    assert refused(lambda: ask.register("alice", invite="x" + made.code, invited=True)) == "registration-closed"
    account = ask.register("alice", invite=f" {made.code.upper()} ", invited=True)  # as a person types it
    assert account.ca == CA
    assert refused(lambda: ask.register("bob", invite=made.code, invited=True)) == "registration-closed"
    assert ask.register("alice", invite=made.code, invited=True) == account  # the answer was lost, perhaps
    assert refused(lambda: ask.register("alice", OTHER_SECRET, invite=made.code)) == "name-taken"  # it is used
    assert ask.login("alice") == account


def test_where_all_may_register_an_invite_is_used_up_all_the_same(store: AccountStore, ask: Asked) -> None:
    code = store.create_invite("alice", 60).result(PATIENCE).code
    ask.register("bob", invite=code)  # not his: nothing is used
    assert len(store.invites()) == 1
    ask.register("alice", invite=code)
    assert store.invites() == []
    assert store.find_invite(code, "alice") is not None


def test_invites_are_listed_while_they_are_good_the_oldest_first(store: AccountStore, clock: Clock) -> None:
    lives = (90, 30, 60)
    made = []
    for seconds in lives:
        made.append(store.create_invite("", seconds).result(PATIENCE))
        clock.now += 1
    assert store.invites() == [each.invite for each in made]
    clock.now = made[1].invite.expires / 1000
    assert store.find_invite(made[1].code, "alice") is None  # its last moment is over
    assert store.invites() == [made[0].invite, made[2].invite]
    store.add("alice", HASH, invite=made[0].code).result(PATIENCE)
    assert store.invites() == [made[2].invite]


def test_an_account_has_one_invite_and_the_newer_takes_the_place_of_the_older(store: AccountStore) -> None:
    older = store.create_invite("alice", 60).result(PATIENCE)
    others = store.create_invite("bob", 60).result(PATIENCE)
    newer = store.create_invite("alice", 60).result(PATIENCE)
    assert {each.id for each in store.invites()} == {others.invite.id, newer.invite.id}
    assert store.find_invite(older.code, "alice") is None
    store.create_invite("", 60).result(PATIENCE)
    store.create_invite("", 60).result(PATIENCE)  # for nobody in particular there are as many as are made
    assert len(store.invites()) == 4


def test_an_invite_is_revoked_once_and_a_used_one_not_at_all(store: AccountStore) -> None:
    one, other = (store.create_invite("", 60).result(PATIENCE) for _ in range(2))
    assert len(one.invite.id) == 8  # as wide as the list of invites has it
    assert store.revoke_invite(one.invite.id).result(PATIENCE) == one.invite
    assert store.find_invite(one.code, "alice") is None
    assert refused(store.revoke_invite(one.invite.id).result) == "not-found"
    store.add("alice", HASH, invite=other.code).result(PATIENCE)
    assert refused(store.revoke_invite(other.invite.id).result) == "not-found"


def test_invites_are_few_and_those_that_have_expired_make_room(
    store: AccountStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MAX_INVITES", 2)
    for seconds in (60, 90):
        store.create_invite("", seconds).result(PATIENCE)
    assert refused(store.create_invite("", 60).result) == "busy"
    clock.now += 60
    store.create_invite("", 60).result(PATIENCE)
    assert refused(store.create_invite("", 60).result) == "busy"


def test_a_file_has_as_many_invites_as_there_may_be_and_no_more(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    most = [
        {"hash": f"{number:064x}", "created": 1, "expires": 1 << 52} for number in range(accounts_file.MAX_INVITES + 1)
    ]
    path.write_text(json.dumps(json.loads(document()) | {"invites": most}))
    with pytest.raises(StorageError, match="invites"):
        AccountStore(path)
    path.write_text(json.dumps(json.loads(document()) | {"invites": most[1:]}))
    store = AccountStore(path, clock=clock)
    assert len(store.invites()) == accounts_file.MAX_INVITES == 1000
    store.close()


def test_by_an_invite_its_owner_sets_a_new_password_and_is_enabled(store: AccountStore, ask: Asked) -> None:
    before = ask.register("alice")
    store.set_enabled("alice", enabled=False).result(PATIENCE)
    code = store.create_invite("alice", 60).result(PATIENCE).code
    again = ask.register("alice", OTHER_SECRET, invite=code)
    assert (again.enabled, again.ca, again.generation > before.generation) == (True, CA, True)
    assert ask.login("alice", OTHER_SECRET) == again
    assert refused(lambda: ask.login("alice")) == "login-refused"
    assert ask.register("alice", OTHER_SECRET, invite=code) == again  # the answer was lost, perhaps
    found = store.find_invite(code, "alice")  # where nobody registers without a code, it lets that be asked again
    assert found is not None
    assert found.used
    assert refused(lambda: ask.register("alice", SECRET, invite=code)) == "name-taken"  # and nobody else has it


def test_once_a_password_was_set_anew_no_earlier_code_is_good_for_its_account(store: AccountStore, ask: Asked) -> None:
    codes = [store.create_invite(name, 60).result(PATIENCE).code for name in ("", "alice")]
    ask.register("alice", invite=codes[0], invited=True)
    assert store.find_invite(codes[0], "alice") is not None
    ask.register("alice", OTHER_SECRET, invite=codes[1])
    assert store.find_invite(codes[0], "alice") is None
    assert store.find_invite(codes[1], "alice") is not None  # to repeat that


def test_who_is_disabled_has_no_invite_any_more(store: AccountStore, ask: Asked) -> None:
    ask.register("alice")
    codes = [store.create_invite(name, 60).result(PATIENCE).code for name in ("alice", "")]
    disabled = store.set_enabled("alice", enabled=False).result(PATIENCE)
    assert refused(lambda: ask.register("alice", OTHER_SECRET, invite=codes[0])) == "name-taken"
    assert refused(lambda: ask.register("alice", OTHER_SECRET, invite=codes[1])) == "name-taken"  # for new ones alone
    for code in (codes[1], "no such code"):
        assert refused(store.reset("alice", OTHER_HASH, code).result) == "registration-closed"
    assert store.get("alice") == disabled
    assert store.find_invite(codes[1], "bob") is not None


# --- another password, and the end of an account --------------------------------------------------------------------


def test_a_new_password_takes_the_place_of_the_old_one_for_whoever_knows_that(
    store: AccountStore, ask: Asked, clock: Clock
) -> None:
    before = ask.register("alice")
    assert refused(lambda: ask.change("alice", OTHER_SECRET, b"n" * 32)) == "login-refused"
    assert refused(lambda: ask.change("nobody", SECRET, OTHER_SECRET)) == "login-refused"
    assert store.get("alice") == before
    clock.now += 5
    after = ask.change("alice", SECRET, OTHER_SECRET)
    assert (after.ca, after.secret_set, after.generation) == (CA, clock.now * 1000, clock.now * 1000)
    assert after == store.get("alice") == ask.login("alice", OTHER_SECRET)
    assert refused(lambda: ask.login("alice")) == "login-refused"
    assert ask.change("alice", SECRET, OTHER_SECRET) == after  # the answer was lost, perhaps


def test_a_clock_that_was_set_back_makes_no_password_older_than_the_one_before(
    ask: Asked, clock: Clock
) -> None:
    ask.register("alice")
    clock.now += 5
    first = ask.change("alice", SECRET, OTHER_SECRET)
    clock.now -= 3600
    second = ask.change("alice", OTHER_SECRET, SECRET)
    assert (second.secret_set, second.generation) == (first.secret_set + 1, first.generation + 1)


def test_a_password_that_changed_meanwhile_or_is_disabled_is_not_changed(store: AccountStore, ask: Asked) -> None:
    first = ask.register("alice")
    assert refused(store.change_password("alice", OTHER_HASH, HASH).result) == "login-refused"
    disabled = store.set_enabled("alice", enabled=False).result(PATIENCE)
    assert refused(store.change_password("alice", first.hash, HASH).result) == "login-refused"
    assert refused(lambda: ask.change("alice", SECRET, OTHER_SECRET)) == "login-refused"
    assert refused(lambda: ask.change("alice", OTHER_SECRET, SECRET)) == "login-refused"  # which it has
    assert store.get("alice") == disabled


def test_an_account_is_deleted_by_whoever_knows_its_password_and_its_name_stays_taken(
    store: AccountStore, ask: Asked, path: Path, clock: Clock
) -> None:
    before = ask.register("alice")
    code = store.create_invite("alice", 60).result(PATIENCE).code
    store.create_invite("", 60).result(PATIENCE)
    assert refused(lambda: ask.delete("alice", OTHER_SECRET)) == "login-refused"
    assert store.get("alice") == before
    gone = ask.delete("alice", SECRET)
    assert (gone.hash, gone.ca, gone.enabled, gone.deleted) == ("", "", False, clock.now)
    assert gone.generation > before.generation
    with pytest.raises(RefusedError, match="this account was deleted"):
        gone.check_enabled()
    assert [each.account for each in store.invites()] == [""]
    for secret in (SECRET, OTHER_SECRET):
        assert refused(lambda secret=secret: ask.login("alice", secret)) == "login-refused"  # type: ignore[misc]  # bound now
        assert refused(lambda secret=secret: ask.register("alice", secret, invite=code)) == "name-taken"  # type: ignore[misc]  # bound now
    for change in (
        store.set_enabled("alice", enabled=True), store.replace_hash("alice", "", HASH),
        store.replace_secret("alice", "", HASH), store.change_password("alice", "", HASH),
        store.reset("alice", HASH, code),
    ):  # fmt: skip
        with pytest.raises(RefusedError, match="was deleted; its name stays reserved"):
            change.result(PATIENCE)
    assert store.delete("alice").result(PATIENCE) == gone
    again = reopened(store, path, clock)
    assert again.get("alice") == gone
    again.close()


def test_what_changed_meanwhile_is_not_deleted_by_the_password_of_before(
    store: AccountStore, ask: Asked, clock: Clock
) -> None:
    before = ask.register("alice")
    assert refused(store.delete("alice", known=OTHER_HASH).result) == "login-refused"
    disabled = store.set_enabled("alice", enabled=False).result(PATIENCE)
    assert refused(store.delete("alice", known=before.hash).result) == "login-refused"
    with pytest.raises(RefusedError, match="disabled by the operator"):
        ask.delete("alice", SECRET)
    assert store.get("alice") == disabled
    clock.now = 0.0
    assert store.delete("alice").result(PATIENCE).deleted == 1  # the operator may, and 0 would be: not at all
    for name in ("nobody", "ALICE"):
        assert refused(store.delete(name).result) == "not-found"


# --- what the client sends ----------------------------------------------------------------------------------------


def test_the_login_secret_depends_on_password_server_ca_and_account() -> None:
    server_id = bytes(16)
    secret = login_secret(bytearray(b"Correct horse"), server_id, "Alice", CA_PIN)
    assert len(secret) == 32
    assert secret == login_secret(bytearray(b"Correct horse"), server_id, "alice", CA_PIN)  # its one spelling
    assert len({
        secret,
        login_secret(bytearray(b"correct horse"), server_id, "alice", CA_PIN),
        login_secret(bytearray(b"Correct horse"), b"\1" * 16, "alice", CA_PIN),
        login_secret(bytearray(b"Correct horse"), server_id, "bob", CA_PIN),
        login_secret(bytearray(b"Correct horse"), server_id, "alice", b"\1" * 32),
        login_secret(bytearray(b"Correct horse"), server_id, "alice", b""),
    }) == 6  # fmt: skip
    with pytest.raises(UsageError, match="32 bytes"):
        login_secret(bytearray(b"Correct horse"), server_id, "alice", b"\1" * 31)


def test_the_login_secret_never_changes_from_release_to_release() -> None:
    of_none = "80371814586d351281caca43f776e3a4862b782aa22507dcdf4128f354bcc637"
    assert login_secret(bytearray(b"password"), bytes(range(16)), "alice", b"").hex() == of_none
    frozen = "353a034674e6e1bc08c717087f5219d6c87cb9755f1970d20f5ff8b688e5eeac"
    assert login_secret(bytearray(b"password"), bytes(range(16)), "alice", CA_PIN).hex() == frozen




# --- what is written, and when ---


def test_what_comes_while_a_write_is_under_way_goes_into_the_next_one(
    store: AccountStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All log in for the first time under another CA, say."""
    names = [f"user{n}" for n in range(50)]
    for each in names:
        store.add(each, HASH).result(PATIENCE)
    written: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    real = accounts_file.write_accounts

    def held(*fields: Any) -> None:
        written.append(1)
        begun.set()
        assert go_on.wait(PATIENCE)
        real(*fields)

    monkeypatch.setattr("securechat.server.accounts.store.write_accounts", held)
    first = store.set_enabled("user0", enabled=False)
    assert begun.wait(PATIENCE)
    futures = [store.replace_hash(each, HASH, HASH, ca="0c" * 32) for each in names]
    go_on.set()
    assert first.result(PATIENCE).enabled is False
    assert [future.result(PATIENCE).ca for future in futures] == ["0c" * 32] * 50
    assert len(written) == 2
    assert {each["ca"] for each in json.loads(path.read_text())["accounts"]} == {"0c" * 32}


def test_what_changes_nothing_is_not_written(store: AccountStore, path: Path) -> None:
    account = store.add("alice", HASH).result(PATIENCE)
    before = path.stat()
    store.replace_hash("alice", HASH, HASH, ca=account.ca)
    assert store.set_enabled("alice", enabled=True).result(PATIENCE) == account
    assert path.stat() == before
