"""Heat maps: a grid of two settings, all of its runs at once where the model is small."""

from ravine.lab.sweep.batched import BatchedRuns, Unbatched
from ravine.lab.sweep.grid import OnProgress, Sweep, prepare
from ravine.lab.sweep.table import print_sweep

__all__ = ["BatchedRuns", "OnProgress", "Sweep", "Unbatched", "prepare", "print_sweep"]
