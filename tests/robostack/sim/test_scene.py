import mujoco
import numpy as np
import pytest

from robostack.errors import SceneError, SpecError
from robostack.sim.cards import load_asset
from robostack.sim.objects import COLORS, build_object
from robostack.sim.scene import Scene
from robostack.task.spec import Placement
from simgen.propose import propose

SPEC = propose("put the red cube in the bowl", "panda")


def with_physics(**values):
    return SPEC.model_copy(update={"physics": SPEC.physics.model_copy(update=values)})


def physics_of(scene):
    m = scene.model
    return np.concatenate([m.body_mass, m.body_inertia.ravel(), m.geom_friction.ravel()])


@pytest.mark.parametrize("step", [0.003, 0.0071, 0.02])
def test_a_physics_step_that_does_not_divide_the_control_period_is_refused(step):
    with pytest.raises(SpecError, match=r"0\.05 s is not a multiple of the physics step.*change robot.control_hz"):
        Scene(with_physics(timestep=step))


def test_physics_jitter_is_a_function_of_the_seed_alone():
    scene = Scene(with_physics(mass_jitter=0.3, friction_jitter=0.4))
    nominal, drawn = physics_of(scene), {}
    for seed in (1, 2, 3, 2, 1, 1):
        scene.reset(seed)
        now = physics_of(scene)
        assert np.array_equal(drawn.setdefault(seed, now), now)
    assert len({values.tobytes() for values in drawn.values()}) == 3
    for values in drawn.values():
        changed = values != nominal
        ratio = values[changed] / nominal[changed]
        assert changed.any()
        assert (np.abs(ratio - 1) <= 0.4).all()
    robot = [b for b in range(scene.model.nbody) if scene.model.body(b).name.startswith("robot/")]
    assert np.array_equal(scene.model.body_mass[robot], Scene(SPEC).model.body_mass[robot])


def test_without_jitter_the_model_stays_nominal():
    scene = Scene(SPEC)
    nominal = physics_of(scene)
    scene.reset(1)
    assert np.array_equal(physics_of(scene), nominal)


def test_jittered_scenes_evolve_alike_for_one_seed():
    scene, other = (Scene(with_physics(mass_jitter=0.3, friction_jitter=0.4)) for _ in range(2))
    other.reset(9)
    for s in (scene, other):
        s.reset(4)
        for _ in range(10):
            s.step(s.data.ctrl + 0.01)
    assert np.array_equal(scene.get_state(), other.get_state())


def test_restoring_a_state_restores_the_future():
    scene = Scene(SPEC)
    scene.reset(0)
    start = scene.get_state()
    runs = []
    for _ in range(2):
        scene.set_state(start)
        for _ in range(5):
            scene.step(scene.data.ctrl + 0.02)
        runs.append(scene.get_state())
    assert np.array_equal(*runs)
    assert not np.array_equal(start, runs[0])


def test_a_goal_that_holds_at_reset_is_refused():
    from robostack.task.predicate import atom

    spec = SPEC.model_copy(update={"goal": atom("on", "red_cube", "table")})
    with pytest.raises(SceneError, match="TRIVIAL: the goal of .* already holds at reset"):
        Scene(spec).reset(0)


def test_no_room_on_the_table_is_told_at_reset():
    tight = Placement(box=(0.5, 0.0, 0.5, 0.0), clearance=0.03)
    spec = SPEC.model_copy(update={"entities": tuple(e.model_copy(update={"placement": tight}) for e in SPEC.entities)})
    with pytest.raises(SceneError, match="PLACEMENT_INFEASIBLE: no room for 'bowl' beside red_cube"):
        Scene(spec).reset(0)


def built(card, size=None, color="red"):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name="thing")
    body.add_freejoint()
    return build_object(spec, body, load_asset(card), size, color), spec


@pytest.mark.parametrize("size", [(0.04, 0.04), (0.04, 0.04, 0.0), (0.04, -0.04, 0.04), (0.04,) * 4])
def test_a_bad_size_is_refused(size):
    with pytest.raises(SpecError, match=r"block: size .* must be 3 positive lengths"):
        built("block", size)


def test_an_unknown_colour_lists_the_known_ones():
    with pytest.raises(SpecError, match="block: unknown color 'mauve'; known: black, blue, .*yellow"):
        built("block", color="mauve")


def test_every_colour_is_opaque_and_distinct():
    values = np.array(list(COLORS.values()))
    assert (values[:, 3] == 1).all()
    gaps = np.abs(values[:, None, :3] - values[None, :, :3]).max(-1) + np.eye(len(values))
    assert gaps.min() > 0.05
