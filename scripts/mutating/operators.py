"""What is altered: those operators of cosmic-ray that matter for checks, and six that it lacks.

Each mutant has one alteration. Chosen so that a survivor tells something: a condition that never holds is a check taken
out, an operand that is dropped is half of one, and a statement that is dropped is a step forgotten. cosmic-ray's `not`
before a whole condition is left out, for every honest test notices that.
"""

from collections.abc import Iterator
from typing import Any, Final

from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import Name, PythonNode

_FROM_COSMIC_RAY: Final = (
    *(f"ReplaceComparisonOperator_{each}" for each in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq")),
    *(f"ReplaceComparisonOperator_{each}" for each in ("Is_IsNot", "IsNot_Is")),
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
)


def _put(node: Any, index: int, code: str) -> Any:
    """Return `node` with `code` in place of one of its children."""
    first = node.children[index].get_first_leaf()
    node.children[index] = Name(code, first.start_pos, first.prefix)
    return node


class _Children(Operator):  # type: ignore[misc]  # cosmic-ray ships no types
    """An operator that puts code in place of children of a node."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """Yield the index of each child, and what takes its place."""
        raise NotImplementedError

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield where each alteration begins and ends."""
        for index, _ in self.places(node):
            yield node.children[index].start_pos, node.children[index].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the node altered in its place `index`."""
        return _put(node, *list(self.places(node))[index])

    @classmethod
    def examples(cls) -> tuple[()]:
        """Nothing: `tests/test_mutants.py` has them."""
        return ()


class ConditionFixed(_Children):
    """The condition of an `if`, a conditional expression or a comprehension never holds, or always does."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """Whatever follows `if` or `elif`."""
        if node.type in {"if_stmt", "comp_if"} or (node.type == "test" and isinstance(node, PythonNode)):
            for index, child in enumerate(node.children[:-1], 1):
                if child.type == "keyword" and child.value in {"if", "elif"}:
                    yield index, "False"
                    yield index, "True"


class OperandDropped(_Children):
    """One operand of `and` or `or` has no say."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """Each operand."""
        if node.type in {"and_test", "or_test"}:
            for index in range(0, len(node.children), 2):
                yield index, str(node.type == "and_test")


class MembershipTurned(_Children):
    """`in` becomes `not in`, and the other way round."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """Each such word between two operands."""
        if node.type == "comparison":
            for index in range(1, len(node.children), 2):
                words = node.children[index].get_code().split()
                if words[-1] == "in":
                    yield index, "not in" if len(words) == 1 else "in"


class StatementDropped(_Children):
    """A call for its effect, an assignment to what outlives the function, or a `del`, is not made."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """The one statement of a line."""
        if node.type == "simple_stmt":
            statement = node.children[0]
            call = statement.type in {"atom_expr", "power"} and statement.children[-1].get_code().endswith(")")
            kept = statement.type == "expr_stmt" and statement.children[0].type in {"atom_expr", "power"}
            more = statement.type == "expr_stmt" and statement.children[1].get_code().strip() in {"+=", "-=", "|="}
            if call or kept or more or statement.type == "del_stmt":
                yield 0, "pass"


class HandlerEmptied(_Children):
    """An error that was handled is not: cosmic-ray's own stumbles over names with a dot."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """What follows `except`, or each name in its parentheses."""
        if node.type == "except_clause" and node.children[1].type != "atom":
            yield 1, "SystemError"  # the interpreter's own: nothing here raises it
        elif node.type in {"testlist_comp", "exprlist"} and getattr(node.parent.parent, "type", "") == "except_clause":
            for index in range(0, len(node.children), 2):
                yield index, "SystemError"


class TrueTurned(_Children):
    """`True` becomes `False`, but for `frozen=True`: nothing assigns to a field, and mypy watches that."""

    def places(self, node: Any) -> Iterator[tuple[int, str]]:
        """Each such word."""
        if node.type == "argument" and node.children[0].get_code().strip() == "frozen":
            return
        for index, child in enumerate(getattr(node, "children", ())):
            if child.type == "keyword" and child.value == "True":
                yield index, "False"


OPERATORS: Final[dict[str, Any]] = {
    **{name: get_operator(f"core/{name}")() for name in _FROM_COSMIC_RAY},
    **{
        each.__name__: each()
        for each in (ConditionFixed, OperandDropped, MembershipTurned, StatementDropped, HandlerEmptied, TrueTurned)
    },
}
"""Every operator that is used, by name."""
