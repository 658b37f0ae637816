"""Analytic scenes: free bodies over a table plane, finger pads on mocap bodies, bindings built by hand."""

import math

import mujoco
import numpy as np
import pytest

from robostack.task.spec import Entity, Hold, Instruction, Placement, RobotRef, TaskSpec
from robostack.task.world import EntityBinding, Interior, JointBinding, RobotBinding, Snapshot, Surface, World

H = 0.02  # half edge of a block
BOWL_R, BOWL_H, WALL, BASE = 0.07, 0.05, 0.004, 0.006  # inner radius, height, wall and base thickness


def _bowl(name):
    n = 16
    half_side = BOWL_R * math.tan(math.pi / n) + WALL
    walls = "".join(
        f'<geom name="{name}_{k}" type="box" size="{WALL / 2} {half_side} {BOWL_H / 2}" '
        f'pos="{(BOWL_R + WALL / 2) * math.cos(a)} {(BOWL_R + WALL / 2) * math.sin(a)} {BOWL_H / 2}" euler="0 0 {a}"/>'
        for k, a in enumerate(2 * math.pi * i / n for i in range(n))
    )
    return f'<geom name="{name}_base" type="cylinder" size="{BOWL_R} {BASE / 2}" pos="0 0 {BASE / 2}"/>{walls}'


def _tray(name):
    x, y, z, w = 0.08, 0.06, 0.02, 0.002
    return f"""<geom name="{name}_base" type="box" size="{x} {y} {w}" pos="0 0 {w}"/>
      <geom type="box" size="{w} {y} {z}" pos="{x} 0 {z}"/><geom type="box" size="{w} {y} {z}" pos="-{x} 0 {z}"/>
      <geom type="box" size="{x} {w} {z}" pos="0 {y} {z}"/><geom type="box" size="{x} {w} {z}" pos="0 -{y} {z}"/>"""


CARDS = {
    "block": (
        lambda n: f'<geom name="{n}" type="box" size="{H} {H} {H}"/>',
        {"half": (H, H, H), "symmetry": "cube", "surface": Surface((0.0, 0.0, H), (H, H))},
    ),
    "beam": (
        lambda n: f'<geom name="{n}" type="box" size="0.05 0.02 0.01"/>',
        {"half": (0.05, 0.02, 0.01), "symmetry": "box", "surface": Surface((0.0, 0.0, 0.01), (0.05, 0.02))},
    ),
    "cylinder": (
        lambda n: f'<geom name="{n}" type="cylinder" size="0.02 0.025"/>',
        {
            "half": (0.02, 0.02, 0.025),
            "symmetry": "axial",
            "surface": Surface((0.0, 0.0, 0.025), (0.02, 0.02), round=True),
        },
    ),
    "tower": (
        lambda n: f'<geom name="{n}" type="cylinder" size="0.02 0.15"/>',
        {
            "half": (0.02, 0.02, 0.15),
            "symmetry": "axial",
            "surface": Surface((0.0, 0.0, 0.15), (0.02, 0.02), round=True),
        },
    ),
    "ball": (
        lambda n: f'<geom name="{n}" type="sphere" size="0.02"/>',
        {"half": (0.02, 0.02, 0.02), "symmetry": "sphere"},
    ),
    "bowl": (
        _bowl,
        {
            "half": (0.075, 0.075, BOWL_H),
            "symmetry": "axial",
            "interior": Interior((0.0, 0.0, (BASE + BOWL_H) / 2), (BOWL_R, BOWL_R, (BOWL_H - BASE) / 2), round=True),
        },
    ),
    "tray": (
        _tray,
        {
            "half": (0.082, 0.062, 0.04),
            "symmetry": "none",
            "interior": Interior((0.0, 0.0, 0.022), (0.078, 0.058, 0.018)),
        },
    ),
    "plate": (
        lambda n: f'<geom name="{n}" type="cylinder" size="0.08 0.005"/>',
        {
            "half": (0.08, 0.08, 0.005),
            "symmetry": "axial",
            "surface": Surface((0.0, 0.0, 0.005), (0.08, 0.08), round=True),
        },
    ),
    "zone": (
        lambda n: "",
        {"half": (0.07, 0.07, 0.0), "symmetry": "none", "surface": Surface((0.0, 0.0, 0.0), (0.07, 0.07))},
    ),
}


# name of the joint, kind, range [m or rad], position of the moving box, what the part carries
ARTICULATED = {
    "drawer": ("slide", "slide", (0.0, 0.2), (0.0, 0.0, 0.05), "interior"),
    "cabinet": ("hinge", "hinge", (0.0, 1.5), (0.1, 0.0, 0.1), ""),
    "button": ("press", "slide", (0.0, 0.012), (0.0, 0.0, 0.03), "surface"),
}
AXES = {"drawer": "-1 0 0", "cabinet": "0 0 1", "button": "0 0 -1"}
CARDS |= {
    "drawer": (
        lambda n: '<geom type="box" size="0.12 0.1 0.01" pos="0 0 0.15"/>',
        {
            "half": (0.12, 0.1, 0.16),
            "symmetry": "none",
            "surface": Surface((0.0, 0.0, 0.16), (0.12, 0.1)),
            "interior": Interior((0.0, 0.0, 0.03), (0.09, 0.07, 0.03)),
        },
    ),
    "cabinet": (
        lambda n: '<geom type="box" size="0.1 0.1 0.1" pos="0 0 0.1"/>',
        {"half": (0.1, 0.1, 0.2), "symmetry": "none", "surface": Surface((0.0, 0.0, 0.2), (0.1, 0.1))},
    ),
    "button": (
        lambda n: '<geom type="cylinder" size="0.04 0.01" pos="0 0 0.01"/>',
        {
            "half": (0.04, 0.04, 0.04),
            "symmetry": "axial",
            "surface": Surface((0.0, 0.0, 0.01), (0.03, 0.03), round=True),
        },
    ),
}
FIXED = ("zone", *ARTICULATED)


def _moving(name, card):
    if card not in ARTICULATED:
        return ""
    joint, kind, (low, high), (x, y, z), _ = ARTICULATED[card]
    return (
        f'<body name="{name}_part" pos="{x} {y} {z}"><joint name="{name}_{joint}" type="{kind}" axis="{AXES[card]}" '
        f'range="{low} {high}"/><geom name="{name}_part" type="box" size="0.1 0.08 0.01"/>'
        f'<site name="{name}_handle"/></body>'
    )


class Scene:
    """A World with setters; positions are of body origins [m, world]."""

    def __init__(self, cards, table="plane", colors=None, roles=None):
        bodies = "".join(
            f'<body name="{n}" pos="{0.3 * i + 1} 0 0">'
            + ("" if c in FIXED else "<freejoint/>")
            + f"{CARDS[c][0](n)}{_moving(n, c)}</body>"
            for i, (n, c) in enumerate(cards.items())
        )
        pads = "".join(
            f'<body name="pad_{s}" mocap="true" pos="0 {y} 1">'
            f'<geom name="pad_{s}" type="box" size="0.01 0.005 0.01"/></body>'
            for s, y in (("l", 0.5), ("r", -0.5))
        )
        plane = '<geom name="table" type="plane" size="0 0 1"/>'
        box = '<geom name="table" type="box" size="0.4 0.5 0.1" pos="0 0 -0.1"/>'
        self.model = mujoco.MjModel.from_xml_string(
            f"""<mujoco><compiler angle="radian"/><option cone="elliptic"/><worldbody>
            {plane if table == "plane" else box}{bodies}{pads}<site name="tcp" pos="0 0 0.3"/></worldbody></mujoco>"""
        )
        self.data = mujoco.MjData(self.model)
        entities = {}
        for name, card in cards.items():
            body = self.model.body(name)
            geoms = tuple(g for g in range(self.model.ngeom) if self.model.geom_bodyid[g] in (body.id, body.id + 1))
            geoms = tuple(g for g in geoms if self.model.body_rootid[self.model.geom_bodyid[g]] == body.id)
            values = {"geoms": geoms, "dof": -1 if card in FIXED else int(body.dofadr[0]), **CARDS[card][1]}
            values |= {"color": (colors or {}).get(name, "red"), "role": (roles or {}).get(name, "manipuland")}
            entities[name] = EntityBinding(
                id=name, card=card, body=int(body.id), **values, **self._joints(name, card, int(body.id) + 1)
            )
        left, right = (self.model.geom(f"pad_{s}").id for s in "lr")
        robot = RobotBinding(frozenset({left, right}), ((left,), (right,)), self.model.site("tcp").id)
        table_geom = frozenset({self.model.geom("table").id})
        self.world = World(self.model, self.data, entities, robot, table_geom)
        self.forward()

    def _joints(self, name, card, part):
        if card not in ARTICULATED:
            return {}
        joint, kind, (low, high), _, carries = ARTICULATED[card]
        found = self.model.joint(f"{name}_{joint}")
        handle = self.model.site(f"{name}_handle").id
        binding = JointBinding(joint, kind, int(found.qposadr[0]), int(found.dofadr[0]), low, high, part, handle)
        return {"joints": {joint: binding}} | ({f"{carries}_body": part} if carries else {})

    def turn(self, name, fraction, speed=0.0):
        """Set the joint of an articulated entity, and its speed in fractions of its range per second."""
        (joint,) = self.world.entities[name].joints.values()
        self.data.qpos[joint.qpos] = joint.closed + fraction * (joint.open - joint.closed)
        self.data.qvel[joint.dof] = speed * (joint.open - joint.closed)
        return self.forward()

    def forward(self):
        mujoco.mj_forward(self.model, self.data)
        return self

    def put(self, name, pos, tilt=0.0, axis=(1.0, 0.0, 0.0)):
        """Place an entity, rotated by ``tilt`` about ``axis``."""
        quat = np.zeros(4)
        mujoco.mju_axisAngle2Quat(quat, np.array(axis, dtype=float), tilt)
        body = self.model.body(name)
        if body.jntnum[0]:
            adr = self.model.jnt_qposadr[body.jntadr[0]]
            self.data.qpos[adr : adr + 7] = [*pos, *quat]
        else:
            self.model.body_pos[body.id], self.model.body_quat[body.id] = pos, quat
        return self.forward()

    def push(self, name, linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0)):
        dof = self.world.entities[name].dof
        self.data.qvel[dof : dof + 6] = [*linear, *angular]
        return self.forward()

    def grip(self, name, squeeze=0.0005):
        """Put the pads on both sides (y) of a block-sized entity, pressing in by ``squeeze``."""
        pos = self.world.pos(name)
        self.data.mocap_pos[0] = pos + [0, H + 0.005 - squeeze, 0]
        self.data.mocap_pos[1] = pos - [0, H + 0.005 - squeeze, 0]
        return self.forward()

    def reach(self, pos):
        """Move the tool-centre site."""
        self.model.site_pos[self.world.robot.ee_site] = pos
        return self.forward()

    def let_go(self):
        self.data.mocap_pos[:] = [[0, 0.5, 1], [0, -0.5, 1]]
        return self.forward()

    def snapshot(self):
        from robostack.task.geometry import bottom

        names = self.world.entities
        self.world.initial = Snapshot(
            {n: self.world.pos(n).copy() for n in names},
            {n: self.world.rot(n).copy() for n in names},
            {n: bottom(self.world, n) for n in names},
            {(n, j): self.world.fraction(n, j) for n in names for j in names[n].joints},
            self.data.qpos.copy(),
        )
        return self


@pytest.fixture(scope="session")
def scene():
    """``scene(red="block", bowl="bowl")`` builds a fresh Scene."""
    return lambda table="plane", colors=None, roles=None, **cards: Scene(cards, table, colors, roles)


@pytest.fixture(scope="session")
def make_spec():
    """``make_spec(goal, {"red": "block"}, never=..., hold=...)`` builds a TaskSpec over those entities."""

    def build(goal, cards, never=(), hold=None, roles=None, init=(), subgoals=(), colors=None):
        fixed = Placement(box=(0.0, 0.0, 0.0, 0.0))
        entities = tuple(
            Entity(
                id=n,
                card=c,
                color=(colors or {}).get(n, "red"),
                role=(roles or {}).get(n, "manipuland"),
                placement=fixed,
            )
            for n, c in cards.items()
        )
        return TaskSpec(
            name="test",
            family="test",
            instruction=Instruction(text="test"),
            robot=RobotRef(name="panda"),
            entities=entities,
            goal=goal,
            never=never,
            hold=hold or Hold(),
            init=init,
            subgoals=subgoals,
        )

    return build
