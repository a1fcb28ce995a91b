"""Rules: optimizers as pure functions, what they declare, and how wrappers change them.

A rule is written once, as the algorithm box of its paper; engines, explanations and the optimizer read it.

Example:
    >>> from ravine.rule import rule
    >>> @rule(paper="Robbins & Monro 1951")
    ... def descent(p, g, *, t, lr=0.1, weight_decay=0.0):
    ...     '''Descent: gradient descent.'''
    ...     p = p - lr * (g + weight_decay * p)
    ...     return (p,)
    >>> descent(1.0, 2.0, t=1)
    (0.8,)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ravine.math import ZERO, Eye, Zero, owner
from ravine.registry import available, lookup, nearest, register, registered, resolve

if TYPE_CHECKING:
    from ravine.wrapper import Wrapper

__all__ = ["DECAYS", "Decay", "Rule", "State", "available", "identity", "lookup", "nearest", "register", "rule"]

Kind = Literal["full", "row", "column", "left", "right", "host", "shared"]
Decay = Literal["lr", "schedule", "lr_squared", "l2"]
View = Literal["matrix", "outputs"]
Shape = tuple[int, ...]
Check = Callable[[Mapping[str, Any]], str | None]
Presence = str | Callable[[Mapping[str, Any], Shape], bool]

DECAYS: tuple[Decay, ...] = ("lr", "schedule", "lr_squared", "l2")
identity = "identity"

STANDARD_RANGES: Mapping[str, str] = MappingProxyType(
    {
        "lr": "[0, inf)", "beta": "[0, 1)", "beta1": "[0, 1)", "beta2": "[0, 1)", "beta3": "[0, 1)", "alpha": "[0, 1]",
        "eps": "[0, inf)", "momentum": "[0, inf)", "weight_decay": "[0, inf)",
    }
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """One state of a rule: what it is called in a state dict, its shape and how it begins.

    Args:
        name: the key in `state_dict`; torch's where torch has the optimizer.
        init: a number, a hyperparameter's name, `"p"` (a copy of the parameter), or `identity` for square kinds.
        kind: `full` has the parameter's shape; `row` and `column` hold one value per row or column; `left` and
            `right` are square, rows × rows and columns × columns; `host` is one Python float per parameter;
            `shared` is one float per optimizer.
        when: the state exists only where this hyperparameter is truthy, or this function of (hyperparameters,
            shape) holds; default always.
        absent: what the rule is given where the state does not exist: `ZERO`, or `EYE` for a basis.
    """

    name: str
    init: float | str = 0.0
    kind: Kind = "full"
    when: Presence | None = None
    absent: Zero | Eye = ZERO

    def present(self, hyper: Mapping[str, Any], shape: Shape) -> bool:
        """Whether the state exists for a parameter of this shape under these hyperparameters."""
        if self.when is None:
            return True
        if isinstance(self.when, str):
            return bool(hyper[self.when])
        return bool(self.when(hyper, shape))

    def shape(self, shape: Shape) -> Shape:
        """The state's shape for a parameter of this shape; matrix kinds look at the last two dimensions."""
        if self.kind == "full":
            return shape
        if self.kind in ("host", "shared"):
            return ()
        if len(shape) < 2:
            raise ValueError(f"state {self.name!r} is of kind {self.kind!r} and needs a matrix, got shape {shape}")
        *batch, n, m = shape
        sides: dict[str, Shape] = {"row": (n, 1), "column": (1, m), "left": (n, n), "right": (m, m)}
        return (*batch, *sides[self.kind])


@dataclass(frozen=True)
class Alias:
    """Another library's name for a setting.

    Args:
        name: ours; None where ours has no such setting and the other's must have the only value listed.
        values: pairs of the other's value and ours, where they differ.
    """

    name: str | None
    values: tuple[tuple[Any, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Rule:
    """A pure function `(p, g, *states, t, **hyper) -> (p, *states)` and what it declares.

    `defaults` maps each hyperparameter to its default, `state` each of the rule's symbols to its `State`, both in
    the order of the signature. A wrapped rule's own names carry its namespace: `lookahead.k`, `lookahead.slow`.
    `packed` says which hyperparameters a group holds together in one tuple, as torch holds `betas`. `parent` names the
    rule of which this one is a change, and `reason` says in a sentence what it changes and why, for explanations alone.
    """

    function: Callable[..., tuple[Any, ...]]
    name: str
    paper: str
    doc: str
    state: Mapping[str, State]
    defaults: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    view: View | None = None
    decay: Decay = "lr"
    ranges: Mapping[str, str] = field(default_factory=dict)
    check: Check | None = None
    base: Rule | None = None
    wrapper: Wrapper | None = None
    at_eval: str | Callable[..., Any] | None = None
    preset_of: Rule | None = None
    packed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    parent: str | None = None
    reason: str | None = None

    @property
    def title(self) -> str:
        """The class name: the first word of the docstring, up to its colon (`AdamW`)."""
        return self.doc.split(":", 1)[0].strip()

    @property
    def summary(self) -> str:
        """The docstring's first line without the title."""
        return self.doc.strip().split("\n", 1)[0].split(":", 1)[-1].strip()

    @property
    def spec(self) -> str:
        """The rule's name in a checkpoint: a registered name, `module:qualname`, or `wrapper(...)` of one."""
        if self.wrapper is not None and self.base is not None:
            return f"{self.wrapper.name}({self.base.spec})"
        if registered(self):
            return self.name
        return f"{self.function.__module__}:{self.function.__qualname__}"

    @property
    def innermost(self) -> Rule:
        """The rule itself, below all wrappers."""
        return self if self.base is None else self.base.innermost

    @property
    def packs(self) -> dict[str, str]:
        """For each hyperparameter that groups hold in a tuple, as torch holds `betas`, the tuple's name."""
        return {name: pack for pack, names in self.packed.items() for name in names}

    @property
    def held_defaults(self) -> dict[str, Any]:
        """The defaults under the names in which groups hold them."""
        packs = self.packs
        held: dict[str, Any] = {}
        for name, value in self.defaults.items():
            pack = packs.get(name)
            held.setdefault(pack or name, tuple(self.defaults[n] for n in self.packed[pack]) if pack else value)
        return held

    @property
    def steps_matrices(self) -> bool:
        """Whether the rule itself, below all wrappers, sees each parameter as a matrix, and takes no other."""
        return self.innermost.view == "matrix"

    def __repr__(self) -> str:
        return f"<rule {self.spec}>"

    def __reduce__(self) -> Any:
        if self.wrapper is not None:
            own = {k.split(".", 1)[1]: v for k, v in self.defaults.items() if k.startswith(self.wrapper.name + ".")}
            return (_rewrap, (self.wrapper, self.base, own))
        if registered(self):
            return (lookup, (self.name,))
        return (resolve, (self.function.__module__, self.function.__qualname__))

    def __deepcopy__(self, memo: Any) -> Rule:
        return self

    def __call__(self, p: Any, g: Any, *states: Any, t: Any, l2: Any = ZERO, **hyper: Any) -> tuple[Any, ...]:
        """One step: the new parameter and the new states.

        Args:
            p, g, states: floats, NumPy arrays, torch tensors or symbols, the states in the order of `state`; either
                all of them, or only those that exist under these hyperparameters, and then only those come back.
            t: the step, from 1.
            l2: weight decay that enters the gradient of the innermost rule (`g + l2 * p`).
            hyper: hyperparameters; those not given take their defaults.
        """
        self.check_names(hyper)
        if type(p) in (int, float):
            given = (x if isinstance(x, (Zero, Eye)) else self.lifted(x) for x in (p, g, *states))
            result = self(*given, t=t, l2=l2, **hyper)
            return tuple(x if isinstance(x, (Zero, Eye)) else np.asarray(x).item() for x in result)
        if len(states) != len(self.state):
            return self._with_present_only(p, g, states, t=t, l2=l2, **hyper)
        with owner(self.wrapper.name if self.wrapper else self.name), np.errstate(all="ignore"):
            if self.wrapper is None:
                return self.function(p, g + l2 * p, *states, t=t, **{**self.defaults, **hyper})
            return self.function(p, g, *states, t=t, l2=l2, **{**self.defaults, **hyper})

    def lifted(self, number: float) -> Any:
        """A number as the rule takes it: in double, for a matrix rule as a matrix of one row and column."""
        return np.full((1, 1), number, dtype=np.float64) if self.steps_matrices else np.float64(number)

    def _with_present_only(self, p: Any, g: Any, states: tuple[Any, ...], **keywords: Any) -> tuple[Any, ...]:
        absent = self.absent_states({**self.defaults, **keywords}, tuple(getattr(p, "shape", ())))
        present = [symbol for symbol in self.state if symbol not in absent]
        if len(states) != len(present):
            raise TypeError(
                f"{self.name} takes the states ({', '.join(self.state)}), of which ({', '.join(present)}) exist here; "
                f"got {len(states)}"
            )
        given = dict(zip(present, states, strict=True)) | absent
        p, *new = self(p, g, *(given[symbol] for symbol in self.state), **keywords)
        return (p, *(x for symbol, x in zip(self.state, new, strict=True) if symbol not in absent))

    def check_names(self, hyper: Mapping[str, Any]) -> None:
        """Raise TypeError for a hyperparameter that the rule does not have."""
        for name in hyper:
            if name not in self.defaults and name not in self.inputs:
                allowed = ", ".join(self.defaults)
                raise TypeError(
                    f"{self.name} has no hyperparameter {name!r}{nearest(name, list(self.defaults))} (it has {allowed})"
                )

    def seen_shape(self, shape: Shape) -> Shape:
        """The shape under which the rule sees a parameter of this shape."""
        if self.view is not None and len(shape) > 2:
            return (shape[0], math.prod(shape[1:]))
        return shape

    def absent_states(self, hyper: Mapping[str, Any], shape: Shape) -> dict[str, Zero | Eye]:
        """The states that do not exist for this shape under these hyperparameters, with what stands for them."""
        return {symbol: s.absent for symbol, s in self.state.items() if not s.present(hyper, shape)}

    def preset(
        self,
        name: str,
        doc: str,
        paper: str,
        decay: Decay | None = None,
        parent: str | None = None,
        reason: str | None = None,
        check: Check | None = None,
        **defaults: Any,
    ) -> Rule:
        """The same rule under another name, with other defaults.

        Its parent is this one unless another is named, and so are its form of weight decay and its check; `reason` says
        in a sentence what it changes of its parent, and why.
        """
        self.check_names(defaults)
        return replace(
            self, name=name, doc=doc, paper=paper, decay=decay or self.decay, preset_of=self, check=check or self.check,
            parent=parent or self.name, reason=reason, defaults=MappingProxyType({**self.defaults, **defaults}),
        )  # fmt: skip


def keyword_only(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of a function with their defaults (`inspect.Parameter.empty` for none)."""
    parameters = inspect.signature(function).parameters.values()
    return {q.name: q.default for q in parameters if q.kind is inspect.Parameter.KEYWORD_ONLY}


def positional(function: Callable[..., Any]) -> list[str]:
    """The names of a function's positional parameters, in order."""
    parameters = inspect.signature(function).parameters.values()
    return [q.name for q in parameters if q.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def rule(
    paper: str,
    state: Mapping[str, str | State] | None = None,
    inputs: Sequence[str] = (),
    view: View | None = None,
    decay: Decay = "lr",
    ranges: Mapping[str, str] | None = None,
    check: Check | None = None,
    packed: Mapping[str, tuple[str, ...]] | None = None,
    aliases: Mapping[str, str | Alias] | None = None,
    parent: str | None = None,
    reason: str | None = None,
) -> Callable[[Callable[..., tuple[Any, ...]]], Rule]:
    """Declare a function to be a rule.

    Args:
        paper: where the algorithm comes from.
        state: for each state argument, its key in `state_dict` or a `State`.
        inputs: keyword-only arguments that are tensors from outside (a Hessian estimate); None when not given.
        view: `"matrix"` for a rule that steps matrices only, and sees parameters of more than two dimensions as (first,
            rest); `"outputs"` for one that sees these so, and takes vectors as well.
        decay: the customary form of weight decay, `"lr"` or `"l2"`.
        ranges: allowed values of hyperparameters, as intervals, of whole numbers only, or choices,
            `{"rho": "(0, inf)", "every": "whole [1, inf)", "form": "a | b"}`; standard names have theirs.
        check: a function of all hyperparameters that returns a complaint, or None.
        packed: hyperparameters that groups hold in one tuple, as in torch, `{"eps": ("eps1", "eps2")}`; two or more
            betas are held as `betas` in any case.
        aliases: torch's names for settings, where its class of the same name has others.
        parent: the name of the registered rule of which this one is a change, as its authors present it; explanations
            show the lines that differ.
        reason: what it changes of its parent, and why, in a sentence.

    Raises:
        TypeError: where the function's signature does not fit the declaration.
    """

    def declare(function: Callable[..., tuple[Any, ...]]) -> Rule:
        name = function.__name__
        states = {k: State(v) if isinstance(v, str) else v for k, v in (state or {}).items()}
        expected = ["p", "g", *states]
        if positional(function) != expected:
            raise TypeError(
                f"rule {name!r} must take ({', '.join(expected)}) in this order, as its states are declared; "
                f"got ({', '.join(positional(function))})"
            )
        keywords = keyword_only(function)
        if "t" not in keywords:
            raise TypeError(f"rule {name!r} must take the step as a keyword-only argument `t`")
        hyper = {k: v for k, v in keywords.items() if k != "t" and k not in inputs}
        missing = [k for k, v in hyper.items() if v is inspect.Parameter.empty]
        if missing:
            raise TypeError(f"rule {name!r} must give a default for {', '.join(missing)}")
        doc = inspect.getdoc(function) or ""
        if ":" not in doc.split("\n", 1)[0]:
            raise TypeError(f"rule {name!r} needs a docstring that begins with its title, like 'AdamW: Adam with ...'")
        known = {k: v for k, v in STANDARD_RANGES.items() if k in hyper}
        return Rule(
            function, name, paper, doc, MappingProxyType(states), MappingProxyType(hyper), tuple(inputs), view, decay,
            MappingProxyType({**known, **(ranges or {})}), check, packed=MappingProxyType(_packed(hyper, packed or {})),
            aliases=MappingProxyType({k: Alias(v) if isinstance(v, str) else v for k, v in (aliases or {}).items()}),
            parent=parent, reason=reason,
        )  # fmt: skip

    return declare


def _packed(hyper: Mapping[str, Any], declared: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What groups hold in tuples. A beta that may be None, since it follows from another, stands alone."""
    betas = tuple(name for name in ("beta1", "beta2", "beta3") if hyper.get(name) is not None)
    return {**({"betas": betas} if len(betas) > 1 else {}), **declared}


def _rewrap(wrap: Wrapper, base: Rule, own: dict[str, Any]) -> Rule:
    return wrap(base, **own)
