"""Tasks from the grammar at random: what the library covers least is sampled most. Offline, the same in every process.

A candidate is a family, a robot that can do it, a wording, fillings, sizes and distractors. Of a few candidates one is
taken, with weights inverse to how often its coverage cells were sampled before; a signature never comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from robostack.errors import ConfigError, SceneError, SentenceError
from robostack.sim.cards import RobotCard, load_robot
from robostack.task.check import check
from robostack.task.spec import Instruction, TaskSpec
from simgen.grammar.families import PRODUCTIONS
from simgen.grammar.fill import Filler
from simgen.grammar.production import SLOT, Production
from simgen.grammar.refer import disambiguates
from simgen.grammar.vary import with_distractors, with_sizes
from simgen.library.signature import coverage_cells, signature
from simgen.prng import SplitMix64

CANDIDATES = 3  # drawn for every task that is taken
PATIENCE = 2000  # candidates in a row that are no new task, until the grammar counts as exhausted
PARAPHRASES = 3
MOST_DISTRACTORS = 3


def sample(
    n: int,
    seed: int,
    *,
    robots: Sequence[str] = ("panda", "ur5e", "so101"),
    families: Sequence[str] | None = None,
) -> Iterator[TaskSpec]:
    """``n`` tasks of different signatures; fewer when the families have no more.

    Args:
        n: how many.
        seed: which.
        robots: names of robot cards; each is asked only for what it can do.
        families: families to sample; None for all.

    Raises:
        ConfigError: n below 1 or no robot.
        UnknownName: no such robot or family.
    """
    if n < 1 or not robots:
        raise ConfigError(f"a sample needs n >= 1 and at least one robot, not n={n} and robots={list(robots)}")
    productions = [PRODUCTIONS[name] for name in (families or tuple(PRODUCTIONS))]
    return iter(_Sampler(seed, productions, [load_robot(name) for name in robots]).take(n))


def payload(card: RobotCard) -> float:
    """A cautious estimate of what an arm carries at the far edge of its workspace [kg]: a third of what its strongest
    joint holds there, the rest being its own weight and acceleration.
    """
    return max(card.arm.force) / (3.0 * 9.81 * card.workspace[2])


class _Sampler:
    """State of one run: what was sampled so far."""

    def __init__(self, seed: int, productions: Sequence[Production], cards: Sequence[RobotCard]):
        self.rng = SplitMix64(seed)
        self.filler = Filler(self.rng)
        self.cells: Counter[str] = Counter()
        self.taken: set[str] = set()
        self.pairs = [
            (production, card)
            for production in productions
            for card in cards
            if not production.needs.lacking(card.profile, payload=payload(card))
        ]
        self.names = [(production.family, card.name) for production, card in self.pairs]
        self.drawn: Counter[tuple[str, str]] = Counter()
        self.misses: Counter[str] = Counter()

    def take(self, n: int) -> Iterator[TaskSpec]:
        """The next tasks."""
        done = 0
        while done < n and (task := self._next()) is not None:
            done += 1
            yield task

    def _next(self) -> TaskSpec | None:
        found: list[tuple[TaskSpec, str, tuple[str, ...]]] = []
        for _ in range(PATIENCE):
            production, card = self.rng.weighted(self.pairs, [self._weight(*names) for names in self.names])
            spec = self._candidate(production, card)
            if spec is None or (key := signature(spec)) in self.taken:
                self.misses[production.family] += 1
                continue
            self.misses[production.family] = 0
            found.append((spec, key, self._cells(spec)))
            if len(found) == CANDIDATES:
                break
        if not found:
            return None
        weights = [sum(1.0 / (1.0 + self.cells[c]) for c in cells) / len(cells) for _, _, cells in found]
        spec, key, cells = self.rng.weighted(found, weights)
        self.taken.add(key)
        self.cells.update(cells)
        self.drawn[(spec.family, spec.robot.name)] += 1
        self.filler.note(spec.instruction, PRODUCTIONS[spec.family])
        worded = spec.instruction.model_copy(update={"paraphrases": self._paraphrases(spec)})
        finished = spec.model_copy(update={"instruction": worded})
        check(finished)
        return finished

    def _weight(self, family: str, robot: str) -> float:
        """Less for what was drawn often, and much less for a family that gave nothing new the last few times."""
        return 0.7 ** min(self.misses[family], 10) / (1.0 + self.drawn[(family, robot)])

    def _cells(self, spec: TaskSpec) -> tuple[str, ...]:
        beside = sum(e.role == "distractor" for e in spec.entities)
        return (*coverage_cells(spec), f"family:{spec.family}", f"{spec.family}:{beside}", f"robot:{spec.robot.name}")

    def _candidate(self, production: Production, card: RobotCard) -> TaskSpec | None:
        profile = card.profile
        instruction = self.filler.instruction(production)
        beside = self.rng.below(MOST_DISTRACTORS + 1)
        try:
            spec = production.build(instruction, card.name, profile)
        except (SentenceError, SceneError):
            return None
        if disambiguates(instruction, spec, strict=True):
            return None
        varied = with_sizes(spec, self.rng, profile)
        return with_distractors(varied, beside, self.rng, profile)

    def _paraphrases(self, spec: TaskSpec) -> tuple[str, ...]:
        """The same asked for in other wordings of the family; each asks for exactly this goal."""
        production, said = PRODUCTIONS[spec.family], spec.instruction
        plain = production.build(said, spec.robot.name, load_robot(spec.robot.name).profile)
        found: list[str] = []
        for template in self.rng.shuffled(production.templates):
            if template == said.template or len(found) == PARAPHRASES:
                continue
            given = {name: str(said.slots[name]) for name in SLOT.findall(template) if name in said.slots}
            other = self.filler.fill(production, template, given)
            if _same(production, other, plain):
                found.append(other.text)
        return tuple(found)


def _same(production: Production, other: Instruction, plain: TaskSpec) -> bool:
    try:
        spec = production.build(other, plain.robot.name, load_robot(plain.robot.name).profile)
    except (SentenceError, SceneError):
        return False
    return (spec.entities, spec.goal, spec.subgoals) == (plain.entities, plain.goal, plain.subgoals)
