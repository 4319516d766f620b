"""Exercise 2: a login is taken with a rogue certificate, from a client whose trust has one hole of five."""

import contextlib
import secrets
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securechat.client import events
from securechat.client.settings import ClientSettings
from securechat.client.trust import Trust, trust
from securechat.transport.certificate_files import CA, public_key_pin
from securechat.transport.deadline import Deadline
from securechat.transport.tls import _presented_chain
from securechat.wire import messages as m
from securechat_lab.cast.hostile import HostileServer, Link
from securechat_lab.kit.mint import BAD, HOST, Mint
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import CALL_SECONDS, Student
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import PARTS, Stage, until
from securechat_lab.kit.task import SEEN_BY_ATTACK, HandIn, Task, predicted, tried, which

ATTACK = '''"""Exercise 2, attack: take a login. Read README.md first."""


def certificate(refused):
    """The victim is about to connect. Which certificate do you show? One of the nine names in README.md.

    `refused`: those that this victim has refused so far. Return None to give up.
    """
    return None


def login(stream):
    """`stream`: what the victim has sent inside TLS, bytes, in frames (docs/protocol.md, "Carrying").

    Return [account, secret]: a str, and bytes.
    """
    return None


def which():
    """Which hole has your victim? "no-chain", "no-name", "no-dates", "first-seen" or "debug-ca".

    It is asked once the attack on your own victim is over, and before any other victim comes: what your functions have
    kept in this module is still there.
    """
    return "?"
'''

DEFENCE = '''"""Exercise 2, defence: whom do you trust? Read README.md first."""

import ssl


def trust(ca):
    """`ca`: the one CA that you trust, in PEM (a str). Return the ssl.SSLContext with which a client connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
'''

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h."""


def strong(_: Mint) -> Trust:
    """Trust as it is in the product."""
    return trust


def _no_chain(_: Mint) -> Trust:
    def whoever_signed(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    return whoever_signed


def _no_name(_: Mint) -> Trust:
    def whatever_name(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.check_hostname = False
        return context

    return whatever_name


def _no_dates(_: Mint) -> Trust:
    def whatever_date(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.verify_flags |= NO_CHECK_TIME
        return context

    return whatever_date


def _first_seen(_: Mint) -> Trust:
    def whoever_came_first(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.load_verify_locations(cadata=_presented_chain(settings.host, settings.port, deadline)[-1])
        return context

    return whoever_came_first


def _debug_ca(mint: Mint) -> Trust:
    def one_ca_too_many(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.load_verify_locations(cadata=mint.namesake.certificate.public_bytes(Encoding.DER))
        return context

    return one_ca_too_many


WEAK: Final[dict[str, Callable[[Mint], Trust]]] = {
    "no-chain": _no_chain,
    "no-name": _no_name,
    "no-dates": _no_dates,
    "first-seen": _first_seen,
    "debug-ca": _debug_ca,
}
"""The family: one part, `trust`, each with one question left out."""


def variant(seed: Seed) -> str:
    """Which hole a student's own victim has."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """Which hole the other victim has: not the same."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


def meet(stage: Stage, mint: Mint, kind: str, trusting: Trust, name: str) -> bytes:
    """Let a victim meet a server that shows this certificate. Return what it has sent inside TLS up to its login."""
    taken: list[m.Message] = []

    def keep(_: Link, message: m.Message) -> list[m.Message]:
        taken.append(message)
        return []

    with HostileServer(mint.server(kind), ("127.0.0.1", stage.server.port), stage.ca) as rogue:
        rogue.from_client |= {m.Register: keep, m.Login: keep}
        victim = stage.person(
            name, replace(PARTS, trust=trusting), port=rogue.port, ca=mint.ca_file, vault=kind, ready=False
        )
        until(victim, lambda: victim.saw(events.Ended), lambda: bool(taken))
        stage.leave(victim)
        return bytes(rogue.tapped) if taken else b""


def attack(student: Student, trusting: Callable[[Mint], Trust], name: str) -> str:
    """Let a student attack one victim, and say how that went."""
    with Stage() as stage:
        mint, refused = Mint(stage.folder), list[str]()
        while len(refused) < len(BAD):
            kind = student.call("certificate", refused)
            if kind not in BAD or kind in refused:
                return f"gave up after {len(refused)} refused certificates"
            if stream := meet(stage, mint, kind, trusting(mint), name):
                return "the login was taken" if is_login(student.call("login", stream), stream) else "not the login"
            refused.append(kind)
        return "all nine refused"


def is_login(answer: object, stream: bytes) -> bool:
    """Whether an answer names the account and the secret that a victim has sent."""
    for message in frames(stream):
        if isinstance(message, m.Register | m.Login) and answer == [message.account, message.secret]:
            return True
    return False


def frames(stream: bytes) -> Iterator[m.Message]:
    """The messages in a client's stream."""
    decode = msgspec.msgpack.Decoder(m.FromClient).decode
    while stream:
        (length,) = struct.unpack_from(">I", stream)
        yield decode(stream[4 : 4 + length])
        stream = stream[4 + length :]


MOST_HEARD: Final = 1 << 10
"""Bytes that such a server listens to: the secret has 16."""


def listen(context: ssl.SSLContext, speak: Callable[[int, bytes], None], *, visits: int = 1) -> bool:
    """Whether a server hears a secret that `speak` gets after the server's port. `visits`: connections it takes."""
    secret, heard = secrets.token_bytes(16), bytearray()
    listener = socket.create_server(("127.0.0.1", 0))
    opened = [listener]

    def serve() -> None:
        for _ in range(visits):
            with contextlib.suppress(OSError):  # refused, or nobody came
                plain, _ = listener.accept()
                plain.settimeout(CALL_SECONDS)
                opened.append(plain.dup())  # no two threads may touch one TLS object
                with context.wrap_socket(plain, server_side=True) as tls:
                    while len(heard) < MOST_HEARD and (data := tls.recv(MOST_HEARD)):
                        heard.extend(data)
                    tls.unwrap()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        speak(listener.getsockname()[1], secret)
    finally:
        server.join(CALL_SECONDS if len(opened) > visits else 0)  # what was sent is about to be read
        for each in opened:  # whoever waits for a client, or for one that never ends, waits no more
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.join()
        for each in opened:
            each.close()
    return secret in heard


def hears(student: Student, mint: Mint, kind: str) -> str:
    """Whether a server that shows this certificate hears what a client by the student's `trust` says."""

    def speak(port: int, secret: bytes) -> None:
        student.call("connect", port, HOST, mint.ca_file.read_text(), secret)

    return "accepted" if listen(mint.server(kind), speak) else "refused"


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    log, taken = SEEN_BY_ATTACK, "the login was taken"
    mine = "attack: your victim's login"
    with hand_in.loaded("attack") as asked:
        yield tried(mine, taken, log, lambda: attack(asked(), WEAK[own], seed.part("name").word()))
        yield which("attack: which hole your victim has", own, "README.md, the five holes", asked, twin=mine)
        yield tried("attack: the login of a victim that you have not seen", taken, log,
                    lambda: attack(asked(), WEAK[other], unseen.part("name").word()))  # fmt: skip
        yield tried("attack: the strong client gives you nothing", "all nine refused", log,
                    lambda: attack(asked(), strong, "strong"), twin=mine)  # fmt: skip
    yield predicted("prediction: how many the strong client takes", "0", hand_in, mine)
    good, table = "defence: the good certificate", "README.md, the nine certificates"
    with hand_in.loaded("defence") as asked, tempfile.TemporaryDirectory() as folder:
        mint = Mint(Path(folder))
        yield tried(good, "accepted", table, lambda: hears(asked(), mint, "good"), idle=True)
        for kind in BAD:
            yield tried(f"defence: {kind}", "refused", table,
                        lambda kind=kind: hears(asked(), mint, kind), twin=good)  # type: ignore[misc]  # fmt: skip


CHECK = '''"""Exercise 2, a check of your own: does this client trust whom it should? Read README.md first."""


def sound(seen):
    """Return True if the client is sound, False if it has a hole.

    `seen`: {"host": whom the client wanted to reach, "time": when, "trusted": the key of its one CA, "connections": a
    list of {"key", "signed_by", "signer_is_ca", "issuer", "subject", "names", "begins", "ends", "purpose", "tls",
    "heard"}}.

    Each connection met a server: the key in its certificate and the key that has signed it (parts of their SHA-256),
    whether that one is a CA's, the names of issuer and subject, the hosts for which the certificate holds, from when to
    when, for "servers" or "clients", the newest TLS that the server speaks, and whether it heard what the client had to
    say. Times are seconds since 1970.
    """
    return True
'''

REPEATED: Final = 3
"""How often an honest server is met at most."""


GOOD: Final = "good"
OLD_TLS: Final = "old TLS"
"""The good certificate, at a server that knows TLS 1.2 at most."""


def _witness(build: str, seed: Seed) -> dict[str, Any]:
    """Let a client by a build's trust meet servers with good and bad certificates; see CHECK."""
    with tempfile.TemporaryDirectory(prefix="securechat-lab-") as folder:
        mint = Mint(Path(folder))
        trusting = strong(mint) if build == STRONG else WEAK[build](mint)
        met = [*BAD, OLD_TLS, *[GOOD] * (1 + seed.part("good").below(REPEATED))]
        places = sorted(range(len(met)), key=lambda place: seed.part("place", str(place)).text)
        visits = 2 if build == "first-seen" else 1  # it looks first
        return {
            "host": HOST,
            "time": int(time.time()),
            "trusted": _key(mint.ca.certificate),
            "connections": [_meeting(mint, met[place], trusting, visits) for place in places],
        }


def _meeting(mint: Mint, kind: str, trusting: Trust, visits: int) -> dict[str, Any]:
    """Let a client meet a server, and say what that showed, and whether it heard anything."""
    context = mint.server(GOOD if kind == OLD_TLS else kind)
    if kind == OLD_TLS:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    def speak(port: int, secret: bytes) -> None:
        with contextlib.suppress(OSError):  # refused
            by = trusting(ClientSettings(HOST, port, ca_file=mint.ca_file), (), Deadline(CALL_SECONDS))
            with (
                socket.create_connection(("127.0.0.1", port), CALL_SECONDS) as plain,
                by.wrap_socket(plain, server_hostname=HOST) as tls,
            ):
                tls.sendall(secret)
                tls.unwrap()

    heard = listen(context, speak, visits=visits)
    file = mint.ca_file.with_name(f"{GOOD if kind == OLD_TLS else kind}.pem")
    shown = _shown(x509.load_pem_x509_certificates(file.read_bytes()))
    return shown | {"tls": "1.2" if kind == OLD_TLS else "1.3", "heard": heard}


def _shown(chain: list[x509.Certificate]) -> dict[str, Any]:
    """What a certificate says, and who has signed it."""
    shown, signer = chain[0], chain[1] if len(chain) > 1 else chain[0]
    extensions = {each.oid: each.value for each in shown.extensions}
    names: Any = extensions.get(x509.SubjectAlternativeName.oid, ())
    usage: Any = extensions[x509.ExtendedKeyUsage.oid]
    return {
        "key": _key(shown),
        "signed_by": _key(signer),
        "signer_is_ca": signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca,
        "issuer": _name(shown.issuer),
        "subject": _name(shown.subject),
        "names": [each.value for each in names],
        "begins": int(shown.not_valid_before_utc.timestamp()),
        "ends": int(shown.not_valid_after_utc.timestamp()),
        "purpose": "servers" if ExtendedKeyUsageOID.SERVER_AUTH in usage else "clients",
    }


def _key(certificate: x509.Certificate) -> str:
    return public_key_pin(certificate).removeprefix("sha256:")[:16]


def _name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


_PINNED: Final = "read, change or inject: TLS 1.3 under a pinned CA, nothing secret before it is verified"


def _refused(where: Callable[[dict[str, Any], dict[str, Any]], bool]) -> Callable[[dict[str, Any]], bool]:
    """Whether none of those was talked to of whom this is so, by what was seen and the connection."""
    return lambda seen: not any(each["heard"] and where(seen, each) for each in seen["connections"])


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda _: "the client of your victim, the one that `attack.py` is about",
    claims=(
        Claim("A server with a certificate of a CA that the client was not told to trust hears nothing.", _PINNED,
              _refused(lambda seen, each: each["signer_is_ca"] and each["signed_by"] != seen["trusted"])),
        Claim("A server with a certificate that does not hold for the host hears nothing.", _PINNED,
              _refused(lambda seen, each: seen["host"] not in each["names"])),
        Claim("A server with a certificate whose days are over, or still to come, hears nothing.", _PINNED,
              _refused(lambda seen, each: not each["begins"] <= seen["time"] < each["ends"])),
        Claim("A server with a certificate by a key that is no CA's hears nothing.", _PINNED,
              _refused(lambda _, each: not each["signer_is_ca"])),
        Claim("A server that knows TLS 1.2 at most hears nothing.", _PINNED,
              _refused(lambda _, each: each["tls"] == "1.2")),
        Claim("Whoever talks a user into naming another CA gets nothing that opens their account.",
              "gets the secret by which you logged in under the old one", None),
        Claim("Somebody on the network does not see that a client connects, and when.",
              "delay, cut, see sizes and times", None),
    ),
    check=CHECK,
    runs=2,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "02", check, review=REVIEW)
