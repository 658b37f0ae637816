"""How many tasks each gate let through, at which price, and what it refused them for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from simgen.gates.record import GATES, Gate, GateRecord
from simgen.gates.registry import ORDER


@dataclass(frozen=True)
class Row:
    """One gate.

    Attributes:
        entered, passed: tasks.
        cost_s: median processor time [s].
        codes: what it refused for, most frequent first.
    """

    gate: Gate
    entered: int
    passed: int
    cost_s: float
    codes: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Passed of entered."""
        return self.passed / self.entered if self.entered else 0.0


@dataclass(frozen=True)
class Funnel:
    """The gates that judged anything, in the order in which they run.

    Attributes:
        proposed: different tasks that entered the first gate.
        cpu_s: processor time of all gates together [s].
    """

    rows: tuple[Row, ...]
    proposed: int
    cpu_s: float

    @classmethod
    def of(cls, records: Iterable[GateRecord], *, top: int = 3) -> Funnel:
        """Count records; of a task that was judged twice by a gate the last record counts."""
        latest = {(record.task, record.gate): record for record in records}
        rows = []
        gates: tuple[Gate, ...] = (*ORDER, *(g for g in GATES if g not in ORDER))
        for gate in gates:
            mine = [record for (_, g), record in latest.items() if g == gate]
            if mine:
                codes = Counter(record.code for record in mine if not record.ok).most_common(top)
                passed = sum(record.ok for record in mine)
                rows.append(Row(gate, len(mine), passed, median(r.cost_s for r in mine), tuple(codes)))
        tasks = {task for task, _ in latest}
        return cls(tuple(rows), len(tasks), sum(record.cost_s for record in latest.values()))

    @property
    def certified(self) -> int:
        """Tasks that passed the last gate that judged anything."""
        return self.rows[-1].passed if self.rows else 0

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {
            "proposed": self.proposed,
            "certified": self.certified,
            "cpu_s": round(self.cpu_s, 3),
            "gates": [
                {
                    "gate": row.gate,
                    "what": GATES[row.gate],
                    "entered": row.entered,
                    "passed": row.passed,
                    "share": round(row.share, 4),
                    "median_cost_s": round(row.cost_s, 4),
                    "codes": dict(row.codes),
                }
                for row in self.rows
            ],
        }

    def text(self) -> str:
        """A table for a terminal."""
        lines = [f"{'gate':5}{'':32}{'in':>6}{'out':>6}{'pass':>8}{'median s':>10}  refused for"]
        for row in self.rows:
            codes = ", ".join(f"{code} {n}" for code, n in row.codes)
            counts = f"{row.entered:6}{row.passed:6}{row.share:8.1%}{row.cost_s:10.3f}"
            lines.append(f"{row.gate:5}{GATES[row.gate]:32}{counts}  {codes}")
        per = f", {self.cpu_s / self.certified:.2f} s for each certified one" if self.certified else ""
        lines.append(f"{self.proposed} tasks, {self.cpu_s:.1f} s of processor time{per}")
        return "\n".join(line.rstrip() for line in lines)
