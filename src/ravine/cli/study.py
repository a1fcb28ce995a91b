"""Commands that answer a question with several comparisons: study pretrain-finetune."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ravine.cli.common import INTERRUPTED, JsonFile, app, failing, whole, write_json, wrong_call
from ravine.cli.options import text

study = typer.Typer(no_args_is_help=True, help="Questions that take several comparisons.")
app.add_typer(study, name="study")


@study.command()
def pretrain_finetune(
    arms: Annotated[
        list[str] | None, typer.Argument(metavar="ARM ARM", help="Two optimizers; default: adamw muon.")
    ] = None,
    size: Annotated[str, text("Of model and data: small (default), tiny for a try, or base.")] = "small",
    data: Annotated[str | None, text("A folder of .py files; default: Python's standard library.", "PATH")] = None,
    steps: Annotated[int | None, whole("Steps of a pre-training run; default: the task's.")] = None,
    post_steps: Annotated[int | None, whole("Steps of a post-training run; default: the task's.")] = None,
    trials: Annotated[int | None, whole("Runs of each search for settings; default 8.")] = None,
    seeds: Annotated[int | None, whole("Judged runs of each optimizer on each base; default 5.")] = None,
    bases: Annotated[int, whole("Models that each optimizer pre-trains.")] = 3,
    precision: Annotated[str, text("auto (default), float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, text("auto (default), cpu or cuda.")] = "auto",
    workers: Annotated[int | None, whole("Processes that make runs at the same time.")] = None,
    out: Annotated[str | None, text("For all stages; default: ravine-study/pretrain-finetune-...", "DIR")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Is a model that was pre-trained with one optimizer worse off when it is post-trained with another?"""
    from ravine.bench.settings import require_place_for
    from ravine.lab.pretrain_finetune import prepare
    from ravine.lab.pretrain_finetune.page import print_result
    from ravine.lab.terminal import console, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        experiment = prepare(
            arms or ["adamw", "muon"], out=out, size=size, data=data, steps=steps, post_steps=post_steps,
            trials=trials, seeds=seeds, bases=bases, precision=precision, device=device, workers=workers,
        )  # fmt: skip
    try:
        with failing(), progress_bar(quiet) as shown:
            result = experiment.run(shown)
    except KeyboardInterrupt:
        print(f"ravine: {experiment.interrupted()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_result(result, experiment.report, console())
