"""Runs rules twice: in JavaScript by Node, as they are emitted, and in Python on NumPy arrays."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ravine.engine.graph import program
from ravine.explain.derivative import differentiate
from ravine.explain.follow import Told, followed
from ravine.explain.javascript import Emitted, runtime
from ravine.explain.javascript.expressions import expressed, formula, traced
from ravine.explain.javascript.functions import NAMES
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.explain.typeset import is_scalar, scalar, text
from ravine.math import plain
from ravine.optim.settings import substituted_decay
from ravine.rule import Rule

STEPS = 100
ESTIMATE_EVERY = 10

DRIVER = """
const cases = JSON.parse(require("fs").readFileSync(process.argv[2], "utf8"),
  (key, value) => ({ NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity })[value] ?? value);
const plain = (x) => x instanceof Matrix ? [x.rows, x.columns, x.data.map(plain)]
  : Array.isArray(x) ? x.map(plain) : typeof x === "number" && !Number.isFinite(x) ? String(x) : x;
const results = cases.map((one) => {
  const wrong = complaint(one.rule, one.settings);
  if (wrong) return { wrong };
  let at = begin(one.rule, one.settings, one.start);
  const path = [], told = [];
  for (let t = 1; t <= one.steps; t++) {
    const f = FUNCTIONS[one.landscape], here = at.p.data;
    const gradient = one.gradients ? one.gradients[t - 1] : f.gradient(here);
    at = step(one.rule, one.settings, at, gradient, t % 10 === 1 ? { hessian: f.curvature(here) } : {});
    path.push([plain(at.p.data), Object.fromEntries(Object.entries(at.states).map(([k, s]) => [k, plain(s)]))]);
    if (t <= one.told) told.push(at.lines().map((line) =>
      [line.symbol, line.section, line.formula, [0, 1].map((i) => line.substituted(i)), plain(line.value)]));
  }
  return { path, told };
});
require("fs").writeFileSync(process.argv[3], JSON.stringify(results));
"""


@dataclass(frozen=True)
class Case:
    """A run of a rule on a landscape."""

    rule: str
    settings: dict[str, Any]
    start: tuple[float, float]
    landscape: str = "himmelblau"
    steps: int = STEPS
    told: int = 0
    gradients: list[Any] | None = None


@dataclass
class Run:
    """The path of a run, the states along it, and the lines that it told."""

    path: list[list[float]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    told: list[list[Any]] = field(default_factory=list)


def by_node(made: Emitted, given_cases: Sequence[Case], folder: Path) -> list[dict[str, Any]]:
    """What Node computes of these cases, all in one run."""
    return in_node("\n".join((made.source, runtime(), DRIVER)), [asdict(case) for case in given_cases], folder)


def in_node(text: str, what: Any, folder: Path) -> Any:
    """What a script of Node writes to its second argument, given the file with `what` as its first."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is missing")
    script, given, results = folder / "script.js", folder / "given.json", folder / "results.json"
    script.write_text(text, encoding="utf-8")
    given.write_text(json.dumps(_jsonable(what)), encoding="utf-8")
    done = subprocess.run(
        [node, str(script), str(given), str(results)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(results.read_text(encoding="utf-8"))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def by_numpy(rule: Rule, case: Case, shape: tuple[int, ...] | None = None) -> Run:
    """The same case by the rule's own function on float64 arrays."""
    value = formula(traced(LANDSCAPES[case.landscape].value, NAMES))
    slopes = [differentiate(value, name) for name in NAMES]
    curvatures = [differentiate(s, name) for s, name in zip(slopes, NAMES, strict=True)]
    slope, curvature = (program([expressed(one) for one in both]) for both in (slopes, curvatures))
    settings = {k: v for k, v in case.settings.items() if k != "decay"}
    given, lr = dict(settings), settings.get("lr", 1.0)
    if "weight_decay" in settings:
        given |= substituted_decay(case.settings["decay"], settings["weight_decay"], lr, lr)
    p = np.array(case.start).reshape(shape or ((1, 2) if rule.steps_matrices else (2,)))
    absent = rule.absent_states(settings, p.shape)
    states = [absent[s] if s in absent else initial(rule, s, settings, p) for s in rule.state]
    run = Run()
    for t in range(1, case.steps + 1):
        point = dict(zip(NAMES, p.ravel(), strict=False))
        with np.errstate(all="ignore"):
            g = np.array(case.gradients[t - 1] if case.gradients else slope(point)).reshape(p.shape)
        known = rule.inputs if t % ESTIMATE_EVERY == 1 else ()
        inputs = {name: np.array(curvature(point), float).reshape(p.shape) for name in known}
        if t <= case.told:
            lines: list[Told] = []
            followed(rule, lines.append)(p, g, *states, t=t, **given, **inputs)
            run.told.append([_told(line) for line in lines if _is_shown(line)])
        p, *new = rule(p, g, *states, t=t, **given, **inputs)
        states = [absent.get(s, value) for s, value in zip(rule.state, new, strict=True)]
        run.path.append(p.ravel().tolist())
        run.states.append({s: v for s, v in zip(rule.state, states, strict=True) if s not in absent})
    return run


def initial(rule: Rule, name: str, settings: dict[str, Any], p: np.ndarray) -> Any:
    """A state before the first step."""
    state = rule.state[name]
    init = settings.get(state.init, state.init) if isinstance(state.init, str) else state.init
    if state.kind in ("host", "shared"):
        return float(init)
    if init == "p":
        return p.copy()
    if state.kind in ("left", "right"):
        return (1.0 if init == "identity" else float(init)) * np.eye(p.shape[0 if state.kind == "left" else 1])
    return np.full(state.shape(p.shape), float(init))


def differences(found: dict[str, Any], expected: Run) -> dict[str, float]:
    """How far a run of Node's is from NumPy's, for the parameter and each state: relative to the largest value.

    NaNs and infinities count as far off unless both have them in the same places.
    """
    worst = {"p": _apart([_numbers(p) for p, _ in found["path"]], expected.path)}
    for name in expected.states[-1]:
        ours = [
            _numbers(states[name][2] if isinstance(states[name], list) else [states[name]])
            for _, states in found["path"]
        ]
        worst[name] = _apart(ours, [np.ravel(states[name]) for states in expected.states])
    return worst


def _numbers(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]


def _apart(ours: Any, theirs: Any) -> float:
    a, b = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return np.inf
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / max(1.0, np.abs(b[finite]).max(initial=0.0)))


def _is_shown(line: Told) -> bool:
    return is_scalar(line.value) or isinstance(plain(line.value), np.ndarray)


def _told(line: Told) -> list[Any]:
    """A line as JavaScript tells it; what one element's number would mislead in is not compared."""
    names = {n.id for n in ast.walk(line.formula) if isinstance(n, ast.Name)}
    values = {n: plain(line.names[n]) for n in names if n in line.names}
    substituted = []
    for i in (0, 1):
        elements = {n: v.ravel()[i] if isinstance(v, np.ndarray) and v.size == 2 else v for n, v in values.items()}
        substituted.append(text(line.formula, elements))
    value = plain(line.value)
    shown = np.asarray(value).ravel().tolist() if isinstance(value, np.ndarray) else scalar(value)
    return [text(ast.parse(line.symbol, mode="eval").body), list(line.section), text(line.formula), substituted, shown]
