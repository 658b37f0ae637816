import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.checkpoint import load_policy
from policies.lerobot.importer import import_pretrained
from robostack.errors import CheckpointError


@pytest.fixture
def saved(lerobot, make, tmp_path, statistics) -> Callable[[str], Path]:
    """What lerobot's training leaves of a policy: its own writers' files."""

    def write(name: str) -> Path:
        policy, folder = make(name), tmp_path / name
        policy.policy.save_pretrained(folder)
        for processor in lerobot.processors[name](policy.policy.config, dataset_stats=statistics):
            processor.save_pretrained(folder)
        return folder

    return write


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["lerobot_act", "lerobot_diffusion"])
def test_an_imported_policy_acts_with_the_bits_of_the_saved_one(saved, make, look, demos, tmp_path, name, act):
    checkpoint = import_pretrained(saved(name), tmp_path / "out", demos.features, task_id="t", language="do it")
    policy, original = load_policy(checkpoint), make(name)
    assert policy.cfg == original.cfg
    assert (policy.task_id, policy.language) == ("t", "do it")
    obs = look(policy, 10, 60)
    np.testing.assert_array_equal(act(policy, obs, [1, 2]), act(original, obs, [1, 2]))


def test_statistics_among_the_weights_are_read_as_older_lerobots_wrote(
    saved, make, look, demos, tmp_path, statistics, act
):
    source = saved("lerobot_diffusion")
    weights = load_file(source / "model.safetensors")
    for key, prefix in (("observation.state", "normalize_inputs"), ("action", "unnormalize_outputs")):
        for name, value in statistics[key].items():
            weights[f"{prefix}.buffer_{key.replace('.', '_')}.{name}"] = torch.tensor(value, dtype=torch.float32)
    for old in source.glob("policy_*"):
        old.unlink()
    save_file(weights, source / "model.safetensors")
    policy = load_policy(import_pretrained(source, tmp_path / "out", demos.features))
    obs = look(policy, 10)
    np.testing.assert_array_equal(act(policy, obs, [1]), act(make("lerobot_diffusion"), obs, [1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f / "config.json", type="smolvla"), "type 'smolvla': only act, diffusion can be used"),
        (lambda f: (f / "config.json").unlink(), "has no config.json.*pretrained_model"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: edit(f / "config.json", down_dims=None), "config.json is damaged"),
        (lambda f: edit(f / "config.json", down_dims=[8, 32]), "model.safetensors does not fit its config.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), r"model.safetensors is damaged \(2 bytes\)"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: [p.unlink() for p in f.glob("policy_*")], "no min and max of 'observation.state', which normalises"),
        (lambda f: save_file({"action.min": torch.zeros(3), "action.max": torch.ones(3)}, next(f.glob("*unnorm*"))),
         "statistics of 'action'.*damaged"),
    ],
)  # fmt: skip
def test_a_directory_that_is_damaged_is_refused_in_one_line(saved, demos, tmp_path, damage, message):
    source = saved("lerobot_diffusion")
    damage(source)
    with pytest.raises(CheckpointError, match=message) as caught:
        import_pretrained(source, tmp_path / "out", demos.features)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_policy_of_other_features_or_of_images_is_refused(saved, demos, tmp_path):
    source = saved("lerobot_diffusion")
    other = replace(demos.features, action=demos.features.action[:7])
    with pytest.raises(CheckpointError, match=r"action: \[10\] there, \[7\] here"):
        import_pretrained(source, tmp_path / "out", other)
    inputs = json.loads((source / "config.json").read_text())["input_features"]
    edit(
        source / "config.json", input_features=inputs | {"observation.image": {"type": "VISUAL", "shape": [3, 96, 96]}}
    )
    with pytest.raises(CheckpointError, match=r"looks at images \(observation.image\)"):
        import_pretrained(source, tmp_path / "out", demos.features)
    shutil.rmtree(source)
    with pytest.raises(CheckpointError, match="has no config.json"):
        import_pretrained(source, tmp_path / "out", demos.features)
