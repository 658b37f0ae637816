"""Checkpoints: a directory with weights, configuration and a manifest of hashes. Nothing is ever unpickled.

::

    model.safetensors   averaged weights and normalisers
    config.yaml         policy name and configuration, features, task, what was found in the data
    manifest.json       format version, step, git hash, metrics, SHA-256 of the two files above
    rti.json            diffusion policies: the measured plan of ``sampler=rti``, with hashes of its own
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Int
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from policies.accel.calibrate import save_block_plans
from policies.accel.rti_auto import CalibrationCfg, RtiPlan, calibrate, save_plan, use_planned
from policies.base import Origin, TrainablePolicy, cfg_from_dict, cfg_to_dict, resolve_device
from policies.diffusion import DiffusionPolicy
from policies.discrete import DiscreteDims
from policies.zoo import OWN_SAMPLER, POLICIES
from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import write_directory
from robostack.errors import CheckpointError, ConfigError, UnknownName
from robostack.types import Features

FORMAT = "robostack.checkpoint"
VERSION = 1
WEIGHTS, CONFIG, MANIFEST = "model.safetensors", "config.yaml", "manifest.json"
_NORMALISERS = ("state_norm", "object_norm", "action_norm", "statistics")
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".bin")


def git_hash() -> str | None:
    """Commit of the checkout that this package runs from; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def save_checkpoint(
    path: Path | str,
    policy: TrainablePolicy,
    policy_name: str,
    *,
    step: int,
    metrics: Mapping[str, float],
) -> Path:
    """Write a checkpoint directory, replacing an older checkpoint at the same place.

    Raises:
        CheckpointError: ``path`` exists and is not a checkpoint.
        StorageError: the disk does not take it; an older checkpoint stays.
    """
    path = Path(path)
    if path.exists() and not (path / MANIFEST).is_file():
        raise CheckpointError(f"{path} exists and is not a checkpoint: choose another directory, it is not overwritten")
    config = {
        "policy": policy_name,
        "cfg": cfg_to_dict(policy.cfg),
        "features": policy.features.to_dict(),
        "task_id": policy.task_id,
        "language": policy.language,
        "discrete": policy.discrete.to_dict(),
        "found": policy.found(),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    files = {WEIGHTS: dump_tensors(weights), CONFIG: yaml.safe_dump(config, sort_keys=False).encode()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "git_hash": git_hash(),
        "metrics": dict(metrics),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    write_directory(path, {**files, MANIFEST: json.dumps(manifest, indent=2).encode()})
    return path


def load_policy(
    path: Path | str, device: str = "cpu", sampler: str | None = None, accelerate: str = "none"
) -> TrainablePolicy:
    """Load a checkpoint for acting.

    Args:
        path: the checkpoint directory.
        device: ``cpu``, ``cuda`` or ``auto``.
        sampler: name of a sampler; default, and for ``own``, is the one in the checkpoint.
        accelerate: ``none``, or a name of ``policies.accel.engine.ACCELERATORS``.

    Raises:
        CheckpointError: absent, foreign, damaged, or of a newer format; or without what the sampler needs.
        ConfigError: an acceleration that the policy does not have.
        DeviceUnavailable: no such device, or no compiler where one is needed.
        MissingExtra: the acceleration needs packages that are not installed.
        UnknownName: no such sampler.
    """
    where, path = resolve_device(device), Path(path)
    policy = _load(path)
    name = getattr(policy.cfg, "sampler", None) if sampler in (None, OWN_SAMPLER) else sampler
    if name is not None:
        use_planned(path, policy, name)
    policy = policy.to(where).requires_grad_(False).eval()
    if accelerate != "none":
        policy.accelerate(accelerate)
    return policy


def _load(path: Path) -> TrainablePolicy:
    manifest = read_manifest(path)
    files = {name: _verified(path, name, manifest) for name in (WEIGHTS, CONFIG)}
    policy = _build(path, yaml.safe_load(files[CONFIG]))
    weights = _tensors(path, files[WEIGHTS])
    _require_weights(path, policy, weights)
    policy.load_state_dict(weights)
    policy.origin = Origin(path, manifest["sha256"][WEIGHTS])
    return policy.requires_grad_(False).eval()


def calibrate_checkpoint(
    path: Path | str,
    arrays: EpisodeArrays,
    cfg: CalibrationCfg | None = None,
    episodes: Int[np.ndarray, " S"] | None = None,
) -> RtiPlan:
    """Measure the plans of ``sampler=rti``, ``bac`` and ``rti_bac`` on a dataset and keep them in the checkpoint.

    Args:
        path: the checkpoint.
        arrays: the dataset.
        cfg: how to measure ``rti``'s.
        episodes: what to measure ``rti``'s on, default all. A policy is surer of what it was trained on, where a list
            seems to end closer than it does elsewhere: name episodes that it has not seen, as a training does.

    Raises:
        CheckpointError: unusable, of another kind of policy, or trained on other features.
        DataError: a dataset without two consecutive rows, or with values that are not finite.
    """
    policy = _load(Path(path))
    if not isinstance(policy, DiffusionPolicy):
        raise CheckpointError(f"{path} holds a {type(policy).__name__}: only diffusion policies have an rti plan")
    require_features(policy, arrays.check().features)
    plan = calibrate(policy, arrays, cfg, episodes)
    save_plan(Path(path), plan)
    save_block_plans(Path(path), policy, arrays, plan.sampler())
    return plan


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint; raises CheckpointError as ``load_policy`` does."""
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: train one with  robostack train, or check the path")
    if path.is_file() or not (path / MANIFEST).is_file():
        found = [path] if path.is_file() else sorted(path.iterdir())
        pickle = next((f.name for f in found if f.suffix in _PICKLES), None)
        why = f"'{pickle}' is a pickle, which is never loaded" if pickle else f"it has no {MANIFEST}"
        raise CheckpointError(f"{path} is not a robostack checkpoint ({why}): pass the directory that training wrote")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        foreign = manifest.get("format") != FORMAT
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged: copy the checkpoint again, or train again") from error
    if foreign:
        raise CheckpointError(f"{path} is not a robostack checkpoint: its manifest is of another program")
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(f"{path} has format version {version}, this robostack reads up to {VERSION}: upgrade it")
    return manifest


def _verified(path: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    expected = manifest.get("sha256", {}).get(name)
    try:
        data = (path / name).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} has no {name}: copy the checkpoint again, or train again") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise CheckpointError(
            f"{path / name} is damaged ({len(data)} bytes, its hash differs from the manifest): "
            "copy the checkpoint again, or train again"
        )
    return data


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return load_tensors(data)
    except Exception as error:  # safetensors raises several types; all mean the same here.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path / WEIGHTS} holds no tensors ({reason}): train again") from error


def _require_weights(path: Path, policy: TrainablePolicy, weights: Mapping[str, Tensor]) -> None:
    """Name what torch would only count."""
    expected = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    absent = sorted(expected.keys() - weights.keys())
    normalisers = sorted({name.partition(".")[0] for name in absent if name.partition(".")[0] in _NORMALISERS})
    if normalisers:
        raise CheckpointError(
            f"{path} has no normaliser ({', '.join(normalisers)}), so its actions would mean nothing: "
            "copy the whole checkpoint again, or train again"
        )
    wrong = [f"no {name}" for name in absent]
    wrong += [f"unknown {name}" for name in sorted(weights.keys() - expected.keys())]
    both = sorted(expected.keys() & weights.keys())
    shapes = [(name, tuple(weights[name].shape)) for name in both]
    wrong += [f"{name} is {shape}, not {expected[name]}" for name, shape in shapes if shape != expected[name]]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointError(f"{path}: the weights do not fit the configuration ({wrong[0]}{more}): train again")


def _build(path: Path, config: Mapping[str, Any]) -> TrainablePolicy:
    try:
        record = POLICIES[config["policy"]]
        policy = record.build(cfg_from_dict(record.cfg, config["cfg"]), Features.from_dict(config["features"]))
        policy.task_id, policy.language = config["task_id"], config["language"]
        policy.discrete = DiscreteDims.from_dict(config.get("discrete") or DiscreteDims().to_dict())
        policy.adopt(config.get("found") or {})
    except (UnknownName, ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / CONFIG}: {error}: it was written by another version of robostack") from error
    return policy


def require_features(policy: TrainablePolicy, features: Features) -> None:
    """Raise CheckpointError, naming what differs, unless the policy was trained on these features."""
    differences = policy.features.unmet(features)
    if differences:
        raise CheckpointError(
            f"the policy was trained for other features ({'; '.join(differences)}): "
            "use a checkpoint of this task, or train one"
        )
