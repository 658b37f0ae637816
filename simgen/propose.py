"""From a sentence to a TaskSpec by the grammar: offline, deterministic, in about a millisecond."""

from __future__ import annotations

from robostack.sim.cards import load_robot
from robostack.task.check import check
from robostack.task.profile import RobotProfile
from robostack.task.spec import TaskSpec
from simgen.grammar import parse


def propose(sentence: str, robot: str, *, profile: RobotProfile | None = None) -> TaskSpec:
    """The task that a sentence asks of a robot.

    The same sentence and profile give the same ``TaskSpec.id`` in every process. ``instruction.text`` keeps the words
    of the sentence; proposing that text gives the same task again. The profile is that of the robot's card unless one
    is given.

    Raises:
        SentenceError: the grammar cannot read the sentence, or it contradicts itself.
        UnknownName: no such robot.
        SceneError: the robot's workspace is too small for the task.
    """
    production, instruction = parse(sentence)
    spec = production.build(instruction, robot, profile or load_robot(robot).profile)
    check(spec)
    return spec
