"""Training weights and evaluation weights: which of them the parameters hold, and the way from one to the other.

Some rules train at other weights than they evaluate at (Schedule-Free, Lookahead, an average of the weights). The
training weights are set aside in the parameter's state and put back from there, without arithmetic: an evaluation
changes no bit of the run, and a state dict that is saved meanwhile holds them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ravine.engine.batch import work_type
from ravine.optim.settings import unpacked
from ravine.rule import Rule

if TYPE_CHECKING:
    from ravine.optim.base import Optimizer

Held = Literal["training weights", "evaluation weights"]

ASIDE = "training_weights"
"""The key in a parameter's state under which its training weights lie as long as it holds those for evaluation."""


def to_evaluation(optimizer: Optimizer) -> None:
    """Set the training weights aside and let the parameters hold those for evaluation."""
    with torch.inference_mode(False), torch.no_grad():
        for group in optimizer.param_groups:
            rule = optimizer.rule_of(group)
            for p in group["params"] if rule.at_eval else ():
                state = optimizer.state.get(p, {})
                if ASIDE not in state and state.get("step", 0) > 0:
                    weights = _at_eval(rule, unpacked(rule, group), p, state)
                    state[ASIDE] = p.detach().clone(memory_format=torch.preserve_format)
                    p.copy_(weights)


def to_training(optimizer: Optimizer) -> None:
    """Put the training weights back to the bit."""
    with torch.inference_mode(False), torch.no_grad():
        for p, state in optimizer.state.items():
            if ASIDE in state:
                p.copy_(state[ASIDE])
                del state[ASIDE]


def holds_evaluation_weights(optimizer: Optimizer) -> bool:
    """Whether training weights lie aside, as after loading a state dict that was saved in evaluation."""
    return any(ASIDE in state for state in optimizer.state.values())


def _at_eval(rule: Rule, hyper: Mapping[str, Any], p: Tensor, state: Mapping[str, Any]) -> Tensor:
    """The weights that a rule evaluates at, rounded once."""
    if isinstance(rule.at_eval, str):
        weights: Tensor = state[rule.state[rule.at_eval].name]
        return weights

    def work(x: Any) -> Any:
        return x.to(work_type(p.dtype)) if isinstance(x, Tensor) else x

    assert rule.at_eval is not None
    states = {symbol: work(state.get(declared.name)) for symbol, declared in rule.state.items()}
    computed: Tensor = rule.at_eval(work(p.detach()), states, hyper)
    return computed


@contextmanager
def evaluating(model: nn.Module, *optimizers: torch.optim.Optimizer) -> Iterator[None]:
    """Within this block, `model.eval()` holds and the parameters hold the weights that the rules evaluate at.

    Afterwards every module is in the mode in which it was, and the training weights are back to the bit. Optimizers
    that own no such weights, torch's for instance, are let be.

    Args:
        model: the model; its statistics of batch normalisation are those of the training weights. Where that matters,
            run some batches with `model.train()` inside the block first.
        optimizers: all optimizers that step the model.

    Example:
        >>> import ravine
        >>> model = nn.Linear(2, 1)
        >>> optimizer = ravine.ScheduleFreeAdamW(model.parameters(), lr=0.0025)
        >>> with evaluating(model, optimizer):
        ...     print(model.training, optimizer.holds)
        False evaluation weights
        >>> print(model.training, optimizer.holds)
        True training weights
    """
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as swapped:
        for optimizer in optimizers:
            if hasattr(optimizer, "evaluation_weights"):
                swapped.enter_context(optimizer.evaluation_weights())
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def watch(optimizer: Optimizer, model: nn.Module, error: bool) -> RemovableHandle:
    """See `Optimizer.warn_when_evaluated`."""
    warned = False

    def look(module: nn.Module, _: Any) -> None:
        nonlocal warned
        if warned or module.training or optimizer.holds == "evaluation weights":
            return
        owners = [g["rule"] for g in optimizer.param_groups if optimizer.rule_of(g).at_eval]
        if not owners:
            return
        message = (
            f"the model is evaluated at the training weights of {owners[0]}, which are not those to judge it by; use "
            "`with ravine.evaluating(model, optimizer):`, or optimizer.eval() before and optimizer.train() after"
        )
        if error:
            raise RuntimeError(message)
        warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    return model.register_forward_pre_hook(look)
