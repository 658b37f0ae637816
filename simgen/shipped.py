"""The tasks behind the Gymnasium ids: sentences, and the command that writes their specifications to ``data/presets``.

Run ``python -m simgen.shipped`` after a change of the grammar or of a robot card; a test compares the files with it.
"""

from __future__ import annotations

from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.paths import data_dirs
from robostack.sim.cards import robots
from simgen.propose import propose

SENTENCES = {
    "put_in_bowl": "put the red cube in the bowl",
    "put_on_plate": "put the red cube on the blue plate",
    "stack_two": "stack the green block on the blue block",
    "stack_three": "stack the red block on the green block on the blue block",
    "push_to_region": "push the yellow cylinder to the left region",
    "sort_by_color": "sort the red and blue blocks by color",
    "line_up": "line up the red, green and blue blocks",
}


def specifications() -> dict[str, str]:
    """Relative path -> JSON of every shipped task for every robot card."""
    return {
        f"{task}/{robot}.json": propose(sentence, robot).to_json() + "\n"
        for task, sentence in SENTENCES.items()
        for robot in robots()
    }


def write(directory: Path) -> None:
    """Write all specifications below ``directory``."""
    for name, text in specifications().items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / name, text.encode())


if __name__ == "__main__":
    write(data_dirs()[-1] / "presets")
