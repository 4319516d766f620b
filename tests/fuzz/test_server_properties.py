"""What the server reads, of the right shape except for one value: the fuzz targets' claims for values, not bytes."""

import copy
import json
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securechat.wire import messages as m
from tests.fuzz import targets_server as targets
from tests.support.pair import example

EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""Of each property: `scripts/fuzz` is for more. A busy machine is no failure."""

TEXT = st.text(st.characters(exclude_categories=()))  # with lone surrogates, which JSON can spell
NUMBERS = [-1, 0, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**40, 1e400, float("nan")]
ODD = st.sampled_from([*NUMBERS, "", "\0", "\ud800"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | ODD
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """A document with one value in it replaced, or left out, or one put in."""
    document = copy.deepcopy(document)
    place = document
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inside = place[key]
        if not isinstance(inside, dict | list) or not inside or draw(st.booleans()):
            break
        place = inside
    match draw(st.sampled_from(["replace", "leave out", "put in"])):
        case "replace":
            place[key] = draw(VALUES)
        case "leave out":
            del place[key]
        case _ if isinstance(place, dict):
            place[draw(TEXT)] = draw(VALUES)
        case _:
            place.insert(key, draw(VALUES))
    return document


SEEDS = targets.seeds()
ACCOUNTS = json.loads(SEEDS["accounts_file"][0])
REQUESTS = [json.loads(line) for line in SEEDS["admin_request"]]
CLIENTS = [msgspec.msgpack.decode(body) for body in SEEDS["message_to_server"]]
SERVERS = [msgspec.msgpack.decode(body) for body in SEEDS["message_to_client"]]


@EXAMPLES
@given(altered(ACCOUNTS))
def test_accounts(document: Any) -> None:
    targets.accounts_file(json.dumps(document).encode())


@EXAMPLES
@given(st.sampled_from(REQUESTS).flatmap(altered))
def test_requests_of_the_operator(document: Any) -> None:
    targets.admin_request(json.dumps(document).encode() + b"\n")


@EXAMPLES
@given(st.dictionaries(st.sampled_from([*targets.names(), "prot"]), VALUES, max_size=4))
def test_settings(table: dict[str, Any]) -> None:
    """JSON's scalars and lists are TOML's, except null and lone surrogates, which it refuses."""
    targets.settings_file("".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items()).encode())
    for number, name in enumerate(targets.names()):
        if name in table:
            text = str(table[name]).replace("\0", "")
            targets.settings_environment(bytes([number]) + text.encode(errors="surrogatepass"))


def packed(value: object) -> bytes:
    """As MessagePack, where it can be said in that."""
    try:
        return msgspec.msgpack.encode(value)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; an integer of more than 64 bits
        return b"\xc1"


@EXAMPLES
@given(st.sampled_from(CLIENTS).flatmap(altered), st.integers(0, 3))
def test_messages_to_the_server(message: Any, stage: int) -> None:
    body = packed(message)
    targets.TARGETS["message_to_server"](body)
    targets.TARGETS["server_machine"](bytes([stage]) + len(body).to_bytes(4, "big") + body)


@EXAMPLES
@given(st.sampled_from(SERVERS).flatmap(altered), st.integers(0, 3))
def test_messages_to_the_client(message: Any, stage: int) -> None:
    body = packed(message)
    targets.TARGETS["message_to_client"](body)
    targets.TARGETS["client_machine"](bytes([stage]) + len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize("kind", typing.get_args(m.FromClient))
def test_the_twin_of_a_message_as_it_should_be_is_read(kind: type[m.Message]) -> None:
    message = example(kind)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=m.FromClient) == message
