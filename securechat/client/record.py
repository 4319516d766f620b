"""What has to fit for an entry to be the next one of a log: pure rules (docs/design.md, section 4, Chain)."""


class Record:
    """The rules by which a replayed, omitted, reordered or forked entry is noticed."""

    def follows(self, seq: int, cursor: int) -> bool:
        """Whether the entry `seq` is the one after the newest that was processed."""
        return seq == cursor + 1

    def is_next(self, number: int, last: int) -> bool:
        """Whether a submission's `number` is the next one of its device, whose newest was `last`."""
        return number == last + 1

    def agrees(self, seq: int, seen: int, senders_chain: bytes, own_chain: bytes | None) -> bool:
        """Whether the sender of entry `seq` has the history that we have, up to the entry `seen` that it names.

        Both chain values, 32 bytes, are those at `seen`; ours is None where we have none.
        """
        return seen < seq and senders_chain == own_chain
