import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robostack.errors import SceneError
from robostack.sim.objects import Shape
from robostack.sim.placement import PlanarPose, footprint, overlap, sample_placements
from robostack.task.predicate import atom
from robostack.task.spec import Entity, Instruction, Placement, RobotRef, TaskSpec

BOX, DISC = (
    Shape((0.03, 0.02, 0.02), 0.02, (0.03, 0.02), round=False),
    Shape((0.04, 0.04, 0.02), 0.02, (0.04, 0.04), round=True),
)
poses = st.builds(PlanarPose, st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-3.2, 3.2))


def task(clearances, box=(0.3, -0.25, 0.6, 0.25)):
    entities = tuple(
        Entity(
            id=f"e{i}",
            card="block",
            color="red",
            role="manipuland",
            placement=Placement(box=box, yaw=(-3.1, 3.1), clearance=clearance),
        )
        for i, clearance in enumerate(clearances)
    )
    return TaskSpec(
        name="probe",
        family="probe",
        instruction=Instruction(text="probe"),
        robot=RobotRef(name="panda"),
        entities=entities,
        goal=atom("on", "e0", "table"),
    )


def outline_points(shape, pose, n=400):
    """Points on the rim of the exact footprint."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = np.stack([np.cos(t), np.sin(t)], 1)
    hx, hy = shape.footprint
    local = ring * hx if shape.round else ring / np.abs(ring / [hx, hy]).max(1, keepdims=True)
    c, s = np.cos(pose.yaw), np.sin(pose.yaw)
    return local @ np.array([[c, s], [-s, c]]) + [pose.x, pose.y]


def gap(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=-1).min()


def inside(points, polygon):
    edges = np.roll(polygon, -1, axis=0) - polygon
    to = points[:, None] - polygon[None]
    side = edges[None, :, 0] * to[..., 1] - edges[None, :, 1] * to[..., 0]
    return (side <= 0).all(1) | (side >= 0).all(1)


@given(st.sampled_from([BOX, DISC]), st.sampled_from([BOX, DISC]), poses, poses)
def test_the_separating_axis_test_agrees_with_sampled_points(shape_a, shape_b, pose_a, pose_b):
    a, b = footprint(shape_a, pose_a, 0.0), footprint(shape_b, pose_b, 0.0)
    u = np.linspace(0, 1, 15)
    samples = np.concatenate([a.mean(0) + s * (_rim(a) - a.mean(0)) for s in u])
    if inside(samples, b).any():
        assert overlap(a, b)
    if overlap(a, b):
        grown = b.mean(0) + 1.25 * (b - b.mean(0))  # the samples are 6 mm apart at most
        assert inside(samples, grown).any()
    assert overlap(a, b) == overlap(b, a)


def _rim(polygon, per_edge=12):
    u = np.linspace(0, 1, per_edge, endpoint=False)[:, None]
    return np.concatenate([p + u * (q - p) for p, q in zip(polygon, np.roll(polygon, -1, axis=0), strict=True)])


@given(st.sampled_from([BOX, DISC]), poses, st.floats(0, 0.05))
def test_a_grown_footprint_contains_everything_within_the_margin(shape, pose, margin):
    rim = outline_points(shape, pose, 60)
    t = np.linspace(0, 2 * np.pi, 24)
    near = (rim[:, None] + 0.999 * margin * np.stack([np.cos(t), np.sin(t)], 1)[None]).reshape(-1, 2)
    assert inside(near, footprint(shape, pose, margin + 1e-9)).all()


@pytest.mark.parametrize("clearances", [(0.02, 0.02, 0.02), (0.09, 0.02, 0.02), (0.0, 0.02, 0.07)])
def test_footprints_keep_the_larger_clearance_of_both(clearances):
    spec = task(clearances)
    shapes = {"e0": BOX, "e1": DISC, "e2": BOX}
    closest = np.inf
    for seed in range(30):
        placed = sample_placements(spec, shapes, np.random.default_rng(seed))
        for (i, a), (j, b) in itertools.combinations(enumerate(shapes), 2):
            distance = gap(outline_points(shapes[a], placed[a]), outline_points(shapes[b], placed[b]))
            need = max(clearances[i], clearances[j])
            assert distance >= need - 1e-4
            closest = min(closest, distance - need)
    assert closest < 0.03  # the bound is approached: the sampler is not merely spreading objects out


def test_poses_stay_in_their_box_and_yaw_range():
    spec = task((0.0, 0.0))
    for seed in range(20):
        for pose in sample_placements(spec, {"e0": BOX, "e1": DISC}, np.random.default_rng(seed)).values():
            assert 0.3 <= pose.x <= 0.6
            assert -0.25 <= pose.y <= 0.25
            assert abs(pose.yaw) <= 3.1


def test_a_crowded_table_names_who_has_no_room():
    spec = task((0.02, 0.02), box=(0.4, 0.0, 0.41, 0.01))
    with pytest.raises(SceneError, match="no room for 'e1' beside e0; widen its placement box or shrink") as caught:
        sample_placements(spec, {"e0": BOX, "e1": DISC}, np.random.default_rng(0))
    assert caught.value.code == "PLACEMENT_INFEASIBLE"
