import dataclasses

import pytest

from robostack.cli.console import make_console
from robostack.cli.settings import load_settings
from robostack.cli.stages import plan_training
from robostack.errors import ConfigError
from robostack.evaluation.bench.suite import Suite

VALUES = {
    "name": "toy",
    "n": 10,
    "margin": 0.05,
    "decisions": 20,
    "tasks": {"push": {"task": "push the red can to the blue region", "demos": 5}},
    "policies": {
        "unet": {"policy": "diffusion_unet", "steps": 10, "network.kernel": 3},
        "beso": {"policy": "beso"},
    },
    "cells": ["unet:ddim10:sync", "unet:rti:rti vs unet:ddim10:sync", "beso:beso3:sync vs unet:ddim10:sync"],
}


def changed(**values):
    return Suite.of(VALUES | values)


def test_a_suite_is_read_from_plain_values():
    suite = Suite.of(VALUES)
    assert suite.policies[0].settings == {"steps": 10, "network.kernel": 3}
    assert [cell.key for cell in suite.cells] == ["unet:ddim10:sync", "unet:rti:rti", "beso:beso3:sync"]
    assert suite.cells[1].against == "unet:ddim10:sync"
    assert suite.tasks[0].robot == "panda"


def test_a_task_may_need_longer_trainings():
    longer = changed(tasks={"push": {"task": "x", "demos": 5, "training": 2}}).tasks[0].training
    settings = load_settings("train", ["policy=diffusion_unet", "policy.steps=15", "dataset=-"])
    plan = plan_training(settings, make_console(settings, 1))
    assert plan.times(longer).train_cfg == dataclasses.replace(plan.train_cfg, steps=30)
    assert plan.times(longer).policy_cfg == plan.policy_cfg
    assert plan.times(0.001).train_cfg.steps == 1


def test_a_task_may_change_a_policy():
    task = {"task": "x", "demos": 5, "policies": {"unet": {"steps": 20, "batch_size": 8}}}
    suite = changed(tasks={"push": VALUES["tasks"]["push"], "far": task})
    push, far = ([suite.row(row, policy) for policy in suite.policies] for row in suite.tasks)
    assert push == list(suite.policies)
    assert far[0].settings == {"steps": 20, "network.kernel": 3, "batch_size": 8}
    assert far[1] == suite.policies[1]
    part = suite.with_only(["far"], ["beso"])
    assert part.row(part.tasks[0], part.policies[0]) == suite.policies[1]


def test_a_cell_may_be_accelerated():
    plain, native = changed(cells=["unet:ddim10:sync", "unet:ddim10:sync:native vs unet:ddim10:sync"]).cells
    assert (plain.accelerate, native.accelerate) == ("none", "native")
    assert native.key == "unet:ddim10:sync:native"
    assert changed(cells=["unet:ddim10:sync:onnx"]).cells[0].accelerate == "onnx"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cells": ["unet:ddim10"]}, "cannot be read"),
        ({"cells": ["act:ddim10:sync"]}, "names no policy"),
        ({"cells": ["unet:ddim10:sync:fast"]}, "not with native, .*onnx"),
        ({"cells": ["unet:ddim10:sync:none"]}, "not with native, .*onnx"),
        ({"cells": ["unet:ddim10:sync:onnx:native"]}, "not with native, .*onnx"),
        ({"cells": ["unet:ddim10:sync", "unet:ddim10:sync"]}, "stands twice"),
        ({"cells": ["unet:rti:rti vs unet:ddim10:sync"]}, "is no cell"),
        ({"cells": []}, "there is no cell"),
        ({"n": 0}, "n=0"),
        ({"margin": 1.5}, "margin=1.5"),
        ({"policies": {"unet": {"steps": 3}}}, "cannot be read"),
        ({"tasks": {"push": {"tusk": "x", "demos": 1}}}, "cannot be read"),
        ({"tasks": {"push": {"task": "x", "demos": 0}}}, "task 'push' has demos=0"),
        ({"tasks": {"push": {"task": "x", "demos": 1, "policies": {"act": {"steps": 1}}}}}, "changes policy 'act'"),
        ({"tasks": {"push": {"task": "x", "demos": 1, "policies": ["unet"]}}}, "cannot be read"),
        ({"tasks": {"push": {"task": "x", "demos": 1, "training": 0}}}, "training=0"),
        ({"tasks": {"push": {"task": "x", "demos": 1, "training": float("nan")}}}, "training=nan"),
        ({"tasks": {"push": {"task": "x", "demos": 1, "training": "long"}}}, "cannot be read"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        changed(**values)
    assert "\n" not in str(caught.value)


def test_a_part_of_a_suite_keeps_the_comparisons_that_it_can():
    part = Suite.of(VALUES).with_only([], ["beso"])
    assert [(cell.key, cell.against) for cell in part.cells] == [("beso:beso3:sync", "")]
    with pytest.raises(ConfigError, match="no task 'pull'"):
        Suite.of(VALUES).with_only(["pull"], [])
