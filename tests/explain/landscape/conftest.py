"""What the landscapes' tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from ravine.explain.landscape import Result, landscape

ARMS = ["sgd:lr=0.036", "sgd:lr=0.036,momentum=0.9", "muon:lr=0.1"]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small train fastest on one, and do not wait for others at work on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def result() -> Result:
    """Three optimizers in the ravine, 60 steps."""
    return landscape("ravine", ARMS, steps=60)


def as_network(result: Result) -> Result:
    """The same without a known minimum, as on a network's plane."""
    tracks = tuple(replace(track, in_plane=0.123, losses=track.losses + 1) for track in result.tracks)
    ground = replace(result.ground, heights=result.ground.heights + 1, same_scale=True)
    return replace(result, minimum=None, tracks=tracks, ground=ground)
