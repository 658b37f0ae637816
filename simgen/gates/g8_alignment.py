"""G8: the instruction asks for what the goal rewards."""

from __future__ import annotations

from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.grammar.align import compare


@gate("G8", limit_s=10.0)
def alignment(candidate: Candidate) -> dict[str, Metric]:
    """Neither the text nor a paraphrase of it contradicts the goal."""
    spec, likeness = candidate.spec, 1.0
    for text in (spec.instruction.text, *spec.instruction.paraphrases):
        found = compare(text, spec)
        likeness = min(likeness, found.similarity)
        if not found.ok:
            why = "; ".join(found.contradictions) or f"a likeness of {found.similarity:g}"
            raise GateFailure(
                Code.MISALIGNED, f"'{text}' against '{found.described}': {why}", {"similarity": found.similarity}
            )
    return {"similarity": likeness, "paraphrases": len(spec.instruction.paraphrases)}
