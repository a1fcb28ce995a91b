"""Flow diagrams: true to the graph, in both directions; and pictures in which nothing lies on anything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.explain.flows import NAMES, flow_of
from tests.explain.test_overview import late_square

from ravine.engine.graph import nodes_below
from ravine.engine.symbols import HostValue, Node
from ravine.explain.diagram import Flow, FlowNode, flow, mermaid, svg
from ravine.explain.diagram.lines import Lines, key_of
from ravine.math import apply
from ravine.rule import rule

SHAPES = {"full": (3, 2), "row": (3, 1), "column": (1, 2), "left": (3, 3), "right": (2, 2), "matrix": (1, 1)}


class Computed:
    """Values of a traced graph in NumPy, where some are known; asking for a leaf that is not fails."""

    def __init__(self, known: Mapping[Any, Any]) -> None:
        self.known = dict(known)

    def __call__(self, at: Any) -> Any:
        key = key_of(at) if isinstance(at, (Node, HostValue)) else ("host", at)
        if key not in self.known:
            self.known[key] = self.below(at)
        return self.known[key]

    def below(self, at: Any) -> Any:
        if isinstance(at, HostValue):
            return self.host(at.expression, itself=True)
        if at.op == "slot":
            return self.host(at.payload)
        if at.op == "constant":
            return at.payload
        arguments = [self(argument) for argument in at.args]
        if at.op == "total":
            return np.sum(arguments[0])
        if at.op == "part":
            return arguments[0][at.payload]
        extra = at.payload if isinstance(at.payload, tuple) else () if at.payload is None else (at.payload,)
        return apply(at.op, *arguments, *extra)

    def host(self, expression: Any, itself: bool = False) -> Any:
        if not isinstance(expression, tuple):
            return expression
        if expression[0] == "name":
            return self.known["leaf", expression[1]]
        if not itself and ("host", expression) in self.known:
            return self.known["host", expression]
        return apply(expression[0], *(self.host(part) for part in expression[1:]))


def keys_of(node: FlowNode) -> list[Any]:
    """What a node stands for: its values' keys, or the leaf's."""
    if node.kind == "line":
        return [key_of(value) for value in node.values]
    return [("leaf", node.name)]


def drawn_value(chance: np.random.Generator, example: Any, kind: str, positive: bool) -> Any:
    """Another value of the same shape and sort."""
    if isinstance(example, (str, bool, int)) or example is None:
        return int(chance.integers(2, 9)) if type(example) is int else example
    if np.asarray(example).dtype == bool:
        return chance.random(np.shape(example)) < 0.5
    values = chance.uniform(0.05, 0.95, np.shape(example)) * (1 if positive else chance.choice([-8.0, 8.0]))
    if kind in ("left", "right"):
        return values @ values.T + 0.1 * np.eye(len(values))
    return values if np.shape(example) else float(values)


def beginning(flow: Flow, chance: np.random.Generator) -> dict[Any, Any]:
    """Values of all leaves."""
    tape = flow.step.tape
    known: dict[Any, Any] = {("leaf", name): value for name, value in tape.environment.items()}
    known |= {("leaf", "rows"): 3.0, ("leaf", "columns"): 2.0}
    for node in tape.nodes:
        if node.op == "leaf":
            x = chance.uniform(0.1, 0.9, SHAPES[node.kind])
            known[key_of(node)] = x @ x.T + np.eye(len(x)) if node.kind in ("left", "right") else x
    return known


@pytest.mark.parametrize("name", NAMES)
def test_a_line_needs_what_leads_to_it_and_nothing_else(name: str) -> None:
    """Each line is computed from its arrows' beginnings alone, and another value of any of these changes it."""
    it = flow_of(name)
    chance = np.random.default_rng(0)
    truth = Computed(beginning(it, chance))
    kinds = {key_of(node): node.kind for node in it.step.tape.nodes}
    for line in it.of("line"):
        before = it.into(line, "uses")
        needed = {key: node for node in before for key in keys_of(node)}
        true = {key: truth(_behind(it, key, node)) for key, node in needed.items()}
        expected = [truth(value) for value in line.values]
        alone = Computed(true)
        for value, right in zip(line.values, expected, strict=True):
            np.testing.assert_array_equal(alone.below(value), right, err_msg=line.label)
        written = re.split(r"[^\w\N{COMBINING CIRCUMFLEX ACCENT}]+", line.label)
        for node in before:
            if node.kind == "setting" and node.label.split(" = ")[0] in written:
                continue
            keys = keys_of(node)
            assert any(
                _changes(line, keys[trial % len(keys)], true, chance, kinds, positive=trial % 4 < 2)
                for trial in range(200)
            ), f"{node.label} -> {line.label}"


def _behind(it: Flow, key: Any, node: FlowNode) -> Any:
    """The value that a key belongs to."""
    values = [value for value in node.values if key_of(value) == key]
    return values[0] if values else HostValue(it.step.tape, ("name", key[1]), None)


def _changes(
    line: FlowNode,
    key: Any,
    true: Mapping[Any, Any],
    chance: np.random.Generator,
    kinds: Mapping[Any, str],
    positive: bool,
) -> bool:
    """Whether a line has another value if one of what it uses has, and all the rest some value."""

    def some(k: Any) -> Any:
        return drawn_value(chance, true[k], kinds.get(k, "full"), positive)

    base = {k: some(k) for k in true}
    with np.errstate(all="ignore"):
        try:
            first = [Computed(base).below(value) for value in line.values]
            second = [Computed({**base, key: some(key)}).below(value) for value in line.values]
        except (np.linalg.LinAlgError, ZeroDivisionError, ValueError, OverflowError):
            return False
    return any(
        np.all(np.isfinite(a)) and np.all(np.isfinite(b)) and not np.array_equal(a, b)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_all_that_the_graph_uses_and_gives_is_there(name: str) -> None:
    it = flow_of(name)
    graph = it.step.graph
    used = {node.payload for node in nodes_below(graph.roots) if node.op == "leaf"}
    drawn = {node.name for node in it.of("input", "state")}
    assert used <= drawn
    written = set(graph.outputs) | {s for s, e in graph.host_outputs.items() if e != ("name", s)}
    written |= {s for s, e in graph.shared_outputs.items() if e != ("name", s)}
    kept = {node.name for node in it.of("state") if it.into(node, "keeps")}
    assert kept == written - {"p"}
    (output,) = it.of("output")
    assert len(it.into(output, "gives")) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_line_comes_to_something_and_none_needs_itself(name: str) -> None:
    it = flow_of(name)
    order = {node.id: i for i, node in enumerate(it.nodes)}
    for edge in it.edges:
        assert edge.bond == "keeps" or order[edge.start] < order[edge.end]
    assert len(set(it.edges)) == len(it.edges)
    begun = {edge.start for edge in it.edges}
    assert all(node.id in begun for node in it.of("line", "input", "setting"))
    assert all(it.into(node, "uses") for node in it.of("line"))


def labels(it: Flow, *kinds: Any) -> list[str]:
    return [node.label for node in it.of(*kinds)]


def test_adamw() -> None:
    """The box of the paper: two averages of the gradient, their corrections, and an update of both and of θ."""
    it = flow_of("adamw")
    by_label = {
        node.label.split(" ← ")[0] if node.kind == "line" else f"{node.label} {node.kind}": node for node in it.nodes
    }
    found = {name: {other.label.split(" ← ")[0] for other in it.into(node, "uses")} for name, node in by_label.items()}
    assert found["m"] == {"m", "g", "β₁ = 0.9"}
    assert found["v"] == {"v", "g", "β₂ = 0.999"}
    assert found["m̂"] == {"m", "β₁ = 0.9", "t"} and found["v̂"] == {"v", "β₂ = 0.999", "t"}
    assert found["θ"] == {"θ", "m̂", "v̂", "η = 0.001", "ε = 1e-8", "λ = 0.01"}
    assert {(e.start, e.end) for e in it.edges if e.bond == "keeps"} == {
        (by_label["m"].id, by_label["m state"].id),
        (by_label["v"].id, by_label["v state"].id),
    }
    assert [it.role(by_label[k]) for k in ("m", "m̂", "θ", "θ output")] == ["memory", "line", "update", "output"]


def test_lion_updates_before_it_averages() -> None:
    it = flow_of("lion")
    (kept,) = [edge for edge in it.edges if edge.bond == "keeps"]
    average = next(node for node in it.nodes if node.id == kept.start)
    assert average.label == "m ← β₂·m + (1 − β₂)·g"
    assert not any(edge.start == average.id and edge.bond != "keeps" for edge in it.edges)


def test_a_wrapper_shows_the_update_that_it_takes_out() -> None:
    it = flow_of("cautious(adamw)")
    assert "u ← η·(m̂ / (√v̂ + ε))" in labels(it, "line") and "decay ← η·(λ·θ)" in labels(it, "line")
    sections = {node.label: node.section for node in it.of("line")}
    assert sections["v̂ ← v / (1 − β₂ᵗ)"] == ("cautious", "adamw")
    assert sections["θ ← θ − (u + decay)"] == ("cautious",)


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_a_call_of_the_rule_inside(name: str) -> None:
    inside = [f"{section}(" for node in flow_of(name).of("line") for section in node.section]
    assert not any(call in label for label in labels(flow_of(name), "line") for call in inside)


@pytest.mark.parametrize(
    ("name", "t", "rare"),
    [
        ("adamw", 2, []),
        ("lookahead(adamw)", 5, ["slow, θ ← slow + α·(θ − slow)"]),
        ("soap", 11, ["Q_L, v ← turned(L, Q_L, v, 0, t, every)", "Q_R, v ← turned(R, Q_R, v, 1, t, every)"]),
        ("sophia", 2, ["h ← β₂·h + (1 − β₂)·hessian"]),
    ],
)
def test_the_step_with_the_most_lines_is_drawn(name: str, t: int, rare: list[str]) -> None:
    it = flow_of(name)
    assert (it.t, [node.label for node in it.nodes if not node.always]) == (t, rare)


def test_radam_at_first_and_later() -> None:
    """Up to step 5 the second moment is not used at all, with the threshold of the authors' code."""
    assert not any("√v" in label for label in labels(flow("radam", t=5), "line"))
    assert any("√v" in label for label in labels(flow("radam", t=6), "line"))
    assert flow_of("radam").t == 6


def test_settings_change_the_flow() -> None:
    plain, moving = flow("sgd"), flow("sgd", {"momentum": 0.9})
    assert labels(plain, "state") == [] and labels(moving, "state") == ["m"]
    assert "μ = 0.9" in labels(moving, "setting")
    assert labels(flow("adafactor", {"factored": False}), "state") == ["v"]


def test_what_cannot_be_drawn_says_why() -> None:
    with pytest.raises(KeyError, match="did you mean 'adamw'"):
        flow("adamwe")
    with pytest.raises(TypeError, match=r"no hyperparameter 'bta1'.*did you mean 'beta1'"):
        flow("adamw", {"bta1": 0.5})
    with pytest.raises(ValueError, match="t is a step, counted from 1; got 0"):
        flow("adamw", t=0)
    with pytest.raises(ValueError, match=r"late_square cannot be drawn, since no graph can be traced of it: .*engine"):
        flow(late_square)


def test_a_rule_typed_at_the_prompt_has_no_source() -> None:
    scope: dict[str, Any] = {"rule": rule}
    exec('def typed(p, g, *, t, lr=0.1):\n    "Typed: at the prompt."\n    return (p - lr * g,)', scope)
    typed = rule(paper="none")(scope["typed"])
    with pytest.raises(ValueError, match="the source of typed cannot be found"):
        flow(typed)


@rule(paper="made for this test", state={"m": "m"})
def knotted(p, g, m, *, t, lr=0.1, form='<a & "b">'):
    """Knotted <b>&amp;: names that mean something to XML and Mermaid."""
    u, m = _both(m, g)
    return p - lr * u, m


def _both(m: Any, g: Any) -> tuple[Any, Any]:
    return m + g, m - g


def test_values_that_a_helper_returns_together_are_one_line() -> None:
    it = flow(knotted)
    assert labels(it, "line") == ["u, m ← _both(m, g)", "θ ← θ − η·u"]
    root = ElementTree.fromstring(svg(it))
    assert "Knotted <b>&amp;" in "".join(root.itertext())
    assert '"' not in mermaid(it).split('"')[1]


def test_lines_are_asked_of_the_graph_alone() -> None:
    """A value that only gets another name is no line; what is given on to a state is named on it."""
    it = flow("sgd", {"momentum": 0.9})
    assert labels(it, "line") == ["g ← g + λ·θ", "m ← μ·m + (1 − τ)·g", "θ ← θ − η·m"]
    names = {line.label for line in Lines(flow_of("prodigy").step).lines}
    assert "dₘₐₓ, d ← max(dₘₐₓ, d̂)" in names
