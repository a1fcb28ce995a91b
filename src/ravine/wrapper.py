"""Wrappers: functions from rule to rule, in a namespace of their own, so that any two nest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from ravine.math import ZERO, Zero
from ravine.registry import lookup_wrapper, nearest, registered, resolve
from ravine.rule import Rule, State, keyword_only, positional

# One rule for one meaning: engines and classes know rules by identity.
_made: dict[Any, Rule] = {}


@dataclass(frozen=True, eq=False)
class Wrapper:
    """A function from rule to rule. `lookahead(adamw, k=10)` is a rule with lookahead's states before adamw's.

    `side` says what it touches: the `gradient` before the rule, the rule's `update`, or the `weights` after it.
    """

    function: Callable[..., tuple[Any, ...]]
    name: str
    paper: str
    doc: str
    side: Literal["gradient", "update", "weights"]
    state: Mapping[str, State]
    own: Mapping[str, Any]
    takes: tuple[str, ...]
    pins: Mapping[str, str | None]
    ranges: Mapping[str, str]
    at_eval: str | Callable[..., Any] | None

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

    def _wrap(self, base: Rule, own: dict[str, Any]) -> Rule:
        vanished = {symbol for hyper, symbol in self.pins.items() if hyper in base.defaults and symbol}
        kept = {k: s for k, s in base.state.items() if k not in vanished}
        prefixed = {f"{self.name}.{k}": self._prefixed(s) for k, s in self.state.items()}
        return Rule(
            function=_wrapped(self, base, tuple(k in kept for k in base.state)),
            name=f"{self.name}({base.name})",
            paper=f"{self.paper}; around {base.paper}",
            doc=f"{self.title}{base.title}: {self.doc.split(':', 1)[-1].strip()}",
            state=MappingProxyType({**prefixed, **kept}),
            defaults=MappingProxyType(
                {k: v for k, v in base.defaults.items() if k not in self.pins}
                | {f"{self.name}.{k}": v for k, v in own.items()}
            ),
            inputs=base.inputs,
            view=base.view,
            decay=base.decay,
            ranges=MappingProxyType({**base.ranges, **{f"{self.name}.{k}": v for k, v in self.ranges.items()}}),
            base=base,
            wrapper=self,
            check=base.check,
            at_eval=f"{self.name}.{self.at_eval}" if isinstance(self.at_eval, str) else self.at_eval or base.at_eval,
        )

    def _prefixed(self, state: State) -> State:
        """A state of the wrapper's own, with its name and the hyperparameters it looks at in the namespace."""

        def inside(name: Any) -> Any:
            return f"{self.name}.{name}" if isinstance(name, str) and name in self.own else name

        return replace(state, name=f"{self.name}.{state.name}", init=inside(state.init), when=inside(state.when))

    def _refuse_nonsense(self, base: Rule) -> None:
        inside: Rule | None = base
        while inside is not None and inside.wrapper is not None:
            other = inside.wrapper
            if other is self:
                raise TypeError(f"{self.name}({base.name}): {self.name} is already there; once is all it can do")
            if self.at_eval and other.at_eval:
                raise TypeError(
                    f"{self.name}({base.name}): both {self.name} and {other.name} own the weights used at evaluation; "
                    "only one may"
                )
            if self.side == "update" and other.side == "weights":
                raise TypeError(
                    f"{self.name}({base.name}): {self.name} needs the rule's update, but {other.name} changes the "
                    f"weights after it; write {other.name}({self.name}(...))"
                )
            inside = inside.base


def _wrapped(wrapper: Wrapper, base: Rule, kept: tuple[bool, ...]) -> Callable[..., tuple[Any, ...]]:
    """The function of a wrapped rule: the wrapper's, with its base bound and its names out of their namespace."""
    prefix = wrapper.name + "."
    pinned = {k: ZERO for k in wrapper.pins if k in base.defaults}

    def call_base(p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, ...]:
        understood = {"t", "l2", *base.defaults, *base.inputs}
        known = {k: v for k, v in hyper.items() if k in understood or not isinstance(v, Zero)}
        remaining = iter(states)
        all_states = [next(remaining) if keep else ZERO for keep in kept]
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
    side: Literal["gradient", "update", "weights"],
    state: Mapping[str, str | State] | None = None,
    pins: Mapping[str, str | None] | None = None,
    ranges: Mapping[str, str] | None = None,
    at_eval: str | Callable[..., Any] | None = None,
) -> Callable[[Callable[..., tuple[Any, ...]]], Wrapper]:
    """Declare a function `(base, p, g, *own states, *states, **hyper)` to be a wrapper.

    Its keyword-only arguments with a default are its own hyperparameters, in its namespace; those without one
    (`t`, `lr`, `weight_decay`) are taken out of the base rule's, and it passes on what the base shall see.

    Args:
        paper: where the wrapper comes from.
        side: what it touches; an update-side wrapper refuses a base whose weights are changed after the update.
        state: its own states, as for `rule`.
        pins: hyperparameters of the base held at `ZERO`, each with the state symbol that vanishes with it, or None.
        ranges: allowed values of its own hyperparameters, as for `rule`.
        at_eval: the state that holds the weights used at evaluation, or a function (p, states, hyper) of them.
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
            MappingProxyType(dict(ranges or {})), at_eval,
        )  # fmt: skip
        return made

    return declare
