"""The records by themselves."""

from securechat.server.store.records import Numbers, pack_answer
from securechat.wire.chain import CHAIN_START, next_chain
from tests.support.stores import ALICE, BOB, ROOM


def test_numbers_keep_the_newest_answers() -> None:
    numbers, chain = Numbers(), CHAIN_START
    for n in range(1, 1001):
        before, chain = chain, next_chain(chain, ROOM, 2 * n, n, ALICE, n, b"%d" % n)
        numbers.extend([pack_answer(2 * n, n, before, chain)])
    for copy in (numbers, Numbers(numbers.last, numbers.encode())):
        assert copy.last == 1000
        assert copy.answer(ROOM, ALICE, 1000, b"1000") == (2000, 1000, chain)
        oldest = copy.answer(ROOM, ALICE, 745, b"745")
        assert oldest is not None
        assert oldest[:2] == (1490, 745)
        assert copy.answer(ROOM, ALICE, 744, b"744") is None
        assert copy.answer(ROOM, ALICE, 1000, b"other") is None
        assert copy.answer(ROOM, BOB, 1000, b"1000") is None
        assert copy.answer(ROOM, ALICE, 1001, b"1001") is None
        assert copy.answer(ROOM, ALICE, 0, b"0") is None
