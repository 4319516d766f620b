"""The errors of securechat: a small tree whose branches are "what should the caller do now?".

    SecurechatError
    ├── PeerError           the other side broke the rules: drop what it sent, keep our state
    │   └── DecodeError     its bytes are not even a message
    ├── UsageError          we did: wrong arguments or wrong order of calls; fix the caller
    ├── RefusedError        the server understood and said no: `code` says why
    ├── TrustError          a key or server is not the one we know: a person has to decide
    ├── UnreachableError    no connection, or TLS failed: try again later or mend the set-up
    ├── StorageError        a file or database cannot be read or written: nothing was changed
    └── InternalError       a bug in securechat

The text of an error is for the person who meets it: what happened, why, what to do next. It never holds a secret.
"""


class SecurechatError(Exception):
    """Base of all errors that securechat raises on purpose."""


class PeerError(SecurechatError):
    """The other side broke the rules of the protocol. Our state is as it was before its message."""


class DecodeError(PeerError):
    """Bytes that are not the encoding of what was expected: too short, too long, or a wrong value."""


class UsageError(SecurechatError):
    """We broke the rules: the caller asked for something that cannot be done in this state."""


class RefusedError(SecurechatError):
    """The server understood a request and refused it."""

    def __init__(self, code: str, text: str, *, retry_after: float = 0.0) -> None:
        """`code` is one of `wire.messages.Code`; `text` is for a person; `retry_after`: seconds, 0 if nobody knows."""
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class TrustError(SecurechatError):
    """An identity or a server is not the one that was pinned."""


class UnreachableError(SecurechatError):
    """There is no connection to the server, or TLS refused it."""


class StorageError(SecurechatError):
    """A file or database is missing, damaged, locked by another process, or cannot be written."""


class InternalError(SecurechatError):
    """Something that cannot happen did: a bug in securechat."""


def sentence(text: str) -> str:
    """Return a text of somebody else as the end of a sentence of ours: with one full stop, whatever they end with."""
    return f"{text.rstrip('. ')}."
