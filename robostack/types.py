"""The data that flows through the stack: frozen, shaped, in SI units.

Axes: B batch, To observation steps, Tp prediction horizon, Ta executed steps, Ds/De/Da widths, T episode steps.
Dicts exist only on disk and on the wire; each type has one place where it is converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Features:
    """What an environment, a dataset and a policy must agree on.

    Attributes:
        state: name of each element of the proprioceptive state, e.g. ``ee.x`` [m].
        environment_state: name of each element of the object state, e.g. ``red_cube.x`` [m]; may be empty.
        action: name of each element of an action.
        cameras: (name, height, width) of each camera; may be empty.
        control_mode: ``ee_pose`` or ``joint_pos``.
        rate_hz: control rate.
        robot: name of the robot card.
        points: size of a point cloud; 0 for none.
    """

    state: tuple[str, ...]
    environment_state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: tuple[tuple[str, int, int], ...]
    control_mode: str
    rate_hz: float
    robot: str
    points: int = 0

    def differences(self, other: Features) -> list[str]:
        """Human-readable list of the fields in which two feature sets differ; empty when they agree."""
        return [
            f"{name}: {getattr(self, name)} != {getattr(other, name)}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        ]

    def unmet(self, offered: Features) -> list[str]:
        """Why what is seen and taken elsewhere is not what these features need; empty when it is.

        Pictures, points and object states that nobody looks at may be there or not.
        """
        seen = replace(
            offered,
            cameras=self.cameras if set(self.cameras) <= set(offered.cameras) else offered.cameras,
            environment_state=offered.environment_state if self.environment_state else (),
            points=offered.points if self.points else 0,
        )
        return self.differences(seen)

    def to_dict(self) -> dict:
        """Plain JSON values; ``points`` only where there are some."""
        values = {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}
        return values if self.points else {name: value for name, value in values.items() if name != "points"}

    @classmethod
    def from_dict(cls, values: Mapping) -> Features:
        """Inverse of ``to_dict``."""
        return cls(
            state=tuple(values["state"]),
            environment_state=tuple(values["environment_state"]),
            action=tuple(values["action"]),
            cameras=tuple((str(c[0]), int(c[1]), int(c[2])) for c in values["cameras"]),
            control_mode=str(values["control_mode"]),
            rate_hz=float(values["rate_hz"]),
            robot=str(values["robot"]),
            points=int(values.get("points", 0)),
        )


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Observation:
    """What is known at one instant; with leading axes (To,) or (B, To) after ``stack``.

    Attributes:
        t_s: time of the (last) sample on the backend's clock [s].
        state: proprioception; in ``ee_pose`` mode xyz [m, world], rot6d, gripper opening [0 closed, 1 open].
        environment_state: per entity xyz [m, world] and rot6d, modulo the entity's symmetry.
        images: RGB by camera name.
        language: the instruction.
        points: x, y, z [m, world] and red, green, blue in [0, 1] of P points; None where nobody looks at them.
    """

    t_s: float
    state: Float[np.ndarray, "*lead Ds"]
    environment_state: Float[np.ndarray, "*lead De"]
    images: Mapping[str, UInt8[np.ndarray, "*lead H W 3"]] = field(default_factory=dict)
    language: str = ""
    points: Float[np.ndarray, "*lead P 6"] | None = None

    @staticmethod
    def stack(window: Sequence[Observation]) -> Observation:
        """Stack along a new leading axis; time and language are those of the last element."""
        last = window[-1]
        return Observation(
            t_s=last.t_s,
            state=np.stack([o.state for o in window]),
            environment_state=np.stack([o.environment_state for o in window]),
            images={name: np.stack([o.images[name] for o in window]) for name in last.images},
            language=last.language,
            points=None if last.points is None else np.stack([o.points for o in window if o.points is not None]),
        )


@dataclass(frozen=True)
class ActionChunk:
    """Actions with the time at which the first is due: step k is due at ``t0_s + k * dt_s``."""

    t0_s: float
    dt_s: float
    actions: Float[np.ndarray, "*B Ta Da"]


@dataclass(frozen=True)
class Episode:
    """One recorded episode, complete enough to be replayed bit-exactly.

    Row k of the arrays is what was seen and commanded at time ``k / rate_hz`` after reset.

    Attributes:
        task_id: content hash of the TaskSpec.
        seed: the seed of ``compile(spec, seed)``.
        language: the instruction.
        state0: MuJoCo's integration state right after reset (mjSTATE_INTEGRATION).
        ctrl: joint targets at the end of each control step [actuator units].
        qpos: generalised positions before each control step; what frames are rendered from.
        state, environment_state, action: what a policy trains on.
        success: goal held at the end of the episode.
        first_success_s: when the goal was first held [s]; NaN if never.
        final_sha: SHA-256 of the integration state after the last control step.
        versions: name -> version of everything that determines the physics.
        methods: per subgoal, who brought it about; empty when nobody noted it.
    """

    task_id: str
    seed: int
    language: str
    state0: Float[np.ndarray, " S"]
    ctrl: Float[np.ndarray, "T Nu"]
    qpos: Float[np.ndarray, "T Nq"]
    state: Float[np.ndarray, "T Ds"]
    environment_state: Float[np.ndarray, "T De"]
    action: Float[np.ndarray, "T Da"]
    success: bool
    first_success_s: float
    final_sha: str
    versions: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.action)
