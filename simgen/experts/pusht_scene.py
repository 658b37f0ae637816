"""What the Push-T expert knows of its scene: a copy in which pushes are tried, and ways around the T.

Lengths are pixels, poses are x, y [px] and angle [rad] on the table, as in ``robostack.sim.pusht``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from robostack.sim.pusht import GOAL, OUTLINE, corners, make_gym_env

Point = tuple[float, float]
CLEARANCE = 22.0  # of the tip's centre on its way round the T; its radius is 15 px, and it cuts corners
_BOXES = ((-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0))  # the two bars of the T, in its own frame
_GROWN = tuple((x0 - CLEARANCE, y0 - CLEARANCE, x1 + CLEARANCE, y1 + CLEARANCE) for x0, y0, x1, y1 in _BOXES)
_LOW, _HIGH = 15.0, 497.0  # where the tip may go on its way
_GOAL_CORNERS = corners(np.array(GOAL))


@dataclass(frozen=True)
class Contact:
    """Where the outline can be pushed: a point and the outward normal there, in the T's frame."""

    point: Point
    normal: Point

    @property
    def approach(self) -> Point:
        """Where the tip starts to push: just outside of the clearance."""
        reach = CLEARANCE + 0.6
        return self.point[0] + reach * self.normal[0], self.point[1] + reach * self.normal[1]


def contacts(spacing: float) -> tuple[Contact, ...]:
    """Points along the outline, ``spacing`` px apart or less, that the tip can touch."""
    found = []
    for start, end in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        edge = end - start
        length = float(np.hypot(*edge))
        normal = np.array([edge[1], -edge[0]]) / length
        n = max(2, math.ceil(length / spacing))
        for share in (np.arange(n) + 0.5) / n:
            x, y = start + share * edge
            contact = Contact((float(x), float(y)), (float(normal[0]), float(normal[1])))
            if _grown_bar(contact.approach) is None:
                found.append(contact)
    return tuple(found)


def _grown_bar(point: Point) -> tuple[float, float, float, float] | None:
    """The first bar, grown by the clearance, that a point in the T's frame lies in."""
    x, y = point
    return next((bar for bar in _GROWN if bar[0] < x < bar[2] and bar[1] < y < bar[3]), None)


def misplacement(pose: Iterable[float]) -> float:
    """Mean distance of the T's corners from those of the goal [px]."""
    x, y, angle = pose
    offset = corners(np.array([x, y, angle])) - _GOAL_CORNERS
    return float(np.hypot(offset[:, 0], offset[:, 1]).mean())


# Ways around the T.


class Around:
    """Shortest ways of the tip around a T at rest, through the corners of its bars grown by the clearance."""

    def __init__(self, pose: tuple[float, float, float]):
        self._x, self._y, angle = pose
        self._c, self._s = math.cos(angle), math.sin(angle)
        r = CLEARANCE + 0.5
        nodes = [
            (-60 - r, -r),
            (60 + r, -r),
            (60 + r, 30 + r),
            (-60 - r, 30 + r),
            (15 + r, 120 + r),
            (-15 - r, 120 + r),
        ]
        self._nodes = [node for node in nodes if self._on_table(node)]
        self._edges = {
            (i, j): math.dist(a, b)
            for i, a in enumerate(self._nodes)
            for j, b in enumerate(self._nodes)
            if i != j and self._free(a, b)
        }

    def local(self, point: Point) -> Point:
        """From the table into the T's frame."""
        x, y = point[0] - self._x, point[1] - self._y
        return self._c * x + self._s * y, -self._s * x + self._c * y

    def world(self, point: Point) -> Point:
        """From the T's frame onto the table."""
        x, y = point
        return self._x + self._c * x - self._s * y, self._y + self._s * x + self._c * y

    def way(self, start: Point, end: Point) -> list[Point] | None:
        """Corners of the way from ``start`` (excluded) to ``end`` on the table; None when there is none.

        A start next to the T leaves it straight first. ``end`` is in the T's frame, and outside of its clearance.
        """
        inner = self.local(start)
        first = self._outside(inner)
        if first is None or not self._on_table(end):
            return None
        chain = self._search(first, end)
        if chain is None:
            return None
        return [self.world(p) for p in ([] if first == inner else [first]) + chain]

    def _on_table(self, point: Point) -> bool:
        return all(_LOW <= v <= _HIGH for v in self.world(point))

    def _search(self, start: Point, end: Point) -> list[Point] | None:
        if self._free(start, end):
            return [end]
        goal = len(self._nodes)
        reach = {i: math.dist(p, end) for i, p in enumerate(self._nodes) if self._free(p, end)}
        queue: list[tuple[float, int, tuple[int, ...]]] = [
            (math.dist(start, p), i, (i,)) for i, p in enumerate(self._nodes) if self._free(start, p)
        ]
        heapq.heapify(queue)
        done: set[int] = set()
        while queue:
            length, i, chain = heapq.heappop(queue)
            if i == goal:
                return [self._nodes[k] for k in chain[:-1]] + [end]
            if i in done:
                continue
            done.add(i)
            if i in reach:
                heapq.heappush(queue, (length + reach[i], goal, (*chain, goal)))
            for (a, b), cost in self._edges.items():
                if a == i and b not in done:
                    heapq.heappush(queue, (length + cost, b, (*chain, b)))
        return None

    def _outside(self, point: Point) -> Point | None:
        """The nearest point outside of the clearance."""
        box = _grown_bar(point)
        if box is None:
            return point
        (x, y), (x0, y0, x1, y1) = point, box
        exits = [(x0 - 0.5, y), (x1 + 0.5, y), (x, y0 - 0.5), (x, y1 + 0.5)]
        free = [p for p in exits if _grown_bar(p) is None]
        return min(free, key=lambda p: math.dist(p, point), default=None)

    def _free(self, a: Point, b: Point) -> bool:
        """Whether a straight line stays out of both grown bars (slab test)."""
        for x0, y0, x1, y1 in _GROWN:
            enter, leave = 0.0, 1.0
            for p, q, low, high in ((a[0], b[0], x0, x1), (a[1], b[1], y0, y1)):
                d = q - p
                if abs(d) < 1e-9:
                    if not low < p < high:
                        enter = 2.0
                    continue
                t0, t1 = sorted(((low - p) / d, (high - p) / d))
                enter, leave = max(enter, t0), min(leave, t1)
            if enter < leave - 1e-9:
                return False
        return True


# Trying pushes.


@dataclass(frozen=True)
class Moment:
    """What the scene is after a control step: the tip's position and velocity, and the T's pose."""

    tip: Point
    velocity: Point
    pose: tuple[float, float, float]


class Rehearsal:
    """A copy of the scene. The T rests whenever nothing pushes it, so a ``Moment`` is all there is to remember."""

    def __init__(self):
        self._gym = make_gym_env()
        self._gym.reset(seed=0)
        self._substeps = round(1 / (self._gym.dt * self._gym.control_hz))

    def start(self, moment: Moment) -> None:
        """Put the scene into a moment, and let it forget the contacts of what was tried before."""
        gym = self._gym
        gym.block.angle, gym.block.position = 0.0, (256.0, 256.0)
        gym.agent.position, gym.agent.velocity = (30.0, 30.0), (0.0, 0.0)
        for _ in range(gym.space.collision_persistence + 1):
            gym.space.step(gym.dt)
        gym.agent.position, gym.agent.velocity = moment.tip, moment.velocity
        gym.block.angle = moment.pose[2]  # before the position: pymunk turns a body about its centre of gravity
        gym.block.position = moment.pose[:2]
        gym.block.velocity, gym.block.angular_velocity = (0.0, 0.0), 0.0

    def step(self, command: Point) -> Moment:
        """One control step: gym-pusht's, without its picture of the outcome."""
        gym = self._gym
        agent, space, dt, k_p, k_v = gym.agent, gym.space, gym.dt, gym.k_p, gym.k_v
        (x, y), (vx, vy), (cx, cy) = agent.position, agent.velocity, command
        for _ in range(self._substeps):  # the tip is kinematic: nothing that it touches changes its motion
            vx += (k_p * (cx - x) - k_v * vx) * dt
            vy += (k_p * (cy - y) - k_v * vy) * dt
            agent.velocity = (vx, vy)
            space.step(dt)
            x, y = x + vx * dt, y + vy * dt
        block = gym.block
        px, py = block.position
        return Moment((x, y), (vx, vy), (px, py, block.angle))

    def solved(self) -> bool:
        """Whether the T covers enough of its outline now."""
        return self._gym._get_coverage() > self._gym.success_threshold
