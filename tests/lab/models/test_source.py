"""The user's own model: named without being run, built from exactly what was named, and blamed with its line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ravine.lab.models import ModelSource, check_loss, parse

MODEL = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return self.layer(x)

    def loss(model, batch):
        return (model(batch["x"]) - batch["y"]).square().mean()

    def build():
        return Model()

    def build_with_loss():
        return Model(), loss
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "model.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


def refusal(text: str | Path) -> str:
    """What building a model says instead."""
    with pytest.raises(ValueError) as error:
        parse(str(text)).build()
    return str(error.value)


def test_a_function_gives_a_model(write: Any) -> None:
    source = parse(f"{write(MODEL)}:build")
    torch.manual_seed(7)
    built = source.build()
    torch.manual_seed(7)
    expected = nn.Linear(4, 2)
    assert torch.equal(built.model.layer.weight, expected.weight) and built.loss is None
    assert built.model.training


def test_a_function_gives_a_model_and_a_loss(write: Any) -> None:
    built = parse(f"{write(MODEL)}:build_with_loss").build()
    assert built.loss is not None
    batch = {"x": torch.randn(3, 4), "y": torch.randn(3, 2)}
    loss = check_loss(built.loss(built.model, batch))
    assert loss.item() == pytest.approx((built.model(batch["x"]) - batch["y"]).square().mean().item())
    loss.backward()
    assert built.model.layer.weight.grad is not None


def test_settings_are_plain_and_the_same_on_every_machine(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(MODEL)
    expected = {"kind": "file", "name": "model.py:build", "sha256": sha256(path.read_bytes()).hexdigest()}
    assert parse(f"{path}:build").settings() == expected
    monkeypatch.chdir(path.parent)
    assert parse("model.py:build") == parse(f"{path}:build")


def test_naming_a_model_runs_nothing(write: Any) -> None:
    path = write("raise SystemExit(3)")
    assert parse(f"{path}:build").name == "model.py:build"
    assert refusal(f"{path}:build") == "model.py, line 1: importing it raised SystemExit: 3"


def test_a_changed_file_is_not_run(write: Any, tmp_path: Path) -> None:
    path = write(MODEL)
    source = parse(f"{path}:build")
    assert parse(f"{path}:build", expected_sha256=source.sha256) == source
    write(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + textwrap.dedent(MODEL))
    with pytest.raises(ValueError, match=r"model.py has changed: its sha256 is [0-9a-f]{12}…, expected [0-9a-f]{12}…"):
        source.build()
    with pytest.raises(ValueError, match="is not the model of this study: its sha256 is "):
        parse(f"{path}:build", expected_sha256=source.sha256)
    assert not (tmp_path / "ran").exists()
    parse(f"{path}:build").build()
    assert (tmp_path / "ran").exists()


def test_a_file_runs_once_and_leaves_no_trace_in_the_random_numbers(write: Any, tmp_path: Path) -> None:
    path = write(
        f"""
        import torch
        with open({str(tmp_path / "runs")!r}, "a") as file:
            file.write(f"{{torch.rand(()).item()}} ")

        def build():
            return torch.nn.Linear(3, 3)
        """
    )
    weights = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        weights.append(parse(f"{path}:build").build().model.weight)
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    torch.manual_seed(0)
    assert (tmp_path / "runs").read_text() == f"{torch.rand(()).item()} "


def test_what_lies_beside_the_file_can_be_imported_while_it_runs(write: Any, tmp_path: Path) -> None:
    write("WIDTH = 5", "beside_the_model.py")
    write("DEPTH = 3", "beside_the_model_too.py")
    path = write(
        """
        from beside_the_model import WIDTH
        from torch import nn

        def build():
            from beside_the_model_too import DEPTH
            return nn.Linear(WIDTH, DEPTH)
        """
    )
    before = [*sys.path]
    model = parse(f"{path}:build").build().model
    assert (model.in_features, model.out_features) == (5, 3)
    assert sys.path == before


def test_files_of_the_same_name_are_modules_of_their_own(write: Any, tmp_path: Path) -> None:
    sources = []
    for width in (2, 3):
        (tmp_path / str(width)).mkdir()
        path = write(f"import torch\n\ndef build():\n    return torch.nn.Linear({width}, 1)\n", f"{width}/model.py")
        sources.append(parse(f"{path}:build"))
    assert [source.build().model.in_features for source in sources] == [2, 3]
    assert "model" not in sys.modules


def test_annotations_of_the_file_are_its_own_affair(write: Any) -> None:
    """The future that our own files import is not the user's."""
    path = write(
        "import torch\ndef build(width: 1 + 1 = 2): return torch.nn.Linear(width, build.__annotations__['width'])"
    )
    assert parse(f"{path}:build").build().model.out_features == 2


def test_a_worker_process_builds_the_same(write: Any, tmp_path: Path) -> None:
    source = parse(f"{write(MODEL)}:build")
    torch.manual_seed(11)
    model = source.build().model
    (tmp_path / "source.pickle").write_bytes(pickle.dumps((source, pickle.dumps(model))))
    script = """
        import pickle, sys, torch
        source, model = pickle.load(open(sys.argv[1], "rb"))
        torch.manual_seed(11)
        built = source.build().model
        model = pickle.loads(model)
        assert type(model) is type(built)
        print(torch.equal(model.layer.weight, built.layer.weight))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "source.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("text", ["model", "model.py", "model.py:", ":build", "model.py:two words", "hf:", "hf", ""])
def test_a_name_of_neither_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == f'model must be "path.py:build" (a function in a file) or "hf:DIR", got {text!r}'


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model: there is no file /.*/none\.py$"):
        parse(f"{tmp_path}/none.py:build")
    with pytest.raises(ValueError, match=r"^model: cannot read /.*: Is a directory$"):
        parse(f"{tmp_path}:build")
    (tmp_path / "model.txt").write_text("")
    assert refusal(f"{tmp_path}/model.txt:build") == "model: model.txt must be a Python file, its name ending in .py"


def test_a_missing_function_is_refused_with_the_nearest(write: Any) -> None:
    path = write(MODEL)
    assert refusal(f"{path}:biuld") == "model.py has no function 'biuld'; did you mean 'build'?"
    assert refusal(f"{write('build = 3')}:build") == "model.py has no function 'build'"


def test_a_function_that_needs_arguments_is_refused(write: Any) -> None:
    assert refusal(f"{write('def build(width): ...')}:build") == (
        "model.py:build must be a function that needs no arguments: missing a required argument: 'width'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import torch\nimport nothing_of_this_name\n",
            "line 2: importing it raised ModuleNotFoundError: No module named",
        ),
        ("x = 1\n\ndef build():\n    return 1 / 0\n", "line 4: build raised ZeroDivisionError: division by zero"),
        ("x = (1,\n", "line 1: importing it raised SyntaxError: '(' was never closed"),
        ("import json\n\nvalue = json.loads('{')\n", "line 3: importing it raised JSONDecodeError: Expecting property"),
        ("def build():\n    f()\n\ndef f():\n    raise KeyError('x')\n", "line 5: build raised KeyError: 'x'"),
    ],
)
def test_what_the_file_raises_is_said_with_the_line(write: Any, text: str, message: str) -> None:
    source = f"{write(text)}:build"
    assert refusal(source).startswith(f"model.py, {message}")
    assert refusal(source).startswith(f"model.py, {message}")  # a second try finds no half of the first


def test_running_out_of_memory_is_not_the_files_fault(write: Any) -> None:
    path = write("def build():\n    raise MemoryError\n")
    with pytest.raises(MemoryError):
        parse(f"{path}:build").build()


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ("None", "None"),
        ("3", "int"),
        ("nn.Linear", "type"),
        ("[nn.Linear(2, 2)]", "list"),
        ("(nn.Linear(2, 2),)", "(Linear)"),
        ("(nn.Linear(2, 2), 3)", "(Linear, int)"),
        ("(nn.Linear(2, 2), None)", "(Linear, None)"),
        ("(print, nn.Linear(2, 2))", "(builtin_function_or_method, Linear)"),
    ],
)
def test_what_is_no_model_is_refused(write: Any, returned: str, got: str) -> None:
    path = write(f"from torch import nn\n\ndef build():\n    return {returned}\n")
    assert refusal(f"{path}:build") == (
        f"model.py:build must return a torch.nn.Module, or (module, loss) with a function loss(model, batch), got {got}"
    )


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("nn.ReLU()", "without parameters to train"),
        ("nn.Linear(2, 2).requires_grad_(False)", "without parameters to train"),
        ("nn.LazyLinear(2)", "with parameters that have no shape yet; call it once before"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(write: Any, returned: str, message: str) -> None:
    path = write(f"from torch import nn\n\ndef build():\n    return {returned}\n")
    assert refusal(f"{path}:build") == f"model.py:build returns a model {message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "loss must be a scalar tensor, got None: does the function return it?"),
        (0.5, "loss must be a scalar tensor, got float"),
        ((torch.tensor(1.0), 2), "loss must be a scalar tensor, got (Tensor, int)"),
        (torch.ones(4, 1), "loss must be a scalar tensor, got one of shape (4, 1); take its mean()"),
        (torch.tensor(3), "loss must be a floating-point tensor, got torch.int64"),
        (torch.tensor(1j), "loss must be a floating-point tensor, got torch.complex64"),
        (torch.tensor(1.0), "loss must depend on the model's parameters, got one without a gradient"),
    ],
)
def test_a_loss_that_cannot_be_trained_on_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        check_loss(value)
    assert str(error.value) == message


def test_a_loss_is_handed_through() -> None:
    loss = torch.tensor(1.0, requires_grad=True)
    assert check_loss(loss) is loss
    with torch.inference_mode():
        assert check_loss(torch.tensor(1.0)).item() == 1.0  # in an evaluation no loss has a gradient


def test_a_source_can_be_pickled(write: Any) -> None:
    source = parse(f"{write(MODEL)}:build")
    assert isinstance(source, ModelSource) and pickle.loads(pickle.dumps(source)) == source
