"""From demonstrations with pictures and point clouds to policies that act by them, with the command line."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from robostack.cli import main

SMALL = ("n=2", "workers=1", "cameras=[front]", "image_size=64", "points=64", "progress=false")
SIZES = ("policy.steps=4", "policy.batch_size=4", "policy.threads=1", "policy.network.down_dims=[8,16]")


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    root = tmp_path_factory.mktemp("look")
    assert main(["gen", "put the red cube in the bowl", "robot=panda", f"out={root / 'g'}"]) == 0
    assert main(["demos", f"task={root / 'g'}", *SMALL, f"out={root / 'd'}"]) == 0
    return root / "d"


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["diffusion_unet_image", "diffusion_unet_points"])
def test_a_policy_that_looks_is_trained_and_evaluated(demos, tmp_path, capsys, policy):
    train = ["train", f"dataset={demos}", f"policy={policy}", *SIZES, f"out={tmp_path / 't'}", "progress=false"]
    assert main(train) == 0
    checkpoint = tmp_path / "t" / "policy" / "checkpoint"
    part = policy.rpartition("_")[2].replace("image", "images")
    assert any(name.startswith(f"{part}.") for name in load_file(checkpoint / "model.safetensors"))
    evaluate = ["eval", f"checkpoint={tmp_path / 't'}", "n=2", "workers=1", f"out={tmp_path / 'e'}", "progress=false"]
    assert main(evaluate) == 0
    assert "/2 succeeded" in capsys.readouterr().out
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["stages"]["evaluate"]["n"] == 2


@pytest.mark.slow
def test_a_dataset_without_the_camera_is_one_line(demos, tmp_path, capsys):
    train = ["train", f"dataset={demos}", "policy=diffusion_unet_image", "policy.image.cameras=[side]"]
    assert main([*train, f"out={tmp_path / 't'}", "progress=false"]) == 2
    assert "no pictures of camera 'side', only of: front" in capsys.readouterr().err


@pytest.mark.slow
def test_clouds_that_are_damaged_are_one_line(demos, tmp_path, capsys):
    path = demos / "dataset" / "points.npy"
    whole = path.read_bytes()
    broken = np.load(path)
    broken[7, 3, 1] = np.nan
    train = ["train", f"dataset={demos}", "policy=diffusion_unet_points", f"out={tmp_path / 't'}", "progress=false"]
    try:
        np.save(path, broken)
        assert main(train) == 2
    finally:
        path.write_bytes(whole)
    assert "a point of the cloud in episode 0 (row 7) is not finite" in capsys.readouterr().err
