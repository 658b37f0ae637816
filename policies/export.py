"""A policy as one ONNX file, for robot computers without torch.

The graph takes what the sensors say and gives what the controller needs, in physical units and the world frame: frames,
normalisers, encoder, the whole loop of the sampler and its coefficients are inside. Only noise comes from outside, so
that a decision is a function of its inputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.accel.loop import Tables
from policies.accel.onnx_graph import (
    LANES,
    OPSET,
    exported,
    exported_step,
    level_names,
    looped,
    open_session,
    require_onnx,
)  # fmt: skip
from policies.checkpoint import load_policy
from policies.diffusion import DiffusionPolicy
from policies.networks.base import Conditioning
from policies.observed import Observed
from policies.samplers import seeded
from policies.samplers.diffusion import Ladder
from policies.units import Units
from robostack import __version__
from robostack.data.atomic import write_atomic
from robostack.errors import CheckpointError, ConfigError

GRAPH, ABOUT = "policy.onnx", "policy.json"
FORMAT, VERSION = "robostack.export", 1
TOLERANCE = 1e-4
"""Largest difference to the policy [network units, in which actions span -1 to 1]."""
_LANES_TRIED = (1, 3)
_UNITS = {
    "x, y, z": "m, in the world frame",
    "r1 to r6": "first two columns of the rotation matrix",
    "gripper": "opening, 0 closed to 1 open",
    "joints": "rad",
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        graph, about: the files.
        sampler: of which the graph takes the steps.
        evaluations: of the network in a decision.
        difference: largest deviation from the policy that was seen [network units].
        megabytes: size of the graph.
    """

    graph: Path
    about: Path
    sampler: str
    evaluations: int
    difference: float
    megabytes: float


class _Observe(nn.Module):
    """From observations to what the network makes of them."""

    def __init__(self, policy: DiffusionPolicy):
        super().__init__()
        self.policy = policy

    def forward(self, state: Tensor, *objects: Tensor) -> Conditioning:
        seen = objects[0] if objects else state.new_zeros(*state.shape[:2], 0)
        cond, _ = self.policy.condition(Observed(state, seen))
        return self.policy.model.observe(cond.steps, cond.context)


class _Decode(nn.Module):
    """From the chunk to the actions that are due."""

    def __init__(self, policy: DiffusionPolicy):
        super().__init__()
        self.frame, self.norm, self.past = policy.frame, policy.action_norm, policy.cfg.To - 1

    def forward(self, chunk: Tensor, state: Tensor) -> Tensor:
        return Units(self.frame, self.norm, self.frame.origin(state)).decode(chunk)[:, self.past :]


def export_policy(checkpoint: Path | str, folder: Path | str, *, sampler: str) -> Exported:
    """Write ``policy.onnx`` and ``policy.json`` into a folder, after comparing the graph with the policy.

    Raises:
        CheckpointError: unusable, or the graph differs from the policy.
        ConfigError: another kind of policy, one that is told more than states, or a sampler that one graph cannot be.
        UnknownName: no such sampler.
        MissingExtra: the packages for ONNX are not installed.
    """
    policy, folder = load_policy(checkpoint, sampler=sampler), Path(folder)
    if not isinstance(policy, DiffusionPolicy):
        raise ConfigError(f"{checkpoint} holds a {type(policy).__name__}: only diffusion policies can be exported")
    beyond = [name for name in policy.parts if name != "encoder"]
    if beyond:
        raise ConfigError(
            f"{checkpoint} holds a policy that is told more than states ({', '.join(beyond)}): only policies of states "
            "can be exported"
        )
    steps = _steps(policy, sampler)
    require_onnx(policy)
    model = graph_of(policy, steps)
    difference = _difference(policy, steps, model)
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{checkpoint}: the graph's actions differ from the policy's by {difference:.1e} of their range, more than "
            f"{TOLERANCE:.0e}: nothing was written; try another sampler, and report it"
        )
    about = _about(policy, steps, model, difference, sampler)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / GRAPH, model)
    write_atomic(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
    return Exported(
        folder / GRAPH, folder / ABOUT, about["sampler"]["name"], len(steps.levels(len(policy.schedule))), difference,
        len(model) / 1e6,
    )  # fmt: skip


def _steps(policy: DiffusionPolicy, name: str) -> Ladder:
    steps = policy.sampler
    if not isinstance(steps, Ladder) or any(c.noise for c in steps.table(policy.schedule)):
        raise ConfigError(
            f"sampler={name} remembers past decisions or draws noise at every step, and one graph is one decision: "
            "export with a deterministic one such as ddim10 or dpmpp5"
        )
    return steps


def graph_of(policy: DiffusionPolicy, steps: Ladder) -> bytes:
    """The serialised graph; the same policy gives the same bytes."""
    cfg = policy.cfg
    numbers, levels = Tables(policy.model)(policy.hot_steps(steps.listed(policy.schedule)), clip=cfg.clip)
    constants = {"numbers": numbers.numpy(), **_named(level_names(levels), levels)}
    with torch.inference_mode(False):
        seen = _zeros(policy, 2)
        chunk = seen.pop("noise")
    step = exported_step(policy.model, _Observe(policy), chunk, seen)
    last = exported(_Decode(policy), (chunk, seen["state"]), None, ["chunk", "state"], ["actions"])
    return looped(step, last, start="noise", constants=constants, drawn=False)


def _zeros(policy: DiffusionPolicy, count: int) -> dict[str, Tensor]:
    """Inputs of the graph by name, all zero; a task without objects has none for them."""
    features, cfg = policy.features, policy.cfg
    inputs = {
        "state": torch.zeros(count, cfg.To, len(features.state)),
        "noise": torch.zeros(count, cfg.Tp, len(features.action)),
    }
    if features.environment_state:
        inputs["environment_state"] = torch.zeros(count, cfg.To, len(features.environment_state))
    return inputs


def _named(names: list[str], tensors: Conditioning) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


def _difference(policy: DiffusionPolicy, steps: Ladder, model: bytes) -> float:
    """Largest deviation of the graph's actions from the policy's; NaN where one of them is no number."""
    session, past, deviations = open_session(model, torch.get_num_threads()), policy.cfg.To - 1, []
    scale = policy.action_norm.scale[past:] if policy.cfg.per_step else policy.action_norm.scale
    for count in _LANES_TRIED:
        noise, same = (policy.noise([seeded(lane) for lane in range(count)]) for _ in range(2))
        with torch.inference_mode():
            inputs = _plausible(policy, count) | {"noise": same.draw()}
            objects = inputs.get("environment_state", inputs["state"][..., :0])
            expected = policy.sample(Observed(inputs["state"], objects), noise, sampler=steps)[0][:, past:]
        (actions,) = session.run(["actions"], {name: tensor.numpy() for name, tensor in inputs.items()})
        deviations.append(float(((torch.from_numpy(np.asarray(actions)) - expected) * scale).abs().max()))
    return float(np.max(deviations))


def _plausible(policy: DiffusionPolicy, count: int) -> dict[str, Tensor]:
    """Observations within the limits of the data, in physical units and the world frame."""
    inputs, generator = _zeros(policy, count), seeded(count)
    for name, norm in (("state", policy.state_norm), ("environment_state", policy.object_norm)):
        if name in inputs:
            inputs[name] = norm.inverse(2 * torch.rand(inputs[name].shape, generator=generator) - 1)
    if "environment_state" in inputs:
        objects, origin = inputs["environment_state"], policy.frame.origin(inputs["state"])
        inputs["environment_state"] = 2 * objects - policy.frame.objects(objects, origin)  # back by what it subtracts
    return inputs


def _about(policy: DiffusionPolicy, steps: Ladder, model: bytes, difference: float, sampler: str) -> dict[str, Any]:
    import onnx
    import onnxruntime

    cfg, features = policy.cfg, policy.features
    assert policy.origin is not None
    levels = [k for k, _ in steps.levels(len(policy.schedule))]
    sizes = {name: [LANES, *tensor.shape[1:]] for name, tensor in _zeros(policy, 1).items()}
    norms = (
        ("state", policy.state_norm),
        ("environment_state", policy.object_norm),
        ("action", policy.action_norm),
    )
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": {"file": GRAPH, "sha256": hashlib.sha256(model).hexdigest(), "opset": OPSET},
        "weights": policy.origin.weights,
        "task_id": policy.task_id,
        "language": policy.language,
        "features": features.to_dict(),
        "units": _UNITS,
        "horizon": {"To": cfg.To, "Tp": cfg.Tp, "Ta": cfg.Ta},
        "inputs": {name: {"type": "float32", "shape": size} for name, size in sizes.items()},
        "outputs": {
            "actions": {"type": "float32", "shape": [LANES, cfg.Tp - cfg.To + 1, len(features.action)]},
        },
        "meaning": {
            "state": "the last To observations, oldest first; columns are features.state",
            "environment_state": "of the objects, likewise; columns are features.environment_state",
            "noise": "independent standard normal numbers",
            "actions": "the first is due at the last observation, the next 1 / rate_hz later; Ta of them are executed",
        },
        "sampler": {"name": sampler, "steps": repr(steps), "levels": levels},
        "normalisation": {
            "inside the graph": True,
            "frame": "gripper" if policy.frame.relative else "world",
            **{
                name: {"scale": norm.scale.tolist(), "offset": norm.offset.tolist(), "rule": "x * scale + offset"}
                for name, norm in norms
            },
        },
        "difference": {"largest": difference, "tolerance": TOLERANCE, "unit": "actions normalised to -1 to 1"},
        "versions": {
            "robostack": __version__, "torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }  # fmt: skip
