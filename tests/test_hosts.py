"""What a host may be called: one spelling for each, and a sentence for what is none."""

import ssl

import pytest

from securechat.errors import UsageError
from securechat.hosts import MAX_HOST, MAX_LABEL, normalise_host
from securechat.server.config import load_config
from securechat.ui.start import parse_server

LONGEST = ".".join(["a" * MAX_LABEL] * 3 + ["a" * 61])
"""253 letters."""


@pytest.mark.parametrize(
    ("typed", "spelling"),
    [
        ("LocalHost", "localhost"),
        ("chat.example.", "chat.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--BCHER-kva.example", "xn--bcher-kva.example"),
        ("bücher\u3002example", "xn--bcher-kva.example"),
        ("chat_server", "chat_server"),
        ("3com.example", "3com.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        (LONGEST, LONGEST),
        (LONGEST + ".", LONGEST),
    ],
)
def test_a_host_has_one_spelling(typed: str, spelling: str) -> None:
    assert normalise_host(typed) == spelling
    assert len(LONGEST) == MAX_HOST
    assert normalise_host(spelling) == spelling
    if "%" not in spelling:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=spelling)


WRONG = [
    ("a..b", "has an empty part"),
    (".a", "has an empty part"),
    ("a..", "has an empty part"),
    (".", "has an empty part"),
    (f"{'a' * (MAX_LABEL + 1)}.example", f"has more than {MAX_LABEL} letters up to its dot"),
    ("ü" * MAX_LABEL, f"has more than {MAX_LABEL} letters up to its dot"),
    ("a" * 300, "has 300 letters; the name of a host has at most 253"),
    (LONGEST + "b", "has more than 63 letters|has more than 253 letters"),
    (".".join(["ü" * 20] * 11), "in full, which has more than 253 letters"),
    *((f"fe80::1%{interface}", "names no network interface") for interface in ("$(ls)", "a b", "\x1b[2J")),
    *(
        (host, "neither a host name nor an IP address")
        for host in ("*.example", "a b", "-x", "x-", "1.2.3.4/8", "x\n", "http://x", "999.1.1.1", "1.2.3", "7")
    ),
]


@pytest.mark.parametrize(("host", "fault"), [*WRONG, ("", "cannot be empty")])
def test_what_is_wrong_with_a_host_is_said(host: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        normalise_host(host)
    with pytest.raises(UsageError, match=f"--host: .*{fault}"):
        load_config({"host": host}, {})


@pytest.mark.parametrize(("host", "fault"), [(host, fault) for host, fault in WRONG if ":" not in host])
def test_a_client_says_the_same_before_it_looks_for_anything(host: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        parse_server(f"{host}:4433")
