"""Parameter groups by what parameters are: no decay on norms, a learning rate per layer, settings by name.

Each function takes a model, or the groups that another has made, and returns groups, so that they compose:

    groups = ravine.groups.no_decay(ravine.groups.layerwise_lr(model, lr=1e-3, decay=0.75))
    optimizer = ravine.AdamW(groups, weight_decay=0.05)

Example:
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> print(no_decay(model, weight_decay=0.1))
    name      shape   role    weight_decay  why
    0.weight  (8, 4)  matrix  0.1           Linear
    2.weight  (2, 8)  head    0.1           the last layer
    0.bias    (8,)    bias    0.0           Linear
    1.weight  (8,)    norm    0.0           LayerNorm
    1.bias    (8,)    norm    0.0           LayerNorm
    2.bias    (2,)    bias    0.0           Linear
    <BLANKLINE>
    group  parameters  elements  share   weight_decay
    0               2        48   64.9%  0.1
    1               4        26   35.1%  0.0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ravine.optim.base import rule_named
from ravine.optim.heads import Head
from ravine.optim.roles import KINDS, Role, roles
from ravine.optim.structure import block_of, plain_name, repeated_blocks, unwrapped
from ravine.registry import nearest
from ravine.rule import Rule

__all__ = ["Groups", "by_name", "by_role", "layerwise_lr", "no_decay", "of"]

NOT_DECAYED = ("norm", "bias", "vector", "embedding", "free")


class Groups(list[dict[str, Any]]):
    """Parameter groups of a model, as every `torch.optim.Optimizer` takes them, that know what each parameter is.

    A group is a dict with `params`, a list of (name, parameter) pairs, and settings. `print(groups)` shows all.

    Attributes:
        model: the model, unwrapped.
        roles: the role of each parameter.

    Raises:
        ValueError: where a group gives a rule for matrices what is none.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], model: nn.Module, roles: Mapping[Tensor, Role]) -> None:
        super().__init__(groups)
        self.model = model
        self.roles = roles
        for group in self:
            rule = group.get("rule")
            if rule is not None:
                for role in self.members(group):
                    refuse_unfit(rule if isinstance(rule, Rule) else rule_named(rule), role)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Copies of the groups: torch's optimizers change the dicts that they are given."""
        return iter([{**group, "params": list(group["params"])} for group in list.__iter__(self)])

    def members(self, group: Mapping[str, Any]) -> list[Role]:
        """The roles of a group's parameters."""
        return [self.roles[p] for _, p in group["params"]]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{_written(settings(group))}: {len(group['params'])}" for group in self)
        return f"<parameter groups of {type(self.model).__name__}: {sizes}>"

    def __str__(self) -> str:
        keys = list(dict.fromkeys(key for group in self for key in settings(group)))
        rows = [["name", "shape", "role", *keys, "why"]]
        sums = [["group", "parameters", "elements", "share", *keys]]
        total = sum(p.numel() for p in self.roles)
        for place, group in enumerate(self):
            values = [_shown(group[key]) if key in group else "" for key in keys]
            members = self.members(group)
            rows += [[role.name, str(role.shape), role.kind, *values, role.why] for role in members]
            count = sum(role.parameter.numel() for role in members)
            sums.append([str(place), str(len(members)), f"{count:,}", f"{count / max(total, 1):.1%}", *values])
        return f"{_table(rows)}\n\n{_table(sums, right=range(1, 4))}"


def settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group sets, without its parameters."""
    return {key: value for key, value in group.items() if key != "params"}


def _shown(value: Any) -> str:
    return value.spec if isinstance(value, Rule) else str(value)


def _written(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_shown(value)}" for key, value in values.items()) or "no settings"


def _table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def for_matrices(rule: Rule) -> bool:
    """Whether a rule steps matrices alone. A wrapper that sees matrices around a rule for any shape makes it none."""
    return rule.innermost.view == "matrix"


def refuse_unfit(rule: Rule, role: Role) -> None:
    """Refuse a rule for matrices on what is none.

    Raises:
        ValueError: with the parameter's name and the reason.
    """
    if for_matrices(rule) and role.unfit:
        raise ValueError(
            f"{rule.title} cannot step {role.name!r} of shape {role.shape}: {role.unfit}; give it another rule"
        )


def of(model: nn.Module | Groups, head: Head | None = None) -> Groups:
    """All trained parameters of a model in one group without settings; groups as they are.

    Args:
        model: a model, or groups.
        head: the output layer, where it is not found; see `ravine.optim.roles.roles`.

    Raises:
        TypeError: for anything else; for `head` with groups, which know it already.
        ValueError: for a model without trained parameters.
    """
    if isinstance(model, Groups):
        if head is not None:
            raise TypeError("head must be given where the groups are first made from the model")
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model (a torch.nn.Module) or groups made from one, got {type(model).__name__}")
    known = {role.parameter: role for role in roles(model, head)}
    if not known:
        raise ValueError(f"{type(model).__name__} has no parameters that are trained (requires_grad)")
    return Groups([{"params": [(role.name, p) for p, role in known.items()]}], unwrapped(model), known)


def regrouped(model: nn.Module | Groups, change: Callable[[Role, dict[str, Any]], dict[str, Any]]) -> Groups:
    """Groups in which each parameter has the settings that `change` makes of its role and its settings so far.

    Parameters of one group that still have the same settings stay together, in the order of the model.
    """
    groups = of(model)
    made: list[dict[str, Any]] = []
    for group in groups:
        parts: list[dict[str, Any]] = []
        for name, p in group["params"]:
            new = change(groups.roles[p], settings(group))
            part = next((part for part in parts if settings(part) == new), None)
            if part is None:
                part = {"params": [], **new}
                parts.append(part)
            part["params"].append((name, p))
        made += parts
    return Groups(made, groups.model, groups.roles)


def matching(patterns: Iterable[str], known: Iterable[Role], what: str) -> None:
    """Refuse a pattern that fits no parameter.

    Raises:
        ValueError: with the nearest name.
    """
    roles = list(known)
    names = [name for role in roles for name in role.names]
    for pattern in patterns:
        if not any(role.matches(pattern) for role in roles):
            raise ValueError(f"{what} pattern {pattern!r} fits no trained parameter{nearest(pattern, names)}")


def by_name(model: nn.Module | Groups, settings: Mapping[str, Mapping[str, Any]]) -> Groups:
    """Settings for the parameters whose names fit a pattern; where several fit, later ones override.

    Args:
        model: a model, or groups.
        settings: for each pattern (as of file names, `"*.router.weight"`), what its parameters' group sets.

    Raises:
        ValueError: for a pattern that fits nothing, with the nearest name.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> by_name(model, {"*.bias": {"weight_decay": 0.0}, "1.weight": {"lr": 1e-4}})
        <parameter groups of Sequential: no settings: 1, weight_decay=0.0: 2, lr=0.0001: 1>
    """
    groups = of(model)
    matching(settings, groups.roles.values(), "the")

    def change(role: Role, own: dict[str, Any]) -> dict[str, Any]:
        for pattern, given in settings.items():
            own = {**own, **given} if role.matches(pattern) else own
        return own

    return regrouped(groups, change)


def by_role(model: nn.Module | Groups, settings: Mapping[str, Mapping[str, Any]]) -> Groups:
    """Settings for the parameters of a role.

    Args:
        model: a model, or groups.
        settings: for each role (`matrix`, `head`, `embedding`, `norm`, `bias`, `vector`, `free`), what its parameters'
            group sets. A role that the model does not have is no error.

    Raises:
        ValueError: for an unknown role.

    Example:
        >>> by_role(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), {"head": {"lr": 1e-4}})
        <parameter groups of Sequential: no settings: 3, lr=0.0001: 1>
    """
    for kind in settings:
        if kind not in KINDS:
            raise ValueError(f"a role is one of {', '.join(KINDS)}, got {kind!r}{nearest(kind, KINDS)}")
    return regrouped(model, lambda role, own: {**own, **settings.get(role.kind, {})})


def no_decay(model: nn.Module | Groups, weight_decay: float | None = None) -> Groups:
    """No weight decay on norms, biases, embeddings, vectors and free parameters (positions, tokens, tables).

    Decayed are matrices and the head, which includes an embedding that is tied to it.

    Args:
        model: a model, or groups.
        weight_decay: for the others; default what their group has, else the optimizer's.
    """
    decayed = {} if weight_decay is None else {"weight_decay": weight_decay}
    return by_role(model, {kind: {"weight_decay": 0.0} if kind in NOT_DECAYED else decayed for kind in KINDS})


def layerwise_lr(
    model: nn.Module | Groups, lr: float | None = None, decay: float = 0.75, depth: Callable[[str], int] | None = None
) -> Groups:
    """A learning rate that shrinks from the output to the input: lr · decay^(D − d) at depth d, D the greatest.

    The depth of repeated blocks (of a transformer, of a ResNet) is 1, 2, ..., N; lists one after the other count on.
    Embeddings and all that is registered before the first block have depth 0, the head and all that is registered
    after the last block N + 1. In a model without repeated blocks each module that holds parameters is a layer.

    Source: Clark et al. 2020 (ELECTRA), arXiv:2003.10555; Bao et al. 2022 (BEiT), arXiv:2106.08254.

    Args:
        model: a model, or groups.
        lr: the learning rate at the output, of groups that have none of their own.
        decay: the factor per layer, in (0, 1].
        depth: the depth of a parameter by its name, for a model whose lists of blocks lie side by side.

    Raises:
        ValueError: for a decay out of its range, or groups without `lr` where none is given.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> [group["lr"] for group in layerwise_lr(model, lr=1.0, decay=0.5)]
        [0.25, 0.5, 1.0]
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay!r}")
    groups = of(model)
    known = list(groups.roles.values())
    deep = {role.name: depth(role.name) for role in known} if depth else depths(groups.model, known)
    greatest = max(deep.values())

    def change(role: Role, own: dict[str, Any]) -> dict[str, Any]:
        peak = own.get("lr", lr)
        if peak is None:
            raise ValueError("layerwise_lr needs lr, the learning rate at the output, for groups that have none")
        return {**own, "lr": peak * decay ** (greatest - deep[role.name])}

    return regrouped(groups, change)


def depths(model: nn.Module, known: Sequence[Role]) -> dict[str, int]:
    """How deep each parameter lies, by its name; see `layerwise_lr`."""
    blocks = repeated_blocks(model)
    if not blocks:
        modules = list(dict.fromkeys(role.name.rpartition(".")[0] for role in known))
        return {role.name: modules.index(role.name.rpartition(".")[0]) for role in known}
    names = [plain_name(name) for name, _ in model.named_parameters()]
    inside = [i for i, name in enumerate(names) if block_of(name, blocks)]
    output = len(blocks) + 1
    passed, deep = 0, {}
    for i, name in enumerate(names):
        passed = block_of(name, blocks) or passed
        deep[name] = output if i > inside[-1] else passed
    fixed = {"embedding": 0, "head": output}
    return {role.name: fixed.get(role.kind, deep[role.name]) for role in known}
