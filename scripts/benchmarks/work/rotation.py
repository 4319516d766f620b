"""What rotation costs a room in a month: every member's device takes a new signature key and certificate.

Real commits in rooms of 30 and 1,000 in which every parent node has a key, each by another member, with certificates
and rules as in use: signed by the old key, with a leaf that names the new one. A sample is made, and the month reckoned
from it. The server's checks are those of a commit; a member's are those of the log, without its vault.
"""

import time
from collections.abc import Iterator
from typing import Final

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.work.doors import NOW, ROOM, SERVER, VALIDATE, Member, commit, join, stage, view_of
from scripts.benchmarks.work.mls_growth import spread
from securechat.client.conversations.numbers import encode_commit
from securechat.identity.certificate import credential
from securechat.mls.group import Group
from securechat.mls.proposals import Add
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Identity, Rules
from securechat.server.sequencer.validation import Validator

SIZES: Final = (30, 1_000)  # members
SAMPLE: Final = 100  # commits
GOAL: Final = 60.0  # seconds a month, of one member of the largest room
SERVER_GOAL: Final = 60.0  # the same of the server


def rotation() -> Iterator[Figure]:
    """Bytes, and CPU time of maker, server and member."""
    for size in SIZES:
        yield from _measure(size)


def _measure(size: int) -> Iterator[Figure]:
    members = [Member.make(number) for number in range(size)]
    owner, *others = members
    rules = Rules("invite", "#bench", owners=(Identity.of(owner.certificate),))
    alone = Group.create(ROOM, owner.bundle, owner.signature, extensions=(rules.extension(),))
    added = commit(alone, *(Add(other.bundle.key_package) for other in others))
    group, theirs = added.group, join(added, members[-1])
    for leaf in spread(size - 1):
        assert group is not None
        staged = commit(view_of(group, leaf, members))
        group, theirs = staged.group, stage(theirs, staged.message, staged.group_info or b"")
    assert group is not None
    validator, count = Validator(SERVER), min(SAMPLE, size - 1)
    payload = info = 0
    making = checking = following = 0.0
    for number in range(count):
        leaf = LeafIndex(number * (size - 1) // count)
        old = members[leaf]
        new = old.renewed()
        mine = view_of(group, leaf, members)
        began = time.process_time()
        staged = mine.commit(
            credential=credential(new.certificate), signature_private=new.signature,
            authenticated_data=encode_commit(1, NOW * 1000), tree_in_welcome=False, validate=VALIDATE, now=NOW,
        )  # fmt: skip
        making += time.process_time() - began
        group_info = staged.group_info or b""
        began = time.process_time()
        validator.commit(
            group.public, frozenset(), commit=staged.message, welcome=b"", group_info=group_info, time=NOW * 1000
        )
        checking += time.process_time() - began
        began = time.process_time()
        theirs = stage(theirs, staged.message, group_info)
        following += time.process_time() - began
        payload, info = payload + len(staged.message), info + len(group_info)
        assert staged.group is not None
        group = staged.group
        members[leaf] = new
    case = f"a room of {size:,}"
    note = f"mean of {count}, and {info / count:.0f} B of GroupInfo"
    yield Figure(case, "one commit", payload / count, "B", note=note)
    yield Figure(case, "a month", (payload + info) / count * size / 1024, "KiB", note="to each member")
    yield Figure(case, "making one", 1000 * making / count, "ms")
    yield Figure(case, "server CPU a month", checking / count * size, "s", goal=SERVER_GOAL)
    yield Figure(case, "CPU of one member a month", following / count * size, "s", goal=GOAL)
