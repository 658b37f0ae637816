"""Keyframes of a demonstration lead to the goal in scenes that it has never seen."""

import json

import numpy as np
import pytest

from robostack.errors import DataError, UnknownName
from robostack.paths import data_dirs
from robostack.sim.env import TaskEnv
from robostack.sim.replay import replays_exactly
from robostack.sim.scene import SceneError, train_seed
from robostack.task.spec import TaskSpec
from simgen.experts.drills import drill
from simgen.experts.expert import Expert
from simgen.experts.frames import symmetry_turns
from simgen.experts.keyframe import FILE, load_keyframes
from simgen.experts.keyframes import Keyframe, _corners
from simgen.teach import scaled, teach

BOWL = TaskSpec.load(data_dirs()[-1] / "presets/put_in_bowl/panda.json")
PUSH = TaskSpec.load(data_dirs()[-1] / "presets/push_to_region/ur5e.json")
NEW = 400  # index of the first scene that no demonstration saw


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Task -> a folder with its keyframes."""
    folders = {}

    def folder(name, spec):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            teach(spec, folders[name] / FILE)
        return folders[name]

    return folder


@pytest.mark.parametrize(("size", "symmetry"), [(1, "none"), (4, "box"), (8, "square_prism"), (24, "cube")])
def test_the_turns_of_a_symmetry_are_a_group_of_rotations(size, symmetry):
    turns = symmetry_turns(symmetry)
    assert len(turns) == size
    assert np.array_equal(turns[0], np.eye(3))
    assert np.allclose(np.linalg.det(turns), 1.0)
    known = {tuple(np.round(turn).ravel()) for turn in turns}
    assert all(tuple(np.round(a @ b).ravel()) in known for a in turns for b in turns)


def test_a_round_thing_may_be_turned_about_its_axis_and_over():
    turns = symmetry_turns("axial")
    assert np.allclose(turns @ np.swapaxes(turns, 1, 2), np.eye(3))
    assert np.allclose(np.abs(turns[:, 2, 2]), 1.0)


def test_corners_and_rests_of_a_path_are_kept_and_nothing_else():
    u = np.linspace(0, 1, 11)[:, None]
    points = np.array([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0]], float)
    legs = [points[k] + u * (points[k + 1] - points[k]) for k in range(2)]
    path = np.concatenate([legs[0], legs[1][1:], np.repeat(legs[1][-1:], 4, axis=0)])
    assert _corners(np.pad(path, ((0, 0), (0, 4))), [0, len(path) - 1]) == [0, 10, 20, 24]


def test_keyframes_survive_json():
    key = Keyframe(1, 7, "via", "drawer.slide", (0.1, -0.2, 0.3), (0.5, 0.5, -0.5, 0.5), 0.25, 0.75)
    assert Keyframe.from_dict(json.loads(json.dumps(key.to_dict()))) == key


def test_a_demonstration_says_where_the_tool_takes_lifts_places_and_opens(taught):
    keys = load_keyframes(taught("bowl", BOWL) / FILE)[0][0]
    events = [key.event for key in keys]
    grasp, release = events.index("grasp"), events.index("release")
    assert [key.frame for key in keys] == ["red_cube"] * (grasp + 2) + ["bowl"] * (len(keys) - grasp - 2)
    assert keys[0].opening == 1.0
    assert keys[grasp].opening == 0.0
    assert np.linalg.norm(keys[grasp].pos) < 0.02  # the tool is where the cube is
    assert keys[grasp + 1].pos[2] > 0.05  # lifted
    assert keys[release].opening > keys[release - 1].opening
    assert keys[-1].pos[2] > keys[release].pos[2] + 0.03  # withdrawn


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("bowl", BOWL),
        ("push", PUSH),
        ("open_drawer", drill("open_drawer", "ur5e")),
        ("lever", drill("push_lever", "so101")),
        ("put_away", drill("put_away", "panda")),
    ],
)
def test_keyframes_alone_solve_scenes_that_no_demonstration_saw(taught, name, spec):
    expert = Expert(TaskEnv(spec), methods=("keyframe",), folder=taught(name, spec))
    solved = 0
    for index in range(NEW, NEW + 2):
        try:
            episode, code = expert.solve(train_seed(index))
        except SceneError:
            continue
        solved += not code
        if not code:
            assert set(episode.methods) == {"keyframe"}
            assert replays_exactly(expert.env.scene, episode)
    assert solved, expert.log


def test_the_wrist_turns_no_more_than_the_symmetry_asks_for(taught):
    expert = Expert(TaskEnv(BOWL), methods=("keyframe",), folder=taught("bowl", BOWL))
    for index in range(NEW, NEW + 3):
        _, code = expert.solve(train_seed(index))
        grasp = next(key for key in expert.keyframes if key.event == "grasp")
        assert code == ""
        assert abs(abs(grasp.rot[2, 2]) - 1.0) < 1e-3  # from above
    expert.env.reset_scene(train_seed(NEW))
    assert BOWL.entity("red_cube").placement.yaw[1] > np.pi / 4  # the cube turns farther than the wrist has to


def test_objects_of_another_size_move_the_keyframes_but_not_places_on_the_table():
    keys = {"0": [{"frame": "cup", "pos": [0.1, 0.2, 0.3]}, {"frame": "", "pos": [0.1, 0.2, 0.3]}]}
    assert [key["pos"] for key in scaled(keys, 1.1)["0"]] == [[0.11, 0.22, 0.33], [0.1, 0.2, 0.33]]


def test_without_keyframes_nothing_is_moved(tmp_path):
    expert = Expert(TaskEnv(BOWL), methods=("keyframe",), folder=tmp_path)
    _, code = expert.solve(train_seed(NEW))
    assert code == "PRECOND_FALSE"
    assert expert.methods == ("",)


def test_events_without_a_path_are_not_enough(taught, tmp_path):
    shown = json.loads((taught("bowl", BOWL) / FILE).read_text())
    sparse = {seed: [key for key in keys if key["event"] != "via"] for seed, keys in shown.items()}
    (tmp_path / FILE).write_text(json.dumps(sparse))
    assert load_keyframes(tmp_path / FILE) == {}


@pytest.mark.parametrize("content", ["{", '{"0": [{"pos": [1]}]}', '{"0": 3}', '{"0": [{"subgoal": 0}]}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(DataError, match=FILE):
        load_keyframes(tmp_path / FILE)


def test_an_unknown_method_is_answered_with_those_that_exist():
    with pytest.raises(UnknownName, match="keyframe"):
        Expert(TaskEnv(BOWL), methods=("keyfram",))
