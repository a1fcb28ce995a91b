"""The command that measures speed: bench."""

from __future__ import annotations

from typing import Annotated

import typer

from ravine.cli.common import JsonFile, app, whole, write_json, wrong_call


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Such as adamw or sgd:momentum=0.9; default: the usual ones."),
    ] = None,
    shapes: Annotated[
        str | None, typer.Option(help="gpt: 98 tensors, 34 M parameters; small: 1000 tensors of 256 elements.")
    ] = None,
    rounds: Annotated[int | None, whole("Rounds of steps, of one ratio each.")] = None,
    steps: Annotated[int | None, whole("Steps of each side in a round.")] = None,
    engine: Annotated[str, typer.Option(help="auto, reference, native or triton.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, xpu or mps.")] = "cpu",
    threads: Annotated[int | None, whole("Threads of torch and ravine alike.")] = None,
    peers: Annotated[bool, typer.Option(help="Time other installed libraries too.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that everything runs.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a bound of the project is missed.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Time each optimizer's step against torch's fused AdamW, side by side, and the machine's streaming ceiling."""
    from ravine.bench.measure import Measurement
    from ravine.bench.settings import require_place_for, settings_of
    from ravine.bench.terminal import console, print_checks, print_measurement, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        measurement = Measurement(
            settings_of(
                names or (), shapes=shapes, rounds=rounds, steps=steps, engine=engine, dtype=dtype, device=device,
                threads=threads, peers=peers, quick=quick, check=check,
            )
        )  # fmt: skip
    try:
        with progress_bar(measurement.units) as progress:
            measurement.run(progress)
    except KeyboardInterrupt:
        if json_file != "-":
            print_measurement(measurement, console())
        raise
    except RuntimeError as error:
        raise typer.TyperException(str(error)) from error
    result = measurement.as_dict()
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_measurement(measurement, console())
        if check:
            print_checks(measurement.checks, console())
    if check and not all(each.met for each in measurement.checks):
        raise typer.Exit(1)
