"""Arguments become settings, or one sentence that says what is wrong with them."""

import pytest

from robostack.cli.console import make_console
from robostack.cli.settings import flatten, group_options, load_settings
from robostack.cli.stages import plan_training
from robostack.cli.targets import build_cfg
from robostack.cli.verbs import SUB_VERBS, VERBS
from robostack.errors import ConfigError, RobostackError, UnknownName
from robostack.paths import config_dir

SENTENCE = "put the red cube in the bowl"
NEEDED = {"run": [SENTENCE], "gen": [SENTENCE], "demos": ["task=t"], "train": ["dataset=d"], "eval": ["checkpoint=c"]}
NEEDED |= {"gen_sample": [], "gen_verify": ["f"], "gen_explain": ["t"], "gen_library": []}
NEEDED |= {"gen_multiply": ["task=t"], "gen_feedback": ["report=r"]}
NEEDED |= {"gen_transfer": ["f"], "gen_asset": ["file=f", "name=n", "licence=MIT"]}
NEEDED |= {"bench_policies": [], "bench_join": [], "export": ["checkpoint=c"], "convert": ["lerobot=l", "dataset=d"]}
GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir())


def home_of(group):
    """The verb that is tried with every option of a group; a block of settings is the same under all verbs."""
    return next(verb for verb in ("eval", *NEEDED) if group in load_settings(verb, NEEDED[verb]))


@pytest.mark.parametrize("verb", NEEDED)
def test_every_verb_composes_with_members_of_its_groups_and_one_of_them_with_all(verb):
    for group in [group for group in GROUPS if group in load_settings(verb, NEEDED[verb])]:
        options = group_options(group)
        for option in options if verb == home_of(group) else {options[0], options[-1]}:
            settings = load_settings(verb, [*NEEDED[verb], f"{group}={option}"])
            assert all("???" not in str(value) for value in flatten(settings).values())
            # lerobot_act_small is a lerobot_act
            assert group == "targets" or option.startswith(settings[group]["name"])


def test_all_composed_verbs_are_covered():
    assert set(NEEDED) == {name for name, verb in (VERBS | SUB_VERBS).items() if verb.composed}


@pytest.mark.parametrize(
    "sentence",
    ['it\'s "here", {a: [b]}', "a=b is ${seed}", "stelle den Würfel, bitte: (rot)", "???", "null", "~x +y @z \\"],
)
def test_sentences_never_meet_the_override_grammar(sentence):
    args = [sentence] if "=" not in sentence else [f"sentence={sentence}"]
    assert load_settings("run", args)["sentence"] == sentence


def test_paths_never_meet_the_override_grammar(tmp_path):
    path = f"{tmp_path}/a b,c={{d}}(e)"
    assert load_settings("demos", [f"task={path}", f"out={path}"])["out"] == path


def test_values_arrive_typed():
    args = ["policy.steps=500", "policy.network.down_dims=[32,64]", "policy.lr=1", "demos.workers=3", "quiet=true"]
    settings = load_settings("run", [SENTENCE, *args])
    assert settings["policy"]["steps"] == 500
    assert settings["policy"]["network"]["down_dims"] == [32, 64]
    assert settings["demos"]["workers"] == 3
    assert settings["quiet"] is True


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("polcy.steps=5", "unknown config key 'polcy.steps': did you mean 'policy.steps'?"),
        ("steps=5", "did you mean 'policy.steps'?"),
        ("robto=panda", "did you mean 'robot'?"),
        ("demos=5", "'demos' is a section, not a setting: set one of demos.n, demos.workers"),
        ("dataset=x", "unknown config key 'dataset'"),
        ("policy.steps=abc", "policy.steps must be an integer, not abc"),
        ("policy.steps=1.5", "policy.steps must be an integer, not 1.5"),
        ("policy.steps=null", "policy.steps must be an integer, not None"),
        ("seed=false", "seed must be an integer, not false"),
        ("policy.lr=fast", "policy.lr must be a number, not fast"),
        ("robot=5", "robot must be a text, not 5"),
        ("quiet=1", "quiet must be true or false, not 1"),
        ("demos.workers=many", "demos.workers must be an integer >= 1 or auto"),
        ("policy.network.down_dims=[64,x]", "policy.network.down_dims must be a list"),
        ("policy.network.down_dims=[]", "policy.network.down_dims must be a list"),
        ("policy.network.down_dims=[64,-1]", "policy.network.down_dims=-1 is too small"),
        ("demos.n=0", "demos.n=0 is too small: it must be >= 1"),
        ("eval.n=-3", "eval.n=-3 is too small: it must be >= 1"),
        ("demos.workers=0", "demos.workers=0 is too small: it must be >= 1"),
        ("seed=-1", "seed=-1 is too small: it must be >= 0"),
        ("policy.lr=0", "policy.lr=0 is too small"),
        ("policy.lr=nan", "policy.lr=nan is not a finite number"),
        ("policy.lr=.inf", "policy.lr must be a number"),
        ("policy.Ta=16", "policy.Ta=16 is too long"),
        ("sampler=ddin10", "unknown option of sampler 'ddin10': did you mean 'ddim10'? Available: argmax, "),
        ("device=gpu", "unknown device 'gpu'"),
        ("control_mode=torque", "unknown control_mode 'torque': Available: ee_pose, joint_pos"),
        ("progress=maybe", "unknown progress 'maybe'"),
        ("eval.n=1,2", "several values need several commands"),
        ("+eval.x=1", "settings are changed with key=value only"),
        ("~sampler", "put the whole sentence in quotes"),
        ("policy.lr={", "cannot read 'policy.lr={': quote the value"),
        ("robot=${nothing}", "cannot compose the configuration of run"),
        ("robot=???", "run needs robot"),
        ("out=", "out is empty"),
        ("red", "put the whole sentence in quotes"),
        ("--seed=1", "settings are written without dashes, seed=1"),
        ("-v", "unknown option '-v'"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(argument, message):
    with pytest.raises(RobostackError) as refused:
        load_settings("run", [SENTENCE, argument])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("argument", ["seed=0", "policy.weight_decay=0", "policy.warmup_steps=0", "policy.grad_clip=0"])
def test_zero_is_accepted_where_it_means_something(argument):
    assert flatten(load_settings("run", [SENTENCE, argument]))[argument.partition("=")[0]] == 0


ZEROS = {
    "diffusion_transformer": ("network.p_drop_attn", "network.p_drop_emb", "idle", "state_noise"),
    "carp": ("network.condition", "tokenizer.spread", "tokenizer.commitment"),
    "lerobot_act_small": ("dropout", "kl_weight", "ema_power"),
    "lerobot_diffusion": ("drop_n_last_frames",),
}


@pytest.mark.parametrize(("policy", "key"), [(policy, key) for policy, keys in ZEROS.items() for key in keys])
def test_policies_take_the_zeros_that_mean_something(policy, key):
    settings = load_settings("train", ["dataset=d", f"policy={policy}", f"policy.{key}=0"])
    assert plan_training(settings, make_console(settings, 1)).policy_name == settings["policy"]["name"]


@pytest.mark.parametrize(("verb", "key"), [("demos", "task"), ("train", "dataset"), ("eval", "checkpoint")])
def test_a_missing_mandatory_value_is_named(verb, key):
    with pytest.raises(ConfigError, match=f"{verb} needs {key}: write  robostack {verb} {key}="):
        load_settings(verb, [])


@pytest.mark.parametrize("args", [[], ["  "]])
def test_a_missing_sentence_is_asked_for(args):
    with pytest.raises(ConfigError, match="sentence"):
        load_settings("run", args)


def test_an_unknown_group_option_lists_the_known_ones():
    with pytest.raises(UnknownName, match=r"option of logger 'csv'.*none, tensorboard, wandb"):
        load_settings("train", ["dataset=d", "logger=csv"])


def test_a_cfg_refuses_values_it_does_not_know(fakes):
    with pytest.raises(ConfigError, match="policy.network.kernle is unknown to NetworkCfg: it has down_dims, kernel"):
        build_cfg(fakes.PolicyCfg, {"network": {"kernle": 3}}, "policy")


def test_a_cfg_gets_tuples_floats_and_nested_cfgs(fakes):
    cfg = build_cfg(fakes.PolicyCfg, {"To": 2, "network": {"down_dims": [4, 8]}}, "policy")
    assert cfg == fakes.PolicyCfg(To=2, network=fakes.NetworkCfg(down_dims=(4, 8)))
    assert isinstance(build_cfg(fakes.TrainCfg, {"lr": 1}, "policy").lr, float)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("execution=asynch", "unknown execution 'asynch': did you mean 'async'? Available: async, ensemble, rtc"),
        ("latency=150", "latency must be a text, not 150"),
        ("latency=slow", "unknown latency 'slow': use none, fixed:<milliseconds>, measured"),
        ("latency=fixed:-3", "latency 'fixed:-3' is out of range"),
    ],
)
def test_a_wrong_execution_or_latency_is_refused_in_one_line(argument, message):
    with pytest.raises(RobostackError) as refused:
        load_settings("eval", ["checkpoint=c", argument])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
