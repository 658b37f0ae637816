"""Physics engines behind ``TaskEnv``. MuJoCo is the reference; a second engine shows what depends on the first."""

from __future__ import annotations

from collections.abc import Callable

from robostack.registry import Registry
from robostack.sim.scene import Scene
from robostack.task.spec import TaskSpec

ENGINES: Registry[Callable[[TaskSpec], Scene]] = Registry("engine")


def _pybullet(spec: TaskSpec) -> Scene:
    from robostack.sim.engines.pybullet import BulletScene  # an optional dependency, and 0.2 s of import

    return BulletScene(spec)


ENGINES.add("mujoco", Scene)
ENGINES.add("pybullet", _pybullet)
