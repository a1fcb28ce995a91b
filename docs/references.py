"""What is drawn from the code for the pages: equations, claims, the commands, the Python interface, measurements."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = ROOT / "docs" / "claims"


def equations(name: str, page: Path) -> str:
    """The lines of a rule at its default settings, or those of the outermost wrapper, as a formula."""
    from ravine.explain.equations import equations as equations_of
    from ravine.explain.settled import equations_at_defaults
    from ravine.registry import lookup

    rule = lookup(name)
    if rule.wrapper:
        lines = list(equations_of(rule)[0].lines)
    else:
        # The line that adds λ·θ to the gradient adds nothing where λ is 0.
        lines = equations_at_defaults(rule)[rule.decay == "l2" and rule.defaults["weight_decay"] == 0 :]
    written = ["&" + r"\quad " * line.indent + line.latex.replace(r"\operatorname{", r"\mathrm{") for line in lines]
    return "```math\n\\begin{aligned}\n" + " \\\\\n".join(written) + "\n\\end{aligned}\n```"


def claims(numbers: str, page: Path) -> str:
    """Links to claims by their numbers, with the verdict of each that has been tested."""
    from ravine.explain.claims.claim import claims as all_claims

    by_number = {claim.number: claim for claim in all_claims().values()}
    up = "../" * len(page.relative_to(ROOT / "docs").parent.parts)
    rows = []
    for number in map(int, numbers.split()):
        if number not in by_number:
            raise ValueError(f"there is no claim {number}")
        claim = by_number[number]
        record = CLAIMS / f"{claim.slug}.json"
        title = f"{claim.title}"
        if record.is_file():
            verdict = json.loads(record.read_text(encoding="utf-8"))["verdict"]
            title = f"[{title}]({up}claims/{claim.slug}.md): {verdict}"
        rows.append(f"- Claim {number}: {title}. `ravine claims run {claim.slug}`")
    return "\n".join(rows)


def commands(names: str, page: Path) -> str:
    """Commands with their arguments and options: those that are named, or after a `not` all others."""
    import typer.main

    from ravine.cli import app

    all_commands = typer.main.get_group(app).commands
    others, listed = names.startswith("not "), names.removeprefix("not ").split()
    unknown = sorted(set(listed) - set(all_commands))
    if unknown:
        raise ValueError(f"there is no command {', '.join(unknown)}")
    shown = {name: command for name, command in sorted(all_commands.items()) if (name in listed) != others}
    return "\n\n".join(part for name, command in shown.items() for part in _command(f"ravine {name}", command, 2))


def _command(written: str, command: Any, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} `{written}`"
    if command.help:
        yield inspect.cleandoc(command.help).split("\f")[0]
    inner = getattr(command, "commands", {})
    rows = _rows(command)
    if rows and (not inner or command.invoke_without_command):
        yield _table(("", ""), rows)
    for name, each in sorted(inner.items()):
        yield from _command(f"{written} {name}", each, depth + 1)


def _rows(command: Any) -> list[tuple[str, str]]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        rows.append((_written(parameter), _told(parameter)))
    return rows


def _written(parameter: Any) -> str:
    """An argument or option as one writes it."""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or str(parameter.name).upper()
        return f"`{name}`" if parameter.required or name.startswith("[") else f"`[{name}]`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return names
    return f"{names} `{parameter.metavar or _kind(parameter.type_descriptor.annotation)}`"


def _kind(annotation: Any) -> str:
    """What an option takes: one of several words, or a text."""
    words = get_args(annotation) if get_origin(annotation) is Literal else ()
    return "|".join(words) or "TEXT"


def _told(parameter: Any) -> str:
    default = parameter.default
    shown = not callable(default) and default not in (None, (), [], False) and parameter.param_type_name == "option"
    text = " ".join((getattr(parameter, "help", None) or "").split())
    value = getattr(default, "value", default)
    return f"{text} Default: `{value}`." if shown else text


def python(words: str, page: Path) -> str:
    """Functions and classes of a module, all or those named, with their signatures and docstrings."""
    name, *names = words.split()
    module = importlib.import_module("ravine")
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    parts = []
    for member in names or sorted(module.__all__, key=str.lower):
        what = getattr(module, member)
        if inspect.isfunction(what) or inspect.isclass(what):
            parts += _member(f"{name}.{member}", what)
    return "\n\n".join(parts)


def _member(name: str, what: Any) -> list[str]:
    signature = re.sub(r"<factory>|<object object at 0x[0-9a-f]+>", "...", str(inspect.signature(what)))
    for long in ("collections.abc.", "torch.nn.modules.module.", "torch.nn.parameter.", "typing."):
        signature = signature.replace(long, "")
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
    return [
        f"## `{name}`",
        f"```text\n{name.rsplit('.', 1)[-1]}{signature}\n```",
        *docstring(inspect.getdoc(what) or ""),
    ]


HEADS = {"Args": "Arguments"}
SECTION = re.compile(r"^(Args|Returns|Raises|Example|Examples|Yields|Warns|Attributes):[ ]*(.*)$")


def docstring(text: str) -> Iterator[str]:
    """A docstring in Markdown: paragraphs, arguments and errors as lists, examples as sessions."""
    paragraph: list[str] = []
    lines = [*text.splitlines(), ""]
    i = 0
    while i < len(lines):
        section = SECTION.match(lines[i])
        if section is None:
            if lines[i].strip():
                paragraph.append(lines[i])
            elif paragraph:
                yield _prose(paragraph)
                paragraph = []
            i += 1
            continue
        body = []
        i += 1
        while i < len(lines) and (not lines[i].strip() or lines[i].startswith(" ")):
            body.append(lines[i])
            i += 1
        if paragraph:
            yield _prose(paragraph)
            paragraph = []
        yield from _section(section[1], section[2], inspect.cleandoc("\n".join(["", *body])))


def _prose(lines: Sequence[str]) -> str:
    if any(line.startswith("    ") for line in lines):
        return "```text\n" + "\n".join(lines) + "\n```"
    return "\n".join(lines)


def _section(name: str, first: str, body: str) -> Iterator[str]:
    if name.startswith("Example"):
        yield f"{name}:"
        yield f"```python-console\n{body}\n```"
        return
    if name == "Returns" or not re.search(r"^[\w`*][\w`*, .]*: ", body, re.MULTILINE):
        yield f"**{HEADS.get(name, name)}:** " + " ".join(f"{first} {body}".split())
        return
    yield f"**{HEADS.get(name, name)}:**{' ' + first if first else ''}"
    items = re.split(r"\n(?=\S)", body)
    yield "\n".join("- " + re.sub(r"^([\w*, .`]+?): ", r"**\1**: ", " ".join(item.split())) for item in items)


def benchmarks(file: str, page: Path) -> str:
    """The rows of ravine in a file of `ravine bench --json`, with the machine, the date and the command."""
    made = json.loads((ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
    machine = made["machine"]
    rows = [
        (
            row["optimizer"].replace("|", r"\|"),
            row["library"],
            row["shapes"],
            f"{row['ratio']['median']:.2f} ({row['ratio']['min']:.2f} to {row['ratio']['max']:.2f})",
            f"{row['milliseconds']:.2f}",
            f"{row['bytes_per_param']:g}",
            f"{100 * row['ceiling_share']:.0f} %" if row["ceiling_share"] else "",
        )
        for row in made["rows"]
    ]
    where = (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']:.0f} GB, {machine['system']}; "
        f"Python {machine['python']}, torch {machine['torch']}, ravine {machine['ravine']}; {made['date'][:10]}. "
        f"Ceiling: {made['ceiling_gb_per_s']:.0f} GB/s."
    )
    head = ("optimizer", "library", "shapes", "× torch's fused AdamW", "ms", "bytes/param", "of ceiling")
    return f"`{made['command']}`\n\n{where}\n\n{_table(head, rows)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("\n", " ") for cell in line) + " |" for line in lines)


def tests(folder: str, page: Path) -> str:
    """The test files of a folder with what each holds, from its first line."""
    rows = []
    up = "../" * len(page.relative_to(ROOT).parent.parts)
    for path in sorted((ROOT / folder).glob("test_*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        place = path.relative_to(ROOT).as_posix()
        rows.append(f"- [{path.name}]({up}{place}): {' '.join(first.split())}")
    return "\n".join(rows)
