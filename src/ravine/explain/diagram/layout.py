"""Where boxes and arrows of a layered drawing go: boxes in rows, arrows from row to row.

The four steps are those of Gansner, Koutsofios, North & Vo 1993, "A technique for drawing directed graphs": rows by a
linear program, order within rows by medians from several beginnings, places by a second linear program, curves. Arrows
of one origin share a trunk, from which each leaves in the row above its end.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

Point = tuple[float, float]

BESIDE = 26.0  # between two boxes of a row, in the unit of the boxes
LANE = 18.0  # between an arrow that passes a row and what stands beside it
PORTS = 18.0  # between two arrows at one side of a box
BETWEEN = 36.0  # between two rows; more where arrows go far aside
BEGINNINGS = 24
SWEEPS = 8
BENDS = (1.0, 2.0, 6.0)  # how much a link should be upright that leads from box to box, bend to box, bend to bend


@dataclass(frozen=True)
class Arc:
    """An arrow from one box to another; `up` for one that is drawn from the lower of the two to the upper."""

    above: str
    below: str
    up: bool = False


@dataclass
class Layout:
    """Centres of boxes, and for every arc its curves: one from row to row, the trunk's among the first arc's."""

    centres: dict[str, Point]
    curves: dict[Arc, list[tuple[Point, ...]]] = field(default_factory=dict)


Bend = tuple[Hashable, int]  # the place where a trunk passes a row
Place = str | Bend


class Rows:
    """Boxes and bends, row by row, and the links from each row to the next."""

    def __init__(self, sizes: Mapping[str, Point], arcs: Sequence[Arc]) -> None:
        self.sizes, self.arcs = sizes, arcs
        self.row: dict[Place, int] = {}
        self.row.update(_levels(list(sizes), arcs))
        self.chains: dict[Arc, list[Place]] = {}
        for arc in arcs:
            trunk = arc if arc.up else arc.above
            bends: list[Place] = [(trunk, r) for r in range(self.row[arc.above] + 1, self.row[arc.below])]
            self.row.update({bend: bend[1] for bend in bends if not isinstance(bend, str)})
            self.chains[arc] = [arc.above, *bends, arc.below]
        self.links = list(dict.fromkeys((a, b, self.of(arc)) for arc, a, b in self._steps()))
        self.order: list[list[Place]] = [[] for _ in range(max(self.row.values()) + 1)]
        for place, row in self.row.items():
            self.order[row].append(place)

    def _steps(self) -> list[tuple[Arc, Place, Place]]:
        return [(arc, a, b) for arc, chain in self.chains.items() for a, b in pairwise(chain)]

    @staticmethod
    def of(arc: Arc) -> Hashable:
        """What an arc shares its way with: all that leave the same box downwards, or nothing."""
        return arc if arc.up else arc.above

    def width(self, place: Place) -> float:
        return self.sizes[place][0] if isinstance(place, str) else 0.0

    def neighbours(self) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
        above: dict[Place, list[Place]] = {place: [] for place in self.row}
        below: dict[Place, list[Place]] = {place: [] for place in self.row}
        for a, b, _ in self.links:
            above[b].append(a)
            below[a].append(b)
        return above, below

    def crossings(self, order: list[list[Place]]) -> int:
        """How many pairs of links cross."""
        at = {place: i for row in order for i, place in enumerate(row)}
        by_row: list[list[tuple[int, int]]] = [[] for _ in order]
        for a, b, _ in self.links:
            by_row[self.row[a]].append((at[a], at[b]))
        return sum((a - c) * (b - d) < 0 for row in by_row for i, (a, b) in enumerate(row) for c, d in row[:i])


def _levels(names: list[str], arcs: Sequence[Arc]) -> dict[str, int]:
    """The row of each box: below all that it needs, and arrows as short as they can be together."""
    from scipy.optimize import linprog

    index = {name: i for i, name in enumerate(names)}
    cost, least = np.zeros(len(names)), np.zeros((len(arcs), len(names)))
    for i, arc in enumerate(arcs):
        least[i, [index[arc.above], index[arc.below]]] = 1.0, -1.0
        cost[index[arc.below]] += 1.0
        cost[index[arc.above]] -= 1.0
    rows = linprog(cost, least, np.full(len(arcs), -1.0), bounds=(0, None)).x if arcs else np.zeros(len(names))
    whole = np.rint(rows).astype(int)
    return {name: int(whole[i] - whole.min()) for name, i in index.items()}


def arranged(sizes: Mapping[str, Point], arcs: Sequence[Arc]) -> Layout:
    """A layout for boxes of these widths and heights.

    Args:
        sizes: width and height of each box, by name.
        arcs: the arrows, without a cycle where each leads from `above` to `below`.
    """
    rows = Rows(sizes, arcs)
    tried = [_ordered(rows, seed) for seed in range(BEGINNINGS)]
    fewest = min(rows.crossings(order) for order in tried)
    best = {tuple(map(tuple, order)): order for order in tried if rows.crossings(order) == fewest}
    placed = [_placed(rows, order) for order in best.values()]
    order, x, ports, _ = min(placed, key=lambda found: found[3])
    return _drawn(rows, order, x, ports)


def _ordered(rows: Rows, seed: int) -> list[list[Place]]:
    """An order with few crossings: medians of the row above and below in turn, then swaps of neighbours."""
    chance = random.Random(seed)
    order = [list(row) for row in rows.order]
    if seed:
        for row in order:
            chance.shuffle(row)
    above, below = rows.neighbours()
    best, fewest = [list(row) for row in order], rows.crossings(order)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in order if down else reversed(order):
            at = {place: i for line in order for i, place in enumerate(line)}
            beside = above if down else below
            means = {p: sum(at[q] for q in beside[p]) / len(beside[p]) if beside[p] else at[p] for p in row}
            row.sort(key=lambda place: means[place])
        _swap(rows, order)
        if (now := rows.crossings(order)) < fewest:
            best, fewest = [list(row) for row in order], now
    return best


def _swap(rows: Rows, order: list[list[Place]]) -> None:
    now = rows.crossings(order)
    for row in order:
        for i in range(len(row) - 1):
            row[i], row[i + 1] = row[i + 1], row[i]
            swapped = rows.crossings(order)
            if swapped < now:
                now = swapped
            else:
                row[i], row[i + 1] = row[i + 1], row[i]


Ports = dict[tuple[Place, Place, Hashable], Point]  # for each link, how far its two ends are from the middles
Placed = tuple[list[list[Place]], dict[Place, float], Ports, float]


def _placed(rows: Rows, order: list[list[Place]]) -> Placed:
    """The middle of each place from the left, such that arrows are as upright as they can be together."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    ports = _ports(rows, order)
    places = [place for row in order for place in row]
    index = {place: i for i, place in enumerate(places)}
    n, m = len(places), len(rows.links)
    entries: list[tuple[int, int, float]] = []
    bounds: list[float] = []

    def least(terms: Sequence[tuple[int, float]], bound: float) -> None:
        """The sum of these terms is at most the bound."""
        entries.extend((len(bounds), column, factor) for column, factor in terms)
        bounds.append(bound)

    weights = []
    above, below = rows.neighbours()
    for i, (a, b, trunk) in enumerate(rows.links):
        start, end = ports[a, b, trunk]
        least([(index[a], 1.0), (index[b], -1.0), (n + i, -1.0)], end - start)
        least([(index[a], -1.0), (index[b], 1.0), (n + i, -1.0)], start - end)
        only = len(set(below[a])) == 1 and len(set(above[b])) == 1
        weights.append(BENDS[sum(not isinstance(place, str) for place in (a, b))] * (3.0 if only else 1.0))
    for row in order:
        for left, right in pairwise(row):
            gap = BESIDE if isinstance(left, str) and isinstance(right, str) else LANE
            apart = (rows.width(left) + rows.width(right)) / 2 + gap
            least([(index[left], 1.0), (index[right], -1.0)], -apart)
    down, across, factors = np.array(entries).reshape(-1, 3).T
    at = (down.astype(int), across.astype(int))
    matrix = coo_array((factors, at), shape=(len(bounds), n + m)).tocsr()
    cost = np.concatenate([np.full(n, 1e-4), weights])
    edges = [(rows.width(place) / 2, None) for place in places] + [(0, None)] * m
    found = linprog(cost, matrix, bounds, bounds=edges)
    return order, {place: float(found.x[index[place]]) for place in places}, ports, float(found.fun)


def _ports(rows: Rows, order: list[list[Place]]) -> Ports:
    """Where links begin and end, measured from the middles: side by side, in the order of what they lead to."""
    at = {place: i for row in order for i, place in enumerate(row)}
    lower: dict[Place, list[Hashable]] = {}
    upper: dict[Place, list[tuple[Place, Hashable]]] = {}
    for a, b, trunk in sorted(rows.links, key=lambda link: (at[link[1]], str(link[2]))):
        if trunk not in lower.setdefault(a, []):
            lower[a].append(trunk)
        upper.setdefault(b, []).append((a, trunk))
    for ends in upper.values():
        ends.sort(key=lambda end: (at[end[0]], lower[end[0]].index(end[1])))
    ports: Ports = {}
    for a, b, trunk in rows.links:
        start = _offset(lower[a].index(trunk), len(lower[a]), rows.width(a))
        ports[a, b, trunk] = (start, _offset(upper[b].index((a, trunk)), len(upper[b]), rows.width(b)))
    return ports


def _offset(i: int, count: int, width: float) -> float:
    step = min(PORTS, 0.8 * width / count)
    return (i - (count - 1) / 2) * step if width else 0.0


def _drawn(rows: Rows, order: list[list[Place]], x: dict[Place, float], ports: Ports) -> Layout:
    """Rows one below the other, and the curves between them."""
    tops, bottoms = [], []
    y = 0.0
    for r, row in enumerate(order):
        height = max((rows.sizes[place][1] for place in row if isinstance(place, str)), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        ways = [abs(x[a] + ports[a, b, k][0] - x[b] - ports[a, b, k][1]) for a, b, k in rows.links if rows.row[a] == r]
        y += height + BETWEEN + min(30.0, 0.09 * max(ways, default=0.0))
    layout = Layout({place: (x[place], (tops[rows.row[place]] + bottoms[rows.row[place]]) / 2) for place in rows.sizes})
    done: set[tuple[Place, Place, Hashable]] = set()
    for arc, chain in rows.chains.items():
        curves: list[tuple[Point, ...]] = []
        for a, b in pairwise(chain):
            link = (a, b, rows.of(arc))
            if link in done:
                continue
            done.add(link)
            curves.append(_curve(rows, layout, link, x, ports, (tops, bottoms)))
        layout.curves[arc] = curves if not arc.up else [tuple(reversed(curve)) for curve in reversed(curves)]
    return layout


def _curve(
    rows: Rows,
    layout: Layout,
    link: tuple[Place, Place, Hashable],
    x: dict[Place, float],
    ports: Ports,
    edges: tuple[list[float], list[float]],
) -> tuple[Point, ...]:
    """From a box's lower edge, or the row's upper one for a bend, to the next row: straight, a cubic, straight."""
    a, b, _ = link
    tops, bottoms = edges
    start, end = x[a] + ports[link][0], x[b] + ports[link][1]
    first = layout.centres[a][1] + rows.sizes[a][1] / 2 if isinstance(a, str) else tops[rows.row[a]]
    last = layout.centres[b][1] - rows.sizes[b][1] / 2 if isinstance(b, str) else tops[rows.row[b]]
    high, low = bottoms[rows.row[a]], tops[rows.row[b]]
    bend = 0.55 * (low - high)
    return ((start, first), (start, high), (start, high + bend), (end, low - bend), (end, low), (end, last))
