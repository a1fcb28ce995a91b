"""Rules as JavaScript: every branch and every structure that settings can lead to, from traced graphs.

Nothing here knows any optimizer. A rule becomes a tree of questions for each of its structures, whose leaves say which
values of a shared table are its new parameter, its new states and its lines; `optimizer.js` runs them.

Example:
    >>> from ravine.registry import lookup
    >>> made = emit([lookup("lion")])
    >>> len(made.leaves)  # without weight decay, with it, and with it in the gradient
    3
"""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from ravine.engine.graph import is_static
from ravine.engine.symbols import Expression, HostValue, Node, Tape
from ravine.explain.decay import FORMS
from ravine.explain.follow import Told
from ravine.explain.javascript.branches import Branches
from ravine.explain.javascript.formula import template
from ravine.explain.javascript.settings import Offered, described, offered
from ravine.explain.javascript.values import Values, named
from ravine.explain.symbolic import SymbolicStep, symbolic
from ravine.explain.typeset import expression, is_scalar, latex, scalar, symbol, text
from ravine.math import ZERO, has, plain
from ravine.optim.settings import substituted_decay
from ravine.rule import DECAYS, Rule, Shape

MOST_STEPS = 24
"""Steps that are looked at for branches of a rule."""

LARGEST_WHOLE = 8
"""The largest value that is looked at of settings that are whole numbers."""

RUNTIME = ("arithmetic.js", "matrices.js", "formula.js", "optimizer.js")
GIVEN_DECAY = "given.weight_decay"


@dataclass(eq=False)
class Emitted:
    """Rules as JavaScript.

    Attributes:
        values: the table of values that all rules share.
        texts: what lines say: symbol, formula, the formula's template for numbers, and both in LaTeX.
        sections: the rule or wrapper whose line it is, outermost first.
        lines: the places of text, section and value, and of the values in the formula.
        leaves: the places of the new parameter and states (−1 for one that stays), and of the lines.
        settings, states: those of all rules, described.
        functions: functions of a point in JavaScript, by name; see `ravine.explain.javascript.functions`.
        decays: for each form of weight decay its meaning, and what a rule is given of it.
        rules: for each rule what is needed to run it, by its spec.
    """

    values: Values = field(default_factory=Values)
    texts: list[Any] = field(default_factory=list)
    sections: list[Any] = field(default_factory=list)
    lines: list[Any] = field(default_factory=list)
    leaves: list[Any] = field(default_factory=list)
    settings: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    functions: dict[str, str] = field(default_factory=dict)
    decays: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)
    _words: dict[Any, int] = field(default_factory=dict)

    def place(self, table: list[Any], item: Any) -> int:
        """The place of an item in a table that holds it once."""
        key = f"{id(table)} {json.dumps(item)}"
        if key not in self._places:
            self._places[key] = len(table)
            table.append(item)
        return self._places[key]

    @property
    def source(self) -> str:
        """The tables as JavaScript constants, `VALUES` as functions."""
        functions = ",\n".join(f"{'(v,x)' if source[0] == 'x' else 'v'}=>{source}" for source in self.values.sources)
        tables = {
            "TEXTS": self.texts, "SECTIONS": self.sections, "LINES": self.lines, "LEAVES": self.leaves,
            "SETTINGS": self.settings, "STATES": self.states, "DECAYS": self.decays, "RULES": self.rules,
        }  # fmt: skip
        written = [f"const {name} = {in_script(table)};" for name, table in tables.items()]
        points = ",\n".join(f"{json.dumps(name)}: {function}" for name, function in self.functions.items())
        return "\n".join([f"const VALUES = [\n{functions}\n];", f"const FUNCTIONS = {{\n{points}\n}};", *written, ""])


def runtime() -> str:
    """What runs the tables: arithmetic on small matrices, formulas with numbers, and steps."""
    folder = files("ravine.explain.javascript")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in RUNTIME)


def emit(rules: Sequence[Rule], shape: Shape | None = None, flags: bool = True) -> Emitted:
    """Rules as JavaScript.

    Args:
        rules: the rules, wrapped or not.
        shape: of the parameter; by default a point of the plane, as a vector of 2, or for matrix rules 1 × 2.
        flags: whether flags and choices of the rules are offered, besides those of wrappers.

    Raises:
        Unsupported: if graphs do not have what a rule needs.
        ValueError: if a rule's source cannot be found.
    """
    made = Emitted()
    for rule in rules:
        add(made, rule, shape, flags)
    return made


def add(made: Emitted, rule: Rule, shape: Shape | None = None, flags: bool = True) -> None:
    """Add a rule to what is made; see `emit`."""
    made.decays = made.decays or _decays(made)
    shape = rule.seen_shape(shape or ((1, 2) if rule.steps_matrices else (2,)))
    what = offered(rule, shape, flags)
    structures: list[Any] = []
    complaints: list[Any] = []
    few: set[str] = set()
    forms, inputs = _given_forms(rule), ((), rule.inputs) if rule.inputs else ((),)
    for flags_now in what.combinations():
        complaints.append(_complaints(made, rule, flags_now))
        for truths, given, known in itertools.product(what.present(), forms.values(), inputs):
            hyper = {**rule.defaults, **flags_now, **_numbers_with(rule, truths), **given}
            branches = Branches() if isinstance(complaints[-1], str) else _branches(made, rule, hyper, known, what)
            few |= branches.counted
            structures.append(branches.written(made.values.host))
    settings = described(rule, what, dict.fromkeys(few, LARGEST_WHOLE))
    made.rules[rule.spec] = {
        "title": rule.title,
        "shape": list(shape),
        "inputs": list(rule.inputs),
        "settings": [made.place(made.settings, row) for row in settings],
        "flags": list(what.flags),
        "truths": list(what.truths),
        "forms": list(forms),
        "decay": rule.decay if "weight_decay" in rule.defaults else None,
        "states": [made.place(made.states, _state(rule, name)) for name in rule.state],
        "evaluated": _evaluated(made, rule),
        "complaints": complaints if any(complaints) else [],
        "structures": structures,
    }


def _state(rule: Rule, name: str) -> dict[str, Any]:
    state = rule.state[name]
    setting = state.init if isinstance(state.init, str) and state.init in rule.defaults else None
    return {
        "name": name, "symbol": symbol(name.rsplit(".", 1)[-1]), "kind": state.kind,
        "init": state.init if setting is None else rule.defaults[setting], "setting": setting,
    }  # fmt: skip


def _numbers_with(rule: Rule, truths: Mapping[str, bool]) -> dict[str, float]:
    """Numbers that are zero or not, as asked."""
    return {name: (rule.defaults[name] or 0.5) if truth else 0.0 for name, truth in truths.items()}


def _given_forms(rule: Rule) -> dict[str, dict[str, Any]]:
    """What a rule is given of weight decay, by structure: nothing, a value, or a term of the gradient."""
    if "weight_decay" not in rule.defaults:
        return {"none": {}}
    return {
        "none": {"weight_decay": ZERO, "l2": ZERO},
        "value": {"weight_decay": 0.01, "l2": ZERO},
        "l2": {"weight_decay": ZERO, "l2": 0.01},
    }


def _evaluated(made: Emitted, rule: Rule) -> int | None:
    """The place of the weights that are evaluated at, where these are not the parameter."""
    if rule.at_eval is None or isinstance(rule.at_eval, str):
        return None if rule.at_eval is None else made.values.place(named(rule.at_eval))
    tape = Tape({**rule.defaults, "ndim": 2})
    states = {name: tape.leaf(name) for name in rule.state}
    return made.values.of(rule.at_eval(tape.leaf("p"), states, {name: tape.host(name) for name in rule.defaults}))


def _branches(made: Emitted, rule: Rule, hyper: Mapping[str, Any], inputs: tuple[str, ...], what: Offered) -> Branches:
    """The tree of questions of one structure."""
    branches = Branches()
    host = {name: 1.0 for name, state in rule.state.items() if state.kind in ("host", "shared")}
    rows, columns = (float(what.shape[0]) if len(what.shape) > 1 else 1.0), float(what.shape[-1])
    known = {**hyper, **host, "ndim": len(what.shape), "rows": rows, "columns": columns}
    for varied in _environments(rule, hyper):
        if not branches.holds(known | varied):
            t, settings = varied["t"], {k: v for k, v in varied.items() if k != "t"}
            step = symbolic(rule, {**hyper, **settings}, t=t, shape=what.shape, host=host, inputs=inputs, numbers=True)
            branches.add(step.tape.questions, made.place(made.leaves, _leaf(made, step)))
        if not branches.answers:
            break  # nothing is asked
    return branches


def _environments(rule: Rule, hyper: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Steps and settings that lead through all branches: many steps, for small whole numbers each and together."""
    whole = [name for name, allowed in rule.ranges.items() if allowed.startswith("whole") and name in hyper]
    single = [{name: value} for name in whole for value in range(1, LARGEST_WHOLE + 1)]
    several = itertools.product(*([hyper[name], 1, 2] for name in whole))
    for settings in (*(dict(zip(whole, values, strict=True)) for values in several), *single):
        for t in range(1, MOST_STEPS + 1):
            yield {"t": t, **settings}


def _leaf(made: Emitted, step: SymbolicStep) -> list[Any]:
    values, graph = made.values, step.graph
    totals: dict[str, Expression] = {n.payload: ("value", values.of(n)) for n in graph.totals}
    hosts = {**graph.host_outputs, **graph.shared_outputs}
    new = {name: values.of(node) for name, node in graph.outputs.items()}
    new |= {name: values.host(_with_totals(value, totals)) for name, value in hosts.items()}
    return [[new.get(name, -1) for name in ("p", *step.rule.state)], [add_line(made, told) for told in step.lines]]


def _with_totals(value: Expression, totals: Mapping[str, Expression]) -> Expression:
    """A host expression in which totals are references to their values."""
    if not isinstance(value, tuple):
        return value
    if value[0] == "name":
        return totals.get(value[1], value)
    return (value[0], *(_with_totals(e, totals) for e in value[1:]))


def add_line(made: Emitted, told: Told) -> int:
    """The place of a line, which is put into the tables."""
    values = made.values
    names = list(dict.fromkeys(node.id for node in ast.walk(told.formula) if isinstance(node, ast.Name)))
    given = {name: plain(told.names[name]) for name in names if name in told.names}
    slots = [name for name, value in given.items() if isinstance(value, (Node, HostValue))]
    fixed = {k: v for k, v in given.items() if isinstance(v, (str, Mapping)) or is_scalar(v)}
    key = ast.unparse(told.formula), told.symbol, repr(fixed), tuple(slots)
    if key not in made._words:
        target = expression(told.symbol)
        typeset = rf"{latex(target)} \leftarrow {latex(told.formula)}"
        words = [text(target), text(told.formula), template(told.formula, fixed, slots), typeset]
        made._words[key] = made.place(made.texts, words)
    value = told.value if isinstance(told.value, (Node, HostValue)) else float(scalar(told.value))
    section = made.place(made.sections, list(told.section))
    numbers = [values.of(given[name]) for name in slots]
    return made.place(made.lines, [made._words[key], section, values.of(value), *numbers])


def _decays(made: Emitted) -> dict[str, Any]:
    """For each form of weight decay what the rule is given, as a tree of questions, and the line that it adds."""
    found: dict[str, Any] = {}
    for form in DECAYS:
        branches = Branches()
        for decay, lr in ((0.0, 0.1), (0.1, 0.1), (0.1, 0.0)):
            environment = {GIVEN_DECAY: decay, "lr": lr, "max_lr": lr}
            tape = Tape(environment)
            names = {"weight_decay": tape.host(GIVEN_DECAY), "lr": tape.host("lr"), "max_lr": tape.host("max_lr")}
            given = substituted_decay(form, *names.values())  # type: ignore[arg-type]
            branches.add(tape.questions, _substituted(made, form, given, names))
        found[form] = {"given": branches.written(made.values.host), "meaning": FORMS[form].meaning}
    return found


def _substituted(made: Emitted, form: str, given: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    leaf = {name: made.values.of(value) for name, value in given.items() if has(value)}
    structure = "l2" if "l2" in leaf else "value" if leaf else "none"
    frame = FORMS[form]  # type: ignore[index]
    lines = []
    if structure == "value" and frame.symbol is not None:
        told = Told(frame.symbol, expression(frame.source), names, given[frame.symbol], ())
        lines.append(add_line(made, told))
    return {"structure": structure, "given": leaf, "lines": lines}


class _Named(HostValue):
    """A setting that a complaint about it is written with."""

    def __repr__(self) -> str:
        return "{" + self.expression[1] + "}"


def _complaints(made: Emitted, rule: Rule, flags: Mapping[str, Any]) -> Any:
    """What a rule's check has against settings: None, a sentence, or a tree of questions with these."""
    if rule.check is None:
        return None
    branches = Branches()
    hyper = {**rule.defaults, **flags}
    numbers = {k: v for k, v in hyper.items() if not is_static(v)}
    for changed in ({}, *({k: v + 0.125} for k, v in numbers.items())):
        environment = {**hyper, **changed}
        tape = Tape(environment)
        given = {k: _Named(tape, ("name", k), v) if k in numbers else v for k, v in environment.items()}
        branches.add(tape.questions, rule.check(given) or False)
    return branches.written(made.values.host) or None


def in_script(value: Any) -> str:
    """A value as JSON that may stand in a script of a page."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/").replace("<!--", "<\\!--")
