"""Which step of a rule to draw: rules branch on the step, and a picture shows the branches of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravine.engine.batch import Unsupported
from ravine.engine.graph import program
from ravine.explain.decay import FORMS
from ravine.explain.diagram.lines import Lines
from ravine.explain.symbolic import SymbolicStep, symbolic
from ravine.math import ZERO
from ravine.rule import Rule

SEARCHED = range(2, 1001)


def representative(
    rule: Rule, hyper: Mapping[str, Any], t: int | None
) -> tuple[SymbolicStep, frozenset[tuple[str, ...]]]:
    """The step to draw, and the identities of those lines that some step from the second on does not have.

    Args:
        rule: the rule.
        hyper: settings other than the defaults; weight decay is put in its customary form.
        t: the step, or None for the first of those with the most lines.

    Raises:
        TypeError: for a setting that the rule does not have.
        ValueError: if no graph can be traced.
    """
    rule.check_names(hyper)
    if t is not None and t < 1:
        raise ValueError(f"t is a step, counted from 1; got {t}")
    settings = {**rule.defaults, **hyper}
    if FORMS[rule.decay].symbol == "g" and "weight_decay" in settings:
        settings |= {"weight_decay": ZERO, "l2": settings["weight_decay"]}
    try:
        return _chosen(rule, settings, t)
    except (Unsupported, TypeError) as error:
        raise ValueError(f"{rule.name} cannot be drawn, since no graph can be traced of it: {error}") from error


def _chosen(rule: Rule, settings: Mapping[str, Any], t: int | None) -> tuple[SymbolicStep, frozenset[tuple[str, ...]]]:
    kinds = _kinds(rule, settings)
    if t is None:
        step = max(kinds, key=lambda kind: len(_identities(kind)))
    else:
        step = symbolic(rule, settings, t=t, inputs=rule.inputs)
    others = [*kinds, *([symbolic(rule, settings, t=SEARCHED[0])] if rule.inputs else [])]
    here = _identities(step)
    return step, frozenset(line for line in here if not all(line in _identities(other) for other in others))


def _kinds(rule: Rule, settings: Mapping[str, Any]) -> list[SymbolicStep]:
    """A step for each way that the rule's branches go, in the order in which they first come."""
    found: list[SymbolicStep] = []
    asked: list[tuple[Any, tuple[Any, ...]]] = []
    for t in SEARCHED:
        if any(ask({**found[0].tape.environment, "t": t}) == answers for ask, answers in asked):
            continue
        step = symbolic(rule, settings, t=t, inputs=rule.inputs)
        questions = step.tape.questions
        asked.append((program([question for question, _ in questions]), tuple(answer for _, answer in questions)))
        found.append(step)
    return found


def _identities(step: SymbolicStep) -> frozenset[tuple[str, ...]]:
    """The lines that reach what the step gives."""
    lines = Lines(step)
    return frozenset(line.identity for line in lines.reaching([source for source, _ in lines.kept()]))
