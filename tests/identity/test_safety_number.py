from securechat.identity.safety_number import fingerprint, safety_number

ALICE = bytes.fromhex("0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868")
BOB = bytes.fromhex("05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b")


def test_the_published_check_values_come_out() -> None:
    # specs/safety-number.md; the keys there carry Signal's type byte
    assert fingerprint(ALICE, b"+14152222222")[:32].hex() == (
        "1e301a0353dce3dbe7684cb8336e85136cdc0ee96219494ada305d62a7bd61df"
    )
    assert fingerprint(BOB, b"+14153333333")[:32].hex() == (
        "d62cbf73a11592015b6b9f1682ac306fea3aaf3885b84d12bca631e9d4fb3a4d"
    )
    number = safety_number(ALICE, "+14152222222", BOB, "+14153333333")
    assert number.replace(" ", "") == "300354477692869396892869876765458257569162576843440918079131"


def test_both_sides_see_the_same_groups_of_five() -> None:
    number = safety_number(ALICE[1:], "alice", BOB[1:], "bob")
    assert number == safety_number(BOB[1:], "bob", ALICE[1:], "alice")
    groups = number.split(" ")
    assert [len(group) for group in groups] == [5] * 12
    assert len("".join(groups)) == 60


def test_another_key_or_another_name_gives_another_number() -> None:
    number = safety_number(ALICE[1:], "alice", BOB[1:], "bob")
    assert number != safety_number(ALICE[1:], "alice", ALICE[1:], "bob")
    assert number != safety_number(ALICE[1:], "alice", BOB[1:], "bobby")
