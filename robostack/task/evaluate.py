"""Truth of predicates and of a whole task over time: what the rest of the stack calls.

A margin is a function of the current state and of the state at reset. The only history is in ``GoalMonitor``: the
running hold window, two latches, what ``once`` and ``seq`` remember, and flags that give a failed episode its code.
"""

from robostack.task.check import check, check_bindings, init_violation
from robostack.task.compiled import compile_pred
from robostack.task.failure import FailureCode, failure_code
from robostack.task.ground import ground
from robostack.task.margins import diverged, margin, margin_at_start
from robostack.task.monitor import GoalMonitor
from robostack.task.predicate import memoryless
from robostack.task.wording import text

__all__ = [
    "FailureCode",
    "GoalMonitor",
    "check",
    "check_bindings",
    "compile_pred",
    "diverged",
    "failure_code",
    "ground",
    "init_violation",
    "margin",
    "margin_at_start",
    "memoryless",
    "text",
]
