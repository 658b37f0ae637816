"""The verbs of the command line: one record each. Light: ``robostack --help`` imports this and nothing heavier."""

from __future__ import annotations

from dataclasses import dataclass

SENTENCE = "put the red cube in the bowl"


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: as it is typed; ``key`` is the module ``robostack.cli.<key>`` and the config ``configs/<key>.yaml``.
        summary: one line for ``robostack --help``.
        usage: what follows ``robostack``.
        examples: complete commands.
        composed: its settings come from ``configs/``; else the verb reads its own few arguments.
        positional: the setting that an argument without ``=`` fills; empty when there is none.
        knobs: documentation of a verb that is not composed.
    """

    name: str
    summary: str
    usage: str
    examples: tuple[str, ...]
    composed: bool = True
    positional: str = ""
    knobs: str = ""

    @property
    def key(self) -> str:
        """``gen_sample`` for ``gen sample``."""
        return self.name.replace(" ", "_")


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
            positional="sentence",
        ),
        Verb(
            "gen",
            "sentence -> task.json, with its scene checked",
            'gen "<sentence>" [key=value ...], or  gen <sub-verb> ...',
            (f'robostack gen "{SENTENCE}"', f'robostack gen "{SENTENCE}" robot=so101 out=outputs/my_task'),
            positional="sentence",
        ),
        Verb(
            "demos",
            "task.json -> verified demonstrations and a LeRobot dataset",
            "demos task=<task.json or its folder, or pusht> [key=value ...]",
            (
                "robostack demos task=outputs/my_task n=300",
                "robostack demos task=outputs/my_task/task.json n=1000 workers=8 seed=7",
            ),
        ),
        Verb(
            "train",
            "dataset -> trained policy (a checkpoint folder)",
            "train dataset=<folder>|[<folder>,...] [key=value ...]",
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
                "robostack eval checkpoint=outputs/my_policy sampler=ddpm100 execution=rtc latency=fixed:150 n=200",
            ),
        ),
        Verb(
            "export",
            "checkpoint -> one ONNX file that acts without torch, checked against the policy",
            "export checkpoint=<folder> [sampler=ddim10] [key=value ...]",
            (
                "robostack export checkpoint=outputs/my_policy out=robot",
                "robostack export checkpoint=outputs/my_policy sampler=dpmpp5 out=robot",
            ),
        ),
        Verb(
            "convert",
            "a policy that lerobot trained -> a checkpoint folder",
            "convert lerobot=<folder of save_pretrained> dataset=<folder> [key=value ...]",
            (
                "robostack convert lerobot=train/checkpoints/last/pretrained_model dataset=outputs/my_demos",
                "robostack convert lerobot=my_act dataset=outputs/my_demos out=outputs/my_policy",
            ),
        ),
        Verb(
            "bench",
            "policies x samplers x executions on the same data, seeds and scenes",
            "bench policies|join [key=value ...]",
            ("robostack bench policies", "robostack bench policies suite=full workers=16"),
            composed=False,
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

SUB_VERBS: dict[str, Verb] = {
    verb.key: verb
    for verb in (
        Verb(
            "gen sample",
            "the grammar -> certified tasks, one folder each",
            "gen sample n=<tasks> [key=value ...]",
            (
                "robostack gen sample n=20 seed=7 out=outputs/library",
                "robostack gen sample n=200 seed=7 robots=[panda,ur5e] families=[stack,drawer] workers=16",
            ),
        ),
        Verb(
            "gen verify",
            "any folder of tasks -> every demonstration replayed, every gate passed again",
            "gen verify <folder> [key=value ...]",
            ("robostack gen verify data/tasks", "robostack gen verify outputs/library depth=replay workers=8"),
            positional="folder",
        ),
        Verb(
            "gen explain",
            "one task -> its spec, text, gates, certificate and witness picture",
            "gen explain <id or folder> [key=value ...]",
            ("robostack gen explain 3f1c9a", "robostack gen explain outputs/library/failed/3f1c9a0b7d52e681"),
            positional="task",
        ),
        Verb(
            "gen library",
            "a folder of tasks -> a page with a picture per task, coverage, diversity and the funnel",
            "gen library [folder] [key=value ...]",
            ("robostack gen library", "robostack gen library outputs/library out=outputs/page"),
            positional="folder",
        ),
        Verb(
            "gen multiply",
            "a certified task -> demonstrations on new scenes and new objects",
            "gen multiply task=<id or folder> n=<demonstrations> [key=value ...]",
            (
                "robostack gen multiply task=3f1c9a n=100",
                "robostack gen multiply task=outputs/library/3f1c9a0b7d52e681 n=100 instances=8 size_jitter=0.15",
            ),
        ),
        Verb(
            "gen transfer",
            "a library's demonstrations -> how many still work in another physics engine",
            "gen transfer <folder> [key=value ...]",
            ("robostack gen transfer data/tasks", "robostack gen transfer outputs/library record=true workers=8"),
            positional="folder",
        ),
        Verb(
            "gen asset",
            "a mesh or URDF -> an asset card that passed the gates for objects",
            "gen asset file=<mesh or URDF> name=<word> licence=<SPDX id> [key=value ...]",
            (
                "robostack gen asset file=duck.obj name=duck licence=CC0-1.0",
                "robostack gen asset file=pybullet_data:duck.obj name=duck licence=Zlib data=my_data nouns=[duck,bird]",
            ),
        ),
        Verb(
            "bench policies",
            "every policy, sampler and execution against its reference -> a page and a JSON",
            "bench policies [suite=small|full] [key=value ...]",
            (
                "robostack bench policies suite=small",
                "robostack bench policies suite=full tasks=[push] policies=[unet] suite.n=200",
            ),
        ),
        Verb(
            "bench join",
            "comparisons whose tasks were run apart -> one page, one picture, one JSON",
            "bench join results=[<bench.json or folder>,...] [key=value ...]",
            (
                "robostack bench join results=[outputs/push,outputs/pick]",
                "robostack bench join results=[docs/bench/drawer.json,outputs/bench_policies/mine] out=outputs/both",
            ),
        ),
        Verb(
            "gen feedback",
            "a student's evaluations -> which demonstrations it needs next, and their collection",
            "gen feedback report=<metrics.json, report or folder> budget=<demonstrations> [key=value ...]",
            (
                "robostack gen feedback report=outputs/eval budget=500",
                "robostack gen feedback report=outputs/eval/2026-11-21_05-43-10/metrics.json budget=100 rule=uniform",
            ),
        ),
    )
}
"""Verbs under ``gen``, by key."""


def find_verb(key: str) -> Verb:
    """The verb or sub-verb of a key."""
    return VERBS[key] if key in VERBS else SUB_VERBS[key]
