"""A claim's quick form, and its figure."""

from __future__ import annotations

from ravine.explain import figure as pictures
from ravine.explain.claims import Claim, Evidence, Run


def made_quickly(claim: Claim) -> Evidence:
    """What the quick form finds, its figure having been drawn."""
    evidence = claim(Run(quick=True))
    figure = pictures.new(evidence.width, evidence.height)
    evidence.draw(figure)
    assert pictures.svg(figure).startswith("<?xml")
    return evidence


def held(claim: Claim, evidence: Evidence) -> set[str]:
    """The names of the criteria that hold."""
    return {each.name for each in claim.criteria if each.holds(evidence.values[each.name])}
