"""How often the expert solves each shipped task and each drill, per robot.

``python -m simgen.experts.survey [episodes] [task ...]``: all shipped tasks where none is named;
``drills`` for all drills.

The seeds are of the evaluation namespace, which no demonstration uses.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence

from robostack.errors import SceneError
from robostack.evaluation.stats import wilson
from robostack.runtime.pool import worker_pool
from robostack.sim import make_task
from robostack.sim.cards import robots
from robostack.sim.env import TaskEnv
from robostack.sim.scene import eval_seed
from simgen.experts.drills import drill, drills
from simgen.experts.expert import Expert
from simgen.shipped import SENTENCES

_FIRST_SEED = 900_000


def survey(task: str, robot: str, episodes: int) -> Counter:
    """Failure code -> count over ``episodes`` unseen seeds of a shipped task or a drill; the empty code is success."""
    env = TaskEnv(drill(task, robot)) if task in drills() else make_task(task, robot)
    expert, codes = Expert(env), Counter()
    for index in range(episodes):
        try:
            codes[expert.solve(eval_seed(_FIRST_SEED + index))[1]] += 1
        except SceneError as error:
            codes[error.code] += 1
    return codes


def _ready() -> None:
    """Workers need no preparation: each row builds its own environment."""


def main(episodes: int, tasks: Sequence[str] = ()) -> None:
    """Print one row per task and robot."""
    names = drills() if list(tasks) == ["drills"] else tasks or tuple(SENTENCES)
    rows = [(task, robot) for task in names for robot in robots()]
    with worker_pool(len(os.sched_getaffinity(0)), _ready, ()) as pool:
        futures = [pool.submit(survey, task, robot, episodes) for task, robot in rows]
        for (task, robot), future in zip(rows, futures, strict=True):
            codes = future.result()
            low = wilson(codes[""], episodes).low
            failures = ", ".join(f"{code} {count}" for code, count in codes.items() if code)
            sys.stdout.write(f"{task:15} {robot:6} {codes['']:3}/{episodes}  Wilson low {low:.3f}  {failures}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64, sys.argv[2:])
