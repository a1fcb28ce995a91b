"""Commands that show what optimizers are: list, show, trace, doctor, schedule."""

from __future__ import annotations

from typing import Annotated

import typer

from ravine.cli.common import JsonFile, Name, app, number, whole, write_json, wrong_call
from ravine.rule import Decay


@app.command("list")
def list_optimizers(json_file: JsonFile = None) -> None:
    """List the optimizers: name, paper, state bytes per parameter, engines."""
    from ravine.explain.overview import listing
    from ravine.explain.terminal import console, print_list

    rows = listing()
    if json_file is not None:
        write_json(rows, json_file)
    if json_file != "-":
        print_list(rows, console())


@app.command()
def show(name: Name, json_file: JsonFile = None) -> None:
    """Show the equations of an optimizer, from its source, with its settings, states and weight decay."""
    from ravine.explain.equations import show as shown_of
    from ravine.explain.terminal import console, print_shown

    with wrong_call():
        shown = shown_of(name)
    if json_file is not None:
        write_json(shown.as_dict(), json_file)
    if json_file != "-":
        print_shown(shown, console())


@app.command()
def trace(
    name: Name,
    x0: Annotated[float, number("Where θ starts.")] = 2.0,
    loss: Annotated[str, typer.Option(help="The loss, an expression in x.")] = "(x-1)**2",
    steps: Annotated[int, whole("How many steps.")] = 1,
    lr: Annotated[float | None, number("The learning rate η.")] = None,
    beta1: Annotated[float | None, number("β₁, of the first moment.")] = None,
    beta2: Annotated[float | None, number("β₂, of the second moment.")] = None,
    eps: Annotated[float | None, number("ε, in the denominator.")] = None,
    momentum: Annotated[float | None, number("The momentum μ.")] = None,
    weight_decay: Annotated[float | None, number("Weight decay λ.")] = None,
    decay: Annotated[Decay | None, typer.Option(help="What λ means.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Trace an optimizer on a loss of one number, line by line, with the numbers in every line."""
    from ravine.explain.terminal import console, print_trace
    from ravine.explain.trace import trace as trace_of
    from ravine.optim.written import parse_settings
    from ravine.registry import lookup

    common = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
    with wrong_call():
        rule = lookup(name)
        hyper = {key: value for key, value in common.items() if value is not None} | parse_settings(rule, set_ or [])
        made = trace_of(rule, loss, x0, steps, decay=decay, **hyper)
    if json_file is not None:
        write_json(made.as_dict(), json_file)
    if json_file != "-":
        print_trace(made, console())


@app.command()
def doctor(json_file: JsonFile = None) -> None:
    """Say what ravine finds on this machine, which engine it will use, and why."""
    from ravine.explain.overview import doctor as examine
    from ravine.explain.terminal import console, print_doctor

    facts = examine()
    if json_file is not None:
        write_json(facts, json_file)
    if json_file != "-":
        print_doctor(facts, console())


@app.command()
def schedule(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="constant, linear, cosine, wsd, inverse_sqrt or inverse.")
    ],
    steps: Annotated[int, whole("Steps of the run.")] = 1000,
    lr: Annotated[float, number("The peak learning rate.")] = 1.0,
    warmup: Annotated[int | None, whole("Steps of warm-up.")] = None,
    floor: Annotated[float | None, number("Where it ends, as a fraction of the peak.")] = None,
    decay_steps: Annotated[int | None, whole("wsd: steps of decay.")] = None,
    tail: Annotated[str | None, typer.Option(help="wsd: linear, 1-sqrt or cosine.")] = None,
    timescale: Annotated[float | None, number("inverse, inverse_sqrt: steps.")] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the curve as a page to FILE.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Draw a learning rate schedule."""
    from ravine.explain.schedules import draw, print_drawing, write_page
    from ravine.explain.terminal import console

    with wrong_call():
        drawing = draw(
            name, steps, lr, warmup_steps=warmup, floor=floor, decay_steps=decay_steps, tail=tail, timescale=timescale
        )
        if html is not None:
            write_page(drawing, html)
    if json_file is not None:
        write_json(drawing.as_dict(), json_file)
    if json_file != "-":
        print_drawing(drawing, console())
