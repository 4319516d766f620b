"""Commits and key packages that the public API refuses to make, to prove that receivers refuse them too."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from securechat.mls.commit import Commit, ProposalRef, UpdatePath
from securechat.mls.framing import AuthenticatedContent, FramedContent, MLSMessage, Sender, WireFormat
from securechat.mls.group import Group
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import LeafNode, LeafNodeSource
from securechat.mls.message_protection import protect_public
from securechat.mls.proposals import Add, Proposal
from tests.mls.support import Person


def forged_commit(
    group: Group,
    person: Person,
    proposals: Sequence[Proposal | ProposalRef] = (),
    *,
    with_path: bool = True,
    leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    signed_leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    path: Callable[[UpdatePath], UpdatePath] = lambda path: path,
    content: Callable[[FramedContent], FramedContent] = lambda content: content,
) -> bytes:
    """A commit as `group`'s member can make it with its own keys and no scruples.

    The hooks change the leaf before and after it is signed, the path, and the content before it is signed.
    Of the proposals, Adds are applied. The confirmation tag is wrong, but every other check comes before it.
    """
    public, sign = group.public, person.signature.sign_with_label
    old = public.member(group.own_leaf)

    def make_leaf(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
        unsigned = replace(
            old,
            encryption_key=encryption_key,
            parent_hash=parent_hash,
            source=LeafNodeSource.COMMIT,
            lifetime=None,
        )
        return signed_leaf(leaf(unsigned).signed(sign, public.group_id, group.own_leaf))

    def make_context(tree_hash: bytes) -> bytes:
        transcript = public.context.confirmed_transcript_hash
        return public.next_context(public.extensions, tree_hash, transcript).encode()

    tree, new_leaves = public.tree, []
    for proposal in proposals:
        if isinstance(proposal, Add):
            tree, new_leaf = tree.add_leaf(proposal.key_package.leaf_node)
            new_leaves.append(new_leaf)
    made = group._keys.create_path(tree, new_leaves, make_leaf, make_context)
    commit = Commit(tuple(proposals), path(made.update_path) if with_path else None)
    framed = content(FramedContent(public.group_id, public.epoch, Sender.member(group.own_leaf), b"", commit))
    signed = AuthenticatedContent.sign(WireFormat.PUBLIC_MESSAGE, framed, public.context, sign)
    tagged = signed.with_confirmation_tag(bytes(32)) if isinstance(framed.content, Commit) else signed
    message = protect_public(group.suite, group._secrets.membership_key, tagged, public.context)
    return MLSMessage(message).encode()


def forged_key_package(
    person: Person,
    *,
    leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    signed_leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    package: Callable[[KeyPackage], KeyPackage] = lambda package: package,
    signed_package: Callable[[KeyPackage], KeyPackage] = lambda package: package,
) -> KeyPackage:
    """A key package that its owner made wrong; the hooks work before and after each of the two signatures."""
    sign = person.signature.sign_with_label
    good = person.key_package().key_package
    made = package(replace(good, leaf_node=signed_leaf(leaf(good.leaf_node).signed(sign))))
    return signed_package(replace(made, signature=sign(b"KeyPackageTBS", made.tbs)))
