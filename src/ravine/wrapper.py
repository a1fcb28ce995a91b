"""Wrappers: functions from rule to rule, in a namespace of their own, so that any two nest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ravine.math import ZERO, Origin, Zero
from ravine.registry import lookup_wrapper, nearest, registered, resolve
from ravine.rule import Rule, State, View, keyword_only, positional

Side = Literal["gradient", "update", "weights", "both"]
Fit = Callable[[Rule, Mapping[str, Any]], str | None]

REHEARSED_STEPS = 6  # the first two of them are special in some rules, RAdam's first five

# One rule for one meaning: engines and classes know rules by identity.
_made: dict[Any, Rule] = {}


@dataclass(frozen=True, eq=False)
class Wrapper:
    """A function from rule to rule. `lookahead(adamw, k=10)` is a rule with lookahead's states before adamw's.

    `side` says what it touches: the `gradient` before the rule, the rule's `update`, the `weights` after it, or `both`
    update and weights.
    """

    function: Callable[..., tuple[Any, ...]]
    name: str
    paper: str
    doc: str
    side: Side
    state: Mapping[str, State]
    own: Mapping[str, Any]
    takes: tuple[str, ...]
    pins: Mapping[str, str | None]
    ranges: Mapping[str, str]
    at_eval: str | Callable[..., Any] | None
    needs: tuple[str, ...] = ()
    fit: Fit | None = None
    view: View | None = None

    def __repr__(self) -> str:
        return f"<wrapper {self.name}>"

    def __reduce__(self) -> Any:
        if registered(self):
            return (lookup_wrapper, (self.name,))
        return (resolve, (self.function.__module__, self.function.__qualname__))

    def __deepcopy__(self, memo: Any) -> Wrapper:
        return self

    @property
    def title(self) -> str:
        """The wrapper's name in a class name (`Lookahead`)."""
        return self.doc.split(":", 1)[0].strip()

    def __call__(self, base: Rule, **own: Any) -> Rule:
        """Wrap a rule; keyword arguments change the wrapper's own defaults. The same call gives the same rule.

        Raises:
            TypeError: for an unknown argument, or a combination that makes no sense, with the reason.
        """
        if not isinstance(base, Rule):
            raise TypeError(f"{self.name} wraps a rule, got {base!r}; write {self.name}(ravine.rules.adamw)")
        for name in own:
            if name not in self.own:
                allowed = ", ".join(self.own) or "none"
                hint = nearest(name, list(self.own))
                raise TypeError(f"{self.name} has no argument {name!r}{hint} (it has {allowed})")
        own = {**self.own, **own}
        key = (self, base, tuple((type(value), value) for value in own.values()))
        if key not in _made:
            self._refuse_nonsense(base)
            _made[key] = self._wrap(base, own)
        return _made[key]

    def pinned(self, base: Rule) -> dict[str, Zero]:
        """The base's hyperparameters that are held at `ZERO`: those whose state, if they have one, the base has too."""
        return {k: ZERO for k, s in self.pins.items() if k in base.defaults and (s is None or s in base.state)}

    def _wrap(self, base: Rule, own: dict[str, Any]) -> Rule:
        pinned = self.pinned(base)
        gone = {self.pins[k] for k in pinned}
        kept = {k: _under(s, pinned) for k, s in base.state.items() if k not in gone and s.when not in pinned}
        prefixed = {f"{self.name}.{k}": self._prefixed(s) for k, s in self.state.items()}
        check = base.check
        return Rule(
            function=_wrapped(self, base, tuple(k in kept for k in base.state)),
            name=f"{self.name}({base.name})",
            paper=f"{self.paper}; around {base.paper}",
            doc=f"{self.title}{base.title}: {self.doc.split(':', 1)[-1].strip()}",
            state=MappingProxyType({**prefixed, **kept}),
            defaults=MappingProxyType(
                {k: v for k, v in base.defaults.items() if k not in pinned}
                | {f"{self.name}.{k}": v for k, v in own.items()}
            ),
            inputs=base.inputs,
            view=base.view or self.view,
            decay=base.decay,
            ranges=MappingProxyType({**base.ranges, **{f"{self.name}.{k}": v for k, v in self.ranges.items()}}),
            base=base,
            wrapper=self,
            packed=MappingProxyType(self._still_packed(base)),
            aliases=base.aliases,
            check=check and (lambda hyper: check({**hyper, **pinned})),
            at_eval=f"{self.name}.{self.at_eval}" if isinstance(self.at_eval, str) else self.at_eval or base.at_eval,
        )

    def _still_packed(self, base: Rule) -> dict[str, tuple[str, ...]]:
        """What stays in a tuple where some of it is pinned."""
        left = {k: tuple(n for n in names if n not in self.pins) for k, names in base.packed.items()}
        return {k: names for k, names in left.items() if len(names) > 1}

    def _prefixed(self, state: State) -> State:
        """A state of the wrapper's own, with its name and the hyperparameters it looks at in the namespace."""

        def inside(name: Any) -> Any:
            return f"{self.name}.{name}" if isinstance(name, str) and name in self.own else name

        return replace(state, name=f"{self.name}.{state.name}", init=inside(state.init), when=inside(state.when))

    def _refuse_nonsense(self, base: Rule) -> None:
        """Raise TypeError, with the reason, where the wrapper makes no sense around this rule."""
        wrapped = f"{self.name}({base.name})"
        for name in self.needs:
            if name not in base.defaults:
                allowed = ", ".join(base.defaults)
                raise TypeError(
                    f"{wrapped}: {self.name} needs {name}, which {base.name} does not have (it has {allowed})"
                )
        inside: Rule | None = base
        while inside is not None and inside.wrapper is not None:
            other = inside.wrapper
            if other is self:
                raise TypeError(f"{wrapped}: {self.name} is already there; once is all it can do")
            if self.at_eval and other.at_eval:
                raise TypeError(
                    f"{wrapped}: both {self.name} and {other.name} own the weights used at evaluation; only one may"
                )
            if self.side in ("update", "both") and other.side in ("weights", "both"):
                raise TypeError(
                    f"{wrapped}: {self.name} needs the rule's update, but {other.name} changes the "
                    f"weights after it; write {other.name}({self.name}(...))"
                )
            inside = inside.base
        if type(base.innermost) is not Rule:
            return  # a rule that is listened to has been accepted before, and would tell of the rehearsal
        if self.side in ("update", "both") and rehearse(base, self.pinned(base)) is None:
            raise TypeError(
                f"{wrapped}: {self.name} needs the rule's update, so {base.name} must return `p - update` as its "
                "parameter"
            )
        complaint = self.fit(base, self.pinned(base)) if self.fit else None
        if complaint:
            raise TypeError(f"{wrapped}: {complaint}")


def rehearse(base: Rule, pinned: Mapping[str, Any], early: float = 1.0) -> tuple[Any, dict[str, Any]] | None:
    """The last update of a few steps of a rule, and the states after them, by symbol.

    The parameter is a 2 × 2 matrix at a place of its own in each step, whatever the rule's steps would have made of it:
    what the last update depends on has come to it through the states alone.

    Args:
        base: the rule, at its defaults.
        pinned: hyperparameters held at other values.
        early: all gradients but the last are multiplied by it.

    Returns:
        The update x and the states, or None if the rule does not return `p - x`.
    """
    hyper = {**base.defaults, **pinned}
    absent = base.absent_states(hyper, (2, 2))
    places = [np.sin(1.7 * k + np.arange(4.0)).reshape(2, 2) for k in range(2 * REHEARSED_STEPS)]
    states = {k: absent[k] if k in absent else _initial(s, hyper, places[0]) for k, s in base.state.items()}
    for t in range(1, REHEARSED_STEPS + 1):
        p, g = places[t - 1], places[-t] * (early if t < REHEARSED_STEPS else 1.0)
        inputs = {name: np.abs(g) for name in base.inputs}
        moved, *new = base(Origin(p), g, *states.values(), t=t, **pinned, **inputs)
        states = dict(zip(states, new, strict=True))
        if not isinstance(moved, Origin):
            return None
    return moved.moved + moved.decayed, states


def _initial(state: State, hyper: Mapping[str, Any], p: np.ndarray) -> Any:
    """A state before the first step of a rehearsal."""
    init = hyper.get(state.init, state.init) if isinstance(state.init, str) else state.init
    if state.kind in ("host", "shared"):
        return float(init)
    if init == "p":
        return p.copy()
    if state.kind in ("left", "right"):
        return (1.0 if init == "identity" else float(init)) * np.eye(2)
    return np.full(state.shape((2, 2)), float(init))


def _under(state: State, pinned: Mapping[str, Any]) -> State:
    """A state whose presence is asked of the hyperparameters as the base knows them, pinned ones included."""
    when = state.when
    if not pinned or when is None or isinstance(when, str):
        return state
    return replace(state, when=lambda hyper, shape: when({**hyper, **pinned}, shape))


def _wrapped(wrapper: Wrapper, base: Rule, kept: tuple[bool, ...]) -> Callable[..., tuple[Any, ...]]:
    """The function of a wrapped rule: the wrapper's, with its base bound and its names out of their namespace."""
    prefix = wrapper.name + "."
    pinned = wrapper.pinned(base)
    vanished = [None if keep else s.absent for s, keep in zip(base.state.values(), kept, strict=True)]

    def call_base(p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, ...]:
        understood = {"t", "l2", *base.defaults, *base.inputs}
        known = {k: v for k, v in hyper.items() if k in understood or not isinstance(v, Zero)}
        remaining = iter(states)
        all_states = [next(remaining) if absent is None else absent for absent in vanished]
        result = base(p, g, *all_states, **{**known, **pinned})
        return (result[0], *(s for s, keep in zip(result[1:], kept, strict=True) if keep))

    def wrapped(p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, ...]:
        own = {k.removeprefix(prefix): v for k, v in hyper.items() if k.startswith(prefix)}
        rest = {k: v for k, v in hyper.items() if not k.startswith(prefix)}
        taken = {k: rest.pop(k, ZERO) for k in wrapper.takes}
        same_name = {k: rest.pop(k) for k in own if k in rest}
        return wrapper.function(partial(call_base, **same_name), p, g, *states, **own, **taken, **rest)

    wrapped.__module__, wrapped.__qualname__ = wrapper.function.__module__, wrapper.function.__qualname__
    return wrapped


def wrapper(
    paper: str,
    side: Side,
    state: Mapping[str, str | State] | None = None,
    pins: Mapping[str, str | None] | None = None,
    ranges: Mapping[str, str] | None = None,
    at_eval: str | Callable[..., Any] | None = None,
    needs: Sequence[str] = (),
    fit: Fit | None = None,
    view: View | None = None,
) -> Callable[[Callable[..., tuple[Any, ...]]], Wrapper]:
    """Declare a function `(base, p, g, *own states, *states, **hyper)` to be a wrapper.

    Its keyword-only arguments with a default are its own hyperparameters, in its namespace; those without one
    (`t`, `lr`, `weight_decay`) are taken out of the base rule's, and it passes on what the base shall see.

    Args:
        paper: where the wrapper comes from.
        side: what it touches: the `"gradient"`, the rule's `"update"`, the `"weights"`, or `"both"` of the last two. A
            wrapper of the update refuses a base that does not return `p - update`.
        state: its own states, as for `rule`.
        pins: hyperparameters of the base held at `ZERO`, each with the state symbol that vanishes with it, or None; one
            with a symbol is left alone where the base has no such state.
        ranges: allowed values of its own hyperparameters, as for `rule`.
        at_eval: the state that holds the weights used at evaluation, or a function (p, states, hyper) of them.
        needs: hyperparameters that the base must have.
        fit: a function of the base and its pinned hyperparameters that returns why the two do not go together, or None.
        view: how parameters are shown to wrapper and base, as for `rule`, unless the base has a view of its own.
    """

    def declare(function: Callable[..., tuple[Any, ...]]) -> Wrapper:
        states = {k: State(v) if isinstance(v, str) else v for k, v in (state or {}).items()}
        expected = ["base", "p", "g", *states]
        if positional(function) != expected:
            names = ", ".join(expected)
            raise TypeError(f"wrapper {function.__name__!r} must take ({names}, *states, ...) in this order")
        keywords = keyword_only(function)
        own = {k: v for k, v in keywords.items() if v is not inspect.Parameter.empty}
        made = Wrapper(
            function, function.__name__, paper, inspect.getdoc(function) or "", side, MappingProxyType(states),
            MappingProxyType(own), tuple(k for k in keywords if k not in own), MappingProxyType(dict(pins or {})),
            MappingProxyType(dict(ranges or {})), at_eval, tuple(needs), fit, view,
        )  # fmt: skip
        return made

    return declare
