"""Small tasks that the tests of the gates share: one per way of being true."""

from __future__ import annotations

from typing import Any

from robostack.sim.cards import load_robot
from robostack.task.spec import TaskSpec

BOX, FAR = [0.40, -0.22, 0.55, 0.22], [0.62, -0.02, 0.66, 0.02]


def thing(name: str, card: str, color: str, role: str = "manipuland", **more: Any) -> dict:
    """An entity; a fixture stands beyond the other things."""
    box = FAR if role == "fixture" else BOX
    placement = {"box": box, "yaw": [0.0, 0.0] if role in ("fixture", "zone") else [-1.5, 1.5], "clearance": 0.015}
    placement |= more.pop("placement", {})
    return {"id": name, "card": card, "color": color, "role": role, "placement": placement, **more}


def spec(text: str, entities: list[dict], goal: dict, subgoals: list[dict] = [], **more: Any) -> TaskSpec:  # noqa: B006
    """A task on the Panda with things of the size that suits it."""
    profile = load_robot(more.pop("robot", "panda")).profile
    sized = [e if "size" in e else {"size": list(profile.size(e["card"])), **e} for e in entities]
    values = {
        "name": "task",
        "family": "test",
        "instruction": {"text": text},
        "robot": {"name": profile.name},
        "entities": sized,
        "goal": goal,
        "subgoals": subgoals,
        "horizon_s": 20.0,
        **more,
    }
    return TaskSpec.model_validate(values)


def atom(name: str, *args: Any, **tol: float) -> dict:
    """An atom in JSON."""
    return {"name": name, "args": list(args), "tol": tol}


def sub(skill: str, *args: Any, goal: dict) -> dict:
    """A subgoal in JSON."""
    return {"skill": skill, "args": list(args), "goal": goal}


RED, GREEN, BLUE = (thing(f"{c}_block", "block", c) for c in ("red", "green", "blue"))
BOWL = thing("bowl", "bowl", "blue", "receptacle")


def opened(card: str, joint: str, cmp: str = ">=", value: float = 0.8, skill: str = "open", text: str = "") -> TaskSpec:
    """A task about one joint."""
    start = [0.0, 0.0] if cmp == ">=" else [0.85, 1.0]
    goal = atom("joint", card, joint, cmp, value)
    args = (card, joint, value) if skill == "turn" else (card, joint)
    made = thing(card, card, "gray", "fixture", joints={joint: start})
    return spec(text or f"{skill} the {card}", [made], goal, [sub(skill, *args, goal=goal)])


def pressed() -> TaskSpec:
    """A button springs back: being pressed is a memory."""
    down = atom("joint", "button", "press", ">=", 0.8)
    made = thing("button", "button", "red", "fixture")
    return spec("press the red button", [made], {"once": down}, [sub("press", "button", "press", goal=down)])


def stowed() -> TaskSpec:
    """Open the drawer, put the block in, close it."""
    inside, shut = atom("in", "red_block", "drawer"), atom("joint", "drawer", "slide", "<=", 0.05)
    wide = atom("joint", "drawer", "slide", ">=", 0.8)
    return spec(
        "put the red block in the drawer and close it",
        [thing("drawer", "drawer", "gray", "fixture", joints={"slide": [0.85, 1.0]}), RED],
        {"and": [inside, shut]},
        [
            sub("open", "drawer", "slide", goal=wide),
            sub("place_in", "red_block", "drawer", goal=inside),
            sub("close", "drawer", "slide", goal=shut),
        ],
        horizon_s=40.0,
    )


def counted() -> TaskSpec:
    """Two of three blocks in the bowl."""
    body = {"var": "x", "among": {"role": "manipuland"}, "pred": atom("in", "$x", "bowl"), "cmp": ">=", "n": 2}
    tray = thing("bowl", "tray", "gray", "receptacle")
    return spec("put two blocks in the gray tray", [RED, GREEN, BLUE, tray], {"count": body})


def shared_out() -> TaskSpec:
    """Every block on a plate of its own."""
    plates = [thing(f"{c}_plate", "plate", c, "receptacle") for c in ("white", "blue")]
    inner = {"var": "p", "among": {"card": "plate"}, "distinct": True, "pred": atom("on", "$b", "$p")}
    goal = {"forall": {"var": "b", "among": {"card": "block"}, "pred": {"exists": inner}}}
    return spec("put the blocks on different plates", [RED, GREEN, *plates], goal)


def in_order() -> TaskSpec:
    """First one, then the other."""
    first, second = atom("in", "red_block", "bowl"), atom("in", "green_block", "bowl")
    tray = thing("bowl", "tray", "gray", "receptacle")
    return spec(
        "first put the red block in the gray tray, then the green block",
        [RED, GREEN, tray],
        {"seq": [{"and": [first, {"not": second}]}, {"and": [first, second]}]},
        [sub("place_in", "red_block", "bowl", goal=first), sub("place_in", "green_block", "bowl", goal=second)],
        horizon_s=30.0,
    )


def lifted() -> TaskSpec:
    """Hold a block up."""
    goal = atom("lifted", "red_block", 0.1)
    return spec("lift the red block", [RED], goal, [sub("pick", "red_block", goal=goal)], hold={"released": False})


def beside() -> TaskSpec:
    """One block to the left of another."""
    goal = {"and": [atom("left_of", "red_block", "blue_block"), atom("on", "red_block", "table")]}
    return spec("put the red block to the left of the blue block", [RED, BLUE], goal)


def inserted() -> TaskSpec:
    """A peg in its hole."""
    goal = atom("in", "peg", "socket")
    things = [thing("peg", "peg", "red", size=[0.025, 0.06]), thing("socket", "socket", "gray", "fixture")]
    return spec("insert the red peg into the socket", things, goal, [sub("insert", "peg", "socket", goal=goal)])


def covered() -> TaskSpec:
    """A lid on its box."""
    goal = atom("on", "lid", "box")
    things = [thing("lid", "lid", "red"), thing("box", "box", "gray", "receptacle")]
    return spec("put the red lid on the box", things, goal, [sub("place_on", "lid", "box", goal=goal)])


def toppled() -> TaskSpec:
    """Every peg knocked over."""
    lying = {"not": atom("upright", "$p", angle=0.8)}
    goal = {"forall": {"var": "p", "among": {"card": "peg"}, "pred": lying}}
    pegs = [thing(f"{color}_peg", "peg", color, size=[0.026, 0.09]) for color in ("red", "blue")]
    return spec("knock over every peg", pegs, goal, [sub("achieve", goal=goal)])


SPECS = {
    "open_drawer": lambda: opened("drawer", "slide"),
    "close_drawer": lambda: opened("drawer", "slide", "<=", 0.05, "close"),
    "open_cabinet": lambda: opened("cabinet", "hinge"),
    "push_lever": lambda: opened("lever", "hinge", text="push the lever forward"),
    "turn_dial": lambda: opened("dial", "turn", "==", 0.5, "turn", "turn the dial half way"),
    "press_button": pressed,
    "stow": stowed,
    "count": counted,
    "distinct": shared_out,
    "sequence": in_order,
    "lift": lifted,
    "left_of": beside,
    "insert": inserted,
    "lid": covered,
    "topple": toppled,
}
