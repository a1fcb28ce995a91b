"""The rule language: what may be declared, what is refused and why, and how wrappers nest."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from ravine import State, compose, info, lookup, register, rule, wrapper
from ravine.compose import cautious, clip_norm, lookahead, update_of
from ravine.math import EYE, ZERO, has, mean, sqrt, where
from ravine.rules import adam, adamw, lion, momentum, sgd


@rule(
    paper="a test", state={"slow": "slow_average", "v": State("square", when="normalized")}, ranges={"alpha": "(0, 1]"}
)
def two_speeds(p, g, slow, v, *, t, lr=0.1, alpha=0.5, k=3.0, normalized=False, weight_decay=0.0):
    """TwoSpeeds: names that wrappers use as well: slow, alpha, k."""
    slow = slow + alpha * (g - slow) / k
    u = slow
    if normalized:
        v = v + g**2
        u = slow / (sqrt(v) + 1e-8)
    p = p - lr * (u + weight_decay * p)
    return p, slow, v


@rule(paper="a test")
def leaping(p, g, *, t, lr=0.1):
    """Leaping: a rule that does not end in p - update."""
    return (0.5 * p + 0.5 * g,)


@wrapper(
    paper="a test", side="weights", state={"ema": State("ema", init="p")}, ranges={"beta": "[0, 1)"}, at_eval="ema"
)
def averaged(base, p, g, ema, *states, beta=0.9, **hyper):
    """Averaged: an average of the weights, for evaluation."""
    p, *states = base(p, g, *states, **hyper)
    return p, beta * ema + (1 - beta) * p, *states


@wrapper(paper="a test", side="update", pins={"beta1": "m"}, state={"z": State("z", init="p")})
def without_momentum(base, p, g, z, *states, lr, weight_decay, **hyper):
    """WithoutMomentum: the rule's update with its first moment taken out."""
    u, states = update_of(base, p, g, *states, lr=lr, weight_decay=weight_decay, **hyper)
    return p - u, z - u, *states


# Declarations


def test_a_rule_is_what_its_function_says() -> None:
    assert (two_speeds.name, two_speeds.title, two_speeds.paper) == ("two_speeds", "TwoSpeeds", "a test")
    assert two_speeds.summary == "names that wrappers use as well: slow, alpha, k."
    assert list(two_speeds.state) == ["slow", "v"] and two_speeds.state["slow"] == State("slow_average")
    assert dict(two_speeds.defaults) == {"lr": 0.1, "alpha": 0.5, "k": 3.0, "normalized": False, "weight_decay": 0.0}
    assert two_speeds.ranges["alpha"] == "(0, 1]" and two_speeds.ranges["lr"] == "[0, inf)"
    assert two_speeds.decay == "lr" and two_speeds.innermost is two_speeds
    assert two_speeds.spec == "test_rule_language:two_speeds"


def declare(source: str, **declaration: Any) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return rule(paper="a test", **declaration)(names["f"])


@pytest.mark.parametrize(
    ("source", "declaration", "said"),
    [
        ("def f(p, g, m, *, t):\n 'F: f'", {}, r"must take \(p, g\).*got \(p, g, m\)"),
        ("def f(p, g, *, t):\n 'F: f'", {"state": {"m": "m"}}, r"must take \(p, g, m\)"),
        ("def f(g, p, *, t):\n 'F: f'", {}, r"must take \(p, g\).*got \(g, p\)"),
        ("def f(p, g, v, m, *, t):\n 'F: f'", {"state": {"m": "m", "v": "v"}}, r"must take \(p, g, m, v\)"),
        ("def f(p, g, *, lr=1.0):\n 'F: f'", {}, "must take the step as a keyword-only argument `t`"),
        ("def f(p, g, *, t, lr):\n 'F: f'", {}, "must give a default for lr"),
        ("def f(p, g, *, t):\n 'no title'", {}, "needs a docstring that begins with its title"),
        ("def f(p, g, *, t): pass", {}, "needs a docstring"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(source: str, declaration: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        declare(source, **declaration)


def test_an_input_needs_no_default_in_its_hyperparameters() -> None:
    made = declare("def f(p, g, *, t, hessian=None, lr=1.0):\n 'F: f'", inputs=["hessian"])
    assert made.inputs == ("hessian",) and list(made.defaults) == ["lr"]


def test_presets_share_their_rule() -> None:
    assert adam.preset_of is adamw and adam.function is adamw.function
    assert (adam.defaults["weight_decay"], adam.decay, adamw.decay) == (0.0, "l2", "lr")
    with pytest.raises(TypeError, match="did you mean 'beta1'"):
        adamw.preset("wrong", doc="Wrong: no.", paper="none", beta11=0.5)


def test_names_are_registered_once() -> None:
    assert register(adamw) is adamw
    other = adamw.preset("lion", doc="Lion: not this one.", paper="none")
    with pytest.raises(ValueError, match="the name 'lion' is taken by"):
        register(other)
    assert lookup("lion") is lion


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("adamww", "unknown optimizer 'adamww'; did you mean 'adamw'?"),
        ("", "unknown optimizer ''"),
        ("lookahead(adamww)", "unknown optimizer 'adamww'"),
        ("lookahed(adamw)", "unknown wrapper 'lookahed'; did you mean 'lookahead'?"),
        ("(adamw)", "unknown wrapper ''"),
        ("lookahead(adamw", "unknown optimizer 'lookahead(adamw'"),
        ("os:system", "unknown optimizer 'os:system'"),
    ],
)
def test_unknown_names_get_the_nearest(spec: str, said: str) -> None:
    with pytest.raises(KeyError) as caught:
        lookup(spec)
    assert said in caught.value.args[0]


def test_looking_up_is_writing_out() -> None:
    assert lookup(" lookahead( cautious( adamw ) ) ") is lookahead(cautious(adamw))
    for name in ravine.available():
        assert lookup(name).spec == name and lookup(lookahead(lookup(name)).spec) is lookahead(lookup(name))


@pytest.mark.parametrize(
    "made", [two_speeds, adamw, lookahead(two_speeds, k=7), averaged(cautious(two_speeds))], ids=repr
)
def test_rules_are_copied_and_pickled_by_name(made: ravine.Rule) -> None:
    """No code in the pickle: a rule of one's own is the object of that name in its module, with its settings."""
    assert copy.deepcopy(made) is made and copy.copy(made).name == made.name
    assert pickle.loads(pickle.dumps(made)) is made


# Calling a rule


def test_on_numbers_a_rule_gives_numbers() -> None:
    for result in (adamw(2.0, 2.0, 0, 0, t=1), adamw(2, 2, 0.0, 0.0, t=1), lion(1.0, -1.0, 0.0, t=3)):
        assert all(type(x) is float for x in result)


def test_states_that_do_not_exist_may_be_left_out() -> None:
    whole = adamw(2.0, 2.0, 0.1, 0.2, ZERO, t=3)
    short = adamw(2.0, 2.0, 0.1, 0.2, t=3)
    assert len(short) == 3 and whole[:3] == short
    assert len(adamw(2.0, 2.0, 0.1, 0.2, 0.3, t=3, amsgrad=True)) == 4
    with pytest.raises(TypeError, match=r"takes the states \(m, v, v_max\), of which \(m, v\) exist here; got 1"):
        adamw(2.0, 2.0, 0.1, t=3)
    with pytest.raises(TypeError, match=r"of which \(m, v, v_max\) exist here; got 2"):
        adamw(2.0, 2.0, 0.1, 0.2, t=3, amsgrad=True)


def test_unknown_hyperparameters_get_the_nearest() -> None:
    with pytest.raises(TypeError, match="adamw has no hyperparameter 'weight_dekay'; did you mean 'weight_decay'"):
        adamw(1.0, 1.0, 0.0, 0.0, t=1, weight_dekay=0.1)


def test_division_by_zero_is_ieee_on_numbers_too() -> None:
    @rule(paper="a test")
    def ratio(p, g, *, t, lr=1.0):
        """Ratio: p less the inverse gradient."""
        return (p - lr * (1.0 / g),)

    assert ratio(0.0, 0.0, t=1) == (-np.inf,) and ratio(0.0, -0.0, t=1) == (np.inf,)
    assert ratio(0.0, np.nan, t=1)[0] != ratio(0.0, np.nan, t=1)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ravine.available())
def test_the_type_of_arrays_is_kept(name: str, dtype: type) -> None:
    """No np.float64 scalar and no 1.0 in a where() widens float32: every engine would have to follow."""
    made = lookup(name)
    p = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    states = [np.full(s.shape((2, 3)), 0.25, dtype) for s in made.state.values() if s.present(made.defaults, (2, 3))]
    for value in made(p, p + dtype(0.5), *states, t=2, lr=0.1, **({"weight_decay": 0.1})):
        assert value.dtype == dtype
    tensors = made(*(torch.from_numpy(x) for x in (p, p + dtype(0.5), *states)), t=2, lr=0.1)
    assert {x.dtype for x in tensors} == {torch.from_numpy(p).dtype}


# States


def test_shapes_of_states() -> None:
    kinds = {"full": (4, 3), "row": (4, 1), "column": (1, 3), "left": (4, 4), "right": (3, 3), "host": (), "shared": ()}
    for kind, shape in kinds.items():
        assert State("s", kind=kind).shape((4, 3)) == shape
    assert State("s", kind="row").shape((2, 4, 3)) == (2, 4, 1) and State("s", kind="left").shape((2, 4, 3)) == (
        2,
        4,
        4,
    )
    for kind in ("row", "column", "left", "right"):
        for shape in ((), (5,)):
            with pytest.raises(ValueError, match=f"'s' is of kind '{kind}' and needs a matrix"):
                State("s", kind=kind).shape(shape)


def test_presence_of_states() -> None:
    assert State("s").present({}, (2,))
    assert State("s", when="on").present({"on": 0.5}, (2,)) and not State("s", when="on").present({"on": 0.0}, (2,))
    flat = State("s", when=lambda hyper, shape: hyper["on"] and len(shape) > 1)
    assert flat.present({"on": True}, (2, 2)) and not flat.present({"on": True}, (2,))
    assert two_speeds.absent_states({"normalized": False}, (3,)) == {"v": ZERO}
    assert two_speeds.absent_states({"normalized": True}, (3,)) == {}


# Wrappers


def test_a_wrapper_has_a_namespace_of_its_own() -> None:
    """Lookahead and the rule both own `slow`, `alpha` and `k`: each keeps its own, in states and in settings."""
    made = lookahead(two_speeds, alpha=0.25)
    assert list(made.state) == ["lookahead.slow", "slow", "v"]
    assert [s.name for s in made.state.values()] == ["lookahead.slow", "slow_average", "square"]
    assert made.defaults["alpha"] == 0.5 and made.defaults["lookahead.alpha"] == 0.25
    assert made.defaults["k"] == 3.0 and made.defaults["lookahead.k"] == 5
    p, g, fast_average, slow = 1.0, 0.5, 0.0, 1.0
    q, average, anchor = p, fast_average, p
    for t in range(1, 11):
        p, slow, fast_average = made(p, g, slow, fast_average, t=t)
        average = average + 0.5 * (g - average) / 3.0
        q = q - 0.1 * average
        if t % 5 == 0:
            anchor = q = 0.75 * anchor + 0.25 * q
        assert (p, fast_average) == (pytest.approx(q, rel=1e-14), pytest.approx(average, rel=1e-14))
    assert slow == p


def test_settings_of_either_reach_their_owner() -> None:
    for changed in ("alpha", "lookahead.alpha", "k", "lookahead.k"):
        results = []
        for value in (1.0, 0.5 if "alpha" in changed else 2.0):
            state = (1.0, 0.5, 0.0)
            for t in range(1, 4):
                state = lookahead(two_speeds)(state[0], 0.7, *state[1:], t=t, **{"lookahead.k": 2.0, changed: value})
            results.append(state)
        assert results[0] != results[1], changed


@pytest.mark.parametrize(
    ("nonsense", "reason"),
    [
        (
            lambda: cautious(lookahead(adamw)),
            "cautious needs the rule's update, but lookahead changes the weights after it",
        ),
        (lambda: cautious(clip_norm(averaged(adamw))), "averaged changes the weights after it; write averaged"),
        (lambda: lookahead(lookahead(adamw)), "lookahead is already there"),
        (lambda: lookahead(cautious(lookahead(adamw))), "update, but lookahead changes"),
        (lambda: averaged(lookahead(adamw)), "both averaged and lookahead own the weights used at evaluation"),
        (lambda: lookahead("adamw"), "lookahead wraps a rule, got 'adamw'"),
        (lambda: lookahead(adamw, kk=3), "lookahead has no argument 'kk'; did you mean 'k'"),
        (lambda: cautious(adamw, k=3), "cautious has no argument 'k' .it has rescale"),
    ],
)
def test_nonsense_is_refused_with_a_reason(nonsense: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason) as caught:
        nonsense()
    assert "\n" not in str(caught.value)


def test_a_rule_without_an_update_cannot_be_cautious() -> None:
    p = Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(TypeError, match="must return `p - update`"):
        ravine.optimizer(cautious(leaping))([p], engine="reference").step()


@pytest.mark.parametrize(
    "made",
    [
        lookahead(cautious(clip_norm(adamw))), clip_norm(lookahead(cautious(adamw))), averaged(cautious(lion)),
        lookahead(clip_norm(cautious(adamw))), averaged(clip_norm(two_speeds)), compose.maximize(lookahead(lion)),
        cautious(without_momentum(adamw)),
    ],
    ids=repr,
)  # fmt: skip
def test_wrappers_nest_in_any_sensible_order(made: ravine.Rule) -> None:
    params = [Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), Parameter(torch.ones(4))]
    optimizer = ravine.optimizer(made)(params, lr=0.1, engine="reference")
    before = [p.detach().clone() for p in params]
    for _ in range(6):
        for p in params:
            p.grad = p.detach() * 0.5 + 0.1
        optimizer.step()
    names = {s.name for symbol, s in made.state.items() if symbol not in made.absent_states(made.defaults, (2, 3))}
    assert set(optimizer.state[params[0]]) == {"step", *names}
    assert all(p.isfinite().all() and not torch.equal(p, q) for p, q in zip(params, before, strict=True))


def test_the_order_of_wrappers_means_something() -> None:
    """maximize(lookahead(x)) and lookahead(maximize(x)) are the same; cautious inside or outside of clipping is not."""

    def end(made: ravine.Rule) -> torch.Tensor:
        p = Parameter(torch.linspace(-1, 1, 7))
        optimizer = ravine.optimizer(made)([p], lr=0.1, engine="reference")
        for step in range(7):
            p.grad = torch.cos(p.detach() * (step + 1)) * 3
            optimizer.step()
        return p.detach()

    assert torch.equal(end(compose.maximize(lookahead(adamw))), end(lookahead(compose.maximize(adamw))))
    assert not torch.equal(end(compose.maximize(adamw)), end(adamw))
    assert not torch.equal(end(clip_norm(sgd)), end(sgd))


def test_a_pinned_hyperparameter_takes_its_state_along() -> None:
    """Schedule-Free holds Adam's β₁ at 0: the first moment vanishes, from the states and from the arithmetic."""
    made = without_momentum(adamw)
    assert "m" not in made.state and "beta1" not in made.defaults
    assert list(made.state) == ["without_momentum.z", "v", "v_max"]
    p, v, z = 1.0, 0.0, 1.0
    q, w = 1.0, 0.0
    for t in range(1, 5):
        p, z, v = made(p, 0.5 * t, z, v, t=t, lr=0.1, weight_decay=0.0)
        q, _, w = adamw(q, 0.5 * t, 0.0, w, t=t, lr=0.1, beta1=0.0, weight_decay=0.0)
        assert (p, z, v) == (pytest.approx(q, rel=1e-14), pytest.approx(q, rel=1e-14), w)
    optimizer = ravine.optimizer(made)([Parameter(torch.ones(3))], engine="reference")
    assert "betas" not in optimizer.param_groups[0] and optimizer.param_groups[0]["beta2"] == 0.999
    untouched = without_momentum(sgd)
    assert "m" in untouched.state


def test_evaluation_weights_of_ones_own() -> None:
    @wrapper(
        paper="a test",
        side="weights",
        state={"z": State("z", init="p")},
        at_eval=lambda p, states, hyper: p + hyper["far.by"] * (states["far.z"] - p),
    )
    def far(base, p, g, z, *states, by=2.0, **hyper):
        """Far: weights for evaluation that are computed."""
        p, *states = base(p, g, *states, **hyper)
        return p, z, *states

    p = Parameter(torch.zeros(2))
    optimizer = ravine.optimizer(far(sgd))([p], lr=1.0, engine="reference", **{"far.by": 3.0})
    p.grad = torch.ones(2)
    optimizer.step()
    with optimizer.evaluation_weights():
        assert torch.equal(p, torch.full((2,), 2.0))  # −1 + 3·(0 − (−1))
    assert torch.equal(p, torch.full((2,), -1.0))


def test_an_update_is_exact_where_a_difference_is_not() -> None:
    """At lr 1e-8 in float32 q − p is 0 for most elements; the update that a wrapper is shown is not."""
    seen = []

    @wrapper(paper="a test", side="update")
    def watching(base, p, g, *states, **hyper):
        """Watching: keeps the update it sees."""
        u, states = update_of(base, p, g, *states, **hyper)
        seen.append(u)
        return p - u, *states

    p = np.linspace(1, 2, 1000, dtype=np.float32)
    g = np.linspace(0.1, 1, 1000, dtype=np.float32)
    q, _ = watching(momentum)(p, g, np.zeros_like(p), t=1, lr=1e-8, beta=0.0)
    (u,) = seen
    np.testing.assert_array_equal(u, np.float32(1e-8) * g)
    assert np.mean(q - p == 0) > 0.7


def test_info_tells_what_is_there() -> None:
    assert set(ravine.available()) >= {
        "sgd",
        "momentum",
        "adagrad",
        "rmsprop",
        "adam",
        "amsgrad",
        "adamw",
        "lion",
        "lamb",
    }
    for name in ravine.available():
        assert lookup(name).paper in str(info(name)) or lookup(name).paper in repr(vars(info(name)))


def test_has_and_absent_values() -> None:
    assert not has(ZERO) and not has(EYE) and has(0.0) and has(np.zeros(2))
    assert (
        where(np.array([True, False]), np.ones(2), 0.0).tolist() == [1.0, 0.0] and mean(np.array([True, False])) == 0.5
    )
