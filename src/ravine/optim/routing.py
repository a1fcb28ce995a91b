"""Muon on the matrices, AdamW on the rest: which rule steps which parameter of a model, in one optimizer.

Example:
    >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 10))
    >>> print(route(model, matrix="lion", lr=1e-3))
    name      shape    role       rule   lr     why
    1.weight  (8, 4)   matrix     lion   0.001  Linear
    0.weight  (10, 4)  embedding  adamw  0.001  Embedding
    1.bias    (8,)     bias       adamw  0.001  Linear
    2.weight  (8,)     norm       adamw  0.001  LayerNorm
    2.bias    (8,)     norm       adamw  0.001  LayerNorm
    3.weight  (10, 8)  head       adamw  0.001  as many outputs as the embedding has rows
    3.bias    (10,)    bias       adamw  0.001  Linear
    <BLANKLINE>
    group  parameters  elements  share  rule   lr
    0               1        32  17.2%  lion   0.001
    1               6       154  82.8%  adamw  0.001
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ravine.optim.base import rule_named
from ravine.optim.blocks import KEYS, blocks_of, check_split
from ravine.optim.grouping import Groups, for_matrices, matching, of, refuse_unfit, regrouped
from ravine.optim.heads import Head
from ravine.optim.roles import Role, Split
from ravine.optim.settings import defaults_of, normalized
from ravine.optim.structure import is_vector
from ravine.rule import Rule

SHARED = ("lr", "weight_decay", "decay", "maximize")
OPTIONS: dict[str, Any] = {"other": "adamw", "overrides": None, "head": None, "split": None}
MATCHED = "match_rms_adamw"

# "embed_tokens", "tok_emb", "word_embeddings", GPT-2's "wte" and "wpe"; not "member"
LIKE_AN_EMBEDDING = re.compile(r"(^|_)(emb|embed|embeddings?|wte|wpe)(_|$)")


def route(
    model: nn.Module | Groups,
    matrix: str | Rule = "muon",
    other: str | Rule | Mapping[str, Any] = "adamw",
    overrides: Mapping[str, str] | None = None,
    head: Head | None = None,
    split: Mapping[str, Split] | None = None,
    **settings: Any,
) -> Groups:
    """Parameter groups that give hidden matrices to one rule, and embeddings, output head, norms, biases to another.

    The groups go into one optimizer, with one scheduler and one checkpoint. `print(route(model))` shows which parameter
    goes where, and why. Parameters with `requires_grad=False` are left out.

    Args:
        model: a model, or groups made from one (`ravine.groups`), whose own settings stay.
        matrix: the rule of the matrices.
        other: the rule of the rest, or a dict of its settings, `{"rule": "adamw", "betas": (0.9, 0.95)}`.
        overrides: for patterns of names (`"*.router.weight"`), `"matrix"` or `"other"`; the last that fits counts.
        head: the output layer where it is not found; see `ravine.optim.roles.roles`.
        split: for patterns of names, which matrices a parameter is made of: `k` equal blocks of outputs, sizes
            of blocks `(1024, 256, 256)`, `"stack"` for every `p[i]`, None for the whole.
        settings: of the rule of the matrices; `lr`, `weight_decay`, `decay` and `maximize` are for both rules. Where
            that rule has a scale, it is `"match_rms_adamw"` unless given, under which one lr and one weight decay
            serve both (Liu et al. 2025, arXiv:2502.16982).

    Returns:
        Groups that set `rule`, the given settings, and, where they apply, `split` (see above) and `transposed=True`
        (rows are inputs, columns outputs).

    Raises:
        ValueError: for an unknown rule; a model without matrices; a pattern that fits nothing; an embedding, a
            vector or a flattened tensor sent to a rule for matrices.
        TypeError: for a setting that neither rule has.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> route(model, matrix="lion", overrides={"1.*": "other"}, lr=1e-3)
        <parameter groups of Sequential: rule=lion, lr=0.001: 1, rule=adamw, lr=0.001: 5>
    """
    if "transposed" in settings or not isinstance(split, Mapping | None):
        raise TypeError("with a model, split is a dict of patterns of names, and transposed follows from the layers")
    groups = of(model, head)
    known = list(groups.roles.values())
    chosen = _chosen(known, dict(overrides or {}))
    rules = _rules(matrix, other, settings)
    for role in known:
        if chosen[role.parameter] == "matrix":
            refuse_unfit(rules["matrix"][0], role)
    if "matrix" not in chosen.values():
        raise ValueError(_nothing(groups, rules["matrix"][0]))

    groups = _with_splits(groups, chosen, dict(split or {}), rules["matrix"][0])

    def change(role: Role, own: dict[str, Any]) -> dict[str, Any]:
        place = chosen[role.parameter]
        rule, given = rules[place]
        form = {"split": role.split, "transposed": role.transposed} if for_matrices(rule) else {}
        return {"rule": rule, **given, **{key: value for key, value in form.items() if value}, **own}

    routed = regrouped(groups, change)
    first = sorted(routed, key=lambda group: chosen[group["params"][0][1]] != "matrix")
    return Groups(first, routed.model, routed.roles)


def _chosen(known: Iterable[Role], overrides: Mapping[str, str]) -> dict[Tensor, str]:
    """For each parameter, `"matrix"` or `"other"`."""
    roles = list(known)
    matching(overrides, roles, "the overrides'")
    chosen = {role.parameter: "matrix" if role.kind == "matrix" else "other" for role in roles}
    for pattern, place in overrides.items():
        if place not in ("matrix", "other"):
            raise ValueError(f"overrides[{pattern!r}] must be 'matrix' or 'other', got {place!r}")
        chosen |= {role.parameter: place for role in roles if role.matches(pattern)}
    return chosen


def _with_splits(groups: Groups, chosen: Mapping[Tensor, str], split: Mapping[str, Any], rule: Rule) -> Groups:
    """Groups whose roles have the splits that the user gives."""
    matching(split, (role for p, role in groups.roles.items() if chosen[p] == "matrix"), "split's")
    roles = dict(groups.roles)
    for pattern, given in split.items():
        for p, role in roles.items():
            if chosen[p] == "matrix" and role.matches(pattern):
                key = {"split": given, "transposed": role.transposed}
                try:
                    check_split(key)
                    blocks_of(key, p, rule)
                except ValueError as error:
                    raise ValueError(f"{role.name}: {error}") from None
                roles[p] = replace(role, split=given)
    return Groups(groups, groups.model, roles)


def _rules(
    matrix: str | Rule, other: str | Rule | Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, tuple[Rule, dict[str, Any]]]:
    """For the matrices and the rest, the rule and the settings that its groups have."""
    rest = dict(other) if isinstance(other, Mapping) else {"rule": other}
    of_rest = _rule(rest.pop("rule", "adamw"))
    of_matrices = _rule(matrix)
    if for_matrices(of_rest):
        raise ValueError(
            f"other must be a rule for parameters of any shape, got {of_rest.spec!r}, which is for matrices"
        )
    shared = _understood({name: value for name, value in settings.items() if name in SHARED}, of_rest)
    scale = {"scale": MATCHED} if MATCHED in of_matrices.ranges.get("scale", "") else {}
    own = {name: v for name, v in settings.items() if name not in shared or name in defaults_of(of_matrices)}
    return {
        "matrix": (of_matrices, normalized(of_matrices, {**scale, **own})),
        "other": (of_rest, normalized(of_rest, {**shared, **rest})),
    }


def _rule(rule: str | Rule) -> Rule:
    return rule if isinstance(rule, Rule) else rule_named(rule)


def _nothing(groups: Groups, rule: Rule) -> str:
    kinds = Counter(role.kind for role in groups.roles.values())
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    flat = " Its tensors are flattened: use FSDP with use_orig_params=True." if _flattened(groups) else ""
    return (
        f"{type(groups.model).__name__} has no hidden matrix for {rule.title} (it has {counted}).{flat} Use another "
        "optimizer, or say which are with overrides={'pattern': 'matrix'}, or which is the head with head="
    )


def _flattened(groups: Groups) -> bool:
    return any(type(p).__name__ == "FlatParameter" for p in groups.roles)


def for_class(rule: Rule, params: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What the optimizer class of a rule passes on of its arguments: parameters or groups, and settings.

    A model, or groups of one that name no rules yet, are routed if the rule is for matrices, with its own lr and weight
    decay for the rest too. Routed groups get these where they have none. Parameters given to such a class are all
    stepped by its rule, and refused where they are no matrices.

    Raises:
        TypeError: for a model where the rule is for parameters of any shape; for options of routing without a model.
        ValueError: as `route`; for parameters that are no matrices.
    """
    if not for_matrices(rule):
        if isinstance(params, nn.Module):
            raise TypeError(f"{rule.title} takes parameters; pass model.parameters(), got the model itself")
        return params, dict(settings)
    known = defaults_of(rule)
    own = {name: value for name, value in settings.items() if name not in OPTIONS}
    given = {name: value for name, value in own.items() if name != "engine"}
    shared: dict[str, Any] = {name: known[name] for name in ("lr", "weight_decay") if name in known}
    if isinstance(params, nn.Module) or (isinstance(params, Groups) and not any("rule" in group for group in params)):
        if MATCHED in rule.ranges.get("scale", ""):
            own.setdefault("scale", MATCHED)
        options: dict[str, Any] = {name: value for name, value in settings.items() if name in OPTIONS}
        return route(params, rule, **{**options, **shared, **given}), own
    needed = ", ".join(name for name in settings if name in OPTIONS and name not in KEYS)
    if needed:
        raise TypeError(f"{needed}: only with a model, ravine.{rule.title}(model, ...), not with its parameters")
    if isinstance(params, Groups):
        shared |= {name: value for name, value in given.items() if name in SHARED}
        params = [{**_understood(shared, _rule(group.get("rule", rule))), **group} for group in params]
    return _refuse_unfit_params(rule, params), dict(settings)


def _understood(settings: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    known = defaults_of(rule)
    return {name: value for name, value in settings.items() if name in known}


def _refuse_unfit_params(rule: Rule, params: Any) -> Any:
    """Parameters or groups for a rule for matrices, as a list; see `for_class`."""
    if isinstance(params, (Tensor, set)):
        return params
    params = list(params)
    for place, item in enumerate(params):
        if not isinstance(item, dict):
            _refuse_param(rule, place, item)
        elif not isinstance(item.get("params"), (Tensor, set, type(None))):
            params[place] = item = {**item, "params": list(item["params"])}
            for inner, param in enumerate(item["params"]):
                _refuse_param(_rule(item.get("rule", rule)), inner, param)
    return params


def _refuse_param(rule: Rule, place: int, item: Any) -> None:
    name, p = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
    if not for_matrices(rule) or not isinstance(p, Tensor):
        return
    who = f"parameter {place if name is None else repr(name)} of shape {tuple(p.shape)}"
    instead = f"; ravine.{rule.title}(model) gives such to AdamW"
    if is_vector(p):
        raise ValueError(f"{rule.title} takes matrices, and {who} is none{instead}")
    module = str(name).rpartition(".")[0].rpartition(".")[2]
    if name is not None and p.ndim == 2 and LIKE_AN_EMBEDDING.search(module):
        raise ValueError(f"{rule.title} takes matrices, and {who} has the name of an embedding{instead}")
