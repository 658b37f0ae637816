import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from policies.checkpoint import CONFIG, MANIFEST, WEIGHTS, load_policy, require_features, save_checkpoint
from robostack.errors import CheckpointError, DeviceUnavailable, StorageError, UnknownName


@pytest.fixture
def saved(policy, tmp_path):
    policy.task_id, policy.language = "0123456789abcdef", "pick the red cube"
    return save_checkpoint(tmp_path / "ckpt", policy, "diffusion_unet", step=7, metrics={"val_loss": 0.5})


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_loaded_policy_acts_like_the_saved_one(saved, policy, observe):
    loaded = load_policy(saved)
    for p in (policy, loaded):
        p.reset(np.ones(2, bool), np.array([1, 2]))
    np.testing.assert_array_equal(loaded.infer(observe(3, 70)).actions, policy.infer(observe(3, 70)).actions)
    assert (loaded.task_id, loaded.language) == ("0123456789abcdef", "pick the red cube")
    assert loaded.features == policy.features


def test_the_directory_holds_three_files_and_the_manifest_describes_them(saved):
    assert sorted(p.name for p in saved.iterdir()) == sorted([WEIGHTS, CONFIG, MANIFEST])
    manifest = json.loads((saved / MANIFEST).read_text())
    assert (manifest["version"], manifest["step"], manifest["metrics"]) == (1, 7, {"val_loss": 0.5})
    assert set(manifest["sha256"]) == {WEIGHTS, CONFIG}
    assert [p.name for p in saved.parent.iterdir()] == ["ckpt"]


def test_the_sampler_can_be_chosen_at_load(saved):
    assert load_policy(saved, sampler="ddpm100").sampler.steps == 100
    with pytest.raises(UnknownName, match="ddim10"):
        load_policy(saved, sampler="ddim11")


def test_an_absent_checkpoint_says_how_to_get_one(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at .*robostack train"):
        load_policy(tmp_path / "nothing")


def test_a_foreign_directory_is_not_a_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=f"not a robostack checkpoint.*no {MANIFEST}"):
        load_policy(tmp_path)


def test_a_pickle_is_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save(Bomb(), tmp_path / "latest.ckpt")
    for path in (tmp_path, tmp_path / "latest.ckpt"):
        with pytest.raises(CheckpointError, match="'latest.ckpt' is a pickle, which is never loaded"):
            load_policy(path)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_truncated_file_is_detected(saved, name):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_policy(saved)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_policy(saved)


def test_a_damaged_manifest_is_detected(saved):
    (saved / MANIFEST).write_text('{"format": "robosta')
    with pytest.raises(CheckpointError, match="damaged"):
        load_policy(saved)


def test_a_newer_format_asks_for_an_upgrade(saved):
    edit(saved / MANIFEST, lambda m: m.update(version=2))
    with pytest.raises(CheckpointError, match="format version 2.*upgrade"):
        load_policy(saved)


def test_a_manifest_of_another_program_is_refused(saved):
    edit(saved / MANIFEST, lambda m: m.update(format="other"))
    with pytest.raises(CheckpointError, match="another program"):
        load_policy(saved)


def rewrite_config(saved, **changes):
    import hashlib

    config = yaml.safe_load((saved / CONFIG).read_text()) | changes
    data = yaml.safe_dump(config).encode()
    (saved / CONFIG).write_bytes(data)
    edit(saved / MANIFEST, lambda m: m["sha256"].update({CONFIG: hashlib.sha256(data).hexdigest()}))


def test_an_unknown_policy_lists_the_known_ones(saved):
    rewrite_config(saved, policy="act")
    with pytest.raises(CheckpointError, match="unknown policy 'act'.*diffusion_unet"):
        load_policy(saved)


def test_weights_of_another_size_are_refused(saved):
    cfg = yaml.safe_load((saved / CONFIG).read_text())["cfg"]
    rewrite_config(saved, cfg=cfg | {"network": cfg["network"] | {"step_dim": 16}})
    with pytest.raises(CheckpointError, match="weights do not fit"):
        load_policy(saved)


def test_other_features_are_named(policy, demos):
    require_features(policy, demos.features)
    with pytest.raises(CheckpointError, match=r"rate_hz: 20.0 != 10.0"):
        require_features(policy, replace(demos.features, rate_hz=10.0))


def test_a_directory_of_something_else_is_not_overwritten(policy, tmp_path):
    (tmp_path / "precious").mkdir()
    with pytest.raises(CheckpointError, match="not overwritten"):
        save_checkpoint(tmp_path / "precious", policy, "diffusion_unet", step=0, metrics={})


def test_saving_again_replaces_the_checkpoint(saved, policy):
    save_checkpoint(saved, policy, "diffusion_unet", step=8, metrics={})
    assert json.loads((saved / MANIFEST).read_text())["step"] == 8
    assert [p.name for p in saved.parent.iterdir()] == ["ckpt"]


def test_a_full_disk_keeps_the_old_checkpoint(saved, policy, full_disk):
    with full_disk(10_000), pytest.raises(StorageError, match="what was finished is kept"):
        save_checkpoint(saved, policy, "diffusion_unet", step=8, metrics={})
    assert json.loads((saved / MANIFEST).read_text())["step"] == 7
    load_policy(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["ckpt"]


def test_cuda_on_a_machine_without_it_is_refused(saved, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailable):
        load_policy(saved, device="cuda")


def test_the_own_sampler_is_the_one_of_the_checkpoint(policy, tmp_path):
    path = save_checkpoint(tmp_path / "c", policy, "diffusion_unet", step=0, metrics={})
    assert load_policy(path, sampler="own").sampler == policy.sampler
    assert load_policy(path, sampler="ddim1").sampler != policy.sampler
