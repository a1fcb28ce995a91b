"""Estimates of the Hessian's diagonal, for optimizers that divide by it (Sophia).

Every k steps (Liu et al. 2023 take 10), between the forward pass and `optimizer.step()`, one call makes an estimate and
lays it in `optimizer.inputs["hessian"]`, where the next step finds it. Gradients (`.grad`) stay as they are.

* `gauss_newton_bartlett` looks at a classifier's logits and costs about one backward pass (Sophia-G).
* `hutchinson` looks at any loss and costs about two, the second through the first (Sophia-H).

Both estimate the curvature of a mean over the batch, without the weight decay, and add noise that the rule's moving
average takes out. A parameter that does not take part in the logits or the loss gets no estimate.

With a GradScaler, both look at the loss before it is scaled. `hutchinson` needs the model itself, not a compiled one:
torch.compile's backward pass cannot be differentiated.

Under `torch.distributed`, every process makes an estimate from its own part of the batch; average them before the step,
or the processes' parameters part:
`for h in optimizer.inputs["hessian"].values(): torch.distributed.all_reduce(h, torch.distributed.ReduceOp.AVG)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.compose import maximize
from ravine.engine.batch import work_type
from ravine.optim.base import Optimizer
from ravine.rule import Rule

__all__ = ["gauss_newton_bartlett", "hutchinson"]

INPUT = "hessian"


def gauss_newton_bartlett(optimizer: Optimizer, logits: Tensor, *, generator: torch.Generator | None = None) -> None:
    """Give the next step the Gauss-Newton-Bartlett estimate: B times the squared gradient on sampled labels.

    For each of the B predictions a label is drawn from the model's own softmax; the estimate is B·ĝ², where ĝ is the
    gradient of the mean cross-entropy against these labels. It is never negative, and its expectation is the diagonal
    of the Gauss-Newton matrix of the mean cross-entropy, whatever the true labels are.

    Args:
        optimizer: an optimizer with at least one group whose rule takes a Hessian (`ravine.Sophia`).
        logits: what the model returned, of shape (..., classes), with its graph; call before `loss.backward()`. Leave
            out predictions that do not count (padding): `logits[mask]`.
        generator: where the labels are drawn from, on the device of the logits; default torch's own.

    Raises:
        TypeError: for an optimizer of another library, or logits that are not a floating-point tensor.
        ValueError: if no group's rule takes a Hessian, logits have no class dimension or no elements, have no graph, or
            depend on no parameter of such a group.
        RuntimeError: if the graph has been freed by `loss.backward()`.

    Source: Liu et al. 2023, arXiv:2305.14342, Algorithm 2.

    Example:
        >>> import ravine
        >>> from ravine.optim import hessian
        >>> model, inputs, labels = torch.nn.Linear(4, 3), torch.ones(8, 4), torch.zeros(8, dtype=torch.long)
        >>> optimizer = ravine.Sophia(model.parameters(), lr=1e-3)
        >>> for step in range(20):
        ...     logits = model(inputs)
        ...     if step % 10 == 0:
        ...         hessian.gauss_newton_bartlett(optimizer, logits)
        ...     torch.nn.functional.cross_entropy(logits, labels).backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> bool((optimizer.state[model.weight]["hessian"] > 0).all())
        True
    """
    rules = _rules(optimizer)
    _refuse_unfit("logits", "a floating-point tensor of shape (..., classes)", logits)
    if logits.ndim == 0 or logits.numel() == 0:
        raise ValueError(f"logits must have the shape (..., classes) and elements, got shape {tuple(logits.shape)}")
    with torch.enable_grad():
        rows = logits.reshape(-1, logits.shape[-1]).to(work_type(logits.dtype))
        # B·ĝ² is the square of √B·ĝ, which float16 holds better than either factor.
        loss = len(rows) ** 0.5 * torch.nn.functional.cross_entropy(rows, _draw(rows.detach(), generator))
        gradients = _gradients("logits", loss, rules)
    _give(optimizer, {p: g.to(work_type(p.dtype)) ** 2 for p, g in gradients.items()})


def hutchinson(optimizer: Optimizer, loss: Tensor, *, generator: torch.Generator | None = None) -> None:
    """Give the next step Hutchinson's estimate: u · (Hu) with random signs u, by differentiating twice.

    Its expectation is the diagonal of the loss's Hessian H, exactly, negative entries included (Sophia's rule steps
    there by signs). Where the Hessian is diagonal, every draw is exact. Under `maximize=True` it is the Hessian of
    what is minimised, so of minus the loss.

    Args:
        optimizer: an optimizer with at least one group whose rule takes a Hessian (`ravine.Sophia`).
        loss: a scalar with its graph, a mean over the batch; call before `loss.backward()`. Every operation of the
            model must be differentiable twice: attention, for one, needs `sdpa_kernel(SDPBackend.MATH)`.
        generator: where the signs are drawn from, on the device of the parameters; default torch's own.

    Raises:
        TypeError: for an optimizer of another library, or a loss that is not a floating-point tensor.
        ValueError: if no group's rule takes a Hessian, the loss is not scalar, has no graph, or depends on no parameter
            of such a group.
        RuntimeError: if the graph has been freed by `loss.backward()`.

    Source: Liu et al. 2023, arXiv:2305.14342, Algorithm 1; Hutchinson 1989.

    Example:
        >>> import ravine
        >>> from ravine.optim import hessian
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = ravine.Sophia([weight], lr=0.1)
        >>> loss = (torch.tensor([3.0, 0.5]) * weight**2).sum()
        >>> hessian.hutchinson(optimizer, loss)
        >>> optimizer.inputs["hessian"][weight]
        tensor([6., 1.])
    """
    rules = _rules(optimizer)
    _refuse_unfit("loss", "a floating-point tensor with one element", loss)
    if loss.numel() != 1:
        raise ValueError(f"loss must be a scalar, such as a mean over the batch, got shape {tuple(loss.shape)}")
    with torch.enable_grad():
        gradients = _gradients("loss", loss.reshape(()), rules, create_graph=True)
        signs = {p: torch.empty_like(p).bernoulli_(0.5, generator=generator) * 2 - 1 for p in gradients}
        products = _along(gradients, signs)
    found = {p: (signs[p] * products[p]).to(work_type(p.dtype)) for p in gradients}
    _give(optimizer, {p: -h if _ascends(rules[p]) else h for p, h in found.items()})


def _along(gradients: Mapping[Tensor, Tensor], direction: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The Hessian's product with a direction, from gradients that have a graph; zero where they do not change."""
    curved = [p for p, g in gradients.items() if g.requires_grad]
    if not curved:
        return {p: torch.zeros_like(p) for p in gradients}
    changes = torch.autograd.grad(
        [gradients[p] for p in curved],
        list(gradients),
        [direction[p] for p in curved],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(gradients, changes, strict=True))


def _draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """A label for each row of logits, drawn from their softmax; shape (rows,)."""
    # The largest of p/e, with exponential e, is a draw from p. torch.multinomial would stop a GPU at the first NaN.
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / noise).argmax(-1)


def _rules(optimizer: Optimizer) -> dict[Tensor, Rule]:
    """The trainable parameters whose rule takes a Hessian, each with that rule.

    Raises:
        TypeError: for an optimizer that is not ravine's.
        ValueError: if there are none.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be one of ravine's, got {type(optimizer).__name__}")
    rules = [(optimizer.rule_of(group), group["params"]) for group in optimizer.param_groups]
    if not any(INPUT in rule.inputs for rule, _ in rules):
        names = ", ".join(sorted({rule.spec for rule, _ in rules}))
        raise ValueError(f"no parameter group's rule takes a Hessian (there is {names}); ravine.Sophia's does")
    found = {p: rule for rule, params in rules if INPUT in rule.inputs for p in params if p.requires_grad}
    if not found:
        raise ValueError("all parameters whose rule takes a Hessian are frozen (requires_grad is False)")
    return found


def _ascends(rule: Rule) -> bool:
    """Whether the rule climbs: it is, or wraps, `maximize(...)`."""
    return rule.wrapper is maximize or (rule.base is not None and _ascends(rule.base))


def _refuse_unfit(name: str, wanted: str, value: Tensor) -> None:
    """Refuse what is not a floating-point tensor with a graph."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        given = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be {wanted}, got {given}")
    if not value.requires_grad:
        raise ValueError(
            f"{name} must come with a graph to differentiate, got a tensor without one; compute it outside "
            "torch.no_grad(), and do not detach it"
        )


def _gradients(
    name: str, output: Tensor, parameters: Mapping[Tensor, Any], create_graph: bool = False
) -> dict[Tensor, Tensor]:
    """The gradients of those parameters that the output depends on; its graph is kept for the caller's backward."""
    try:
        gradients = torch.autograd.grad(
            output, list(parameters), retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        raise RuntimeError(f"the graph of the {name} has been freed; call this before loss.backward()") from None
    found = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
    if not found:
        raise ValueError(f"no trainable parameter whose rule takes a Hessian takes part in the {name}")
    return found


def _give(optimizer: Optimizer, found: dict[Tensor, Tensor]) -> None:
    """Lay estimates where the next step takes them; a later one for the same parameter counts."""
    optimizer.inputs.setdefault(INPUT, {}).update({p: h.detach() for p, h in found.items()})
