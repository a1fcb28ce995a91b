"""The command that draws heat maps: sweep."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ravine.cli.common import INTERRUPTED, JsonFile, app, failing, whole, write_json, wrong_call
from ravine.cli.options import (
    Base,
    Batch,
    Clip,
    Data,
    Device,
    Model,
    Quiet,
    Schedule,
    Size,
    Steps,
    TaskOptions,
    Tokenizer,
    Warmup,
    task_options,
    text,
)


@app.command()
def sweep(
    optimizer: Annotated[str, typer.Argument(metavar="OPTIMIZER", help="Such as adamw, or adamw:beta2=0.95.")],
    over: Annotated[str, text("The two settings of the grid, the first along x.", "NAMES")] = "lr,weight_decay",
    decay: Annotated[
        str | None, text("Forms of weight decay, a map each: lr,schedule,lr_squared,l2; default: all.", "FORMS")
    ] = None,
    cells: Annotated[int, whole("Values along each side of a map.")] = 8,
    space: Annotated[list[str] | None, text("Where: lr=1e-4..1e-1; may be repeated.", "NAME=PLACE")] = None,
    task: Annotated[str, text("digits, lm, ridge, quadratic, rosenbrock, ...")] = "digits",
    size: Size = None,
    data: Data = None,
    model: Model = None,
    tokenizer: Tokenizer = None,
    base: Base = None,
    option: TaskOptions = None,
    steps: Steps = None,
    batch: Batch = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    clip: Clip = None,
    seed: Annotated[int, whole("Of weights and data, the same for every cell.")] = 1,
    device: Device = None,
    out: Annotated[str | None, text("For the maps; default: ravine-sweep/OPTIMIZER-TASK.", "DIR")] = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Draw the loss over two settings of an optimizer: a heat map for each form of weight decay."""
    given: dict[str, Any] = {
        "task": task, "size": size, "data": data, "model": model, "tokenizer": tokenizer, "base": base, "steps": steps,
        "batch": batch, "schedule": schedule, "warmup": warmup, "clip": clip, "device": device,
    }  # fmt: skip
    from ravine.bench.settings import require_place_for
    from ravine.lab.study.execute import Running
    from ravine.lab.sweep import prepare, print_sweep
    from ravine.lab.terminal import console, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        given["options"] = task_options(option or [])
        prepared = prepare(
            optimizer, _names(over), decay=_names(decay or ""), cells=cells, space=_space(space or []), seed=seed,
            out=out, **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip
    try:
        with failing(), progress_bar(quiet) as shown:
            result = prepared.run(
                lambda done, total, what, step, steps: shown(done, total, [Running(what, step, steps)])
            )
    except KeyboardInterrupt:
        print(f"ravine: {prepared.interrupted()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_sweep(result, prepared.page, console())


def _names(written: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in written.split(",") if part.strip())


def _space(written: list[str]) -> dict[str, str]:
    space = {}
    for one in written:
        name, equals, place = (part.strip() for part in one.partition("="))
        if not equals or not name or not place:
            raise ValueError(f"--space is written lr=1e-4..1e-1 or beta2=0.9|0.95, got {one!r}")
        space[name] = place
    return space
