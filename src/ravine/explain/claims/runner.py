"""Runs claims and keeps what came out: a record, a picture and a page for each, and an index of all.

Example:
    >>> import tempfile
    >>> prepare(["all"], quick=True, out=tempfile.mkdtemp()).run.quick
    True
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.explain.claims.claim import Claim, Run, claims, lookup_claim, seeds
from ravine.explain.claims.page import INDEX, index, page
from ravine.explain.claims.record import Record, command, form, kept, read, record, this_machine
from ravine.explain.claims.work import Failed, Made, experiments
from ravine.lab.files import require_writable_folder, to_json, write_atomically

if TYPE_CHECKING:
    from ravine.lab.study.execute import Running

ALL = "all"
MOST_WORKERS = 8
"""Processes, where nobody says how many: each takes half a gigabyte."""

OnProgress = Callable[[int, int, Sequence["Running"]], None]


@dataclass
class Prepared:
    """Claims that are to be run, checked.

    Attributes:
        chosen: those that can run here, in order.
        missing: what those need that cannot, by slug.
        run: how the experiments are to be made.
        workers: how many at the same time.
        folder: for the results.
        again: also those whose result is there.
    """

    chosen: list[Claim]
    missing: dict[str, tuple[str, ...]]
    run: Run
    workers: int
    folder: Path
    again: bool
    records: dict[str, Record] = field(default_factory=dict)

    def make(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Make the experiments, and write what came out as soon as each is done.

        Returns:
            `folder`, `form`, `seeds`, `claims[]` (records, see `explain.claims.record`, with `kept`: it was there
            already) and `cannot_run_here[].{number, slug, needs}`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        old = {} if self.again else self._kept()
        self.records.update(old)
        left = [claim for claim in self.chosen if claim.slug not in old]
        machine = this_machine() if left else {}

        def show(done: int, running: Sequence[Running]) -> None:
            if on_progress is not None:
                on_progress(len(old) + done, len(self.chosen), running)

        try:
            for claim, result in experiments(left, self.run, min(self.workers, len(left)), show):
                self._keep(claim, result, machine)
        finally:
            self._write_index()
        return {
            "folder": str(self.folder),
            "form": form(self.run),
            "seeds": list(self.run.seeds),
            "claims": [{**self.records[claim.slug], "kept": claim.slug in old} for claim in self.chosen],
            "cannot_run_here": [
                {"number": lookup_claim(slug).number, "slug": slug, "needs": list(needs)}
                for slug, needs in self.missing.items()
            ],
        }

    def interrupted(self) -> str:
        """What is there after Ctrl-C, and how to go on."""
        again = command([claim.slug for claim in self.chosen], self.run)
        return (
            f"interrupted; {len(self.records)} of {len(self.chosen)} claims are done and kept in {self.folder}; "
            f"the same command goes on: {again} --out {self.folder}"
        )

    def _kept(self) -> dict[str, Record]:
        found = {claim.slug: kept(self.folder, claim, self.run) for claim in self.chosen}
        return {slug: one for slug, one in found.items() if one is not None}

    def _keep(self, claim: Claim, result: Made | Failed, machine: Mapping[str, Any]) -> None:
        """The record comes last: where it is, the rest is too."""
        made = self.records[claim.slug] = record(claim, self.run, result, machine)
        place = self.folder / f"{claim.slug}.json"
        place.unlink(missing_ok=True)
        if isinstance(result, Made):
            write_atomically(place.with_suffix(".svg"), result.picture)
        else:
            place.with_suffix(".svg").unlink(missing_ok=True)
        write_atomically(place.with_suffix(".md"), page(made))
        write_atomically(place, to_json(made))

    def _write_index(self) -> None:
        known = {claim.slug: claim for claim in (*claims().values(), *self.chosen)}
        ordered = sorted(known.values(), key=lambda claim: claim.number)
        found = {slug: read(self.folder, slug) for slug in known}
        write_atomically(self.folder / INDEX, index(ordered, {s: one for s, one in found.items() if one is not None}))


def prepare(
    slugs: Sequence[str],
    *,
    out: str | Path,
    quick: bool = False,
    seed_count: int | None = None,
    workers: int | None = None,
    again: bool = False,
) -> Prepared:
    """Check what is asked for.

    Args:
        slugs: of claims, or `all`.
        out: the folder for results; finished ones of the same form are kept.
        quick: small experiments, for all claims within a few minutes.
        seed_count: how many seeds, where anything is random; by default 3 for quick experiments and 10 for others.
        workers: how many experiments at the same time; by default one on each core, up to 8.
        again: make those too whose result is there.

    Raises:
        KeyError: for an unknown claim, with the nearest name.
        ValueError: for a number below 1, a folder that cannot be written to, or a claim asked for by name that cannot
            run here, with what it needs.
    """
    for name, value in (("--seeds", seed_count), ("--workers", workers)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    named = [lookup_claim(slug) for slug in dict.fromkeys(slugs) if slug != ALL]
    if ALL in slugs:
        named = list(claims().values())
    missing = {claim.slug: claim.missing for claim in named if claim.missing}
    if missing and ALL not in slugs:
        slug, needs = next(iter(missing.items()))
        raise ValueError(f"the claim {slug!r} cannot run here: it needs {' and '.join(needs)}")
    require_writable_folder(Path(out), "--out")
    return Prepared(
        chosen=sorted((claim for claim in named if not claim.missing), key=lambda claim: claim.number),
        missing=missing,
        run=Run(quick, seeds(seed_count) if seed_count else ()),
        workers=workers or _cores(),
        folder=Path(out),
        again=again,
    )


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)
