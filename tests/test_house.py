"""The house keeps its order: which module may import which, what files look like, and documents that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main

import ravine

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = [
    path
    for folder in ("src", "tests", "benchmarks", "examples", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".cpp", ".h", ".html", ".css", ".js", ".md"}
]

# Imports go from a higher floor to a lower one, or stay on their own. The face of the package, `ravine` itself, shows
# what stands below it.
FLOORS = {
    "ravine.math": 0,
    "ravine.rule": 1,
    "ravine.registry": 1,
    "ravine.wrapper": 1,
    "ravine.rules": 2,
    "ravine.compose": 2,
    "ravine.engine": 3,
    "ravine.optim": 4,
    "ravine.catalogue": 4,
    "ravine": 5,
    "ravine.lab": 6,
    "ravine.explain": 7,
    "ravine.bench": 6,
    "ravine.cli": 8,
    "ravine.__main__": 9,
}
# The same within the laboratory. Training and tasks share a floor: a task may begin with a checkpoint.
ROOMS = {
    "ravine.lab.files": 0,
    "ravine.lab.data": 1,
    "ravine.lab.models": 1,
    "ravine.lab.tasks": 2,
    "ravine.lab.training": 2,
    "ravine.lab.cost": 3,
    "ravine.lab.study": 4,
    "ravine.lab.results": 5,
    "ravine.lab.sweep": 5,
    "ravine.lab.report": 6,
    "ravine.lab": 7,
}
# What these parts may import from outside the standard library and ravine; the parts not named here are free.
OUTSIDE = {
    "ravine.math": {"numpy"},
    "ravine.math.on_torch": {"numpy", "torch"},
    "ravine.math.orthogonal": {"numpy", "torch"},
    "ravine.rule": {"numpy"},
    "ravine.rules": set(),
    "ravine.compose": set(),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(module: str, text: str, is_package: bool) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its text, relative imports resolved."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def imports_of(module: str) -> list[str]:
    path = MODULES[module]
    return list(imports(module, path.read_text(encoding="utf-8"), path.name == "__init__.py"))


def part(module: str, parts: Iterable[str]) -> str | None:
    """The longest of the named parts that a module belongs to. Only the package's own file belongs to `ravine`."""
    inside = [p for p in parts if module == p or (p != "ravine" and module.startswith(p + "."))]
    return max(inside, key=len, default=None)


def is_ours(module: str) -> bool:
    return module == "ravine" or module.startswith("ravine.")


def test_imports_are_read_in_every_form() -> None:
    text = "import torch.nn\nfrom . import batch\nfrom ..rule import rule\ndef f():\n    from ravine import rules, x\n"
    found = list(imports("ravine.engine.reference", text, is_package=False))
    assert found == ["torch.nn", "ravine.engine.batch", "ravine.rule", "ravine.rules", "ravine"]
    assert list(imports("ravine.engine", "from .batch import Batch", is_package=True)) == ["ravine.engine.batch"]


def test_every_module_has_a_floor() -> None:
    assert [m for m in MODULES if part(m, FLOORS) is None] == []


@pytest.mark.parametrize("floors", [FLOORS, ROOMS], ids=["house", "laboratory"])
def test_imports_go_down(floors: dict[str, float]) -> None:
    inside = [m for m in MODULES if part(m, floors)]
    pairs = [(a, b) for a in inside for b in imports_of(a) if part(b, floors)]
    upwards = [f"{a} imports {b}" for a, b in pairs if floors[part(a, floors)] < floors[part(b, floors)]]
    assert pairs
    assert upwards == []


def test_rules_import_only_the_vocabulary_and_the_declaration() -> None:
    rules = [m for m in MODULES if part(m, FLOORS) == "ravine.rules"]
    ours = {b for m in rules for b in imports_of(m) if is_ours(b)}
    assert {part(b, FLOORS) for b in ours} == {"ravine.math", "ravine.rule"}


def test_the_lower_floors_use_nothing_from_outside() -> None:
    for module in MODULES:
        allowed = OUTSIDE.get(part(module, OUTSIDE) or "")
        if allowed is not None:
            roots = {name.split(".")[0] for name in imports_of(module) if not is_ours(name)}
            assert roots - sys.stdlib_module_names - allowed == set(), module


def names_in(text: str) -> set[str]:
    """The words of all identifiers and strings of a module; docstrings may give examples and are left out."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None and isinstance(node.body[0], ast.Expr)
    }
    fields = [
        value
        for node in ast.walk(tree)
        if id(node) not in docstrings
        for _, values in ast.iter_fields(node)
        for value in (values if isinstance(values, list) else [values])
        if isinstance(value, str)
    ]
    return {word for text in fields for word in re.findall(r"[a-z0-9]+", text.lower())}


def test_names_are_found_in_code_but_not_in_docstrings() -> None:
    text = '"""Like lion."""\ndef adamw_step(sgd):\n    """Like lamb."""\n    return sgd.adagrad(name="rmsprop")\n'
    assert {"adamw", "sgd", "adagrad", "rmsprop"} <= names_in(text)
    assert not {"lion", "lamb"} & names_in(text)


def test_engines_name_no_optimizer() -> None:
    for path in sorted((SOURCE / "ravine" / "engine").rglob("*")):
        if path.suffix in {".py", ".cpp", ".h"}:
            text = path.read_text(encoding="utf-8")
            words = names_in(text) if path.suffix == ".py" else set(re.findall(r"[a-z0-9]+", text.lower()))
            assert words & set(ravine.available()) == set(), path.relative_to(ROOT)


def test_files_can_be_read_in_one_sitting() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: n for name, n in lines.items() if n > 450} == {}


def test_nothing_is_left_unfinished() -> None:
    note = re.compile(r"\b(T[O]DO|FIX[M]E|X[X]X)\b")
    texts = [*FILES, *DOCUMENTS, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"]
    assert note.search("# TO" + "DO: later")
    assert [str(path.relative_to(ROOT)) for path in texts if note.search(path.read_text(encoding="utf-8"))] == []


def test_there_is_one_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert ravine.__version__ == declared
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def all_blocks(*languages: str) -> list[pytest.param]:
    found = [(path, text) for path in DOCUMENTS for language in languages for text in blocks(path, language)]
    assert found, f"no document has a block of {' or '.join(languages)}"
    return [pytest.param(text, id=f"{path.name}-{i}") for i, (path, text) in enumerate(found)]


@pytest.mark.parametrize("text", all_blocks("python"))
def test_code_in_the_documents_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if text.startswith("@rule("):
        sources = [path.read_text(encoding="utf-8") for path in (SOURCE / "ravine" / "rules").glob("*.py")]
        assert any(text in source for source in sources), "the rule it quotes reads otherwise in src/ravine/rules"
    else:
        exec(compile(text, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("text", all_blocks("pycon"))
def test_sessions_in_the_documents_are_true(text: str) -> None:
    session = doctest.DocTestParser().get_doctest(text, {}, "document", None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(session)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_readme_trains_a_model() -> None:
    text = next(text for text in blocks(ROOT / "README.md", "python") if "optimizer.step()" in text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 15
    torch.manual_seed(0)
    after: dict[str, torch.Tensor] = {}
    exec(compile(text, "README.md", "exec"), after)
    assert after["loss"] < 0.5 * after["y"].var(), "the model has learned next to nothing"


def test_commands_in_the_documents_exist() -> None:
    (entry,) = entry_points(group="console_scripts", name="ravine")
    commands = typer.main.get_command(importlib.import_module(entry.module).app).commands
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for path in DOCUMENTS for text in blocks(path, "sh") for line in text.splitlines()]
    seen = set()
    for line in lines:
        tool, *arguments = shlex.split(line, comments=True) or [""]
        if tool == "ravine":
            command = commands[arguments[0]]
            if hasattr(command, "commands") and len(arguments) > 1:
                command = command.commands[arguments[1]]
            options = {name for q in command.params for name in (*q.opts, *q.secondary_opts)}
            assert {a.split("=")[0] for a in arguments if a.startswith("--")} <= options, line
        if tool == "make":
            assert {a for a in arguments if "=" not in a} <= targets, line
        seen.add(tool)
    assert {"make", "ravine"} <= seen


@pytest.mark.parametrize("engine", ["reference", "native", *(["triton"] if importlib.util.find_spec("triton") else [])])
def test_a_rule_of_ones_own_in_ten_lines(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRIBUTING's example, saved as a user's file, steps as the rule does in NumPy: the same bits, or 4 ulps."""
    (text,) = (text for text in blocks(ROOT / "CONTRIBUTING.md", "python") if "ravine.optimizer(" in text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    (tmp_path / "my_optimizer.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_optimizer", raising=False)
    mine = importlib.import_module("my_optimizer")

    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4097, generator=generator).requires_grad_()
    optimizer = mine.Signum([weight], lr=1e-2, engine=engine)
    momentum = np.zeros(4097, np.float32)
    for t in range(1, 6):
        weight.grad = torch.randn(4097, generator=generator)
        before, gradient = weight.detach().numpy().copy(), weight.grad.numpy()
        expected, expected_momentum = mine.signum(before, gradient, momentum, t=t, lr=1e-2)
        optimizer.step()
        momentum = optimizer.state[weight]["momentum_buffer"].numpy().copy()
        assert np.any(before != expected)
        for got, wanted in ((weight.detach().numpy(), expected), (momentum, expected_momentum)):
            if engine == "reference":
                np.testing.assert_array_max_ulp(got, wanted, maxulp=4)
            else:
                np.testing.assert_array_equal(got.view(np.int32), wanted.view(np.int32))
