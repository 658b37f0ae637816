import os

import mujoco
import numpy as np
import pytest
import yaml

from robostack.errors import SceneError, SpecError, UnknownName
from robostack.paths import find_cards
from robostack.sim.cards import load_asset, load_robot, robots
from robostack.sim.descriptions import _lighten
from robostack.sim.env import TaskEnv
from robostack.sim.ik import IKSolver
from robostack.sim.robot import build_robot
from robostack.sim.rotation import rot6d
from robostack.sim.scene import eval_seed
from simgen.experts.expert import Expert
from simgen.propose import propose

XARM7 = """
name: xarm7
description: UFactory xArm 7 with a parallel gripper
licence: BSD-3-Clause
source: {root: example-robot-data, file: xarm_description/urdf/xarm7.urdf}
arm:
  joints: [joint1, joint2, joint3, joint4, joint5, joint6, joint7]
  home: [0.0, -0.4, 0.0, 0.9, 0.0, 1.3, 0.0]
  kp: [4000, 4000, 3000, 3000, 2000, 2000, 2000]
  kd: [220, 220, 170, 170, 70, 70, 70]
  force: [100, 100, 60, 60, 60, 40, 40]
  velocity: [2.6, 2.6, 2.6, 2.6, 2.6, 2.6, 2.6]
gripper:
  joints: [left_finger_slide, right_finger_slide]
  open: 0.0425
  closed: 0.0
  kp: 2000
  kd: 60
  force: 40
  max_opening: 0.085
  attach: {body: link_eef}
tcp: {body: gripper_palm, pos: [0.0, 0.0, 0.093]}
workspace: [0.3, -0.2, 0.5, 0.2]
lift: 0.2
"""

# Shoulder, elbow, wrist and roll joints of 0.24 m links; the mesh lies in the description's own mesh directory.
INLINE_ARM = """
<mujoco model="inline">
  <compiler angle="radian" meshdir="meshes"/>
  <asset><mesh name="cap" file="cap.obj"/></asset>
  <worldbody>
    <body name="turret" pos="0 0 0.12"><joint name="pan" axis="0 0 1" range="-2 2"/>
      <geom type="mesh" mesh="cap" mass="1"/>
      <body name="upper" pos="0 0 0.06"><joint name="lift" axis="0 1 0" range="-2 2"/>
        <geom type="capsule" fromto="0 0 0 0.24 0 0" size="0.02" mass="1"/>
        <body name="fore" pos="0.24 0 0"><joint name="elbow" axis="0 1 0" range="-2.8 2.8"/>
          <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.7"/>
          <body name="hand" pos="0.24 0 0"><joint name="wrist" axis="0 1 0" range="-3 3"/>
            <geom type="sphere" size="0.02" mass="0.3"/>
            <body name="flange" euler="0 1.5708 0" pos="0.03 0 0"><joint name="roll" axis="0 0 1" range="-4 4"/>
              <geom type="sphere" size="0.015" mass="0.1"/></body>
          </body></body></body></body>
  </worldbody>
  <actuator><motor joint="pan"/></actuator>
  <keyframe><key name="k" qpos="0 0 0 0 0"/></keyframe>
</mujoco>
"""
CAP = "v 0 0 0\nv .04 0 0\nv 0 .04 0\nv 0 0 .04\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


@pytest.fixture
def user_data(tmp_path, monkeypatch):
    """A user's own data directory, searched first; cards are cached per name, so the cache starts and ends empty."""
    (tmp_path / "robots").mkdir()
    (tmp_path / "assets").mkdir()
    monkeypatch.setenv("ROBOSTACK_DATA", str(tmp_path))
    load_robot.cache_clear()
    load_asset.cache_clear()
    yield tmp_path
    load_robot.cache_clear()
    load_asset.cache_clear()


def write_robot(user_data, **changes):
    values = yaml.safe_load(XARM7) | changes
    (user_data / f"robots/{values['name']}.yaml").write_text(yaml.safe_dump(values))
    load_robot.cache_clear()
    return values["name"]


def rest_pose(name, pos):
    """Joint positions at which the tool points straight down at ``pos``."""
    ik = IKSolver(load_robot(name))
    result = ik.solve(np.array(pos), np.diag([1.0, -1.0, -1.0]), ik.home, iterations=300)
    assert result.position_error < 1e-3
    assert result.rotation_error < 1e-2
    return [float(q) for q in np.round(result.q, 4)]


def test_a_fourth_arm_is_one_yaml_file(user_data):
    assert "xarm7" not in robots()
    write_robot(user_data)
    arm = yaml.safe_load(XARM7)["arm"]
    write_robot(user_data, arm=arm | {"home": rest_pose("xarm7", (0.4, 0.0, 0.25))})
    assert "xarm7" in robots()
    expert = Expert(TaskEnv(propose("put the red cube in the bowl", "xarm7")))
    codes = [expert.solve(eval_seed(seed))[1] for seed in range(4)]
    assert codes.count("") >= 3, codes


def test_an_mjcf_arm_next_to_its_card_moves_and_keeps_its_mesh(user_data):
    (user_data / "robots/meshes").mkdir()
    (user_data / "robots/meshes/cap.obj").write_text(CAP)
    (user_data / "robots/inline.xml").write_text(INLINE_ARM)
    arm = {
        "joints": ["pan", "lift", "elbow", "wrist", "roll"],
        "home": [0.0, -0.9, 1.7, 0.77, 3.14],
        **{key: [value] * 5 for key, value in {"kp": 800.0, "kd": 40.0, "force": 60.0, "velocity": 2.0}.items()},
    }
    card = {
        "name": "inline",
        "source": {"root": "card", "file": "inline.xml"},
        "gripper": yaml.safe_load(XARM7)["gripper"] | {"attach": {"body": "flange"}},
        "workspace": [0.2, -0.1, 0.34, 0.1],
        "rotation_weight": 0.05,
    }
    write_robot(user_data, **card, arm=arm)
    write_robot(user_data, **card, arm=arm | {"home": rest_pose("inline", (0.25, 0.0, 0.2))})
    env = TaskEnv(propose("stack the red block on the blue block", "inline"))
    env.reset(seed=0)
    assert env.scene.model.nu == 6  # five servos and the gripper; the description's own motor is gone
    assert env.scene.model.nkey == 0
    assert env.scene.model.nmesh >= 1
    pos, rot = env.scene.tcp()
    goal = pos + [0.02, 0.02, 0.0]
    for _ in range(30):
        env.step(np.concatenate([goal, rot6d(rot), [1.0]]))
    assert np.linalg.norm(env.scene.tcp()[0] - goal) < 3e-3


def test_an_unknown_robot_or_object_lists_what_exists():
    with pytest.raises(
        UnknownName, match=r"unknown robot 'pnada': did you mean 'panda'\? Available: panda, so101, ur5e.*one YAML"
    ):
        load_robot("pnada")
    with pytest.raises(UnknownName, match=r"unknown object 'bowll': did you mean 'bowl'\?.*data/assets/"):
        load_asset("bowll")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed", r"broken.yaml is not YAML:"),
        ("", r"broken.yaml is not a valid robot card: it holds no fields"),
        ("just words", r"broken.yaml is not a valid robot card: it holds no fields, only 'just words'"),
        ("name: broken\n", r"broken.yaml is not a valid robot card: description: Field required"),
        (XARM7.replace("lift: 0.2", "lift: high"), r"robot card: lift: Input should be a valid number"),
        (XARM7.replace("lift: 0.2", "lift: .nan"), r"robot card: lift: Input should be a finite number"),
        (XARM7.replace("lift:", "lfit: 1\nlift:"), r"robot card: lfit: Extra inputs are not permitted"),
        (XARM7.replace("home: [0.0, ", "home: ["), r"robot card: arm: Value error, arm.home has 6 values for 7 joints"),
        (
            XARM7.replace("stroke", "").replace("{body: link_eef}", "{body: link_eef, stroke: x}"),
            r"gripper/attach/stroke",
        ),
    ],
)
def test_a_broken_card_is_named_with_its_wrong_field(user_data, text, message):
    (user_data / "robots/broken.yaml").write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        load_robot("broken")
    assert "\n" not in str(caught.value)


def test_a_card_that_is_not_text_is_refused(user_data):
    (user_data / "robots/broken.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SpecError, match="broken.yaml is not YAML"):
        load_robot("broken")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tcp": {"body": "hand"}}, "no body 'hand' in xarm_description.*it has.*link_eef"),
        ({"source": {"root": "example-robot-data", "file": "none.urdf"}}, "no description at .*none.urdf"),
    ],
)
def test_a_card_that_does_not_fit_its_description_says_what_the_description_has(user_data, changes, message):
    name = write_robot(user_data, **changes)
    with pytest.raises(SpecError, match=message):
        build_robot(load_robot(name))


def test_a_joint_that_the_description_lacks_is_named(user_data):
    arm = yaml.safe_load(XARM7)["arm"]
    name = write_robot(user_data, arm=arm | {"joints": ["elbow", *arm["joints"][1:]]})
    with pytest.raises(SpecError, match="no joint 'elbow' in xarm_description.*it has.*joint1"):
        build_robot(load_robot(name))


def test_a_menagerie_robot_without_a_copy_names_the_variable(user_data, monkeypatch):
    monkeypatch.setenv("ROBOSTACK_MENAGERIE", str(user_data / "nowhere"))
    name = write_robot(user_data, source={"root": "menagerie", "file": "ufactory_xarm7/xarm7.xml"})
    with pytest.raises(SpecError, match="no description at .*nowhere.*set ROBOSTACK_MENAGERIE to your copy") as caught:
        build_robot(load_robot(name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["bad.xml", "bad.urdf"])
def test_a_damaged_description_is_named(user_data, file):
    (user_data / "robots" / file).write_text("<mujoco><worldbody><body></mujoco>")
    name = write_robot(user_data, source={"root": "card", "file": file})
    with pytest.raises(SpecError, match=f"{file} is not a valid description") as caught:
        build_robot(load_robot(name))
    assert "\n" not in str(caught.value)


def test_a_user_card_overrides_a_shipped_one(user_data):
    values = yaml.safe_load(find_cards("assets")["block"].read_text()) | {"mass": 0.123}
    (user_data / "assets/block.yaml").write_text(yaml.safe_dump(values))
    assert load_asset("block").mass == 0.123


def test_a_workspace_out_of_reach_is_reported(user_data):
    name = write_robot(user_data, workspace=[1.3, -0.2, 1.5, 0.2])
    env = TaskEnv(propose("put the red cube in the bowl", name))
    with pytest.raises(SceneError, match="UNREACHABLE: xarm7 cannot reach '.*' from above"):
        env.reset(seed=0)


def test_asset_cards_and_the_sizes_that_authors_are_told_agree():
    from robostack.task.profile import CARD_SIZES

    assert {name: load_asset(name).size for name in CARD_SIZES} == CARD_SIZES


def test_a_dense_mesh_is_merged_once_and_again_when_its_file_changes(tmp_path):
    x, y = np.meshgrid(np.arange(50), np.arange(50))
    corner = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 1, 3)
    triangles = np.concatenate([corner + [[0, 0, 0], [1, 0, 0], [0, 1, 0]], corner + [[1, 1, 0], [0, 1, 0], [1, 0, 0]]])

    def merged(scale: float) -> np.ndarray:
        record = np.zeros(len(triangles), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
        record["corners"] = scale * triangles
        path = tmp_path / "part.stl"
        path.write_bytes(bytes(80) + len(triangles).to_bytes(4, "little") + record.tobytes())
        os.utime(path, ns=(0, int(1e9 * scale)))
        meshes = [mujoco.MjSpec().add_mesh(name="part") for _ in range(2)]
        for mesh in meshes:
            _lighten(mesh, path)
        assert np.array_equal(meshes[0].uservert, meshes[1].uservert)
        assert np.array_equal(meshes[0].userface, meshes[1].userface)
        assert len(meshes[0].uservert) == 3 * 51 * 51
        return np.asarray(meshes[0].uservert)

    assert merged(2.0).max() == pytest.approx(100.0)
    assert merged(4.0).max() == pytest.approx(200.0)
