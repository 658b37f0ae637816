"""What a comparison consists of, as plain frozen values from ``configs/suite/``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from robostack.errors import ConfigError
from robostack.runtime.execution import ACCELERATIONS


@dataclass(frozen=True)
class TaskRow:
    """A task and the demonstrations that are made for it.

    Attributes:
        name: of the row, a word.
        task: a sentence, a file, a folder, or the beginning of a library id.
        robot: for a sentence.
        demos: demonstrations.
        training: how many times the steps of a policy's row it is trained for on this task.
        policies: by name of a ``PolicyRow``, the settings that differ on this task; ``training`` counts for them too.
    """

    name: str
    task: str
    demos: int
    robot: str = "panda"
    training: float = 1.0
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        if self.demos < 1 or not 0 < self.training < math.inf:
            given = f"demos={self.demos}, training={self.training}"
            raise ConfigError(f"suite: task '{self.name}' has {given}: use at least 1 and a number above 0")


@dataclass(frozen=True)
class PolicyRow:
    """A training.

    Attributes:
        name: of the row.
        policy: an option of ``configs/policy/``.
        settings: values of that option to change, by dotted name.
    """

    name: str
    policy: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One way of acting with a checkpoint.

    Attributes:
        policy: name of a ``PolicyRow``.
        sampler, execution: names.
        accelerate: one of ``ACCELERATIONS``.
        against: key of the cell that it must not be worse than; empty for none.
    """

    policy: str
    sampler: str
    execution: str
    against: str = ""
    accelerate: str = "none"

    @property
    def key(self) -> str:
        """``policy:sampler:execution``, and for example ``:native`` where it is accelerated."""
        how = "" if self.accelerate == "none" else f":{self.accelerate}"
        return f"{self.policy}:{self.sampler}:{self.execution}{how}"


@dataclass(frozen=True)
class Suite:
    """Tasks x cells, with ``n`` paired episodes each.

    Attributes:
        margin: largest loss of success that still counts as none.
        decisions: timed decisions per cell.
    """

    name: str
    tasks: tuple[TaskRow, ...]
    policies: tuple[PolicyRow, ...]
    cells: tuple[Cell, ...]
    n: int
    margin: float
    decisions: int

    def __post_init__(self):
        for kind, names in (
            ("task", [t.name for t in self.tasks]),
            ("policy", [p.name for p in self.policies]),
            ("cell", [c.key for c in self.cells]),
        ):
            _unique(kind, names)
        known, keys = {p.name for p in self.policies}, {c.key for c in self.cells}
        for task in self.tasks:
            for name in task.policies:
                if name not in known:
                    raise ConfigError(f"suite: task '{task.name}' changes policy '{name}': use {', '.join(known)}")
        for cell in self.cells:
            if cell.policy not in known:
                raise ConfigError(f"suite: cell '{cell.key}' names no policy of the suite: use {', '.join(known)}")
            if cell.against and cell.against not in keys:
                raise ConfigError(
                    f"suite: '{cell.key}' is compared with '{cell.against}', which is no cell: {', '.join(keys)}"
                )
        if self.n < 1 or self.decisions < 2 or not 0 < self.margin < 1:
            raise ConfigError(
                f"suite: n={self.n} must be at least 1, decisions={self.decisions} at least 2, margin={self.margin}"
                " between 0 and 1"
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Suite:
        """A suite from plain values; raises ConfigError naming what is missing, unknown or of a wrong kind."""
        try:
            tasks = tuple(_task(name, row) for name, row in values["tasks"].items())
            policies = tuple(_policy(name, row) for name, row in values["policies"].items())
            cells = tuple(_cell(row) for row in values["cells"])
            return cls(values["name"], tasks, policies, cells, values["n"], values["margin"], values["decisions"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"the suite cannot be read ({error}): compare it with configs/suite/small.yaml"
            ) from error

    def row(self, task: TaskRow, policy: PolicyRow) -> PolicyRow:
        """What a policy trains with on a task, but for ``task.training``."""
        return replace(policy, settings={**policy.settings, **task.policies.get(policy.name, {})})

    def with_only(self, tasks: Sequence[str], policies: Sequence[str]) -> Suite:
        """The part of the suite with these rows; empty sequences keep all. Comparisons with dropped cells go."""
        kept_tasks = _chosen("task", tasks, [t.name for t in self.tasks])
        kept = _chosen("policy", policies, [p.name for p in self.policies])
        cells = [c for c in self.cells if c.policy in kept]
        keys = {c.key for c in cells}
        return Suite(
            self.name,
            tuple(_kept(t, kept) for t in self.tasks if t.name in kept_tasks),
            tuple(p for p in self.policies if p.name in kept),
            tuple(c if c.against in keys else replace(c, against="") for c in cells),
            self.n,
            self.margin,
            self.decisions,
        )


def _task(name: str, row: Mapping[str, Any]) -> TaskRow:
    settings = dict(row)
    changed = {policy: dict(values) for policy, values in settings.pop("policies", {}).items()}
    return TaskRow(name, training=float(settings.pop("training", 1)), policies=changed, **settings)


def _kept(task: TaskRow, policies: set[str]) -> TaskRow:
    return replace(task, policies={name: row for name, row in task.policies.items() if name in policies})


def _policy(name: str, row: Mapping[str, Any]) -> PolicyRow:
    settings = dict(row)
    return PolicyRow(name, settings.pop("policy"), settings)


def _cell(row: str) -> Cell:
    """``policy:sampler:execution[:native]`` or another acceleration, or that and ``vs`` another."""
    own, _, against = (part.strip() for part in row.partition(" vs "))
    policy, sampler, execution, *how = own.split(":")
    if how and (len(how) > 1 or how[0] not in ACCELERATIONS[1:]):
        raise ValueError(f"'{own}' ends with '{':'.join(how)}', not with {', '.join(ACCELERATIONS[1:])}")
    return Cell(policy, sampler, execution, against, *how)


def _chosen(kind: str, wanted: Sequence[str], names: Sequence[str]) -> set[str]:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(f"the suite has no {kind} '{unknown[0]}': it has {', '.join(names)}")
    return set(wanted or names)


def _unique(kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ConfigError(f"suite: {f'{kind} {twice[0]} stands twice' if twice else f'there is no {kind}'}")
