"""A loss written as an expression: read by a whitelist, evaluated here, never by `eval`.

Numbers, `+ - * / **`, parentheses and sqrt, exp, log, sin, cos, abs; the exponent of a power is a constant of at most 8
in size. What is learned is `x`: one number, or the elements of a vector or a matrix, which are written `x[0]` and
`x[0, 1]`, or `x`, `y` and `z` for those of a vector of two or three; `sum` and `mean` are over all elements, each of
which is x inside.

Example:
    >>> loss = Loss.parse("(x - 1)**2")
    >>> loss(2.0), loss.slope(2.0)
    (1.0, 2.0)
    >>> Loss.parse("x**2 + 20*y**2", shape=(2,)).slope(np.array([2.0, -1.0]))
    array([  4., -40.])
    >>> Loss.parse("9**9**9")
    Traceback (most recent call last):
    ...
    ValueError: the exponent 9 in the loss is too large; a power may have a constant exponent from -8 to 8
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ravine.explain.derivative import DERIVATIVES, OVER_ELEMENTS, Dual, differentiate, evaluate, renamed
from ravine.explain.typeset import text
from ravine.math import ZERO, has
from ravine.registry import nearest

LONGEST = 200
DEEPEST = 40
LARGEST_EXPONENT = 8
LETTERS = "xyz"

FUNCTIONS = tuple(name for name in DERIVATIVES if name != "sign")
ALLOWED = "numbers, x, + - * / **, parentheses, and sqrt, exp, log, sin, cos, abs"

Shape = tuple[int, ...]
Index = tuple[int, ...]
Values = float | np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Loss:
    """A loss L(x): call it for its value, `slope` for its exact gradient. Make it with `Loss.parse`.

    Attributes:
        source: as it was written.
        tree: its syntax tree, in the names of `coordinates`, or in x.
        shape: of x, `()` for one number.
        coordinates: where the loss names elements of x, the name and place of each, those that it leaves out included.
    """

    source: str
    tree: ast.expr
    shape: Shape = ()
    coordinates: Mapping[str, Index] = field(default_factory=dict)

    @classmethod
    def parse(cls, source: str, shape: Shape = ()) -> Loss:
        """Read an expression.

        Args:
            source: the expression.
            shape: of x: `()` for one number, `(n,)` for a vector, `(rows, columns)` for a matrix.

        Raises:
            ValueError: in one sentence, for anything but the arithmetic listed in this module's docstring.
        """
        if len(source) > LONGEST:
            raise ValueError(f"the loss is {len(source)} characters long; at most {LONGEST} are read")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError(f"the loss {source!r} is not an expression; write one like (x-1)**2") from None
        tree, coordinates = _named(tree, shape)
        _Check(shape, coordinates).node(tree)
        return cls(source.strip(), tree, shape, coordinates)

    def __call__(self, x: Values) -> float:
        """L(x), NaN or infinite where it is not defined."""
        return float(self._evaluated(self.tree, x).value)

    def slope(self, x: Values) -> Any:
        """The gradient, exact up to rounding: by dual numbers, not by differences. |x| has the slope 0 at 0.

        Of one number it is a float, else an array of the shape of x.
        """
        if not self.shape:
            return float(self._evaluated(self.tree, x, ()).slope)
        partials = [self._evaluated(self.tree, x, index).slope for index in np.ndindex(self.shape)]
        return np.array([float(partial) for partial in partials]).reshape(self.shape)

    def curvature(self, x: Values) -> Any:
        """The diagonal of the Hessian, exact up to rounding, as `slope` returns the gradient."""
        if not self.shape:
            return float(self._evaluated(self._second, x).value)
        if not self.coordinates:
            return np.broadcast_to(self._evaluated(self._second, x).value, self.shape).astype(np.float64)
        second = [self._evaluated(self._partial(self._partial(self.tree, name), name), x) for name in self.coordinates]
        return np.array([float(dual.value) for dual in second]).reshape(self.shape)

    def _evaluated(self, tree: ast.expr, x: Values, along: Index | None = None) -> Dual:
        """A tree's value at x, and its derivative along one element."""
        seed: Any = ZERO
        if along is not None:
            seed = np.zeros(self.shape)
            seed[along] = 1.0
        whole = np.asarray(x, dtype=np.float64)[()]
        names = {"x": Dual(whole, seed[()] if has(seed) else ZERO)}
        for name, index in self.coordinates.items():
            names[name] = Dual(whole[index], np.float64(1.0) if index == along else ZERO)
        with np.errstate(all="ignore"):
            return evaluate(tree, names)

    @cached_property
    def formula(self) -> str:
        """The loss as text, in θ or in the names of its elements: `(θ − 1)²`."""
        return text(self.displayed)

    @cached_property
    def displayed(self) -> ast.expr:
        """The loss as an expression for the reader, in θ (`p`) or in the names of its elements."""
        return self._for_reader(self.tree)

    @cached_property
    def derivative(self) -> ast.expr:
        """The gradient as an expression for the reader; `slope` is what is computed with.

        Where the loss names elements of x it is a list of the partial derivatives, for a matrix a list of rows.
        """
        if not self.coordinates:
            return self._for_reader(self._partial(self.tree))
        return self._listed([self._partial(self.tree, name) for name in self.coordinates])

    @cached_property
    def second_derivative(self) -> ast.expr:
        """The diagonal of the Hessian as an expression for the reader, as `derivative`."""
        if not self.coordinates:
            return self._for_reader(self._second)
        return self._listed([self._partial(self._partial(self.tree, name), name) for name in self.coordinates])

    @cached_property
    def _second(self) -> ast.expr:
        return self._partial(self._partial(self.tree))

    def _partial(self, tree: ast.expr, name: str | None = None) -> ast.expr:
        return differentiate(tree, name or "x", int(np.prod(self.shape, dtype=int)), name)

    def _listed(self, partials: list[ast.expr]) -> ast.expr:
        shown = [self._for_reader(partial) for partial in partials]
        if len(self.shape) == 1:
            return ast.List(shown, ast.Load())
        rows, columns = self.shape
        listed = [ast.List(shown[i * columns : (i + 1) * columns], ast.Load()) for i in range(rows)]
        return ast.List(list(listed), ast.Load())

    def _for_reader(self, tree: ast.expr) -> ast.expr:
        """Bare x is the parameter, θ; a sum over its elements is Σ."""
        return renamed(tree, {"sum": "total"} | ({} if "x" in self.coordinates else {"x": "p"}))

    def values(self, x: Values) -> dict[str, Any]:
        """The values of the names in `displayed` and `derivative`."""
        named: dict[str, Any] = {} if "x" in self.coordinates else {"p": x}
        return named | {name: np.asarray(x)[index] for name, index in self.coordinates.items()}


def _named(tree: ast.expr, shape: Shape) -> tuple[ast.expr, dict[str, Index]]:
    """The expression with a name for each element of x that it writes as one, and all these names."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    subscripted = any(isinstance(node, ast.Subscript) for node in ast.walk(tree))
    if len(shape) == 1 and shape[0] in (2, 3) and names & set(LETTERS[1 : shape[0]]) and not subscripted:
        return tree, {letter: (i,) for i, letter in enumerate(LETTERS[: shape[0]])}
    if not subscripted or not shape:
        return tree, {}
    apart = "_" if max(shape) > 10 and len(shape) > 1 else ""
    coordinates = {"x" + apart.join(map(str, index)): index for index in np.ndindex(shape)}
    return _Elements(shape, {index: name for name, index in coordinates.items()}).visit(tree), coordinates


class _Elements(ast.NodeTransformer):
    """Names for elements: `x[0, 1]` is `x01`."""

    def __init__(self, shape: Shape, names: Mapping[Index, str]) -> None:
        self.shape = shape
        self.names = names

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match node:
            case ast.Subscript(ast.Name("x"), ast.Constant(int() as i)):
                index: Index = (i,)
            case ast.Subscript(ast.Name("x"), ast.Tuple([ast.Constant(int() as i), ast.Constant(int() as j)])):
                index = (i, j)
            case _:
                raise ValueError(f"{_shortened(node)!r} is not allowed in the loss; elements are x[0] or x[0, 1]")
        if index not in self.names:
            last = ", ".join(str(n - 1) for n in self.shape)
            raise ValueError(f"x[{', '.join(map(str, index))}] in the loss is not in x, whose last is x[{last}]")
        return ast.Name(self.names[index], ast.Load())


class _Check:
    """Refuses, in one sentence, whatever is not on the whitelist."""

    def __init__(self, shape: Shape, coordinates: Mapping[str, Index]) -> None:
        self.shape = shape
        self.coordinates = coordinates
        self.inside: str | None = None

    @property
    def variables(self) -> set[str]:
        """What may stand here: elements outside a sum, x within one and where x is one number."""
        return {"x"} if self.inside or not self.shape else set(self.coordinates)

    def node(self, node: ast.expr, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ValueError(f"the loss is nested more than {DEEPEST} deep")
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if not abs(value) < 1e300:
                    raise ValueError(
                        f"the number {ast.unparse(node)[:20]} in the loss is too large; it must stay below 1e300"
                    )
            case ast.Name(id=name):
                self.name(name)
            case ast.UnaryOp(ast.USub() | ast.UAdd(), operand):
                self.node(operand, depth + 1)
            case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right):
                self.node(left, depth + 1)
                self.node(right, depth + 1)
            case ast.BinOp(base, ast.Pow(), exponent):
                self.node(base, depth + 1)
                self.exponent(exponent, depth + 1)
            case ast.Call(ast.Name(name), [argument], []) if name in OVER_ELEMENTS and not _is_starred(argument):
                self.over_elements(name, argument, depth + 1)
            case ast.Call(ast.Name(name), [argument], []) if name in FUNCTIONS:
                self.node(argument, depth + 1)
            case ast.Call(ast.Name(name), arguments, _) if name in (*FUNCTIONS, *OVER_ELEMENTS):
                raise ValueError(f"{name} in the loss takes one argument, got {len(arguments)}; write {name}(x)")
            case ast.Call(ast.Name(name)):
                known = [*FUNCTIONS, *OVER_ELEMENTS]
                raise ValueError(f"unknown function {name!r} in the loss{nearest(name, known)}; it may hold {ALLOWED}")
            case _:
                raise ValueError(f"{_shortened(node)!r} is not allowed in the loss; it may hold {ALLOWED}")

    def name(self, name: str) -> None:
        if name in self.variables:
            return
        if name in (*FUNCTIONS, *OVER_ELEMENTS):
            raise ValueError(f"{name} in the loss is a function and needs an argument; write {name}(x)")
        if name == "x" and self.shape:
            raise ValueError(f"x in the loss is {_counted(self.shape)}; write {_forms(self.shape)}")
        if self.inside and name in self.coordinates:
            raise ValueError(
                f"{_written(name, self.coordinates)} in the loss stands inside {self.inside}, where x is each element"
            )
        if not self.shape:
            raise ValueError(f"unknown name {name!r} in the loss{nearest(name, list(FUNCTIONS))} (the variable is x)")
        raise ValueError(f"unknown name {name!r} in the loss; x is {_counted(self.shape)}, write {_forms(self.shape)}")

    def over_elements(self, name: str, argument: ast.expr, depth: int) -> None:
        if self.inside:
            raise ValueError(f"{name} in the loss stands inside {self.inside}; write them side by side")
        if "y" in self.coordinates:
            raise ValueError(f"{name} in the loss is over the elements of x; write all of them as x and y, or none")
        if not any(True for _ in _variables(argument, {"x"})):
            raise ValueError(f"{name} in the loss needs x inside; write {name}((x-1)**2)")
        self.inside = name
        self.node(argument, depth)
        self.inside = None

    def exponent(self, exponent: ast.expr, depth: int) -> None:
        self.node(exponent, depth)
        limits = f"a power may have a constant exponent from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}"
        if any(True for _ in _variables(exponent, {"x", *self.coordinates})):
            raise ValueError(f"the exponent {_shortened(exponent)} in the loss depends on x; {limits}")
        with np.errstate(all="ignore"):
            size = abs(float(evaluate(exponent, {}).value))
        if not size <= LARGEST_EXPONENT:
            raise ValueError(f"the exponent {_shortened(exponent)} in the loss is too large; {limits}")


def _variables(node: ast.expr, names: set[str]) -> Iterator[str]:
    return (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and inner.id in names)


def _is_starred(node: ast.expr) -> bool:
    return isinstance(node, ast.Starred)


def _counted(shape: Shape) -> str:
    return f"a vector of {shape[0]}" if len(shape) == 1 else f"a {shape[0]} × {shape[1]} matrix"


def _forms(shape: Shape) -> str:
    """How elements may be written."""
    letters = f"{', '.join(LETTERS[: shape[0] - 1])} and {LETTERS[shape[0] - 1]}, " if shape in ((2,), (3,)) else ""
    return f"{letters}{'x[0], x[1]' if len(shape) == 1 else 'x[0, 0], x[0, 1]'}, or sum((x-1)**2)"


def _written(name: str, coordinates: Mapping[str, Index]) -> str:
    return name if name in LETTERS else f"x[{', '.join(map(str, coordinates[name]))}]"


def _shortened(node: ast.expr) -> str:
    source = ast.unparse(node)
    return source if len(source) <= 40 else source[:37] + "..."
