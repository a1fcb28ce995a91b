"""What the commands print: Rich in a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ravine.explain.equations import Equation, Shown
from ravine.explain.trace import Step, Trace
from ravine.explain.typeset import is_scalar, number, symbol

PLAIN_WIDTH = 240  # a file or a pipe has no edge at which lines should break


def console() -> Console:
    """The console of this moment's standard output."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def _table(*headers: str) -> Table:
    """A table without lines; the header is left out where all its cells are empty."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=any(headers), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _indented(console: Console, what: Any) -> None:
    console.print(Padding(what, (0, 0, 0, 2), expand=False))


def _heading(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, style="bold"))


def named(name: str) -> str:
    """A hyperparameter as the equations write it, with its name where that is another: `η (lr)`."""
    written = symbol(name.rsplit(".", 1)[-1])
    return name if written == name.rsplit(".", 1)[-1] else f"{written} ({name})"


def value_of(value: Any) -> str:
    """A setting's value, to read."""
    return number(value) if is_scalar(value) else str(value)


def print_list(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The optimizers, a line each."""
    table = _table("name", "paper", "state bytes", "engines")
    table.columns[2].justify = "right"
    for row in rows:
        table.add_row(
            Text(row["name"], style="bold cyan"),
            row["paper"],
            str(row["state_bytes_per_param"]),
            ", ".join(row["engines"]),
        )
    console.print(table)
    console.print()
    console.print(Text("State bytes: per parameter, float32, default settings. More: ravine show NAME", style="dim"))


def print_shown(shown: Shown, console: Console) -> None:
    """The equations of a rule and what belongs to them."""
    facts = shown.info
    console.print(Text.assemble((facts.title, "bold cyan"), f": {facts.summary}"))
    console.print(Text(facts.paper, style="dim"))
    if facts.preset_of is not None:
        console.print(Text(f"The rule of {facts.preset_of} with other defaults.", style="dim"))

    _heading(console, "One step: θ is the parameter, g its gradient, t the step from 1")
    for section in shown.sections:
        if len(shown.sections) > 1:
            _indented(console, Text(section.name, style="italic"))
        for line in section.lines:
            _indented(console, _equation(line, extra=len(shown.sections) > 1))

    _heading(console, "Settings")
    table = _table("", "", "")
    for name, value in shown.hyper.items():
        own = name.rsplit(".", 1)[-1]
        table.add_row(Text(symbol(own), style="cyan"), name if symbol(own) != name else "", value_of(value))
    _indented(console, table)

    _heading(console, f"States: {facts.state_bytes_per_param} bytes per float32 parameter with these settings")
    table = _table("", "in a state dict", "bytes per parameter")
    for state in shown.states:
        size = str(state.bytes_per_param) if state.present else "not with these settings"
        table.add_row(Text(symbol(state.symbol.rsplit(".", 1)[-1]), style="cyan"), state.key, size)
    if shown.states:
        _indented(console, table)

    if shown.decays:
        _heading(console, f"Weight decay: customary is {facts.decay!r}; before the step, decay=... puts")
        table = _table("", "", "")
        for decay in shown.decays:
            puts = decay.line.text if decay.line is not None else "nothing"
            table.add_row(Text(decay.name, style="bold cyan" if decay.customary else "cyan"), puts, decay.meaning)
        _indented(console, table)


def _equation(line: Equation, extra: bool) -> Text:
    left, arrow, right = line.text.partition(" ← ")
    margin = "  " * (line.indent + extra)
    return Text.assemble(margin, (left, "cyan" if arrow else "italic"), arrow, right)


def print_trace(trace: Trace, console: Console) -> None:
    """Every step as a table of its lines, then what became of θ and the loss."""
    start = ", ".join(f"{symbol(name.rsplit('.', 1)[-1])} = {number(value)}" for name, value in trace.start.items())
    console.print(
        Text.assemble((trace.rule.title, "bold cyan"), " on the loss ", (f"L(θ) = {trace.loss.formula}", "bold"))
    )
    console.print(Text(f"Start: θ = {number(trace.steps[0].theta_before)}" + (f", {start}" if start else "")))
    console.print(Text(f"Settings: {_settings(trace)}"))
    for step in trace.steps:
        _print_step(step, console)


def _settings(trace: Trace) -> str:
    """The numbers of the settings, and whatever else is not as by default."""
    shown = [
        f"{named(name)} = {value_of(value)}"
        for name, value in trace.hyper.items()
        if (is_scalar(value) and not isinstance(value, bool)) or value != trace.rule.defaults[name]
    ]
    if trace.hyper.get("weight_decay"):
        shown.append(f"decay = {trace.decay}")
    return ", ".join(shown)


def _print_step(step: Step, console: Console) -> None:
    _heading(console, f"Step {step.t}")
    table = _table("", "formula", "with the numbers", "value")
    table.columns[0].no_wrap = True
    nested = any(len(line.section) > 1 for line in step.lines)
    entered: tuple[str, ...] = ()
    for line in step.lines:
        margin = "  " * len(line.section) if nested else ""
        for depth, name in enumerate(line.section):
            if nested and entered[: depth + 1] != line.section[: depth + 1]:
                table.add_row(Text("  " * depth + name, style="italic"))
        entered = line.section
        formula = "L′(θ) = " + line.formula if not line.section and line.symbol == "g" else line.formula
        table.add_row(
            Text.assemble(margin, (symbol(line.symbol), "cyan")),
            formula,
            line.substituted,
            Text(number(line.value), style="bold"),
        )
    _indented(console, table)
    _indented(
        console,
        Text.assemble(
            "θ: ", number(step.theta_before), " → ", (number(step.theta_after), "bold green"),
            "     loss L(θ): ", number(step.loss_before), " → ", (number(step.loss_after), "bold green"),
        ),
    )  # fmt: skip


def print_doctor(facts: Mapping[str, Any], console: Console) -> None:
    """What was found on the machine, and what follows from it."""
    cache = facts["cache"]
    rows = {
        **facts["versions"],
        "system": facts["system"],
        "threads": f"{facts['threads']} (torch.get_num_threads)",
        "C++ compiler": facts["compiler"] or "none found",
        "Triton": facts["triton"] or "not installed",
        "GPU": ", ".join(facts["gpus"]) or "none that torch can use",
        "kernel cache": cache.get("problem") or f"{cache['folder']}, {cache['kernels']} kernels",
    }
    table = _table("", "")
    for name, found in rows.items():
        table.add_row(name, str(found))
    console.print(table)
    _heading(console, "Engines that engine='auto' takes")
    table = _table("", "", "")
    for device, taken in facts["devices"].items():
        table.add_row(device, Text(taken["engine"], style="bold green"), taken["why"])
    _indented(console, table)
    for device, found in facts["orthogonalization"].items():
        _heading(console, f"How Muon orthogonalizes on {device}, by measured speeds")
        table = _table("", "")
        for name, value in found.items():
            table.add_row(name, value)
        _indented(console, table)
