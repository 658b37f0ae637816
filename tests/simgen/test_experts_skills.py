"""Skills for furniture and tools: solved through the actuators, and the record says by whom."""

import functools
import subprocess
import sys

import numpy as np
import pytest

from robostack.errors import UnknownName
from robostack.sim.cards import load_robot
from robostack.sim.env import TaskEnv
from robostack.sim.replay import replays_exactly
from robostack.sim.rotation import rot6d
from robostack.sim.scene import Scene, eval_seed
from robostack.task.predicate import Seq, atom
from robostack.task.spec import Subgoal
from simgen.experts import method as methods
from simgen.experts.drills import drill, drills
from simgen.experts.expert import Expert
from simgen.experts.keyframes import Keyframe
from simgen.experts.motion import Pose
from simgen.experts.result import Code, Result
from simgen.experts.skills import Skills

UNSEEN = 900_000
DEEPEST = 2e-3  # penetration that contact of servos may cause [m]
BY_MOTION = ("beside_shelf", "around_wall")
PLAIN = [name for name in drills() if name not in BY_MOTION]
SMALL = [n for n in PLAIN if "cabinet" not in n and n != "tool_push"]  # what the SO-101 is large enough for


@functools.cache
def solve(name, robot, index=0, methods=("skill", "motion")):
    expert = Expert(TaskEnv(drill(name, robot)), methods=methods)
    return (expert, *expert.solve(eval_seed(UNSEEN + index)))


@pytest.mark.parametrize(
    ("robot", "name"), [*(("panda", n) for n in PLAIN), *(("ur5e", n) for n in PLAIN), *(("so101", n) for n in SMALL)]
)
def test_a_skill_does_what_its_name_says(robot, name):
    expert, episode, code = solve(name, robot)
    assert code == "", expert.log
    assert episode.success
    assert set(expert.methods) == {"skill"}


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["panda", "ur5e"])
@pytest.mark.parametrize("name", drills())
def test_a_skill_works_in_nearly_all_unseen_scenes(robot, name):
    expert = Expert(TaskEnv(drill(name, robot)))
    codes = [expert.solve(eval_seed(UNSEEN + index))[1] for index in range(32)]
    assert codes.count("") >= 29, codes


@pytest.mark.parametrize("name", ["open_drawer", "close_cabinet", "turn_dial", "push_lever", "insert"])
def test_nothing_is_pushed_through_anything(name):
    expert, episode, _ = solve(name, "panda", 1)
    scene = Scene(expert.env.task)
    scene.reset(episode.seed)
    scene.set_state(episode.state0)
    deepest = 0.0
    for ctrl in episode.ctrl:
        scene.step(ctrl)
        deepest = min(deepest, float(scene.data.contact.dist.min(initial=0.0)))
    assert -deepest < DEEPEST
    assert replays_exactly(Scene(expert.env.task), episode)


@pytest.mark.parametrize("name", ["open_drawer", "open_cabinet", "turn_dial"])
def test_both_fingers_are_on_the_handle_while_the_joint_moves(name):
    expert, episode, _ = solve(name, "panda", 2)
    scene = Scene(expert.env.task)
    scene.reset(episode.seed)
    (binding,) = scene.world.entities.values()
    (joint,) = binding.joints.values()
    moving, held = 0, 0
    for ctrl in episode.ctrl:
        before = scene.world.fraction(binding.id, joint.name)
        scene.step(ctrl)
        if abs(scene.world.fraction(binding.id, joint.name) - before) < 0.01:
            continue
        part = {g for g in binding.geoms if scene.model.geom_bodyid[g] == joint.body}
        pairs = [set(pair) for pair in scene.data.contact.geom.tolist()]
        moving += 1
        held += all(any(pair & part and pair & set(pads) for pair in pairs) for pads in scene.world.robot.pads)
    assert moving >= 5
    assert held >= 0.9 * moving


# Who did it.


@pytest.mark.parametrize(("robot", "name"), [("panda", "beside_shelf"), ("ur5e", "around_wall")])
def test_what_straight_paths_cannot_do_is_done_by_motion(robot, name):
    expert, _, code = solve(name, robot)
    assert code == "", expert.log
    assert expert.methods == ("motion",)
    expert, _, code = solve(name, robot, methods=("skill",))
    assert code in ("COLLISION", "NO_IK")
    assert expert.methods == ("",)


def test_planned_motion_is_the_same_in_every_process():
    code = (
        "from robostack.sim.env import TaskEnv; from robostack.sim.scene import eval_seed\n"
        "from simgen.experts.expert import Expert; from simgen.experts.drills import drill\n"
        f"episode, _ = Expert(TaskEnv(drill('around_wall', 'ur5e'))).solve(eval_seed({UNSEEN}))\n"
        "import sys; sys.stdout.write(episode.final_sha)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expert, first, _ = solve("around_wall", "ur5e")
    again, _ = expert.solve(eval_seed(UNSEEN))
    assert other.stdout == first.final_sha == again.final_sha


def test_methods_are_tried_in_their_fixed_order_and_unknown_ones_are_refused():
    expert = Expert(TaskEnv(drill("press_button", "panda")), methods=("motion", "skill"))
    expert.solve(eval_seed(UNSEEN))
    assert expert.methods == ("skill",)
    with pytest.raises(UnknownName, match=r"did you mean 'motion'"):
        Expert(expert.env, methods=("motoin",))
    with pytest.raises(UnknownName, match=r"unknown drill 'jump'.*insert"):
        drill("jump", "panda")


class Replayed:
    """Achieves a subgoal with actions of its own, as a search or a learner does."""

    name = "trajopt"

    def __init__(self, actions):
        self.actions = actions

    def attempt(self, ctx, subgoal):
        if not subgoal.args:
            return Result(Code.PRECOND_FALSE)
        for action in self.actions:
            ctx.send(action)
        return Result(Code.OK)


def test_another_method_acts_through_the_same_door_and_skills_go_on_from_there(monkeypatch):
    _, episode, _ = solve("open_drawer", "panda")
    away = next(k for k in range(len(episode)) if episode.action[k, 9] < 0.05) + 40  # until the drawer is open
    monkeypatch.setitem(methods.METHODS._records, "trajopt", lambda: Replayed(episode.action[:away]))
    expert = Expert(TaskEnv(drill("open_drawer", "panda")), methods=("trajopt",))
    other, code = expert.solve(episode.seed)
    assert code == "", expert.log
    assert expert.methods == ("trajopt",)
    assert np.array_equal(other.action[:away], episode.action[:away])
    jump = np.linalg.norm(np.diff(other.action[away - 1 : away + 2, :3], axis=0), axis=1)
    assert jump.max() < 0.03  # the way home starts where the other method ended


# The order of subgoals.


def test_a_button_that_springs_back_is_pressed_once():
    expert, _, code = solve("press_button", "panda", 3)
    assert code == ""
    assert len(expert.log) == 1
    assert expert.env.scene.world.fraction("button", "press") < 0.1


def test_what_was_opened_to_be_filled_is_not_opened_again_when_it_is_closed():
    expert, _, code = solve("put_away", "panda", 4)
    assert code == ""
    assert expert.methods == ("skill",) * 3
    assert [entry.split("(")[0] for entry in expert.log] in (["open", "place_in", "close"], ["open", "place_in"])


def test_a_sequence_is_done_in_its_order_even_if_a_later_part_holds_at_the_start():
    opened, shut = atom("joint", "drawer", "slide", ">=", 0.8), atom("joint", "drawer", "slide", "<=", 0.05)
    subgoals = (
        Subgoal(skill="open", args=("drawer", "slide"), goal=opened),
        Subgoal(skill="close", args=("drawer", "slide"), goal=shut),
    )
    spec = drill("open_drawer", "panda")
    spec = spec.model_copy(update={"goal": Seq(seq=(opened, shut)), "subgoals": subgoals})
    spec = spec.model_copy(
        update={"entities": tuple(e.model_copy(update={"joints": {"slide": (0.0, 0.0)}}) for e in spec.entities)}
    )
    expert = Expert(TaskEnv(spec))
    _, code = expert.solve(eval_seed(UNSEEN))
    assert code == "", expert.log
    assert expert.methods == ("skill", "skill")


# Keyframes.


@pytest.mark.parametrize("name", ["put_away", "turn_dial"])
def test_keyframes_give_the_tool_back_in_the_frame_of_what_it_acted_on(name):
    expert, episode, _ = solve(name, "panda", 5)
    env, frames = expert.env, expert.keyframes
    assert [f.step for f in frames] == sorted(f.step for f in frames)
    assert {f.event for f in frames} == {"start", "via", "grasp", "release", "end"}
    assert [f.subgoal for f in frames] == sorted(f.subgoal for f in frames)
    assert {f.subgoal for f in frames} == set(range(len(env.task.subgoals)))
    for frame in frames:
        assert Keyframe.from_dict(frame.to_dict()) == frame
    scene = Scene(env.task)
    scene.reset(episode.seed)
    scene.set_state(episode.state0)
    states = [scene.get_state()]
    for ctrl in episode.ctrl:
        scene.step(ctrl)
        states.append(scene.get_state())
    for frame in (f for f in frames if f.event == "grasp"):
        scene.set_state(states[frame.step])
        entity, _, joint = frame.frame.partition(".")
        pos, rot = scene.world.pos(entity), scene.world.rot(entity)
        if joint:
            site = scene.world.entities[entity].joints[joint].handle
            pos, rot = scene.data.site_xpos[site], scene.data.site_xmat[site].reshape(3, 3)
        # A keyframe is what was commanded: the tool follows within the servo's lag.
        assert np.linalg.norm(pos + rot @ np.array(frame.pos) - scene.tcp()[0]) < 0.01


# Poses and detours.


def test_a_pose_is_recovered_from_its_rotation():
    skills = Skills(TaskEnv(drill("press_button", "panda")))
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = Pose(rng.normal(size=3), *rng.uniform(-1.4, 1.4, 3))
        rot = skills.planner.rotation(pose)
        assert np.allclose(rot @ rot.T, np.eye(3))
        again = skills.planner.pose_of(pose.pos, rot)
        assert np.allclose(again.angles, pose.angles)
        assert rot6d(rot).shape == (6,)
    assert np.allclose(skills.planner.rotation(Pose(np.zeros(3), 0.3))[:, 2], [0, 0, -1])


def test_a_detour_touches_nothing_on_the_way_and_ends_where_asked():
    env = TaskEnv(drill("around_wall", "ur5e"))
    env.reset_scene(eval_seed(UNSEEN))
    skills = Skills(env)
    skills.detours.budget = 4
    y = 0.2
    for side in (y, -y):
        goal = Pose(np.array([0.58, side, 0.12]), 0.0)
        skills.follow(skills.reach(goal).poses)
        skills.settle()
        assert np.linalg.norm(env.scene.tcp()[0] - goal.pos) < 0.003
        owners = env.scene.world.geom_owner[env.scene.data.contact.geom]
        assert not (owners == -2).any()  # the robot touches nothing
    assert skills.detours.budget < 4  # straight paths alone would not have done


@pytest.mark.parametrize("card", ["bowl", "box", "mug", "lid", "stick"])
def test_containers_and_tools_are_taken_by_the_part_made_for_it(card):
    spec = drill("press_button", "panda")
    size = load_robot("panda").profile.size(card)
    thing = spec.entities[0].model_copy(
        update={"id": "thing", "card": card, "role": "manipuland", "size": size, "joints": {}}
    )
    goal = atom("lifted", "thing", 0.05)
    env = TaskEnv(spec.model_copy(update={"entities": (thing,), "goal": goal, "subgoals": ()}))
    env.reset_scene(eval_seed(UNSEEN))
    skills = Skills(env)
    result = skills.pick("thing")
    assert result.ok, result
    skills.wait(0.5)
    assert skills.grasped("thing")
