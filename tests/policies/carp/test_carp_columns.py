import hashlib
import json

import numpy as np
import pytest
import torch
import yaml

from policies.carp import CarpCfg, CarpPolicy
from policies.carp.columns import ActionColumns
from policies.carp.gpt import GptCfg
from policies.carp.tokenizer import TokenizerCfg
from policies.checkpoint import load_policy, save_checkpoint
from robostack.data.sequence import SequenceSampler

CFG = CarpCfg(
    Tp=8, Ta=4, encoder=(), tokenizer=TokenizerCfg(patches=(1, 2), codes=16), network=GptCfg(depth=1, width=16, heads=2)
)


def turning_about_the_vertical(count=50):
    """Position, two columns of a rotation matrix, gripper."""
    g = torch.Generator().manual_seed(0)
    position, gripper = torch.rand(count, 3, generator=g), torch.randint(2, (count, 1), generator=g).float()
    yaw = 6 * torch.rand(count, generator=g) - 3
    c, s, zero = yaw.cos(), yaw.sin(), torch.zeros(count)
    return torch.cat([position, torch.stack([c, s, zero, s, -c, zero], dim=1), gripper], dim=1)


def carp(demos):
    torch.manual_seed(0)
    policy = CarpPolicy(CFG, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, CFG.To, CFG.Tp))
    return policy.eval()


def decide(policy, obs):
    policy.reset(np.ones(1, bool), np.zeros(1, np.int64))
    return policy.infer(obs).actions


def test_a_gripper_that_turns_about_the_vertical_needs_six_of_ten_columns():
    actions = turning_about_the_vertical()
    columns = ActionColumns.of(actions)
    assert columns.kept == (0, 1, 2, 3, 4, 9)
    assert columns.sign == (1, 1, 1, 1, 1, 0, 1, -1, 0, 1)
    assert torch.equal(columns.widen(columns.narrow(actions)), actions)


def test_columns_of_their_own_are_all_kept():
    actions = torch.randn(20, 4, 7, generator=torch.Generator().manual_seed(0))
    assert ActionColumns.of(actions) == ActionColumns.all(7)


def test_a_column_that_differs_once_is_kept():
    actions = turning_about_the_vertical(1000)
    actions[500, 6] += 0.01
    actions[7, 8] = 0.01
    assert ActionColumns.of(actions).kept == (0, 1, 2, 3, 4, 6, 8, 9)


def test_constants_are_given_back_and_one_column_stays_where_nothing_moves():
    still = torch.tensor([0.5, -1.0, 0.0]).expand(6, 8, 3)
    columns = ActionColumns.of(still)
    assert columns.kept == (0,)
    assert torch.equal(columns.widen(torch.randn(6, 8, 1)), still)


@pytest.mark.parametrize("sampler", ["argmax", "sampled", "expected"])
def test_columns_that_say_the_same_agree_in_every_decision(demos, observe, sampler):
    policy = carp(demos)
    policy.use_sampler(sampler)
    assert len(policy.columns.kept) < 10
    actions = torch.from_numpy(decide(policy, observe(40)))
    assert actions.shape[2] == 10
    torch.testing.assert_close(actions[..., 4], actions[..., 6])  # Rotations look to the network as they are.
    torch.testing.assert_close(actions[..., 3], -actions[..., 7])


def test_a_checkpoint_keeps_the_columns_and_one_without_them_predicts_all(demos, observe, tmp_path):
    policy = carp(demos)
    kept = save_checkpoint(tmp_path / "kept", policy, "carp", step=1, metrics={})
    again = load_policy(kept)
    assert again.columns == policy.columns
    np.testing.assert_array_equal(decide(again, observe(40)), decide(policy, observe(40)))

    torch.manual_seed(0)
    before = save_checkpoint(tmp_path / "all", CarpPolicy(CFG, demos.features), "carp", step=1, metrics={})
    config = yaml.safe_load((before / "config.yaml").read_text())
    assert config["found"]["columns"]["kept"] == list(range(10))
    without_what_was_found(before, config)
    assert load_policy(before).columns == ActionColumns.all(10)


def without_what_was_found(path, config):
    """As checkpoints were before columns were left out."""
    text = yaml.safe_dump({k: v for k, v in config.items() if k != "found"}, sort_keys=False).encode()
    (path / "config.yaml").write_bytes(text)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["config.yaml"] = hashlib.sha256(text).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
