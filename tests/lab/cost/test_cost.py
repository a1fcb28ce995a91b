"""What a step costs: operations as counted by hand, energy from counters, times that add up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ravine.lab.cost import measure
from ravine.lab.cost.energy import Meter, _packages
from ravine.lab.cost.operations import fastest, flops_per_unit
from ravine.lab.tasks import make
from ravine.lab.training import Recipe


def test_operations_are_those_of_the_matrix_products() -> None:
    """Two a weight and image forward; backward as many for weights, and for the inputs of all layers but the first."""
    task = make("digits", size="tiny")
    weights = [p.numel() for p in task.new_model().parameters() if p.ndim == 2]
    expected = sum(
        2 * n * (2 if first else 3) for n, first in zip(weights, [True, *[False] * len(weights)], strict=False)
    )
    assert flops_per_unit(task, 8, "cpu") == expected


def test_the_machine_is_as_fast_as_its_fastest_product() -> None:
    assert 1e8 < fastest("cpu", "float32", rounds=1) < 1e15


def test_parts_add_up_to_the_step() -> None:
    task = make("digits", size="tiny")
    makers = {
        "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        "adam": lambda model: torch.optim.Adam(model.parameters()),
    }
    costs = measure(task, makers, Recipe(steps=20, batch=16), "cpu", rounds=3)
    assert set(costs) == {"sgd", "adam"}
    for cost in costs.values():
        parts = cost.milliseconds
        assert all(parts[name] > 0 for name in ("data", "forward", "backward", "optimizer", "step"))
        assert cost.units_per_second == pytest.approx(16 / parts["step"] * 1e3)
        assert 0 < cost.optimizer_share < 1 and cost.mfu > 0


def counter(folder: Path, name: str, microjoules: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "energy_uj").write_text(microjoules)


def test_energy_is_what_the_packages_have_counted(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", "1000000\n")
    counter(tmp_path, "intel-rapl:1", "5000000\n")
    counter(tmp_path, "intel-rapl:0:0", "7\n")
    counter(tmp_path, "intel-rapl:2", "not a number")
    found = _packages(tmp_path)
    assert set(found) == {"intel-rapl:0", "intel-rapl:1"}
    meter = Meter(found)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("3000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("5500000")
    assert meter.joules() == pytest.approx(2.5)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("12")
    assert meter.joules() is None, "a counter that began anew says nothing"
    assert Meter(_packages(tmp_path / "none")).joules() is None
