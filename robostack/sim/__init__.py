"""Simulation. Importing this package registers one Gymnasium id per task family: ``robostack/PutInBowl-v0`` ...

``gymnasium.make("robostack/PutInBowl-v0", robot="ur5e")`` chooses another robot; ``robostack/Task-v0`` takes any
``spec`` (a TaskSpec, or the path of a task.json).
"""

from __future__ import annotations

import gymnasium

FAMILIES = {
    "PutInBowl": "put_in_bowl",
    "PutOnPlate": "put_on_plate",
    "StackTwo": "stack_two",
    "StackThree": "stack_three",
    "PushToRegion": "push_to_region",
    "SortByColor": "sort_by_color",
    "LineUp": "line_up",
}


def make_task(task: str, robot: str = "panda", **kwargs):
    """A TaskEnv of a shipped task; raises UnknownName for a task or robot that is not shipped."""
    from robostack.errors import UnknownName
    from robostack.paths import find_cards
    from robostack.sim.env import TaskEnv
    from robostack.task.spec import TaskSpec

    files = find_cards(f"presets/{task}", ".json")
    if robot not in files:
        raise UnknownName(f"robot for task '{task}'", robot, files)
    return TaskEnv(TaskSpec.load(files[robot]), **kwargs)


def _register() -> None:
    for name, task in FAMILIES.items():
        gymnasium.register(f"robostack/{name}-v0", "robostack.sim:make_task", kwargs={"task": task})
    gymnasium.register("robostack/Task-v0", "robostack.sim.env:TaskEnv")


_register()
