"""What a submission says of itself: its number, and the header of its MLS message (RFC 9420, section 6).

The number is in the request and in the message's authenticated data. Only `last + 1` is new; the newest 256 are
answered again (docs/design.md, section 4, Numbers).
"""

from securechat.errors import DecodeError, RefusedError
from securechat.mls.framing import ContentType, Header, WireFormat, read_header
from securechat.server.sequencer.conversation import Conversation
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.wire import limits
from securechat.wire.messages import Accepted


def is_next(
    turn: Turn,
    conversation: Conversation,
    session: Session,
    request: int,
    number: int,
    payload: bytes,
    group_info: bytes = b"",
    *,
    joins: bool = False,
) -> bool:
    """Whether `number` is the device's next one. Answers a retry itself, and raises RefusedError otherwise.

    `joins`: as in `Run.add`.
    """
    head = conversation.head
    if head.resumed:
        head.follow_number(session.device, number)
    numbers = head.numbers.get(session.device)
    last = numbers.last if numbers is not None else 0
    if number == last + 1:
        return True
    found = (
        numbers.answer(head.id, session.device, number, payload, group_info) if numbers is not None else None
    )
    if found is None:
        raise RefusedError("wrong-number", f"the last number of this device here is {last}")
    seq, time, chain = found
    turn.answer(session, Accepted(request, head.id, number, seq, time, chain if joins else b""))
    return False


def read_commit_header(commit: bytes) -> Header:
    """Return the header of a commit, or raise RefusedError."""
    header = _read_header(commit)
    if header.wire_format != WireFormat.PUBLIC_MESSAGE or header.content_type != ContentType.COMMIT:
        raise RefusedError("invalid-commit", "a commit is a PublicMessage")
    return header


def read_proposal_header(proposal: bytes) -> Header:
    """Return the header of the proposal by which a device leaves, or raise RefusedError."""
    header = _read_header(proposal)
    if header.wire_format != WireFormat.PUBLIC_MESSAGE or header.content_type != ContentType.PROPOSAL:
        raise RefusedError("bad-request", "a device leaves by a proposal")
    return header


def check_header(header: Header, conversation: bytes, number: int) -> None:
    """Raise RefusedError unless the message is for this conversation and carries its number.

    A commit says when it was made behind the number. A departure names its leaf there; `policy.check_departure` checks
    that.
    """
    if header.group_id != conversation:
        raise RefusedError("bad-request", "the message is for another group")
    data = header.authenticated_data
    if header.content_type == ContentType.COMMIT:
        if len(data) != limits.COMMIT_DATA_LENGTH or int.from_bytes(data[8:], "big") > limits.MAX_TIME:
            raise RefusedError("bad-request", "the commit does not say when it was made")
        data = data[:8]
    if (data[:8] if header.content_type == ContentType.PROPOSAL else data) != number.to_bytes(8, "big"):
        raise RefusedError("wrong-number", "the number inside the message is another one")


def explain_application(payload: bytes, conversation: Conversation, number: int) -> str | None:
    """Say why an application message does not begin as it should; None: its epoch is another one."""
    header = _read_header(payload)
    if header.wire_format != WireFormat.PRIVATE_MESSAGE or header.content_type != ContentType.APPLICATION:
        raise RefusedError("bad-request", "an application message is a PrivateMessage")
    check_header(header, conversation.head.id, number)
    return None if header.epoch != conversation.head.epoch else "the message does not begin as it should"


def _read_header(payload: bytes) -> Header:
    try:
        return read_header(payload)
    except DecodeError as error:
        raise RefusedError("bad-request", str(error)) from None
