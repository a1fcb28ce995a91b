"""Runs a rule statement by statement, and tells what every assignment did, with whatever values it is given."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from ravine.explain.decay import FORMS
from ravine.explain.source import calls_base, definition, own_function, own_name, own_symbols, parts, readable
from ravine.explain.typeset import expression
from ravine.math import ZERO, has
from ravine.rule import Rule


class Told(NamedTuple):
    """One assignment of a rule, as it happened.

    Attributes:
        symbol: the name that is assigned, as the rule writes it.
        formula: what is assigned, as a reader wants it.
        names: the values that names had before.
        value: what came out: a number, an array, a symbol, or a helper of the rule.
        section: the rule or wrapper whose line it is, outermost first.
    """

    symbol: str
    formula: ast.expr
    names: Mapping[str, Any]
    value: Any
    section: tuple[str, ...]


Tell = Callable[[Told], None]


def followed(rule: Rule, tell: Tell, outside: tuple[str, ...] = ()) -> Rule:
    """The same rule, each of whose lines is told when it runs, and those of all rules inside it."""
    section = (*outside, own_name(rule))
    follower = Follower(own_function(rule), own_symbols(rule), rule, tell, section)
    if rule.wrapper is not None and rule.base is not None:
        prefix = rule.wrapper.name + "."
        own = {k.removeprefix(prefix): v for k, v in rule.defaults.items() if k.startswith(prefix)}
        return replace(rule.wrapper, function=follower)(followed(rule.base, tell, section), **own)
    inherited = {f.name: getattr(rule, f.name) for f in fields(Rule)}
    return _Followed(**{**inherited, "function": follower}, tell=tell, section=section)


@dataclass(frozen=True, eq=False)
class _Followed(Rule):
    """A rule that tells the line of L2 decay before it runs."""

    tell: Tell | None = None
    section: tuple[str, ...] = ()

    def __call__(self, p: Any, g: Any, *states: Any, t: Any, l2: Any = ZERO, **hyper: Any) -> tuple[Any, ...]:
        form = FORMS["l2"]
        if self.wrapper is None and self.tell is not None and has(l2) and form.symbol is not None:
            names = {"p": p, "g": g, "weight_decay": l2}
            self.tell(Told(form.symbol, expression(form.source), names, g + l2 * p, self.section))
        return super().__call__(p, g, *states, t=t, l2=l2, **hyper)


class Follower:
    """Stands in for a function of a rule: called like it, returning the same, telling every assignment on the way.

    Args:
        function: the rule's or wrapper's function.
        symbols: the names of what it returns, in order.
        rule: the rule that it belongs to.
        tell: is called with every assignment.
        section: the names of the rules around it and its own.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        symbols: Sequence[str],
        rule: Rule,
        tell: Tell,
        section: tuple[str, ...] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.symbols = symbols
        self.rule = rule
        self.tell = tell
        self.section = section

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        bound = inspect.signature(self.function).bind(*arguments, **keywords)
        bound.apply_defaults()
        closure = inspect.getclosurevars(self.function).nonlocals
        run = _Run(self, {**self.function.__globals__, **closure, **bound.arguments})
        run.block(definition(self.function).body)
        return run.result


class _Run:
    """One call: the names and their values as they change, and what is returned."""

    def __init__(self, follower: Follower, names: dict[str, Any]) -> None:
        self.follower = follower
        self.names = names
        self.result: Any = None
        self.returned = False

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.returned:
                return
            self.statement(statement)

    def statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets, value):
                self.assign(targets, value)
            case ast.AnnAssign(target, _, value) if value is not None:
                self.assign([target], value)
            case ast.AugAssign(target, op, value):
                old = ast.parse(ast.unparse(target), mode="eval").body
                self.assign([target], ast.BinOp(old, op, value))
            case ast.If(test, body, orelse):
                self.block(body if self.value_of(test) else orelse)
            case ast.For(target, iterable, body, []):
                for item in self.value_of(iterable):
                    self.names["__item"] = item
                    self.execute(ast.Assign([target], ast.Name("__item", ast.Load())))
                    self.block(body)
            case ast.Return(value):
                self.give_back(ast.Constant(None) if value is None else value)
            case (
                ast.Expr()
                | ast.Pass()
                | ast.Assert()
                | ast.Raise()
                | ast.FunctionDef()
                | ast.Import()
                | ast.ImportFrom()
            ):
                self.execute(statement)
            case _:
                kind = type(statement).__name__.lower()
                raise ValueError(
                    f"a trace cannot follow the `{kind}` statement in {self.follower.function.__qualname__}; "
                    "write the rule with assignments, `if` and `for`"
                )

    def assign(self, targets: list[ast.expr], value: ast.expr) -> None:
        """Run `a = b = value`, and tell it from right to left: b, the value of the formula, and a, which is b."""
        value = self.resolved(value)
        *others, last = targets
        before = dict(self.names)
        self.tell_arguments(value)
        self.execute(ast.Assign(targets, value))
        if isinstance(last, ast.Tuple):
            formulas = parts(value, len(last.elts)) or [value] * len(last.elts)
            for target, part in zip(last.elts, formulas, strict=True):
                self.tell_target(target, part, before)
        else:
            self.tell_target(last, value, before)
        for target in reversed(others):
            if isinstance(last, ast.Name):
                self.tell_target(target, ast.Name(last.id, ast.Load()), dict(self.names))

    def give_back(self, value: ast.expr) -> None:
        """Return; what is computed in the `return` itself is told under the name of the state it becomes."""
        value = self.resolved(value)
        before = dict(self.names)
        self.tell_arguments(value)
        self.result, self.returned = self.value_of(value), True
        if isinstance(value, ast.Tuple):
            first_starred = next((i for i, e in enumerate(value.elts) if isinstance(e, ast.Starred)), len(value.elts))
            named = zip(self.follower.symbols, value.elts[:first_starred], self.result, strict=False)
            for symbol, element, result in named:
                if not (isinstance(element, ast.Name) and element.id == symbol):
                    self.tell_value(symbol, element, before, result)
        elif not calls_base(value) and not isinstance(value, ast.Name):
            for symbol, result in zip(self.follower.symbols, self.result, strict=False):
                self.tell_value(symbol, value, before, result)

    def tell_arguments(self, value: ast.expr) -> None:
        """What a wrapper computes in the call of its base: `base(p, -g)` has a line for g."""
        if not isinstance(value, ast.Call) or not calls_base(value):
            return
        plain = [a for a in value.args if not isinstance(a, ast.Starred)]
        handed = [a for a in plain if not (isinstance(a, ast.Name) and a.id == "base")]
        for symbol, argument in zip(("p", "g"), handed, strict=False):
            if not isinstance(argument, ast.Name):
                self.tell_value(symbol, argument, dict(self.names), self.value_of(argument))

    def tell_target(self, target: ast.expr, formula: ast.expr, before: Mapping[str, Any]) -> None:
        if isinstance(target, ast.Starred):
            return
        symbol = ast.unparse(target)
        self.tell_value(symbol, formula, before, self.value_of(ast.parse(symbol, mode="eval").body))

    def tell_value(self, symbol: str, formula: ast.expr, before: Mapping[str, Any], value: Any) -> None:
        shown = readable(formula, self.follower.rule)
        self.follower.tell(Told(symbol, shown, before, value, self.follower.section))

    def resolved(self, value: ast.expr) -> ast.expr:
        """The expression with only the branch of each `a if condition else b` that is taken now."""
        copy = ast.parse(ast.unparse(value), mode="eval").body
        taken: ast.expr = _Taken(self).visit(copy)
        return taken

    def value_of(self, node: ast.expr) -> Any:
        return eval(self.compiled(ast.Expression(node), "eval"), self.names)

    def execute(self, node: ast.stmt) -> None:
        exec(self.compiled(ast.Module([node], []), "exec"), self.names)

    def compiled(self, node: ast.Expression | ast.Module, mode: str) -> Any:
        return compile(ast.fix_missing_locations(node), self.follower.function.__code__.co_filename, mode)


class _Taken(ast.NodeTransformer):
    """Leaves of every conditional expression the branch that is taken; inside comprehensions nothing is known yet."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        branch: ast.AST = self.visit(node.body if self.run.value_of(node.test) else node.orelse)
        return branch

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_Lambda = visit_GeneratorExp = visit_ListComp = visit_SetComp = visit_DictComp = _leave
