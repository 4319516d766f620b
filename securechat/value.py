"""Values: frozen dataclasses that are cheap to define.

`dataclass(frozen=True)` writes and compiles six methods for every class when its module is imported, 0.6 ms each time:
with fifty structures, a third of what importing the MLS engine costs. A `value` compiles its `__init__`
when the first instance is made; the other methods stand here once and ask the class for its fields. Otherwise it is a
frozen dataclass: `fields` and `replace` work, and `field` and `__post_init__` do what they do there.
"""

from dataclasses import FrozenInstanceError, dataclass, field, fields, make_dataclass
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_T]) -> type[_T]:
    """Make a class with annotated fields a frozen dataclass. Methods that the class defines itself stay."""
    own = set(vars(cls))
    made = dataclass(init=False, repr=False, eq=False)(cls)
    for name in _SHARED.keys() - own:
        setattr(made, name, _SHARED[name])
    return made


def _first_init(self: Any, /, *values: Any, **named: Any) -> None:
    """Put the `__init__` of a frozen dataclass in place of this one. Two threads may do so at once, to the same end."""
    cls = type(self)
    arguments = [
        (each.name, object, field(default=each.default, default_factory=each.default_factory)) for each in fields(cls)
    ]
    taken_over = {name: getattr(cls, name) for name in ("__doc__", "__post_init__") if hasattr(cls, name)}
    made = make_dataclass(cls.__name__, arguments, namespace=taken_over, repr=False, eq=False, frozen=True)
    setattr(cls, "__init__", vars(made)["__init__"])  # noqa: B010 - mypy thinks that it belongs to another class
    cls.__init__(self, *values, **named)


def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _state(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _eq(self: Any, other: object) -> bool:
    return _state(self) == _state(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_state(self))


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
