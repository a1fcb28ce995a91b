"""Several studies side by side: one result with all their arms, and a verdict where they can be compared."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.lab.results.statistics import listed
from ravine.lab.results.summary import FORMAT, judged, target
from ravine.lab.results.target import to_target

Result = Mapping[str, Any]

INCOMPARABLE = "No verdict: the studies differ in {}."


def combined(results: Sequence[Result], names: Sequence[str] = (), *, same_data: bool = True) -> dict[str, Any]:
    """One result of several, with the keys of `result.json` and `studies`, their names.

    An arm's label becomes `LABEL (NAME)`. The target is the first study's. Where two studies differ in budget, schedule
    or precision, the notes say where, the value in `budget` is the list of theirs, and there is no verdict. The number
    of judged seeds may differ.

    Args:
        results: two or more, of `summarize`.
        names: of the studies; default A, B, C, ...
        same_data: refuse studies whose data or models differ. False is for those that differ on purpose, such as
            post-training from different checkpoints.

    Raises:
        ValueError: for fewer than two results, names that are not one for each, or studies that differ in what they
            measure.
    """
    names = list(names) or list(string.ascii_uppercase[: len(results)])
    if len(results) < 2:
        raise ValueError(f"a comparison of studies needs two results at least, got {len(results)}")
    if len(set(names)) != len(results):
        raise ValueError(f"names must be one for each of the {len(results)} studies, got {', '.join(names)}")
    _require_same(results, names, same_data)
    first = results[0]
    arms = {
        f"{label} ({name})": {**arm, "best": dict(arm["best"])}
        for name, result in zip(names, results, strict=True)
        for label, arm in result["arms"].items()
    }
    baseline = f"{first['baseline']} ({names[0]})"
    given = first["target"]["loss"] if first["target"]["source"] == "given" else None
    goal = target(given, arms, baseline)
    for arm in arms.values():
        arm |= to_target(arm["runs"], arm["horizons"], goal["loss"])
    costs = {
        f"{label} ({name})": cost
        for name, result in zip(names, results, strict=True)
        for label, cost in (result["cost"] or {}).items()
    }
    different = _different(results, names)
    judgement = judged(arms)
    if different:
        text = INCOMPARABLE.format(listed(different))
        judgement["verdict"] = {"winner": None, "significant": False, "text": text, "tuning_probability": None}
    return {
        "format": FORMAT,
        "studies": names,
        **{key: first[key] for key in ("task", "loss_name", "unit", "about", "model", "hashes")},
        "baseline": baseline,
        "study": {name: result["study"] for name, result in zip(names, results, strict=True)},
        "command": "\n".join(result["command"] for result in results),
        "target": goal,
        **{key: _merged([result[key] for result in results]) for key in ("budget", "machine", "versions")},
        "arms": arms,
        "cost": costs or None,
        **judgement,
        "warnings": _warnings(results, names),
        "notes": _notes(results, different),
    }


def _require_same(results: Sequence[Result], names: Sequence[str], same_data: bool) -> None:
    for key, what in (("task", "tasks"), ("unit", "units of data"), ("loss_name", "losses")):
        if len({result[key] for result in results}) > 1:
            shown = listed([f"{result[key]} ({name})" for name, result in zip(names, results, strict=True)])
            raise ValueError(f"studies with different {what} cannot be compared: {shown}")
    if same_data and len({result["hashes"]["data"] for result in results}) > 1:
        raise ValueError(f"the studies {listed(names)} cannot be compared: their data or their models differ")


def _different(results: Sequence[Result], names: Sequence[str]) -> list[str]:
    """Where the studies differ in what decides about losses, with the values: `steps (40 in A, 120 in B)`."""
    decisive = [
        {**{k: v for k, v in r["budget"].items() if k != "seeds"}, "precision": r["machine"]["precision"]}
        for r in results
    ]
    return [
        f"{key} ({', '.join(f'{_shown(d.get(key))} in {name}' for name, d in zip(names, decisive, strict=True))})"
        for key in _keys(decisive)
        if any(d.get(key) != decisive[0].get(key) for d in decisive)
    ]


def _merged(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The common value of each key, or the list of them."""
    merged = {}
    for key in _keys(sections):
        values = [section.get(key) for section in sections]
        merged[key] = values[0] if all(value == values[0] for value in values) else values
    return merged


def _keys(sections: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for section in sections for key in section))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _warnings(results: Sequence[Result], names: Sequence[str]) -> list[str]:
    found = [f"{name}: {text}" for name, result in zip(names, results, strict=True) for text in result["warnings"]]
    versions = [result["versions"] for result in results]
    found += [
        f"The studies were made with different versions of {key}."
        for key in _keys(versions)
        if any(version.get(key) != versions[0].get(key) for version in versions)
    ]
    machines = [{k: r["machine"].get(k) for k in ("device", "name", "threads", "workers")} for r in results]
    if any(machine != machines[0] for machine in machines):
        found.append("The studies ran on different machines, or shared them differently: times cannot be compared.")
    return found


def _notes(results: Sequence[Result], different: Sequence[str]) -> list[str]:
    found = [f"The studies differ in {listed(different)}."] if different else []
    found.append(
        "Arms of different studies may have run on the same seeds. The tests take them for independent, which makes "
        "them more cautious."
    )
    return [*found, *dict.fromkeys(note for result in results for note in result["notes"])]
