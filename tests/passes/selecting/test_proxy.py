"""The study of the proxy on a small run, and its correlations on made-up losses."""

import json
import xml.dom.minidom

import numpy as np
import pytest
from hant.passes.ranking.records import EvaluationRecord
from hant.passes.reporting.records import FigureRecord
from hant.passes.searching.contest import Ints
from hant.passes.selecting.proxy import ProxyPass, kendall, objectives, sample_networks, spearman, study
from hant.passes.selecting.records import ProxyRecord
from hant.passes.selecting.table import Floats, SearchTable, search_table
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.task import Metric
from hant.transformer.errors import UsageError
from scipy.stats import kendalltau


def made_up(seed: int = 0, blocks: int = 8, operations: int = 5, networks: int = 200) -> tuple[SearchTable, list[Ints]]:
    rng = np.random.default_rng(seed)
    loss = rng.exponential(1.0, (blocks, operations)) ** 2
    loss[:, 0] = 0
    names = ("teacher", *(f"op{j}" for j in range(1, operations)))
    table = SearchTable(tuple(f"b{i}" for i in range(blocks)), (names,) * blocks, tuple(loss), {"ms": tuple(loss)})
    return table, [rng.integers(0, operations, blocks) for _ in range(networks)]


def rows_of(losses: Floats) -> list[dict[str, float]]:
    return [{"loss": float(loss), "accuracy": 100 - float(loss)} for loss in losses]


def test_a_true_proxy_correlates_fully_and_noise_hardly() -> None:
    table, choices = made_up()
    sums = objectives(table, choices)
    record = study(sums, rows_of(sums + 0.3), 10)
    assert record.kendall_loss == record.spearman_loss == pytest.approx(1)
    assert record.kendall_accuracy == record.spearman_accuracy == pytest.approx(1)
    noise = study(sums, rows_of(np.random.default_rng(0).random(len(choices))), 10)
    assert all(abs(tau) < 0.15 for tau in (noise.kendall_loss, noise.spearman_accuracy))


def test_the_sign_of_accuracy_follows_its_metric() -> None:
    rows = [{"loss": float(error), "accuracy": float(error)} for error in range(20)]
    worse = Metric(name="error", higher_is_better=False)
    assert study(np.arange(20.0), rows, 10, worse).kendall_accuracy == pytest.approx(1)
    assert study(np.arange(20.0), rows, 10).kendall_accuracy == pytest.approx(-1)


def test_correlations_agree_with_counting_pairs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 30))
    signs = [np.sign((first[i] - first[j]) * (second[i] - second[j])) for i in range(30) for j in range(i)]
    assert kendall(first, second) == pytest.approx(np.mean(signs))
    assert kendall(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert kendall(first, np.ones(30)) == 0
    assert spearman(first, np.ones(30)) == 0
    assert spearman(first, np.exp(first)) == pytest.approx(1)


def test_study_of_a_run_writes_points_figure_and_correlations(scored: Context) -> None:
    options = ProxyPass(networks=24, budgets=4, random_share=0.5, samples=60, batch_size=60)
    table = search_table(scored.store, scored.teacher)
    sampled = sample_networks(scored, table, options)
    assert len({tuple(choice.tolist()) for _, choice in sampled}) == len(sampled)
    assert {kind for kind, _ in sampled} == {"selected", "random"}
    options.run(scored)
    record = scored.store.get(ProxyRecord, "proxy")
    assert record is not None
    content = json.loads(scored.store.path("proxy.json").read_text())
    assert content["networks"] == len(content["points"]) == record.networks == len(sampled)
    assert content["figures"] == [figure.file for figure in scored.store.all(FigureRecord).values()]
    assert 0 < record.kendall_loss <= 1
    xml.dom.minidom.parse(str(scored.store.path("figures/proxy.svg")))
    before = scored.store.all(EvaluationRecord)
    options.run(scored)
    assert scored.store.all(EvaluationRecord) == before
    assert scored.store.get(ProxyRecord, "proxy") == record


def test_too_few_networks_are_told(scored: Context) -> None:
    with pytest.raises(UsageError, match="12 are the least that say anything"):
        ProxyPass(networks=4, budgets=2).run(scored)
