"""All that is known of one task, for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.evaluation import plots
from robostack.evaluation.html import Child, Html, join, table, tag, text
from robostack.evaluation.page import absent, document, facts, picture, plot, section, small, tile
from robostack.evaluation.readable import goal_lines, goal_list, hold_sentence
from robostack.evaluation.stats import wilson
from robostack.evaluation.video import Media
from robostack.paths import data_dirs
from robostack.task.spec import Entity, Subgoal, TaskSpec
from robostack.task.wording import text as short
from simgen.gates.record import GATES, Certificate, GateRecord
from simgen.library.entry import Entry, Status, load_entry
from simgen.library.store import find_folder

_EPISODES_SHOWN = 64


@dataclass(frozen=True)
class Explanation:
    """What ``robostack gen explain`` shows.

    Attributes:
        lines: for a terminal.
        page: path of the written page.
    """

    entry: Entry
    lines: tuple[str, ...]
    page: Path


def explain(task: str, page: Path | str, *, library: Path | str | None = None) -> Explanation:
    """Describe a task and write its page.

    Args:
        task: the id of a task of the library or its first digits, or the folder of a task.
        page: path of the page to write.
        library: where to look for the id; None is the library that robostack ships, and the user's own.

    Raises:
        UnknownName: no such task.
        DataError: its folder is damaged.
    """
    roots = [Path(library)] if library is not None else [root / "tasks" for root in data_dirs()]
    folder = find_folder(task, roots)
    status: Status = "failed" if folder.parent.name == "failed" else "library"
    entry = load_entry(folder, status)
    write_atomic(Path(page), render(entry).encode())
    return Explanation(entry, tuple(describe(entry)), Path(page))


# Terminal.


def describe(entry: Entry) -> Iterator[str]:
    """Lines of plain text."""
    spec = entry.spec
    yield f"“{spec.instruction.text}”"
    yield f"task {entry.id}   family {spec.family}   robot {spec.robot.name}   {_state(entry)}"
    for title, pred_lines in _meaning(spec):
        yield ""
        yield title
        yield from (f"  {line}" for line in pred_lines)
    yield ""
    yield "objects"
    yield from (f"  {e.id:<22} {e.color} {e.card}, {e.role}, starts {_start(e)}" for e in spec.entities)
    yield ""
    yield "gates"
    yield from _gate_lines(entry.records) if entry.records else ("  none has judged this task",)
    yield ""
    yield "certificate"
    yield from _certificate_lines(entry.certificate) if entry.certificate else ("  none",)


def _meaning(spec: TaskSpec) -> Iterator[tuple[str, list[str]]]:
    yield "goal", [*goal_lines(spec.goal), hold_sentence(spec.hold)]
    if spec.init:
        yield "at the start", [line for pred in spec.init for line in goal_lines(pred)]
    if spec.never:
        yield "never", [line for pred in spec.never for line in goal_lines(pred)]
    if spec.subgoals:
        yield "subgoals", [f"{i}. {_call(s)}: {short(s.goal)}" for i, s in enumerate(spec.subgoals)]


def _gate_lines(records: Sequence[GateRecord]) -> Iterator[str]:
    for record in records:
        verdict = record.code if record.ok else f"{record.code} (refused)"
        yield f"  {record.gate:<4} {GATES[record.gate]:<32} {verdict:<24} {record.cost_s:7.2f} s".rstrip()
        if record.detail:
            yield f"       {record.detail}"
        if record.metrics:
            yield f"       {', '.join(f'{name} {_metric(value)}' for name, value in record.metrics.items())}"


def _certificate_lines(certificate: Certificate) -> Iterator[str]:
    low, high = certificate.wilson95
    yield f"  solved {certificate.k} of {certificate.n} scenes, 95 % interval {low:.3f} to {high:.3f}"
    yield f"  methods per subgoal: {', '.join(certificate.methods) or 'none recorded'}"
    yield f"  demonstrations of seeds {', '.join(map(str, certificate.demos)) or 'none'}"
    yield f"  model {certificate.model_sha[:16]}   {', '.join(f'{k} {v}' for k, v in certificate.versions.items())}"
    for episode in certificate.episodes:
        if not episode.ok:
            yield f"  seed {episode.seed}: {episode.code}"


# Page.


def render(entry: Entry) -> str:
    """The page of one task."""
    spec = entry.spec
    sections = (
        _header(entry),
        _tiles(entry),
        _witness(entry),
        _task(spec),
        _gates(entry),
        _proof(entry),
        _source(spec),
    )
    return document(spec.instruction.text, sections)


def _header(entry: Entry) -> Html:
    spec = entry.spec
    kicker = tag("p", tag("b", "robostack"), f" task · {spec.robot.name} · {spec.family} · {entry.id}", class_="kicker")
    return tag("header", kicker, tag("h1", f"“{spec.instruction.text}”"), tag("p", _state(entry), class_="verdict"))


def _tiles(entry: Entry) -> Html | None:
    certificate = entry.certificate
    if certificate is None:
        return None
    low, high = certificate.wilson95
    passed = sum(record.ok for record in entry.records)
    seconds = [episode.seconds for episode in certificate.episodes if episode.ok]
    margins = [e.min_margin for e in certificate.episodes if e.ok and e.min_margin is not None]
    mean_s = sum(seconds) / max(1, len(seconds))
    least = f"least margin {1e3 * min(margins):.1f}·10⁻³" if margins else "margins were not recorded"
    return tag(
        "dl",
        tile("Expert", [f"{certificate.k}", small(f"/{certificate.n}")], f"95 % CI {low:.2f}–{high:.2f}", first=True),
        tile("Gates passed", [f"{passed}", small(f"/{len(entry.records)}")], "cheapest first"),
        tile("Demonstrations", [f"{len(certificate.demos)}"], "replayed bit-exactly"),
        tile("An episode", [f"{mean_s:.1f}", small(" s")], least),
        tile("Cost", [f"{sum(r.cost_s for r in entry.records):.1f}", small(" s")], "processor time of all gates"),
        class_="tiles",
    )


def _witness(entry: Entry) -> Html:
    png = entry.witness
    if png is None:
        return tag("div", absent("There is no picture of a state in which the goal holds."), class_="scene")
    image = picture(Media(png, "image/png", 0, 0), f"The goal holds: {entry.spec.instruction.text}")
    return tag("figure", image, tag("figcaption", "A state in which the goal holds."), class_="scene")


def _task(spec: TaskSpec) -> Html:
    left = facts(
        [
            ("Instruction", spec.instruction.text),
            *((("Also", join(map(text, spec.instruction.paraphrases), "; ")),) if spec.instruction.paraphrases else ()),
            ("Name", tag("code", spec.name)),
            ("Family", spec.family),
            ("Robot", f"{spec.robot.name}, {spec.robot.control_mode} at {spec.robot.control_hz:g} Hz"),
            ("Time limit", f"{spec.horizon_s:g} s"),
            ("Subgoals", join([tag("code", _call(s)) for s in spec.subgoals], ", ")),
        ]
    )
    right: list[Child] = [tag("h3", "Goal"), goal_list(spec.goal), tag("p", hold_sentence(spec.hold), class_="note")]
    for title, preds in (("At the start", spec.init), ("Never", spec.never)):
        right += [tag("h3", title), *map(goal_list, preds)] if preds else []
    rows = ((tag("code", e.id), f"{e.color} {e.card}", e.role, _start(e)) for e in spec.entities)
    pair = tag("div", tag("div", left), tag("div", *right), class_="pair")
    return section("Task", pair, table(("Object", "Card", "Role", "Starts"), rows))


def _gates(entry: Entry) -> Html:
    if not entry.records:
        return section("Gates", absent("No gate has judged this task."))
    rows = (
        (
            join([tag("b", record.gate), f" {GATES[record.gate]}"]),
            tag("span", record.code, class_="mark ok" if record.ok else "mark bad"),
            join([record.detail, _metrics(record)], " "),
            f"{record.cost_s:.2f} s",
        )
        for record in entry.records
    )
    return section("Gates", table(("Gate", "Verdict", "Evidence", "Cost"), rows))


def _metrics(record: GateRecord) -> Html:
    parts = (join([f"{name} ", tag("code", _metric(value))]) for name, value in record.metrics.items())
    return tag("span", join(parts, ", "), class_="op")


def _proof(entry: Entry) -> Html:
    certificate = entry.certificate
    if certificate is None:
        return section("Certificate", absent("This task has no certificate."))
    interval = plots.success_intervals([plots.Proportion("expert", certificate.k, certificate.n)])
    known = facts(
        [
            ("Model", tag("code", certificate.model_sha[:16])),
            ("Methods", ", ".join(certificate.methods) or "none recorded"),
            ("Demonstrations", ", ".join(f"seed {seed}" for seed in certificate.demos) or "none"),
            *((name, value) for name, value in certificate.versions.items()),
        ]
    )
    rows = (
        (
            f"{e.seed}",
            tag("span", "✓" if e.ok else f"✗ {e.code}", class_="mark ok" if e.ok else "mark bad"),
            ", ".join(e.methods),
            f"{e.seconds:.1f} s",
            "" if e.min_margin is None else f"{e.min_margin:.4f}",
            tag("code", (e.final_sha or "")[:12]),
        )
        for e in certificate.episodes[:_EPISODES_SHOWN]
    )
    episodes = table(("Seed", "Outcome", "Methods", "Duration", "Least margin", "Final state"), rows)
    return section("Certificate", tag("div", known, plot("Expert success", interval), class_="pair"), episodes)


def _source(spec: TaskSpec) -> Html:
    code = tag("pre", tag("code", spec.to_json()))
    return section("task.json", tag("details", tag("summary", "The whole specification"), code))


# Words.


def _state(entry: Entry) -> str:
    refused = entry.failed
    if refused is not None:
        return f"refused by {refused.gate} ({GATES[refused.gate]}): {refused.code}"
    if entry.certificate is None:
        return "not certified"
    rate = wilson(entry.certificate.k, entry.certificate.n)
    variant = f", a variant of {entry.parent}" if entry.parent else ""
    return f"certified: the expert solves it with probability of at least {rate.low:.2f}{variant}"


def _start(entity: Entity) -> str:
    x0, y0, x1, y1 = entity.placement.box
    where = "in" if entity.placement.inside else "on"
    joints = "".join(f", {name} {low:g} to {high:g} open" for name, (low, high) in entity.joints.items())
    return f"{where} {entity.placement.on}, x {x0:g} to {x1:g}, y {y0:g} to {y1:g} m{joints}"


def _call(subgoal: Subgoal) -> str:
    return f"{subgoal.skill}({', '.join(a if isinstance(a, str) else f'{a:g}' for a in subgoal.args)})"


def _metric(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_metric, value)) + "]"
    return str(value)
