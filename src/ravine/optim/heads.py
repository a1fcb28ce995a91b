"""The output head of a model: the layer whose outputs are the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ravine.optim.structure import block_of, is_vector, repeated_blocks, unwrapped
from ravine.registry import nearest

if TYPE_CHECKING:
    from ravine.optim.roles import Role

Head = str | nn.Module | Sequence[str | nn.Module]
Seen = Mapping[Tensor, Sequence["Role"]]  # a parameter, and its role in each module that holds it


def find_head(model: nn.Module, seen: Seen) -> tuple[list[Tensor], str]:
    """The weights of the output head, and how they were found; see `ravine.optim.roles.roles`.

    Args:
        model: the model, unwrapped.
        seen: its parameters in the order of their registration.
    """
    for method in ("get_output_embeddings", "get_classifier"):
        declared = _asked(model, method)
        if declared:
            return [p for module in declared for p in _last_weight(module, seen)], f"{method}()"
    tied = [p for p, held in seen.items() if {"matrix", "embedding"} <= {role.kind for role in held}]
    if tied:
        return tied, "shares its weight with an embedding"
    blocks = repeated_blocks(model)
    layers = [p for p, held in seen.items() if held[0].is_layer and block_of(held[0].name, blocks) is None]
    rows = max((len(p) for p, held in seen.items() if held[0].kind == "embedding"), default=None)
    vocabulary = [p for p in layers if p.shape[1 if seen[p][0].transposed else 0] == rows]
    if len(vocabulary) == 1:
        return vocabulary, "as many outputs as the embedding has rows"
    weights = [p for p, held in seen.items() if held[0].is_layer or held[0].kind == "matrix"]
    if layers and layers[-1] is weights[-1]:
        return layers[-1:], "the last layer"
    return [], ""


def named_head(head: Head, modules: Mapping[str, nn.Module], seen: Seen) -> tuple[list[Tensor], str]:
    """The parameters of a head that the user names.

    Raises:
        TypeError: for what is neither a module nor a pattern of names.
        ValueError: for a head that is not in the model, with the nearest name.
    """
    several = [head] if isinstance(head, (str, nn.Module)) else list(head)
    return [p for one in several for p in _named(one, modules, seen)], "named as the head"


def _named(head: Any, modules: Mapping[str, nn.Module], seen: Seen) -> list[Tensor]:
    if isinstance(head, nn.Module):
        inner = unwrapped(head)
        if not any(inner is unwrapped(module) for module in modules.values()):
            raise ValueError(f"head must be a module of the model, got another {type(inner).__name__}")
        return [*inner.parameters()]
    if not isinstance(head, str):
        raise TypeError(f"head must be a module, a pattern of names, or several of these, got {head!r}")
    fitting = [module for path, module in modules.items() if path and fnmatchcase(path, head)]
    found: list[Tensor] = [p for module in fitting for p in module.parameters()]
    found += [p for p, held in seen.items() if any(fnmatchcase(role.name, head) for role in held)]
    if not found:
        names = [path for path in modules if path] + [role.name for held in seen.values() for role in held]
        raise ValueError(f"head {head!r} fits no module or parameter of the model{nearest(head, names)}")
    return found


def _asked(model: nn.Module, method: str) -> list[nn.Module]:
    """The modules that a model's own method names as its head; none where it has no such method."""
    ask = getattr(model, method, None)
    if not callable(ask):
        return []
    try:
        answer = ask()
    except (NotImplementedError, TypeError):  # a base class that has none, a method of this name with arguments
        return []
    answers = answer if isinstance(answer, (tuple, list)) else [answer]
    return [module for module in answers if isinstance(module, nn.Module)]


def _last_weight(module: nn.Module, seen: Seen) -> list[Tensor]:
    """The last weight of a head that may be a small network of its own."""
    weights: list[Tensor] = [p for p in module.parameters() if p in seen and (seen[p][0].is_layer or not is_vector(p))]
    return weights[-1:]
