"""What training costs: the time of a step and its parts, floating point operations, energy."""

from ravine.lab.cost.step import Cost, measure

__all__ = ["Cost", "measure"]
