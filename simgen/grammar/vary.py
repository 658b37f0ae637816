"""Variations of a task that leave its sentence and its meaning alone: things beside it, and sizes of what is moved."""

from __future__ import annotations

from robostack.task.predicate import AnyPred, atom
from robostack.task.profile import GRASP_MARGIN, RobotProfile
from robostack.task.spec import Entity, Placement, TaskSpec
from simgen.grammar.kinds import Thing
from simgen.grammar.layout import GRIPPER_ROOM, JITTER, Box, entity, footprint, placement, yaw_of
from simgen.grammar.refer import disambiguates
from simgen.grammar.rooms import JOINTS, reach_of
from simgen.grammar.words import COLORS
from simgen.prng import SplitMix64

DISTRACTORS = ("block", "cylinder", "ball", "bowl", "plate")
SHOVED, WORKED = 0.1, 0.3  # a distractor that moves so far [m], or whose joint so far, spoils the episode
SIZES = (0.85, 0.95, 1.0, 1.1)  # of what is moved, relative to the robot's usual size
CALM = frozenset(("place_in", "place_on", "stack", "open", "close", "press", "turn"))
CROWDED = 0.4  # share of a room that things and the space for a hand around them take at most


def with_distractors(spec: TaskSpec, n: int, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    """The task with up to ``n`` more things in the scene that it leaves alone.

    None of them fits a phrase of the sentence. Where things are set down at places on the table, or pushed, nothing
    is added: it might stand in the way.
    """
    if not all(s.skill in CALM for s in spec.subgoals):
        return spec
    for _ in range(n):
        spec = _with_one(spec, rng, profile)
    return spec


def _with_one(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    for _ in range(4):
        alone = all(e.role == "fixture" for e in spec.entities)
        more = _with_twin(spec, rng, profile) if alone and rng.below(2) else _with_loose(spec, rng, profile)
        if more is not None and not disambiguates(spec.instruction, more, strict=True):
            return more
    return spec


def _free_color(spec: TaskSpec, card: str, rng: SplitMix64) -> str:
    taken = {e.color for e in spec.entities if e.card == card}
    return rng.choice([c for c in COLORS if c not in taken])


def _with_loose(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec | None:
    """With an object anywhere that the moved one may start, or in front of the fixtures."""
    box = _room(spec, profile)
    if box is None:
        return None
    card = rng.choice(DISTRACTORS)
    thing = Thing(card, card, _free_color(spec, card, rng))
    loose = [Thing(e.card, e.card) for e in spec.entities if e.card not in JOINTS and e.placement.on == "table"]
    if any(e.id == thing.id for e in spec.entities) or _share([*loose, thing], box, profile) > CROWDED:
        return None
    spot = placement(box, yaw_of(thing), GRIPPER_ROOM * profile.object_scale)
    made = entity(thing, str(thing.color), "distractor", spot, profile)
    return _left_alone(spec, (*spec.entities, made), made)


def _share(things: list[Thing], box: Box, profile: RobotProfile) -> float:
    """Share of a room that things take; centres lie within the box, so they stick out by about half of themselves."""
    gap, (x0, y0, x1, y1) = GRIPPER_ROOM * profile.object_scale, box
    sizes = [footprint(thing, profile) for thing in things if thing.card not in ("shelf", "socket")]
    out = sum(max(size) for size in sizes) / len(sizes)
    return sum((a + gap) * (b + gap) for a, b in sizes) / ((x1 - x0 + out) * (y1 - y0 + out))


def spoils(made: Entity) -> AnyPred:
    """What must not happen to a thing that the task leaves alone, and that starts closed."""
    joint = JOINTS.get(made.card)
    return atom("joint", made.id, joint, ">=", WORKED) if joint else atom("moved", made.id, SHOVED)


def _left_alone(spec: TaskSpec, entities: tuple[Entity, ...], made: Entity) -> TaskSpec:
    return spec.model_copy(update={"entities": entities, "never": (*spec.never, spoils(made))})


def _room(spec: TaskSpec, profile: RobotProfile) -> Box | None:
    starts = [e.placement.box for e in spec.manipulands() if e.placement.on == "table"]
    if starts:
        return starts[0]
    s, (x0, y0, x1, y1) = profile.object_scale, profile.workspace
    for made in (e for e in spec.entities if e.card in JOINTS):
        reach = reach_of(made.card, profile.size(made.card), s)
        x1 = min(x1, made.placement.box[0] + reach.near - max(reach.left, reach.right) * (reach.near == 0.0) - 0.06 * s)
    return (x0, y0, x1, y1) if x1 - x0 > 0.04 * s else None


def _with_twin(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec | None:
    """With a fixture of another colour, its joint closed, beside the only one there is."""
    fixtures = [e for e in spec.entities if e.card in JOINTS]
    if len(fixtures) != 1:
        return None
    model, s, (_, low, _, high) = fixtures[0], profile.object_scale, profile.workspace
    reach, gap, jitter = reach_of(model.card, profile.size(model.card), s), GRIPPER_ROOM * s, JITTER * s
    width = reach.left + reach.right
    first = 0.5 * (low + high) - width - gap - jitter + reach.right
    if first - reach.right - jitter < low:
        return None
    color = _free_color(spec, model.card, rng)
    rows = [first, first + width + 2.0 * (gap + jitter)]
    here, there = rng.shuffled(rows)
    twin = model.model_copy(
        update={
            "id": f"{color}_{model.card}",
            "color": color,
            "role": "distractor",
            "placement": _at(model, there, jitter, gap),
            "joints": {},
        }
    )
    if any(e.id == twin.id for e in spec.entities):
        return None
    moved = model.model_copy(update={"placement": _at(model, here, jitter, gap)})
    entities = tuple(moved if e is model else e for e in spec.entities)
    return _left_alone(spec, (*entities, twin), twin)


def _at(made: Entity, y: float, jitter: float, gap: float) -> Placement:
    x0, _, x1, _ = made.placement.box
    return placement((x0, y - jitter, x1, y + jitter), 0.0, gap)


def with_sizes(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    """The task with the moved blocks, cylinders and balls a little smaller or larger, all by one factor."""
    if any(s.skill not in ("place_in", "place_on") for s in spec.subgoals):
        return spec
    factor = rng.choice(SIZES)
    changed = tuple(_sized(e, factor, profile) if e.role == "manipuland" else e for e in spec.entities)
    return spec.model_copy(update={"entities": changed})


def _sized(made: Entity, factor: float, profile: RobotProfile) -> Entity:
    if made.card not in ("block", "cylinder", "ball") or made.placement.on != "table" or factor == 1.0:
        return made
    size = profile.size(made.card)
    width = size[0] * (1.0 if made.card == "block" else 2.0)
    factor = min(factor, GRASP_MARGIN * profile.gripper_max_opening_m / width)
    return made.model_copy(update={"size": tuple(round(factor * length, 4) for length in size)})
