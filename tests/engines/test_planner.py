"""The planner's passes and bytes, against the floors worked out by hand."""

from __future__ import annotations

import pytest

from ravine.engine.emit import make_program
from ravine.engine.graph import Graphs, trace
from ravine.engine.symbols import Node
from ravine.rule import lookup, rule


def program_of(spec, t=10, dtype=None, inputs=(), **hyper):
    import torch

    found = lookup(spec) if isinstance(spec, str) else spec
    hyper = {**found.defaults, **hyper}
    environment = {**hyper, "t": t, "ndim": 2, "rows": 3.0, "columns": 4.0}
    present = frozenset(found.state) - frozenset(found.absent_states(hyper, (3, 4)))
    host = {symbol: 0.5 for symbol, state in found.state.items() if state.kind in ("host", "shared")}
    graph, _ = trace(found, {**environment, **host}, present, inputs)
    types = dict.fromkeys(["p", "g", *inputs, *(present - set(host))], dtype or torch.float32)
    return make_program(graph, types, torch.float32)


FLOORS = [
    ("sgd", {}, 1, 12), ("sgd", {"momentum": 0.9}, 1, 20), ("momentum", {}, 1, 20), ("adagrad", {}, 1, 20),
    ("rmsprop", {}, 1, 20), ("rmsprop", {"centered": True, "momentum": 0.9}, 1, 36), ("lion", {}, 1, 20),
    ("adamw", {}, 1, 28), ("adam", {}, 1, 28), ("amsgrad", {}, 1, 36), ("lamb", {}, 2, 40),
    ("cautious(adamw)", {}, 2, 40), ("cautious(adamw)", {"cautious.rescale": False}, 1, 28),
    ("cautious(lion)", {}, 2, 28), ("clip_norm(adamw)", {}, 2, 32), ("clip_norm(lamb)", {}, 3, 44),
    ("adadelta", {}, 1, 28), ("adamax", {}, 1, 28), ("nadam", {}, 1, 28), ("nadamw", {}, 1, 28), ("radam", {}, 1, 28),
    ("adopt", {}, 1, 28), ("lars", {}, 2, 28), ("adan", {}, 1, 44), ("ademamix", {}, 1, 36), ("mars", {}, 2, 44),
    ("stableadamw", {}, 2, 36), ("sophia", {}, 1, 24), ("adafactor", {}, 3, 24), ("adafactor_paper", {}, 3, 24),
    ("adafactor", {"beta1": 0.9}, 3, 32), ("prodigy", {}, 1, 40), ("muon", {}, 2, 28),
    ("schedule_free(adamw)", {}, 1, 28),
    ("schedule_free(sgd)", {}, 1, 20), ("ema(adamw)", {}, 1, 36), ("clipped_update(adamw)", {}, 2, 36),
    ("centralized(adamw)", {}, 2, 32), ("rectified(schedule_free(adamw))", {}, 1, 28),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "hyper", "passes", "moved"), FLOORS, ids=str)
def test_passes_and_bytes_reach_the_floor(spec, hyper, passes, moved):
    plan = program_of(spec, **hyper).plan
    assert (len(plan.passes), plan.bytes_per_element) == (passes, moved)


def test_a_step_with_an_input_reads_it():
    plan = program_of("sophia", inputs=("hessian",)).plan
    assert (len(plan.passes), plan.bytes_per_element) == (1, 32)


def test_what_torch_needs_is_stored_once():
    """SOAP turns its momentum, which is a state: it is not written a second time for that."""
    plan = program_of("soap").plan
    assert "m" in plan.passes[0].stores
    assert all(node.op != "add" for node in plan.temporaries)


def test_lookahead_moves_slow_weights_every_kth_step_only():
    moved = [program_of("lookahead(adamw)", t=t).plan.bytes_per_element for t in range(1, 11)]
    assert moved == [28, 28, 28, 28, 36] * 2
    assert sum(moved) / len(moved) == pytest.approx(29.6)


def test_rounded_states_are_never_read_back_in_place_of_the_exact_value():
    """LAMB stores m and v in its first pass; bfloat16 would round what the second pass must compute with."""
    import torch

    exact, rounding = program_of("lamb"), program_of("lamb", dtype=torch.bfloat16)
    assert any(step.reloads for step in exact.plan.passes)
    assert not any(step.reloads for step in rounding.plan.passes)


def test_hyperparameters_and_steps_share_one_graph():
    found = lookup("adamw")
    graphs = Graphs(found, frozenset({"m", "v"}), ())
    base = {**found.defaults, "ndim": 2, "rows": 1.0, "columns": 1.0}
    first = graphs.find({**base, "t": 1})
    assert graphs.find({**base, "t": 1000, "lr": 0.7, "beta1": 0.0}) is first


def test_each_answer_to_a_question_is_a_graph_of_its_own():
    found = lookup("lookahead(sgd)")
    graphs = Graphs(found, frozenset({"lookahead.slow"}), ())
    base = {**found.defaults, "ndim": 2, "rows": 1.0, "columns": 1.0}
    by_step = [graphs.find({**base, "t": t}) for t in range(1, 11)]
    assert len(set(by_step)) == 2
    assert by_step[4] is by_step[9]
    assert graphs.find({**base, "t": 7, "lookahead.k": 7}) is by_step[4]


def test_branching_on_a_tensor_is_refused_with_what_to_write_instead():
    @rule(paper="none")
    def bad(p, g, *, t, lr=0.1):
        """Bad: branches on values."""
        return (p - lr * g if g > 0 else p,)

    with pytest.raises(TypeError, match=r"may not branch on a tensor's values.*where"):
        program_of(bad)


def test_turning_a_hyperparameter_into_a_float_is_refused():
    @rule(paper="none")
    def bad(p, g, *, t, lr=0.1):
        """Bad: computes with plain floats."""
        return (p - float(lr) * g,)

    with pytest.raises(TypeError, match=r"ravine\.math"):
        program_of(bad)


def test_powers_other_than_squares_are_refused():
    @rule(paper="none")
    def bad(p, g, *, t, lr=0.1):
        """Bad: cubes."""
        return (p - lr * g**3,)

    with pytest.raises(TypeError, match="power 2"):
        program_of(bad)


def test_a_graph_lists_nodes_after_their_arguments():
    from ravine.engine.graph import nodes_below

    nodes = nodes_below(list(program_of("lamb").graph.outputs.values()))
    seen: set[int] = set()
    for node in nodes:
        assert isinstance(node, Node)
        assert all(a.index in seen for a in node.args)
        seen.add(node.index)


def test_a_whole_number_that_a_rule_asks_for_has_a_graph_for_each_value():
    """Regression: a step with steps=5 once ran the graph of steps=3, where the process had made that first."""
    found = lookup("muon")
    graphs = Graphs(found, frozenset({"m"}), ())
    base = {**found.defaults, "t": 2, "ndim": 2, "rows": 4.0, "columns": 3.0}
    by_steps = {steps: graphs.find({**base, "steps": steps}) for steps in (3, 5, 1)}
    assert len(set(by_steps.values())) == 3
    assert all(graphs.find({**base, "steps": steps}) is graph for steps, graph in by_steps.items())
