"""Reading formulas back: Unicode text as Python, for tests that hold the two equal."""

from __future__ import annotations

import re

from ravine.explain.typeset import SUPERSCRIPT

_PLAIN = {raised: plain for plain, raised in SUPERSCRIPT.items()}
_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"


def as_python(formula: str) -> str:
    """A formula with numbers, as the Python expression that it stands for."""
    raised = re.sub(f"[{''.join(_PLAIN)}]+", lambda m: "**(" + "".join(_PLAIN[c] for c in m[0]) + ")", formula)
    written = raised.replace("·", " * ").replace("−", "-").replace("^", "**")
    written = re.sub(r"‖([^‖]*)‖", r"abs(\1)", written)
    written = re.sub(rf"√({_NUMBER})", r"sqrt(\1)", written).replace("√", "sqrt").replace("sqrtΣ(", "sqrt(")
    return re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", written))
