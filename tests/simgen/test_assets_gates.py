"""Planted faults: each is caught by the gate meant for it, with a code and a fix in one line."""

import math
import struct

import numpy as np
import pytest
import trimesh

from robostack.errors import AssetError
from simgen.assets.grasp import antipodal_pairs, grasp_gate
from simgen.assets.hollow import hollow_gate
from simgen.assets.intake import intake
from simgen.assets.joints import joint_gate
from simgen.assets.licence import licence_gate
from simgen.assets.physics import check_triangle, mass_gate, principal_moments, rest_gate
from simgen.assets.read import MAX_FACES, read_object
from simgen.assets.record import GateFailure
from simgen.assets.shape import clean, convex, decompose, drop_floaters, simplify, size_gate, stl, winding_number
from simgen.assets.shipped import OWN, prism

PANDA = {"panda": 0.08}


def box(*extents, at=(0, 0, 0)):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(at)
    return mesh


def cup(sides=10, radius=0.037, height=0.06, wall=0.006):
    """Convex pieces: a ring of boards on a floor, amid its bounding box."""
    floor = trimesh.creation.cylinder(radius, wall, sections=sides)
    floor.apply_translation((0, 0, 0.5 * (wall - height)))
    boards = []
    for k in range(sides):
        board = box(wall, 2 * radius * math.tan(math.pi / sides), height, at=(radius, 0, 0))
        boards.append(
            board.apply_transform(trimesh.transformations.rotation_matrix(2 * math.pi * k / sides, (0, 0, 1)))
        )
    return tuple(convex(mesh.vertices) for mesh in (floor, *boards))


def saved(mesh, tmp_path, name="thing.stl"):
    path = tmp_path / name
    path.write_bytes(stl(mesh))
    return path


def verdict(mesh, tmp_path, **settings):
    path = saved(mesh, tmp_path)
    report = intake(path, **{"name": "thing", "licence": "MIT", "out_dir": tmp_path / "out", **settings})
    failed = report.failed
    assert failed is None or "\n" not in failed.detail
    return (failed.gate, failed.code) if failed else "OK"


def test_a_clean_object_passes(tmp_path):
    assert verdict(box(0.06, 0.03, 0.03), tmp_path) == "OK"


@pytest.mark.parametrize(
    ("mesh", "settings", "gate", "code"),
    [
        (box(0.05, 0.03, 0.03), {"licence": " "}, "A1", "LICENCE_MISSING"),
        (box(0.05, 0.03, 0.03), {"licence": "proprietary"}, "A1", "LICENCE_UNKNOWN"),
        (box(0.05, 0.03, 0.03), {"max_hulls": 40}, "A2", "MAX_HULLS"),
        (prism(OWN["wrench"][0]).copy().apply_scale(1.5), {"max_hulls": 1}, "A2", "CONVEX_FIT"),
        (box(60, 30, 30), {}, "A3", "TOO_LARGE"),
        (box(0.004, 0.004, 0.004), {}, "A3", "TOO_SMALL"),
        (box(0.1, 0.1, 0.0004), {}, "A3", "TOO_THIN"),
        (box(0.3, 0.3, 0.005), {}, "A3", "TOO_THIN"),
        (
            trimesh.util.concatenate([box(0.05, 0.05, 0.05), box(0.05, 0.05, 0.05, at=(0.2, 0, 0))]),
            {},
            "A3",
            "SEVERAL_OBJECTS",
        ),
        (box(0.05, 0.03, 0.03), {"mass": 5.0}, "A4", "DENSITY"),
        (box(0.05, 0.03, 0.03), {"density": 1.0}, "A4", "DENSITY"),
        (box(0.05, 0.03, 0.03), {"density": math.nan}, "A4", "DENSITY"),
        (box(0.05, 0.03, 0.03), {"density": 500.0, "mass": 0.1}, "A4", "MASS_TWICE"),
        (trimesh.creation.icosphere(2, 0.03), {}, "A5", "UNSTABLE"),
        (box(0.2, 0.2, 0.2), {}, "A6", "TOO_WIDE"),
        (trimesh.creation.cone(0.03, 0.05), {}, "A6", "NO_GRASP"),
        (box(0.05, 0.03, 0.03), {"claims": ("interior",)}, "A8", "NO_INTERIOR"),
        (box(0.05, 0.03, 0.03), {"claims": ("lid",)}, "A8", "UNKNOWN_CLAIM"),
        (
            trimesh.creation.cylinder(0.02, 0.1, sections=32).apply_transform(
                trimesh.transformations.rotation_matrix(1.57, (1, 0, 0))
            ),
            {"claims": ("surface",)},
            "A8",
            "NO_SURFACE",
        ),
    ],
)
def test_planted_faults_are_caught_by_the_gate_meant_for_them(tmp_path, mesh, settings, gate, code):
    assert verdict(mesh, tmp_path, **settings) == (gate, code)


def test_a_file_in_millimetres_is_recognised(tmp_path):
    with pytest.raises(GateFailure, match="looks like millimetres: pass scale=0.001"):
        size_gate(box(60, 30, 30), file_extents=np.array([60.0, 30, 30]))
    assert verdict(box(60, 30, 30), tmp_path, scale=0.001) == "OK"


def test_floaters_are_dropped_and_counted(tmp_path):
    mesh = trimesh.util.concatenate([box(0.06, 0.03, 0.03), box(0.004, 0.004, 0.004, at=(0.2, 0, 0.1))])
    kept, dropped = drop_floaters(mesh)
    assert dropped == 1
    assert kept.extents == pytest.approx([0.06, 0.03, 0.03])
    assert verdict(mesh, tmp_path) == "OK"


def test_a_hole_is_closed_and_faces_turn_outwards():
    mesh = box(0.06, 0.03, 0.03)
    broken = trimesh.Trimesh(mesh.vertices, mesh.faces[1:, ::-1], process=False)
    mended = clean(broken)
    assert mended.is_watertight
    assert mended.volume == pytest.approx(mesh.volume)


def test_a_surface_that_encloses_nothing_is_not_solid():
    mesh = box(0.06, 0.03, 0.03)
    lid = trimesh.Trimesh(mesh.vertices, mesh.faces[:5], process=False)
    with pytest.raises(GateFailure, match="close the holes") as failure:
        decompose(lid, 1)
    assert failure.value.record.code == "NOT_SOLID"


def test_the_winding_number_tells_inside_from_outside_of_overlapping_parts():
    mesh = trimesh.util.concatenate([box(0.06, 0.03, 0.03), box(0.03, 0.06, 0.03)])
    points = np.array([[0, 0, 0], [0.025, 0, 0], [0.025, 0.025, 0], [0.1, 0, 0]])
    assert winding_number(mesh, points) == pytest.approx([2, 1, 0, 0], abs=1e-9)


def test_convex_pieces_fill_the_space_of_the_object():
    mesh = prism(OWN["l_block"][0])
    pieces, record = decompose(mesh, 16)
    assert 2 <= len(pieces) <= 16
    assert record.metrics["iou"] > 0.99
    assert sum(p.mesh.volume for p in pieces) == pytest.approx(mesh.volume, rel=0.01)


def test_decomposition_is_silent_and_repeats_itself(capfd):
    mesh = prism(OWN["wrench"][0])
    first, second = (decompose(mesh, 16)[0] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
    assert capfd.readouterr() == ("", "")


def test_many_faces_are_simplified_without_moving_the_surface():
    ball = trimesh.creation.icosphere(4, 0.03)
    light = simplify(ball, 500)
    assert len(light.faces) <= 500
    assert np.linalg.norm(light.vertices, axis=1) == pytest.approx(0.03, rel=0.02)


def test_mass_and_moments_follow_from_the_geometry():
    mesh = box(0.06, 0.03, 0.02)
    halves = [convex(box(0.03, 0.03, 0.02, at=(s * 0.015, 0, 0)).vertices) for s in (-1, 1)]
    mass, record = mass_gate(halves, mass=None, density=1000.0, stated=(1.0, 1.0, 1.0))
    a, b, c = mesh.extents
    expected = sorted(mass / 12 * np.array([b * b + c * c, a * a + c * c, a * a + b * b]))
    assert mass == pytest.approx(0.036)
    assert principal_moments(halves, 1000.0) == pytest.approx(expected)
    assert record.metrics["stated_inertia_ratio"] == pytest.approx(1.0 / expected[2])


@pytest.mark.parametrize("moments", [(1.0, 1.0, 2.5), (0.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, 1.0, math.nan)])
def test_moments_that_belong_to_no_body_are_refused(moments):
    check_triangle(np.array([1.0, 1.0, 2.0]))
    with pytest.raises(GateFailure, match="belong to no body"):
        check_triangle(np.array(moments))


def test_an_object_on_its_tip_is_laid_on_a_face():
    upside_down = trimesh.creation.cone(0.03, 0.05).apply_transform(np.diag([1.0, -1, -1, 1]))
    piece = convex(upside_down.vertices)
    pose, record = rest_gate(upside_down, [piece], 0.1)
    assert record.metrics["pose"] != "file"
    assert record.metrics["height_m"] == pytest.approx(0.05, abs=1e-3)
    placed = piece.transformed(pose).mesh.bounds
    assert placed[0] == pytest.approx(-placed[1], abs=1e-9)


def test_planes_of_a_piece_move_with_it():
    piece = convex(box(0.06, 0.03, 0.02).vertices)
    motion = trimesh.transformations.rotation_matrix(0.7, (1, 2, 3))
    motion[:3, 3] = (0.1, -0.2, 0.3)
    moved = piece.transformed(motion)
    points = np.random.default_rng(0).uniform(-0.04, 0.04, (200, 3))
    there = points @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_array_equal(piece.contains(points), moved.contains(there))


def test_contacts_of_antipodal_pairs_face_each_other():
    mesh = prism(OWN["star"][0])
    first, second = antipodal_pairs(mesh, np.random.default_rng(0))
    assert len(first) > 50
    np.testing.assert_allclose(first[:, 2], second[:, 2], atol=1e-12)
    inside = winding_number(mesh, 0.5 * (first + second))
    assert inside == pytest.approx(np.ones(len(first)), abs=1e-6)


def test_fingers_come_down_on_both_sides_of_a_grasp():
    slab = box(0.2, 0.03, 0.03)
    grasps, record = grasp_gate(slab, [convex(slab.vertices)], PANDA)
    assert record.metrics["robots"] == ("panda",)
    assert {round(g.width, 6) for g in grasps} == {0.03}
    assert all(g.yaw == pytest.approx(math.pi / 2) for g in grasps)
    assert abs(grasps[0].pos[0]) < 0.02  # nearest to the centre of mass first


def test_a_wall_in_the_way_of_a_finger_rules_a_grasp_out():
    block, wall = box(0.03, 0.03, 0.03), [box(0.2, 0.004, 0.03, at=(0, s * 0.021, 0)) for s in (-1, 1)]
    far = [box(0.004, 0.2, 0.03, at=(s * 0.021, 0, 0)) for s in (-1, 1)]
    pieces = [convex(m.vertices) for m in (block, *wall, *far)]
    with pytest.raises(GateFailure) as failure:
        grasp_gate(block, pieces, PANDA)
    assert failure.value.record.code == "NO_GRASP"


def test_the_hollow_of_a_cup_is_found_and_holds_a_ball():
    interior, surface, record = hollow_gate(cup(), ("interior",))
    assert record.ok
    assert interior is not None
    assert surface is not None
    assert interior.half[0] == pytest.approx(0.034, abs=0.004)
    assert 2 * interior.half[2] == pytest.approx(0.054, abs=0.003)
    assert surface.center[2] == pytest.approx(-0.03 + 0.006, abs=0.002)


def test_a_cup_without_a_bottom_loses_the_ball():
    rims = [convex(box(0.004, 0.06, 0.04, at=(s * 0.03, 0, 0)).vertices) for s in (-1, 1)]
    rims += [convex(box(0.06, 0.004, 0.04, at=(0, s * 0.03, 0)).vertices) for s in (-1, 1)]
    with pytest.raises(GateFailure) as failure:
        hollow_gate(rims, ("interior",))
    assert failure.value.record.code == "NO_INTERIOR"


URDF = """<robot name="box"><link name="case"><collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision>
<inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
<link name="slider"><collision><geometry><box size="0.1 0.1 0.02"/></geometry></collision>
<inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="slide" type="{kind}"><parent link="case"/><child link="slider"/><origin xyz="{xyz}"/><axis xyz="1 0 0"/>
<limit lower="{low}" upper="{high}" effort="1" velocity="1"/><dynamics damping="{damping}"/></joint></robot>"""
SOUND = {"kind": "prismatic", "xyz": "0 0 0.07", "low": "0", "high": "0.1", "damping": "1"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "continuous"}, "JOINT_KIND"),
        ({"high": "0"}, "JOINT_RANGE"),
        ({"high": "wide"}, "JOINT_RANGE"),
        ({"damping": "0"}, "JOINT_DAMPING"),
        ({"xyz": "0.12 0 0.02", "low": "-0.1"}, "SELF_PENETRATION"),
    ],
)
def test_joints_that_cannot_work_are_refused(tmp_path, fault, code):
    path = tmp_path / "box.urdf"
    path.write_text(URDF.format(**{**SOUND, **fault}))
    with pytest.raises(GateFailure, match="'slide'") as failure:
        joint_gate(path)
    assert failure.value.record.code == code


def test_an_articulated_urdf_is_refused_and_a_welded_one_is_not(tmp_path):
    path = tmp_path / "box.urdf"
    path.write_text(URDF.format(**SOUND))
    assert joint_gate(path).ok
    report = intake(path, name="thing", licence="MIT", out_dir=tmp_path, scale=0.5, density=400.0)
    assert report.failed is not None
    assert report.failed.code == "ARTICULATED"
    path.write_text(URDF.format(**SOUND | {"kind": "fixed", "xyz": "0 0 0.06"}))
    assert intake(path, name="thing", licence="MIT", out_dir=tmp_path, scale=0.5, density=400.0).ok


def test_licences_know_whether_trade_is_allowed():
    assert licence_gate("MIT").metrics["commercial"] is True
    assert licence_gate("CC-BY-NC-4.0").metrics["commercial"] is False


def nan_vertex(data):
    return data[:96] + struct.pack("<f", math.nan) + data[100:]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.stl", b"", "is empty"),
        ("a.stl", b"\0" * 40, "cut off after 40 bytes"),
        ("a.stl", stl(box(0.1, 0.1, 0.1))[:-20], "cut off: 12 faces need 684 bytes"),
        ("a.stl", b"\0" * 80 + struct.pack("<I", MAX_FACES + 1), "faces: simplify"),
        ("a.stl", nan_vertex(stl(box(0.1, 0.1, 0.1))), "not finite"),
        ("a.stl", b"\0" * 84, "holds no triangles"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", "a.obj"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "a.obj"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nf 1 2 3\nf 2 4 3\n", "is flat"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 8\n", "a.ply"),
        ("a.glb", b"glTF\2\0\0\0\xff\xff\0\0", "not a readable GLB"),
        ("a.txt", b"hello", "of no known kind"),
        ("a.urdf", b"<robot", "is not XML"),
        ("a.urdf", b"<sdf/>", "is not a URDF"),
        ("a.urdf", b"<robot><link name='a'/></robot>", "no link has a shape"),
        (
            "a.urdf",
            b"<robot><link name='a'><visual><geometry><mesh filename='b.stl'/></geometry></visual></link></robot>",
            "b.stl",
        ),
        (
            "a.urdf",
            b"<robot><link name='a'><visual><geometry><box size='1 x 1'/></geometry></visual></link></robot>",
            "3 finite",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AssetError, match=reason) as error:
        read_object(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_bad_scales_are_refused(tmp_path):
    with pytest.raises(AssetError, match="no file at"):
        read_object(tmp_path / "none.stl")
    path = saved(box(0.1, 0.1, 0.1), tmp_path)
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(AssetError, match="must be a positive number"):
            read_object(path, scale=scale)
