"""The study of the proxy on a small run, and its correction on made-up losses."""

import json
import xml.dom.minidom

import numpy as np
import pytest
from hant.passes.ranking.records import EvaluationRecord
from hant.passes.reporting.records import FigureRecord
from hant.passes.searching.contest import Ints
from hant.passes.selecting.correction import Correction, corrected_table, fit, kendall, objectives, spearman
from hant.passes.selecting.proxy import ProxyPass, sample_networks, study
from hant.passes.selecting.records import ProxyRecord
from hant.passes.selecting.table import Floats, SearchTable, search_table
from hant.passes.selecting.weightings import stages
from hant.transformer.contracts.context import Context
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


def test_a_proxy_that_is_true_needs_no_correction() -> None:
    table, choices = made_up()
    record = study(0, table, [0] * 4 + [1] * 4, choices, rows_of(objectives(table, choices) + 0.3), 10)
    assert record.kendall_loss == pytest.approx(1)
    assert record.spearman_accuracy == pytest.approx(1)
    assert not record.kept
    assert record.weights == {}


def test_saturated_losses_that_weigh_by_stage_are_corrected() -> None:
    table, choices = made_up()
    weights = (3.0,) * 4 + (0.5,) * 4
    real = np.exp(0.2 * objectives(Correction(0.5, weights).apply(table), choices))
    record = study(0, table, [0] * 4 + [1] * 4, choices, rows_of(real), 10)
    assert record.kept
    assert record.power == 0.5
    assert record.kendall_corrected > 0.98 > record.kendall_plain
    assert record.weights["b0"] / record.weights["b7"] == pytest.approx(6, rel=0.05)


def test_noise_is_not_fitted_into_a_better_tau_in_most_cases() -> None:
    kept = []
    for seed in range(12):
        table, choices = made_up(seed)
        noise = np.random.default_rng(seed).random(len(choices))
        kept.append(study(seed, table, [0] * 8, choices, rows_of(noise), 10))
    assert all(abs(record.kendall_corrected) < 0.25 for record in kept)


def test_correlations_agree_with_counting_pairs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 30))
    signs = [np.sign((first[i] - first[j]) * (second[i] - second[j])) for i in range(30) for j in range(i)]
    assert kendall(first, second) == pytest.approx(np.mean(signs))
    assert kendall(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert kendall(first, np.ones(30)) == 0
    assert spearman(first, np.ones(30)) == 0
    assert spearman(first, np.exp(first)) == pytest.approx(1)


def test_fit_uses_losses_only_through_what_it_was_given() -> None:
    table, choices = made_up(networks=30)
    losses = (objectives(table, choices) + 0.1).tolist()
    assert fit(table, [0] * 8, choices, losses) == fit(table, [0] * 8, choices, losses)


def test_stages_begin_where_the_shape_changes(scored: Context) -> None:
    assert stages(scored.teacher) == [0, 0, 0, 1, 1, 1]


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


def test_a_kept_correction_changes_the_table_and_another_does_not(scored: Context) -> None:
    table = search_table(scored.store, scored.teacher)
    assert corrected_table(scored.store, table) is table
    record = ProxyRecord(
        networks=1, samples=1, kendall_loss=0, spearman_loss=0, kendall_accuracy=0, spearman_accuracy=0,
        power=0.5, weights=dict.fromkeys(table.blocks, 2.0), kept=True,
    )  # fmt: skip
    scored.store.put("proxy", record)
    changed = corrected_table(scored.store, table)
    for old, new in zip(table.loss, changed.loss, strict=True):
        assert np.allclose(new, 2 * np.sign(old) * np.sqrt(np.abs(old)))
    scored.store.put("proxy", record.model_copy(update={"kept": False}))
    assert corrected_table(scored.store, table) is table


def test_too_few_networks_are_told(scored: Context) -> None:
    with pytest.raises(UsageError, match="12 are the least that say anything"):
        ProxyPass(networks=4, budgets=2).run(scored)
