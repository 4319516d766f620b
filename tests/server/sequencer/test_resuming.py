"""Resuming takes a token and the device's key; whoever has one of them only is refused, as if there were neither."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.server.sequencer.tokens import NOTED_MILLISECONDS, TOKEN_SECONDS
from securechat.server.store.port import DiskFullError
from securechat.wire import messages as m
from securechat.wire.possession import LABEL
from tests.support.memory_server import MemoryClient, MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]
Credentials = tuple[bytes, bytes, bytes]


def code(reply: m.Reply) -> str:
    """Of a refusal; empty: there was none."""
    assert isinstance(reply, m.Refused | m.LoggedIn), reply
    return reply.code if isinstance(reply, m.Refused) else ""


def resume(server: MemoryServer, make: Callable[[MemoryClient], Credentials]) -> str:
    """Try to resume over a new connection."""
    with MemoryClient(server) as client:
        return code(client.ask(m.Resume, *make(client)))


def _proof(alice: MemoryPerson, content: bytes, label: bytes = LABEL) -> Credentials:
    return alice.token, alice.device, alice.signature.sign_with_label(label, content)


WRONG: dict[str, Callable[[MemoryPerson, MemoryClient], Credentials]] = {
    "another token": lambda alice, client: (os.urandom(32), *alice.credentials(client.channel)[1:]),
    "another device": lambda alice, client: (alice.token, bytes(16), alice.credentials(client.channel)[2]),
    "another key": lambda alice, client: (
        alice.token, alice.device,
        SignaturePrivateKey.generate(SUITE).sign_with_label(
            LABEL, client.channel.possession("alice", alice.device)
        ),
    ),
    "no proof": lambda alice, _: (alice.token, alice.device, bytes(64)),
    "the proof of an earlier connection": lambda alice, _: alice.credentials(alice.channel),
    "another nonce": lambda alice, client: alice.credentials(replace(client.channel, nonce=bytes(32))),
    "another server's id": lambda alice, client: alice.credentials(replace(client.channel, server_id=bytes(16))),
    "another certificate": lambda alice, client: alice.credentials(replace(client.channel, shown=bytes(32))),
    "another account": lambda alice, client: _proof(alice, client.channel.possession("alicia", alice.device)),
    "another device in it": lambda alice, client: _proof(alice, client.channel.possession("alice", bytes(16))),
    "another label": lambda alice, client: _proof(
        alice, client.channel.possession("alice", alice.device), b"FramedContentTBS"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_token_is_worthless_without_the_right_proof(server: MemoryServer, enter: Enter, wrong: str) -> None:
    alice = enter("alice")
    assert resume(server, lambda client: WRONG[wrong](alice, client)) == "token-refused"
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)  # nobody has taken her place
    assert resume(server, lambda client: alice.credentials(client.channel)) == ""


def test_all_refusals_look_the_same(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    texts = set()
    for make in WRONG.values():
        with MemoryClient(server) as client:
            texts.add(client.ask(m.Resume, *make(alice, client)).text)
    assert len(texts) == 1


def test_after_a_refusal_the_same_connection_can_try_again(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    with MemoryClient(server) as client:
        assert code(client.ask(m.Resume, *WRONG["another key"](alice, client))) == "token-refused"
        assert code(client.ask(m.Resume, *alice.credentials(client.channel))) == ""


def test_each_connection_has_a_nonce_of_its_own(server: MemoryServer) -> None:
    nonces = set()
    for _ in range(10):
        with MemoryClient(server) as client:
            nonces.add(client.hello.nonce)
    assert len(nonces) == 10
    assert all(len(nonce) == 32 for nonce in nonces)


def test_a_device_that_is_not_published_cannot_resume(server: MemoryServer) -> None:
    alice = MemoryPerson(server, "alice").register().login(publish=False)
    assert resume(server, lambda client: alice.credentials(client.channel)) == "token-refused"
    alice.publish()
    assert resume(server, lambda client: alice.credentials(client.channel)) == ""


def test_a_token_follows_its_device_to_a_new_key(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    old = alice.signature
    alice.signature = SignaturePrivateKey.generate(SUITE)
    alice.certify()
    assert resume(server, lambda client: alice.credentials(client.channel)) == "token-refused"  # not published yet
    alice.publish()
    with MemoryClient(server) as client:
        content = client.channel.possession("alice", alice.device)
        proof = old.sign_with_label(LABEL, content)
        assert code(client.ask(m.Resume, alice.token, alice.device, proof)) == "token-refused"
    assert resume(server, lambda client: alice.credentials(client.channel)) == ""


def test_a_token_ends_with_its_device_and_does_not_come_back_with_it(server: MemoryServer, enter: Enter) -> None:
    old = enter("alice")
    new = MemoryPerson(server, "alice").login(publish=False)
    new.publish(instead_of=old)
    assert resume(server, lambda client: old.credentials(client.channel)) == "token-refused"
    assert resume(server, lambda client: new.credentials(client.channel)) == ""
    # Whoever holds both vaults gives the old device a certificate by the new identity key: its token stays dead.
    back = MemoryPerson(server, "alice")
    back.device, back.signature, back.identity, back.chain = old.device, old.signature, new.identity, new.chain
    assert isinstance(new.again().ask(m.Publish, [back.certify().encode()], [], b""), m.Published)
    assert resume(server, lambda client: old.credentials(client.channel)) == "token-refused"
    back.login(publish=False)
    assert resume(server, lambda client: back.credentials(client.channel)) == ""


def test_a_token_expires_and_is_swept(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    assert server.store.tokens.holders(server.now) == {("alice", server.accounts.all()[0].generation): 1}
    server.now += TOKEN_SECONDS * 1000 - 60_000
    assert resume(server, lambda client: alice.credentials(client.channel)) == ""
    server.now += 60_000
    assert resume(server, lambda client: alice.credentials(client.channel)) == "token-refused"
    server.tidy()
    assert server.store.tokens.holders(0) == {}


def test_a_token_is_extended_in_time_while_its_devices_certificate_is_in_date(
    server: MemoryServer, enter: Enter
) -> None:
    alice = enter("alice")
    server.now += 29 * 86_400_000
    extended = alice.ask(m.ExtendToken)
    assert abs(extended.expires - server.now - TOKEN_SECONDS * 1000) < 100
    server.now = alice.certificate().not_after * 1000 - 100  # a fortnight after its first end
    assert resume(server, lambda client: alice.credentials(client.channel)) == ""
    assert isinstance(alice.again().ask(m.ExtendToken), m.TokenExtended)
    server.now = alice.certificate().not_after * 1000 + 1000
    late = alice.again()
    assert code(late.ask(m.ExtendToken)) == "token-refused"  # whoever holds the keys alone has an end
    late.rotate()
    late.publish()
    assert isinstance(late.ask(m.ExtendToken), m.TokenExtended)


@pytest.mark.parametrize("swept", [True, False])
def test_a_token_that_has_expired_is_not_extended(server: MemoryServer, enter: Enter, *, swept: bool) -> None:
    alice = enter("alice")
    server.now += TOKEN_SECONDS * 1000
    if swept:
        server.tidy()
    assert code(alice.ask(m.ExtendToken)) == "token-refused"
    assert resume(server, lambda client: alice.credentials(client.channel)) == "token-refused"


def test_who_logs_in_again_has_another_token_for_the_device(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    first = alice.token
    again = MemoryPerson(server, "alice")
    again.device, again.signature = alice.device, alice.signature
    again.login()
    assert resume(server, lambda client: (first, *alice.credentials(client.channel)[1:])) == "token-refused"
    assert resume(server, lambda client: again.credentials(client.channel)) == ""


def resumed(server: MemoryServer, alice: MemoryPerson, token: bytes) -> bytes:
    """Resume with a token over a new connection; return the one that comes of it, empty: it was refused."""
    with MemoryClient(server) as client:
        reply = client.ask(m.Resume, token, *alice.credentials(client.channel)[1:])
        return reply.token if isinstance(reply, m.LoggedIn) else b""


def test_a_token_stays_the_same_and_so_a_copy_shuts_nobody_out(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    for _ in range(3):
        server.now += NOTED_MILLISECONDS + 1
        before = server.now
        assert resumed(server, alice, alice.token) == alice.token
        (token,) = server.store.tokens.of("alice")
        assert before <= token.used <= server.now


def test_a_token_lasts_no_longer_for_being_used(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    server.now += TOKEN_SECONDS * 1000 - 60_000
    second = resumed(server, alice, alice.token)
    assert second
    server.now += 60_000
    assert not resumed(server, alice, second)


def test_a_full_disk_keeps_nobody_out_who_has_a_token(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = enter("alice")

    def full() -> None:
        raise DiskFullError("full")

    with monkeypatch.context() as patched:
        patched.setattr(server.store, "commit", full)
        assert resumed(server, alice, alice.token) == alice.token
        assert not resumed(server, alice, bytes(32))
