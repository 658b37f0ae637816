"""Tasks without a skill, small enough to search in."""

from robostack.task.predicate import Not, atom
from robostack.task.spec import Entity, Hold, Instruction, Placement, RobotRef, Subgoal, TaskSpec


def topple(control_mode="ee_pose", *, never=(), horizon_s=12.0) -> TaskSpec:
    """Knock over a can."""
    box = Placement(box=(0.45, -0.06, 0.53, 0.06))
    can = Entity(id="can", card="cylinder", color="red", role="manipuland", size=(0.03, 0.12), placement=box)
    goal = Not(part=atom("upright", "can", angle=1.2))
    return TaskSpec(
        name="topple",
        family="topple",
        instruction=Instruction(text="knock over the red can"),
        robot=RobotRef(name="panda", control_mode=control_mode),
        entities=(can,),
        goal=goal,
        never=never,
        hold=Hold(),
        subgoals=(Subgoal(skill="achieve", args=(), goal=goal),),
        horizon_s=horizon_s,
    )
