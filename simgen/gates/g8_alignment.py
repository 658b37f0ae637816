"""G8: the instruction asks for what the goal rewards."""

from __future__ import annotations

from simgen.gates.alignment import disagreement
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate


@gate("G8", limit_s=10.0)
def alignment(candidate: Candidate) -> dict[str, Metric]:
    """Objects, relations, order and numbers of the text are those of the goal."""
    if found := disagreement(candidate.spec):
        raise GateFailure(Code.MISALIGNED, found)
    return {"paraphrases": len(candidate.spec.instruction.paraphrases)}
