"""What a decision knows, as tensors; and where training finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from robostack.data.arrays import EpisodeArrays
from robostack.errors import DataError
from robostack.types import Features, Observation


@dataclass(frozen=True)
class Observed:
    """Windows of To observations, oldest first, in physical units and the world frame.

    Attributes:
        state: proprioception.
        objects: state of the objects; De is 0 for a policy that is not told.
        images: RGB by camera, for those that the policy looks at.
        points: x, y, z [m] and red, green, blue in [0, 1] of P points; None for a policy that looks at none.
        language: the instruction of each window; empty where nobody gave any.
        goal: what is to be seen in the end, NaN in windows without one; None where no window has any.
    """

    state: Float[Tensor, "B To Ds"]
    objects: Float[Tensor, "B To De"]
    images: Mapping[str, UInt8[Tensor, "B To _ _ 3"]] = field(default_factory=dict)
    points: Float[Tensor, "B To P 6"] | None = None
    language: tuple[str, ...] = ()
    goal: Float[Tensor, "B G"] | None = None

    def __len__(self) -> int:
        return len(self.state)

    @staticmethod
    def of(obs: Observation, features: Features, To: int, device: torch.device) -> Observed:
        """What a policy with these features looks at of an observation with axes (B, To).

        Raises:
            DataError: something missing, of another shape than the features say, or a value that is not finite.
        """
        state = _columns("state", obs.state, features.state, To)
        objects = np.zeros((*state.shape[:2], 0), np.float32)
        if features.environment_state:
            objects = _columns("environment_state", obs.environment_state, features.environment_state, To)
        images = {name: _picture(obs, name, (To, height, width, 3)) for name, height, width in features.cameras}
        points = _cloud(obs, (To, features.points, 6)) if features.points else None
        return Observed(
            torch.from_numpy(state).to(device),
            torch.from_numpy(objects).to(device),
            {name: torch.from_numpy(image).to(device) for name, image in images.items()},
            None if points is None else torch.from_numpy(points).to(device),
            (obs.language,) * len(state),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """All that was seen, in a fixed order."""
        points = () if self.points is None else (self.points,)
        return (self.state, self.objects, *self.images.values(), *points)


class Recorded:
    """A dataset to cut windows from: its numbers lie on the device; its pictures stay where they are until asked for.

    Attributes:
        state, objects, action: all rows, in physical units and the world frame.
    """

    state: Float[Tensor, "N Ds"]
    objects: Float[Tensor, "N De"]
    action: Float[Tensor, "N Da"]

    def __init__(self, arrays: EpisodeArrays, features: Features, device: torch.device):
        """Take what a policy with these features looks at; raises DataError where it was not loaded."""
        missing = [f"pictures of camera '{name}'" for name, _, _ in features.cameras if name not in arrays.images]
        missing += ["point clouds"] * (features.points > 0 and arrays.points is None)
        if missing:
            raise DataError(f"the dataset was loaded without {missing[0]}: pass cameras or points to load_arrays")
        self.images = {name: arrays.images[name] for name, _, _ in features.cameras}
        self.points = arrays.points if features.points else None
        self._ends, self._instructions = arrays.ends, arrays.instructions
        objects = arrays.environment_state if features.environment_state else arrays.environment_state[:, :0]
        columns = (arrays.state, objects, arrays.action)
        self.state, self.objects, self.action = (torch.tensor(c, dtype=torch.float32, device=device) for c in columns)

    def at(self, rows: Int[np.ndarray, "B To"]) -> Observed:
        """The windows of these rows."""
        index = torch.from_numpy(rows).to(self.state.device)
        images = {name: torch.from_numpy(frames[rows]).to(index.device) for name, frames in self.images.items()}
        points = None if self.points is None else torch.from_numpy(self.points[rows]).to(index.device)
        episodes = np.searchsorted(self._ends, rows[:, -1], side="right").tolist()
        language = tuple(self._instructions[episode] for episode in episodes)
        return Observed(self.state[index], self.objects[index], images, points, language)


def _columns(kind: str, values: np.ndarray, names: tuple[str, ...], To: int) -> np.ndarray:
    if values.ndim != 3 or values.shape[1:] != (To, len(names)):
        raise DataError(
            f"observation '{kind}' has shape {values.shape}, the policy was trained on "
            f"(lanes, {To}, {len(names)}): {', '.join(names) or 'no columns'}"
        )
    if not np.isfinite(values).all():
        lane, _, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"observation '{names[column]}' is not finite in lane {lane}: check the sensor or simulator")
    return np.ascontiguousarray(values, dtype=np.float32)


def _picture(obs: Observation, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in obs.images:
        raise DataError(f"the observation has no picture of camera '{name}', only of {', '.join(obs.images) or 'none'}")
    image = obs.images[name]
    if image.ndim != 5 or image.shape[1:] != shape or image.dtype != np.uint8:
        raise DataError(
            f"pictures of camera '{name}' are {image.dtype} {image.shape}, the policy was trained on uint8 "
            f"(lanes, {', '.join(map(str, shape))}): use the same camera and size"
        )
    return np.ascontiguousarray(image)


def _cloud(obs: Observation, shape: tuple[int, ...]) -> np.ndarray:
    points = obs.points
    if points is None:
        raise DataError(f"the observation has no point cloud: the policy was trained on {shape[1]} points")
    if points.ndim != 4 or points.shape[1:] != shape:
        raise DataError(
            f"point clouds have shape {points.shape}, the policy was trained on (lanes, "
            f"{', '.join(map(str, shape))}): use as many points"
        )
    if not np.isfinite(points).all():
        lane = np.argwhere(~np.isfinite(points))[0][0]
        raise DataError(f"a point of the cloud in lane {lane} is not finite: check the sensor or simulator")
    return np.ascontiguousarray(points, dtype=np.float32)
