"""Which wrapper goes around which rule: what is refused when it is written, with the reason, and what vanishes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from ravine import Rule, State, available, lookup, rule, wrapper
from ravine.compose import (
    cautious,
    centralized,
    clip_norm,
    clipped_update,
    ema,
    lookahead,
    maximize,
    rectified,
    schedule_free,
    update_of,
)
from ravine.math import maximum, rms, sqrt
from ravine.registry import lookup_wrapper, wrappers
from ravine.rules import adamw, lion, sgd
from ravine.wrapper import rehearse

ALL = sorted(available())
NEW = (centralized, clipped_update, ema, rectified, schedule_free)


@rule(paper="a test", state={"mean": "mean"})
def hidden_momentum(p, g, mean, *, t, lr=0.1, keep=0.9):
    """HiddenMomentum: a momentum under names that no wrapper knows."""
    mean = keep * mean + (1 - keep) * g
    return p - lr * mean, mean


@rule(paper="a test", state={"s": "square"})
def squares_by_beta1(p, g, s, *, t, lr=0.1, beta1=0.9):
    """SquaresByBeta1: beta1 is not the memory of a momentum."""
    s = beta1 * s + (1 - beta1) * g**2
    return p - lr * g / (sqrt(s) + 1e-8), s


@rule(paper="a test")
def leaping(p, g, *, t, lr=0.1):
    """Leaping: a rule that does not end in p - update."""
    return (0.5 * p + 0.5 * g,)


@rule(paper="a test")
def late(p, g, *, t, lr=0.1):
    """Late: a rule whose first steps do nothing, and whose later ones are no update."""
    return (p,) if t < 4 else (p * (1 - lr),)


@rule(
    paper="a test",
    state={"m": State("m", when="momentum"), "twin": State("twin", when="momentum"), "v": State("v", when="on")},
    check=lambda h: "momentum must be below 0.5" if h["momentum"] >= 0.5 else None,
)
def with_twin(p, g, m, twin, v, *, t, lr=0.1, momentum=0.25, on=True):
    """WithTwin: two states under one hyperparameter, which a check looks at."""
    return p - lr * (g + momentum * m), m + g * momentum, twin + momentum, v + g**2


def made_by(wrap: Any) -> set[str]:
    made = set()
    for name in ALL:
        try:
            wrap(lookup(name))
            made.add(name)
        except TypeError:
            pass
    return made


# Which rules go together with which wrappers


@pytest.mark.parametrize("wrap", [ema, lookahead, clip_norm, maximize, centralized], ids=repr)
def test_gradients_and_weights_may_be_changed_around_every_rule(wrap: Any) -> None:
    assert made_by(wrap) == set(ALL)


def test_every_rule_is_an_update() -> None:
    assert made_by(cautious) == set(ALL)
    assert made_by(clipped_update) == set(ALL) - {"prodigy"}


def test_schedule_free_goes_around_rules_that_live_without_momentum() -> None:
    """Decided by a rehearsal, for rules of one's own too; these are the ones that were here when it was written."""
    fit = {
        "sgd", "lars", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "amsgrad", "adamax", "radam", "adopt", "lamb",
        "sophia", "stableadamw", "adafactor", "adafactor_paper",
    }  # fmt: skip
    unfit = {"momentum", "nesterov", "nadam", "nadamw", "mars", "lion", "adan", "ademamix", "prodigy"}
    made = made_by(schedule_free)
    assert (made & fit, made & unfit) == (fit & set(ALL), set())


def test_rectification_needs_adams_second_moment() -> None:
    fit = {"adam", "adamw", "amsgrad", "nadam", "nadamw", "adopt", "lamb", "mars", "ademamix", "prodigy", "stableadamw"}
    unfit = {"sgd", "momentum", "rmsprop", "adagrad", "lion", "sophia", "adamax", "adan", "radam", "adafactor", "muon"}
    made = made_by(rectified)
    assert (made & fit, made & unfit) == (fit & set(ALL), set())


@pytest.mark.parametrize(
    ("nonsense", "reason"),
    [
        (lambda: ema(lookahead(adamw)), "both ema and lookahead own the weights used at evaluation; only one may"),
        (lambda: ema(schedule_free(adamw)), "both ema and schedule_free own the weights used at evaluation"),
        (lambda: lookahead(clip_norm(schedule_free(sgd))), "both lookahead and schedule_free own"),
        (lambda: schedule_free(ema(adamw)), "both schedule_free and ema own"),
        (lambda: schedule_free(schedule_free(adamw)), "schedule_free is already there"),
        (
            lambda: cautious(schedule_free(adamw)),
            r"schedule_free changes the weights after it; write schedule_free\(cau",
        ),
        (
            lambda: clipped_update(ema(adamw)),
            r"ema changes the weights after it; write ema\(clipped_update\(\.\.\.\)\)",
        ),
        (
            lambda: schedule_free(lookup("momentum")),
            r"momentum's place, and momentum is one; write schedule_free\(sgd\)",
        ),
        (lambda: schedule_free(lion), "lion has a momentum that cannot be taken out"),
        (lambda: schedule_free(clip_norm(cautious(lion))), "lion has a momentum that cannot be taken out"),
        (lambda: schedule_free(hidden_momentum), "hidden_momentum has a momentum that cannot be taken out"),
        (lambda: schedule_free(leaping), "so leaping must return `p - update` as its parameter"),
        (lambda: cautious(late), "so late must return `p - update`"),
        (lambda: rectified(sgd), r"rectified needs beta2, which sgd does not have \(it has lr, momentum"),
        (lambda: rectified(lion), "rectified corrects an average of squared gradients, and lion keeps none"),
        (lambda: rectified(maximize(lion)), "and lion keeps none"),
        (lambda: rectified(rectified(adamw)), "rectified is already there"),
        (lambda: ema(adamw, alpha=0.5), "ema has no argument 'alpha'.*it has beta"),
    ],
)
def test_nonsense_is_refused_when_it_is_written(nonsense: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason) as caught:
        nonsense()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        lookahead(rectified(adamw)), rectified(lookahead(adamw)), ema(clipped_update(cautious(adamw))),
        cautious(clipped_update(centralized(adamw))), clipped_update(cautious(lion)), schedule_free(cautious(adamw)),
        schedule_free(clipped_update(adamw)), clip_norm(rectified(schedule_free(centralized(adamw)))),
        maximize(schedule_free(sgd)), schedule_free(squares_by_beta1), centralized(ema(sgd)),
    ],
    ids=repr,
)  # fmt: skip
def test_what_makes_sense_nests_steps_and_is_pickled(made: Rule) -> None:
    params = [Parameter(torch.linspace(-1, 1, 24).reshape(2, 3, 4)), Parameter(torch.ones(4))]
    optimizer = ravine.optimizer(made)(params, lr=0.1, engine="reference")
    before = [p.detach().clone() for p in params]
    for _ in range(8):
        for p in params:
            p.grad = p.detach() * 0.5 + torch.linspace(0.1, 0.2, p.numel()).reshape(p.shape)
        optimizer.step()
    absent = made.absent_states(made.defaults, made.seen_shape((2, 3, 4)))
    assert set(optimizer.state[params[0]]) == {"step", *(s.name for k, s in made.state.items() if k not in absent)}
    assert all(p.isfinite().all() and not torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert pickle.loads(pickle.dumps(made)) is made


def test_wrappers_are_found_by_name_and_have_titles() -> None:
    titles = {lookup_wrapper(name).title for name in wrappers()}
    assert {"ScheduleFree", "EMA", "Rectified", "ClippedUpdate", "Centralized"} <= titles
    for wrap in NEW:
        assert lookup_wrapper(wrap.name) is wrap and lookup(f"{wrap.name}(adamw)") is wrap(adamw)
        assert wrap.paper and len(wrap.doc.split(":", 1)[1]) > 20


# What a pinned hyperparameter takes along


def test_a_pin_with_a_state_leaves_rules_without_that_state_alone() -> None:
    """`beta1` of a rule whose second moment it is must not be held at 0."""
    made = schedule_free(squares_by_beta1)
    assert "beta1" in made.defaults and "s" in made.state
    assert set(schedule_free(adamw).defaults) & {"beta1", "beta2"} == {"beta2"}


def test_states_under_a_pinned_hyperparameter_vanish_and_checks_still_see_it() -> None:
    @wrapper(paper="a test", side="gradient", pins={"momentum": "m"})
    def still(base, p, g, *states, **hyper):
        """Still: without momentum."""
        return base(p, g, *states, **hyper)

    made = still(with_twin)
    assert list(made.state) == ["v"] and list(made.defaults) == ["lr", "on"]
    assert made.check is not None and made.check({"lr": 0.1, "on": True}) is None
    assert made(1.0, 2.0, 0.5, t=1) == (0.8, 4.5)
    with pytest.raises(TypeError, match="has no hyperparameter 'momentum'"):
        made(1.0, 2.0, 0.5, t=1, momentum=0.1)


def test_functions_of_presence_see_pinned_hyperparameters() -> None:
    @rule(
        paper="a test",
        state={"m": State("m", when="momentum"), "v": State("v", when=lambda h, s: not h["momentum"] and len(s) > 1)},
    )
    def choosy(p, g, m, v, *, t, lr=0.1, momentum=0.5):
        """Choosy: a state that is there only without momentum, for matrices."""
        return p - lr * g, m, v + g**2

    made = schedule_free(choosy)
    assert "v" in made.absent_states(made.defaults, (3,))
    assert "v" not in made.absent_states(made.defaults, (3, 3))


# Rehearsals


def test_a_rehearsal_gives_the_last_update_through_the_states_alone() -> None:
    update, states = rehearse(sgd, {"momentum": 0.5})
    turned, _ = rehearse(sgd, {"momentum": 0.5}, early=-1.0)
    memory = rehearse(sgd, {"momentum": 0.5}, early=0.0)[0]
    np.testing.assert_allclose(update + turned, 2 * memory, rtol=1e-12)
    assert not np.allclose(update, turned) and set(states) == {"m"}
    np.testing.assert_array_equal(rehearse(sgd, {})[0], rehearse(sgd, {}, early=-1.0)[0])
    assert rehearse(leaping, {}) is None


def test_a_rehearsal_gives_inputs_and_every_kind_of_state() -> None:
    seen: dict[str, Any] = {}

    @rule(
        paper="a test",
        state={
            "h": State("h", kind="host", init="start"),
            "d": State("d", kind="shared", init=2.0),
            "row": State("row", kind="row"),
            "column": State("column", kind="column", init=1.0),
            "left": State("left", kind="left", init="identity"),
            "right": State("right", kind="right", init=3.0),
            "p0": State("p0", init="p"),
        },
        inputs=("hessian",),
        view="matrix",
    )
    def everything(p, g, h, d, row, column, left, right, p0, *, t, hessian=None, lr=0.1, start=0.5):
        """Everything: one state of each kind."""
        seen.setdefault("first", (h, d, row, column, left, right, p0, hessian))
        return p - lr * g / maximum(rms(g), 1e-8), h, d, row, column, left, right, p0  # fmt: skip

    cautious(everything)
    h, d, row, column, left, right, p0, hessian = seen["first"]
    assert (h, d) == (0.5, 2.0) and (row.shape, column.shape) == ((2, 1), (1, 2))
    assert left.tolist() == [[1, 0], [0, 1]] and right.tolist() == [[3, 0], [0, 3]]
    assert p0.shape == hessian.shape == (2, 2) and (hessian >= 0).all()


def test_a_wrapper_of_ones_own_needs_fits_and_views() -> None:
    def complaint(base: Rule, pinned: Any) -> str | None:
        return "only around sgd" if base.innermost is not sgd else None

    @wrapper(paper="a test", side="both", needs=("momentum",), fit=complaint, view="outputs")
    def picky(base, p, g, *states, **hyper):
        """Picky: for one rule."""
        u, states = update_of(base, p, g, *states, **hyper)
        return p - 2 * u, *states

    assert picky(sgd).view == "outputs" and picky(sgd).seen_shape((2, 3, 4)) == (2, 12)
    assert picky(sgd)(1.0, 1.0, t=1, lr=0.25) == (0.5,)
    with pytest.raises(TypeError, match=r"picky\(adamw\): picky needs momentum, which adamw does not have"):
        picky(adamw)
    with pytest.raises(TypeError, match=r"picky\(nesterov\): only around sgd"):
        picky(lookup("nesterov"))
    with pytest.raises(TypeError, match="cautious needs the rule's update, but picky changes the weights after it"):
        cautious(picky(sgd))


# Classes by title


@pytest.mark.parametrize(
    ("title", "spec"),
    [
        ("ScheduleFreeAdamW", "schedule_free(adamw)"),
        ("LookaheadAdamW", "lookahead(adamw)"),
        ("EMAScheduleFreeAdamW", None),
        ("RectifiedScheduleFreeAdamW", "rectified(schedule_free(adamw))"),
        (
            "LookaheadCautiousClippedUpdateCentralizedAMSGrad",
            "lookahead(cautious(clipped_update(centralized(amsgrad))))",
        ),
        ("ClipNormLAMB", "clip_norm(lamb)"),
    ],
)
def test_classes_are_at_hand_by_their_titles(title: str, spec: str | None) -> None:
    if spec is None:
        with pytest.raises(AttributeError, match="both ema and schedule_free own the weights used at evaluation"):
            getattr(ravine, title)
        return
    made = getattr(ravine, title)
    assert made is getattr(ravine, title) and made.rule is lookup(spec)
    assert (made.__name__, made.__module__) == (title, "ravine")
    assert repr(made([Parameter(torch.ones(2))])).startswith(title)


@pytest.mark.parametrize("name", ["Lookahead", "LookaheadNothing", "AdamWLookahead", "lookaheadAdamW", "EMA", "__path"])
def test_other_names_are_no_attributes(name: str) -> None:
    assert not hasattr(ravine, name)
    with pytest.raises(AttributeError, match=f"module 'ravine' has no attribute '{name}'"):
        getattr(ravine, name)
