import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies import export
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.export import ABOUT, GRAPH, export_policy
from policies.goals import GoalCfg
from policies.networks.transformer import TransformerCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.text import TextCfg
from policies.zoo import POLICIES
from robostack.cli import main
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError
from robostack.types import Features

UNET = DiffusionCfg(Tp=8, Ta=4, encoder=(16,), network=UnetCfg((8, 16), kernel=3, groups=4, step_dim=8))
TRANSFORMER = DiffusionTransformerCfg(Tp=7, Ta=4, To=3, per_step=False, network=TransformerCfg(1, 2, 32))


def checkpoint_of(cfg, arrays, path):
    torch.manual_seed(0)
    policy = DiffusionPolicy(cfg, arrays.features)
    policy.fit_statistics(arrays, SequenceSampler(arrays.ends, cfg.To, cfg.Tp))
    for name, p in policy.model.named_parameters():
        torch.nn.init.normal_(p, std=0.1, mean=float("norm" in name and name.endswith("weight")))
    name = "diffusion_unet" if isinstance(cfg.network, UnetCfg) else "diffusion_transformer"
    return save_checkpoint(path, policy, name, step=1, metrics={})


@pytest.fixture(scope="module")
def checkpoint(demos, tmp_path_factory):
    return checkpoint_of(UNET, demos, tmp_path_factory.mktemp("unet") / "checkpoint")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    return export_policy(checkpoint, tmp_path_factory.mktemp("robot"), sampler="ddim10")


ROBOT = """
import json, sys
import numpy as np
import onnxruntime
folder = sys.argv[1]
about = json.load(open(f"{folder}/policy.json"))
session = onnxruntime.InferenceSession(f"{folder}/policy.onnx")
seen = np.load(f"{folder}/seen.npz")
assert set(seen) == set(about["inputs"])
(actions,) = session.run(["actions"], dict(seen))
assert "torch" not in sys.modules and "robostack" not in sys.modules
np.save(f"{folder}/actions.npy", actions)
"""


def test_a_robot_without_torch_acts_like_the_policy(exported, checkpoint, demos, tmp_path):
    folder = exported.graph.parent
    policy = load_policy(checkpoint)
    rows = np.array([[4, 5], [49, 50]])
    noise = policy.noise([seeded(1), seeded(2)]).draw().numpy()
    np.savez(folder / "seen.npz", state=demos.state[rows], environment_state=demos.environment_state[rows], noise=noise)
    done = subprocess.run([sys.executable, "-c", ROBOT, str(folder)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with torch.inference_mode():
        state, objects = torch.from_numpy(demos.state[rows]), torch.from_numpy(demos.environment_state[rows])
        expected = policy.sample(Observed(state, objects), policy.noise([seeded(1), seeded(2)]))[0][:, 1:].numpy()
    np.testing.assert_allclose(np.load(folder / "actions.npy"), expected, atol=1e-5)


def test_the_page_beside_the_graph_says_what_it_takes(exported, checkpoint, demos):
    about = json.loads(exported.about.read_text())
    assert about["graph"]["sha256"] == hashlib.sha256(exported.graph.read_bytes()).hexdigest()
    assert about["weights"] == load_policy(checkpoint).origin.weights
    assert Features.from_dict(about["features"]) == demos.features
    assert about["inputs"]["noise"]["shape"] == ["lanes", 8, 10]
    assert about["outputs"]["actions"]["shape"] == ["lanes", 7, 10]
    assert about["sampler"]["levels"] == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert 0 < about["difference"]["largest"] == exported.difference < 1e-5
    assert exported.evaluations == 10


def test_the_same_weights_give_the_same_bytes_with_nothing_of_this_machine(exported, checkpoint, tmp_path, caplog):
    with caplog.at_level("INFO"):
        again = export_policy(checkpoint, tmp_path / "again", sampler="ddim10")
    assert [record.name for record in caplog.records if "onnx" in record.name] == []
    assert again.graph.read_bytes() == exported.graph.read_bytes()
    assert again.about.read_bytes() == exported.about.read_bytes()
    assert b"policies/" not in exported.graph.read_bytes()
    assert b"site-packages" not in exported.graph.read_bytes()


def without_objects(demos):
    features = Features(demos.features.state, (), demos.features.action, (), "ee_pose", 20.0, "toy")
    nothing = np.zeros((len(demos.state), 0), np.float32)
    return EpisodeArrays(demos.state, nothing, demos.action, demos.ends, features, "toy", "pick")


def test_a_task_without_objects_has_no_input_for_them(demos, tmp_path):
    checkpoint = checkpoint_of(UNET, without_objects(demos), tmp_path / "checkpoint")
    exported = export_policy(checkpoint, tmp_path / "robot", sampler="ddim5")
    assert set(json.loads(exported.about.read_text())["inputs"]) == {"state", "noise"}


@pytest.mark.parametrize("sampler", ["rti5", "ddpm100"])
def test_samplers_that_are_more_than_one_graph_are_refused(checkpoint, tmp_path, sampler):
    with pytest.raises(ConfigError, match=f"sampler={sampler} .* ddim10 or dpmpp5") as error:
        export_policy(checkpoint, tmp_path / "robot", sampler=sampler)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "robot").exists()


def test_other_policies_are_refused(demos, tmp_path):
    record = POLICIES["beso"]
    policy = record.build(record.cfg(), demos.features)
    save_checkpoint(tmp_path / "beso", policy, "beso", step=1, metrics={})
    with pytest.raises(ConfigError, match="holds a BesoPolicy: only diffusion policies"):
        export_policy(tmp_path / "beso", tmp_path / "robot", sampler="own")


def test_policies_that_are_told_more_than_states_are_refused(demos, tmp_path):
    cfg = replace(UNET, text=TextCfg(width=8), goal=GoalCfg(width=8))
    told = checkpoint_of(cfg, demos, tmp_path / "told")
    with pytest.raises(ConfigError, match=r"more than states \(text, goal\): only policies of states") as error:
        export_policy(told, tmp_path / "robot", sampler="ddim10")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "robot").exists()


@pytest.mark.parametrize("wrong", [lambda a: a + 0.01, lambda a: a * np.nan])
def test_a_graph_that_acts_otherwise_is_not_written(exported, checkpoint, tmp_path, monkeypatch, wrong):
    opened = export.open_session

    class Wrong:
        def __init__(self, *args):
            self.session = opened(*args)

        def run(self, *args):
            return [wrong(a) for a in self.session.run(*args)]

    monkeypatch.setattr(export, "open_session", Wrong)
    monkeypatch.setattr(export, "graph_of", lambda *_: exported.graph.read_bytes())
    with pytest.raises(CheckpointError, match="differ from the policy's by .*: nothing was written"):
        export_policy(checkpoint, tmp_path / "robot", sampler="ddim10")
    assert not (tmp_path / "robot").exists()


def test_the_verb_exports_a_transformer_and_its_solver_of_second_order(demos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint_of(TRANSFORMER, demos, tmp_path / "checkpoint")
    assert main(["export", "checkpoint=checkpoint", "sampler=dpmpp5", "out=robot"]) == 0
    assert {GRAPH, ABOUT, "metrics.json", "config.yaml"} <= {path.name for path in (tmp_path / "robot").iterdir()}
    assert "differs from the policy by" in capsys.readouterr().out
    assert json.loads((tmp_path / "robot" / ABOUT).read_text())["difference"]["largest"] < 1e-5


def test_the_verb_refuses_in_one_line(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"checkpoint={checkpoint}", "sampler=rti5", "out=other"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
