"""Files become objects, or a sentence; what was imported is used as it is, or not at all."""

import hashlib
import json

import mujoco
import numpy as np
import pytest
import trimesh
import yaml

from robostack.cli import main
from robostack.errors import AssetError, ConfigError, MissingExtra
from robostack.paths import data_dirs, find_cards
from robostack.sim.cards import AssetCard, load_asset
from robostack.sim.objects import build_object
from robostack.sim.scene import Scene, train_seed
from robostack.task.atoms import ATOMS
from robostack.task.geometry import extent_z
from robostack.task.spec import TaskSpec
from simgen.assets.command import AssetSettings, import_asset
from simgen.assets.intake import intake
from simgen.assets.shape import stl
from simgen.assets.shipped import OWN, prism, write

TOY = "pybullet_data:random_urdfs/083/083.urdf"
IMPORTED = sorted(name for name in find_cards("assets") if load_asset(name).mesh is not None)


@pytest.fixture
def block(tmp_path):
    """A block of 6 x 3 x 3 cm as STL, in metres."""
    path = tmp_path / "block.stl"
    path.write_bytes(stl(trimesh.creation.box((0.06, 0.03, 0.03))))
    return path


@pytest.fixture
def user_data(tmp_path, monkeypatch):
    """An empty data folder of the user's."""
    folder = tmp_path / "data"
    monkeypatch.setenv("ROBOSTACK_DATA", str(folder))
    load_asset.cache_clear()
    yield folder
    load_asset.cache_clear()


def take(path, out, **settings):
    return intake(path, **{"name": "thing", "licence": "CC0-1.0", "out_dir": out, **settings})


def compiled(card, size=None):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name="thing")
    body.add_freejoint()
    shape = build_object(spec, body, card, size, "red")
    return spec.compile(), shape


def in_bowl(card, seed=0, **entity):
    values = json.loads((data_dirs()[-1] / "presets/put_in_bowl/panda.json").read_text())
    values["entities"][0] |= {"card": card, **entity}
    scene = Scene(TaskSpec.model_validate(values))
    scene.reset(train_seed(seed))
    return scene, values["entities"][0]["id"]


@pytest.mark.parametrize("name", IMPORTED)
def test_a_compiled_object_is_what_its_card_says(name):
    card = load_asset(name)
    for factor in (1.0, 0.5):
        model, shape = compiled(card, (factor,))
        corners = []
        for geom in range(model.ngeom):
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
                start, count = (int(a[model.geom_dataid[geom]]) for a in (model.mesh_vertadr, model.mesh_vertnum))
                rot = np.zeros(9)
                mujoco.mju_quat2Mat(rot, model.geom_quat[geom])
                corners.append(model.mesh_vert[start : start + count] @ rot.reshape(3, 3).T + model.geom_pos[geom])
        low, high = np.concatenate(corners).min(0), np.concatenate(corners).max(0)
        np.testing.assert_allclose(high, shape.half, atol=2e-5)
        np.testing.assert_allclose(low, -np.asarray(shape.half), atol=2e-5)
        assert model.body_mass[1] == pytest.approx(card.mass * factor**3, rel=1e-3)
        a, b, c = sorted(model.body_inertia[1])
        assert 0 < a <= b <= c <= a + b


@pytest.mark.parametrize("name", IMPORTED)
def test_grasps_of_a_card_lie_on_the_object_and_fit_a_gripper(name):
    card = load_asset(name)
    assert card.mesh is not None
    for grasp in card.grasps:
        assert (np.abs(grasp.pos) <= np.asarray(card.mesh.half)).all()
        assert grasp.width <= 0.9 * 0.085


def test_an_imported_object_takes_part_in_predicates():
    scene, name = in_bowl("l_block")
    world = scene.world
    assert ATOMS["upright"].fn(world, name) > 0
    assert ATOMS["on"].fn(world, name, "table") > 0
    assert ATOMS["in"].fn(world, name, "bowl") < 0
    low, high = extent_z(world, name)
    assert abs(low) < 2e-4
    assert high == pytest.approx(0.026, abs=2e-4)


def test_size_is_one_factor():
    whole, name = in_bowl("star")
    half, _ = in_bowl("star", size=[0.5])
    assert half.shapes[name].half == pytest.approx([0.5 * h for h in whole.shapes[name].half])


def test_the_shipped_prisms_are_what_the_command_writes(tmp_path):
    write(tmp_path, names=("l_block", "wrench"))
    for name in ("l_block", "wrench"):
        own = data_dirs()[-1] / "assets"
        written = yaml.safe_load((tmp_path / f"assets/{name}.yaml").read_text())
        shipped = yaml.safe_load((own / f"{name}.yaml").read_text())
        written["mesh"].pop("provenance"), shipped["mesh"].pop("provenance")
        assert written == shipped
        for path in (own / name).iterdir():
            assert path.read_bytes() == (tmp_path / "assets" / name / path.name).read_bytes()


def test_prisms_are_closed_and_have_the_volume_of_their_outline():
    for outline, _ in OWN.values():
        mesh = prism(outline)
        area = 0.0
        for cell in outline.cells:
            x, y = np.asarray([outline.corners[i] for i in cell]).T
            area += 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(area * outline.height, rel=1e-6)


def test_the_same_file_gives_the_same_bytes(block, tmp_path):
    for out in ("a", "b"):
        take(block, tmp_path / out)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_units_and_axes_of_a_file_do_not_matter(tmp_path):
    box = trimesh.creation.box((0.06, 0.03, 0.02))
    box.export(tmp_path / "a.ply")
    box.copy().apply_scale(1000).export(tmp_path / "b.obj")
    turned = box.copy().apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0)))
    turned.export(tmp_path / "c.glb")  # y is up
    halves = []
    for file, scale in (("a.ply", None), ("b.obj", 0.001), ("c.glb", None)):
        report = take(tmp_path / file, tmp_path / "out", scale=scale)
        halves.append(yaml.safe_load(report.card.read_text())["mesh"]["half"])
    assert halves[0] == pytest.approx([0.03, 0.015, 0.01], abs=1e-6)
    assert halves[0] == pytest.approx(halves[1], abs=1e-6)
    assert halves[0] == pytest.approx(halves[2], abs=1e-6)


def test_a_shape_of_pybullet_is_referred_to_and_not_copied(user_data):
    report = take(TOY, user_data, licence="Zlib", scale=0.65, density=800.0)
    assert report.files == (report.card,)
    card = load_asset("thing")
    assert card.mesh is not None
    assert card.mesh.root == "pybullet_data"
    assert {part.group for part in card.mesh.parts} == {"convex_0", "convex_1"}
    copied = take(TOY, user_data, licence="Zlib", scale=0.65, density=800.0, copy=True)
    assert len(copied.files) == 4


def test_without_pybullet_its_shapes_name_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"robostack\[gen\]"):
        compiled(load_asset("toy_083"))
    with pytest.raises(MissingExtra, match=r"robostack\[gen\]"):
        take(TOY, "unused")


def test_a_urdf_gives_mass_but_its_inertia_is_replaced(tmp_path):
    report = take(TOY, tmp_path, licence="Zlib")
    weighed = next(r for r in report.records if r.gate == "A4")
    assert yaml.safe_load(report.card.read_text())["mass"] == pytest.approx(0.1, rel=1e-3)
    assert weighed.metrics["stated_inertia_ratio"] > 1000  # the file says 1 kg m2


@pytest.mark.parametrize(
    "damage",
    [lambda p: p.write_bytes(p.read_bytes()[:-7]), lambda p: p.unlink(), lambda p: p.write_bytes(b"\0" * 100)],
    ids=["half-written", "missing", "changed"],
)
def test_a_file_that_is_no_longer_intact_is_named(block, user_data, damage):
    take(block, user_data)
    compiled(load_asset("thing"))
    damage(user_data / "assets/thing/part_00.stl")
    with pytest.raises(AssetError, match=r"part_00\.stl, a file of the object 'thing'.*import 'thing' again"):
        compiled(load_asset("thing"))


def test_nothing_is_written_when_a_gate_says_no(block, tmp_path):
    report = take(block, tmp_path / "out", licence="")
    assert not report.ok
    assert not (tmp_path / "out").exists()


def test_every_gate_leaves_a_record_and_the_card_its_provenance(block, tmp_path):
    report = take(block, tmp_path)
    assert sorted(r.gate for r in report.records) == [f"A{k}" for k in range(1, 9)]
    provenance = yaml.safe_load(report.card.read_text())["mesh"]["provenance"]
    assert provenance["source block.stl"] == hashlib.sha256(block.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "reason"), [("block", "of an object of robostack"), ("Mug 1", "small letters")])
def test_names_that_cannot_be_used_are_refused(block, tmp_path, name, reason):
    with pytest.raises(AssetError, match=reason):
        take(block, tmp_path, name=name)


def test_a_card_of_a_mesh_needs_its_mesh_and_grasps():
    values = {"name": "x", "nouns": ["x"], "licence": "MIT", "size": [1.0], "mass": 0.1, "symmetry": "none"}
    with pytest.raises(ValueError, match="needs the field mesh"):
        AssetCard.model_validate({**values, "shape": "mesh", "grasp_axis": "none"})
    with pytest.raises(ValueError, match="needs a list of grasps"):
        AssetCard.model_validate({**values, "shape": "box", "grasp_axis": "card"})


def test_the_command_says_what_it_does_and_what_came_of_it(block, user_data):
    said = []
    settings = AssetSettings(file=str(block), name="brick", licence="CC0-1.0", out=str(user_data), nouns=("brick",))
    result = import_asset(settings, said.append)
    assert len(result.lines) == 8
    assert said[0] == "reading block.stl"
    assert load_asset("brick").nouns == ("brick",)
    assert result.card == user_data / "assets/brick.yaml"


def test_the_command_passes_a_gates_sentence_on(block, tmp_path):
    with pytest.raises(AssetError, match="'brick' was not taken in: LICENCE_UNKNOWN: licence 'CC0' is none of"):
        import_asset(AssetSettings(file=str(block), name="brick", licence="CC0", out=str(tmp_path)))
    with pytest.raises(ConfigError, match="file is missing"):
        AssetSettings(file="", name="brick", licence="MIT", out=str(tmp_path))


def test_the_verb_takes_a_mesh_in_and_says_where_tasks_find_it(block, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ROBOSTACK_DATA", raising=False)
    out = tmp_path / "out"
    assert main(["gen", "asset", f"file={block}", "name=brick", "licence=CC0-1.0", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert f"export ROBOSTACK_DATA={out / 'data'}" in said
    assert said.endswith(f"card: {out / 'data/assets/brick.yaml'}\n")
    assert json.loads((out / "metrics.json").read_text())["stages"]["asset"]["name"] == "brick"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("licence=my-own", "licence 'my-own' is none of"),
        ("licence=", "licence is empty"),
        ("file=nowhere.stl", "nowhere.stl"),
        ("mass=heavy", "mass must be a number above 0"),
        ("claims=[lid]", "unknown claim 'lid'"),
        ("up=x", "unknown up 'x'"),
    ],
)
def test_the_verb_refuses_with_one_line(block, tmp_path, capsys, wrong, reason):
    given = {"file": str(block), "name": "brick", "licence": "CC0-1.0", "out": str(tmp_path / "out")}
    key, _, value = wrong.partition("=")
    assert main(["gen", "asset", *(f"{k}={v}" for k, v in (given | {key: value}).items())]) == 2
    said = capsys.readouterr().err.strip()
    assert reason in said
    assert "\n" not in said
