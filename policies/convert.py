"""Weights from and for other implementations of Diffusion Policy: the authors' (real-stanford) and lerobot's.

The authors' parameter names are ours; their state dicts only carry more. lerobot's U-Net has the same layers under
other names, and keeps the limits of the data where we keep the scales made from them. Pickles are not read: have
their owner's program write safetensors first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policies.affine import Affine
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.base import Network
from policies.networks.unet1d import UnetCfg
from robostack.errors import CheckpointError, ConfigError
from robostack.types import Features

_STATE, _OBJECTS, _ACTION = "observation.state", "observation.environment_state", "action"
_KINDS = {_STATE: "STATE", _OBJECTS: "ENV", _ACTION: "ACTION"}
_UNUSED = ("_dummy_variable", "mask", "memory_mask")
_PREFIX = "diffusion.unet."
_TO_OURS = (
    (r"\.conv1\.", ".blocks.0."),
    (r"\.conv2\.", ".blocks.1."),
    (r"^(down|up)_modules\.(\d+)\.2\.(?!conv\.)", r"\1_modules.\2.2.conv."),
)
_TO_LEROBOT = (
    (r"\.blocks\.0\.block\.", ".conv1.block."),
    (r"\.blocks\.1\.block\.", ".conv2.block."),
    (r"\.2\.conv\.", ".2."),
)
_SUPPORTED = {
    "beta_schedule": "squaredcos_cap_v2",
    "use_film_scale_modulation": True,
    "clip_sample_range": 1.0,
}


@dataclass(frozen=True)
class LerobotPolicy:
    """A lerobot DiffusionPolicy on states, in parts.

    Attributes:
        config: fields of lerobot's DiffusionConfig, features left out.
        weights: state dict of its DiffusionPolicy.
        stats: per feature, the statistics that its normaliser uses.
    """

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    stats: Mapping[str, Mapping[str, Tensor]]


def load_official(network: Network, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict of the authors' network, or of a whole policy of theirs.

    Raises:
        CheckpointError: names or shapes that are not those of ``network``.
    """
    inner = {name.removeprefix("model."): tensor for name, tensor in weights.items() if name.startswith("model.")}
    chosen = {name: t for name, t in (inner or weights).items() if name not in _UNUSED}
    _load(network, chosen, "official weights")


def _load(network: torch.nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in [*expected, *given]:
        if expected.get(name) != given.get(name):
            raise CheckpointError(
                f"{what} do not fit the network: '{name}' is {given.get(name, 'missing')} there, "
                f"{expected.get(name, 'missing')} here: use a network of the same configuration"
            )
    network.load_state_dict(dict(weights))


def read_lerobot(path: Path | str) -> LerobotPolicy:
    """Read a directory that lerobot's ``save_pretrained`` wrote, processors included.

    Raises:
        CheckpointError: no such directory, or one with files missing or damaged.
    """
    path = Path(path)
    statistics = sorted(path.glob("policy_preprocessor*normalizer*.safetensors"))
    try:
        config = json.loads((path / "config.json").read_text())
        weights = load_file(path / "model.safetensors")
        flat = load_file(statistics[0])
    except (OSError, ValueError, IndexError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a lerobot policy ({error}): it needs config.json, model.safetensors and "
            "policy_preprocessor_*_normalizer_processor.safetensors"
        ) from error
    stats: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        feature, statistic = name.rsplit(".", 1)
        stats.setdefault(feature, {})[statistic] = tensor
    return LerobotPolicy(config, weights, stats)


def from_lerobot(source: LerobotPolicy, features: Features) -> DiffusionPolicy:
    """Our policy with the weights and normalisers of lerobot's; ``features`` name its columns.

    Raises:
        ConfigError: it does what ours does not: images, another noise schedule or normalisation.
        CheckpointError: its weights contradict its configuration or the features.
    """
    config = source.config
    for name, wanted in _SUPPORTED.items():
        if config.get(name, wanted) != wanted:
            raise ConfigError(f"lerobot policy with {name}={config[name]}: only {wanted} can be converted")
    if any("image" in name for name in config.get("input_features") or {}):
        raise ConfigError("lerobot policy with images: only states can be converted")
    cfg = DiffusionCfg(
        To=config["n_obs_steps"], Tp=config["horizon"], Ta=config["n_action_steps"], frame="world", per_step=False,
        encoder=(), diffusion_steps=config["num_train_timesteps"], prediction=config["prediction_type"],
        clip=config["clip_sample"], sampler=_sampler(config),
        network=UnetCfg(
            config["down_dims"], config["kernel_size"], config["n_groups"], config["diffusion_step_embed_dim"]
        ),
    )  # fmt: skip
    policy = DiffusionPolicy(cfg, features)
    named = {name.removeprefix(_PREFIX): t for name, t in source.weights.items() if name.startswith(_PREFIX)}
    _load(policy.model, {_renamed(name, _TO_OURS): t for name, t in named.items()}, "lerobot's weights")
    modes: Mapping[str, str] = config.get("normalization_mapping") or dict.fromkeys(
        ("STATE", "ENV", "ACTION"), "MIN_MAX"
    )
    norms = ((policy.state_norm, _STATE), (policy.object_norm, _OBJECTS), (policy.action_norm, _ACTION))
    for affine, feature in norms:
        if affine.scale.numel():
            mode = str(modes.get(_KINDS[feature], "IDENTITY"))  # What lerobot does with a kind that has none.
            _take_statistics(affine, feature, mode, source.stats.get(feature, {}))
    return policy.eval()


def _sampler(config: Mapping[str, Any]) -> str:
    K = config["num_train_timesteps"]
    return f"{config.get('noise_scheduler_type', 'DDPM').lower()}{config.get('num_inference_steps') or K}"


def _take_statistics(affine: Affine, feature: str, mode: str, stats: Mapping[str, Tensor]) -> None:
    """Scales of a feature, such that normalised values are lerobot's."""
    needed = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std"), "IDENTITY": ()}.get(mode.rsplit(".", 1)[-1])
    if needed is None:
        raise ConfigError(
            f"lerobot policy normalises '{feature}' by {mode}: only limits, deviations or nothing convert"
        )
    if any(name not in stats or stats[name].shape != affine.scale.shape for name in needed):
        raise CheckpointError(
            f"lerobot policy: '{feature}' needs statistics {', '.join(needed)} of {len(affine.scale)}"
        )
    if not needed:
        return
    a, b = (stats[name].double() for name in needed)
    if needed[0] == "min":
        width = torch.where(b == a, torch.full_like(a, 1e-8), b - a)
        scale, offset = 2 / width, -2 * a / width - 1
    else:
        scale, offset = 1 / (b + 1e-8), -a / (b + 1e-8)
    affine.scale.copy_(scale)
    affine.offset.copy_(offset)


def to_lerobot(policy: DiffusionPolicy) -> LerobotPolicy:
    """Parts of a lerobot DiffusionPolicy that predicts what ours does.

    Raises:
        ConfigError: ours does what lerobot's does not.
    """
    cfg = policy.cfg
    if not isinstance(cfg.network, UnetCfg):
        raise ConfigError("lerobot's DiffusionPolicy is a U-Net: only policy=diffusion_unet can be converted")
    beyond = [name for name in policy.parts if name != "encoder"]
    if beyond:
        raise ConfigError(f"this policy is told more than states ({', '.join(beyond)}): only states can be converted")
    for name, found, wanted in (
        ("frame", "gripper" if policy.frame.relative else "world", "world"), ("per_step", cfg.per_step, False),
        ("encoder", tuple(cfg.encoder), ()), ("prediction", "sample" if cfg.prediction != "v" else "v", "sample"),
    ):  # fmt: skip
        if found != wanted:
            raise ConfigError(f"lerobot's DiffusionPolicy has no {name}={found}: train with {name}={wanted} to convert")
    if cfg.Tp % 2 ** len(cfg.network.down_dims):
        raise ConfigError(f"lerobot's DiffusionPolicy needs Tp divisible by {2 ** len(cfg.network.down_dims)}")
    config = {
        "n_obs_steps": cfg.To, "horizon": cfg.Tp, "n_action_steps": cfg.Ta, "num_train_timesteps": cfg.diffusion_steps,
        "prediction_type": cfg.prediction, "clip_sample": cfg.clip, "down_dims": tuple(cfg.network.down_dims),
        "kernel_size": cfg.network.kernel, "n_groups": cfg.network.groups,
        "diffusion_step_embed_dim": cfg.network.step_dim,
        "normalization_mapping": dict.fromkeys(_KINDS.values(), "MIN_MAX"),
    } | _SUPPORTED  # fmt: skip
    weights = {_PREFIX + _renamed(name, _TO_LEROBOT): t.clone() for name, t in policy.model.state_dict().items()}
    # The final block has no FiLM and is called by lerobot as by us.
    weights = {name.replace("final_conv.0.conv1.", "final_conv.0."): t for name, t in weights.items()}
    norms = ((_STATE, policy.state_norm), (_OBJECTS, policy.object_norm), (_ACTION, policy.action_norm))
    return LerobotPolicy(config, weights, {name: _limits(norm) for name, norm in norms if norm.scale.numel()})


def _limits(affine: Affine) -> dict[str, Float[Tensor, " n"]]:
    """Physical values that the normaliser maps to -1 and 1."""
    scale, offset = affine.scale.double(), affine.offset.double()
    return {"min": ((-1 - offset) / scale).float(), "max": ((1 - offset) / scale).float()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
