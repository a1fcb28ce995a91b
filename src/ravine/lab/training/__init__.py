"""One training run: the loop, its recipe, checkpoints, several processes, and what came of it."""

from __future__ import annotations

from ravine.lab.training.launch import train_distributed
from ravine.lab.training.loop import train
from ravine.lab.training.outcome import Outcome
from ravine.lab.training.precision import faster_precision
from ravine.lab.training.pretraining import fit, load_model
from ravine.lab.training.recipe import Precision, Recipe
from ravine.lab.training.run import evaluate

__all__ = [
    "Outcome", "Precision", "Recipe", "evaluate", "faster_precision", "fit", "load_model", "train", "train_distributed",
]  # fmt: skip
