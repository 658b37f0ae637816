"""Gate A1: a licence that we know, under its SPDX identifier (https://spdx.org/licenses)."""

from __future__ import annotations

import difflib

from simgen.assets.record import AssetRecord, GateFailure

# Identifier -> whether commercial use is allowed.
LICENCES: dict[str, bool] = {
    "0BSD": True,
    "Apache-2.0": True,
    "BSD-2-Clause": True,
    "BSD-3-Clause": True,
    "CC-BY-4.0": True,
    "CC-BY-3.0": True,
    "CC-BY-SA-4.0": True,
    "CC-BY-NC-4.0": False,
    "CC-BY-NC-SA-4.0": False,
    "CC0-1.0": True,
    "ISC": True,
    "MIT": True,
    "MPL-2.0": True,
    "PDDL-1.0": True,
    "Unlicense": True,
    "Zlib": True,
}


def licence_gate(licence: str) -> AssetRecord:
    """A1: the identifier is given and known."""
    if not licence.strip():
        raise GateFailure("A1", "LICENCE_MISSING", "no licence is given: pass licence=<SPDX identifier>, e.g. CC0-1.0")
    if licence not in LICENCES:
        close = difflib.get_close_matches(licence, LICENCES, n=1, cutoff=0.4)
        guess = f" did you mean {close[0]}?" if close else ""
        raise GateFailure(
            "A1", "LICENCE_UNKNOWN", f"licence '{licence}' is none of {', '.join(LICENCES)}:{guess} pass one of them"
        )
    return AssetRecord(gate="A1", ok=True, metrics={"licence": licence, "commercial": LICENCES[licence]})
