from __future__ import annotations

import pytest
from hant.transformer.contracts.budget import Budget, Limit
from hant.transformer.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "batch", "expected"),
    [
        ("0.45", 1, Limit(0.45, relative=True)),
        (".5", 1, Limit(0.5, relative=True)),
        ("45%", 1, Limit(0.45, relative=True)),
        ("1", 1, Limit(1.0, relative=True)),
        ("12ms", 1, Limit(12.0)),
        (" 1.5 MS ", 1, Limit(1.5)),
        ("80img/s", 1, Limit(12.5)),
        ("80img/s", 4, Limit(50.0)),
    ],
)
def test_a_latency_is_read(text: str, batch: int, expected: Limit) -> None:
    assert Budget.parse(text, batch_size=batch).latency == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params=50%", ("params", Limit(0.5, relative=True))),
        ("macs=300M", ("macs", Limit(3e8))),
        ("MACs = 1.5g", ("macs", Limit(1.5e9))),
        ("memory=8MiB", ("memory", Limit(8 * 1024.0**2))),
        ("params=1000", ("params", Limit(1000.0))),
    ],
)
def test_a_limit_is_read(text: str, expected: tuple[str, Limit]) -> None:
    assert Budget.parse("0.5", (text,)).limits == (expected,)


@pytest.mark.parametrize(
    ("text", "limits", "message"),
    [
        ("fast", (), r"cannot read budget 'fast'; expected a ratio such as 0.45, a time such as 12ms, or 80img/s"),
        ("", (), "cannot read budget ''"),
        ("0", (), "cannot read budget '0'"),
        ("-0.4", (), "cannot read budget '-0.4'"),
        ("nan", (), "cannot read budget 'nan'"),
        ("12 s", (), "cannot read budget '12 s'"),
        ("45", (), "budget '45' is above the teacher's own latency; give a ratio in"),
        ("120%", (), "budget '120%' is above the teacher's own latency"),
        ("0.5", ("params",), "cannot read limit 'params'; expected one of params, macs, memory as params=50%"),
        ("0.5", ("flops=3G",), "cannot read limit 'flops=3G'"),
        ("0.5", ("macs=0",), "cannot read limit 'macs=0'"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, limits: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget.parse(text, limits)


@given(
    latency=st.one_of(
        st.integers(1, 1000).map(lambda n: f"{n / 1000}"), st.integers(1, 10**7).map(lambda n: f"{n / 1000}ms")
    ),
    params=st.integers(1, 10**12),
    share=st.integers(1, 1000),
)
def test_a_budget_reads_back_as_it_prints(latency: str, params: int, share: int) -> None:
    budget = Budget.parse(latency, (f"params={params}", f"macs={share / 10}%"))
    head, *limits = str(budget).split(", ")
    again = Budget.parse(head, tuple(limits))
    assert again.latency.value == pytest.approx(budget.latency.value, rel=1e-6)
    assert [(n, limit.relative) for n, limit in again.limits] == [(n, limit.relative) for n, limit in budget.limits]
    assert [limit.value for _, limit in again.limits] == pytest.approx([limit.value for _, limit in budget.limits])
