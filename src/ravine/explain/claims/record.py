"""What is kept of a claim's experiment: `<slug>.json`, beside its picture and its page.

Keys of a record, which stay as they are:

- `number`, `slug`, `title`, `says`, `source`, `experiment`: of the claim; `experiment` is what is done.
- `verdict`: `"holds"`, `"holds here with limits"`, `"does not hold at this scale"`; null where the experiment failed.
- `error`: why it failed; null where it did not.
- `criteria[].{name, what, at_least, at_most, scope, value, holds}`: a bound that is not there is null, and so is a
  value that is not there or not finite.
- `table`: `{head, rows}`, or null. `remarks`: sentences.
- `form`: `"quick"` or `"full"`. `seeds`: the numbers of the seeds.
- `command`: what makes it again. `date`: year-month-day, UTC. `seconds`: what it took.
- `machine`: `{cpu, cores, memory_gb, device, threads, system, python, torch, ravine}`.
- `version`: a digest of the claim's file and of those of this package that it uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from ravine import __version__
from ravine.explain.claims.claim import Claim, Run, Verdict, verdict
from ravine.explain.claims.work import Failed, Made
from ravine.lab.files import read_json

Record = dict[str, Any]

VERDICTS = get_args(Verdict)
KEYS = {
    "number", "slug", "title", "says", "source", "experiment", "verdict", "error", "criteria", "table", "remarks",
    "form", "seeds", "command", "date", "seconds", "machine", "version",
}  # fmt: skip
MACHINE = {"cpu", "cores", "memory_gb", "device", "threads", "system", "python", "torch", "ravine"}


def record(claim: Claim, run: Run, result: Made | Failed, machine: Mapping[str, Any]) -> Record:
    """What is to be kept of an experiment that ended, well or not; see the module for its keys."""
    return {
        "number": claim.number,
        "slug": claim.slug,
        "title": claim.title,
        "says": claim.says,
        "source": claim.source,
        "experiment": claim.experiment,
        **_outcome(claim, result),
        "form": form(run),
        "seeds": list(run.seeds),
        "command": command([claim.slug], run),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(result.seconds, 1),
        "machine": dict(machine),
        "version": claim.version,
    }


def _outcome(claim: Claim, result: Made | Failed) -> dict[str, Any]:
    if isinstance(result, Failed):
        criteria = [asdict(each) | {"value": None, "holds": False} for each in claim.criteria]
        return {"verdict": None, "error": result.error, "criteria": criteria, "table": None, "remarks": []}
    values = result.values
    table = None
    if result.table is not None:
        head, rows = result.table
        table = {"head": head, "rows": [[finite(x) for x in row] for row in rows]}
    return {
        "verdict": verdict(claim.criteria, values),
        "error": None,
        "criteria": [
            asdict(each) | {"value": finite(values[each.name]), "holds": each.holds(values[each.name])}
            for each in claim.criteria
        ],
        "table": table,
        "remarks": list(result.remarks),
    }


def form(run: Run) -> str:
    """`"quick"` or `"full"`."""
    return "quick" if run.quick else "full"


def command(slugs: Sequence[str], run: Run) -> str:
    """What makes these experiments again.

    Example:
        >>> command(["bias-correction"], Run(quick=True))
        'ravine claims run bias-correction --quick'
        >>> command(["all"], Run(seeds=(1, 2)))
        'ravine claims run all --seeds 2'
    """
    parts = ["ravine claims run", *slugs]
    if run.quick:
        parts.append("--quick")
    if run.seeds != Run(run.quick).seeds:
        parts.append(f"--seeds {len(run.seeds)}")
    return " ".join(parts)


def this_machine() -> dict[str, Any]:
    """What the experiments run on, under the keys of a record."""
    import torch

    from ravine.bench.machine import describe

    machine = asdict(describe(torch.device("cpu"), threads=1, watch_seconds=0.0))
    del machine["busy_percent"]
    return machine


def read(folder: Path, slug: str) -> Record | None:
    """The record of a claim in a folder; None where there is none that can be read."""
    try:
        found = read_json(folder / f"{slug}.json")
    except ValueError:
        return None
    return found if _whole(found) and found["slug"] == slug else None


def _whole(found: Any) -> bool:
    """Whether it is a record; another program may have written the file."""
    if not isinstance(found, dict) or not found.keys() >= KEYS or not isinstance(found["machine"], dict):
        return False
    return found["machine"].keys() >= MACHINE and (found["verdict"] in VERDICTS) == (found["error"] is None)


def kept(folder: Path, claim: Claim, run: Run) -> Record | None:
    """The record of an earlier run that need not be made again: the same claim, form and seeds, by the same ravine."""
    found = read(folder, claim.slug)
    if found is None or found["verdict"] is None:
        return None
    same = (found["version"], found["form"], found["seeds"]) == (claim.version, form(run), list(run.seeds))
    there = all((folder / f"{claim.slug}{ending}").is_file() for ending in (".svg", ".md"))
    return found if same and there and found["machine"].get("ravine") == __version__ else None


def finite(value: Any) -> Any:
    """The value for JSON, which has no infinity and no NaN: they are null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
