"""The command decay: one meaning of weight decay for another."""

from __future__ import annotations

from typing import Annotated

import typer

from ravine.cli.common import JsonFile, WrongCall, app, number, whole, write_json, wrong_call


@app.command()
def decay(
    source: Annotated[
        str | None, typer.Option("--from", metavar="MEANING", help="Whose weight decay it is: torch, paper, ...")
    ] = None,
    target: Annotated[str | None, typer.Option("--to", metavar="MEANING", help="Whose it is to be.")] = None,
    lr: Annotated[float | None, number("The highest learning rate of the run.")] = None,
    weight_decay: Annotated[float | None, number("Weight decay λ.")] = None,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="The optimizer, which matters where λ·p is added to the gradient.")
    ] = "adamw",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of it; may be repeated.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare the two over a run: cosine, linear, wsd, ...")
    ] = None,
    steps: Annotated[int, whole("Steps of the run.")] = 1000,
    warmup: Annotated[int | None, whole("Steps of warm-up.")] = None,
    floor: Annotated[float | None, number("Where the schedule ends, as a fraction of the peak.")] = None,
    decay_steps: Annotated[int | None, whole("wsd: steps of decay.")] = None,
    timescale: Annotated[float | None, number("inverse, inverse_sqrt: steps.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Convert weight decay between papers and frameworks; without --from and --to, list what λ means to whom."""
    from ravine.explain.converter import MEANINGS, STRENGTHS, convert
    from ravine.explain.decay_terminal import print_conversion, print_meanings
    from ravine.explain.terminal import console
    from ravine.optim.written import parse_settings
    from ravine.registry import lookup

    needed = {"--from": source, "--to": target, "--lr": lr, "--weight-decay": weight_decay}
    if all(value is None for value in needed.values()):
        if json_file is not None:
            rows = [{"name": m.name, "line": STRENGTHS[m.form].line, "where": m.where} for m in MEANINGS.values()]
            write_json(rows, json_file)
        if json_file != "-":
            print_meanings(console())
        return
    missing = [option for option, value in needed.items() if value is None]
    if source is None or target is None or lr is None or weight_decay is None:
        raise WrongCall(f"a conversion needs {', '.join(missing)} too; `ravine decay` alone lists the meanings")
    with wrong_call():
        made = convert(
            source,
            target,
            lr=lr,
            weight_decay=weight_decay,
            optimizer=optimizer,
            settings=parse_settings(lookup(optimizer), set_ or []),
            schedule=schedule,
            steps=steps,
            warmup_steps=warmup,
            floor=floor,
            decay_steps=decay_steps,
            timescale=timescale,
        )
    if json_file is not None:
        write_json(made.as_dict(), json_file)
    if json_file != "-":
        print_conversion(made, console())
