"""Loopback is a border: who gets the page, who gets behind it, and who does not. Each refusal has its honest twin."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import MAX_LINE_LENGTH
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from securechat.ui.interrupts import Woken
from securechat.ui.web import app, border, connection, serving
from securechat.ui.web.border import KEY_SECONDS, MAX_TABS, SOCKET, Keys
from securechat.ui.web.connection import MAX_KNOCK, MAX_MESSAGE
from securechat.ui.web.serving import ELSEWHERE, MAX_CONNECTIONS, NO_KEY
from tests.support.paged import Paged
from tests.support.scripted import ScriptedClient, conversation
from tests.support.waiting import wait_until

SECONDS = 60


open_ones = ExitStack()


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    with open_ones:
        yield


@pytest.fixture
def page() -> Iterator[Paged]:
    with Paged() as running:
        yield running


def place_of(page: Paged) -> tuple[str, str]:
    """Host with port, and a key that is good once."""
    address, _, key = page.server.address().partition("/#")
    return address.removeprefix("http://"), key


def get(host: str, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    asking = http.client.HTTPConnection(host, timeout=SECONDS)
    asking.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        asking.putheader(name.replace("_", "-"), value)
    asking.endheaders()
    return asking.getresponse()


def knock(host: str, *, origin: str | None = None, say_host: str | None = None) -> ClientConnection:
    """A WebSocket to the page's server, as another program could open it."""
    raw = socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), SECONDS)
    return open_ones.enter_context(connect(
        f"ws://{say_host or host}{SOCKET}", sock=raw, origin=Origin(origin or f"http://{host}"), proxy=None,
        open_timeout=SECONDS, close_timeout=SECONDS, compression=None,
    ))  # fmt: skip


def enter(host: str, **shown: str) -> tuple[ClientConnection, str]:
    """Come in with a key or with what a tab has."""
    talking = knock(host)
    talking.send(json.dumps(shown))
    welcome = json.loads(talking.recv(SECONDS))
    assert welcome["method"] == "welcome"
    return talking, welcome["params"]["tab"]


def ask(talking: ClientConnection, call: int, method: str, **params: object) -> None:
    talking.send(json.dumps({"jsonrpc": "2.0", "id": call, "method": method, "params": params}))


def told(talking: ClientConnection, method: str) -> Any:
    while True:
        said = json.loads(talking.recv(SECONDS))
        if said.get("method") == method:
            return said["params"]


def refused(talking: ClientConnection) -> int:
    """The code with which it was closed."""
    try:
        while True:
            talking.recv(SECONDS)
    except ConnectionClosed as closed:
        return 0 if closed.rcvd is None else closed.rcvd.code


# --- the empty page -----------------------------------------------------------------------------------------------


def test_the_page_comes_with_what_binds_the_browser(page: Paged) -> None:
    host, _ = place_of(page)
    answer = get(host)
    assert answer.status == 200
    assert answer.read().startswith(b"<!doctype html>")
    said = answer.getheader("Content-Security-Policy") or ""
    policy = dict(each.strip().partition(" ")[::2] for each in said.split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob:",
        "media-src": "blob:", "connect-src": f"ws://{host}/socket", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    wanted = {
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    }  # fmt: skip
    assert {name: answer.getheader(name) for name in wanted} == wanted
    assert answer.getheader("Set-Cookie") is None
    assert answer.getheader("Server") is None


@pytest.mark.parametrize(
    ("path", "kind"), [("/page.js", "text/javascript"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml"),
                       ("/LICENSES.txt", "text/plain")],
)  # fmt: skip
def test_its_files_are_there_and_no_others(page: Paged, path: str, kind: str) -> None:
    host, _ = place_of(page)
    answer = get(host, path)
    assert (answer.status, (answer.getheader("Content-Type") or "").partition(";")[0]) == (200, kind)
    for other in ("/../border.py", "//etc/passwd", "/site/page.js", "/page.js/", f"{path}%00", "/.npmrc"):
        assert get(host, other).status == 404, other


@pytest.mark.parametrize("other", ["localhost:{}", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "[::1]:{}", ""])
def test_another_host_is_refused_also_where_its_name_leads_here(page: Paged, other: str) -> None:
    host, key = place_of(page)
    name = other.format(host.rpartition(":")[2])
    assert get(host, Host=name).status == 421
    assert get(host, Host=host).status == 200
    if name.partition(":")[0] in ("localhost", "evil.example"):  # as a page would that was got under this name
        with pytest.raises(InvalidStatus) as caught:
            knock(host, say_host=name, origin=f"http://{name}")
        assert caught.value.response.status_code == 421
    enter(host, key=key)[0].close()


@pytest.mark.parametrize("other", ["http://evil.example", "null", "http://localhost:{}", "https://127.0.0.1:{}"])
def test_another_origin_is_refused(page: Paged, other: str) -> None:
    host, key = place_of(page)
    origin = other.format(host.rpartition(":")[2])
    with pytest.raises(InvalidStatus) as caught:
        knock(host, origin=origin)
    assert caught.value.response.status_code == 403
    assert get(host, Origin=origin).status == 403
    assert get(host, Origin=f"http://{host}").status == 200
    enter(host, key=key)[0].close()


def test_a_plain_request_to_the_socket_is_refused(page: Paged) -> None:
    host, key = place_of(page)
    answer = get(host, SOCKET)
    assert (answer.status, answer.getheader("Upgrade")) == (426, "websocket")
    no_origin = get(host, SOCKET, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13",
                    Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
    assert no_origin.status == 403
    no_key = get(host, SOCKET, Upgrade="websocket", Connection="Upgrade", Origin=f"http://{host}")
    assert no_key.status == 400
    enter(host, key=key)[0].close()


def test_what_is_no_request_or_too_long_ends_the_connection(page: Paged) -> None:
    host, _ = place_of(page)
    for said in (b"\x16\x03\x01 hello", b"GET /" + b"a" * (MAX_LINE_LENGTH + 1), b"POST / HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), SECONDS) as raw:
            raw.sendall(said + b"\r\n\r\n")
            answer = b""
            while part := raw.recv(4096):
                answer += part
        assert not answer.startswith(b"HTTP/1.1 200"), said
    assert get(host).status == 200


# --- behind it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [{}, {"key": ""}, {"key": "a" * 43}, {"tab": "a" * 43}, {"tab": ""}, {"key": "ü"},
                                   {"key": "a" * 100}, {"key": "", "admin": "1"}])  # fmt: skip
def test_who_shows_no_key_or_a_wrong_one_is_not_let_in(page: Paged, shown: dict[str, str]) -> None:
    host, key = place_of(page)
    talking = knock(host)
    talking.send(json.dumps(shown))
    assert refused(talking) == NO_KEY
    enter(host, key=key)[0].close()  # and nobody has used up the key


def test_a_key_is_good_once_and_a_tab_comes_back_with_what_it_got(page: Paged) -> None:
    host, key = place_of(page)
    first, tab = enter(host, key=key)
    assert tab != key
    again = knock(host)
    again.send(json.dumps({"key": key}))
    assert refused(again) == NO_KEY
    first.close()
    back, same = enter(host, tab=tab)
    assert same == tab
    assert told(back, "me") == {"account": "alice"}
    swapped = knock(host)
    swapped.send(json.dumps({"key": tab}))
    assert refused(swapped) == NO_KEY


def test_a_new_address_ends_the_one_before(page: Paged) -> None:
    host, old = place_of(page)
    _, new = place_of(page)
    talking = knock(host)
    talking.send(json.dumps({"key": old}))
    assert refused(talking) == NO_KEY
    enter(host, key=new)[0].close()


def test_a_key_ends_after_a_while() -> None:
    now = [0.0]
    keys = Keys(lambda: now[0])
    key = keys.make()
    now[0] = KEY_SECONDS - 1
    assert keys.redeem(key)
    key = keys.make()
    now[0] += KEY_SECONDS
    assert not keys.redeem(key)
    assert key not in repr(keys)


def test_tabs_beyond_the_bound_forget_the_oldest_one() -> None:
    keys = Keys(lambda: 0.0)
    tabs = [keys.redeem(keys.make()) for _ in range(MAX_TABS + 1)]
    assert not keys.knows(tabs[0])
    assert all(keys.knows(tab) for tab in tabs[1:])
    assert not keys.knows("")


def test_nothing_is_taken_before_a_key_was_shown(page: Paged) -> None:
    host, key = place_of(page)
    talking = knock(host)
    ask(talking, 1, "Send", conversation="00" * 32, text="")
    assert refused(talking) == NO_KEY
    long = knock(host)
    long.send("x" * (MAX_KNOCK + 1))
    assert refused(long) == 1009
    assert isinstance(page.client, ScriptedClient)
    assert page.client.calls == ["start"]
    enter(host, key=key)[0].close()


def test_a_message_that_is_too_long_ends_the_page_and_one_that_is_not_does_not(page: Paged) -> None:
    host, key = place_of(page)
    talking, tab = enter(host, key=key)
    talking.send("x" * MAX_MESSAGE)
    assert "error" in answered(talking, None)
    talking.send("x" * (MAX_MESSAGE + 1))
    assert refused(talking) == 1009
    enter(host, tab=tab)[0].close()


def answered(talking: ClientConnection, *calls: int | None) -> Any:
    """The next answer to one of these."""
    while True:
        said = json.loads(talking.recv(SECONDS))
        if "method" not in said and said["id"] in calls:
            return said


def test_who_says_nothing_is_let_go(page: Paged, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(connection, "monotonic", lambda: now[0])
    monkeypatch.setattr(connection, "KNOCK_SECONDS", 0.2)  # how often it looks at the time, too
    host, key = place_of(page)
    silent = knock(host)
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), SECONDS) as raw:
        wait_until(lambda: len(page.server._inside) == 2)
        now[0] += 1
        assert raw.recv(1) == b""
    with pytest.raises(ConnectionClosed):
        silent.recv(SECONDS)
    talking, _ = enter(host, key=key)
    ask(talking, 1, "prefers", name="notify")
    assert answered(talking, 1)["result"] == "sender"


def test_who_fills_the_places_is_let_go_and_others_come_in_then(page: Paged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KNOCK_SECONDS", 3600.0)  # nobody is let go while the others come
    host, key = place_of(page)
    port = int(host.rpartition(":")[2])
    held = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(MAX_CONNECTIONS)]
    wait_until(lambda: len(page.server._inside) == MAX_CONNECTIONS)
    with socket.create_connection(("127.0.0.1", port), SECONDS) as one_more:
        assert one_more.recv(1) == b""
    for each in held:
        each.close()
    wait_until(lambda: not page.server._inside)
    enter(host, key=key)[0].close()


def test_another_page_takes_over_and_the_first_is_told_so(page: Paged) -> None:
    host, key = place_of(page)
    first, tab = enter(host, key=key)
    second, _ = enter(host, key=place_of(page)[1])
    assert refused(first) == ELSEWHERE
    assert told(second, "me") == {"account": "alice"}
    back, _ = enter(host, tab=tab)
    assert refused(second) == ELSEWHERE
    assert told(back, "me") == {"account": "alice"}


def test_what_a_page_asks_for_is_done_and_answered(page: Paged) -> None:
    assert isinstance(page.client, ScriptedClient)
    bob = page.client.add(conversation("bob"))
    host, key = place_of(page)
    talking, _ = enter(host, key=key)
    ask(talking, 5, "Send", conversation=bob.id.hex(), text="Hi")
    assert answered(talking, 5) == {"jsonrpc": "2.0", "id": 5, "result": None}
    for wrong in ({"method": "Nothing"}, {"method": "open", "params": {"conversation": "zz"}}, {"method": "open"}):
        talking.send(json.dumps({"jsonrpc": "2.0", "id": 6, "params": {}} | wrong))
        assert "error" in answered(talking, 6, None), wrong


# --- the end ------------------------------------------------------------------------------------------------------


def test_without_a_page_it_ends_after_a_while_unless_one_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    later = [0.0]
    monkeypatch.setattr(app, "monotonic", lambda: monotonic() + later[0])
    with Paged() as page:

        def has_ended() -> bool:
            later[0] += app.LINGER_SECONDS
            page.inbox.put(Woken())
            return page.ended == [None]

        host, key = place_of(page)
        talking, tab = enter(host, key=key)
        talking.close()
        wait_until(lambda: page.server._page is None)
        back, _ = enter(host, tab=tab)
        told(back, "list")
        assert not has_ended()
        ask(back, 1, "prefers", name="notify")
        answered(back, 1)
        assert not page.ended
        back.close()
        wait_until(has_ended)


def test_no_key_stands_in_a_file_of_the_page() -> None:
    assert sorted(each.name for each in Path(border.SITE).iterdir()) == [
        "LICENSES.txt", "icon.svg", "index.html", "page.css", "page.js"
    ]  # fmt: skip
    assert serving.WHY_NO_KEY
