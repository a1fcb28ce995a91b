"""What a rule changes of its parent, line by line, both at their default settings.

Example:
    >>> print("\\n".join(changes("adamw")))
    - g ← g + λ·θ
      m ← β₁·m + (1 − β₁)·g
      v ← β₂·v + (1 − β₂)·g²
      m̂ ← m / (1 − β₁ᵗ)
      v̂ ← v / (1 − β₂ᵗ)
    - θ ← θ − η·(m̂ / (√v̂ + ε))
    + θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ)
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.explain.decay import FORMS
from ravine.explain.equations import block
from ravine.explain.source import definition, own_function
from ravine.explain.typeset import expression, symbol, text
from ravine.registry import lookup
from ravine.rule import Rule

A_MATRIX = (1024, 1024)
MARGIN = "  "


def changes(name: str | Rule) -> list[str]:
    """The lines of a rule against its parent's: `- ` before one that it drops, `+ ` before one that is new.

    Branches that the default settings do not take are left out, and weight decay stands in its customary form.

    Args:
        name: a registered rule, not a wrapped one.

    Returns:
        The lines, none for a rule without a parent; without marks where the two are the same.

    Raises:
        KeyError: for an unknown rule or parent, with the nearest name.
    """
    rule = lookup(name) if isinstance(name, str) else name
    if rule.parent is None:
        return []
    old, new = lines_at_defaults(lookup(rule.parent)), lines_at_defaults(rule)
    lines: list[str] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new).get_opcodes():
        lines += [("  " if tag == "equal" else "- ") + line for line in old[i:j]]
        lines += ["+ " + line for line in new[k:m] if tag != "equal"]
    return lines


def lines_at_defaults(rule: Rule) -> list[str]:
    """The lines of a rule that its default settings leave, indented inside what conditions are left."""
    settled = _Settled(rule)
    statements = settled.block(definition(own_function(rule)).body)
    customary = FORMS[rule.decay]
    first = [f"{symbol(customary.symbol)} ← {text(expression(customary.source))}"] if customary.symbol else []
    return first + [MARGIN * line.indent + line.text for line in block(statements, rule, 0)]


class _Settled(ast.NodeTransformer):
    """Takes the branches that defaults and absent states decide, and weight decay out where it is in the gradient."""

    def __init__(self, rule: Rule) -> None:
        absent = rule.absent_states(rule.defaults, A_MATRIX)
        static = {k: v for k, v in rule.defaults.items() if v is None or isinstance(v, (bool, str))}
        self.known: Mapping[str, Any] = {**static, **{key: key not in absent for key in rule.state}, "has": bool}
        self.defaults = rule.defaults
        self.outside = rule.decay == "l2"

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

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(0) if self.outside and node.id == "weight_decay" else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mult) and _is_zero(node.left):
            return node.left
        if isinstance(node.op, ast.Add) and _is_zero(node.right):
            return node.left
        return node


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 0
