"""What a person sees: the page, the terminal, the table over runs."""

from __future__ import annotations

import copy
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.evaluation.comparison import compare_runs, print_comparison
from recomind.evaluation.html import render_html, write_html
from recomind.evaluation.presentation import interval
from recomind.evaluation.report import write_report
from recomind.evaluation.results import collect_results, print_results
from recomind.evaluation.svg import Series, line_chart, ticks
from recomind.evaluation.table import print_report

VOID = {"meta", "link", "br"}


class Balance(HTMLParser):
    """Collects what is open, and what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(call, *arguments, width=80):
    page = io.StringIO()
    call(*arguments, Console(file=page, width=width, force_terminal=False))
    return page.getvalue()


def squeezed(text):
    """Without the borders and spaces that folding puts into words."""
    return re.sub(r"[\s│┃|]+", "", text)


def test_the_page_fetches_nothing_and_is_well_formed(report):
    page = render_html(report)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched == ["data:,"]
    assert "script" not in parser.tags
    assert not re.search(r"https?://|@import|url\(", page)


def test_every_plot_is_valid_xml_and_named(report):
    plots = re.findall(r"<svg.*?</svg>", render_html(report), re.S)
    # Two environments with a forest plot and survival curves, two learning curves, one task.
    assert len(plots) == 7
    for plot in plots:
        assert ElementTree.fromstring(plot).findtext("title")


def test_the_page_says_verdict_reasons_figures_and_what_is_never_evidence(report):
    page = render_html(report)
    assert '<div class="word">Released</div>' in page
    for reason in report["gate"]["reasons"]:
        assert reason in page
    assert "training simulator: never evidence" in page
    assert "world: decides" in page
    assert "<b>0 positions</b>" in page
    report["gate"]["released"] = False
    assert '<div class="word">Not released</div>' in render_html(report)


ABOUT = {"run": "demo", "date": "2026-11-30", "versions": "recomind 0.1.0, torch 2.13.0+cpu"}


def test_the_head_says_which_run_on_what_data_from_which_pool(report):
    head = render_html(report, ABOUT).split('<div class="card')[0]
    assert "<h1>demo, seed 3</h1>" in head
    assert "<title>Released: demo report</title>" in head
    for name, said in {
        "date": "2026-11-30",
        "versions": "recomind 0.1.0, torch 2.13.0+cpu",
        "data": "61,234 logged events in 4,321 sessions of 3,210 users, 2026-11-01 to 2026-11-14",
        "pool": "64 of 10,000 items at each decision: 32 nearest, 4 newest, 28 drawn",
    }.items():
        assert f"<dt>{name}</dt><dd>{said}</dd>" in head
    report["data"] |= {"first_day": None, "last_day": None}
    report["pool"]["num_items"] = 40
    page = render_html(report, {"run": "<script>"})
    assert "3,210 users, without dates" in page
    assert "all 40 items at each decision" in page
    assert "<script" not in page


def test_the_page_repeats_what_the_sessions_could_find(report):
    verdict = render_html(report).split('<div class="card')[1]
    assert "Before it ran, of tiny world: 200 sessions find a lift of 3.1% or more" in verdict


def test_names_cannot_inject_markup(report):
    hostile = "<script>alert(1)</script>"
    report["environments"][0]["name"] = hostile
    report["gate"]["reasons"] = [hostile]
    report["ranker"] = {hostile: {hostile: hostile}, "flat": hostile}
    report["calibration"] = {hostile: report["calibration"]["watch_10s"]}
    report["arms"].append(hostile)
    for part in ("arms", "survival"):
        report["environments"][0][part][hostile] = report["environments"][0][part]["policy"]
    report["environments"][0]["lift"][hostile] = report["environments"][0]["lift"]["coverage"]
    assert "<script" not in render_html(report)


def test_the_page_shows_what_is_gained_over_a_further_baseline(report):
    world = next(e for e in report["environments"] if e["kind"] == "world")
    over = world["lift"]["watch_10s_per_session"] | {"value": 0.321}
    world["lift_over"] = {"first_<ranker>": {"watch_10s_per_session": over, "coverage": over}}
    page = render_html(report)
    assert page.count("target over first_&lt;ranker&gt;") == 1
    assert page.count("+32.1 %") == 1


def test_the_page_says_which_round_was_kept_and_why(report):
    assert "<h2>Rounds</h2>" not in render_html(report)
    lift = {"value": 0.05, "low": 0.01, "high": 0.09, "n": 30, "method": "paired"}
    judged = [
        {
            "round": index,
            "environment": "world",
            "metric": "watch_10s_per_session",
            "num_sessions": 1234,
            "value": value,
            "baseline": "ranker of the <first> round",
            "lift": lift,
            "refit_value": 4.125,
            "refit_lift": lift | {"value": 0.07},
        }
        for index, value in enumerate((4.25, 4.75))
    ]
    report["rounds"] = {"keep": "best", "kept": 1, "judged": judged}
    section = render_html(report).split("<h2>Rounds</h2>")[1].split("<h2>")[0]
    assert "round 2 (kept)" in section
    assert "round 1 (kept)" not in section
    assert "1,234 sessions of the world that are in no other figure" in section
    assert "4.250" in section
    assert "4.750" in section
    assert "ranker of the &lt;first&gt; round" in section
    assert "4.125" in section
    assert "+7.0 %" in section


def test_equal_reports_give_equal_pages(report, tmp_path):
    first = write_html(tmp_path / "a", report).read_bytes()
    assert write_html(tmp_path / "b", report).read_bytes() == first


def test_a_page_of_a_bare_report(report):
    for key in ("calibration", "ranker", "fidelity"):
        report[key] = {}
    for key in ("data", "pool", "power"):  # a report from before has none
        del report[key]
    report |= {"learning_curve": [], "step0_parity": None, "environments": []}
    page = render_html(report)
    assert "Not measured" in page
    assert "<svg" not in page


def test_no_page_of_a_broken_report(report):
    del report["gate"]
    with pytest.raises(SchemaError, match="no 'gate'"):
        render_html(report)


def test_a_line_goes_where_its_points_are():
    line = Series(name="a", points=[(0, 0.0), (10, 1.0)], style="arm-0")
    chart = line_chart([line], title="t", x_label="x", y_label="y", y_range=(0, 1))
    (drawn,) = re.findall(r'points="([^"]+)"', chart)
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in drawn.split())
    assert x0 < x1
    assert y0 > y1
    flat = Series(name="a", points=[(3, 2.0)], style="arm-0")
    assert "<circle" in line_chart([flat], title="t", x_label="x", y_label="y")


def test_both_learning_curves_have_one_scale(report):
    curves = render_html(report).split("<h2>Learning</h2>")[1]
    simulator, world = re.findall(r"<polyline points=\"[^,]+,([0-9.]+) ", curves)[:2]
    # The returns at step 0 are 5 in the simulator and 4 in the world: higher on the page is less.
    assert float(simulator) < float(world)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.1, 0.1, [-0.1, -0.05, 0.0, 0.05, 0.1]), (0, 1200, [0, 250, 500, 750, 1000]), (2, 2, [2])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


@pytest.mark.parametrize("width", [50, 80, 160])
def test_the_terminal_shows_everything_at_any_width(report, width):
    text = shown(print_report, report, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for word in ("Released", "watch_10s_per_session", "tiny world", "never evidence"):
        assert squeezed(word) in squeezed(text)
    for reason in report["gate"]["reasons"]:
        assert squeezed(reason) in squeezed(text)


def test_a_pipe_gets_every_lift_in_one_line(report, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in ("another", "ranker_ensemble"):
        report["arms"] = [*report["arms"], name]
        for environment in report["environments"]:
            environment["arms"][name] = environment["arms"]["policy"]
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    environment = report["environments"][0]
    for metric, lift in environment["lift"].items():
        assert any(metric in line and interval(lift) in line for line in lines), metric


def test_markup_in_names_is_printed_as_it_is(report):
    report["environments"][0]["name"] = "[red]w[/red]"
    assert "[red]w[/red]" in shown(print_report, report)


def write_run(root, name, report, **changes):
    write_report(root / name / "report", {**report, **changes})


def test_one_table_over_runs(report, tmp_path):
    write_run(tmp_path, "b/second", report, seed=8)
    write_run(tmp_path, "a", report)
    write_run(tmp_path, ".a.tmp", report)
    rows = collect_results(tmp_path)
    assert [(row.run, row.seed, row.released) for row in rows] == [
        ("a", 3, True),
        ("b/second", 8, True),
    ]
    expected = report["environments"][0]["lift"]["watch_10s_per_session"]
    assert rows[0].lifts["tiny world"] == expected
    text = shown(print_results, rows)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "b/second" in text
    assert f"{expected['value']:+.1%}".replace("%", "") in text


def test_a_run_is_its_own_root(report, tmp_path):
    write_report(tmp_path / "mine" / "report", report)
    assert [row.run for row in collect_results(tmp_path / "mine")] == ["mine"]


def test_nothing_to_collect(report, tmp_path):
    with pytest.raises(ArtifactError, match="no folder of runs"):
        collect_results(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"no report/report\.json"):
        collect_results(tmp_path)
    write_run(tmp_path, "broken", report)
    (tmp_path / "broken/report/report.json").write_text('{"format_version": 1}')
    with pytest.raises(ArtifactError, match=r"unreadable report; got: .*broken.*no 'seed'"):
        collect_results(tmp_path)


def test_runs_side_by_side(report, tmp_path):
    write_run(tmp_path, "a", report)
    other = copy.deepcopy(report)
    other["seed"], other["gate"]["released"] = 8, False
    del other["environments"][1]
    write_run(tmp_path, "b", other)
    found = compare_runs([tmp_path / "a", tmp_path / "b" / "report"])
    rows = dict(found.rows)
    assert rows["verdict"] == ["Released", "Not released"]
    assert rows["seed"] == ["3", "8"]
    lift = interval(report["environments"][0]["lift"]["watch_10s_per_session"])
    assert rows["tiny world: lift"] == [lift, lift]
    assert rows["ensemble: lift"][1] == "-"
    assert rows["tiny world: session_depth"] == ["holds", "holds"]
    assert "Not released" in shown(print_comparison, found, width=160)
    with pytest.raises(ConfigError, match="two or more folders"):
        compare_runs([tmp_path / "a"])
    with pytest.raises(ArtifactError, match="no report here"):
        compare_runs([tmp_path / "a", tmp_path / "absent"])


def test_the_page_says_what_was_not_tested_and_where_the_lift_comes_from(report):
    world = report["environments"][0]
    lift = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 9, "method": "paired"}
    world["support_lift"] = {"watch_10s_per_session": lift}
    world["rl_lift"] = {"watch_10s_per_session": lift | {"value": -0.05, "low": -0.1, "high": 0.0}}
    report["gate"]["warnings"] = ["Something <odd>."]
    report["gate"]["guardrails"][0] |= {"status": "not shown", "sessions_needed": 12345}
    page = render_html(report)
    top = page.split("<h2>tiny world")[0]
    assert "Something &lt;odd&gt;." in top
    assert "-5.0 % [-10.0, +0.0]" in top
    assert "would take 12,345" in top
    assert 'class="box untested"' in top
    assert "policy over ranker; decided by tiny world." in top


def test_where_the_lift_comes_from_over_what_is_served(report):
    report["baseline_arm"] = "served_policy"
    world = report["environments"][0]
    lift = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 9, "method": "paired"}
    world["rl_lift"] = {"watch_10s_per_session": lift}
    world["lift_over"] = {"ranker": {"watch_10s_per_session": lift | {"value": 0.456}}}
    top = render_html(report).split("<h2>tiny world")[0]
    assert "over served_policy</th><th>over ranker</th><th>by the support" in top
    assert "+45.6 % [+20.0, +30.0]" in top
    assert "ranker_in_support ranks as ranker does" in top
