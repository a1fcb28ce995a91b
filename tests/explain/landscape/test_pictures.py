"""Pictures and pages: drawn whatever the numbers are, and the same each time."""

from __future__ import annotations

import re
import struct
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.explain.landscape.conftest import ARMS, as_network

from ravine.explain import figure
from ravine.explain.landscape import Result, landscape
from ravine.explain.landscape.picture import levels_of, loss_range, moves_range
from ravine.explain.landscape.table import rows


def test_the_picture_shows_every_path_and_number(result: Result) -> None:
    drawn = result.figure()
    ground, losses, moves = drawn.axes
    for track in result.tracks:
        assert any(np.array_equal(line.get_xydata(), track.points) for line in ground.lines)
        assert any(np.array_equal(line.get_ydata(), track.losses) for line in losses.lines)
        assert any(np.array_equal(line.get_ydata(), track.moves) for line in moves.lines)
    said = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert said[0].startswith("sgd:lr=0.036 · 1e-3 not reached · oscillation 0.")
    assert [axes.get_xlabel() for axes in drawn.axes] == ["x", "", "step"]
    assert losses.get_yscale() == moves.get_yscale() == "log"
    colours = {line.get_color() for line in ground.lines} & set(figure.COLOURS)
    assert len(colours - {"#000000"}) == len(ARMS)


def test_the_same_result_gives_the_same_files(result: Result) -> None:
    assert figure.svg(result.figure()) == figure.svg(result.figure())
    width, height = struct.unpack(">II", figure.png(result.figure())[16:24])
    assert width == 1600 and height > 800


@pytest.mark.parametrize(
    ("arms", "options"),
    [
        (["sgd:lr=0.01", "adam:lr=0.1"], {"start": (0.0, 0.0), "steps": 20}),
        (["sgd:lr=0.01"], {"steps": 1}),
        (["sgd:lr=100", "sgd:lr=0.01"], {"steps": 20}),
        (["sgd:lr=0"], {"steps": 20}),
        (["adam:lr=1e-9"], {"start": (1e3, -1e3), "steps": 20}),
        (["sgd:lr=0.01"], {"x": (100.0, 101.0), "y": (5.0, 6.0), "steps": 20}),
        ([f"sgd:lr={0.001 * (i + 1)}" for i in range(9)], {"steps": 20}),
    ],
)
def test_whatever_the_numbers_are_it_is_drawn_without_a_warning(arms: list[str], options: dict[str, Any]) -> None:
    made = landscape("ravine", arms, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (made, as_network(made), replace(as_network(made), tracks=())):
            assert figure.png(one.figure())
            low, high, _ = loss_range(one)
            assert low < high
            assert moves_range(one)[0] < moves_range(one)[1]
            assert (np.diff(levels_of(one)) > 0).all()
            assert "</html>" in one.html()


def test_a_networks_ground_has_its_losses_written_on_it(result: Result) -> None:
    drawn = as_network(result).figure()
    assert any(re.fullmatch(r"[\d.e+]+", text.get_text()) for text in drawn.axes[0].texts)
    assert "12.3% of its path's variance in the plane" in drawn.legends[0].get_texts()[0].get_text()
    assert drawn.axes[0].get_aspect() == 1.0


def test_columns_that_say_nothing_are_left_out(result: Result) -> None:
    assert list(rows(result)[0][1]) == ["lr", "steps to 1e-3", "oscillation", "loss at the end"]
    assert list(rows(as_network(result))[0][1]) == ["lr", "oscillation", "loss at the end", "path in the plane"]


def test_the_page_stands_alone_and_escapes_what_it_is_given(result: Result) -> None:
    hostile = "<script>alert(1)</script>"
    tracks = (replace(result.tracks[0], label=hostile), *result.tracks[1:])
    page = replace(result, title=hostile, about=hostile, remarks=(hostile,), tracks=tracks).html()
    assert hostile not in page and "&lt;script&gt;alert(1)" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src &#39;none&#39;" in policy or "default-src 'none'" in policy
    assert "unsafe-eval" not in policy and "http" not in policy
