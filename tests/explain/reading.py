"""Reading formulas back: Unicode text as Python, for tests that hold the two equal."""

from __future__ import annotations

import re

from ravine.explain.typeset import SUPERSCRIPT

_PLAIN = {raised: plain for plain, raised in SUPERSCRIPT.items()}
_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"


def as_python(formula: str) -> str:
    """A formula with numbers, as the Python expression that it stands for; a number's transpose is itself."""
    raised = re.sub(f"[{''.join(_PLAIN)}]+", lambda m: "**(" + "".join(_PLAIN[c] for c in m[0]) + ")", formula)
    written = raised.replace("ᵀ", "").replace("·", " * ").replace("−", "-").replace("^", "**")
    written = re.sub(r"‖([^‖]*)‖", r"abs(\1)", written)
    written = re.sub(r"\|([^|]*)\|", r"abs(\1)", written)
    written = re.sub(rf"√({_NUMBER})", r"sqrt(\1)", _roots_of_calls(written)).replace("√", "sqrt")
    return re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", written))


def _roots_of_calls(formula: str) -> str:
    """`√mean(x)` with the parentheses that it does not show: `√(mean(x))`."""
    while found := re.search(r"√([^\W\d]\w*\()", formula):
        end, depth = found.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(formula[end], 0)
            end += 1
        formula = f"{formula[: found.start()]}√({formula[found.start(1) : end]}){formula[end:]}"
    return formula
