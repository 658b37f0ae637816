"""What a policy is shown in an evaluation is what a dataset showed it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from policies.vision import ImageCfg, PointsCfg
from robostack.errors import CheckpointError, ConfigError, RobostackError, UnknownName
from robostack.evaluation.environment import EvaluationEnv, make_env, task_features
from robostack.evaluation.rollouts import evaluate
from robostack.sim.replay import camera_source, cloud_source
from robostack.sim.scene import eval_seed
from robostack.task.benchmark import PushTTask
from robostack.types import Episode
from simgen.propose import propose

FRONT, POINTS = ("front", 32, 48), 64
CFG = DiffusionCfg(
    network=UnetCfg(down_dims=(8, 16), kernel=3, step_dim=16), encoder=(), sampler="ddim5",
    image=ImageCfg(keypoints=4, width=8), points=PointsCfg(hidden=(8, 16), width=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def spec():
    return propose("put the red cube in the bowl", "panda").model_copy(update={"horizon_s": 1.0})


@pytest.fixture(scope="module")
def watched(spec):
    """Observations of a few moves in a scene, and the episode that a demonstration would have recorded of them."""
    env = make_env(spec, (FRONT, ("overhead", 24, 24)), POINTS)
    assert isinstance(env, EvaluationEnv)
    seed, seen, qpos = eval_seed(3), [], []
    env.reset_scene(seed)
    for step in range(6):
        seen.append(env.observe())
        qpos.append(env.configuration)
        env.apply(seen[-1].state + np.float32([0.02 * (step % 3), 0.01, -0.01, 0, 0, 0, 0, 0, 0, -0.1]))
    rows = {name: np.stack([getattr(o, name) for o in seen]) for name in ("state", "environment_state")}
    episode = Episode(
        spec.id, seed, "", np.zeros(1), np.zeros((6, 1)), np.stack(qpos), **rows, action=rows["state"], success=True,
        first_success_s=0.0, final_sha="",
    )  # fmt: skip
    yield seen, episode
    env.close()


def test_pictures_in_an_evaluation_are_those_of_a_dataset(spec, watched):
    seen, episode = watched
    frames = camera_source(spec, [FRONT, ("overhead", 24, 24)])(episode)
    for name, video in frames.items():
        np.testing.assert_array_equal(np.stack([o.images[name] for o in seen]), video)
        assert np.abs(video[0].astype(int) - video[-1]).max() > 0


def test_clouds_in_an_evaluation_are_those_of_a_dataset(spec, watched):
    seen, episode = watched
    clouds = cloud_source(spec, POINTS)(episode)
    assert clouds.shape == (6, POINTS, 6)
    np.testing.assert_array_equal(np.stack([o.points for o in seen]), clouds)
    assert clouds[..., 3:].min() >= 0
    assert clouds[..., 3:].max() <= 1


def test_the_features_say_what_is_shown(spec, watched):
    features = task_features(spec, (FRONT,), POINTS)
    assert (features.cameras, features.points) == ((FRONT,), POINTS)
    assert replace(features, cameras=(), points=0) == task_features(spec)


def test_the_table_is_not_among_the_points(watched):
    seen, _ = watched
    assert np.mean(seen[0].points[:, 2] > 2e-3) > 0.9


def save(features, path, cfg=CFG):
    torch.manual_seed(0)
    return save_checkpoint(path / "checkpoint", DiffusionPolicy(cfg, features), "diffusion_unet", step=0, metrics={})


def run(spec, checkpoint, out, **changes):
    settings = {"n": 1, "seed": 0, "workers": 1, "sampler": "own", "execution": "sync", "latency": "none"} | changes
    target = "policies.checkpoint.load_policy"
    return evaluate(spec, checkpoint, load_policy_target=target, out_dir=out, progress=False, **settings)


def test_an_evaluation_renders_what_the_checkpoint_names(spec, tmp_path):
    checkpoint = save(task_features(spec, (FRONT,), POINTS), tmp_path)
    loaded = load_policy(checkpoint).features
    assert (loaded.cameras, loaded.points, loaded.environment_state) == ((FRONT,), POINTS, ())
    report = run(spec, checkpoint, tmp_path / "a")
    assert report.decisions >= 1
    np.testing.assert_array_equal(report.rollouts[0].qpos, run(spec, checkpoint, tmp_path / "b").rollouts[0].qpos)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cameras": (("wrist", 32, 32),)}, UnknownName, "unknown camera 'wrist': .*front"),
        (
            {"state": ("ee.x", "ee.y"), "action": ("ee.x", "ee.y")},
            CheckpointError,
            "trained for another setting .state",
        ),
    ],
)
def test_a_checkpoint_that_needs_another_setting_is_refused_at_once(spec, tmp_path, change, error, message):
    features = replace(task_features(spec, (FRONT,), POINTS), **change)
    cfg = replace(CFG, image=replace(CFG.image, cameras=tuple(camera[0] for camera in features.cameras)))
    with pytest.raises(error, match=message) as caught:
        run(spec, save(features, tmp_path, cfg), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_pusht_is_seen_from_above_and_has_no_points():
    pytest.importorskip("gym_pusht")
    env = make_env(PushTTask(), (("overhead", 32, 32),))
    image = env.observe().images["overhead"]
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert env.features == task_features(PushTTask(), (("overhead", 32, 32),))
    refused: list[tuple[type[RobostackError], dict]] = [
        (UnknownName, {"cameras": (("front", 32, 32),)}),
        (ConfigError, {"points": 64}),
    ]
    for error, wanted in refused:
        with pytest.raises(error):
            make_env(PushTTask(), **wanted)
    with pytest.raises(ConfigError, match="no point clouds"):
        cloud_source(PushTTask(), 64)
