"""Off-screen rendering. Software EGL is the usual case, so quality is a setting and the default is fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float, Int, UInt8

from robostack.errors import DeviceUnavailable

Quality = Literal["fast", "high"]


def _prefer_egl() -> None:
    """Use EGL where there is no display and the user chose nothing.

    MuJoCo picks its GL library when it is imported, which may be long before anyone renders: a variable comes late.
    """
    chosen = os.environ.get("MUJOCO_GL", "")
    if sys.platform != "linux" or (os.environ.get("DISPLAY") and not chosen) or chosen not in ("", "egl"):
        return
    from mujoco.egl import GLContext
    from mujoco.rendering.classic import gl_context

    gl_context.GLContext = GLContext


class SceneRenderer:
    """Renders one model at one size.

    ``fast``: no multisampling, no shadows: 96x96 in under 3 ms in software. ``high``: smooth edges and shadows.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, quality: Quality = "fast"):
        model.vis.quality.offsamples = 4 if quality == "high" else 0
        model.vis.quality.shadowsize = 2048 if quality == "high" else 0
        try:
            _prefer_egl()
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:
            raise DeviceUnavailable(
                "no OpenGL for pictures: install EGL (on Debian: apt-get install libegl1 libgl1-mesa-dri), then see"
                "  robostack doctor"
            ) from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = quality == "high"
        self._model = model
        self._scratch: mujoco.MjData | None = None

    def frame(self, data: mujoco.MjData, camera: str) -> UInt8[np.ndarray, "H W 3"]:
        """One RGB frame of the current state."""
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def depth(self, data: mujoco.MjData, camera: str) -> tuple[Float[np.ndarray, "H W"], Int[np.ndarray, "H W"]]:
        """Distance along the camera's axis [m], and the id of the geom seen, -1 for the sky."""
        self._renderer.enable_depth_rendering()
        self._renderer.update_scene(data, camera)
        metres = self._renderer.render()
        self._renderer.disable_depth_rendering()
        self._renderer.enable_segmentation_rendering()
        self._renderer.update_scene(data, camera)
        ids, kinds = np.moveaxis(self._renderer.render(), -1, 0)
        self._renderer.disable_segmentation_rendering()
        return metres, np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)

    def frames(self, qpos: Iterable[Float[np.ndarray, " Nq"]], camera: str, mocap=None) -> list[np.ndarray]:
        """Frames of stored positions; ``mocap`` is (positions, quaternions) of painted zones, constant in time."""
        data = self._scratch if self._scratch is not None else mujoco.MjData(self._model)
        self._scratch = data
        if mocap is not None:
            data.mocap_pos[:], data.mocap_quat[:] = mocap
        out = []
        for row in qpos:
            data.qpos[:] = row
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_camlight(self._model, data)
            out.append(self.frame(data, camera))
        return out

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()
