"""Expressions as mathematics: what is written is what is meant, parentheses and all."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain.typeset import expression, latex, latex_symbol, number, symbol, text

from .reading import as_python


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("beta1 * m + (1 - beta1) * g", "β₁·m + (1 − β₁)·g"),
        ("p - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)", "θ − η·(m̂ / (√v̂ + ε) + λ·θ)"),
        ("maximum(v - a**2, 0.0)", "max(v − a², 0)"),
        ("where((w > 0) & (n > 0), w / n, 1.0) * u", "(w / n if w > 0 and n > 0 else 1)·u"),
        ("(t - 1) ** 0.25", "(t − 1)^0.25"),
        ("beta1 ** (t - 1)", "β₁ᵗ⁻¹"),
        ("sqrt(g**2)", "√(g²)"),
        ("sqrt(v)**2", "(√v)²"),
        ("(a / b) * c", "(a / b)·c"),
        ("a / (b * c)", "a / (b·c)"),
        ("-(a + b)", "−(a + b)"),
        ("a - (b - c)", "a − (b − c)"),
        ("t % k == 0", "t mod k = 0"),
        ("norm(g)", "‖g‖"),
        ("has(m) and not nesterov", "m exists and not nesterov"),
        ("clip(u, -1.0, steps=5)", "clip(u, −1, steps = 5)"),
        ("eps_form == 'hat'", "eps_form = 'hat'"),
    ],
)
def test_text(source: str, written: str) -> None:
    assert text(expression(source)) == written


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("a * b", "1e-8·(−3)"),
        ("b * a", "−3·1e-8"),
        ("a + b", "1e-8 + (−3)"),
        ("a - b", "1e-8 − (−3)"),
        ("a / b", "1e-8 / (−3)"),
        ("a**2", "(1e-8)²"),
        ("b**2", "(−3)²"),
        ("-b", "−(−3)"),
        ("sqrt(a)", "√(1e-8)"),
        ("2**b", "2⁻³"),
    ],
)
def test_text_with_numbers(source: str, written: str) -> None:
    assert text(expression(source), {"a": 1e-8, "b": -3.0}) == written


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("m / (1 - beta1**t)", r"\frac{m}{1 - \beta_{1}^{t}}"),
        ("sqrt(v_hat) + eps", r"\sqrt{\hat{v}} + \epsilon"),
        ("2 * 3", r"2 \cdot 3"),
        ("lr_decay * v_max", r"\mathrm{lr\_decay} \, v_{\max}"),
        ("maximum(a, 1e-3)", r"\max\left(a, 0.001\right)"),
        ("a * 1e-8", r"a \cdot 10^{-8}"),
        ("where(c, a, 0.0)", r"\begin{cases} a & \text{if } c \\ 0 & \text{otherwise} \end{cases}"),
    ],
)
def test_latex(source: str, written: str) -> None:
    assert latex(expression(source)) == written


@pytest.mark.parametrize(
    ("name", "written", "in_latex"),
    [
        ("beta1", "β₁", r"\beta_{1}"),
        ("m_hat", "m̂", r"\hat{m}"),
        ("v_max", "vₘₐₓ", r"v_{\max}"),
        ("rho_inf", "ρ∞", r"\rho_{\infty}"),
        ("slow", "slow", r"\mathrm{slow}"),
        ("lr_decay", "lr_decay", r"\mathrm{lr\_decay}"),
        ("Q_L", "Q_L", r"Q_{\mathrm{L}}"),
        ("d_coef", "d_coef", r"d_{\mathrm{coef}}"),
        ("beta2_decay", "beta2_decay", r"\mathrm{beta2\_decay}"),
    ],
)
def test_symbols(name: str, written: str, in_latex: str) -> None:
    assert (symbol(name), latex_symbol(name)) == (written, in_latex)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.19999999999999996, "0.2"), (1e-8, "1e-8"), (-2.5e-07, "−2.5e-7"), (1e6, "1e6"), (-3, "−3"), (False, "false"),
     (float("inf"), "∞"), (float("-inf"), "−∞"), (float("nan"), "NaN"), (123456.7, "123457")],
)  # fmt: skip
def test_numbers(value: float, written: str) -> None:
    assert number(value) == written


NAMES = st.sampled_from(["a", "b", "c"])
SOURCES = st.recursive(
    NAMES | st.sampled_from(["2", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
        st.tuples(inner, st.sampled_from(["2", "-1", "3"])).map(lambda x: f"({x[0]})**{x[1]}"),
        inner.map(lambda x: f"(-{x})"),
        inner.map(lambda x: f"sqrt({x})"),
        st.tuples(inner, inner, inner).map(lambda x: f"({x[0]} if ({x[1]} > 1) & ({x[2]} > 2) else {x[1]})"),
    ),
    max_leaves=10,
)
VALUES = st.fixed_dictionaries({name: st.sampled_from([3.0, -2.0, 0.25, 1e-8, -4e-7]) for name in "abc"})


@given(SOURCES, VALUES)
def test_what_is_written_means_the_same(source: str, values: dict[str, float]) -> None:
    """The text with the numbers in it, read back, is the same tree; so no parenthesis is missing, and no sign lost."""
    wanted = _Numbered(values).visit(expression(source))
    assert _shape(expression(as_python(text(expression(source), values)))) == _shape(wanted)


class _Numbered(ast.NodeTransformer):
    def __init__(self, values: dict[str, float]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return expression(repr(self.values[node.id])) if node.id in self.values else node


def _shape(node: ast.expr) -> str:
    """The tree as text, one spelling for what means the same: numbers as floats, `and` for `&`."""

    class Alike(ast.NodeTransformer):
        def visit_Constant(self, constant: ast.Constant) -> ast.AST:
            return ast.Constant(float(constant.value))

        def visit_BinOp(self, operation: ast.BinOp) -> ast.AST:
            self.generic_visit(operation)
            if isinstance(operation.op, ast.BitAnd):
                return ast.BoolOp(ast.And(), [operation.left, operation.right])
            return operation

    return ast.dump(Alike().visit(node))
