import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from subprocess import run

import numpy as np
import pytest

from robostack.errors import StorageError
from robostack.evaluation import plots, video
from robostack.evaluation.html import Html, tag
from robostack.evaluation.readable import atom_phrase, goal_list
from robostack.evaluation.report import Clip, ReportData, render_report, write_report
from robostack.evaluation.schema import RunMetrics
from robostack.task.predicate import Not, Or, all_of, atom
from robostack.task.spec import Entity, Instruction, Placement, RobotRef, TaskSpec

HOSTILE = """</title></h1><script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>"'&amp; \u2028"""


def make_spec(sentence: str = "put the red cube on the plate", color: str = "red") -> TaskSpec:
    placement = Placement(box=(0.3, -0.2, 0.6, 0.2))
    return TaskSpec(
        name="put_on",
        family="pick_place",
        instruction=Instruction(text=sentence),
        robot=RobotRef(name="panda"),
        entities=(
            Entity(
                id="cube", card="cube", color=color, role="manipuland", placement=placement, size=(0.04, 0.04, 0.04)
            ),
            Entity(id="plate", card="plate", color="blue", role="receptacle", placement=placement),
        ),
        goal=all_of(
            atom("on", "cube", "plate", z=0.005), Or(parts=(Not(part=atom("upright", "cube")), atom("odd", 1.5)))
        ),
        never=(atom("toppled", "plate"),),
    )


def make_metrics(successes: int = 93, **changes) -> RunMetrics:
    values = {
        "task_id": "abc",
        "robot": "panda",
        "expert": {"success": 0.99, "n": 300},
        "demos": {"n": 297, "replayed_exact": 297, "per_minute": 410.0},
        "policy": {
            "success": successes / 100,
            "n": 100,
            "wilson_low": 0.8625,
            "wilson_high": 1.0,
            "first_time_success": 1.0,
        },
        "latency_ms": {"p50": 2.1, "p99": 3.4},
        "env": {"control_steps_per_s": 1200.0},
        "wall_s": 512.0,
    }
    return RunMetrics(**values | changes)


def frames(steps: int = 6) -> np.ndarray:
    return np.full((steps, 48, 64, 3), 120, dtype=np.uint8)


def full(spec: TaskSpec | None = None) -> ReportData:
    rng = np.random.default_rng(0)
    steps = np.arange(1.0, 400.0)
    return ReportData(
        spec=spec or make_spec(),
        metrics=make_metrics(
            stages={"train": 300.0, "evaluate": 20.0}, failure_codes={"DROPPED": 4, "TIMEOUT": 3}, params=2_900_000
        ),
        scene=frames()[0],
        expert=Clip("seed 3", "4.2 s", frames(), ok=True),
        rollouts=(
            Clip("seed 1000001", "goal held after 5.0 s", video.encode_video(frames(), 20).data, ok=True),
            Clip("seed 1000002", "DROPPED after 6.4 s", frames(), ok=False),
        ),
        train_loss=np.stack([steps, 1 / steps], axis=1),
        validation_loss=np.array([[100.0, 0.02], [390.0, 0.01]]),
        latencies_ms=rng.gamma(30, 0.08, 500),
        files=(("Task", "task.json"), ("Data set", "data set/")),
        commands=(("Train", "robostack train data=x"),),
        versions={"mujoco": "3.8.1"},
        hashes={"task": "9f2c"},
    )


class Page(HTMLParser):
    """What a browser would see: elements with attributes, text, and whether the tags balance."""

    def __init__(self, document: str):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.elements)


@pytest.fixture(scope="module")
def document():
    return render_report(full())


def test_the_page_is_well_formed_and_holds_every_part(document):
    page = Page(document)
    assert page.open == []
    assert (page.count("h1"), page.count("video"), page.count("img"), page.count("svg")) == (1, 3, 1, 4)
    for part in (
        "“put the red cube on the plate”",
        "93 of 100 episodes succeeded",
        "95 % CI 0.86–1.00",
        "Expert, seed 3",
        "Policy, seed 1000002 ✗ failure DROPPED after 6.4 s",
        "TIMEOUT 3 3.0 %",
        "robostack train data=x",
        "mujoco 3.8.1",
        "2,900,000 parameters",
        "cube rests on plate",
        "Counts when it holds for 0.5 s",
    ):
        assert part in page.text, part


def test_nothing_is_fetched_and_nothing_runs(document):
    page = Page(document)
    assert page.count("script") + page.count("link") + page.count("iframe") == 0
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "xlink:href", "poster", "data"):
            if key in attributes:
                assert attributes[key].startswith(("data:", "#")), (name, key)
    assert "@import" not in document
    assert page.count("style") == 1
    assert not re.findall(r"url\((?!#)", document)
    policy = next(a["content"] for n, a in page.elements if n == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_hostile_text_stays_text_wherever_it_comes_from():
    spec = make_spec(HOSTILE, color=HOSTILE)
    hostile = Clip(HOSTILE, HOSTILE, frames(), ok=False)
    data = replace(
        full(spec),
        metrics=make_metrics(failure_codes={HOSTILE: 7}, stages={HOSTILE: 1.0}),
        expert=hostile,
        rollouts=(hostile,),
        files=((HOSTILE, "javascript:alert(1)"), (HOSTILE, HOSTILE)),
        commands=((HOSTILE, HOSTILE),),
        versions={HOSTILE: HOSTILE},
    )
    document = render_report(data)
    page = Page(document)
    assert page.open == []
    assert page.count("script") == 0
    assert "evil.example" in page.text
    assert not [
        a for _, a in page.elements if "onerror" in a or "evil" in a.get("src", "") or "evil" in a.get("style", "")
    ]
    assert not [a for n, a in page.elements if n == "a" and "javascript" in a.get("href", "")]


def test_links_are_relative_and_quoted(document):
    links = [a["href"] for n, a in Page(document).elements if n == "a"]
    assert links == ["task.json", "data%20set/"]


def test_what_is_missing_is_said_in_a_sentence():
    page = Page(render_report(ReportData(make_spec(), make_metrics(100))))
    assert page.count("img") + page.count("video") == 0
    for sentence in (
        "There is no picture of the scene",
        "There are no clips",
        "There is no loss curve",
        "There is no latency histogram",
        "None of the 100 episodes failed.",
    ):
        assert sentence in page.text
    successes = replace(full(), metrics=make_metrics(100), rollouts=(Clip("seed 1", "", frames(), ok=True),))
    assert "no failure to show" in Page(render_report(successes)).text
    unnamed = replace(full(), metrics=make_metrics(93))
    assert "7 of 100 episodes failed; their codes were not recorded." in Page(render_report(unnamed)).text


def test_without_an_encoder_clips_are_pictures(monkeypatch):
    monkeypatch.setattr(video, "_ENCODERS", ())
    page = Page(render_report(replace(full(), rollouts=())))
    assert page.count("video") == 0
    assert [a["src"][:16] for n, a in page.elements if n == "img"] == ["data:image/png;b", "data:image/webp;"]


def test_equal_data_give_equal_pages():
    # Encoded once: of the same frames x264 makes other bytes about once in a thousand times.
    clip = Clip("seed 3", "4.2 s", video.encode_video(frames(), 20).data, ok=True)
    assert len({render_report(replace(full(), expert=clip, rollouts=())) for _ in range(2)}) == 1


def test_ids_in_the_page_are_unique_and_every_reference_finds_its_target(document):
    ids = re.findall(r' id="([^"]+)"', document)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', document)) <= set(ids)


def test_plots_wear_the_colours_of_the_page(document):
    drawn = "".join(re.findall(r"<svg.*?</svg>", document, flags=re.DOTALL))
    assert "var(--blue)" in drawn
    assert not re.findall(r"(?:fill|stroke): ?#(?!fff)", drawn)


def test_the_report_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_report(full(), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        write_report(full(), tmp_path / "other.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_report_needs_neither_mujoco_nor_torch_nor_pyplot():
    code = (
        "import sys, numpy as np\n"
        "from robostack.evaluation import plots, report\n"
        "plots.loss_curve(np.ones((3, 2)))\n"
        "assert not {'mujoco', 'torch', 'lerobot', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "points",
    [np.ones((1, 2)), np.array([[1.0, 0.0], [2.0, np.nan]]), np.zeros((0, 2)), np.cumsum(np.ones((5000, 2)), axis=0)],
    ids=["one point", "nothing positive", "no points", "many points"],
)
def test_loss_curves_of_odd_data_are_drawn(points):
    svg = plots.loss_curve(points, points)
    assert "optimiser step" in svg
    assert len(svg) < 150_000


def test_histograms_of_odd_data_are_drawn():
    assert "p99 2.00 ms" in plots.latency_histogram(np.full(7, 2.0))
    spread = np.concatenate([np.linspace(1, 2, 999), [500.0]])
    assert "1 beyond the axis" in plots.latency_histogram(spread)


def test_success_intervals_show_the_counts_and_the_bounds():
    svg = plots.success_intervals([plots.Proportion("policy", 61, 64), plots.Proportion("expert", 0, 9)])
    assert "61/64   [0.87, 0.98]" in svg.replace("\xa0", " ")
    assert "0/9   [0.00, 0.30]" in svg.replace("\xa0", " ")


def test_labels_are_plain_and_short():
    svg = plots.stage_bars({"$x$ \u2028 <b>" + 50 * "y": 1.0, "": 0.0})
    assert "$x$ ? &lt;b&gt;yyyyyyyyyyyy..." in svg.replace("\xa0", " ")


def test_plotting_leaves_the_global_style_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.stage_bars({"train": 3.0})
    assert dict(matplotlib.rcParams) == before


def test_goals_read_as_sentences_and_unknown_atoms_keep_their_form():
    words = Page(goal_list(make_spec().goal)).text
    assert words == (
        "all of cube rests on plate (tolerance: z 0.005) at least one of "
        "it is not so that cube stands upright odd( 1.5 )"
    )
    assert Page(atom_phrase(atom("near", "a", "b", 0.05))).text == "a is within 0.05 m of b"
    assert Page(atom_phrase(atom("near", "a", "b"))).text == "near( a , b )"
    assert Page(atom_phrase(atom("aligned", ("a", "b")))).text == "a , b lie on a line"


def test_text_is_escaped_unless_it_is_markup():
    assert tag("p", "a < b", Html("<br>"), None, title='"x"', hidden=True, class_=None) == (
        '<p title="&quot;x&quot;" hidden>a &lt; b<br></p>'
    )
