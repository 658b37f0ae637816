"""G9: the demonstrations, as they are stored, done again by an interpreter that knows nothing but the task."""

from __future__ import annotations

from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.gates.replayer import PATIENCE_S, in_fresh_process


@gate("G9", limit_s=PATIENCE_S)
def replay(candidate: Candidate) -> dict[str, Metric]:
    """Every demonstration starts, acts and ends in a fresh process as it did here, to the last bit."""
    certificate = candidate.certificate
    if certificate is None or not candidate.episodes:
        raise GateFailure(Code.ACTIONS_DIFFER, "there is no demonstration to replay: run G7 first")
    recorded = {episode.seed: episode for episode in certificate.episodes}
    answer = in_fresh_process(candidate.spec, {e.seed: e.action for e in candidate.episodes})
    if answer["versions"] != certificate.versions:
        raise GateFailure(Code.VERSION, f"recorded with {certificate.versions}, replayed with {answer['versions']}")
    for episode in candidate.episodes:
        before, after = recorded[episode.seed], answer["episodes"][str(episode.seed)]
        if after["state0"] != before.state0_sha:
            raise GateFailure(Code.STATE_DIFFERS, f"seed {episode.seed} starts elsewhere in a fresh process")
        if after["ctrl"] != before.ctrl_sha or after["final"] != before.final_sha:
            raise GateFailure(Code.ACTIONS_DIFFER, f"the actions of seed {episode.seed} lead elsewhere when replayed")
        if not after["success"]:
            raise GateFailure(Code.ACTIONS_DIFFER, f"the actions of seed {episode.seed} do not end in success")
    return {"demos": len(candidate.episodes), "exact": len(candidate.episodes)}
