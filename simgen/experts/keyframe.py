"""The method "keyframe": the moves of a demonstration again, in the frames of another scene's objects.

MimicGen (Mandlekar et al. 2023) carries whole segments over and keeps what succeeds. Here a segment is its keyframes:
they are connected by planned moves, which are proven reachable and free of collisions before anything moves, and of
the equivalent ways to take an object, those of its symmetry and of the gripper's, the one with the least turn of the
wrist is chosen. Whether it worked is judged by the goal alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.data.atomic import one_line, read_json
from robostack.errors import DataError
from robostack.sim.rotation import yaw_rotation
from robostack.task.spec import Subgoal
from simgen.experts.frames import Frame, frame_of, turns_of
from simgen.experts.handles import Handle
from simgen.experts.keyframes import Keyframe
from simgen.experts.method import Context
from simgen.experts.motion import PlanFailure, Pose
from simgen.experts.result import Code, Result

FILE = "keyframes.json"
_SAME, _LOWEST = 1.2e-3, 4e-3  # way that counts as none; height over the lowest that counts as low [m]
_MOST_PLANS, _SEARCHES = 16, 2  # equivalent ways to plan straight; those to search detours for when none of them is
_SHARP = np.cos(np.deg2rad(30.0))  # a path comes to rest at corners sharper than this
_LEVEL = np.cos(0.15)  # an equivalent way approaches from where the demonstrated one does
_RAD, _FRACTION = 0.1, 0.1  # metres of way that count as one radian, and as the range of a joint
_NOT_CARRIED = ("tool_push",)  # a stroke with a tool has a third frame: where the tool lay

Keyframes = tuple[Keyframe, ...]


@dataclass(frozen=True)
class _Way:
    """Half a subgoal, and what takes it into this scene.

    Attributes:
        enter, arrive: keyframes where the straight approach begins and ends.
        turn: rotation about the object of the frame, one of its symmetry.
        flip: rotation of the tool about its approach, one of the gripper's symmetry.
        spin: turn about the vertical through the held object, one of its symmetry [rad].
    """

    keys: Keyframes
    enter: int
    arrive: int
    turn: Float[np.ndarray, "3 3"]
    flip: Float[np.ndarray, "3 3"]
    spin: float = 0.0


class KeyframeMethod:
    """Makes the moves again that ``keyframes.json`` in the task's folder holds."""

    name = "keyframe"

    def __init__(self):
        self._known: tuple[Path, dict[int, list[Keyframes]]] | None = None

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """See ``Method.attempt``; PRECOND_FALSE where no demonstration shows this subgoal."""
        shown = self._shown(ctx) if subgoal.skill not in _NOT_CARRIED else []
        if not shown:
            return Result(Code.PRECOND_FALSE, f"no keyframes of subgoal {ctx.index}")
        return _Replay(ctx, subgoal, shown).run()

    def _shown(self, ctx: Context) -> list[Keyframes]:
        if ctx.folder is None:
            return []
        if self._known is None or self._known[0] != ctx.folder:
            self._known = ctx.folder, load_keyframes(ctx.folder / FILE)
        shown = self._known[1].get(ctx.index, [])
        # A grasp that missed has shifted the object: what follows is not where its frame says.
        return [keys for keys in shown if not _missed(keys)] or shown


def load_keyframes(path: Path) -> dict[int, list[Keyframes]]:
    """Index of a subgoal -> its keyframes in each demonstration; empty when there is no such file.

    Demonstrations whose path is not recorded, but its events only, are left out.

    Raises:
        DataError: the file is damaged.
    """
    found: dict[int, list[Keyframes]] = {}
    if not path.is_file():
        return found
    fix = "delete it, the expert records it anew"
    try:
        for values in read_json(path, fix).values():
            keys = [Keyframe.from_dict(value) for value in values]
            for index in sorted({key.subgoal for key in keys}):
                own = tuple(key for key in keys if key.subgoal == index)
                if any(key.event == "via" for key in own):
                    found.setdefault(index, []).append(own)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({one_line(error)}): {fix}") from error
    return found


class _Replay:
    """One attempt at one subgoal."""

    def __init__(self, ctx: Context, subgoal: Subgoal, shown: Sequence[Keyframes]):
        self._arm, self._env, self._shown = ctx.skills, ctx.env, shown
        world = ctx.env.scene.world
        self._names = [str(arg) for arg in subgoal.args if str(arg) in world.entities]
        self._frames = {key.frame: frame_of(ctx.env, key.frame) for keys in shown for key in keys}
        entity, _, joint = shown[0][0].frame.partition(".")
        self._handle = Handle(self._arm, entity, joint) if joint else None
        self._start = self._handle.fraction() if self._handle else 0.0
        self._grip = np.zeros(3)  # of the held object's origin in the tool
        self._touching = frozenset([self._handle.part] if self._handle else self._names[:1])

    def run(self) -> Result:
        """Both halves: what is taken, and where it is brought to."""
        half_turn = np.diag([-1.0, -1.0, 1.0])
        flips = (np.eye(3), half_turn) if abs(self._arm.planner.pads_at(0.5)[1]) < 1e-3 else (np.eye(3),)
        result, way = self._enter([way for keys in self._shown for way in self._ways(_halves(keys)[0], flips)])
        if way is None:
            return result
        result = self._follow(way)
        rest = next(second for first, second in map(_halves, self._shown) if first is way.keys or first == way.keys)
        if not result.ok or not rest:
            return result
        self._touching = frozenset(self._names)
        self._grip = self._arm.held.pos if self._arm.held else np.zeros(3)
        spins = self._spins()
        ways = [replace(found, spin=spin) for found in self._ways(rest, (way.flip,)) for spin in spins]
        result, second = self._enter(ways)
        if second is None:
            self._arm.put_back(self._names[0])
            return Result(Code.POST_FALSE, result.info)
        return self._follow(second)

    def _ways(self, keys: Keyframes, flips: Sequence[np.ndarray]) -> Iterator[_Way]:
        """All equivalent ways that approach from where the demonstrated one does."""
        arrive = _arrival(keys)
        name, rot = keys[arrive].frame, keys[arrive].rot
        frame, binding = self._frames[name], self._env.scene.world.entities.get(name)
        for turn in turns_of(self._env.scene.world, name):
            if (frame.rot @ turn @ rot[:, 2]) @ (frame.rot @ rot[:, 2]) < _LEVEL:
                continue
            closing = "xyz"[int(np.argmax(np.abs(turn @ rot[:, 1])))]
            if self._arm.held is None and binding is not None and binding.grip and closing not in binding.grip.across:
                continue  # the object looks the same from there, the part to take it by does not
            for flip in flips:
                yield _Way(keys, max(0, arrive - 1), arrive, turn, flip)

    def _spins(self) -> list[float]:
        """Turns about the vertical that leave the held object as it is, if it stands; the least first."""
        held = self._arm.held
        if held is None:
            return [0.0]
        symmetry = self._env.scene.world.entities[held.entity].symmetry
        if symmetry == "none":
            return [0.0]
        n = {"box": 2, "cube": 4, "square_prism": 4}.get(symmetry, 12)
        return sorted((self._arm.nearest_turn(2 * np.pi * k / n) for k in range(n)), key=abs)

    # Moving.

    def _enter(self, ways: list[_Way]) -> tuple[Result, _Way | None]:
        """Go over the approach of the first way that can be planned, the least turn of the wrist first, and down it."""
        arm, result = self._arm, Result(Code.UNREACHABLE, "no way was tried")
        ways.sort(key=lambda way: abs(self._pose(way, way.keys[way.arrive]).yaw))
        for way, searches in [*((way, 0) for way in ways[:_MOST_PLANS]), *((way, 1) for way in ways[:_SEARCHES])]:
            before = self._pose(way, way.keys[way.enter])
            if arm.planner.is_downward(before):
                before = before.lifted(max(before.pos[2], arm.transit_height()))
            at, saved = self._pose(way, way.keys[way.arrive], before), arm.opening
            arm.opening = arm.opening if arm.held else way.keys[way.enter].opening
            try:
                arm.detours.budget = searches
                reach = arm.reach(before, touching=self._carried())
                down = arm.plan([before, at], touching=self._touching, slow=0.7, q0=reach.q)
            except PlanFailure as failure:
                arm.opening, result = saved, Result(Code(failure.code), str(failure))
                continue
            finally:
                arm.detours.budget = 0
            arm.follow([*reach.poses, *down.poses])
            arm.settle()
            return Result(Code.OK), way
        return result, None

    def _carried(self) -> tuple[str, ...]:
        return (self._arm.held.entity,) if self._arm.held else ()

    def _follow(self, way: _Way) -> Result:
        """What comes after the approach: the gripper, waits, and moves from one keyframe to the next."""
        arm, keys, k, opened = self._arm, way.keys, way.arrive, False
        while k < len(keys) - 1:
            here, following = keys[k], keys[k + 1]
            seconds = (following.step - here.step) * self._env.dt_s
            if _travel(here, following) < _SAME:
                if following.opening != here.opening:
                    arm.settle()
                    arm.grip(following.opening, seconds)
                else:
                    arm.wait(seconds)
                k += 1
            else:
                end = _smooth_end(keys, k)
                try:
                    self._move(way, k, end)
                except PlanFailure as failure:
                    if opened:  # nothing is left to do but to withdraw
                        return arm.withdraw(touching=self._touching)
                    return Result(Code.POST_FALSE, str(failure))
                arm.opening, k = keys[end].opening, end
            if keys[k].event in ("grasp", "release"):
                opened = keys[k].event == "release"
                if not self._hand(keys[k].event):
                    return Result(Code.GRASP_MISS, f"'{self._names[0]}' is not between the fingers")
        return Result(Code.OK)

    def _hand(self, event: str) -> bool:
        """Note what the gripper did; False where it should hold an object and does not."""
        arm = self._arm
        arm.note(event, self._names[0])
        if self._handle is not None:
            return True
        if event == "release":
            arm.held = None
        elif arm.grasped(self._names[0]):
            arm.attach(self._names[0])
        else:
            arm.release(self._names[0])
            return False
        return True

    def _move(self, way: _Way, first: int, last: int) -> None:
        """One minimum-jerk move through keyframes without sharp corners, as long as it took; raises PlanFailure."""
        keys, arm = way.keys[first : last + 1], self._arm
        marks = np.cumsum([0.0, *(_travel(a, b) for a, b in zip(keys, keys[1:], strict=False))])
        u = np.arange(1, (n := max(2, keys[-1].step - keys[0].step)) + 1) / n
        poses, fractions, last_pose = [], [], arm.pose
        for way_done in marks[-1] * (u**3 * (10 - 15 * u + 6 * u * u)):
            k = min(int(np.searchsorted(marks, way_done, side="right")), len(keys) - 1) - 1
            share = float((way_done - marks[k]) / max(1e-12, marks[k + 1] - marks[k]))
            last_pose, fraction = self._between(way, keys[k], keys[k + 1], min(share, 1.0), last_pose)
            poses.append(last_pose)
            fractions.append(fraction)

        def hits(q: np.ndarray, i: int) -> str | None:
            joints = self._handle.qpos(fractions[i]) if self._handle else {}
            return arm.planner.collision(q, arm.opening, arm.held, self._touching, joints)

        arm.follow(arm.planner.track(poses, self._env.controller.q, hits).poses)

    # Geometry.

    def _between(self, way: _Way, a: Keyframe, b: Keyframe, share: float, like: Pose) -> tuple[Pose, float]:
        """The pose between two keyframes, and the joint's fraction there."""
        fraction = a.fraction + share * (b.fraction - a.fraction)
        if a.frame != b.frame:  # a push, from the frame of the object into that of the place: both stand still
            return self._pose(way, a, like).towards(self._pose(way, b, like), share), fraction
        turn, quat, matrix = np.zeros(3), np.array(a.quat), np.zeros(9)
        mujoco.mju_subQuat(turn, np.array(b.quat), np.array(a.quat))
        mujoco.mju_quatIntegrate(quat, turn, share)
        mujoco.mju_quat2Mat(matrix, quat)
        pos = np.asarray(a.pos) + share * (np.asarray(b.pos) - a.pos)
        fraction = self._fraction(way, fraction)
        return self._place(way, a.frame, pos, matrix.reshape(3, 3), fraction, like), fraction

    def _pose(self, way: _Way, key: Keyframe, like: Pose | None = None) -> Pose:
        return self._place(way, key.frame, np.asarray(key.pos), key.rot, self._fraction(way, key.fraction), like)

    def _place(
        self, way: _Way, name: str, pos: np.ndarray, rot: np.ndarray, fraction: float, like: Pose | None
    ) -> Pose:
        frame = Frame(*self._handle.at(fraction)) if self._handle else self._frames[name]
        turned = frame.rot @ way.turn
        pos, rot = frame.pos + turned @ pos, turned @ rot @ way.flip
        if way.spin:
            reach, spin = rot @ self._grip, yaw_rotation(way.spin)  # about where the object is carried
            pos, rot = pos + reach - spin @ reach, spin @ rot
        return self._arm.planner.pose_of(pos, rot, like=like)

    def _fraction(self, way: _Way, shown: float) -> float:
        """The joint begins where it is here, and goes as far as it was shown to go."""
        if self._handle is None:
            return 0.0
        first = way.keys[0].fraction
        most = max(abs(key.fraction - first) for key in way.keys)
        share = abs(shown - first) / most if most > 0.02 else 0.0
        return shown + (self._start - first) * (1.0 - share)


def _halves(keys: Keyframes) -> tuple[Keyframes, Keyframes]:
    """What belongs to the thing that is taken, and what to the place; a push is one move through both."""
    border = next((k for k, key in enumerate(keys) if key.frame != keys[0].frame), len(keys))
    return (keys, ()) if ">" in keys[0].frame else (keys[:border], keys[border:])


def _arrival(keys: Keyframes) -> int:
    """The keyframe at which the gripper first does something; in a push where the tool has come down."""
    events = [k for k, key in enumerate(keys) if key.event in ("grasp", "release")]
    if not events:
        lowest = min(key.pos[2] for key in keys)
        return next(k for k, key in enumerate(keys) if key.pos[2] < lowest + _LOWEST)
    k = events[0]
    while k > 0 and _travel(keys[k - 1], keys[k]) < _SAME:
        k -= 1
    return k


def _missed(keys: Keyframes) -> bool:
    """Whether the gripper opened again before it took anything."""
    first = next((k for k, key in enumerate(keys) if key.event == "grasp"), 0)
    return any(b.opening > a.opening for a, b in zip(keys[:first], keys[1 : first + 1], strict=True))


def _vector(a: Keyframe, b: Keyframe) -> np.ndarray:
    """The way between two keyframes, in metres: position, turn, joint."""
    turn = np.zeros(3)
    mujoco.mju_subQuat(turn, np.array(b.quat), np.array(a.quat))
    return np.array([*(np.asarray(b.pos) - a.pos), *(_RAD * turn), _FRACTION * (b.fraction - a.fraction)])


def _travel(a: Keyframe, b: Keyframe) -> float:
    return float(np.linalg.norm(_vector(a, b)))


def _smooth_end(keys: Keyframes, start: int) -> int:
    """The last keyframe of the move from ``start`` that the tool passes without having to stop."""
    end = start + 1
    while end < len(keys) - 1 and keys[end].event == "via" and keys[end].opening == keys[end + 1].opening:
        a, b = _vector(keys[end - 1], keys[end]), _vector(keys[end], keys[end + 1])
        if keys[end].frame != keys[end + 1].frame or np.linalg.norm(b) < _SAME:
            break
        if float(a @ b) < _SHARP * float(np.linalg.norm(a) * np.linalg.norm(b)):
            break
        end += 1
    return end
