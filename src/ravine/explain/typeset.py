"""Python expressions as mathematics: Unicode text for the terminal, LaTeX for documents.

Example:
    >>> text(expression("m / (1 - beta1**t)"))
    'm / (1 − β₁ᵗ)'
    >>> text(expression("m / (1 - beta1**t)"), {"m": 0.2, "beta1": 0.9, "t": 1})
    '0.2 / (1 − 0.9¹)'
    >>> latex(expression("m_hat / (sqrt(v_hat) + eps)"))
    '\\\\frac{\\\\hat{m}}{\\\\sqrt{\\\\hat{v}} + \\\\epsilon}'
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ravine.math import plain

NAMES: Mapping[str, tuple[str, str]] = {
    "p": ("θ", r"\theta"), "lr": ("η", r"\eta"), "max_lr": ("ηₘₐₓ", r"\eta_{\max}"), "weight_decay": ("λ", r"\lambda"),
    "momentum": ("μ", r"\mu"), "dampening": ("τ", r"\tau"), "eps": ("ε", r"\epsilon"), "epsilon": ("ε", r"\epsilon"),
}  # fmt: skip
GREEK: Mapping[str, str] = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "rho": "ρ", "mu": "μ", "sigma": "σ", "tau": "τ",
    "kappa": "κ", "phi": "φ", "theta": "θ", "eta": "η", "xi": "ξ",
}  # fmt: skip
SUBSCRIPT = dict(zip("0123456789aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
SUPERSCRIPT = dict(zip("0123456789+−()ijknrst", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁱʲᵏⁿʳˢᵗ", strict=True))
CALLS: Mapping[str, str] = {"maximum": "max", "minimum": "min", "total": "Σ"}
COMPARISONS: Mapping[type[ast.cmpop], tuple[str, str]] = {
    ast.Gt: (">", ">"), ast.Lt: ("<", "<"), ast.GtE: ("≥", r"\ge"), ast.LtE: ("≤", r"\le"), ast.Eq: ("=", "="),
    ast.NotEq: ("≠", r"\ne"), ast.Is: ("is", r"\text{ is }"), ast.IsNot: ("is not", r"\text{ is not }"),
}  # fmt: skip

# How tightly an expression holds together; one written inside a tighter one gets parentheses.
CHOICE, OR, AND, NOT, COMPARISON, SUM, PRODUCT, MINUS, POWER, ATOM = range(10)


def expression(source: str) -> ast.expr:
    """The syntax tree of one expression."""
    return ast.parse(source, mode="eval").body


def is_scalar(value: Any) -> bool:
    """Whether a value is one number or truth value that can stand in a formula."""
    value = plain(value)
    return isinstance(value, (bool, int, float, np.generic)) or (isinstance(value, np.ndarray) and value.size == 1)


def scalar(value: Any) -> float | int | bool:
    """A scalar of any library as Python's own."""
    value = plain(value)
    number: float | int | bool = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return float(number) if isinstance(number, float) else number


def number(value: Any, digits: int = 6) -> str:
    """A number to read: at most `digits` significant digits, `1e-8`, `−0.3`, `∞`.

    >>> number(0.19999999999999996), number(1e-08), number(-3.0), number(True)
    ('0.2', '1e-8', '−3', 'true')
    """
    value = scalar(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value).replace("-", "−")
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    mantissa, _, exponent = format(value, f".{digits}g").partition("e")
    mantissa = mantissa.replace("-", "−")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _parts(name: str) -> tuple[str, str, str] | None:
    """A name as (letter, digits, suffix), or None where it reads best as a word: `beta1`, `m_hat`, `v_max`."""
    match = re.fullmatch(r"([A-Za-z]+?)(\d*)(?:_([A-Za-z]+))?", name)
    if match is None or not (len(match[1]) == 1 or match[1] in GREEK):
        return None
    return match[1], match[2], match[3] or ""


def symbol(name: str) -> str:
    """A name of a rule in Unicode: `p` is θ, `beta1` β₁, `m_hat` m̂, `v_max` vₘₐₓ."""
    if name in NAMES:
        return NAMES[name][0]
    parts = _parts(name)
    if parts is None:
        return name
    letter, digits, suffix = parts
    start = GREEK.get(letter, letter) + ("\N{COMBINING CIRCUMFLEX ACCENT}" if suffix == "hat" else "")
    below = "".join(SUBSCRIPT[digit] for digit in digits)
    if suffix in ("", "hat"):
        return start + below
    if suffix == "inf":
        return start + below + "∞"
    if len(suffix) <= 3 and all(c in SUBSCRIPT for c in suffix):
        return start + below + "".join(SUBSCRIPT[c] for c in suffix)
    return name


def latex_symbol(name: str) -> str:
    r"""A name of a rule in LaTeX: `beta1` is `\beta_{1}`, `m_hat` is `\hat{m}`."""
    if name in NAMES:
        return NAMES[name][1]
    parts = _parts(name)
    if parts is None or (parts[1] and parts[2] and symbol(name) == name):
        return rf"\mathrm{{{_escaped(name)}}}"
    letter, digits, suffix = parts
    start = "\\" + letter if letter in GREEK else letter
    if suffix == "hat":
        start = rf"\hat{{{start}}}"
    ends = {"": "", "hat": "", "inf": r"\infty", "max": r"\max", "min": r"\min"}
    below = digits + ends.get(suffix, rf"\mathrm{{{suffix}}}")
    return f"{start}_{{{below}}}" if below else start


class Text:
    """Writes an expression as Unicode text, with numbers in place of the names that have a value."""

    minus = "−"

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self.values = values or {}

    def write(self, node: ast.expr) -> str:
        return self.node(node)[0]

    def at(self, node: ast.expr, level: int, follows: bool = False) -> str:
        """The node as an operand that must hold together at `level`; after an operator, a minus is fenced too."""
        written, holds = self.node(node)
        return self.fence(written) if holds < level or (follows and written.startswith(self.minus)) else written

    def node(self, node: ast.expr) -> tuple[str, int]:
        """What is written for a node, and how tightly it holds together."""
        match node:
            case ast.Constant(value=value):
                return self.constant(value)
            case ast.Name(id=name) if isinstance(self.values.get(name), str):
                return repr(self.values[name]), ATOM
            case ast.Name(id=name) if name in self.values and is_scalar(self.values[name]):
                return self.constant(scalar(self.values[name]))
            case ast.Name(id=name):
                return self.name(name), ATOM
            case ast.Subscript(ast.Name(table), ast.Name(key)) if table in self.values and key in self.values:
                return self.constant(scalar(self.values[table][self.values[key]]))
            case ast.BinOp(left, op, right):
                return self.binary(left, op, right)
            case ast.UnaryOp(ast.USub(), operand):
                return self.minus + self.at(operand, MINUS, follows=True), MINUS
            case ast.UnaryOp(ast.UAdd(), operand):
                return self.node(operand)
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                return self.word("not ") + self.at(operand, NOT), NOT
            case ast.BoolOp(op, values):
                level, word = (AND, " and ") if isinstance(op, ast.And) else (OR, " or ")
                return self.word(word).join(self.at(v, NOT) for v in values), level
            case ast.Compare(left, ops, comparators) if all(type(op) in COMPARISONS for op in ops):
                return self.comparison(left, ops, comparators), COMPARISON
            case ast.IfExp(test, body, orelse) | ast.Call(ast.Name("where"), [test, body, orelse], []):
                return self.choice(test, body, orelse), CHOICE
            case ast.Call(ast.Name("has"), [argument], []):
                return self.at(argument, SUM) + self.word(" exists"), COMPARISON
            case ast.Call(ast.Name(function), [argument], []) if function in ("sqrt", "abs", "norm", "T", "transpose"):
                return self.special(function, argument)
            case ast.Call(function, arguments, keywords):
                shown = [self.write(a) for a in arguments]
                shown += [f"{self.name(k.arg)} = {self.write(k.value)}" for k in keywords if k.arg]
                return self.call(ast.unparse(function), shown), ATOM
            case ast.Tuple(elements):
                return ", ".join(self.write(e) for e in elements), CHOICE
        return self.verbatim(ast.unparse(node)), ATOM

    def binary(self, left: ast.expr, op: ast.operator, right: ast.expr) -> tuple[str, int]:
        match op:
            case ast.Add() | ast.Sub():
                sign = "+" if isinstance(op, ast.Add) else self.minus
                return f"{self.at(left, SUM)} {sign} {self.at(right, PRODUCT, follows=True)}", SUM
            case ast.Mult() | ast.MatMult():
                return self.product(left, right), PRODUCT
            case ast.Div():
                return self.quotient(left, right)
            case ast.Pow():
                return self.power(left, right), POWER
            case ast.BitAnd():
                return f"{self.at(left, AND)}{self.word(' and ')}{self.at(right, NOT)}", AND
            case ast.BitOr():
                return f"{self.at(left, NOT)}{self.word(' or ')}{self.at(right, NOT)}", OR
            case ast.Mod():
                return f"{self.at(left, PRODUCT)}{self.word(' mod ')}{self.at(right, MINUS)}", SUM
            case ast.FloorDiv():
                return self.floor(left, right), ATOM
        return self.verbatim(ast.unparse(ast.BinOp(left, op, right))), ATOM

    def comparison(self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]) -> str:
        written = self.at(left, SUM)
        for op, right in zip(ops, comparators, strict=True):
            written += f" {self.relation(op)} {self.at(right, SUM)}"
        return written

    def constant(self, value: Any) -> tuple[str, int]:
        if not isinstance(value, (bool, int, float)):
            return self.verbatim(repr(value)), ATOM
        if isinstance(value, bool):
            return self.word(number(value)), ATOM
        plain_number = number(value)
        level = MINUS if plain_number.startswith("−") else POWER if "e" in plain_number else ATOM
        return self.digits(plain_number), level

    def relation(self, op: ast.cmpop) -> str:
        return COMPARISONS[type(op)][0]

    def digits(self, plain_number: str) -> str:
        return plain_number

    def name(self, name: str) -> str:
        return symbol(name)

    def word(self, word: str) -> str:
        return word

    def verbatim(self, source: str) -> str:
        return source

    def fence(self, inside: str) -> str:
        return f"({inside})"

    def floor(self, left: ast.expr, right: ast.expr) -> str:
        return f"⌊{self.quotient(left, right)[0]}⌋"

    def product(self, left: ast.expr, right: ast.expr) -> str:
        first = self.at(left, PRODUCT)
        if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
            first = self.fence(first)
        return f"{first}·{self.at(right, MINUS, follows=True)}"

    def quotient(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        return f"{self.at(left, PRODUCT)} / {self.at(right, MINUS, follows=True)}", PRODUCT

    def power(self, base: ast.expr, exponent: ast.expr) -> str:
        raised, level = self.node(exponent)
        compact = raised.replace(" ", "")
        if all(c in SUPERSCRIPT for c in compact):
            return self.at(base, ATOM) + "".join(SUPERSCRIPT[c] for c in compact)
        return f"{self.at(base, ATOM)}^{raised if level == ATOM else self.fence(raised)}"

    def choice(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> str:
        return f"{self.at(body, OR)} if {self.at(test, OR)} else {self.write(orelse)}"

    def special(self, function: str, argument: ast.expr) -> tuple[str, int]:
        if function == "sqrt":
            written = self.at(argument, ATOM)
            return f"√{self.fence(written) if re.fullmatch('[A-Za-z_]{2,}', written) else written}", POWER
        if function in ("T", "transpose"):
            return f"{self.at(argument, ATOM)}ᵀ", POWER
        bar = "|" if function == "abs" else "‖"
        return f"{bar}{self.write(argument)}{bar}", ATOM

    def call(self, function: str, arguments: list[str]) -> str:
        return f"{CALLS.get(function, function)}({', '.join(arguments)})"


class Latex(Text):
    """Writes an expression as LaTeX, for math mode."""

    minus = "-"

    def relation(self, op: ast.cmpop) -> str:
        return COMPARISONS[type(op)][1]

    def digits(self, plain_number: str) -> str:
        mantissa, _, exponent = plain_number.replace("−", "-").replace("∞", r"\infty").partition("e")
        power = f"10^{{{exponent}}}"
        return mantissa if not exponent else power if mantissa == "1" else rf"{mantissa} \cdot {power}"

    def name(self, name: str) -> str:
        return latex_symbol(name)

    def word(self, word: str) -> str:
        return rf"\text{{{word}}}"

    def verbatim(self, source: str) -> str:
        return rf"\texttt{{{_escaped(source)}}}"

    def fence(self, inside: str) -> str:
        return rf"\left({inside}\right)"

    def floor(self, left: ast.expr, right: ast.expr) -> str:
        return rf"\left\lfloor {self.quotient(left, right)[0]} \right\rfloor"

    def product(self, left: ast.expr, right: ast.expr) -> str:
        second = self.at(right, MINUS, follows=True)
        times = r"\cdot" if second[0].isdigit() else r"\,"
        return f"{self.at(left, PRODUCT)} {times} {second}"

    def quotient(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        return rf"\frac{{{self.write(left)}}}{{{self.write(right)}}}", POWER

    def power(self, base: ast.expr, exponent: ast.expr) -> str:
        return f"{self.at(base, ATOM)}^{{{self.write(exponent)}}}"

    def choice(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> str:
        otherwise = rf"{self.write(orelse)} & \text{{otherwise}}"
        return rf"\begin{{cases}} {self.write(body)} & \text{{if }} {self.write(test)} \\ {otherwise} \end{{cases}}"

    def special(self, function: str, argument: ast.expr) -> tuple[str, int]:
        if function == "sqrt":
            return rf"\sqrt{{{self.write(argument)}}}", ATOM
        if function in ("T", "transpose"):
            return rf"{self.at(argument, ATOM)}^{{\top}}", POWER
        bar = "|" if function == "abs" else r"\|"
        return rf"\left{bar} {self.write(argument)} \right{bar}", ATOM

    def call(self, function: str, arguments: list[str]) -> str:
        known = {"maximum": r"\max", "minimum": r"\min", "exp": r"\exp", "log": r"\log", "total": r"\textstyle\sum"}
        return known.get(function, rf"\operatorname{{{_escaped(function)}}}") + self.fence(", ".join(arguments))


def _escaped(source: str) -> str:
    return re.sub(r"([_#$%&{}])", r"\\\1", source)


def text(node: ast.expr, values: Mapping[str, Any] | None = None) -> str:
    """An expression as Unicode text; names that `values` gives a number appear as that number."""
    return Text(values).write(node)


def latex(node: ast.expr) -> str:
    """An expression as LaTeX, for math mode."""
    return Latex().write(node)
