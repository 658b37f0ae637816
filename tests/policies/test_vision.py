"""Pictures and point clouds as parts of the context."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from policies.base import cfg_from_dict, cfg_to_dict
from policies.beso import BesoCfg, BesoPolicy
from policies.chunked import ChunkCfg
from policies.context import View
from policies.convert import to_lerobot
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.goal_gpt import GoalGptCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed, Recorded
from policies.samplers import seeded
from policies.train import TrainCfg, fit
from policies.vision import ImageCfg, ImageEncoder, PointEncoder, PointsCfg
from policies.vision.backbones import BACKBONES, SmallCnn
from policies.vision.images import SpatialSoftmax, crop, random_offsets
from robostack.errors import CheckpointError, ConfigError, DataError, UnknownName
from robostack.types import Observation

CPU = torch.device("cpu")
CAMERAS = (("front", 24, 32), ("side", 24, 24))
CFG = DiffusionCfg(
    Tp=8, Ta=4, sampler="ddim5", encoder=(32,), network=UnetCfg((8, 16), kernel=3, groups=4, step_dim=8),
    image=ImageCfg(cameras=("front", "side"), keypoints=8, width=16), points=PointsCfg(hidden=(16, 32), width=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def seen(demos):
    """The toy demonstrations with pictures and clouds that tell where the cube is."""
    rng, n = np.random.default_rng(0), len(demos.action)
    images = {name: rng.integers(0, 256, (n, h, w, 3), np.uint8) for name, h, w in CAMERAS}
    cloud = 0.02 * rng.normal(size=(n, 20, 3)) + demos.environment_state[:, None, :3]
    points = np.concatenate([cloud, rng.uniform(size=(n, 20, 3))], axis=2).astype(np.float32)
    features = replace(demos.features, cameras=CAMERAS, points=20)
    return replace(demos, images=images, points=points, features=features)


@pytest.fixture
def policy(build, seen):
    return build(seen)


@pytest.fixture
def build(untrained):
    return lambda arrays, cfg=CFG, kind=DiffusionPolicy: untrained(arrays, cfg, kind)


def observe(arrays, *rows):
    index = np.array(rows)[:, None] + np.arange(-1, 1)
    images = {name: frames[index] for name, frames in arrays.images.items()}
    return Observation(1.0, arrays.state[index], arrays.environment_state[index], images, points=arrays.points[index])


def act(policy, obs):
    policy.reset(np.ones(len(obs.state), bool), np.arange(len(obs.state)))
    return policy.infer(obs).actions


# What a policy knows.


def test_a_policy_that_looks_is_not_told_where_objects_are_unless_asked_to(build, seen, demos):
    assert build(seen).features.environment_state == ()
    assert build(seen).features.cameras == CAMERAS
    assert build(seen).features.points == 20
    assert build(seen, replace(CFG, objects=True)).features.environment_state == demos.features.environment_state
    told = build(seen, replace(CFG, image=None, points=None))
    assert told.features == replace(demos.features, cameras=(), points=0)
    assert build(seen, replace(CFG, image=None, points=None, objects=False)).features.environment_state == ()


def test_what_is_not_looked_at_makes_no_difference(policy, seen):
    obs = observe(seen, 10, 60)
    moved = replace(
        obs, environment_state=obs.environment_state + 1, images={**obs.images, "extra": obs.images["side"]}
    )
    np.testing.assert_array_equal(act(policy, obs), act(policy, moved))


@pytest.mark.parametrize("what", ["front", "side", "points", "state"])
def test_everything_that_is_looked_at_makes_a_difference(policy, seen, what):
    obs = observe(seen, 10, 60)
    if what in obs.images:
        other = replace(obs, images={**obs.images, what: 255 - obs.images[what]})
    else:
        other = replace(obs, **{what: getattr(obs, what) + np.float32(0.05)})
    assert np.abs(act(policy, obs) - act(policy, other)).max() > 1e-5


def test_policies_of_states_have_the_parameters_that_they_always_had(demos):
    names = DiffusionPolicy(replace(CFG, image=None, points=None), demos.features).state_dict()
    assert not [name for name in names if name.startswith(("images", "points"))]
    assert [name for name in names if name.startswith("encoder")] == ["encoder.0.weight", "encoder.0.bias"]


def test_points_are_looked_at_from_the_gripper(policy, seen):
    obs, shift = observe(seen, 10, 60), np.array([0.1, -0.2, 0.05], np.float32)
    moved = replace(obs, state=obs.state.copy(), points=obs.points.copy())
    moved.points[..., :3] += shift
    moved.state[..., :3] += shift
    view = [policy.view(policy.observed(o)) for o in (obs, moved)]
    seen_from_there = [policy.context_part("points")(v) for v in view]
    torch.testing.assert_close(*seen_from_there, atol=1e-5, rtol=1e-4)


def test_goals_are_of_the_arm_where_objects_are_not_told(build, seen):
    cfg = BesoCfg(Tp=8, Ta=4, bank=4, network=GoalGptCfg(width=32, layers=2, heads=2), image=ImageCfg(width=8))
    policy = build(seen, cfg, BesoPolicy)
    policy.use_sampler("beso3_goal")
    assert policy.goals.names == seen.features.state
    assert np.isfinite(act(policy, observe(seen, 10, 60))).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: replace(o, images={"front": o.images["front"]}), "no picture of camera 'side', only of front"),
        (lambda o: replace(o, images={**o.images, "side": o.images["front"]}), r"'side' .*\(2, 2, 24, 32, 3\)"),
        (lambda o: replace(o, points=None), "no point cloud"),
        (lambda o: replace(o, points=o.points[:, :, :9]), r"shape \(2, 2, 9, 6\), .*\(lanes, 2, 20, 6\)"),
        (lambda o: replace(o, points=np.where(o.points > 0.9, np.nan, o.points)), "a point .* lane 0 is not finite"),
    ],
)
def test_what_cannot_be_looked_at_is_named(policy, seen, change, message):
    policy.reset(np.ones(2, bool), np.arange(2))
    with pytest.raises(DataError, match=message) as caught:
        policy.infer(change(observe(seen, 10, 60)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "cfg", "message"),
    [
        ({"cameras": CAMERAS[:1]}, {}, "no camera 'side', only front"),
        ({"points": 0}, {}, "no point clouds"),
        ({}, {"image": ImageCfg(cameras=("front",), backbone="resnet18")}, "needs 64x64; record larger pictures"),
    ],
)
def test_a_dataset_that_cannot_be_looked_at_is_refused(seen, changes, cfg, message):
    with pytest.raises(ConfigError, match=message):
        DiffusionPolicy(replace(CFG, **cfg), replace(seen.features, **changes))


def test_pictures_that_were_not_loaded_are_asked_for(seen, policy):
    with pytest.raises(DataError, match="without .*'front'"):
        Recorded(replace(seen, images={}), policy.features, CPU)
    with pytest.raises(DataError, match="without .*point clouds"):
        Recorded(replace(seen, points=None), policy.features, CPU)


def test_what_looks_is_not_converted_to_a_policy_of_states(seen):
    with pytest.raises(ConfigError, match="told more than states .images"):
        to_lerobot(DiffusionPolicy(replace(CFG, frame="world", per_step=False, encoder=()), seen.features))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"crop": 0.0}, ConfigError), ({"crop": 1.5}, ConfigError), ({"cameras": ()}, ConfigError),
        ({"cameras": ("a", "a")}, ConfigError), ({"pixels": "raw"}, ConfigError), ({"backbone": "vgg"}, UnknownName),
        ({"keypoints": 0}, ConfigError),
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(values, error):
    with pytest.raises(error):
        ImageCfg(**values)


def test_an_empty_mlp_for_points_is_refused():
    with pytest.raises(ConfigError, match="positive widths"):
        PointsCfg(hidden=())


def test_a_configuration_with_looks_survives_plain_values():
    for cfg in (CFG, ChunkCfg(image=ImageCfg(weights="x.safetensors"), objects=True)):
        assert cfg_from_dict(type(cfg), cfg_to_dict(cfg)) == cfg


# Pictures.


def pictures(samples=5):
    return torch.randint(0, 256, (samples, 2, 12, 16, 3), dtype=torch.uint8, generator=seeded(1))


def test_a_crop_is_at_its_own_place_in_each_sample_and_at_the_same_in_all_its_steps():
    images = pictures(200)
    offsets = random_offsets(images, (9, 10), seeded(3))
    assert offsets.amin(0).tolist() == [0, 0]
    assert offsets.amax(0).tolist() == [3, 6]
    cropped = crop(images, (9, 10), offsets)
    for i in (0, 7, 199):
        top, left = offsets[i].tolist()
        assert torch.equal(cropped[i], images[i, :, top : top + 9, left : left + 10])


def test_without_offsets_the_middle_is_looked_at():
    images = pictures()
    assert torch.equal(crop(images, (8, 10), None), images[:, :, 2:10, 3:13])
    assert torch.equal(crop(images, (12, 16), None), images)


def test_training_crops_by_the_generator_and_acting_does_not(policy, seen):
    observed = policy.observed(observe(seen, 10, 60, 80))

    def context(generator=None):
        return policy.condition(observed, generator)[0].context

    still = context()
    assert torch.equal(context(seeded(1)), still)
    policy.train()
    assert torch.equal(context(seeded(1)), context(seeded(1)))
    assert not torch.equal(context(seeded(1)), context(seeded(2)))
    assert torch.equal(context(), still)


def test_a_spatial_softmax_tells_where_a_channel_responds():
    pool = SpatialSoftmax(2, 2)
    with torch.no_grad():
        pool.channels.weight.copy_(torch.eye(2)[:, :, None, None])
        pool.channels.bias.zero_()
        grid = torch.zeros(1, 2, 5, 9)
        grid[0, 0, 0, 8] = grid[0, 1, 3, 4] = 50.0
        torch.testing.assert_close(pool(grid), torch.tensor([[[1.0, -1.0], [0.0, 0.5]]]))
        torch.testing.assert_close(pool(torch.zeros(1, 2, 5, 9)), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_backbone_makes_the_grid_that_it_promises_and_keeps_samples_apart(backbone):
    record = BACKBONES[backbone]
    network = record.build().eval()
    x = torch.randn(3, 3, 2 * record.stride, 3 * record.stride)
    with torch.inference_mode():
        grid = network(x)
        assert grid.shape == (3, record.channels, 2, 3)
        torch.testing.assert_close(network(x[1:2]), grid[1:2], atol=1e-5, rtol=1e-4)
    kinds = {type(m) for m in network.modules()}
    assert torch.nn.GroupNorm in kinds
    assert not [kind for kind in kinds if issubclass(kind, torch.nn.modules.batchnorm._BatchNorm)]


def view_of(images):
    observed = Observed(torch.zeros(len(images), 2, 3), torch.zeros(len(images), 2, 0), {"front": images})
    return View(observed, torch.zeros(len(images), 2, 3), torch.zeros(len(images), 4))


def test_cameras_can_share_a_network():
    cameras = (("front", 24, 24), ("side", 24, 24))
    apart, shared = (ImageEncoder(ImageCfg(cameras=("front", "side"), shared=s), cameras, 2) for s in (False, True))
    count = [sum(p.numel() for p in encoder.parameters()) for encoder in (apart, shared)]
    assert count[0] == 2 * count[1]
    assert apart.width == shared.width == 2 * 2 * 64


def test_pixels_are_normalised_as_told():
    for pixels, low in (("unit", -1.0), ("imagenet", -0.485 / 0.229)):
        encoder = ImageEncoder(ImageCfg(pixels=pixels, crop=1.0), (("front", 24, 24),), 2)
        seen = []
        encoder.eyes[0].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        encoder(view_of(torch.zeros(1, 2, 24, 24, 3, dtype=torch.uint8)))
        assert seen[0].amin().item() == pytest.approx(low, abs=1e-5)


@pytest.fixture
def weights(tmp_path):
    """Weights of the small backbone as another program would save them, with what belongs to batches."""
    torch.manual_seed(5)
    given = SmallCnn().state_dict() | {"1.running_mean": torch.zeros(16), "fc.weight": torch.zeros(2, 2)}
    save_file(given, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_a_training_begins_with_given_weights_and_acting_does_not_need_the_file(weights):
    encoder = ImageEncoder(ImageCfg(weights=str(weights)), (("front", 24, 24),), 2)
    encoder.prepare(view_of(torch.zeros(1, 2, 24, 24, 3, dtype=torch.uint8)))
    torch.manual_seed(5)
    for name, tensor in SmallCnn().state_dict().items():
        assert torch.equal(encoder.eyes[0].backbone.state_dict()[name], tensor)
    ImageEncoder(ImageCfg(weights="gone.safetensors"), (("front", 24, 24),), 2)


def test_weights_that_do_not_fit_are_one_line(weights, tmp_path):
    (tmp_path / "half.safetensors").write_bytes(weights.read_bytes()[:100])
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    view = view_of(torch.zeros(1, 2, 96, 96, 3, dtype=torch.uint8))
    for name, message in (("none", "cannot be read"), ("half", "cannot be read"), ("other", "'0.weight' is")):
        encoder = ImageEncoder(ImageCfg(weights=str(tmp_path / f"{name}.safetensors")), (("front", 96, 96),), 2)
        with pytest.raises(CheckpointError, match=message) as caught:
            encoder.prepare(view)
        assert "\n" not in str(caught.value)


# Points.


def cloud_view(points):
    observed = Observed(torch.zeros(len(points), 2, 3), torch.zeros(len(points), 2, 0), points=points)
    return View(observed, torch.zeros(len(points), 2, 3), torch.zeros(len(points), 4))


def test_a_cloud_is_a_set(seen):
    encoder, points = PointEncoder(PointsCfg(), 2), torch.from_numpy(seen.points[[[3, 4], [50, 51]]])
    whole = encoder(cloud_view(points))
    assert whole.shape == (2, 2 * 64)
    torch.testing.assert_close(encoder(cloud_view(points[:, :, torch.randperm(20)])), whole)
    torch.testing.assert_close(encoder(cloud_view(torch.cat([points, points[:, :, :5]], dim=2))), whole)


def test_colours_count_where_they_are_looked_at(seen):
    points = torch.from_numpy(seen.points[[[3, 4], [50, 51]]])
    grey = torch.cat([points[..., :3], torch.full_like(points[..., 3:], 0.5)], dim=-1)
    for color in (True, False):
        encoder = PointEncoder(PointsCfg(color=color), 2)
        assert torch.equal(encoder(cloud_view(points)), encoder(cloud_view(grey))) is not color


# Training.

TRAIN = TrainCfg(
    steps=6, batch_size=8, warmup_steps=1, log_every=2, val_every=3, val_fraction=0.3, device="cpu", threads=1,
    progress=False,
)  # fmt: skip


def test_a_training_is_of_the_pictures_too(seen, tmp_path):
    before = seen.fingerprint()
    first = fit(TRAIN, "diffusion_unet", CFG, seen, tmp_path)
    assert np.isfinite([point.train for point in first.losses]).all()
    darker = replace(seen, images={**seen.images, "side": seen.images["side"] // 2})
    assert darker.fingerprint() != before
    with pytest.raises(ConfigError, match="dataset: "):
        fit(TRAIN, "diffusion_unet", CFG, darker, tmp_path)
    nearer = replace(seen, points=seen.points * np.float32(0.5))
    assert nearer.fingerprint() not in (before, darker.fingerprint())
