"""How the cost of MLS grows with the group: CPU time and bytes of add, update and join for n = 2 to 2,000 members.

Measured in a group in which every parent node has a key, as in one that has been used for a while: there an update
takes O(log n) public-key operations. The first update after all were added at once takes O(n), and is measured too.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from scripts.benchmarks.figure import Figure
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.extensions import ExternalSender
from securechat.mls.framing import decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, LeafNode, Lifetime
from securechat.mls.proposals import Add, Proposal
from securechat.mls.tree_math import LeafIndex
from securechat.mls.treekem import TreePrivateKeys
from securechat.mls.welcome import Welcome

SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)  # members
ROUNDS = 7
CAPABILITIES = Capabilities(cipher_suites=(SUITE.value,))
NOW = int(time.time())
HOUR = 3600  # seconds

UPDATE, PROCESS, ADD, JOIN = "update", "process an update", "add one member", "join by Welcome"
FIRST = "first update"
TIME, BYTES = "CPU time", "bytes"

T = TypeVar("T")


def growth() -> Iterator[Figure]:
    """CPU time and bytes of the MLS engine's operations against the number of members."""
    for size in SIZES:
        for (operation, what), value in _measure(size).items():
            yield Figure(f"{size} members", f"{operation}, {what}", value, "ms" if what == TIME else "B")


def _measure(size: int) -> dict[tuple[str, str], float]:
    members = [_member(number) for number in range(size + 1)]
    (bundle, signature), *others, newcomer = members
    alone = Group.create(b"growth", bundle, signature)
    group = _taken(_commit(alone, [Add(other.key_package) for other, _ in others]))
    first = _timed(lambda: _commit(group))
    for leaf in spread(size):
        group = _taken(_commit(view(group, leaf, *members[leaf])))
    one, two = view(group, LeafIndex(1), *members[1]), group

    gc.freeze()  # what stands now is not part of what is measured
    update = _timed(lambda: _commit(one))
    process = _timed(lambda: two.stage(update[0].message, validate=_anyone, now=NOW))
    add = _timed(lambda: _commit(one, [Add(newcomer[0].key_package)]))
    welcome = add[0].welcome
    assert welcome is not None
    tree = _taken(add[0]).public.tree
    tree_bytes = tree.encode()
    join = _timed(
        lambda: Group.join(
            decode_body(welcome, Welcome), *newcomer, tree=type(tree).decode(tree_bytes), validate=_anyone, now=NOW
        )
    )
    gc.unfreeze()
    return {
        (FIRST, TIME): first[1],
        (UPDATE, TIME): update[1],
        (PROCESS, TIME): process[1],
        (ADD, TIME): add[1],
        (JOIN, TIME): join[1],
        (FIRST, BYTES): len(first[0].message),
        (UPDATE, BYTES): len(update[0].message),
        (ADD, BYTES): len(add[0].message) + len(welcome),
        (JOIN, BYTES): len(welcome) + len(tree_bytes),
    }


def plot(figures: Iterable[Figure], target: Path) -> None:
    """Draw what `growth` found. Raises `ModuleNotFoundError` without matplotlib."""
    from matplotlib.figure import Figure as Drawing

    found = {(figure.metric, int(figure.case.split()[0])): figure.value for figure in figures}
    drawing = Drawing(figsize=(11, 5), layout="constrained")
    shown = ((TIME, "ms of CPU", (JOIN, FIRST, ADD, UPDATE, PROCESS)), (BYTES, "bytes", (JOIN, FIRST, ADD, UPDATE)))
    for axes, (what, unit, operations) in zip(drawing.subplots(1, 2), shown, strict=True):
        for operation in operations:
            axes.plot(SIZES, [found[f"{operation}, {what}", size] for size in SIZES], marker="o", label=operation)
        start, end = found[f"{UPDATE}, {what}", SIZES[0]], found[f"{JOIN}, {what}", SIZES[-1]]
        axes.plot(SIZES, [start * (1 + math.log2(size)) / 2 for size in SIZES], "k:", label="∝ 1 + log2 n")
        axes.plot(SIZES, [end * size / SIZES[-1] for size in SIZES], "k--", label="∝ n")
        axes.set(xscale="log", yscale="log", xlabel="members n", ylabel=unit, title=what)
        axes.grid(which="both", alpha=0.2)
        axes.legend()
    drawing.savefig(target, dpi=100)


def _member(number: int) -> tuple[KeyPackageBundle, SignaturePrivateKey]:
    signature = SignaturePrivateKey.generate(SUITE)
    lifetime = Lifetime(NOW - HOUR, NOW + HOUR)
    return generate_key_package(SUITE, Credential.basic(b"%d" % number), signature, CAPABILITIES, lifetime), signature


def _anyone(_holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
    """Credentials are not judged by a bench."""


def _commit(group: Group, proposals: Sequence[Proposal] = ()) -> StagedCommit:
    return group.commit(proposals, tree_in_welcome=False, validate=_anyone, now=NOW)


def _taken(staged: StagedCommit) -> Group:
    assert staged.group is not None
    return staged.group


def view(group: Group, leaf: LeafIndex, bundle: KeyPackageBundle, signature: SignaturePrivateKey) -> Group:
    """The group as the member at `leaf` sees it, as far as it needs to commit.

    Members share all secrets of an epoch but the private keys of the tree, and a commit needs none of those. So nobody
    has to process the commits that give keys to all parent nodes: there would be n^2 / 8 of them.
    """
    keys = TreePrivateKeys.of_leaf(SUITE, leaf, bundle.leaf_private)
    return Group(group.public, signature, group._secrets, keys, group._messages)  # noqa: SLF001 - see above


def spread(size: int) -> list[LeafIndex]:
    """Every other leaf, so ordered that each commit finds as much of the tree as possible filled by those before."""
    width = (size - 1).bit_length()
    order = sorted(range(0, size, 2), key=lambda leaf: int(f"{leaf:0{width}b}"[::-1], 2))
    return [LeafIndex(leaf) for leaf in order]


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` gives, and the milliseconds of CPU that it takes: the median of several times."""
    costs = []
    for _ in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        result = work()
        costs.append((time.process_time() - started) * 1e3)
    return result, median(costs)
