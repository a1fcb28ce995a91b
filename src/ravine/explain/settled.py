"""The lines of a rule that its default settings leave: branches taken, what is absent left out."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ravine.explain.decay import FORMS
from ravine.explain.equations import Equation, assignment, block
from ravine.explain.simplify import Folded
from ravine.explain.source import definition, own_function, own_name
from ravine.explain.typeset import expression
from ravine.rule import Rule

A_MATRIX = (1024, 1024)
MARGIN = "  "


class SettledLine(NamedTuple):
    """A line, and the rule or wrapper whose it is."""

    equation: Equation
    section: str

    @property
    def text(self) -> str:
        """The line, indented inside its conditions."""
        return MARGIN * self.equation.indent + self.equation.text


def lines_at_defaults(rule: Rule) -> list[str]:
    """The lines of a rule that its default settings leave, indented inside what conditions are left."""
    return [line.text for line in settled_lines(rule)]


def equations_at_defaults(rule: Rule) -> list[Equation]:
    """The same lines as equations."""
    return [line.equation for line in settled_lines(rule)]


def settled_lines(rule: Rule, pinned: frozenset[str] = frozenset()) -> list[SettledLine]:
    """The same with their sections: a wrapper's own lines first, then those of what it wraps.

    Args:
        rule: the rule.
        pinned: hyperparameters and states that a wrapper around it holds at `ZERO`.
    """
    statements = _Settled(rule, pinned).block(definition(own_function(rule)).body)
    section = own_name(rule)
    own = [SettledLine(line, section) for line in block(statements, rule, 0)]
    if rule.wrapper is not None and rule.base is not None:
        held = rule.wrapper.pinned(rule.base)
        gone = {name for name in (rule.wrapper.pins[k] for k in held) if name is not None}
        return own + settled_lines(rule.base, pinned | frozenset(held) | gone)
    customary = FORMS[rule.decay]
    if customary.symbol is None or "weight_decay" not in rule.defaults:
        return own
    return [SettledLine(assignment(customary.symbol, expression(customary.source)), section), *own]


class _Settled(Folded):
    """Takes the branches that defaults and absent states decide, and weight decay out where it is in the gradient."""

    def __init__(self, rule: Rule, pinned: frozenset[str] = frozenset()) -> None:
        prefix = f"{rule.wrapper.name}." if rule.wrapper is not None else ""
        absent = {*rule.absent_states(rule.defaults, A_MATRIX), *pinned}
        absent |= {key for key, state in rule.state.items() if isinstance(state.when, str) and state.when in pinned}
        self.defaults = {name.removeprefix(prefix): value for name, value in rule.defaults.items()}
        static = {k: v for k, v in self.defaults.items() if v is None or isinstance(v, (bool, str))}
        present = {key.removeprefix(prefix): key not in absent for key in rule.state}
        self.known: Mapping[str, Any] = {**static, **present, "has": bool}
        self.zero = {*pinned, *(["weight_decay"] if rule.decay == "l2" else [])}

    def block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """A copy of some statements, settled."""
        module = ast.parse("\n".join(ast.unparse(statement) for statement in statements))
        settled: ast.Module = self.visit(module)
        return settled.body

    def decided(self, test: ast.expr) -> bool | None:
        """The value of a condition, or None where it asks for more than defaults."""
        match test:
            case ast.Compare(ast.Name(name), [ast.Is() | ast.IsNot() as relation], [ast.Constant(None)]) if (
                name in self.defaults
            ):
                return (self.defaults[name] is None) == isinstance(relation, ast.Is)
        code = compile(ast.fix_missing_locations(ast.Expression(test)), "condition", "eval")
        try:
            return bool(eval(code, {"__builtins__": {}}, dict(self.known)))
        except NameError:
            return None

    def visit_If(self, node: ast.If) -> Any:
        value = self.decided(node.test)
        if value is None:
            return self.generic_visit(node)
        return [self.visit(statement) for statement in (node.body if value else node.orelse)]

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        value = self.decided(node.test)
        return self.generic_visit(node) if value is None else self.visit(node.body if value else node.orelse)

    def visit_Assign(self, node: ast.Assign) -> Any:
        """What is assigned is there from then on."""
        node.value = self.visit(node.value)
        self.zero -= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        return node

    def visit_Return(self, node: ast.Return) -> Any:
        """A name that is only handed back stays."""
        match node.value:
            case ast.Tuple(elements):
                node.value.elts = [e if isinstance(e, ast.Name) else self.visit(e) for e in elements]
            case ast.Name() | None:
                pass
            case value:
                node.value = self.visit(value)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(0) if node.id in self.zero else node
