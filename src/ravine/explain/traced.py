"""What all forms of a trace say: the problem, the start, the settings, and what a line is the value of."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ravine.explain import vectors
from ravine.explain.trace import Line, Trace
from ravine.explain.typeset import is_scalar, latex_symbol, number, symbol
from ravine.explain.vectors import written, written_in_latex

NAMED_COORDINATES = 4
OPTIONS = ("lr", "beta1", "beta2", "eps", "momentum", "weight_decay")
"""Settings that have an option of their own on the command line."""


class Said(NamedTuple):
    """Something to say in two forms: as text and as LaTeX for math mode."""

    text: str
    latex: str


class Setting(NamedTuple):
    """A setting: its symbol where it has one, its name, its value."""

    symbol: Said | None
    name: str
    value: str

    @property
    def named(self) -> str:
        """The symbol, with the name where that is another: `η (lr)`."""
        return self.name if self.symbol is None else f"{self.symbol.text} ({self.name})"


def bare(name: str) -> str:
    """A name without the namespace of a wrapper."""
    return name.rsplit(".", 1)[-1]


def symbol_of(name: str) -> Said:
    """A name of a rule as the equations write it."""
    return Said(symbol(bare(name)), latex_symbol(bare(name)))


def value_of(value: object) -> Said:
    """A value, to read."""
    return Said(written(value), written_in_latex(value))


def where(trace: Trace) -> str:
    """What the rule works on, in words, but for the formula of the loss."""
    place = trace.place
    if place is None:
        return "on the loss"
    if not place.shape:
        return f"on {place.parameter}"
    return (
        f"on element [{', '.join(map(str, place.element))}] of {place.parameter} ({' × '.join(map(str, place.shape))})"
    )


def about(trace: Trace) -> list[str]:
    """Where the trace begins and under which settings, a line each."""
    lines = [] if trace.place is None else [trace.place.run]
    lines.append("Start: " + ", ".join(f"{sign.text} = {value.text}" for sign, value in start(trace)))
    lines.append("Settings: " + ", ".join(f"{setting.named} = {setting.value}" for setting in settings(trace)))
    return lines + list(trace.place.remarks if trace.place else ())


def problem(trace: Trace) -> Said | None:
    """The loss: `L(θ) = x² + 20·y², θ = (x, y)`; None for a trace in a training run."""
    loss = trace.loss
    if loss is None:
        return None
    said = Said(f"L(θ) = {loss.formula}", rf"L(\theta) = {vectors.latex(loss.displayed)}")
    if not loss.coordinates:
        return said
    names = list(loss.coordinates)
    if len(loss.shape) == 1:
        shown, more = names[:NAMED_COORDINATES], len(names) > NAMED_COORDINATES
        listed = ", ".join([*map(symbol, shown), *(["…"] if more else [])])
        in_latex = ", ".join([*map(latex_symbol, shown), *([r"\dots"] if more else [])])
        return Said(f"{said.text}, θ = ({listed})", rf"{said.latex}, \quad \theta = \left({in_latex}\right)")
    rows, columns = loss.shape
    corners = (names[0], names[-1])
    return Said(
        f"{said.text}, θ = [{symbol(corners[0])} … {symbol(corners[1])}]",
        rf"{said.latex}, \quad \theta = \left({latex_symbol('x')}_{{ij}}\right)_{{{rows} \times {columns}}}",
    )


def start(trace: Trace) -> list[tuple[Said, Said]]:
    """Where θ and the states that exist begin, each with its symbol."""
    return [
        (symbol_of("p"), value_of(trace.steps[0].theta_before)),
        *((symbol_of(name), value_of(value)) for name, value in trace.start.items()),
    ]


def settings(trace: Trace) -> list[Setting]:
    """The numbers among the settings, and whatever else is not as by default."""
    shown = []
    for name, value in trace.hyper.items():
        is_number = is_scalar(value) and not isinstance(value, bool)
        if is_number or value != trace.rule.defaults[name]:
            sign = symbol_of(name)
            of_its_own = None if sign.text == bare(name) else sign
            shown.append(Setting(of_its_own, name, number(value) if is_scalar(value) else str(value)))
    if trace.hyper.get("weight_decay"):
        shown.append(Setting(None, "decay", trace.decay))
    return shown


def lead(line: Line) -> Said:
    """What the formula of a line from outside of the rule is the value of: `L′(θ) = `."""
    if line.section or line.said:
        return Said("", "")
    if line.symbol == "g":
        return Said("∇L(θ) = ", r"\nabla L(\theta) = ") if line.of_arrays else Said("L′(θ) = ", r"L'(\theta) = ")
    if line.symbol == "hessian":
        of_arrays = Said("diag ∇²L(θ) = ", r"\operatorname{diag} \nabla^{2} L(\theta) = ")
        return of_arrays if line.of_arrays else Said("L″(θ) = ", r"L''(\theta) = ")
    return Said("", "")


def formula(line: Line) -> Said:
    """The formula of a line, with what it is the value of."""
    if line.said:
        return Said(line.said, rf"\text{{{line.said}}}")
    before = lead(line)
    return Said(before.text + line.formula, before.latex + vectors.latex(line.tree))


def substituted(line: Line) -> Said:
    """The formula with numbers; nothing where there are none to see."""
    if line.said:
        return Said("", "")
    return Said(line.substituted, vectors.latex(line.filled))


def is_nested(trace: Trace) -> bool:
    """Whether lines of several rules are nested, so that each needs its name."""
    return any(len(line.section) > 1 for step in trace.steps for line in step.lines)


def headed(lines: tuple[Line, ...]) -> Iterator[tuple[list[tuple[int, str]], Line]]:
    """Each line with the names of the rules and wrappers that begin with it, and how deep these stand."""
    entered: tuple[str, ...] = ()
    for line in lines:
        begun = [
            (depth, name)
            for depth, name in enumerate(line.section)
            if entered[: depth + 1] != line.section[: depth + 1]
        ]
        entered = line.section
        yield begun, line


def command(trace: Trace) -> str:
    """The command that prints this trace.

    Example:
        >>> from ravine.explain.trace import trace
        >>> command(trace("adamw", "(x-1)**2", x0=2.0, lr=0.1))
        "ravine trace adamw --x0 2 --loss '(x-1)**2' --lr 0.1"
    """
    words = ["ravine", "trace", trace.rule.spec]
    if trace.loss is not None:
        words += ["--x0", vectors.argument(trace.steps[0].theta_before), "--loss", trace.loss.source]
    elif trace.place is not None:
        place = trace.place
        words = ["ravine", "trace", *([place.rule] if place.rule else [])]
        words += ["--checkpoint", place.file, "--parameter", place.parameter]
        words += ["--element", ",".join(map(str, place.element))] if place.shape else []
        words += place.arguments
    if len(trace.steps) > 1:
        words += ["--steps", str(len(trace.steps))]
    if trace.place is None:
        for name, value in trace.hyper.items():
            if value != trace.rule.defaults[name]:
                given = str(value).lower() if isinstance(value, bool) else vectors.argument(value)
                option = "--" + name.replace("_", "-")
                words += [option, given] if name in OPTIONS else ["--set", f"{name}={given}"]
        if trace.decay != trace.rule.decay:
            words += ["--decay", trace.decay]
    return shlex.join(words)
