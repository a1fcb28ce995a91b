"""Reading formulas back: Unicode text as Python, for tests that hold the two equal."""

from __future__ import annotations

import ast
import copy
import re
from typing import Any

import numpy as np

import ravine.math
from ravine.explain.typeset import SUPERSCRIPT

_PLAIN = {raised: plain for plain, raised in SUPERSCRIPT.items()}
_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
_ELEMENT = rf"(?:−?{_NUMBER}|true|false|−?∞|NaN)"


def as_python(formula: str) -> str:
    """A formula with numbers, as the Python expression that it stands for; a number's transpose is itself."""
    raised = re.sub(f"[{''.join(_PLAIN)}]+", lambda m: "**(" + "".join(_PLAIN[c] for c in m[0]) + ")", formula)
    written = raised.replace("ᵀ", "").replace("·", " * ").replace("−", "-").replace("^", "**")
    written = re.sub(r"‖([^‖]*)‖", r"abs(\1)", written)
    written = re.sub(r"\|([^|]*)\|", r"abs(\1)", written)
    written = re.sub(rf"√({_NUMBER})", r"sqrt(\1)", _roots_of_calls(written)).replace("√", "sqrt")
    return re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", written))


def _roots_of_calls(formula: str) -> str:
    """`√mean(x)` with the parentheses that it does not show: `√(mean(x))`."""
    while found := re.search(r"√([^\W\d]\w*\()", formula):
        end, depth = found.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(formula[end], 0)
            end += 1
        formula = f"{formula[: found.start()]}√({formula[found.start(1) : end]}){formula[end:]}"
    return formula


def value_of(formula: str) -> Any:
    """The value of a formula with numbers, vectors `(1, 2)` and matrices `[1, 2; 3, 4]`."""
    vectors = re.sub(rf"(?<!\w)\(({_ELEMENT}(?:, {_ELEMENT})+)\)", r"vector(\1)", formula)
    arrays = re.sub(r"\[([^\[\]]*)\]", lambda m: f"matrix(({',), ('.join(m[1].split(';'))},))", vectors)
    python = as_python(re.sub(r"‖([^‖]*)‖", r"norm(\1)", arrays).replace("ᵀ", ".T").replace("∞", "inf"))
    tree = _OnArrays().visit(ast.parse(python, mode="eval"))
    with np.errstate(all="ignore"):
        return eval(compile(ast.fix_missing_locations(tree), formula, "eval"), {**WORDS})


def evaluated(tree: ast.expr) -> Any:
    """The value of a formula in which constants stand, arrays among them, to the last digit."""
    named = _ArraysByName()
    expression = ast.fix_missing_locations(ast.Expression(named.visit(copy.deepcopy(tree))))
    with np.errstate(all="ignore"):
        return eval(compile(expression, "formula", "eval"), {**WORDS, **named.arrays})


class _ArraysByName(ast.NodeTransformer):
    """Python compiles no constant that is an array, so each gets a name; lists of expressions become arrays."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, np.ndarray):
            return node
        name = f"array{len(self.arrays)}"
        self.arrays[name] = node.value
        return ast.Name(name, ast.Load())

    def visit_List(self, node: ast.List) -> ast.AST:
        return ast.Call(ast.Name("stacked", ast.Load()), [self.generic_visit(node)], [])


class _OnArrays(ast.NodeTransformer):
    """Python's words for truth values, as NumPy has them."""

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Name("where", ast.Load()), [node.test, node.body, node.orelse], [])

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        made = node.values[0]
        for value in node.values[1:]:
            made = ast.BinOp(made, ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr(), value)
        return made


WORDS: dict[str, Any] = {
    **{name: getattr(ravine.math, name) for name in ravine.math.__all__},
    "max": ravine.math.maximum, "min": ravine.math.minimum, "Σ": np.sum, "total": np.sum, "sin": np.sin, "cos": np.cos,
    "vector": lambda *elements: np.array(elements), "matrix": lambda *rows: np.array(rows), "stacked": np.array,
    "NaN": np.nan, "inf": np.inf,
}  # fmt: skip
"""What formulas of arrays call."""
