"""A policy that lerobot saved becomes a checkpoint of ours.

What is read: ``config.json``, ``model.safetensors``, and the normaliser's statistics, from the processors beside them
(lerobot 0.4) or from the weights themselves (before). What lerobot does not know comes from the caller: the names of
the columns, the robot and the control rate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from torch import Tensor

from policies.checkpoint import save_checkpoint
from policies.zoo import POLICIES
from robostack.errors import CheckpointError
from robostack.types import Features

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_POLICIES = {"act": "lerobot_act", "diffusion": "lerobot_diffusion"}
_PROCESSORS = {
    "policy_preprocessor.json": "normalizer_processor",
    "policy_postprocessor.json": "unnormalizer_processor",
}
_OLD_NORMALIZERS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
_OLD_BUFFER = "buffer_"
_KEYS = {"observation.state": "state", "observation.environment_state": "environment_state", "action": "action"}


def import_pretrained(
    source: Path | str, out: Path | str, features: Features, *, task_id: str = "", language: str = ""
) -> Path:
    """Convert a directory of lerobot's ``save_pretrained``; nothing is unpickled or downloaded.

    Args:
        source: the directory, for instance ``checkpoints/last/pretrained_model`` of lerobot's training.
        out: where the checkpoint goes.
        features: of the dataset that it was trained on, for instance ``load_arrays(dataset).features``.
        task_id: content hash of the task, where it is one of ours.
        language: the instruction.

    Raises:
        CheckpointError: no lerobot policy, one of another kind, damaged, without a normaliser, or of other features.
        ConfigError: a configuration that our adapter cannot run.
    """
    source = Path(source)
    config = _read_json(source, CONFIG)
    name = _POLICIES.get(config.get("type", ""))
    if name is None:
        raise CheckpointError(
            f"{source} holds a lerobot policy of type '{config.get('type')}': only {', '.join(_POLICIES)} can be used"
        )
    _require_features(source, config, features)
    record = POLICIES[name]
    known = {field.name for field in fields(record.cfg)}
    try:
        cfg = record.cfg(**{key: value for key, value in config.items() if key in known})
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{source / CONFIG} is damaged ({reason}): copy it again") from error
    policy: Any = record.build(cfg, features)
    weights = _read_tensors(source, WEIGHTS)
    statistics = _old_statistics(weights) or _processor_statistics(source)
    _load_weights(source, policy.policy, {k: v for k, v in weights.items() if not k.startswith(_OLD_NORMALIZERS)})
    for key in policy.statistics.features:
        _load_statistics(source, policy.statistics, key, statistics.get(key, {}))
    policy.task_id, policy.language = task_id, language
    return save_checkpoint(out, policy, name, step=0, metrics={})


def _require_features(source: Path, config: Mapping[str, Any], features: Features) -> None:
    found = {**(config.get("input_features") or {}), **(config.get("output_features") or {})}
    images = [key for key, feature in found.items() if feature.get("type") == "VISUAL"]
    if images:
        raise CheckpointError(f"{source} looks at images ({', '.join(images)}): only policies of states can be used")
    widths = {key: [len(getattr(features, kind))] for key, kind in _KEYS.items()}
    wrong = [
        f"{key}: {found[key].get('shape') if key in found else 'absent'} there, {widths.get(key, 'unknown')} here"
        for key in sorted(found.keys() | widths.keys())
        if key not in found or found[key].get("shape") != widths.get(key)
    ]
    if wrong:
        raise CheckpointError(f"{source} is of other features ({'; '.join(wrong)}): name the dataset it was trained on")


def _load_weights(source: Path, policy: Any, weights: Mapping[str, Tensor]) -> None:
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{source / WEIGHTS} does not fit its {CONFIG} ({reason}): copy it again") from error


def _load_statistics(source: Path, statistics: Any, key: str, values: Mapping[str, Tensor]) -> None:
    needed, width = statistics.required(key), statistics.features[key].shape[0]
    missing = [name for name in needed if name not in values]
    if missing:
        raise CheckpointError(
            f"{source} has no {' and '.join(missing)} of '{key}', which normalises it: copy the files of "
            "policy_preprocessor and policy_postprocessor along with the weights"
        )
    if any(values[name].numel() != width or not bool(values[name].isfinite().all()) for name in needed):
        raise CheckpointError(f"the statistics of '{key}' in {source} are damaged: copy the processors' files again")
    statistics.set(key, values)


def _processor_statistics(source: Path) -> dict[str, dict[str, Tensor]]:
    """Statistics by feature; those of the action are the postprocessor's, which is what scales it when acting."""
    found: dict[str, dict[str, Tensor]] = {}
    for file, step_name in _PROCESSORS.items():
        if not (source / file).is_file():
            continue
        steps = [s for s in _read_json(source, file).get("steps", []) if s.get("registry_name") == step_name]
        for step in steps:
            for name, tensor in _read_tensors(source, str(step.get("state_file"))).items():
                key, _, statistic = name.rpartition(".")
                found.setdefault(key, {})[statistic] = tensor
    return found


def _old_statistics(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Statistics among the weights: ``normalize_inputs.buffer_observation_state.mean``."""
    keys = {key.replace(".", "_"): key for key in _KEYS}
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        if name.startswith(_OLD_NORMALIZERS):
            feature, _, statistic = name.partition(_OLD_BUFFER)[2].rpartition(".")
            found.setdefault(keys.get(feature, feature), {})[statistic] = tensor
    return found


def _read_json(source: Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads(_read(source, name))
    except ValueError as error:
        raise CheckpointError(f"{source / name} is damaged: copy it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{source / name} is damaged: copy it again")
    return values


def _read_tensors(source: Path, name: str) -> dict[str, Tensor]:
    data = _read(source, name)
    try:
        return load_tensors(data)
    except Exception as error:  # safetensors raises several types; all mean the same here.
        raise CheckpointError(f"{source / name} is damaged ({len(data)} bytes): copy it again") from error


def _read(source: Path, name: str) -> bytes:
    try:
        return (source / name).read_bytes()
    except OSError:
        raise CheckpointError(
            f"{source} has no {name}: pass the directory that lerobot's save_pretrained wrote, often pretrained_model"
        ) from None
