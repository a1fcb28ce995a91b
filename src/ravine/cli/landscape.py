"""The command that draws optimizers at work on a landscape: landscape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ravine.cli.common import JsonFile, WrongCall, app, failing, number, whole, write_json, wrong_call
from ravine.cli.options import Data, Model, Quiet, TaskOptions, Tokenizer, task_options, text

OF_FUNCTIONS = ("on", "start", "x", "y", "noise", "schedule")
OF_NETWORKS = (
    "task", "size", "plane", "checkpoints", "cells", "trials", "batch", "data", "model", "tokenizer", "option"
)  # fmt: skip


@app.command()
def landscape(
    arms: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTIMIZER...", help="Such as sgd or adamw:lr=0.1; lr is tuned where it is not given."),
    ] = None,
    on: Annotated[
        str | None, text("ravine (default), rosenbrock, beale, saddle, himmelblau or FILE.py:FUNCTION.", "WHERE")
    ] = None,
    steps: Annotated[int | None, whole("Steps of a run; default: the landscape's, or the task's.")] = None,
    start: Annotated[str | None, text("Where all begin, such as -10,1; default: the landscape's.", "X,Y")] = None,
    x: Annotated[str | None, text("What is drawn of x, such as -2,2.", "LOW,HIGH")] = None,
    y: Annotated[str | None, text("What is drawn of y.", "LOW,HIGH")] = None,
    schedule: Annotated[str | None, text("Of the learning rate: constant (default), linear, cosine, ...")] = None,
    noise: Annotated[float | None, number("Standard deviation of noise on each component of the gradient.")] = None,
    network: Annotated[bool, typer.Option("--network", help="The loss of a network on a plane instead.")] = False,
    task: Annotated[str | None, text("--network: digits (default), lm, ...")] = None,
    size: Annotated[str | None, text("--network: tiny (default), small or base.")] = None,
    plane: Annotated[
        str | None, text("--network: checkpoints (through three points), pca (of the paths) or random.")
    ] = None,
    checkpoints: Annotated[
        tuple[str, str, str] | None,
        typer.Option(metavar="A B C", help="--network: three files of ravine train that the plane goes through."),
    ] = None,
    cells: Annotated[int | None, whole("--network: values along each side of the grid; default 31.")] = None,
    trials: Annotated[int | None, whole("--network: learning rates that are tried where none is given; 9.")] = None,
    batch: Annotated[int | None, whole("--network: examples of a step; default: the task's.")] = None,
    data: Data = None,
    model: Model = None,
    tokenizer: Tokenizer = None,
    option: TaskOptions = None,
    seed: Annotated[int, whole("Of noise; of weights, data and random directions.")] = 1,
    out: Annotated[str | None, text("Write the picture to FILE, .svg or .png.", "FILE")] = None,
    html: Annotated[str | None, text("Write the animation to FILE, a page.", "FILE")] = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Watch optimizers at work: on a function of two numbers, or on the loss of a network along a plane."""
    given = {
        "on": on, "start": start, "x": x, "y": y, "noise": noise, "schedule": schedule, "task": task, "size": size,
        "plane": plane, "checkpoints": checkpoints, "cells": cells, "trials": trials, "batch": batch, "data": data,
        "model": model, "tokenizer": tokenizer, "option": option or None,
    }  # fmt: skip
    _refuse_foreign(given, network)
    from ravine.bench.settings import require_place_for
    from ravine.explain import figure
    from ravine.explain.landscape import landscape as on_function
    from ravine.explain.landscape import network_landscape
    from ravine.explain.landscape.table import print_result
    from ravine.lab.files import write_given
    from ravine.lab.terminal import console

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        _require_places(out, html)
        wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if network:
            wanted |= task_options(wanted.pop("option", []))
            listed = arms or ([] if checkpoints else ["adamw", "sgd", "muon"])
        else:
            wanted |= {name: _pair(wanted[name], name) for name in ("start", "x", "y") if name in wanted}
            listed = arms or ["sgd", "sgd:momentum=0.9", "adam"]
    with failing(), wrong_call(), _progress(quiet) as tell:
        make = network_landscape if network else on_function
        result = make(**({"arms": listed} | wanted), steps=steps, seed=seed, on_progress=tell)
    with wrong_call():
        if out is not None:
            figure.save(result.figure(), out, "--out")
        if html is not None:
            write_given(html, result.html(), "--html")
    if json_file is not None:
        write_json(result.as_dict(), json_file)
    if json_file != "-":
        print_result(result, console())


def _refuse_foreign(given: dict[str, Any], network: bool) -> None:
    """An option of the other kind of landscape is a mistake."""
    for name in OF_FUNCTIONS if network else OF_NETWORKS:
        if given[name] is not None:
            where = "is for functions, without --network" if network else "is for the loss of a network, with --network"
            raise WrongCall(f"--{name} {where}")


def _require_places(out: str | None, html: str | None) -> None:
    """Refuse files that could not be written when the work is done."""
    from pathlib import Path

    from ravine.explain.figure import require_format
    from ravine.lab.files import require_writable_folder

    if out is not None:
        require_format(out, "--out")
    for file, name in ((out, "--out"), (html, "--html")):
        if file is not None:
            folder = Path(file).absolute().parent
            if not folder.is_dir():
                raise ValueError(f"{name}: there is no folder {folder}")
            require_writable_folder(folder, name)


def _pair(written: str, name: str) -> tuple[float, float]:
    """Two numbers as they are written on the command line."""
    try:
        first, second = (float(part) for part in written.split(","))
    except ValueError:
        raise ValueError(f"--{name} is two numbers with a comma between them, such as -2,2, got {written!r}") from None
    return first, second


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error; none where that is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ravine.lab.terminal import console

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as bar:
        shown = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(shown, completed=done, total=total, description=what)
