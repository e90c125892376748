from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.dom.minidom import parseString

import pytest
from hant.passes.reporting.charts import charts, predicted
from hant.passes.reporting.page import page
from hant.passes.reporting.schema import AccuracyReport, LimitReport, Report, StudentReport
from hant.passes.reporting.words import whole
from hant.transformer.contracts.task import Metric


class Reader(HTMLParser):
    """Collects what a browser would see: elements with their attributes, and the words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def read(report: Report) -> Reader:
    return Reader(page(report))


def changed(report: Report, **accuracy: object) -> Report:
    values = report.accuracy.model_dump() | accuracy
    return report.model_copy(update={"accuracy": AccuracyReport.model_validate(values)})


def test_the_page_tells_everything(report: Report) -> None:
    seen = read(report)
    ids = [attributes["id"] for tag, attributes in seen.elements if tag == "section"]
    assert ids == ["asked", "latency", "blocks", "front", "predicted", "accuracy", "training", "operations", "again"]
    assert sum(tag == "svg" for tag, _ in seen.elements) == len(charts(report)) == 9
    for fact in (
        "everything asked was kept", "2.50x", "0.400 of the teacher's latency", "2.000 ms", "0.390 to 0.410",
        "98.25 %", "0.5 points lost", "-0.25 points", "params", "900 k", "2 of 3 blocks", "efn_3x3_e1_se1.00",
        "BasicBlock", "+0.0213", "0.1234 ms", "not met: the least is 0.2", "+5.0 %", "97.00 %", "98.40 %", "4 epochs",
        "rest of the network", "3.500 ms", "1.730 ms", "measured 2026-01-31 09:30 UTC", "98.50 %: -0.25 points",
        "the teacher 5.500 ms and the student 2.420 ms, a ratio of 0.440", "0.420 0.400 0.390 to 0.410 +5.0 %",
        "hant-opt net.pt --budget 0.45", 'race = "x"', "a processor", "2 min 5 s", "9 ready, 1 dropped", "student.onnx",
    ):  # fmt: skip
        assert fact in " ".join(seen.words.split()), fact
    assert seen.open == []


def test_nothing_is_asked_of_anyone(report: Report) -> None:
    html = page(report)
    seen = Reader(html)
    assert not {tag for tag, _ in seen.elements} & {"script", "img", "iframe", "object", "embed", "form", "a", "use"}
    assert not any(name.startswith("on") for _, attributes in seen.elements for name in attributes)
    addresses = [a[name] for _, a in seen.elements for name in ("src", "href", "xlink:href", "data") if name in a]
    assert addresses == ["data:,"]
    assert not re.search(r"url\(|@import", html)
    policy = next(a["content"] for tag, a in seen.elements if tag == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert len(html) < 5_000_000


def test_names_of_the_run_are_no_markup(report: Report, hostile: Report) -> None:
    plain, evil = read(report), read(hostile)
    assert {tag for tag, _ in evil.elements} <= {tag for tag, _ in plain.elements}
    known = {name for _, attributes in plain.elements for name in attributes}
    assert {name for _, attributes in evil.elements for name in attributes} <= known
    assert evil.words.count(hostile.origin.command) >= 12
    for svg in charts(hostile).values():
        parseString(svg)


def test_an_estimate_is_called_one_everywhere(report: Report) -> None:
    def unmeasured(timing: object) -> object:
        return timing.model_copy(update={"estimated": True})  # type: ignore[attr-defined]

    latency = report.latency.model_copy(
        update={
            "estimated": True,
            "teacher": unmeasured(report.latency.teacher),
            "student": unmeasured(report.latency.student),
        }
    )
    guessed = report.model_copy(
        update={
            "latency": latency,
            **{name: [unmeasured(part) for part in getattr(report, name)] for name in ("blocks", "networks", "front")},
        }
    )
    words = re.sub(r"\S+ ms (predicted|a call)", "", read(guessed).words)
    assert "these latencies are estimates" in words
    assert "(measured" not in words
    assert "measured, ms" not in words
    # a latency with its unit is marked, except what is named a prediction and the intervals of marked medians
    table = re.findall(r"(~?)\d+\.\d+ ms( \(est\.\))?", words.replace("2.1000 ms", "").replace("2.100 ms", ""))
    marked = [found for found in table if found == ("~", " (est.)")]
    assert len(marked) >= 14
    assert "(est.)" not in read(report).words


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, ["good", "good", "good", "good"]),
        ({"within_budget": False}, ["bad", "bad", "good", "good"]),
        ({"max_drop": 0.1, "within_limit": False}, ["bad", "good", "good", "bad"]),
        ({"max_drop": None}, ["good", "good", "good"]),
    ],
)
def test_verdicts(report: Report, changes: dict[str, object], verdicts: list[str]) -> None:
    budget = {name: value for name, value in changes.items() if name == "within_budget"}
    seen = read(changed(report.model_copy(update=budget), **{n: v for n, v in changes.items() if n not in budget}))
    classes = [str(attributes.get("class")) for tag, attributes in seen.elements if tag == "span"]
    assert [name.removeprefix("verdict ") for name in classes if name.startswith("verdict")] == verdicts


@pytest.mark.parametrize(
    ("changes", "red"),
    [
        ({}, []),
        ({"within_budget": False}, ["2.50x", "2.000 ms"]),
        ({"within_limit": False}, ["98.25 %"]),
        ({"limits": [LimitReport(name="macs", limit=1e6, teacher=4e7, student=1.4e7, kept=False)]}, ["35.0 %"]),
    ],
)
def test_what_breaks_a_limit_is_red(report: Report, changes: dict[str, Any], red: list[str]) -> None:
    whole = {name: value for name, value in changes.items() if name != "within_limit"}
    html = page(changed(report.model_copy(update=whole), **{n: v for n, v in changes.items() if n not in whole}))
    assert re.findall(r'<div class="bad"><b>(.*?)</b>', html) == red


def test_blocks_and_rest_add_up_to_the_whole(report: Report) -> None:
    found = whole(report)
    assert found["teacher"] == pytest.approx(report.latency.teacher_ms)
    assert found["student"] == pytest.approx(report.latency.predicted_ratio * report.latency.teacher_ms)


def test_predictions_are_compared_as_shares_of_the_teacher_beside(report: Report) -> None:
    winner = report.networks[1]
    moved = winner.model_copy(update={"measured_ms": 40.0, "teacher_ms": 100.0})
    assert charts(report)["predicted"] == predicted([report.networks[0], moved, report.networks[2]])


def test_a_metric_of_the_users_takes_the_place_of_top_1(report: Report) -> None:
    metric = Metric(name="off by", unit="<i>cm", higher_is_better=False).model_dump()
    values = {"metric": metric, "teacher": 2.0, "student": 2.5, "drop": 0.5, "max_drop": 0.75, "selected": 9.0}
    classless = report.parity.model_copy(update={"top1_agreement": None})
    drawn = changed(report.model_copy(update={"parity": classless}), **values)
    words = " ".join(read(drawn).words.split())
    for fact in (
        "2.5 <i>cm off by",
        "0.75 <i>cm lost",
        "+0.5 <i>cm",
        "off by, less is better",
        "9 <i>cm",
        "task's loss",
    ):
        assert fact in words, fact
    assert "top-1" not in words
    assert "cross-entropy" not in words
    assert "off by on held-out images, <i>cm" in words


def test_a_report_of_an_older_version_is_rendered(report: Report) -> None:
    later = {"limits", "networks", "front", "training", "operations", "origin", "outside_ms", "measured_at"}
    old = report.model_copy(update={"target": {"name": "cpu-ort"}})
    seen = read(Report.model_validate_json(old.model_dump_json(exclude=later)))
    assert "No front was drawn" in seen.words
    assert "The student was not fine-tuned." in seen.words
    assert "no command can name them" in seen.words


def test_verified_students_of_a_run_are_drawn_together(report: Report) -> None:
    assert "students" not in charts(report)
    others = [
        StudentReport(name="wide", target="cpu-ort", ratio=0.71, student_ms=1.0, accuracy=91.25),
        StudentReport(name="waiting", target="cpu-ort"),
    ]
    drawn = charts(report.model_copy(update={"students": others}))["students"]
    assert "wide: 91.25 % at 0.710" in drawn
    assert f"{report.student}: {report.accuracy.student:.2f} % at {report.latency.ratio:.3f}" in drawn
    assert "waiting" not in drawn
