"""The commands that try out what the literature says: claims, claims show, claims run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ravine.cli.common import INTERRUPTED, JsonFile, app, failing, whole, write_json, wrong_call
from ravine.cli.options import Quiet, text

claims = typer.Typer(help="What the literature says of optimizers, tried out: list, show, run.")
app.add_typer(claims, name="claims")

Out = Annotated[str, text("For records, pictures and pages.", "DIR")]
OUT = "ravine-claims"


@claims.callback(invoke_without_command=True)
def list_claims(context: typer.Context, out: Out = OUT, json_file: JsonFile = None) -> None:
    """What the literature says of optimizers, as experiments; without a command, list them with their last verdict."""
    if context.invoked_subcommand is not None:
        return
    from ravine.explain.claims.claim import claims as all_claims
    from ravine.explain.claims.record import read
    from ravine.explain.claims.terminal import listed, print_list
    from ravine.lab.terminal import console

    known = list(all_claims().values())
    rows = listed(known, {claim.slug: read(Path(out), claim.slug) for claim in known})
    if json_file is not None:
        write_json(rows, json_file)
    if json_file != "-":
        print_list(rows, console())


@claims.command()
def show(
    slug: Annotated[str, typer.Argument(metavar="CLAIM", help="Its name, from the list.")], json_file: JsonFile = None
) -> None:
    """Show what is claimed, by whom, what the experiment does, and what has to come out."""
    from ravine.explain.claims.claim import lookup_claim
    from ravine.explain.claims.terminal import described, print_claim
    from ravine.lab.terminal import console

    with wrong_call():
        claim = described(lookup_claim(slug))
    if json_file is not None:
        write_json(claim, json_file)
    if json_file != "-":
        print_claim(claim, console())


@claims.command()
def run(
    slugs: Annotated[list[str], typer.Argument(metavar="CLAIM...|all", help="Names from the list.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small experiments: all of them within five minutes.")] = False,
    seeds: Annotated[int | None, whole("Where anything is random; default 10, and 3 with --quick.")] = None,
    workers: Annotated[int | None, whole("Experiments at the same time; default: one on each core, up to 8.")] = None,
    out: Out = OUT,
    again: Annotated[bool, typer.Option("--again", help="Also those whose result is there.")] = False,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Make the experiments of claims, and write records, pictures and pages; what is finished is kept."""
    from ravine.bench.settings import require_place_for
    from ravine.explain.claims.runner import prepare
    from ravine.explain.claims.terminal import print_result
    from ravine.lab.terminal import console, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        prepared = prepare(slugs, quick=quick, seed_count=seeds, workers=workers, out=out, again=again)
    try:
        with failing(), progress_bar(quiet) as shown:
            result = prepared.make(shown)
    except KeyboardInterrupt:
        print(f"ravine: {prepared.interrupted()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_result(result, console())
    if any(one["error"] is not None for one in result["claims"]):
        raise typer.Exit(1)
