"""One number of a training run, taken from its checkpoint: equal to what the run itself does next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import ravine
from ravine.cli import app
from ravine.explain import traced
from ravine.explain.at_checkpoint import trace_checkpoint
from ravine.explain.trace import Trace
from ravine.lab.single import prepare
from ravine.lab.tasks import make

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw": ("digits", {"clip": 0.5}),
    "muon": ("digits", {"accumulate": 2, "batch": 8}),
    "clip_norm(lion)": ("digits", {"clip": 0}),
    "schedule_free(adamw)": ("digits", {"warmup": 0.5}),
    "lookahead(sgd):lookahead.k=2": ("ridge", {}),
    "prodigy": ("quadratic", {"schedule": "cosine"}),
    "soap": ("digits", {"ema": 0.9}),
}
STOP, STEPS = 3, 8


def trained(optimizer: str, folder: Path, stop: int | None) -> dict[str, Any]:
    """The checkpoint of a run that has been interrupted after some steps, or has ended."""
    task, settings = RUNS[optimizer]
    single = prepare(make(task, size="tiny"), optimizer, steps=STEPS, out=str(folder), precision="float32", **settings)

    def on_step(step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt

    try:
        single.run(on_step)
    except KeyboardInterrupt:
        assert stop is not None
    content: dict[str, Any] = torch.load(single.checkpoint, weights_only=True)
    return content


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """For each optimizer the checkpoint after three steps, and the contents of that after five."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def get(optimizer: str) -> tuple[Path, dict[str, Any]]:
        if optimizer not in made:
            folder = tmp_path_factory.mktemp("run")
            trained(optimizer, folder / "on", STOP)
            shutil.copytree(folder / "on", folder / "kept")
            made[optimizer] = folder / "kept" / "checkpoint.pt", trained(optimizer, folder / "on", STOP + 2)
        return made[optimizer]

    return get


def parameter_of(content: dict[str, Any]) -> str:
    """A parameter that the rule itself steps: of several groups, one of the first."""
    name: str = content["optimizer"]["param_groups"][0]["param_names"][0]
    return name


@pytest.mark.parametrize("optimizer", RUNS)
def test_two_steps_are_those_of_the_run(runs: Any, optimizer: str) -> None:
    file, later = runs(optimizer)
    before = torch.load(file, weights_only=True)
    name = parameter_of(before)
    made = trace_checkpoint(str(file), name, steps=2)
    assert made.place is not None and made.place.parameter == name
    element = made.place.element
    assert made.steps[0].theta_before == before["model"][name][element].item()
    after = later["model"][name][element].item()
    told = made.steps[1].lines[-1] if made.steps[1].lines[-1].symbol == "p" else None
    assert made.steps[1].theta_after == after
    if optimizer == "muon":  # products in bfloat16, accurate to 0.02, where the processor has them
        size = made.hyper["lr"] * 0.2 * max(made.place.shape) ** 0.5
        assert told is not None and told.value == pytest.approx(after, abs=0.02 * size)
    elif told is not None:
        assert told.value == (pytest.approx(after, rel=1e-5) if optimizer == "soap" else after)
    assert [step.t for step in made.steps] == [STOP + 1, STOP + 2]
    assert made.steps[0].loss_before != made.steps[0].loss_after
    states = before["optimizer"]["state"]
    index = before["optimizer"]["param_groups"][0]["params"][0]
    for symbol, value in made.start.items():
        held = states[index].get(made.rule.state[symbol].name)
        if isinstance(held, torch.Tensor) and held.shape == before["model"][name].shape:
            assert value == held[element].item()


def test_each_loss_is_that_of_its_batch(runs: Any) -> None:
    """The losses that the run itself has noted on the way."""
    file, later = runs("adamw")
    curve = later["progress"]["training_curve"]
    noted = dict(zip(curve["step"], curve["loss"], strict=True))
    made = trace_checkpoint(str(file), parameter_of(later), steps=2)
    assert [step.loss_before for step in made.steps] == [noted[step.t] for step in made.steps]


def test_elements_asked_for_are_those_told(runs: Any) -> None:
    file, later = runs("adamw")
    name = parameter_of(later)
    made = trace_checkpoint(str(file), name, (0, 1))
    assert made.place is not None and made.place.element == (0, 1)
    assert "on element [0, 1] of" in traced.where(made)
    assert "step 4 of 8" in made.place.run and "clipped to 0.5" in made.place.run
    assert made.as_dict()["place"]["parameter"] == name


def test_another_learning_rate(runs: Any) -> None:
    file, later = runs("adamw")
    made = trace_checkpoint(str(file), parameter_of(later), lr=0.125, steps=2)
    assert "0.125" in next(line.substituted for line in made.steps[1].lines if line.symbol == "p")
    assert made.place is not None and made.place.remarks == ("The learning rate is not the run's own.",)
    assert traced.command(made).endswith("--steps 2") and "--lr 0.125" in traced.command(made)


def test_a_run_that_has_ended_says_so(tmp_path: Path) -> None:
    trained("prodigy", tmp_path, None)
    made = trace_checkpoint(str(tmp_path / "checkpoint.pt"), "point")
    assert made.place is not None and made.place.remarks[0].startswith("The run had taken all its steps")
    assert made.hyper["lr"] == pytest.approx(0.0, abs=1e-9)


def test_generators_are_left_as_they_were(runs: Any) -> None:
    file, later = runs("adamw")
    before = torch.get_rng_state()
    trace_checkpoint(str(file), parameter_of(later))
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_done_otherwise_than_in_the_run_is_said(runs: Any, tmp_path: Path) -> None:
    """A run of two processes on a GPU, its model compiled: its parts of a batch one after the other here."""
    file, later = runs("muon")
    content = torch.load(file, weights_only=True)
    content["settings"]["recipe"] |= {"compile": True, "accumulate": 1}
    content["settings"]["processes"] = 2
    if not torch.cuda.is_available():
        content["random"][0]["cuda"] = content["random"][0]["cpu"]
    torch.save(content, tmp_path / "other.pt")
    made, plain = (trace_checkpoint(str(path), parameter_of(later)) for path in (tmp_path / "other.pt", file))
    assert made.place is not None
    said = " ".join(made.place.remarks)
    assert "was in 2 processes" in said and "was compiled" in said
    assert torch.cuda.is_available() or "was on a GPU" in said
    assert made.steps[0].theta_after == plain.steps[0].theta_after, "two parts of the batch, as in the run itself"


def test_the_task_must_be_the_same(runs: Any) -> None:
    file, _ = runs("prodigy")
    with pytest.raises(ValueError, match=r"is of another run: condition was 10.0, is 50.0; say with --option"):
        trace_checkpoint(str(file), "x", condition=50.0)
    with pytest.raises(ValueError, match="the task quadratic takes no conditoin; did you mean 'condition'"):
        trace_checkpoint(str(file), "x", conditoin=50.0)


def test_a_checkpoint_of_another_model_is_refused(runs: Any, tmp_path: Path) -> None:
    file, later = runs("adamw")
    content = torch.load(file, weights_only=True)
    content["settings"]["task"]["model"]["width"] = 7
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"is of another run: model.width was 7, is") as caught:
        trace_checkpoint(str(tmp_path / "other.pt"), parameter_of(later))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"parameter": None}, "say which parameter with --parameter NAME; "),
        ({"parameter": "nothing"}, "has no parameter 'nothing'"),
        ({"element": (99999, 0)}, "element 99999,0 is outside of"),
        ({"element": (0,)}, "element 0 is outside of"),
        ({"element": (0, -1)}, "counted from 0"),
        ({"rule": "lion"}, "is stepped by adamw, not by lion"),
        ({"gradient": "g.pt"}, "whose own gradient is computed"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"lr": -1.0}, "lr must be in [0, inf)"),
    ],
)
def test_wrong_calls_get_one_sentence(runs: Any, call: dict[str, Any], says: str) -> None:
    file, later = runs("adamw")
    with pytest.raises(ValueError) as caught:
        trace_checkpoint(str(file), **{"parameter": parameter_of(later), **call})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_nearest_name_is_offered(runs: Any) -> None:
    file, later = runs("adamw")
    name = parameter_of(later)
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        trace_checkpoint(str(file), name.replace("weight", "wieght"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04broken"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint that torch can read"):
        trace_checkpoint(str(tmp_path / "odd.pt"), "x")
    with pytest.raises(ValueError, match=r"cannot read .*nothing.pt: No such file"):
        trace_checkpoint(str(tmp_path / "nothing.pt"), "x")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list, not a checkpoint"):
        trace_checkpoint(str(tmp_path / "list.pt"), "x")


# Checkpoints of other programs


def model_and_gradients() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    return model, {name: torch.randn_like(p) for name, p in model.named_parameters()}


def saved(path: Path, optimizer: Any, model: torch.nn.Module, **more: Any) -> dict[str, torch.Tensor]:
    """A checkpoint after two steps, and the weights after the third, all with gradients of their own."""
    gradients = more.pop("by")
    for step in range(3):
        if step == 2:
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **more}
            torch.save(content, path)
        for name, p in model.named_parameters():
            p.grad = gradients[name] * (step + 1) / 3
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("form", ["pt", "npy", "named", "safetensors", "inside"])
def test_a_plain_checkpoint_with_a_gradient(tmp_path: Path, form: str) -> None:
    model, gradients = model_and_gradients()
    optimizer = ravine.AdamW(model.named_parameters(), lr=0.01)
    more = {"gradients": gradients} if form == "inside" else {}
    after = saved(tmp_path / "checkpoint.pt", optimizer, model, by=gradients, **more)
    file: Path | None = tmp_path / f"gradient.{'pt' if form == 'named' else form}"
    if form == "pt":
        torch.save(gradients["0.weight"], file)
    elif form == "npy":
        import numpy as np

        np.save(str(file), gradients["0.weight"].numpy())
    elif form == "named":
        torch.save(gradients, file)
    elif form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(gradients, str(file))
    else:
        file = None
    made = trace_checkpoint(str(tmp_path / "checkpoint.pt"), "0.weight", (1, 2), gradient=file and str(file))
    assert made.steps[0].theta_after == after["0.weight"][1, 2].item()
    assert made.steps[0].t == 3 and made.steps[0].loss_before is None
    assert traced.command(made).count("--gradient") == (form != "inside")


def test_a_checkpoint_of_torchs_own_optimizer(tmp_path: Path) -> None:
    """The rule of the same name takes torch's step, to rounding."""
    model, gradients = model_and_gradients()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    after = saved(tmp_path / "checkpoint.pt", optimizer, model, by=gradients, gradients=gradients)
    with pytest.raises(ValueError, match="does not say its rule; name it"):
        trace_checkpoint(str(tmp_path / "checkpoint.pt"), "1.bias")
    made = trace_checkpoint(str(tmp_path / "checkpoint.pt"), "1.bias", (1,), rule="adamw")
    assert made.steps[0].theta_after == pytest.approx(after["1.bias"][1].item(), rel=1e-6)
    assert traced.command(made).startswith("ravine trace adamw --checkpoint")


def test_sums_over_all_parameters_need_all_gradients(tmp_path: Path) -> None:
    model, gradients = model_and_gradients()
    optimizer = ravine.create("clip_norm(adamw)", model.named_parameters(), lr=0.01)
    after = saved(tmp_path / "checkpoint.pt", optimizer, model, by=gradients)
    torch.save(gradients, tmp_path / "all.pt")
    torch.save(gradients["0.bias"], tmp_path / "one.pt")
    made = trace_checkpoint(str(tmp_path / "checkpoint.pt"), "0.bias", (0,), gradient=str(tmp_path / "all.pt"))
    assert made.steps[0].theta_after == after["0.bias"][0].item()
    with pytest.raises(ValueError, match="sums over all parameters, and the gradients of 3 of them are missing"):
        trace_checkpoint(str(tmp_path / "checkpoint.pt"), "0.bias", (0,), gradient=str(tmp_path / "one.pt"))


@pytest.mark.parametrize(
    ("change", "call", "says"),
    [
        ({"model": None}, {}, "holds no model"),
        ({"optimizer": None}, {}, "holds no optimizer"),
        ({"optimizer": {"state": {}}}, {}, "its optimizer is no state dict"),
        ({"model": {}}, {}, "holds another model than its optimizer steps: there is no '0.weight'"),
        ({"gradients": None}, {}, "holds no gradients: give that of 0.weight with --gradient FILE"),
        ({"gradients": {"1.bias": torch.zeros(2)}}, {}, "has no gradient of '0.weight'"),
        ({"gradients": {"0.weight": torch.zeros(2)}}, {}, "the gradient of 0.weight has the shape (2,)"),
        ({"gradients": "text"}, {}, "must hold a tensor, or tensors by name"),
        ({}, {"gradient": "nothing.pt"}, "--gradient: cannot read nothing.pt"),
        ({}, {"gradient": __file__}, "is no file of tensors"),
        ({}, {"steps": 2}, "--steps belongs to a checkpoint of ravine train"),
        ({}, {"data": "x"}, "--data belongs to a checkpoint of ravine train"),
        ({}, {"parameter": "0.wieght"}, "did you mean '0.weight'"),
        ({}, {"element": (3, 0)}, "outside of 0.weight, which is 3 × 4"),
    ],
)  # fmt: skip
def test_a_plain_checkpoint_that_will_not_do(tmp_path: Path, change: Any, call: Any, says: str) -> None:
    model, gradients = model_and_gradients()
    optimizer = ravine.AdamW(model.named_parameters(), lr=0.01)
    file = tmp_path / "checkpoint.pt"
    saved(file, optimizer, model, by=gradients, gradients=gradients)
    content = {**torch.load(file, weights_only=True), **change}
    torch.save({key: value for key, value in content.items() if value is not None}, file)
    with pytest.raises(ValueError) as caught:
        trace_checkpoint(str(file), **{"parameter": "0.weight", **call})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_needed_where_order_does_not_tell(tmp_path: Path) -> None:
    model, gradients = model_and_gradients()
    params = list(model.parameters())
    optimizer = torch.optim.SGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1)
    saved(tmp_path / "checkpoint.pt", optimizer, model, by=gradients, gradients=gradients)
    with pytest.raises(ValueError, match="does not say which parameters its optimizer steps"):
        trace_checkpoint(str(tmp_path / "checkpoint.pt"), "0.weight", rule="sgd")


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["trace", *arguments])


def test_the_command(runs: Any, tmp_path: Path) -> None:
    file, later = runs("adamw")
    name = parameter_of(later)
    arguments = ["--checkpoint", str(file), "--parameter", name, "--element", "0,1"]
    result = call(*arguments, "--json", str(tmp_path / "trace.json"), "--html", str(tmp_path / "trace.html"))
    assert result.exit_code == 0, result.stderr
    assert f"AdamW on element [0, 1] of {name}" in result.stdout and "loss of this batch: " in result.stdout
    written = json.loads((tmp_path / "trace.json").read_text())
    assert written["steps"][0]["lines"][0]["formula"] == "gradient of the batch's mean loss, clipped"
    assert (tmp_path / "trace.html").read_text().startswith("<!DOCTYPE html>")
    wrong = call(*arguments[:-1], "0,99999")
    assert wrong.exit_code == 2 and wrong.stderr.count("\n") == 1
    mixed = call(*arguments, "--x0", "2")
    assert mixed.exit_code == 2 and "--x0 belongs to a loss" in mixed.stderr


def test_a_trace_in_a_run_has_no_loss_of_its_own(runs: Any) -> None:
    file, later = runs("muon")
    made: Trace = trace_checkpoint(str(file), parameter_of(later))
    assert made.loss is None and traced.problem(made) is None
    assert any(line.remark.startswith("of all") for line in made.steps[0].lines)
