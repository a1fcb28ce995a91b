"""Commands that show what optimizers are: list, show, tree, doctor, schedule."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ravine.cli.common import JsonFile, Name, app, number, whole, write_json, wrong_call


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


SvgFile = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Write the picture to FILE.")]
MermaidFile = Annotated[
    str | None, typer.Option("--mermaid", metavar="FILE", help="Write it as Mermaid to FILE; - is standard output.")
]
MarkdownFile = Annotated[
    str | None, typer.Option("--markdown", metavar="FILE", help="Write it as Markdown to FILE; - is standard output.")
]


def _write(text: str, file: str, argument: str) -> None:
    """Write a text to standard output or to a file that appears whole or not at all."""
    from ravine.lab.files import write_given

    if file == "-":
        sys.stdout.write(text)
    else:
        write_given(file, text, argument)


@app.command()
def show(
    name: Name,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show the lines in which NAME differs from this other one.")
    ] = None,
    svg: SvgFile = None,
    mermaid: MermaidFile = None,
    markdown: MarkdownFile = None,
    json_file: JsonFile = None,
) -> None:
    """Show the equations of an optimizer, from its source, with its settings, states and weight decay.

    --svg and --mermaid draw the flow of a step: what is computed from what, and what is kept for the next step.
    With --against, the lines that differ are shown instead, as Markdown too.
    """
    if against is not None:
        _show_difference(name, against, svg or mermaid, markdown, json_file)
        return
    from ravine.explain.equations import show as shown_of
    from ravine.explain.terminal import console, print_shown

    with wrong_call():
        if markdown is not None:
            raise ValueError("--markdown writes a difference; say from what, with --against NAME")
        shown = shown_of(name)
        if (json_file, svg, mermaid) != (None, None, None):
            from ravine.explain import diagram

            flow = diagram.flow(name)
            if svg is not None:
                _write(diagram.svg(flow), svg, "--svg")
            if mermaid is not None:
                _write(diagram.mermaid(flow), mermaid, "--mermaid")
            if json_file is not None:
                write_json({**shown.as_dict(), "flow": flow.as_dict()}, json_file)
    if "-" not in (json_file, svg, mermaid):
        print_shown(shown, console())


def _show_difference(name: str, against: str, drawn: str | None, markdown: str | None, json_file: str | None) -> None:
    from ravine.explain.difference import difference
    from ravine.explain.terminal import console, print_difference

    with wrong_call():
        if drawn is not None:
            raise ValueError("--svg and --mermaid draw one optimizer; leave --against out")
        found = difference(name, against)
        if markdown is not None:
            _write(found.markdown(), markdown, "--markdown")
    if json_file is not None:
        write_json(found.as_dict(), json_file)
    if "-" not in (json_file, markdown):
        print_difference(found, console())


@app.command()
def tree(
    svg: SvgFile = None, mermaid: MermaidFile = None, markdown: MarkdownFile = None, json_file: JsonFile = None
) -> None:
    """Show the family tree of the optimizers: which is a change of which, and why."""
    from ravine.explain import tree as trees
    from ravine.explain import tree_picture
    from ravine.explain.terminal import console, print_tree

    family = trees.tree()
    with wrong_call():
        if svg is not None:
            _write(tree_picture.svg(family), svg, "--svg")
        if mermaid is not None:
            _write(trees.mermaid(family), mermaid, "--mermaid")
        if markdown is not None:
            _write(trees.markdown(family), markdown, "--markdown")
    if json_file is not None:
        write_json(family.as_dict(), json_file)
    if "-" not in (json_file, svg, mermaid, markdown):
        print_tree(family, console())


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
