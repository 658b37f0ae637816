"""Chunk-relative positions, after the relative trajectories of UMI (Chi et al., arXiv 2402.10329, section IV-B).

In the ``gripper`` frame all positions in the action and in the object state are offsets from the gripper's position
in the last observation; axes stay those of the world. What a policy learns in one place then holds everywhere, which
a small network cannot discover from a few hundred demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robostack.types import Features

FRAMES = ("world", "gripper")
_AXES = ("x", "y", "z")
_GRIPPER = tuple(f"ee.{axis}" for axis in _AXES)
_FIXED = 3  # Index of the zero that is appended to the origin for columns that do not move with it.


def supports_gripper_frame(features: Features) -> bool:
    """Whether state and action both name the gripper's position, in the plane at least; not for ``joint_pos``."""
    return all(name in features.state and name in features.action for name in _GRIPPER[:2])


def _axis_of(names: Sequence[str], *, only: Sequence[str] | None = None) -> Int[Tensor, " D"]:
    """Per column the axis of the origin to subtract, or ``_FIXED``."""
    chosen = [name if only is None or name in only else "" for name in names]
    axis = [_AXES.index(name[-1]) if "." in name and name.rsplit(".", 1)[1] in _AXES else _FIXED for name in chosen]
    return torch.tensor(axis, dtype=torch.int64)


class Frame(nn.Module):
    """Moves positions between the world and the policy's frame. Holds indices only, no weights."""

    position: Tensor
    action_axis: Tensor
    object_axis: Tensor

    def __init__(self, features: Features, frame: str):
        """Resolve the columns; falls back to ``world`` where the features name no gripper position."""
        super().__init__()
        self.relative = frame == "gripper" and supports_gripper_frame(features)
        width = len(features.state)  # the index of a zero: of an axis that a planar task does not have
        position = [features.state.index(name) if name in features.state else width for name in _GRIPPER]
        self.register_buffer("position", torch.tensor([*position, width]), persistent=False)
        self.register_buffer("action_axis", _axis_of(features.action, only=_GRIPPER), persistent=False)
        self.register_buffer("object_axis", _axis_of(features.environment_state), persistent=False)

    def origin(self, state: Float[Tensor, "*B To Ds"]) -> Float[Tensor, "*B 4"]:
        """Position of the gripper in the last observation, and a zero [m, world]."""
        last = state[..., -1, :]
        if not self.relative:
            return last.new_zeros((*last.shape[:-1], 4))
        return nn.functional.pad(last, (0, 1))[..., self.position]

    def objects(self, values: Float[Tensor, "*B To De"], origin: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B To De"]:
        """Object state from the world into the frame."""
        return values - origin[..., None, self.object_axis] if self.relative else values

    def actions(self, values: Float[Tensor, "*B Tp Da"], origin: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B Tp Da"]:
        """Actions from the world into the frame."""
        return values - origin[..., None, self.action_axis] if self.relative else values

    def to_world(self, values: Float[Tensor, "*B Tp Da"], origin: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B Tp Da"]:
        """Actions from the frame into the world; inverse of ``actions``."""
        return values + origin[..., None, self.action_axis] if self.relative else values
