"""One number through the next step of an optimizer of which a checkpoint holds the state dict, by a gradient given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ravine.explain.at_parameter import element_at, parameter_of, refuse_other_rule, traced_steps
from ravine.explain.trace import Place, Trace
from ravine.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

MODEL_KEYS = ("model", "model_state_dict", "state_dict")
OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict")
GRADIENT_KEYS = ("gradients", "grads")


def trace_state_dicts(
    file: str,
    content: Mapping[str, Any],
    parameter: str | None,
    element: Sequence[int] | None,
    rule: str | None,
    lr: float | None,
    gradient: str | None,
) -> Trace:
    """Follow one number through a step; see `ravine.explain.at_checkpoint.trace_checkpoint`.

    Args:
        content: of the file: the model's state dict under one of `MODEL_KEYS`, the optimizer's under one of
            `OPTIMIZER_KEYS`, and where no gradient is given, gradients by name under one of `GRADIENT_KEYS`.
    """
    import torch

    from ravine.explain.at_step import followed_steps
    from ravine.optim import Optimizer

    weights, state = _held(file, content, MODEL_KEYS, "model"), _held(file, content, OPTIMIZER_KEYS, "optimizer")
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not groups or not isinstance(state.get("state"), dict):
        raise ValueError(f"{file}: its optimizer is no state dict, which has 'state' and 'param_groups'")
    named = _names(file, weights, groups)
    parameters = {name: torch.nn.Parameter(weights[name].clone()) for names in named for name in names}
    name, target = parameter_of(file, parameters, parameter)
    place = element_at(name, tuple(target.shape), element)
    own = next(group for group, names in zip(groups, named, strict=True) if name in names)
    if any("rule" not in group for group in groups) and rule is None:
        raise ValueError(
            f"the optimizer in {file} does not say its rule; name it, as in ravine trace adamw --checkpoint"
        )
    refuse_other_rule(file, name, own.get("rule", "".join((rule or "").split())), rule)
    gradients = _gradients(file, content, gradient, name)
    made = [
        {"params": [(one, parameters[one]) for one in names], "rule": group.get("rule", rule)}
        for group, names in zip(groups, named, strict=True)
    ]
    optimizer = Optimizer(made, own.get("rule", rule))
    optimizer.load_state_dict(state)
    for one, value in gradients.items():
        _, p = parameter_of(file, parameters, one)
        if value.shape != p.shape:
            raise ValueError(f"the gradient of {one} has the shape {tuple(value.shape)}, and {one} {tuple(p.shape)}")
        p.grad = value.to(p.dtype)
    if lr is not None:
        for group in optimizer.param_groups:
            group["lr"] = lr
    with followed_steps(optimizer, target, place) as taken:
        optimizer.step()
    lacking = len(parameters) - len(gradients)
    if taken[0].over_all_parameters and lacking:
        raise ValueError(
            f"{taken[0].rule.name} sums over all parameters, and the gradients of {lacking} of them are missing; give "
            "them all by name"
        )
    arguments = [] if gradient is None else ["--gradient", gradient]
    arguments += [] if lr is None else ["--lr", repr(lr)]
    about = f"Run: step {taken[0].t} of this parameter, its gradient from {gradient or file}"
    found = Place(file, name, tuple(target.shape), taken[0].element, about, arguments=(*arguments,), rule=rule)
    return traced_steps(taken, [(None, None)], "gradient as given", found)


def _held(file: str, content: Mapping[str, Any], keys: Sequence[str], what: str) -> Mapping[str, Any]:
    found = next((content[key] for key in keys if isinstance(content.get(key), dict)), None)
    if found is None:
        raise ValueError(
            f"{file} holds no {what}: a checkpoint has the model's state dict under 'model' and the optimizer's under "
            "'optimizer'"
        )
    return found


def _names(file: str, weights: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The names of the parameters of each group."""
    import torch

    if all("param_names" in group for group in groups):
        named = [list(group["param_names"]) for group in groups]
    else:
        named = [[name for name, x in weights.items() if isinstance(x, torch.Tensor) and x.is_floating_point()]]
        if len(groups) != 1 or len(groups[0]["params"]) != len(named[0]):
            raise ValueError(
                f"{file} does not say which parameters its optimizer steps; save that of an optimizer which was given "
                "model.named_parameters()"
            )
    for name in (name for names in named for name in names):
        if not isinstance(weights.get(name), torch.Tensor):
            raise ValueError(f"{file} holds another model than its optimizer steps: there is no {name!r} in it")
    return named


def _gradients(file: str, content: Mapping[str, Any], gradient: str | None, parameter: str) -> dict[str, Tensor]:
    """Gradients by name, from a file or from the checkpoint itself."""
    import torch

    in_file = next((content[key] for key in GRADIENT_KEYS if key in content), None)
    found = in_file if gradient is None else _load(gradient)
    if found is None:
        raise ValueError(
            f"{file} holds no gradients: give that of {parameter} with --gradient FILE, or save them under 'gradients'"
        )
    if isinstance(found, torch.Tensor):
        found = {parameter: found}
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{gradient or file} must hold a tensor, or tensors by name, as gradients")
    if parameter not in found:
        raise ValueError(f"{gradient or file} has no gradient of {parameter!r}{nearest(parameter, list(found))}")
    return found


def _load(gradient: str) -> Any:
    import numpy as np
    import torch

    try:
        if gradient.endswith(".npy"):
            return torch.from_numpy(np.load(gradient, allow_pickle=False))
        if gradient.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(gradient)
        return torch.load(gradient, map_location="cpu", weights_only=True)
    except ImportError:
        raise ValueError("--gradient: a .safetensors file needs the package safetensors") from None
    except OSError as error:
        raise ValueError(f"--gradient: cannot read {gradient}: {error.strerror or error}") from None
    except Exception:  # each kind of file has its own errors
        raise ValueError(f"--gradient: {gradient} is no file of tensors (.pt, .npy or .safetensors)") from None
