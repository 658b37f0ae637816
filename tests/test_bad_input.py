"""Bad input, end to end: what a user gets wrong is one line with a fix on stderr, exit code 2, and nothing is lost."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load, save

from policies.accel.calibrate import save_block_plans
from policies.accel.rti_auto import CalibrationCfg, calibrate, save_plan
from policies.base import cfg_from_dict
from policies.checkpoint import save_checkpoint
from policies.zoo import POLICIES
from robostack.cli import main
from robostack.data.lerobot_io import export_lerobot, load_arrays
from robostack.data.raw import RawStore, StoreInfo
from robostack.data.sequence import SequenceSampler
from robostack.sim.observe import features
from robostack.sim.scene import Scene
from robostack.types import Episode
from simgen.propose import propose

SENTENCE = "push the red cube to the blue zone"
TINY = {
    "diffusion_transformer": {
        "Tp": 8, "Ta": 4, "encoder": [], "diffusion_steps": 20, "network": {"n_layer": 1, "n_head": 2, "n_emb": 16},
    },
    "diffusion_unet": {
        "Tp": 8, "Ta": 4, "encoder": [], "diffusion_steps": 20,
        "network": {"down_dims": [8], "kernel": 3, "groups": 4, "step_dim": 8},
    },
    "carp": {
        "Tp": 8, "Ta": 4, "encoder": [], "tokenizer": {"patches": [1, 2], "codes": 8},
        "network": {"depth": 1, "width": 16, "heads": 2},
    },
    "lerobot_act": {
        "chunk_size": 8, "n_action_steps": 4, "dim_model": 16, "n_heads": 2, "dim_feedforward": 16,
        "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Good input in a folder; a test damages a copy."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def task(self) -> Path:
        return self.root / "task.json"

    def checkpoint(self, name: str = "diffusion_transformer") -> Path:
        return self.root / "checkpoints" / name


def demonstration(spec, names, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    columns = {kind: len(getattr(names, kind)) for kind in ("state", "environment_state", "action")}
    walks = {kind: rng.normal(size=(30, width)).cumsum(0) / 100 for kind, width in columns.items()}
    rest = {"state0": np.zeros(5), "ctrl": np.zeros((30, 3)), "qpos": np.zeros((30, 4)), "final_sha": "f" * 64}
    outcome = {"success": True, "first_success_s": 0.5, "language": spec.instruction.text}
    return Episode(task_id=spec.id, seed=seed, **walks, **rest, **outcome)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Inputs:
    """A task, its dataset, and checkpoints of several policies with everything that belongs to them."""
    inputs = Inputs(tmp_path_factory.mktemp("good"))
    spec = propose(SENTENCE, "panda")
    names = features(Scene(spec))
    inputs.task.write_text(spec.to_json())
    store = RawStore(inputs.root / "store", StoreInfo(spec.id, names, spec.instruction.text))
    for seed in range(4):
        store.save(demonstration(spec, names, seed))
    export_lerobot(store, inputs.dataset, "robostack/push", round(spec.robot.control_hz))
    shutil.rmtree(store.directory)
    arrays = load_arrays(inputs.dataset)
    for name, values in TINY.items():
        torch.manual_seed(0)
        policy = POLICIES[name].build(cfg_from_dict(POLICIES[name].cfg, values), names).eval()
        policy.fit_statistics(arrays, SequenceSampler(arrays.ends, policy.horizon.To, policy.horizon.Tp))
        policy.task_id, policy.language = spec.id, spec.instruction.text
        path = save_checkpoint(inputs.checkpoint(name), policy, name, step=1, metrics={})
        if name.startswith("diffusion"):
            plan = calibrate(policy, arrays, CalibrationCfg(C_max=1e9, tol=1e9, tol_binary=1.0, pairs=2))
            save_plan(path, plan)
            save_block_plans(path, policy, arrays, plan.sampler())
    return inputs


@pytest.fixture
def inputs(good, tmp_path, monkeypatch):
    """A copy to damage, in a folder where commands run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good.root, tmp_path / "inputs")
    before = content(good.root)
    yield Inputs(tmp_path / "inputs")
    assert content(good.root) == before


def content(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


# Damages.


def forge(path: Path, edit: Callable[[dict], object] | bytes) -> None:
    """Change a checkpoint's weights, and its manifest accordingly."""
    file = path / "model.safetensors"
    if isinstance(edit, bytes):
        file.write_bytes(edit)
    else:
        weights = load(file.read_bytes())
        edit(weights)
        file.write_bytes(save(weights))
    change(path / "manifest.json", lambda m: m["sha256"].update({file.name: sha(file)}))


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def change(file: Path, edit: Callable[[dict], object]) -> None:
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def poison(dataset: Path, column: str, value: float) -> None:
    file = next((dataset / "data").rglob("*.parquet"))
    table = pq.read_table(file)
    values = np.stack(table[column].to_pylist()).astype(np.float32)
    values[17, 1] = value
    index, field = table.schema.get_field_index(column), table.schema.field(column)
    pq.write_table(table.set_column(index, field, pa.array(values.tolist(), field.type)), file)


def another(inputs: Inputs, **values) -> str:
    spec = propose(SENTENCE, values.pop("robot", "panda"))
    if mode := values.pop("control_mode", None):
        spec = spec.model_copy(update={"robot": spec.robot.model_copy(update={"control_mode": mode})})
    (inputs.root / "other.json").write_text(spec.model_copy(update=values).to_json())
    return f"task={inputs.root / 'other.json'}"


# Cases: what is done to the inputs; the command; what the line says.

Damage = Callable[[Inputs], object]


def nothing(inputs: Inputs) -> None:
    del inputs


TRAIN = [
    ("nan", lambda i: poison(i.dataset, "action", np.nan), [], r"action 'ee.y' is nan in episode 0 \(row 17\)"),
    ("infinity", lambda i: poison(i.dataset, "observation.state", np.inf), [],
     r"state 'ee.y' is inf in episode 0 \(row 17\): drop that episode"),
    ("no rows", lambda i: shutil.rmtree(i.dataset / "data"), [], r"dataset.*robostack demos"),
    ("half a file", lambda i: truncate(next((i.dataset / "data").rglob("*.parquet"))), [],
     r"file-000.parquet.* is half-written or damaged"),
    ("half a description", lambda i: truncate(i.dataset / "meta/info.json"), [], r"info.json"),
    ("indivisible", nothing, ["policy.Tp=15"], r"Tp=15.*divisible|divisible.*Tp=15"),
    ("indivisible stream", nothing, ["policy=streaming", "policy.Tp=16"], r"Tp >= 17"),
    ("indivisible tokens", nothing, ["policy=carp", "policy.Tp=18"], r"Tp"),
    ("indivisible lerobot", nothing, ["policy=lerobot_diffusion", "policy.horizon=15"], r"use 16"),
    ("no gpu", nothing, ["device=cuda"], r"cuda.*cpu"),
    ("K beyond", nothing, ["policy.diffusion_steps=5"], r"10 sampling steps.*trained with 5"),
    ("unknown policy", nothing, ["policy=difusion_unet"], r"did you mean 'diffusion_unet'"),
]  # fmt: skip

EVAL = [
    ("no checkpoint", lambda i: shutil.rmtree(i.checkpoint()), [], r"no checkpoint at"),
    ("newer", lambda i: change(i.checkpoint() / "manifest.json", lambda m: m.update(version=99)), [], r"version 99"),
    ("foreign", lambda i: change(i.checkpoint() / "manifest.json", lambda m: m.update(format="x")), [], r"not a robo"),
    ("half a manifest", lambda i: truncate(i.checkpoint() / "manifest.json"), [], r"manifest.json is damaged"),
    ("half the weights", lambda i: truncate(i.checkpoint() / "model.safetensors"), [], r"model.safetensors is damaged"),
    ("no weights", lambda i: (i.checkpoint() / "model.safetensors").unlink(), [], r"has no model.safetensors"),
    ("no tensors", lambda i: forge(i.checkpoint(), b"nothing"), [], r"holds no tensors"),
    ("no normaliser", lambda i: forge(i.checkpoint(), lambda w: [w.pop(n) for n in list(w) if "action_norm" in n]), [],
     r"has no normaliser \(action_norm\)"),
    ("no layer", lambda i: forge(i.checkpoint(), lambda w: w.pop("model.head.weight")), [], r"no model.head.weight"),
    ("other width", lambda i: forge(i.checkpoint(), lambda w: w.update({"model.head.bias": torch.zeros(3)})), [],
     r"model.head.bias is \(3,\), not \(10,\)"),
    ("pickle", lambda i: [(i.checkpoint() / "manifest.json").unlink(), (i.checkpoint() / "a.pt").touch()], [],
     r"'a.pt' is a pickle, which is never loaded"),
    ("other sizes", lambda i: overwrite(i.checkpoint() / "config.yaml", "n_emb: 16", "n_emb: 32"), [], r"damaged"),
    ("other robot", lambda i: another(i, robot="ur5e"), ["task=inputs/other.json"], r"robot: panda != ur5e"),
    ("other action", lambda i: another(i, control_mode="joint_pos"), ["task=inputs/other.json"], r"another setting"),
    ("other task", lambda i: another(i, name="elsewhere"), ["task=inputs/other.json"], r"another task.*any_task=true"),
    ("K beyond", nothing, ["sampler=ddim50"], r"50 sampling steps.*trained with 20"),
    ("other family", nothing, ["sampler=beso3"], r"unknown sampler 'beso3':.* Available: bac, ddim1, .*rti"),
    ("unknown sampler", nothing, ["sampler=ddin10"], r"did you mean 'ddim10'"),
    ("unknown execution", nothing, ["execution=snyc"], r"did you mean 'sync'"),
    ("unknown acceleration", nothing, ["accelerate=tensorrt"], r"unknown accelerate 'tensorrt'.*native"),
    ("unknown latency", nothing, ["latency=soon"], r"latency"),
    ("no plan", lambda i: (i.checkpoint() / "plan_bac.json").unlink(), ["sampler=bac"], r"has no plan.*calibrate"),
    ("half a plan", lambda i: truncate(i.checkpoint() / "plan_bac.json"), ["sampler=bac"], r"damaged.*calibrate again"),
    ("no rti plan", lambda i: (i.checkpoint() / "rti.json").unlink(), ["sampler=rti"], r"has no rti.json"),
    ("half an rti plan", lambda i: truncate(i.checkpoint() / "rti.json"), ["sampler=rti_bac"], r"rti.json is damaged"),
    ("half a tick plan", lambda i: truncate(i.checkpoint() / "plan_rti_bac_ticks.json"), ["sampler=rti_bac_ticks"],
     r"damaged.*calibrate again"),
    *[(f"other weights for {name}", lambda i: forge(i.checkpoint(), lambda w: w["model.head.bias"].add_(1)),
       [f"sampler={name}"], message)
      for name, message in (("bac", "made for weights .*calibrate again"), ("rti", "other weights.*calibrate"),
                            ("rti_bac_ticks", "other weights.*calibrate"))],
    ("plan of another sampler",
     lambda i: overwrite(i.checkpoint() / "plan_bac.json", "DDIM(steps=10", "DDIM(steps=20"), ["sampler=bac"],
     r"made for sampler .*calibrate again"),
]  # fmt: skip

OF_OTHERS = [
    ("diffusion_unet", ["sampler=bac"], r"diffusion_transformer|transformer"),
    ("carp", ["accelerate=native"], r"accelerate=native is not to be had"),
    ("carp", ["sampler=ddim10"], r"unknown sampler 'ddim10'.* Available: argmax, cool, expected, sampled, top_k5"),
    ("lerobot_act", ["sampler=ddim10"], r"unknown sampler 'ddim10'.* Available: direct"),
    ("lerobot_act", ["execution=rtc"], r"rtc"),
]

RUN = [
    (["policy=diffusion_transformer", "sampler=beso3"], r"unknown sampler 'beso3'"),
    (["policy=beso", "sampler=ddim10"], r"unknown sampler 'ddim10'.*beso3"),
    (["sampler=bac"], r"policy=diffusion_transformer"),
    (["policy.diffusion_steps=50", "sampler=ddim100"], r"100 sampling steps.*trained with 50"),
    (["policy=beso", "policy.goal=none", "sampler=beso3_goal"], r"goals"),
    (["policy.Tp=15"], r"divisible"),
    (["device=cuda"], r"cuda.*cpu"),
    (["robot=pnada"], r"did you mean 'panda'"),
]

BENCH = [
    (["suite=huge"], r"unknown option of suite 'huge'.*full, small"),
    (["policies=[unnet]"], r"no policy 'unnet': it has unet"),
    (["tasks=[pull]"], r"no task 'pull'"),
    (["policies=[unet]", "suite.cells=['unet:beso3:sync']"], r"cell 'unet:beso3:sync'.*unknown sampler 'beso3'"),
    (["policies=[unet]", "suite.cells=['unet:bac:sync']"], r"cell 'unet:bac:sync'.*diffusion_transformer"),
    (["policies=[unet]", "suite.cells=['unet:ddim10:later']"], r"unknown execution.*'later'.*sync"),
    (["policies=[unet]", "suite.policies.unet.policy=unett"], r"policy 'unet' of the suite|unett"),
]

CONVERT = [
    (["lerobot=nowhere"], r"has no config.json: pass the directory that lerobot's save_pretrained wrote"),
    (["lerobot=inputs/checkpoints/carp"], r"has no config.json"),
    (["lerobot=inputs", "dataset=nowhere"], r"no dataset at nowhere"),
]


def refused(capsys, args: list[str], message: str) -> None:
    """Run a command that must not do anything."""
    capsys.readouterr()
    code = main(args)
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert len(err) < 700, err
    assert re.search(message, err), err
    assert not list(Path().rglob("metrics.json"))


def no_gpu(args: list[str]) -> None:
    if "device=cuda" in args and torch.cuda.is_available():
        pytest.skip("there is one")


@pytest.mark.parametrize(("damage", "args", "message"), [c[1:] for c in TRAIN], ids=[c[0] for c in TRAIN])
def test_a_training_on_bad_input_is_refused(inputs, capsys, damage, args, message):
    no_gpu(args)
    damage(inputs)
    refused(capsys, ["train", f"dataset={inputs.dataset}", "policy.steps=1", *args], message)


@pytest.mark.parametrize(("damage", "args", "message"), [c[1:] for c in EVAL], ids=[c[0] for c in EVAL])
def test_an_evaluation_of_a_bad_checkpoint_is_refused(inputs, capsys, damage, args, message):
    damage(inputs)
    before = content(inputs.root)
    refused(capsys, ["eval", f"checkpoint={inputs.checkpoint()}", "n=1", "workers=1", *args], message)
    assert content(inputs.root) == before
    assert not list(Path().glob("outputs/**/seed_*.npz"))


@pytest.mark.parametrize(("name", "args", "message"), OF_OTHERS)
def test_a_policy_is_not_run_by_what_belongs_to_another(inputs, capsys, name, args, message):
    refused(capsys, ["eval", f"checkpoint={inputs.checkpoint(name)}", "n=1", "workers=1", *args], message)


@pytest.mark.parametrize(("args", "message"), RUN)
def test_a_run_that_would_fail_at_its_end_is_refused_at_its_start(tmp_path, monkeypatch, capsys, args, message):
    no_gpu(args)
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["run", SENTENCE, *args], message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("args", "message"), BENCH)
def test_a_comparison_that_would_fail_is_refused_at_its_start(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["bench", "policies", *args], message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("args", "message"), CONVERT)
def test_a_conversion_of_something_else_is_refused(inputs, capsys, args, message):
    refused(capsys, ["convert", f"dataset={inputs.dataset}", *args], message)


def test_a_checkpoint_of_another_task_can_be_tried_on_purpose(inputs, capsys, monkeypatch):
    from robostack.evaluation import rollouts

    started = []
    monkeypatch.setattr(rollouts, "_run", lambda *args: started.append(args))
    another(inputs, name="elsewhere")
    args = ["eval", f"checkpoint={inputs.checkpoint()}", "task=inputs/other.json", "n=1", "workers=1", "any_task=true"]
    assert main(args) == 2  # The episodes, which nobody has run, are missing.
    assert "seed_" in capsys.readouterr().err
    assert len(started) == 1


def test_what_was_trained_before_survives_a_refused_command(inputs, capsys):
    args = ["train", f"dataset={inputs.dataset}", "out=trained", "policy=diffusion_transformer", "policy.steps=2",
            "policy.Tp=8", "policy.Ta=4", "policy.network.n_layer=1", "policy.network.n_emb=16", "policy.batch_size=4",
            "policy.network.n_head=2"]  # fmt: skip
    assert main(args) == 0, capsys.readouterr().err
    before = content(Path("trained"))
    poison(inputs.dataset, "action", np.nan)
    for wrong in (["policy.steps=3"], ["policy.Tp=8"], ["fresh=true"]):
        capsys.readouterr()
        code, err = main([*args, *wrong]), capsys.readouterr().err
        assert (code, err.count("\n")) == (2, 1), err
        assert content(Path("trained")) == before
    assert yaml.safe_load(Path("trained/config.yaml").read_text())["policy"]["steps"] == 2


def test_a_lerobot_policy_is_converted_and_can_be_evaluated(inputs, capsys, monkeypatch):
    from policies.checkpoint import load_policy

    trained = load_policy(inputs.checkpoint("lerobot_act"))
    folder = inputs.root / "pretrained_model"
    trained.policy.save_pretrained(folder)
    args = ["convert", f"lerobot={folder}", f"dataset={inputs.dataset}", "out=converted"]
    refused(capsys, args, r"no mean and std of '.*policy_preprocessor")
    monkeypatch.chdir(inputs.root)
    shutil.copytree(folder, "again")
    add_old_statistics(Path("again"), trained)
    args = ["convert", "lerobot=again", "dataset=dataset", "out=converted"]
    assert main(args) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.splitlines()[-1].endswith("converted/policy/checkpoint")
    converted = load_policy("converted/policy/checkpoint")
    assert converted.task_id == trained.task_id
    for name, tensor in converted.policy.state_dict().items():
        torch.testing.assert_close(tensor, trained.policy.state_dict()[name], atol=0, rtol=0)
    for name in buffers(trained):
        torch.testing.assert_close(converted.statistics.get_buffer(name), trained.statistics.get_buffer(name))
    assert json.loads(Path("converted/task.json").read_text())["name"]
    assert converted.features == trained.features


def buffers(policy) -> dict[str, str]:
    """The statistics that a policy reads, with the names that older lerobots gave them among the weights."""
    found = {}
    for key in policy.statistics.features:
        stem, flat = "unnormalize_outputs" if key == "action" else "normalize_inputs", key.replace(".", "_")
        found |= {f"{flat}_{name}": f"{stem}.buffer_{flat}.{name}" for name in policy.statistics.required(key)}
    return found


def add_old_statistics(folder: Path, policy) -> None:
    file = folder / "model.safetensors"
    statistics = {old: policy.statistics.get_buffer(name).clone() for name, old in buffers(policy).items()}
    file.write_bytes(save(load(file.read_bytes()) | statistics))
