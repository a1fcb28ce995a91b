"""Landscapes: optimizers at work on a function of two numbers, and on the loss of a network along a plane."""

from __future__ import annotations

from ravine.explain.landscape.on_function import landscape
from ravine.explain.landscape.on_network import network_landscape
from ravine.explain.landscape.result import Result, Terrain, Track

__all__ = ["Result", "Terrain", "Track", "landscape", "network_landscape"]
