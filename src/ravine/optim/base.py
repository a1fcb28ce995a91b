"""The torch.optim face: one `Optimizer` for every rule, each parameter group naming its own."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ravine import engine as engines
from ravine.compose import maximize
from ravine.optim import checkpoint, evaluation
from ravine.optim.blocks import blocks_of
from ravine.optim.layout import Bucket, GroupLayout
from ravine.optim.settings import check, defaults_of, given_to_rule, normalized, torchs
from ravine.rule import Rule, lookup

_ascending: dict[Rule, Rule] = {}
_memory_layout = attrgetter("layout")

FOR_ALL_RULES = ("lr", "weight_decay", "decay", "maximize")
"""Settings of the constructor that groups of another rule take too."""

Observer = Callable[[list[Bucket]], None]
PATIENCE = 50
GIVEN_BY = {"hessian": "call ravine.hessian.gauss_newton_bartlett(optimizer, logits) or .hutchinson(optimizer, loss)"}


def _ascent(rule: Rule) -> Rule:
    """The rule on negated gradients, made once."""
    if rule not in _ascending:
        _ascending[rule] = maximize(rule)
    return _ascending[rule]


def rule_named(name: str) -> Rule:
    """The rule of this name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    try:
        return lookup(name)
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _full_precision(devices: Iterable[str]) -> ExitStack:
    """A context in which autocast is off on these kinds of devices: a rule's products are not the model's."""
    stack = ExitStack()
    for device in devices:
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
    return stack


class Optimizer(torch.optim.Optimizer):
    """A `torch.optim.Optimizer` that runs rules.

    Args:
        params: parameters, `(name, parameter)` pairs, or dicts that define groups; a group may name another rule
            (`{"params": ..., "rule": "lion", "lr": 1e-4}`), and then takes that rule's defaults but for `lr`,
            `weight_decay`, `decay` and `maximize` given here.
        rule: the default rule: a `Rule`, or a name such as `"adamw"` or `"lookahead(adamw)"`.
        engine: `"auto"`, `"reference"`, `"native"` or `"triton"`.
        settings: the rule's hyperparameters (`betas` as in torch, or `beta1`, `beta2`), `decay`, `maximize`.
            torch's `fused` and `foreach` are accepted and do nothing.

    Raises:
        TypeError: for an unknown setting, a complex or DTensor parameter.
        ValueError: for a setting out of range, an empty list of parameters, a parameter given twice.

    Gradients that are None leave their parameter and its states alone; each parameter counts its own steps. NaN
    and infinite gradients pass through the formulas as IEEE arithmetic has it.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([2.0]))
        >>> optimizer = Optimizer([weight], "adamw", lr=0.1, engine="reference")
        >>> (weight - 1).square().sum().backward()
        >>> optimizer.step()
        >>> weight
        Parameter containing:
        tensor([1.8980], requires_grad=True)
    """

    rule: Rule

    def __init__(
        self, params: Iterable[Any], rule: Rule | str = "adamw", *, engine: str = "auto", **settings: Any
    ) -> None:
        self.rule = rule if isinstance(rule, Rule) else rule_named(rule)
        engines.check_name(engine)
        self.engine = engine
        self.inputs: dict[str, dict[Tensor, Tensor]] = {}
        self._steps_without: dict[str, int] = {}
        self._rules: dict[str, Rule] = {self.rule.spec: self.rule}
        self._layouts: dict[int, GroupLayout] = {}
        self._states: list[dict[str, Any]] = []
        self._evaluating = False
        self._observers: list[Observer] = []
        given = normalized(self.rule, settings)
        self._for_all = {name: value for name, value in given.items() if name in FOR_ALL_RULES}
        super().__init__(params, {**defaults_of(self.rule), **given})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; `rule` in it names its rule, settings not given are the constructor's or that rule's own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        group = dict(param_group)
        if "params" not in group:
            raise ValueError(f"a parameter group needs the key 'params', got {', '.join(map(repr, group)) or 'none'}")
        rule = group.pop("rule", self.rule)
        rule = self._rules.get(rule) or rule_named(rule) if isinstance(rule, str) else rule
        defaults = self.defaults
        if rule is not self.rule:
            own_defaults = defaults_of(rule)
            defaults = own_defaults | {k: v for k, v in self._for_all.items() if k in own_defaults}
        own = {name: group.pop(name) for name in list(group) if name not in ("params", "param_names", "name", "max_lr")}
        foreign = {name: own.pop(name) for name in list(own) if name not in defaults and name.startswith("initial_")}
        settings = {**defaults, **normalized(rule, own)}
        check(rule, settings)
        group |= {**settings, **foreign, "rule": rule.spec}
        if "lr" in settings:
            group.setdefault("max_lr", float(settings["lr"]))
        group["params"] = _refuse_bad(group["params"])
        _refuse_uncuttable(group, rule)
        if settings["maximize"]:
            _ascent(rule)  # refuses what cannot be turned around, now rather than at the first step
        constructor_defaults, self.defaults = self.defaults, {}
        try:
            super().add_param_group(group)
        finally:
            self.defaults = constructor_defaults
        self._rules[rule.spec] = rule
        self._steps_without |= dict.fromkeys(rule.inputs, 0)
        self._layouts.clear()

    def rule_of(self, group: Mapping[str, Any]) -> Rule:
        """The rule of a parameter group, with its own `maximize`."""
        rule = self._rules[group["rule"]]
        return _ascent(rule) if group["maximize"] else rule

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; with a closure, evaluate it first and return its loss.

        Raises:
            RuntimeError: for sparse gradients, while the parameters hold evaluation weights, or while a CUDA graph is
                being captured.
        """
        if self._evaluating:
            raise RuntimeError(
                "step() needs the training weights, but the parameters hold evaluation weights since eval(); "
                "call optimizer.train() first"
            )
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "ravine's step cannot be captured in a CUDA graph: it computes bias corrections on the host; "
                "capture forward and backward, and call step() outside"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [self._gradients(group) for group in self.param_groups]
        if len(self._states) != len(self.state) or not all(map(is_, self._states, self.state.values())):
            self._layouts.clear()  # a state was deleted or replaced, to begin anew
        layouts, batches = [], []
        for index, (group, (grads, live)) in enumerate(zip(self.param_groups, gradients, strict=True)):
            layout, hyper = self._layout(index, group, grads, live)
            batches += layout.begin(hyper, live)
            layouts.append(layout)
        self._states = list(self.state.values())
        self._share(batches)
        with _full_precision({batch.parameters[0].device.type for batch in batches}):
            for observer in self._observers:
                observer([bucket for layout in layouts for bucket in layout.buckets])
            engines.run(self.engine, batches)
        for layout in layouts:
            layout.end()
        self._keep_shared(batches)
        self._miss_inputs()
        self.inputs = {}
        return loss

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Within this block, the observer is shown each step before it is taken, and may change nothing."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def _miss_inputs(self) -> None:
        """Warn when an input that a rule takes has not been given for `PATIENCE` steps in a row."""
        for name, missed in self._steps_without.items():
            self._steps_without[name] = 0 if name in self.inputs else missed + 1
            if missed + 1 == PATIENCE and name not in self.inputs:
                how = GIVEN_BY.get(name, f"set optimizer.inputs[{name!r}] = {{parameter: tensor}}")
                message = f"the input {name!r} has not been given for {PATIENCE} steps; every few steps, {how}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _gradients(self, group: dict[str, Any]) -> tuple[list[Tensor | None], list[Tensor]]:
        """The gradients of all parameters of a group, and those that are not None."""
        grads = [p.grad for p in group["params"]]
        live = [g for g in grads if g is not None]
        if any(layout is not torch.strided for layout in set(map(_memory_layout, live))):
            raise RuntimeError(
                f"{self.rule_of(group).title} does not support sparse gradients; use sparse=False in the embedding, "
                "or torch.optim.SparseAdam for it"
            )
        return grads, live

    def _layout(
        self, index: int, group: dict[str, Any], grads: list[Tensor | None], live: list[Tensor]
    ) -> tuple[GroupLayout, dict[str, Any]]:
        if "lr" in group:
            group["max_lr"] = max(group.get("max_lr", 0.0), float(group["lr"]))
        rule = self.rule_of(group)
        hyper = given_to_rule(rule, group)
        layout = self._layouts.get(index)
        if layout is None or self.inputs or not layout.fits(group, rule, hyper, grads, live):
            layout = self._layouts[index] = GroupLayout(group, rule, hyper, self.state, self.inputs)
        return layout, hyper

    def _share(self, batches: list[Any]) -> None:
        """Give each batch the rule's shared states: one float per optimizer, kept in every group of that rule.

        They begin where all of the rule's parameters take their first step, also after states were deleted.
        """
        for batch in batches:
            for symbol, declared in batch.rule.state.items():
                if declared.kind == "shared":
                    group = next(g for g in self.param_groups if self.rule_of(g) is batch.rule)
                    if declared.name not in group or all(b.t == 1 for b in batches if b.rule is batch.rule):
                        group[declared.name] = float(batch.hyper.get(declared.init, declared.init))
                    batch.shared[symbol] = float(group[declared.name])

    def _keep_shared(self, batches: list[Any]) -> None:
        for batch in batches:
            for symbol, value in batch.shared.items():
                for group in self.param_groups:
                    if self.rule_of(group) is batch.rule:
                        group[batch.rule.state[symbol].name] = value

    def state_dict(self) -> dict[str, Any]:
        """The state dict, which `torch.optim`'s class of the same name loads as well, where torch has the optimizer.

        Groups hold, besides their settings, `rule` and torch's `decoupled_weight_decay`. After `eval()`, states hold
        the training weights too.
        """
        packed: dict[str, Any] = super().state_dict()
        for group in packed["param_groups"]:
            if group.get("decay") in ("lr", "l2"):
                group["decoupled_weight_decay"] = group["decay"] == "lr"
            group |= torchs(self._rules[group["rule"]], group)
        return packed

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state dict of this optimizer, or of the `torch.optim` class of the same name.

        States keep their type and move to their parameter's device; the dict given is left as it is, and nothing
        changes if it does not fit. Settings that it lacks are kept. The parameters are the model's to load; a dict
        saved after `eval()` belongs to evaluation weights, and this optimizer is then as after `eval()`.

        Raises:
            ValueError: if groups, parameters, or the rule differ.
        """
        checkpoint.load(self, state_dict)
        self._layouts.clear()
        self._evaluating = evaluation.holds_evaluation_weights(self)

    @property
    def holds(self) -> evaluation.Held:
        """What the parameters hold now: `"training weights"`, or `"evaluation weights"` after `eval()`."""
        return "evaluation weights" if self._evaluating else "training weights"

    def eval(self) -> None:
        """Let the parameters hold the weights that the rule evaluates at, until `train()`; step() is refused meanwhile.

        These are Schedule-Free's x, Lookahead's slow weights, or an average; for other rules nothing moves. Save the
        model in this mode to use it: `state_dict()` then carries the training weights, so that the model and the
        optimizer, loaded again in any order, continue to the bit after `train()`.
        """
        if not self._evaluating:
            self._evaluating = True
            try:
                evaluation.to_evaluation(self)
            except BaseException:
                self.train()
                raise

    def train(self) -> None:
        """Put back, to the bit, the training weights that `eval()` has set aside, over whatever the parameters hold.

        Without `eval()` before it, it changes nothing.
        """
        if self._evaluating:
            evaluation.to_training(self)
            self._evaluating = False

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Within this block, the parameters hold the weights that the rule evaluates at, as after `eval()`."""
        if self._evaluating:
            yield
            return
        self.eval()
        try:
            yield
        finally:
            self.train()

    def warn_when_evaluated(self, model: nn.Module, *, error: bool = False) -> RemovableHandle:
        """Warn, once, when a model in `eval()` mode runs while its parameters hold training weights.

        Only rules that evaluate at other weights warn. The model's forward calls are watched by a hook.

        Args:
            model: the model whose parameters this optimizer steps.
            error: raise a RuntimeError instead, and each time.

        Returns:
            A handle; `handle.remove()` ends it.
        """
        return evaluation.watch(self, model, error)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "rule": self.rule, "engine": self.engine, "_rules": self._rules, "_for_all": self._for_all}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.inputs = {}
        self._steps_without = {name: 0 for rule in self._rules.values() for name in rule.inputs}
        self._layouts = {}
        self._states = []
        self._observers = []
        self._evaluating = evaluation.holds_evaluation_weights(self)
        self._optimizer_step_pre_hooks = getattr(self, "_optimizer_step_pre_hooks", {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimizer:
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, self.rule.title, 1)


def _refuse_uncuttable(group: Mapping[str, Any], rule: Rule) -> None:
    """Refuse parameters that a matrix rule cannot see as matrices; see `blocks_of` for what is raised."""
    if rule.steps_matrices and isinstance(group["params"], list):
        for item in group["params"]:
            p = item[1] if isinstance(item, tuple) and len(item) == 2 else item
            if isinstance(p, Tensor):
                blocks_of(group, p, rule)


def _refuse_bad(params: Any) -> Any:
    """The parameters of a new group, refused with a reason where no step of them could be right.

    Raises:
        TypeError: for complex and DTensor parameters.
        ValueError: for a parameter given twice, or one whose elements share memory.
    """
    if isinstance(params, set):  # torch says why not
        return params
    params = [params] if isinstance(params, Tensor) else list(params)
    distributed = sys.modules.get("torch.distributed.tensor")
    seen: set[int] = set()
    for place, item in enumerate(params):
        p = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        if not isinstance(p, Tensor):
            continue
        if p.is_complex():
            raise TypeError(f"complex parameters are not supported, got {p.dtype}; pass torch.view_as_real(p)")
        if distributed is not None and isinstance(p, distributed.DTensor):
            raise TypeError("DTensor parameters are not supported yet; pass local tensors")
        if id(p) in seen:
            raise ValueError(f"parameter {place} of the group, of shape {tuple(p.shape)}, is in it twice; give it once")
        if p.layout is torch.strided and any(s == 0 and n > 1 for s, n in zip(p.stride(), p.shape, strict=True)):
            raise ValueError(
                f"parameter {place} of the group has more than one element in the same memory (shape {tuple(p.shape)}, "
                f"strides {p.stride()}); clone it"
            )
        seen.add(id(p))
    return params
