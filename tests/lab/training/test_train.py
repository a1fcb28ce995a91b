"""One run: deterministic, scheduled, evaluated at the right weights, and honest about divergence, memory and time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ravine
from lab.training.small_tasks import Line, Text
from ravine.lab.tasks.task import Batch, Evaluated
from ravine.lab.training import Outcome, Recipe, evaluate, faster_precision, train
from ravine.lab.training.run import MakeOptimizer

MARKS = [2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20]


def made(name: str, **settings: Any) -> MakeOptimizer:
    """The optimizer by name; a rule for matrices has the model routed."""
    matrices = name == "muon"
    return lambda model: ravine.create(name, model if matrices else model.parameters(), **settings)


def run(
    make: MakeOptimizer | None = None, task: Any = None, recipe: dict[str, Any] | None = None, **options: Any
) -> Outcome:
    """A run of 20 steps."""
    with_defaults = Recipe(**{"steps": 20, "batch": 8, **(recipe or {})})
    return train(
        task or Line(), make or made("adamw", lr=0.1), with_defaults, **{"seed": 1, "split": "tuning", **options}
    )


def test_a_seed_fixes_everything_to_the_bit() -> None:
    task = Text(dropout=0.2, norm=True)
    one, same, other = (run(task=task, seed=seed) for seed in (1, 1, 2))
    assert one.final_loss == same.final_loss != other.final_loss
    assert one.curve["loss"] == same.curve["loss"] and one.training_curve["loss"] == same.training_curve["loss"]


def test_a_run_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(task=Text(dropout=0.2))
    assert torch.equal(torch.rand(3), expected)


def test_what_else_drew_from_torchs_generator_does_not_matter() -> None:
    one = run(task=Text(dropout=0.2))
    torch.rand(17)
    assert run(task=Text(dropout=0.2)).curve["loss"] == one.curve["loss"]


def test_training_learns_and_says_so_in_values_that_json_has() -> None:
    outcome = run(task=Text())
    assert outcome.final_loss is not None and outcome.final_loss < math.log(16) - 1
    assert not outcome.diverged and outcome.diverged_at is None and outcome.failed is None
    assert outcome.curve["step"] == outcome.training_curve["step"] == MARKS
    assert outcome.curve["units"] == [8 * 12 * step for step in MARKS] and outcome.units == 8 * 12 * 20
    assert outcome.curve["loss"][-1] == outcome.final_loss == outcome.metrics["loss"]
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(outcome.final_loss))
    assert outcome.curve["seconds"] == sorted(outcome.curve["seconds"])
    assert outcome.training_curve["loss"][0] > outcome.training_curve["loss"][-1]
    assert outcome.parameters == sum(p.numel() for p in Text().new_model().parameters())
    assert Outcome(**json.loads(json.dumps(asdict(outcome), allow_nan=False))) == outcome


def test_without_a_curve_only_the_end_is_evaluated() -> None:
    outcome = run(with_curve=False)
    assert outcome.curve["step"] == [20]
    assert outcome.curve["loss"] == [run().final_loss]


def test_splits_are_evaluated_apart() -> None:
    tuning, judging = run(split="tuning"), run(split="judging")
    assert tuning.final_loss != judging.final_loss
    assert tuning.training_curve["loss"] == judging.training_curve["loss"]


def test_evaluations_are_shown_as_they_come() -> None:
    shown: list[tuple[int, dict[str, float]]] = []
    outcome = run(task=Text(), on_evaluation=lambda step, figures: shown.append((step, figures)))
    assert [step for step, _ in shown] == MARKS
    assert [figures["loss"] for _, figures in shown] == outcome.curve["loss"]
    assert [figures["training_loss"] for _, figures in shown] == outcome.training_curve["loss"]
    assert set(shown[0][1]) == {"loss", "perplexity", "training_loss", "units", "seconds"}


def test_the_schedule_is_the_recipes() -> None:
    seen: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:  # type: ignore[override]
            seen.append(self.param_groups[0]["lr"])
            super().step(*arguments)

    run(lambda model: Watched(model.parameters(), lr=2.0), recipe={"steps": 4, "warmup": 0.5, "schedule": "cosine"})
    assert seen[-4:] == pytest.approx([1.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("double", "rel"), [(False, 1e-6), (True, 1e-12)])
def test_micro_batches_give_what_the_whole_batch_gives(name: str, padded: bool, double: bool, rel: float) -> None:
    task = Text(padded=padded, double=double)
    whole, *parts = (run(made(name, lr=0.01), task, {"accumulate": n}) for n in (1, 2, 8))
    for cut in parts:
        assert cut.curve["loss"] == pytest.approx(whole.curve["loss"], rel=rel)
        assert cut.training_curve["loss"] == pytest.approx(whole.training_curve["loss"], rel=rel)
        assert cut.units == whole.units


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    class Odd(Line):
        def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
            return {**super().draw(count, generator, step), "scale": torch.tensor(1.0)}

    with pytest.raises(
        ValueError, match=r"a batch of the task 'line' cannot be divided into 2 parts, it has .*'scale'"
    ):
        run(task=Odd(), recipe={"accumulate": 2})
    assert run(task=Odd()).final_loss == run().final_loss


def test_gradients_are_clipped_over_all_parameters() -> None:
    norms: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:  # type: ignore[override]
            norms.append(math.hypot(*(p.grad.norm().item() for p in self.param_groups[0]["params"])))
            super().step(*arguments)

    run(lambda model: Watched(model.parameters(), lr=0.0), recipe={"clip": 0.01})
    assert norms[-20:] == pytest.approx([0.01] * 20, rel=1e-3)
    run(lambda model: Watched(model.parameters(), lr=0.0), recipe={"clip": None})
    assert min(norms[-20:]) > 0.1


def test_the_average_is_what_is_evaluated() -> None:
    decay, models = 0.5, list[nn.Module]()

    def keep(model: nn.Module) -> torch.optim.Optimizer:
        models.append(model)
        return torch.optim.SGD(model.parameters(), lr=0.1)

    weights: list[Tensor] = []
    averaged = run(keep, recipe={"ema": decay}, on_step=lambda step: weights.append(models[-1].weight.detach().clone()))
    expected = weights[0]
    for new in weights[1:]:
        expected = decay * expected + (1 - decay) * new
    last = models[-1]
    assert evaluate(Line(), last, None, "tuning")["loss"] == run(keep).final_loss != averaged.final_loss
    assert averaged.training_curve["loss"] == run(keep).training_curve["loss"]
    bias = last.bias.detach().clone()
    with torch.no_grad():
        last.weight.copy_(expected)
    near = evaluate(Line(noise=0.1), last, None, "tuning")["loss"]
    assert torch.equal(last.bias, bias)
    assert averaged.final_loss == pytest.approx(near, rel=0.05)


def test_schedule_free_has_no_second_average_and_says_so() -> None:
    plain, averaged = (run(made("schedule_free(adamw)", lr=0.1), recipe={"ema": ema}) for ema in (None, 0.9))
    assert averaged.curve["loss"] == plain.curve["loss"]
    assert len(plain.notes) == 1 and len(averaged.notes) == 2


def test_evaluation_is_at_the_weights_that_the_rule_owns() -> None:
    task = Line()
    torch.manual_seed(0)
    model = task.new_model()
    before = evaluate(task, model, None, "tuning")["loss"]
    optimizer = ravine.create("lookahead(sgd)", model.parameters(), lr=1.0, **{"lookahead.k": 5})
    task.loss(model, task.draw(4, torch.Generator(), 1)).backward()
    optimizer.step()
    assert evaluate(task, model, None, "tuning")["loss"] != before
    assert evaluate(task, model, optimizer, "tuning")["loss"] == pytest.approx(before, rel=1e-6)


def test_a_task_that_evaluates_at_training_weights_is_an_error() -> None:
    class Careless(Line):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            return super().loss(model.eval(), batch)

    with pytest.raises(RuntimeError, match="evaluated at the training weights of schedule_free"):
        run(made("schedule_free(adamw)", lr=0.1), Careless())
    assert run(task=Careless()).final_loss == run().final_loss


def test_a_loss_that_is_not_finite_ends_the_run_and_is_reported() -> None:
    steps: list[int] = []
    outcome = run(lambda model: torch.optim.SGD(model.parameters(), lr=1e30), on_step=steps.append)
    assert outcome.diverged and outcome.final_loss is None
    assert outcome.diverged_at == steps[-1] < 20
    assert all(map(math.isfinite, outcome.curve["loss"]))
    json.dumps(asdict(outcome), allow_nan=False)


@pytest.mark.parametrize(("limit", "diverged"), [(1e4, True), (math.inf, False)])
def test_a_run_that_ends_above_the_tasks_limit_has_diverged(limit: float, diverged: bool) -> None:
    outcome = run(lambda model: torch.optim.SGD(model.parameters(), lr=1e4), Line(limit=limit))
    assert outcome.diverged == diverged and outcome.diverged_at is None
    assert outcome.final_loss is not None and outcome.final_loss > 1e4


def test_a_figure_that_is_not_finite_is_none() -> None:
    class Steep(Line):
        def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
            return {**super().evaluate(model, split), "perplexity": math.inf}

    assert run(task=Steep()).metrics == {"loss": run().final_loss, "perplexity": None}


@pytest.mark.parametrize("name", ["sgd", "lion", "adamw", "amsgrad"])
def test_state_is_counted_in_bytes(name: str) -> None:
    outcome = run(made(name, lr=1e-3), Text())
    floats = {"sgd": 0, "lion": 1, "adamw": 2, "amsgrad": 3}[name]
    steps = 4 * len(list(Text().new_model().parameters()))
    assert outcome.state_bytes_by_dtype.get("float32", 0) - 4 * floats * outcome.parameters in (0, steps)
    assert outcome.state_bytes_per_param == sum(outcome.state_bytes_by_dtype.values()) / outcome.parameters


def test_frozen_weights_are_not_counted() -> None:
    class Frozen(Line):
        def new_model(self) -> nn.Module:
            model = super().new_model()
            model.bias.requires_grad_(False)
            return model

    assert run(lambda model: torch.optim.SGD([model.weight], lr=0.1), Frozen()).parameters == 8


@dataclass(frozen=True)
class Slow(Line):
    """Sleeps where it is told to."""

    where: str = ""

    def pause(self, here: str) -> None:
        time.sleep(0.01 if self.where == here else 0)

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        self.pause("data" if step else "")
        return super().draw(count, generator, step)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.pause("forward" if model.training else "")
        loss = super().loss(model, batch)
        if loss.requires_grad:
            loss.register_hook(lambda gradient: self.pause("backward"))
        return loss

    def after_step(self, model: nn.Module) -> None:
        self.pause("after")

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        self.pause("evaluation")
        return super().evaluate(model, split)


class SlowSGD(torch.optim.SGD):
    def step(self, *arguments: Any) -> None:  # type: ignore[override]
        time.sleep(0.01)
        super().step(*arguments)


@pytest.mark.parametrize("where", ["data", "forward", "backward", "optimizer", "after", "evaluation"])
def test_time_is_split_into_its_parts(where: str) -> None:
    kind = SlowSGD if where == "optimizer" else torch.optim.SGD
    start = time.perf_counter()
    outcome = run(lambda model: kind(model.parameters(), lr=0.1), Slow(where=where))
    whole = time.perf_counter() - start
    assert sum(outcome.spans.values()) <= outcome.seconds
    if where in outcome.spans:
        assert outcome.spans[where] >= 20 * 0.01
    elif where == "after":
        assert outcome.seconds - sum(outcome.spans.values()) >= 20 * 0.01
    else:
        assert outcome.seconds <= whole - 12 * 0.01
    assert outcome.units_per_second == pytest.approx(20 * 8 / outcome.seconds)
    assert outcome.optimizer_share == pytest.approx(outcome.spans["optimizer"] / outcome.seconds)


@pytest.mark.parametrize("name", ["adamw", "muon", "schedule_free(adamw)"])
def test_bfloat16_learns_about_the_same(name: str) -> None:
    full, half = (run(made(name, lr=0.03), Text(), {"precision": p}) for p in ("float32", "bfloat16"))
    assert half.final_loss != full.final_loss
    assert half.final_loss == pytest.approx(full.final_loss, rel=0.05)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
        ({"device": "cuda"}, "device cuda was asked for, and torch finds no GPU here"),
        ({"recipe": {"precision": "float16"}}, "precision float16 needs a GPU"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=sentence):
        run(**options)


@pytest.mark.parametrize(("loss", "got"), [(None, "None"), (torch.ones(3), r"a tensor of shape \(3,\)")])
def test_a_loss_that_is_no_number_is_refused(loss: Any, got: str) -> None:
    class Wrong(Line):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            return loss

    with pytest.raises(ValueError, match=f"the loss of the task 'line' must be a tensor without dimensions, got {got}"):
        run(task=Wrong())


@dataclass(frozen=True)
class Failing(Line):
    """Raises an error in its loss."""

    error: Any = None

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        if self.error is None:
            torch.empty(10**17)
        raise self.error


@pytest.mark.parametrize(
    "error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")]
)
def test_running_out_of_memory_fails_the_run_and_not_the_program(error: Any) -> None:
    outcome = run(task=Failing(error=error))
    assert (
        outcome.failed is not None and outcome.failed.startswith("out of memory on cpu") and "\n" not in outcome.failed
    )
    assert outcome.final_loss is None and not outcome.diverged
    assert {None: "400000000000000000 bytes", MemoryError: ""}.get(error and type(error), "2.00 GiB") in outcome.failed


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(task=Failing(error=RuntimeError("shapes differ")))


def test_bfloat16_is_taken_where_it_is_faster() -> None:
    @dataclass(frozen=True)
    class Paced(Text):
        seconds: tuple[float, float] = (0.0, 0.0)

        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            time.sleep(self.seconds[torch.is_autocast_enabled("cpu")])
            return super().loss(model, batch)

    assert faster_precision(Text(), 2, "cpu") in ("float32", "bfloat16")
    assert faster_precision(Paced(seconds=(0.1, 0.0)), 2, "cpu") == "bfloat16"
    assert faster_precision(Paced(seconds=(0.0, 0.1)), 2, "cpu") == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "schedule_free(adamw)"])
def test_a_compiled_model_learns_the_same(name: str) -> None:
    plain, compiled = (run(made(name, lr=0.01), Text(), {"compile": c, "steps": 5}) for c in (False, True))
    assert compiled.curve["loss"] == pytest.approx(plain.curve["loss"], rel=1e-4)
