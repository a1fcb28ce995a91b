"""The pages of the optimizers, a Markdown file for each rule and wrapper: written from the rule, none by hand.

`python docs/pages.py` writes them into docs/optimizers. Equations stand in ```math blocks, whose backslashes GitHub
leaves alone; in $$ blocks it does not.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ravine.explain import diagram, tree, tree_picture
from ravine.explain.cost import Cost, cost_of, state_bytes
from ravine.explain.decay import FORMS
from ravine.explain.difference import changes
from ravine.explain.equations import Section, equations
from ravine.explain.source import own_function
from ravine.explain.typeset import symbol
from ravine.registry import available, lookup, lookup_wrapper, wrappers
from ravine.rule import Rule, State
from ravine.wrapper import Wrapper

COMMAND = "python docs/pages.py"
INDEX = "README.md"
AROUND = "adamw"
NESTED = "lookahead(cautious(adamw))"
SHOWN_SHAPE = (1024, 1024)
USE = "Use it "
IMAGES = "images"
TREE = f"{IMAGES}/tree.svg"

KINDS = {
    "full": ("as the parameter", "4"),
    "row": ("one number a row", "4 / columns"),
    "column": ("one number a column", "4 / rows"),
    "left": ("rows × rows", "4 · rows / columns"),
    "right": ("columns × columns", "4 · columns / rows"),
    "host": ("one number", "none to speak of"),
    "shared": ("one number for the whole optimizer", "none to speak of"),
}


def pages() -> dict[str, str]:
    """The text of each page by its file's name: `adamw.md` and so on, and the index, `README.md`."""
    rules = [lookup(name) for name in available()]
    around = [lookup_wrapper(name) for name in wrappers()]
    texts = {f"{rule.name}.md": rule_page(rule) for rule in rules}
    texts |= {f"{wrapper.name}.md": wrapper_page(wrapper) for wrapper in around}
    return {**texts, INDEX: index(rules, around)}


def pictures() -> dict[str, str]:
    """The pictures on the pages by their place: `images/adamw.svg` and so on, and the tree, `images/tree.svg`."""
    drawn = {_image(name): picture(name) for name in (*available(), *wrappers())}
    return {**drawn, TREE: tree_picture.svg(tree.tree())}


def picture(name: str) -> str:
    """The flow diagram of a registered rule, or of a wrapper around AdamW, as SVG."""
    wrapped = name in wrappers()
    return diagram.svg(diagram.flow(f"{name}({AROUND})" if wrapped else name))


def rule_page(rule: Rule) -> str:
    """The page of a registered rule."""
    parts = [
        *_opening(rule.title, rule.doc, rule.paper, rule),
        _place(rule),
        f"Create it: `ravine.{rule.title}({_model(rule)})`, or by its name, "
        f'`ravine.create("{rule.name}", {_model(rule)})`.',
        *_use_and_notes(rule.doc),
        *_step(equations(rule)[:1]),
        *_flow(rule, rule.name),
        *_changes(rule),
        *_settings(rule, list(rule.defaults)),
        *_states(rule, list(rule.state)),
        *_cost(cost_of(rule), rule),
        *_decay(rule),
        *_example(rule),
    ]
    return _page(parts)


def wrapper_page(wrapper: Wrapper) -> str:
    """The page of a registered wrapper, shown around AdamW."""
    base = lookup(AROUND)
    rule = wrapper(base)
    parts = [
        *_opening(wrapper.title, wrapper.doc, wrapper.paper, rule),
        f"Create it around a rule: `ravine.{rule.title}(model.parameters())`, or by its name, "
        f'`ravine.create("{rule.name}", model.parameters())`.',
        *_use_and_notes(wrapper.doc),
        *_step(equations(rule)[:1], f"; `{AROUND}` stands for whatever rule it is around"),
        *_flow(rule, wrapper.name),
        *_settings(rule, [f"{wrapper.name}.{name}" for name in wrapper.own]),
        *_states(rule, [f"{wrapper.name}.{name}" for name in wrapper.state]),
        *_cost(cost_of(rule), rule, cost_of(base)),
        *_example(rule),
    ]
    return _page(parts)


def index(rules: Sequence[Rule], around: Sequence[Wrapper]) -> str:
    """The table of all pages."""
    base = lookup(AROUND)
    rows = [
        (f"[{r.title}]({r.name}.md)", _linked(r.paper), _bytes(state_bytes(r)), _traffic(cost_of(r)), r.summary)
        for r in sorted(rules, key=lambda r: r.title.lower())
    ]
    wrapped = [
        (
            f"[{w.title}]({w.name}.md)",
            _linked(w.paper),
            _bytes(state_bytes(w(base)) - state_bytes(base)),
            _traffic(cost_of(w(base))),
            w.doc.strip().split("\n", 1)[0].split(":", 1)[-1].strip(),
        )
        for w in sorted(around, key=lambda w: w.title.lower())
    ]
    parts = [
        "# Optimizers",
        "A page for each optimizer: when to use it, its equations, settings, states and cost. Everything on them comes "
        f"from the rules in `src/ravine/rules`; `{COMMAND}` writes them.",
        "State and traffic are bytes per parameter of a float32 matrix of 1024 × 1024 at default settings: what is "
        "kept from step to step, and what a step reads and writes in memory, gradient and parameter included; the "
        "mean, where steps differ. Where it says so, operations on whole matrices come on top of it.",
        _table(("optimizer", "source", "state", "traffic", ""), rows),
        "## Wrappers",
        f"They go around any rule, and around each other: `ravine.{lookup(NESTED).title}`. State is what they add; "
        f"traffic is that of {base.title} with the wrapper.",
        _table(("wrapper", "source", "state", "traffic", ""), wrapped),
        "## The family tree",
        f"![The family tree of the optimizers; the list below says the same in words.]({TREE})",
        tree.outline(tree.tree(), ".md"),
    ]
    return _page(parts)


def _place(rule: Rule) -> str:
    """Where a rule stands in the family tree."""
    where = f"[family tree]({INDEX}#the-family-tree)"
    if rule.parent is None:
        return f"All others descend from it: see the {where}."
    parent = lookup(rule.parent)
    return f"A change of [{parent.title}]({parent.name}.md) in the {where}. {rule.reason}"


def _flow(rule: Rule, name: str) -> list[str]:
    """The flow diagram, and how to read what is not plain."""
    drawn = diagram.flow(rule)
    words = "What is computed from what. Dashed arrows lead to what the next step begins with."
    if not all(node.always for node in drawn.nodes):
        words += f" Drawn is step {drawn.t}; lines in dashed boxes are not in every step."
    if drawn.of("setting"):
        words += " Small numbers are the default settings."
    return [words, f"![Flow diagram of one step of {rule.title}]({_image(name)})"]


def _image(name: str) -> str:
    return f"{IMAGES}/{name}.svg"


def _page(parts: Iterable[str]) -> str:
    return f"<!-- Written by `{COMMAND}`; edit the rule instead. -->\n\n" + "\n\n".join(parts) + "\n"


def _opening(title: str, doc: str, paper: str, rule: Rule) -> list[str]:
    place = f"src/{own_function(rule).__module__.replace('.', '/')}.py"
    source = f"[{place}](../../{place})"
    first = doc.strip().split("\n", 1)[0]
    return [f"# {title}", first, f"Source: {_linked(paper)}. In the code: {source}."]


def _use_and_notes(doc: str) -> list[str]:
    """The docstring's paragraphs after the first: when to use it, and the rest."""
    paragraphs = inspect.cleandoc(doc).split("\n\n")[1:]
    use = [p for p in paragraphs if p.startswith(USE)]
    notes = [p for p in paragraphs if not p.startswith(USE)]
    parts = ["## When to use it", *use] if use else []
    return [_linked(part) for part in [*parts, *(["## Notes", *notes] if notes else [])]]


def _step(sections: Sequence[Section], note: str = "") -> list[str]:
    lines = [
        "&" + r"\quad " * line.indent + line.latex.replace(r"\operatorname{", r"\mathrm{")
        for section in sections
        for line in section.lines
    ]
    block = "```math\n\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}\n```"
    return ["## One step", f"θ is the parameter, g its gradient, t the step, counted from 1{note}.", block]


def _changes(rule: Rule) -> list[str]:
    lines = changes(rule)
    if not lines:
        return []
    assert rule.parent is not None
    parent = lookup(rule.parent)
    words = "Both at their default settings, with weight decay in its customary form."
    if all(line.startswith("  ") for line in lines):
        lines, words = [], "The lines are the same at default settings."
    shown = ["```diff\n" + "\n".join(line.rstrip() for line in lines) + "\n```"] if lines else []
    return [f"## Against [{parent.title}]({parent.name}.md)", words, *shown, *_other_defaults(rule, parent)]


def _other_defaults(rule: Rule, parent: Rule) -> list[str]:
    """In a sentence, the settings of a preset that differ from those of the same rule."""
    if rule.function is not parent.function:
        return []
    values = {name: v for name, v in rule.defaults.items() if v != parent.defaults[name]}
    if rule.decay != parent.decay:
        values["decay"] = rule.decay
    listed = ", ".join(f"`{name}={value!r}`" for name, value in values.items())
    return [f"It is the same rule with other defaults: {listed}."]


def _settings(rule: Rule, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    rows = []
    for name in names:
        own = name.rsplit(".", 1)[-1]
        written = symbol(own) if symbol(own) != own else ""
        rows.append((written, f"`{name}`", f"`{rule.defaults[name]!r}`", _allowed(rule, name)))
    packed = {group: ", ".join(map(symbol, parts)) for group, parts in rule.packed.items() if {*parts} <= {*names}}
    held = [f"`{group}` = ({parts})" for group, parts in packed.items()]
    notes = [f"A parameter group holds {' and '.join(held)}."] if held else []
    if rule.aliases and rule.wrapper is None:
        notes.append(f"torch's names are taken as well: {', '.join(f'`{name}`' for name in rule.aliases)}.")
    if rule.wrapper is not None:
        value = f'**{{"{names[0]}": {rule.defaults[names[0]]!r}}}'
        written_out = f'ravine.create("{rule.name}", {_model(rule)}, {value})'
        notes = [f"A value is given under its full name: `{written_out}`."]
    return ["## Settings", _table(("", "setting", "default", "allowed"), rows), *notes]


def _allowed(rule: Rule, name: str) -> str:
    default, written = rule.defaults[name], rule.ranges.get(name)
    if isinstance(default, bool):
        return "`True`, `False`"
    if written and "|" in written:
        return ", ".join(f"`{choice.strip()!r}`" for choice in written.split("|"))
    interval = (written or "(-inf, inf)").replace("-inf", "−∞").replace("inf", "∞")
    words = f"whole numbers in {interval.removeprefix('whole ')}" if interval.startswith("whole ") else interval
    return f"{words}, or `None`" if default is None else words


def _states(rule: Rule, names: Sequence[str]) -> list[str]:
    if not names:
        return ["## States", "None."]
    rows = []
    for name in names:
        state = rule.state[name]
        shape, size = KINDS[state.kind]
        begins = {"p": "the parameter", "identity": "the identity"}.get(str(state.init), _number(state.init))
        rows.append((symbol(name.rsplit(".", 1)[-1]), f"`{state.name}`", shape, begins, size, _presence(rule, state)))
    return ["## States", _table(("", "in a state dict", "shape", "begins at", "bytes per parameter", "exists"), rows)]


def _number(init: float | str) -> str:
    return f"`{init}`" if isinstance(init, str) else format(init, "g")


def _presence(rule: Rule, state: State) -> str:
    """When a state exists, in words."""
    if state.when is None:
        return "always"
    if isinstance(state.when, str):
        return f"with `{state.when}`" + ("" if rule.defaults[state.when] else ", which is off by default")
    matrix, vector = (state.present(rule.defaults, shape) for shape in (SHOWN_SHAPE, SHOWN_SHAPE[:1]))
    if rule.steps_matrices or matrix == vector:
        return "by default" if matrix else "with other settings"
    return "for matrices" if matrix else "for vectors"


def _cost(cost: Cost, rule: Rule, without: Cost | None = None) -> list[str]:
    usual = lookup(AROUND)
    moved = f"A step moves {_moved(cost)} per float32 parameter in {_passes(cost.passes)}"
    if without is not None:
        moved = f"Around {usual.title}, a step moves {_moved(cost)} per float32 parameter in {_passes(cost.passes)}"
        moved += f"; without it, {_moved(without)} in {_passes(without.passes)}"
    elif rule is not usual:
        ratio = cost.bytes_mean / cost_of(usual).bytes_mean
        moved += f", as many as {usual.title}" if ratio == 1 else f", {ratio:.2f} times as many as {usual.title}"
    sentences = [moved + ("; operations on whole matrices come on top of it." if cost.has_matrices else ".")]
    if cost.with_inputs is not None:
        named = " and ".join(f"`{name}`" for name in rule.inputs)
        sentences.append(f"A step that is given {named} moves {cost.with_inputs}.")
    kept = state_bytes(rule) - (0 if without is None else state_bytes(usual))
    verb = "keeps" if without is None else "adds"
    size = "no state" if _bytes(kept) == "0" else f"{_bytes(kept)} bytes of state per parameter"
    sentences.append(f"It {verb} {size}. All of this is at default settings, for a matrix of 1024 × 1024.")
    return ["## Cost", " ".join(sentences)]


def _passes(count: int) -> str:
    return "one pass over memory" if count == 1 else f"{count} passes over memory"


def _moved(cost: Cost) -> str:
    if cost.bytes_least == cost.bytes_most:
        return f"{cost.bytes_most} bytes"
    return f"{cost.bytes_least} to {cost.bytes_most} bytes ({_bytes(cost.bytes_mean)} on average)"


def _traffic(cost: Cost) -> str:
    return _bytes(cost.bytes_mean) + (" and matrices" if cost.has_matrices else "")


def _bytes(value: float) -> str:
    return format(round(value, 2), "g")


def _decay(rule: Rule) -> list[str]:
    if "weight_decay" not in rule.defaults:
        return []
    rows = []
    for name, form in FORMS.items():
        before = "nothing" if form.symbol is None else f"`{form.symbol} = {form.source}`"
        customary = " (customary)" if name == rule.decay else ""
        rows.append((f"`{name!r}`{customary}", before, form.meaning))
    default = rule.defaults["weight_decay"]
    words = f"λ is {default!r} by default; what it means is the setting `decay`."
    return ["## Weight decay", words, _table(("`decay`", "computed before the step", "so that"), rows)]


def _model(rule: Rule) -> str:
    """What the class of a rule is given: a model whose matrices it takes, or parameters."""
    return "model" if rule.steps_matrices else "model.parameters()"


def _example(rule: Rule) -> list[str]:
    """A training loop; a rule that needs more than a gradient, or evaluates elsewhere, shows how."""
    estimate = ["    if step % 10 == 0:", "        hessian.hutchinson(optimizer, loss)"]
    evaluation = [
        "with ravine.evaluating(model, optimizer), torch.no_grad():",
        "    losses.append(torch.nn.functional.mse_loss(model(x), y).item())",
    ]
    lines = [
        "import torch",
        "",
        "import ravine",
        *(["from ravine.optim import hessian"] if rule.inputs else []),
        "",
        "torch.manual_seed(0)",
        "model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))",
        f"optimizer = ravine.{rule.title}({_model(rule)})",
        "x = torch.randn(64, 4)",
        "y = x.prod(dim=1, keepdim=True)",
        "",
        "losses = []",
        "for step in range(20):",
        "    loss = torch.nn.functional.mse_loss(model(x), y)",
        *(estimate if rule.inputs else []),
        "    loss.backward()",
        "    optimizer.step()",
        "    optimizer.zero_grad()",
        "    losses.append(loss.item())",
        *(evaluation if rule.at_eval else []),
        'print(f"{losses[0]:.3f} -> {losses[-1]:.3f}")',
    ]
    return ["## Example", "```python\n" + "\n".join(lines) + "\n```"]


def _linked(words: str) -> str:
    """Text in which a paper's number at arXiv is a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", words)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)
