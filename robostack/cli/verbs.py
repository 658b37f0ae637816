"""The verbs of the command line: one record each. Light: ``robostack --help`` imports this and nothing heavier."""

from __future__ import annotations

from dataclasses import dataclass

SENTENCE = "put the red cube in the bowl"


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: also the module ``robostack.cli.<name>`` and the primary config ``configs/<name>.yaml``.
        summary: one line for ``robostack --help``.
        usage: what follows ``robostack``.
        examples: two complete commands.
        composed: its settings come from ``configs/``; else the verb reads its own few arguments.
        takes_sentence: its first argument without ``=`` is the sentence.
        knobs: documentation of a verb that is not composed.
    """

    name: str
    summary: str
    usage: str
    examples: tuple[str, str]
    composed: bool = True
    takes_sentence: bool = False
    knobs: str = ""


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "run",
            "sentence -> task -> demonstrations -> policy -> evaluation -> report",
            'run "<sentence>" [key=value ...]',
            (
                f'robostack run "{SENTENCE}"',
                f'robostack run "{SENTENCE}" robot=ur5e demos.n=100 policy.steps=500 eval.n=20',
            ),
            takes_sentence=True,
        ),
        Verb(
            "gen",
            "sentence -> task.json, with its scene checked",
            'gen "<sentence>" [key=value ...]',
            (f'robostack gen "{SENTENCE}"', f'robostack gen "{SENTENCE}" robot=so101 out=outputs/my_task'),
            takes_sentence=True,
        ),
        Verb(
            "demos",
            "task.json -> verified demonstrations and a LeRobot dataset",
            "demos task=<task.json or its folder> [key=value ...]",
            (
                "robostack demos task=outputs/my_task n=300",
                "robostack demos task=outputs/my_task/task.json n=1000 workers=8 seed=7",
            ),
        ),
        Verb(
            "train",
            "dataset -> trained policy (a checkpoint folder)",
            "train dataset=<folder> [key=value ...]",
            (
                "robostack train dataset=outputs/my_demos",
                "robostack train dataset=outputs/my_demos policy.steps=20000 policy.lr=1e-4 device=cuda",
            ),
        ),
        Verb(
            "eval",
            "checkpoint -> success rate with its confidence interval, latency",
            "eval checkpoint=<folder> [task=<task.json>] [key=value ...]",
            (
                "robostack eval checkpoint=outputs/my_policy n=100",
                "robostack eval checkpoint=outputs/my_policy task=outputs/my_task sampler=ddpm100 n=200",
            ),
        ),
        Verb(
            "doctor",
            "what is installed, missing or broken, and the command that fixes it",
            "doctor [json=true]",
            ("robostack doctor", "robostack doctor json=true"),
            composed=False,
            knobs="  json=false            true: one JSON object instead of the table\n"
            "Exit code 0: the main job can run. 2: something necessary is missing or broken.",
        ),
    )
}
