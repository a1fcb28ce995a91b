"""The source lines of a rule, as a syntax tree: what traces and equations are read from."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from ravine.rule import Rule


@functools.cache
def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a function, its docstring left out.

    Raises:
        ValueError: where the source cannot be found (a function typed at the prompt) or is a lambda.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise ValueError(
            f"the source of {name} cannot be found; define the rule in a file to have it explained"
        ) from error
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    if found is None:
        raise ValueError(f"the source of {function.__qualname__} is not a `def`; write the rule as a function")
    if ast.get_docstring(found) is not None:
        found.body = found.body[1:]
    return found


def own_function(rule: Rule) -> Callable[..., Any]:
    """The function whose lines are the rule's own: a wrapper's for a wrapped rule."""
    return rule.wrapper.function if rule.wrapper is not None else rule.function


def own_name(rule: Rule) -> str:
    """The name of the function whose lines are the rule's own: `lookahead` for `lookahead(adamw)`."""
    return rule.wrapper.name if rule.wrapper is not None else rule.name


def own_symbols(rule: Rule) -> tuple[str, ...]:
    """The names of what the rule's own function returns, in order: `p` and its own states."""
    return ("p", *(rule.wrapper.state if rule.wrapper is not None else rule.state))


class _WithoutPlumbing(ast.NodeTransformer):
    """Calls of the base rule under its name, without the arguments that are only passed on.

    `base(p, g, *states, **hyper)` becomes `adamw(p, g)`, and `update_of(base, p, g, ...)` `update_of(adamw(p, g))`.
    """

    def __init__(self, base: str) -> None:
        self.base = base

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if calls_base(node):
            plain = [a for a in node.args if not isinstance(a, ast.Starred)]
            if plain and isinstance(plain[0], ast.Name) and plain[0].id == "base":
                plain = [ast.Call(plain[0], plain[1:], [])]
            node = ast.Call(node.func, plain, [])
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.base, node.ctx) if node.id == "base" else node


def calls_base(node: ast.AST) -> bool:
    """Whether an expression of a wrapper runs the rule it wraps."""
    return any(isinstance(inner, ast.Name) and inner.id == "base" for inner in ast.walk(node))


def readable(node: ast.expr, rule: Rule) -> ast.expr:
    """An expression of the rule's own lines as a reader wants it: `base(p, g, *states, **hyper)` is `adamw(p, g)`."""
    if rule.base is None:
        return node
    copy = ast.parse(ast.unparse(node), mode="eval").body
    shown: ast.expr = _WithoutPlumbing(own_name(rule.base)).visit(copy)
    return shown


class _Replaced(ast.NodeTransformer):
    def __init__(self, name: str, by: ast.expr) -> None:
        self.name = name
        self.by = by

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.by if node.id == self.name else node


def parts(value: ast.expr, count: int) -> list[ast.expr] | None:
    """The formula of each target of `a, b = value`, where they are spelled out; else None.

    Of `a, b = (f(x) for x in (y, z))` those are f(y) and f(z).
    """
    match value:
        case ast.Tuple(elements) | ast.List(elements) if len(elements) == count:
            return elements
        case ast.GeneratorExp(element, [ast.comprehension(ast.Name(name), ast.Tuple(items), [])]) if (
            len(items) == count
        ):
            source = ast.unparse(element)
            unrolled: list[ast.expr] = [
                _Replaced(name, item).visit(ast.parse(source, mode="eval").body) for item in items
            ]
            return unrolled
    return None
