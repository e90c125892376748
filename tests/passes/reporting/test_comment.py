from __future__ import annotations

import pytest
from hant.passes.reporting.comment import code, comment
from hant.passes.reporting.schema import Report
from hant.passes.reporting.words import duration, ms
from hant.transformer.contracts.task import Metric
from hypothesis import given
from hypothesis import strategies as st


def test_the_comment_is_short_and_says_what_counts(report: Report) -> None:
    text = comment(report)
    assert text.startswith("### Kept: budget `0.45, params=50%`, at most 0.5 points lost on `cpu-ort`\n")
    for line in (
        "| latency (measured) | 5.000 ms | 2.000 ms | 0.400 (0.390 to 0.410), 2.50x faster |",
        "| top-1, 360 test images | 98.50 % | 98.25 % | -0.25 points |",
        "| parameters | 2 M | 900 k | 45.0 % |",
        "| `layer1.0` | `efn_3x3_e1_se1.00` | 0.5000 ms | 0.1234 ms | +0.0213 |",
    ):
        assert line in text
    assert len(text.partition("<details>")[0]) < 1000


def test_where_nothing_was_scored_the_error_of_pretraining_is_told(report: Report) -> None:
    assert "| before | after | loss change |" in comment(report)
    (row, *_) = report.blocks
    unscored = row.model_copy(update={"score": None, "nmse": 0.04321})
    text = comment(report.model_copy(update={"blocks": [unscored]}))
    assert "| before | after | error |" in text
    assert "| 0.1234 ms | 0.0432 |" in text


def test_a_metric_of_the_users_stands_in_code_with_its_unit_and_its_direction(report: Report) -> None:
    metric = Metric(name="<b>off|by", unit="`cm`", higher_is_better=False)
    values = {"metric": metric, "teacher": 2.0, "student": 2.5, "drop": 0.5, "max_drop": 0.75}
    text = comment(report.model_copy(update={"accuracy": report.accuracy.model_copy(update=values)}))
    assert "at most `` 0.75 `cm` lost `` on" in text
    assert "| `<b>off\\|by`, 360 test images | `` 2 `cm` `` | `` 2.5 `cm` `` | `` +0.5 `cm` `` |" in text


def test_a_broken_limit_is_in_the_headline(report: Report) -> None:
    over = report.model_copy(update={"within_budget": False})
    assert comment(over).startswith("### **NOT kept**")


def test_estimates_are_marked(report: Report) -> None:
    latency = report.latency.model_copy(update={"estimated": True})
    text = comment(report.model_copy(update={"latency": latency}))
    assert "| latency (estimate) | ~5.000 ms (est.) | ~2.000 ms (est.) |" in text


@given(st.text(min_size=1))
def test_code_stays_in_its_cell_and_in_its_fence(text: str) -> None:
    shown = code(text)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    assert len(shown.splitlines()) <= 1
    assert shown.endswith(fence)
    inner = shown[len(fence) : -len(fence)]
    assert fence not in inner.replace("\\|", "")
    assert "|" not in inner.replace("\\|", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(9.96, "10.0 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.05, "0.0500 ms"), (5, "5.000 ms"), (12.346, "12.35 ms"), (1234.5, "1234.5 ms")]
)
def test_latencies_have_about_four_digits(value: float, words: str) -> None:
    assert ms(value) == words
