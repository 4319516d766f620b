"""Values: frozen dataclasses that are cheap to define.

`dataclass(frozen=True)` writes and compiles six methods for every class when its module is imported, 0.6 ms each time:
with two hundred, a third of what starting the client costs. A `value` compiles its `__init__`
when the first instance is made; the other methods stand here once and ask the class for its fields. Otherwise it is a
frozen dataclass: `fields` and `replace` work, and `field` and `__post_init__` do what they do there.
"""

from dataclasses import FrozenInstanceError, dataclass, field, fields, make_dataclass
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_T]) -> type[_T]:
    """Make a class with annotated fields a frozen dataclass. Methods that the class defines itself stay."""
    own = set(vars(cls))
    made = dataclass(init=False, repr=False, eq=False)(cls)
    compared = (each.name for each in fields(made) if each.compare)  # type: ignore[arg-type]  # it is a dataclass now
    setattr(made, _STATE, attrgetter("__class__", *compared))
    for name in _SHARED.keys() - own:
        setattr(made, name, _SHARED[name])
    return made


_STATE = "_compared"
"""The name under which a class has what reads all that counts when two instances are compared."""


def _first_init(self: Any, /, *values: Any, **named: Any) -> None:
    """Put the `__init__` of a frozen dataclass in place of this one. Two threads may do so at once, to the same end."""
    cls = type(self)
    arguments = [
        (each.name, object, field(default=each.default, default_factory=each.default_factory, kw_only=each.kw_only))
        for each in fields(cls)
    ]
    taken_over = {name: getattr(cls, name) for name in ("__doc__", "__post_init__") if hasattr(cls, name)}
    made = make_dataclass(cls.__name__, arguments, namespace=taken_over, repr=False, eq=False, frozen=True)
    setattr(cls, "__init__", vars(made)["__init__"])  # noqa: B010 - mypy thinks that it belongs to another class
    cls.__init__(self, *values, **named)


def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> bool:
    state = getattr(self, _STATE)
    return bool(state(self) == state(other)) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(getattr(self, _STATE)(self))


def _setattr(self: Any, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to {name!r}: a {type(self).__name__} is a value")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete {name!r}: a {type(self).__name__} is a value")


_SHARED = {
    "__init__": _first_init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
