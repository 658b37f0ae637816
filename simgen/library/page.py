"""The page of a library: a picture per task, filters, coverage, diversity, expert success and the funnel."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.errors import ConfigError
from robostack.evaluation import plots
from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, document, meter, picture, plot, section, small, tile
from robostack.evaluation.stats import wilson
from robostack.evaluation.video import Media
from robostack.paths import data_dirs
from robostack.task.spec import TaskSpec
from simgen.gates.funnel import Funnel
from simgen.gates.record import GATES, GateRecord
from simgen.library.dedup import entry_behaviour
from simgen.library.diversity import Diversity, Figure, Sample, diversity, holes
from simgen.library.entry import Entry
from simgen.library.jobs import locate
from simgen.library.store import Library
from simgen.library.thumbnail import thumbnail

SCRIPT = Path(__file__).with_name("gallery.js").read_text(encoding="utf-8")
_ARTICULATED = frozenset(("open", "close", "press", "turn"))


@dataclass(frozen=True)
class Overview:
    """What the page shows, in figures.

    Attributes:
        tasks: certified; ``failed``: refused by a gate.
        articulated: tasks with a joint to move.
        attempts, successes: of the expert, over all certificates.
        demos: stored demonstrations.
        holes: cells of the coverage grid worth filling next.
    """

    tasks: int
    failed: int
    families: int
    robots: int
    articulated: int
    attempts: int
    successes: int
    demos: int
    diversity: Diversity
    holes: tuple[str, ...]

    def figures(self) -> dict[str, float | int]:
        """Flat, for ``metrics.json``: the value of each measure and its interval."""
        flat: dict[str, float | int] = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        for name, value in vars(self.diversity).items():
            if isinstance(value, Figure):
                flat |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                flat[f"diverse_{name}"] = value
        return flat


def write_library_page(
    folder: Path | str | None,
    page: Path | str,
    *,
    seed: int = 0,
    resamples: int = 200,
    cells: str = "simgen.library.signature.coverage_cells",
) -> Overview:
    """Write the page of a library and return its figures.

    Args:
        folder: the library; None is the one that robostack ships.
        page: path of the page to write.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        cells: dotted name of the function that gives a task's cells of the coverage grid.

    Raises:
        ConfigError: no such folder, or no certified task in it.
        DataError: a damaged task.
    """
    root = Path(folder) if folder is not None else data_dirs()[-1] / "tasks"
    if not root.is_dir():
        raise ConfigError(f"no library at {root}: pass its folder, as  robostack gen sample  writes it")
    library = Library(root)
    entries, failed = tuple(library), library.entries("failed")
    if not entries:
        raise ConfigError(f"{root} holds no certified task: fill it with  robostack gen sample out={root}")
    overview = survey(entries, len(failed), cells=locate(cells), seed=seed, resamples=resamples)
    records = [record for entry in (*entries, *failed) for record in entry.records]
    write_atomic(Path(page), render(root.name, entries, overview, records).encode())
    return overview


def survey(
    entries: Sequence[Entry], failed: int, *, cells: Callable[[TaskSpec], Sequence[str]], seed: int, resamples: int
) -> Overview:
    """Measure a library; variants of a task count once in the diversity."""
    present = {entry.id for entry in entries}
    counted = [entry for entry in entries if entry.parent not in present]
    samples = [
        Sample(
            entry.spec.instruction.text,
            tuple(cells(entry.spec)),
            frozenset(entity.card for entity in entry.spec.entities),
            entry_behaviour(entry),
        )
        for entry in counted
    ]
    certificates = [entry.certificate for entry in entries if entry.certificate is not None]
    return Overview(
        tasks=len(entries),
        failed=failed,
        families=len({entry.spec.family for entry in entries}),
        robots=len({entry.spec.robot.name for entry in entries}),
        articulated=sum(is_articulated(entry.spec) for entry in entries),
        attempts=sum(certificate.n for certificate in certificates),
        successes=sum(certificate.k for certificate in certificates),
        demos=sum(len(certificate.demos) for certificate in certificates),
        diversity=diversity(samples, seed=seed, resamples=resamples),
        holes=holes(samples),
    )


def is_articulated(spec: TaskSpec) -> bool:
    """Whether the task asks to move a joint."""
    return any(subgoal.skill in _ARTICULATED for subgoal in spec.subgoals)


def render(name: str, entries: Sequence[Entry], overview: Overview, records: Sequence[GateRecord]) -> str:
    """The page as an HTML document."""
    sections = (
        _header(name, overview),
        _tiles(overview),
        gallery(entries),
        _coverage(entries, overview),
        _diversity(overview.diversity),
        _success(entries),
        section("Funnel", funnel_table(Funnel.of(records))),
    )
    return document(f"library {name}", sections, script=SCRIPT, wide=True)


def _header(name: str, overview: Overview) -> Html:
    kicker = tag("p", tag("b", "robostack"), f" library · {name}", class_="kicker")
    title = tag("h1", f"{overview.tasks} tasks, proven before anyone trains on them")
    verdict = tag(
        "p",
        f"Each was solved through the actuators, its goal was attacked, its {overview.demos} demonstrations replay "
        "to the last bit.",
        class_="verdict",
    )
    return tag("header", kicker, title, verdict)


def _tiles(overview: Overview) -> Html:
    low, high = wilson(overview.successes, overview.attempts) if overview.attempts else (math.nan, math.nan)
    rate = overview.successes / max(1, overview.attempts)
    spread = overview.diversity
    return tag(
        "dl",
        tile("Certified tasks", [f"{overview.tasks}"], f"{overview.failed} refused by a gate", first=True),
        tile("Families", [f"{overview.families}"], f"{overview.robots} robots, {overview.articulated} with a joint"),
        tile("Expert success", [f"{100 * rate:.1f}", small(" %")], f"{overview.attempts} scenes, {low:.3f}–{high:.3f}"),
        tile("Vendi score", [_number(spread.vendi.value)], f"of {spread.tasks} distinct tasks"),
        tile("Coverage", [f"{spread.cells}"], "cells of meaning are filled"),
        class_="tiles",
    )


# Gallery.


def gallery(entries: Sequence[Entry]) -> Html:
    """A card per task, and the controls that filter them; the page needs ``SCRIPT``."""
    filters = tag(
        "div",
        _select("Family", "family", (entry.spec.family for entry in entries)),
        _select("Robot", "robot", (entry.spec.robot.name for entry in entries)),
        _select("Solved by", "method", (method for entry in entries for method in _methods(entry))),
        tag("label", "Words", tag("input", type="search", placeholder="drawer red", data_filter="text")),
        tag("output", data_count=True),
        class_="filters",
    )
    ordered = sorted(entries, key=lambda entry: (entry.spec.family, entry.spec.robot.name, entry.id))
    return section("Tasks", filters, tag("div", *map(_card, ordered), class_="gallery"))


def _select(label: str, name: str, values: Iterable[str]) -> Html:
    counted = Counter(values)
    options = (tag("option", f"{value} ({count})", value=value) for value, count in sorted(counted.items()))
    return tag("label", label, tag("select", tag("option", "all", value=""), *options, data_filter=name))


def _card(entry: Entry) -> Html:
    spec, png = entry.spec, entry.witness
    words = f"{spec.instruction.text} {spec.name} {entry.id}".lower()
    if png is None:
        shown = tag("span", "no picture", class_="blank")
    else:
        shown = picture(Media(thumbnail(png), "image/jpeg", 0, 0), spec.instruction.text, loading="lazy")
    methods = _methods(entry)
    details = tag(
        "div",
        tag("p", spec.instruction.text),
        tag("small", f"{spec.family} · {spec.robot.name} · {', '.join(methods) or 'no method recorded'}"),
        _whisker(entry),
        tag("small", tag("code", entry.id), " variant" if entry.parent else None),
    )
    return tag(
        "article",
        shown,
        details,
        class_="card",
        data_family=spec.family,
        data_robot=spec.robot.name,
        data_method=" ".join(methods),
        data_text=words,
    )


def _whisker(entry: Entry) -> Html | None:
    """The expert's success with Wilson's interval, on a line from 0 to 1."""
    certificate = entry.certificate
    if certificate is None or not certificate.n:
        return None
    low, high = wilson(certificate.k, certificate.n)
    bar = tag("i", style=f"left:{100 * low:.1f}%;right:{100 - 100 * high:.1f}%")
    dot = tag("b", style=f"left:{100 * certificate.k / certificate.n:.1f}%")
    label = f"expert {certificate.k}/{certificate.n}, at least {low:.2f}"
    return join([tag("span", bar, dot, class_="whisker"), tag("small", label)])


def _methods(entry: Entry) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.certificate.methods)) if entry.certificate else ()


# Figures.


def _coverage(entries: Sequence[Entry], overview: Overview) -> Html:
    by_robot = Counter((entry.spec.family, entry.spec.robot.name) for entry in entries)
    by_skill: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        cards = {entity.id: entity.card for entity in entry.spec.entities}
        by_skill.update({(s.skill, cards[a]) for s in entry.spec.subgoals for a in s.args if a in cards})
    matrices = tag(
        "div",
        tag("figure", tag("h3", "Family and robot"), _matrix(by_robot)),
        tag("figure", tag("h3", "Skill and object"), _matrix(by_skill)),
        class_="pair",
    )
    empty = tag("ul", *(tag("li", tag("code", cell.replace("|", " · "))) for cell in overview.holes), class_="holes")
    listed = empty if overview.holes else absent("Every likely cell is filled.")
    note = tag(
        "p",
        "Any two values of such a cell occur together in some task, all of them in none; the likeliest first.",
        class_="note",
    )
    return section("Coverage", matrices, tag("h3", "Holes worth filling next"), note, listed)


def _matrix(counts: Mapping[tuple[str, str], int]) -> Html:
    if not counts:
        return absent("There is nothing to count.")
    rows, columns = sorted({row for row, _ in counts}), sorted({column for _, column in counts})
    most = max(counts.values())
    body = ((row, *(_shade(counts.get((row, column), 0), most) for column in columns)) for row in rows)
    return tag("div", table(("", *columns), body), class_="matrix")


def _shade(count: int, most: int) -> Html:
    if not count:
        return tag("span", "·", class_="none")
    share = 14 + 66 * count / most
    return tag("span", f"{count}", style=f"background:color-mix(in srgb, var(--blue) {share:.0f}%, transparent)")


_MEASURES = (
    ("Vendi score", "vendi", "effective number of tasks by their words; Friedman and Dieng 2023"),
    ("Entropy of the cells", "entropy", "over relation, object, receptacle, length and skills [nat]"),
    ("Asset IoU", "asset_iou", "mean of 1 − IoU of asset sets: the figure of GenSim, 0.866 for its 161 tasks"),
    ("Self-BLEU", "self_bleu", "of the texts; less is more varied"),
    ("Mean cosine", "mean_cosine", "of the texts; less is more varied"),
    ("Motion", "motion", "distance between the mean displacements of two tasks [m]"),
)


def _diversity(measured: Diversity) -> Html:
    def row(title: str, figure: Figure, what: str) -> tuple[Html, str, str, str]:
        return tag("b", title), _number(figure.value), f"{_number(figure.low)} to {_number(figure.high)}", what

    rows = (row(title, getattr(measured, name), what) for title, name, what in _MEASURES)
    return section("Diversity", table(("Measure", "Value", "95 % interval", "What it is"), rows))


def _success(entries: Sequence[Entry]) -> Html:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in entries:
        if entry.certificate is not None:
            sums[entry.spec.family][0] += entry.certificate.k
            sums[entry.spec.family][1] += entry.certificate.n
    bars = [plots.Proportion(family, k, n) for family, (k, n) in sorted(sums.items()) if n]
    if not bars:
        return section("Expert success", absent("No task has a certificate."))
    half = (len(bars) + 1) // 2
    shown = [plot("By family", plots.success_intervals(part)) for part in (bars[:half], bars[half:]) if part]
    return section("Expert success", tag("div", *shown, class_="plots"))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def funnel_table(funnel: Funnel) -> Html:
    """One row per gate: what entered, what passed, at which price, and what it refused for."""
    if not funnel.rows:
        return absent("No gate has judged anything yet.")
    cells = (
        (
            join([tag("b", row.gate), f" {GATES[row.gate]}"]),
            f"{row.entered}",
            f"{row.passed}",
            join([f"{row.share:.1%}", meter(row.share)]),
            _seconds(row.cost_s),
            join([join([tag("code", code), f" {count}"]) for code, count in row.codes], ", "),
        )
        for row in funnel.rows
    )
    return table(("Gate", "Tasks in", "Passed", "Share", "Median cost", "Refused for"), cells)


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
