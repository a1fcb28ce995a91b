"""What a wrapper takes out of its rule, `u ← update_of(adamw(θ, g))`, as the formula that it is in that rule."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.compose import update_and_decay_of, update_of
from ravine.explain.follow import Told
from ravine.explain.simplify import names_of, simplified
from ravine.math import ZERO, Apart

TAKEN = (update_of.__name__, update_and_decay_of.__name__)


def unfolded(told: Told, before: Sequence[Told]) -> Told:
    """The same line, with the x of the inner rule's `p - x` where it takes that; other lines as they are.

    Args:
        told: a line.
        before: the lines up to it, it included.
    """
    match told.formula:
        case ast.Call(ast.Name(function)) if function in TAKEN:
            pass
        case _:
            return told
    depth = len(told.section)
    inner = [line for line in before if line.section[:depth] == told.section and len(line.section) > depth]
    steps = [line for line in inner if line.symbol == "p"]
    match steps[-1].formula if steps else None:
        case ast.BinOp(ast.Name("p"), ast.Sub(), update):
            pass
        case _:
            return told
    names = steps[-1].names
    if function == update_and_decay_of.__name__:
        decays = [name for name in names_of(update) if isinstance(names.get(name), Apart)]
        is_decay = ast.unparse(before[-2].formula) == ast.unparse(told.formula)
        update = _only(update, decays) if is_decay else _without(update, names, decays)
    return told._replace(formula=update, names=names)


def _without(update: ast.expr, names: Mapping[str, Any], decays: Sequence[str]) -> ast.expr:
    return simplified(update, {name: ZERO for name in decays})


def _only(update: ast.expr, decays: Sequence[str]) -> ast.expr:
    """The terms of a formula that these names are in."""

    def has_decay(node: ast.expr) -> bool:
        return any(name in decays for name in names_of(node))

    match update:
        case ast.BinOp(left, ast.Add(), right):
            kept = [_only(side, decays) for side in (left, right) if has_decay(side)]
            return kept[0] if len(kept) == 1 else update
        case ast.BinOp(left, ast.Mult() | ast.Div() as op, right) if has_decay(left) != has_decay(right):
            sides = (_only(left, decays), right) if has_decay(left) else (left, _only(right, decays))
            return ast.BinOp(sides[0], op, sides[1])
    return update
