"""`ravine.watch`: the run is not changed, what is told is what happens, and recordings go on."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ravine
from ravine.explain.watch import read
from ravine.explain.watch.measures import PER_DECADE, Spread, norm, rms, singular_values
from ravine.optim import Optimizer

WRAPPED = [f"{name}(adamw)" for name in ravine.wrappers()]


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


def optimizer_of(name: str, model: nn.Module, **settings: object) -> Optimizer:
    steps_matrices = ravine.lookup(name).steps_matrices
    params = model if steps_matrices else model.named_parameters()
    return ravine.create(name, params, lr=0.01, engine="reference", **settings)


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def states_of(optimizer: Optimizer) -> list[torch.Tensor]:
    states = optimizer.state_dict()["state"]
    return [x for one in states.values() for x in one.values() if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("name", [*ravine.available(), *WRAPPED])
def test_a_watched_run_is_the_same_to_the_bit_and_the_told_changes_are_those_made(name: str, tmp_path: Path) -> None:
    watched, alone = small_model(), small_model()
    one, other = optimizer_of(name, watched), optimizer_of(name, alone)
    before: dict[str, torch.Tensor] = {}
    with ravine.watch(one, tmp_path / "run.jsonl", model=watched, every=3):
        for step in range(1, 7):
            for model, optimizer in ((watched, one), (alone, other)):
                gradients(model, step)
                before = {n: p.detach().clone() for n, p in model.named_parameters()}
                optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(watched.parameters(), alone.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(states_of(one), states_of(other), strict=True))
    recording = read(tmp_path / "run.jsonl")
    assert recording.steps == [1, 3, 6]
    told = recording.samples[-1]["parameters"]
    assert list(told) == list(before)
    for n, p in alone.named_parameters():
        moved = rms((p.detach() - before[n]).double())
        # The weights are rounded to float32 after each step; what is told is the change before that.
        assert told[n]["update_rms"] == pytest.approx(moved, rel=2e-5, abs=2e-7 * rms(p) + 1e-12), n
        assert told[n]["weight_norm"] == pytest.approx(norm(before[n]), rel=1e-5)
        assert told[n]["gradient_rms"] == pytest.approx(rms(p.grad), rel=1e-5)


def test_the_decay_is_told_apart(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([2.0, -2.0]))
    optimizer = ravine.AdamW([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([1.0, -1.0])
    with ravine.watch(optimizer, tmp_path / "run.jsonl"):
        optimizer.step()
    told = read(tmp_path / "run.jsonl").samples[0]["parameters"]["parameter 0"]
    assert told["decay_rms"] == pytest.approx(0.1 * 0.5 * 2, rel=1e-5)
    assert told["update_rms"] == pytest.approx(0.1 + 0.1, rel=1e-5)
    assert told["relative_update"] == pytest.approx(0.1, rel=1e-5)


def test_the_direction_of_adam_is_its_quotient(tmp_path: Path) -> None:
    """At the first step m̂ / (√v̂ + ε) is 1 for each element, whatever the gradient."""
    model = small_model()
    optimizer = ravine.AdamW(model.parameters(), lr=0.01)
    gradients(model, 1)
    with ravine.watch(optimizer, tmp_path / "run.jsonl"):
        optimizer.step()
    spread = Spread.from_dict(read(tmp_path / "run.jsonl").samples[0]["spreads"]["adamw"]["direction"])
    assert set(spread.counts) <= {-1, 0}
    assert sum(spread.counts.values()) == sum(p.numel() for p in model.parameters())


def test_an_orthogonalized_matrix_has_a_flat_spectrum_and_is_seen_before(tmp_path: Path) -> None:
    model = small_model()
    optimizer = ravine.create("muon", model, lr=0.01, weight_decay=0.0)
    gradients(model, 1)
    with ravine.watch(optimizer, tmp_path / "run.jsonl", model=model, spectra=1):
        optimizer.step()
    [(name, found)] = read(tmp_path / "run.jsonl").samples[0]["spectra"].items()
    assert name in {n for n, p in model.named_parameters() if p.ndim == 2}
    assert found["update"][-1] / found["update"][0] > 0.6
    assert found["before"][-1] / found["before"][0] < 0.6
    expected = torch.linalg.svdvals(dict(model.named_parameters())[name].grad)
    assert found["gradient"] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "cautious(adamw)"])
def test_of_large_tensors_some_elements_are_looked_at(name: str, tmp_path: Path) -> None:
    """About as many as were asked for where the rule goes by elements, and then all of them for the rule's sums."""
    weight = nn.Parameter(torch.zeros(20_000))
    optimizer = ravine.create(name, [weight], lr=0.01)
    weight.grad = torch.linspace(-1, 1, 20_000)
    with ravine.watch(optimizer, tmp_path / "run.jsonl", elements=100):
        optimizer.step()
    sample = read(tmp_path / "run.jsonl").samples[0]
    assert sum(Spread.from_dict(sample["spreads"][name]["gradient"]).counts.values()) == pytest.approx(100, abs=2)
    assert sample["parameters"]["parameter 0"]["update_rms"] == pytest.approx(0.01, rel=1e-4)


def test_blocks_of_a_cut_parameter_are_told_one_by_one(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(12, 4))
    optimizer = ravine.create("muon", [{"params": [weight], "split": 3}], lr=0.01)
    weight.grad = torch.randn(12, 4)
    with ravine.watch(optimizer, tmp_path / "run.jsonl"):
        optimizer.step()
    assert list(read(tmp_path / "run.jsonl").samples[0]["parameters"]) == [f"parameter 0[{i}]" for i in range(3)]


def test_gradients_of_a_closure_are_seen(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = ravine.SGD([weight], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    with ravine.watch(optimizer, tmp_path / "run.jsonl"):
        optimizer.step(closure)
    assert read(tmp_path / "run.jsonl").samples[0]["parameters"]["parameter 0"]["gradient_rms"] == 6.0


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    optimizer = ravine.AdamW([weight])
    weight.grad = torch.tensor([[math.nan, 1.0], [math.inf, 0.0]])
    with ravine.watch(optimizer, tmp_path / "run.jsonl"):
        optimizer.step()
    sample = read(tmp_path / "run.jsonl").samples[0]
    assert sample["parameters"]["parameter 0"]["gradient_rms"] is None
    assert sample["spreads"]["adamw"]["gradient"]["unusual"] == 2
    assert sample["spreads"]["adamw"]["gradient"]["zeros"] == 1


def test_a_resumed_run_goes_on_with_its_recording(tmp_path: Path) -> None:
    model = small_model()
    optimizer = optimizer_of("adamw", model)
    saved = None
    with ravine.watch(optimizer, tmp_path / "run.jsonl", model=model, every=2):
        for step in range(1, 7):
            gradients(model, step)
            optimizer.step()
            if step == 4:
                saved = copy.deepcopy(optimizer.state_dict())
    again = optimizer_of("adamw", model)
    again.load_state_dict(saved)
    with ravine.watch(again, tmp_path / "run.jsonl", model=model, every=2):
        gradients(model, 5)
        again.step()
    assert read(tmp_path / "run.jsonl").steps == [1, 2, 4]
    with pytest.raises(ValueError, match="overwrite=True"):
        ravine.watch(optimizer_of("adamw", model), tmp_path / "run.jsonl", model=model)
    weight = nn.Parameter(torch.ones(2))
    other = ravine.AdamW([("w", weight)])
    weight.grad = torch.ones(2)
    other.step()
    with pytest.raises(ValueError, match="other parameters"):
        ravine.watch(other, tmp_path / "run.jsonl")


def test_a_line_cut_off_at_the_end_is_left_out_and_damage_before_is_said(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = ravine.SGD([weight], lr=0.1)
    with ravine.watch(optimizer, tmp_path / "run.jsonl", every=1):
        for _ in range(3):
            weight.grad = torch.ones(3)
            optimizer.step()
    text = (tmp_path / "run.jsonl").read_text()
    (tmp_path / "run.jsonl").write_text(text[:-20])
    assert read(tmp_path / "run.jsonl").steps == [1, 2]
    lines = text.splitlines()
    (tmp_path / "run.jsonl").write_text("\n".join([lines[0], lines[1][:30], *lines[2:]]))
    with pytest.raises(ValueError, match="line 2 is damaged"):
        read(tmp_path / "run.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no recording"), ("[1]\n", "no recording"), ("{}\n", "no recording"), ("x\n", "no recording")],
)
def test_another_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(file)
    with pytest.raises(ValueError, match=message):
        ravine.watch(ravine.SGD([nn.Parameter(torch.ones(1))], lr=0.1), file)
    assert file.read_text() == content


@pytest.mark.parametrize("arguments", [{"every": 0}, {"every": 1.5}, {"elements": 0}, {"spectra": -1}, {"every": True}])
def test_numbers_out_of_range(arguments: dict[str, object], tmp_path: Path) -> None:
    optimizer = ravine.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))} must be"):
        ravine.watch(optimizer, tmp_path / "run.jsonl", **arguments)
    assert not list(tmp_path.iterdir())


def test_foreign_optimizers_and_missing_places() -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(TypeError, match=r"got torch\.optim\.adamw\.AdamW"):
        ravine.watch(torch.optim.AdamW([weight]), "run.jsonl")
    with pytest.raises(ValueError, match="a place to write to"):
        ravine.watch(ravine.AdamW([weight]))
    with pytest.raises(ValueError, match="cannot be written"):
        ravine.watch(ravine.AdamW([weight]), "/no/such/folder/run.jsonl")


def test_tensorboard_gets_scalars_and_histograms(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = small_model()
    optimizer = optimizer_of("adamw", model)
    with ravine.watch(optimizer, tensorboard=tmp_path, model=model, every=2):
        for step in range(1, 5):
            gradients(model, step)
            optimizer.step()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [e.step for e in events.Scalars("update_rms/0.weight")] == [1, 2, 4]
    last = events.Histograms("log10 of gradient/adamw")[-1].histogram_value
    assert last.num == sum(p.numel() for p in model.parameters())


magnitudes = st.floats(min_value=1e-18, max_value=1e9) | st.just(0.0)


@given(st.lists(magnitudes, min_size=1, max_size=50), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_spread_counts_every_element_in_its_bin(values: list[float], negative: bool) -> None:
    spread = Spread.of((-1.0 if negative else 1.0) * torch.tensor(values, dtype=torch.float64))
    assert spread.zeros == values.count(0.0)
    assert sum(spread.counts.values()) == len(values) - spread.zeros
    for place in spread.counts:
        low, high = 10 ** (place / PER_DECADE), 10 ** ((place + 1) / PER_DECADE)
        assert any(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in values)
    assert Spread.from_dict(json.loads(json.dumps(spread.as_dict()))) == spread
    middle = sorted(values)[(len(values) - 1) // 2]
    assert spread.quantile(0.5) == pytest.approx(middle, rel=0.16)


def test_singular_values_of_tall_wide_and_broken_matrices() -> None:
    torch.manual_seed(0)
    for shape in ((5, 9), (9, 5), (4, 4)):
        x = torch.randn(shape)
        assert singular_values(x) == pytest.approx(torch.linalg.svdvals(x).tolist(), rel=1e-4)
    assert singular_values(torch.full((2, 2), math.nan)) is None
