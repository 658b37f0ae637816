"""The pages of a sampling run and of a verification: the funnel first, then every task that was refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, document, section, small, tile
from robostack.evaluation.stats import wilson
from simgen.gates.funnel import Funnel
from simgen.gates.record import GATES, GateRecord
from simgen.library.build import BuildReport
from simgen.library.page import SCRIPT, funnel_table, gallery
from simgen.library.store import Library
from simgen.library.verify import Proof, VerifyReport


def write_sample_page(root: Path | str, page: Path | str, report: BuildReport) -> str:
    """Write the page of a sampling run; returns the funnel for the terminal."""
    library = Library(root)
    entries = [library.load(i, status) for i in report.ids if (status := library.status(i)) is not None]
    good = [entry for entry in entries if entry.status == "library"]
    found = Funnel.of(record for entry in entries for record in entry.records)
    refused = ((entry.id, entry.spec.instruction.text, record) for entry in entries if (record := entry.failed))
    sections = (
        _header(f"{report.certified} of {report.n} sampled tasks are certified", f"library · {Path(root).name}"),
        _sample_tiles(report),
        section("Funnel", funnel_table(found)),
        gallery(good) if good else section("Tasks", absent("No task was certified.")),
        _refused(refused),
    )
    content = document("sampled tasks", sections, script=SCRIPT if good else "", wide=True)
    write_atomic(Path(page), content.encode())
    return found.text()


def write_verify_page(folder: Path | str, page: Path | str, report: VerifyReport) -> str:
    """Write the page of a verification; returns the funnel for the terminal."""
    found = Funnel.of(record for proof in report.proofs for record in proof.records)
    refused = ((proof.task, proof.text, record) for proof in report.proofs if (record := proof.failed))
    sections = (
        _header(f"{report.ok} of {report.n} tasks are proven again", f"verification · {folder}"),
        _verify_tiles(report),
        section("Funnel", funnel_table(found)),
        _refused(refused),
        _proofs(report.proofs),
    )
    write_atomic(Path(page), document("verification", sections, wide=True).encode())
    return found.text()


def _header(title: str, kicker: str) -> Html:
    return tag("header", tag("p", tag("b", "robostack"), f" {kicker}", class_="kicker"), tag("h1", title))


def _sample_tiles(report: BuildReport) -> Html:
    low, high = wilson(report.certified, report.n)
    return tag(
        "dl",
        tile("Certified", [f"{report.certified}", small(f"/{report.n}")], f"95 % CI {low:.2f}–{high:.2f}", first=True),
        tile("Families", [f"{report.families}"], f"{report.robots} robots"),
        tile("Speed", [f"{report.per_core_minute:.2f}"], "certified tasks per core-minute"),
        tile("Processor time", [f"{report.cpu_s / 60:.1f}", small(" min")], "in all gates"),
        tile("Wall time", [f"{report.wall_s / 60:.1f}", small(" min")], "of the last command"),
        class_="tiles",
    )


def _verify_tiles(report: VerifyReport) -> Html:
    compared = sum(proof.compared for proof in report.proofs)
    return tag(
        "dl",
        tile("Proven again", [f"{report.ok}", small(f"/{report.n}")], "tasks", first=True),
        tile("Replay", [f"{report.replayed}", small(f"/{report.demos}")], "demos bit-exact in a fresh process"),
        tile("Solved again", [f"{compared}"], "episodes compared with the certificates"),
        tile("Processor time", [f"{report.cpu_s / 60:.1f}", small(" min")], "in all gates"),
        tile("Wall time", [f"{report.wall_s / 60:.1f}", small(" min")], "of the last command"),
        class_="tiles",
    )


def _refused(refused: Iterable[tuple[str, str, GateRecord]]) -> Html:
    rows = [
        (
            tag("code", task[:16]),
            words,
            join([tag("b", record.gate), f" {GATES[record.gate]}"]),
            tag("span", record.code, class_="mark bad"),
            record.detail,
        )
        for task, words, record in refused
    ]
    shown = table(("Task", "Text", "Gate", "Code", "Why"), rows) if rows else absent("No task was refused.")
    return section("Refused", shown)


def _proofs(proofs: Sequence[Proof]) -> Html:
    rows = (
        (
            tag("code", proof.task[:16]),
            proof.text,
            f"{proof.replayed}/{proof.demos}",
            f"{proof.compared}",
            tag("span", "proven" if proof.failed is None else "refused", class_=_mark(proof)),
        )
        for proof in proofs
    )
    return section("Every task", table(("Task", "Text", "Demos that replay", "Episodes solved again", ""), rows))


def _mark(proof: Proof) -> str:
    return "mark ok" if proof.failed is None else "mark bad"
