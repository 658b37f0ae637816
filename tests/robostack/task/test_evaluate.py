import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robostack.errors import SpecError
from robostack.task.atoms import ATOMS
from robostack.task.evaluate import GoalMonitor, check, check_bindings, compile_pred, failure_code, margin, text
from robostack.task.predicate import And, Atom, Not, Or, atom
from robostack.task.spec import Hold

DT = 0.05
IN = atom("in", "a", "bowl")
CARDS = {"a": "block", "bowl": "bowl"}
ROLES = {"bowl": "receptacle"}


def negation(pred):
    return Not.model_validate({"not": pred})


# ---------------------------------------------------------------- laws of margins

LEAVES = st.floats(0.0, 0.3).map(lambda d: atom("moved", "a", d))
PREDS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(negation),
        st.lists(inner, min_size=1, max_size=3).map(lambda ps: And(parts=tuple(ps))),
        st.lists(inner, min_size=1, max_size=3).map(lambda ps: Or(parts=tuple(ps))),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def moved_block(scene):
    s = scene(a="block").put("a", (0, 0, 0.02)).snapshot()
    return s.put("a", (0.15, 0, 0.02)).world


@settings(deadline=None)
@given(pred=PREDS)
def test_not_negates_and_is_min_or_is_max(moved_block, pred):
    value = margin(pred, moved_block)
    assert margin(negation(pred), moved_block) == -value
    assert margin(And(parts=(pred, negation(pred))), moved_block) == min(value, -value)
    assert margin(Or(parts=(pred, negation(pred))), moved_block) == max(value, -value)


@settings(deadline=None)
@given(pred=PREDS)
def test_the_compiled_form_agrees_in_sign(moved_block, pred):
    assert (compile_pred(pred, moved_block)() >= 0.0) == (margin(pred, moved_block) >= 0.0)


@settings(deadline=None)
@given(pred=PREDS)
def test_predicates_survive_json(moved_block, pred):
    again = type(pred).model_validate_json(pred.model_dump_json(by_alias=True))
    assert margin(again, moved_block) == margin(pred, moved_block)


def test_text_is_readable():
    pred = And(parts=(IN, negation(Or(parts=(atom("near", "a", "bowl", 0.1), atom("aligned", ("a", "b")))))))
    assert text(pred) == "(in(a, bowl) and not (near(a, bowl, 0.1) or aligned([a, b])))"


# ---------------------------------------------------------------- hold semantics


@pytest.fixture
def task(scene, make_spec):
    """A block beside a bowl; ``step(n)`` advances the monitor by n control steps."""

    class Task:
        def __init__(self):
            self.spec = make_spec(IN, CARDS, never=(atom("moved", "bowl", 0.15),), roles=ROLES)
            self.scene = scene(**CARDS).put("bowl", (0.4, 0, 0)).put("a", (0.4, 0.2, 0.02)).snapshot()
            self.monitor, self.steps = GoalMonitor(self.spec, self.scene.world), 0

        def step(self, n=1):
            for _ in range(n):
                self.monitor.update(self.steps * DT)
                self.steps += 1
            return self.monitor

        def inside(self):
            self.scene.let_go().push("a").put("a", (0.4, 0, 0.026))
            return self

        def outside(self):
            self.scene.put("a", (0.4, 0.2, 0.02))
            return self

        def code(self):
            return failure_code(self.spec, self.scene.world, self.monitor)

    return Task()


def test_success_needs_half_a_second(task):
    task.step(5)
    assert not task.inside().step(10).holding
    assert task.step().holding
    assert task.monitor.first_success_s == pytest.approx(0.75)
    assert task.monitor.success
    assert task.code() == ""


def test_a_momentary_goal_is_no_success(task):
    task.inside().step(9)
    task.outside().step(20)
    assert math.isnan(task.monitor.first_success_s)
    assert not task.monitor.success


def test_an_interrupted_hold_starts_again(task):
    task.inside().step(8)
    task.outside().step(1)
    assert not task.inside().step(10).holding
    assert task.step().holding


def test_success_is_not_latched(task):
    assert task.inside().step(12).success
    task.outside().step(1)
    assert not task.monitor.success
    assert task.monitor.first_success_s == pytest.approx(0.5)
    assert task.code() == "GOAL_LOST:in(a, bowl)"


def test_a_held_object_is_no_success(task):
    task.inside().scene.grip("a")
    assert not task.step(20).holding
    assert task.code() == "NOT_RELEASED"
    task.scene.let_go()
    assert task.step(11).success


@pytest.mark.parametrize(("speed", "success"), [(0.019, True), (0.021, False)])
def test_a_moving_object_is_no_success(task, speed, success):
    task.inside().scene.push("a", linear=(speed, 0, 0))
    assert task.step(20).success is success
    assert success or task.code() == "NOT_STILL"


@pytest.mark.parametrize(("rate", "success"), [(0.199, True), (0.201, False)])
def test_a_turning_object_is_no_success(task, rate, success):
    task.inside().scene.push("a", angular=(0, 0, rate))
    assert task.step(20).success is success


@settings(deadline=None)
@given(flags=st.lists(st.booleans(), min_size=1, max_size=40), steps=st.integers(0, 12))
def test_holding_is_true_exactly_after_an_unbroken_window(scene, make_spec, flags, steps):
    cards = {"a": "ball"}
    s = scene(**cards).snapshot()
    hold = Hold(seconds=steps * DT)
    monitor = GoalMonitor(make_spec(atom("moved", "a", 0.1), cards, hold=hold), s.world)
    for k, flag in enumerate(flags):
        s.data.xpos[s.world.entities["a"].body] = s.world.initial.pos["a"] + (0.2 if flag else 0.0)
        monitor.update(k * DT)
        assert monitor.holding == (k >= steps and all(flags[k - steps : k + 1]))
    runs = max((len(list(g)) for value, g in itertools.groupby(flags) if value), default=0)
    assert math.isnan(monitor.first_success_s) == (runs < steps + 1)


def test_a_never_that_was_true_once_spoils_the_episode(task):
    task.scene.put("bowl", (0.4, 0.151, 0))
    task.step()
    task.scene.put("bowl", (0.4, 0, 0))
    task.inside().step(20)
    assert task.monitor.holding
    assert task.monitor.violated
    assert not task.monitor.success
    assert task.code() == "NEVER_VIOLATED:moved(bowl, 0.15)"


def test_reset_forgets_everything(task):
    task.scene.put("bowl", (0.4, 0.2, 0))
    task.step()
    task.monitor.reset()
    task.scene.put("bowl", (0.4, 0, 0))
    assert task.inside().step(12).success


def test_a_diverged_state_is_neither_success_nor_violation(task):
    task.inside().step(12)
    task.scene.data.qpos[0] = math.nan
    assert not task.step().holding
    assert not task.monitor.violated
    assert task.code() == "DIVERGED"


# ---------------------------------------------------------------- failure codes


def test_an_untouched_object_is_not_reached(task):
    task.step(10)
    assert task.code() == "NOT_REACHED"


def test_a_nudged_object_was_not_grasped(task):
    task.scene.put("a", (0.4, 0.18, 0.02))
    task.step(10)
    assert task.code() == "NOT_GRASPED:in(a, bowl)"


def test_an_object_that_fell_was_dropped(task):
    for z in (0.03, 0.1):
        task.scene.put("a", (0.4, 0.15, z)).grip("a")
        task.step()
    assert not task.monitor.dropped["a"]
    task.scene.let_go().put("a", (0.4, 0.15, 0.06))
    task.step()
    task.scene.put("a", (0.4, 0.15, 0.02))
    task.step()
    assert task.code() == "DROPPED:in(a, bowl)"


def test_an_object_put_down_elsewhere_misses_the_goal(task):
    for z in (0.03, 0.1, 0.03):
        task.scene.put("a", (0.4, 0.15, z)).grip("a")
        task.step()
    task.scene.let_go().put("a", (0.4, 0.15, 0.02))
    task.step()
    assert task.code() == "GOAL_NOT_MET:in(a, bowl)"


def test_a_goal_met_too_late_is_named(task):
    task.inside().step(3)
    assert task.code() == "HOLD_UNFINISHED"


def test_pushing_tasks_do_not_ask_for_a_grasp(scene, make_spec):
    cards = {"a": "block", "zone": "zone"}
    spec = make_spec(atom("on", "a", "zone"), cards, never=(atom("lifted", "a", 0.03),), roles={"zone": "zone"})
    s = scene(**cards).put("zone", (0.4, 0.2, 0)).put("a", (0.4, 0, 0.02)).snapshot()
    monitor = GoalMonitor(spec, s.world)
    monitor.update(0.0)
    s.put("a", (0.4, 0.05, 0.02))
    monitor.update(DT)
    assert failure_code(spec, s.world, monitor) == "GOAL_NOT_MET:on(a, zone)"
    s.put("a", (0.4, 0.05, 0.06))
    monitor.update(2 * DT)
    assert failure_code(spec, s.world, monitor) == "NEVER_VIOLATED:lifted(a, 0.03)"


def test_the_worst_part_is_named(scene, make_spec):
    cards = {"a": "block", "b": "block", "c": "block"}
    goal = And(parts=(atom("on", "b", "a"), atom("on", "c", "b")))
    spec = make_spec(goal, cards, roles={"a": "receptacle"})
    s = scene(**cards).put("a", (0, 0, 0.02)).put("b", (0.1, 0, 0.02)).put("c", (0.2, 0, 0.02)).snapshot()
    monitor = GoalMonitor(spec, s.world)
    monitor.update(0.0)
    for z in (0.03, 0.1, 0.06):
        s.put("b", (0, 0, z)).grip("b")
        monitor.update(DT)
    assert failure_code(spec, s.world, monitor) == "NOT_GRASPED:on(c, b)"


def test_what_held_at_reset_is_blamed_last(scene, make_spec):
    cards = {"a": "block", "b": "block", "c": "block"}
    goal = And(parts=(atom("on", "b", "a"), atom("on", "c", "b")))
    spec = make_spec(goal, cards, roles={"a": "receptacle"})
    s = scene(**cards).put("a", (0, 0, 0.02)).put("b", (0, 0, 0.06)).put("c", (0.2, 0, 0.02)).snapshot()
    monitor = GoalMonitor(spec, s.world)
    monitor.update(0.0)
    for z in (0.08, 0.16, 0.02):
        s.put("b", (0.5, 0.5, z)).grip("b")
        monitor.update(DT)
    assert failure_code(spec, s.world, monitor) == "NOT_GRASPED:on(c, b)"


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (atom("inn", "a", "bowl"), r"goal: unknown predicate 'inn': did you mean 'in'\?"),
        (atom("on", "a"), r"'on' takes 2 arguments \(entity, support\), not 1"),
        (atom("near", "a", "bowl", "bowl"), "needs a finite number >= 0 as argument 3"),
        (atom("near", "a", "bowl", float("nan")), "needs a finite number >= 0"),
        (atom("moved", "a", -0.1), "needs a finite number >= 0"),
        (atom("in", "a", "table"), "needs an entity id as argument 2, not 'table'"),
        (atom("upright", 1.0), "needs an entity id"),
        (atom("aligned", "a"), "needs a list of two or more"),
        (atom("aligned", ("a", "a")), "needs a list of two or more different"),
        (atom("aligned", ("a",)), "needs a list of two or more"),
        (atom("sorted", ("a", "bowl"), (0.0, 0.0)), "needs two finite numbers"),
        (atom("pose_at", "a", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)), "needs seven finite numbers"),
        (atom("on", "a", "a"), "relates 'a' to itself"),
        (atom("upright", "a", degrees=3.0), "has no tolerance 'degrees'; available: angle"),
        (atom("upright", "a", angle=-1.0), "needs a finite tolerance 'angle' >= 0"),
        (atom("upright", "a", angle=math.inf), "needs a finite tolerance"),
    ],
)
def test_a_wrong_atom_is_refused_by_name(make_spec, pred, message):
    with pytest.raises(SpecError, match=message) as error:
        check(make_spec(pred, CARDS))
    assert "\n" not in str(error.value)


def test_never_and_subgoals_are_checked_too(make_spec):
    with pytest.raises(SpecError, match="never/0: unknown predicate 'lift'.*did you mean 'lifted'"):
        check(make_spec(IN, CARDS, never=(atom("lift", "a", 0.1),)))


def test_a_good_spec_passes_and_binds(make_spec, scene):
    spec = make_spec(IN, CARDS, never=(atom("moved", "bowl", 0.15),))
    check(spec)
    check_bindings(spec, scene(**CARDS).snapshot().world)


@pytest.mark.parametrize(
    ("pred", "cards", "message"),
    [
        (atom("in", "a", "b"), {"a": "block", "b": "plate"}, "'in' needs a hollow interior, which 'b' .card 'plate'"),
        (atom("on", "a", "b"), {"a": "block", "b": "bowl"}, "'on' needs a support face, which 'b'"),
        (atom("near", "a", "b", 0.1), {"a": "block", "b": "zone"}, "'near' needs collision geoms, which 'b'"),
        (atom("spread", ("a", "b"), 0.1), {"a": "block", "b": "zone"}, "'spread' needs collision geoms, which 'b'"),
    ],
)
def test_bindings_must_have_what_the_atoms_need(make_spec, scene, pred, cards, message):
    spec = make_spec(pred, cards, roles={"b": "zone"})
    check(spec)
    with pytest.raises(SpecError, match=message):
        check_bindings(spec, scene(**cards).world)


def test_bindings_must_have_the_entities_free_joints_and_a_snapshot(make_spec, scene):
    with pytest.raises(SpecError, match="'bowl' is not in the scene"):
        check_bindings(make_spec(IN, CARDS), scene(a="block").world)
    with pytest.raises(SpecError, match="'z' is to be moved but is fixed"):
        check_bindings(make_spec(atom("upright", "z"), {"z": "zone"}), scene(z="zone").world)
    with pytest.raises(SpecError, match="take it after reset"):
        check_bindings(make_spec(atom("moved", "a", 0.1), {"a": "block"}), scene(a="block").world)


def test_every_atom_documents_its_margin():
    for name in ATOMS:
        record = ATOMS[name]
        assert "[" in record.doc or record.unit == "1", name
        assert all(value >= 0.0 for value in record.tol.values())


def test_an_atom_with_default_tolerances_written_out_is_the_same_atom(scene):
    s = scene(**CARDS).put("bowl", (0, 0, 0)).put("a", (0, 0, 0.026))
    full = Atom(name="in", args=("a", "bowl"), tol=dict(ATOMS["in"].tol))
    assert margin(full, s.world) == margin(IN, s.world)
