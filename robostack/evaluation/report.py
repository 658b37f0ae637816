"""The report of a run: one HTML file that needs nothing else, neither network nor scripts.

It is written from data alone (pictures and clips come in as arrays or bytes), so it needs neither simulator nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import Float, UInt8

from robostack.data.atomic import write_atomic
from robostack.evaluation import plots
from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, document, facts, meter, picture, plot, section, small, tile
from robostack.evaluation.readable import goal_list, hold_sentence
from robostack.evaluation.schema import RunMetrics
from robostack.evaluation.video import Media, encode_image, encode_video
from robostack.task.spec import Entity, TaskSpec

_SWATCHES = frozenset(
    (
        "red",
        "green",
        "blue",
        "yellow",
        "orange",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "gray",
        "grey",
        "cyan",
        "teal",
    )
)


@dataclass(frozen=True)
class Clip:
    """A recorded episode to show.

    Attributes:
        title: which episode, e.g. ``seed 1000003``.
        caption: what happened, e.g. ``DROPPED after 6.4 s``.
        mp4_or_frames: an MP4, or RGB frames to encode.
        ok: whether the episode succeeded.
        fps: frames per second of the frames.
    """

    title: str
    caption: str
    mp4_or_frames: bytes | UInt8[np.ndarray, "T H W 3"]
    ok: bool
    fps: float | int = 20


@dataclass(frozen=True)
class ReportData:
    """Everything that the report shows; what is None or empty is said to be missing in a plain sentence.

    Attributes:
        scene: a large picture of the scene.
        expert: a demonstration.
        rollouts: episodes of the policy, at best with one that failed.
        train_loss, validation_loss: rows of (step, loss).
        latencies_ms: duration of every inference of the evaluation [ms].
        files: (what it is, path relative to the report).
        commands: (what it does, command line), in the order of the run.
        versions, hashes: name -> value.
    """

    spec: TaskSpec
    metrics: RunMetrics
    scene: UInt8[np.ndarray, "H W 3"] | None = None
    expert: Clip | None = None
    rollouts: tuple[Clip, ...] = ()
    train_loss: Float[np.ndarray, "N 2"] | None = None
    validation_loss: Float[np.ndarray, "M 2"] | None = None
    latencies_ms: Float[np.ndarray, " K"] | None = None
    files: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


def write_report(data: ReportData, path: Path | str) -> Path:
    """Write the report; complete or not at all.

    Raises:
        StorageError: the disk is full or not writable.
        MissingExtra: matplotlib, or both PyAV and Pillow, are not installed.
    """
    path = Path(path)
    write_atomic(path, render_report(data).encode())
    return path


def render_report(data: ReportData) -> str:
    """The report as an HTML document."""
    sections = (_header, _tiles, _scene, _task, _clips, _measurements, _failures, _reproduce, _provenance)
    return document(data.spec.instruction.text, (build(data) for build in sections))


# Sections, in the order of the page.


def _header(data: ReportData) -> Html:
    policy, spec = data.metrics.policy, data.spec
    verdict = tag(
        "p",
        tag("b", f"{policy.successes} of {policy.n} episodes succeeded"),
        f" from starts never seen in training, after {data.metrics.demos.n} demonstrations.",
        class_="verdict",
    )
    kicker = tag("p", tag("b", "robostack"), f" run report · {spec.robot.name} · task {spec.id}", class_="kicker")
    return tag("header", kicker, tag("h1", f"“{spec.instruction.text}”"), verdict)


def _tiles(data: ReportData) -> Html:
    metrics = data.metrics
    policy = metrics.policy
    at_some_time = f"{round(policy.first_time_success * policy.n)}/{policy.n}"
    tiles = (
        tile(
            "Policy success",
            [f"{policy.successes}", small(f"/{policy.n}")],
            join(
                [f"95 % CI {policy.wilson_low:.2f}–{policy.wilson_high:.2f}", tag("br"), f"at some time {at_some_time}"]
            ),
            first=True,
        ),
        tile("Expert success", [f"{100 * metrics.expert.success:.1f}", small(" %")], f"{metrics.expert.n} seeds"),
        tile(
            "Demonstrations",
            [f"{metrics.demos.per_minute:,.0f}", small(" /min")],
            f"{metrics.demos.replayed_exact} of {metrics.demos.n} replay bit-exactly",
        ),
        tile(
            "Latency, p50",
            [f"{metrics.latency_ms.p50:.2f}", small(" ms")],
            f"p99 {metrics.latency_ms.p99:.2f} ms per inference",
        ),
        tile(
            "Wall time", _duration(metrics.wall_s), f"{metrics.env.control_steps_per_s:,.0f} control steps/s simulated"
        ),
    )
    return tag("dl", *tiles, class_="tiles")


def _duration(seconds: float) -> list[str]:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return [f"{seconds:.1f}", small(" s")]
    return [f"{minutes}", small(" min "), f"{rest:02d}", small(" s")]


def _scene(data: ReportData) -> Html:
    if data.scene is None:
        return tag("div", absent("There is no picture of the scene: no renderer was available."), class_="scene")
    image = picture(encode_image(data.scene), f"The scene: {data.spec.instruction.text}")
    return tag("figure", image, tag("figcaption", "The scene after reset."), class_="scene")


def _task(data: ReportData) -> Html:
    spec = data.spec
    known = {
        "Instruction": spec.instruction.text,
        "Task": tag("code", f"{spec.name} · {spec.id}"),
        "Family": spec.family,
        "Robot": f"{spec.robot.name}, {spec.robot.control_mode} at {spec.robot.control_hz:g} Hz",
        "Time limit": f"{spec.horizon_s:g} s",
    }
    entities = table(("Object", "Card", "Role", "Start region [m]"), (_entity_row(e) for e in spec.entities))
    never = (tag("h3", "Never"), *map(goal_list, spec.never)) if spec.never else ()
    goal = tag(
        "div", tag("h3", "Goal"), goal_list(spec.goal), tag("p", hold_sentence(spec.hold), class_="note"), *never
    )
    described = facts(known.items())
    return section("Task", tag("div", tag("div", described), goal, class_="pair"), entities)


def _entity_row(entity: Entity) -> Iterable[str]:
    x0, y0, x1, y1 = entity.placement.box
    known = entity.color.lower() in _SWATCHES
    swatch = tag("span", class_="swatch", style=f"background:{entity.color.lower()}") if known else None
    size = f" {' × '.join(f'{1000 * s:g}' for s in entity.size)} mm" if entity.size else ""
    name = join([swatch, tag("code", entity.id)])
    return name, f"{entity.color} {entity.card}{size}", entity.role, f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"


def _clips(data: ReportData) -> Html:
    shown = [("Expert", data.expert)] if data.expert else []
    shown += [("Policy", clip) for clip in data.rollouts]
    if not shown:
        return section("Episodes", absent("There are no clips: no renderer was available."))
    notes = []
    if data.expert is None:
        notes.append(tag("p", "There is no clip of the expert.", class_="note"))
    if not data.rollouts:
        notes.append(tag("p", "There are no clips of the policy.", class_="note"))
    elif all(clip.ok for clip in data.rollouts) and data.metrics.policy.successes == data.metrics.policy.n:
        notes.append(tag("p", "No episode of the policy failed, so there is no failure to show.", class_="note"))
    return section("Episodes", tag("div", *(_clip(who, clip) for who, clip in shown), class_="clips"), *notes)


def _clip(who: str, clip: Clip) -> Html:
    content = clip.mp4_or_frames
    if isinstance(content, bytes):
        mime = "image/webp" if content.startswith(b"RIFF") else "video/mp4"
        media = Media(content, mime, 0, 0)
    else:
        media = encode_video(content, clip.fps)
    label = f"{who}, {clip.title}: {clip.caption}"
    if media.mime.startswith("image/"):
        shown = picture(media, label)
    else:
        size = {"width": str(media.width), "height": str(media.height)} if media.width else {}
        switches = {"controls": True, "autoplay": True, "loop": True, "muted": True, "playsinline": True}
        shown = tag("video", src=media.uri, aria_label=label, **size, **switches)
    mark = tag("span", "✓ success" if clip.ok else "✗ failure", class_="mark ok" if clip.ok else "mark bad")
    caption = tag("figcaption", tag("b", f"{who}, {clip.title}"), mark, tag("span", clip.caption))
    return tag("figure", shown, caption, class_="clip")


def _measurements(data: ReportData) -> Html:
    metrics = data.metrics
    policy = metrics.policy
    rows = [
        plots.Proportion("policy, at the end", policy.successes, policy.n),
        plots.Proportion("policy, at some time", round(policy.first_time_success * policy.n), policy.n),
    ]
    if metrics.expert.n:
        rows.append(plots.Proportion("expert", round(metrics.expert.success * metrics.expert.n), metrics.expert.n))
    shown = [plot("Success rate", plots.success_intervals(rows))]
    if data.train_loss is not None and len(data.train_loss):
        shown.append(plot("Training", plots.loss_curve(data.train_loss, data.validation_loss)))
    else:
        shown.append(absent("There is no loss curve: the policy was not trained in this run."))
    if data.latencies_ms is not None and len(data.latencies_ms):
        shown.append(plot("Latency of the policy", plots.latency_histogram(data.latencies_ms)))
    else:
        shown.append(absent("There is no latency histogram: single latencies were not recorded."))
    if metrics.stages:
        shown.append(plot("Where the time went", plots.stage_bars(metrics.stages)))
    return section("Measurements", tag("div", *shown, class_="plots"), _resources(metrics))


def _resources(metrics: RunMetrics) -> Html | None:
    parts = []
    if metrics.params is not None:
        parts.append(f"The policy has {metrics.params:,} parameters.")
    if metrics.peak_rss_gib is not None:
        parts.append(f"The run used at most {metrics.peak_rss_gib:.2f} GiB of memory.")
    return tag("p", " ".join(parts), class_="note") if parts else None


def _failures(data: ReportData) -> Html:
    policy, codes = data.metrics.policy, data.metrics.failure_codes or {}
    failed = policy.n - policy.successes
    if not failed:
        return section("Failures", absent(f"None of the {policy.n} episodes failed."))
    if not codes:
        return section("Failures", absent(f"{failed} of {policy.n} episodes failed; their codes were not recorded."))
    most = max(codes.values())
    rows = (
        (tag("code", code), f"{count}", f"{100 * count / policy.n:.1f} %", meter(count / most if most else 0.0))
        for code, count in sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    )
    return section("Failures", table(("Code", "Episodes", "Share of all", ""), rows))


def _reproduce(data: ReportData) -> Html | None:
    if not data.files and not data.commands:
        return None
    files = table(("What", "Where"), ((what, _link(where)) for what, where in data.files)) if data.files else None
    steps = (tag("li", tag("span", what), tag("pre", tag("code", command))) for what, command in data.commands)
    commands = tag("ol", *steps, class_="commands") if data.commands else None
    return section(
        "Where everything lies",
        tag(
            "div",
            tag("div", tag("h3", "Files"), files) if files else None,
            _titled("Run a step again", commands),
            class_="pair",
        ),
    )


def _titled(title: str, content: Html | None) -> Html | None:
    return tag("div", tag("h3", title), content) if content else None


def _link(where: str) -> Html:
    """A link to a path beside or below the report; anything else is shown as text only."""
    name = tag("code", where)
    if where.startswith("/") or ":" in where:
        return name
    return tag("a", name, href=quote(where))


def _provenance(data: ReportData) -> Html | None:
    rows = [*data.versions.items(), *data.hashes.items()]
    if not rows:
        return None
    return section("Versions and hashes", tag("div", table(("Name", "Value"), rows), class_="hashes"))
