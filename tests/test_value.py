"""Values behave like frozen dataclasses."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from securechat.value import value


@value
class Value:
    number: int
    secret: bytes = field(repr=False)
    name: str = "none"
    seen: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Dataclass:
    number: int
    secret: bytes = field(repr=False)
    name: str = "none"
    seen: list[int] = field(default_factory=list)


@value
class Numbered:
    number: int = field(default=0, kw_only=True)
    id: int = field(default=0, kw_only=True, compare=False)


@value
class Named(Numbered):
    name: str


@value
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError("not positive")


def test_is_made_like_a_dataclass() -> None:
    for made in (Value(1, b"x"), Value(number=1, secret=b"x"), Value(1, secret=b"x", name="none")):
        assert (made.number, made.secret, made.name, made.seen) == (1, b"x", "none", [])
    assert Value(1, b"x").seen is not Value(1, b"x").seen


@pytest.mark.parametrize("kind", [Value, Dataclass])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [((1,), {}), ((1, b"x"), {"other": 1}), ((1, b"x", "n", [], 5), {}), ((1, b"x"), {"number": 1})],
)
def test_refuses_missing_unknown_and_surplus_fields(
    kind: Callable[..., object], arguments: tuple[object, ...], named: dict[str, object]
) -> None:
    with pytest.raises(TypeError):
        kind(*arguments, **named)


def test_is_equal_and_hashes_by_its_fields_and_type() -> None:
    assert Value(1, b"x") == Value(1, b"x")
    assert Value(1, b"x") != Value(1, b"y")
    assert Value(1, b"x") != object()
    assert hash(Positive(3)) == hash(Positive(3))
    assert len({Positive(3), Positive(3), Positive(4)}) == 2


def test_takes_over_fields_and_how_they_are_given_and_compared() -> None:
    assert [each.name for each in fields(Named)] == ["number", "id", "name"]
    made = Named("x", number=1, id=1)
    assert (made.name, made.number, made.id) == ("x", 1, 1)
    assert made == Named("x", number=1, id=2)
    assert hash(made) == hash(Named("x", number=1, id=2))
    assert made not in (Named("x", number=2, id=1), Named("y", number=1, id=1), Numbered(number=1, id=1))
    assert Numbered() == Numbered(id=1)
    with pytest.raises(TypeError):
        Named("x", 1)  # type: ignore[call-arg]  # that is the point


def test_cannot_be_changed_but_replaced() -> None:
    made = Value(1, b"x")
    with pytest.raises(FrozenInstanceError, match="number"):
        made.number = 2  # type: ignore[misc]  # that is the point
    with pytest.raises(FrozenInstanceError, match="number"):
        del made.number
    assert replace(made, number=2) == Value(2, b"x")
    assert [each.name for each in fields(made)] == ["number", "secret", "name", "seen"]


def test_hides_in_its_repr_what_is_to_be_hidden() -> None:
    assert repr(Value(1, b"x")) == repr(Dataclass(1, b"x")).replace("Dataclass", "Value")


def test_checks_itself_when_it_was_made() -> None:
    for _ in range(2):  # the first instance is made in another way than the second
        with pytest.raises(ValueError, match="not positive"):
            Positive(0)
