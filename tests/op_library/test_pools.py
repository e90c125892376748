from pathlib import Path

import hant
import pytest
from hant.op_library.pools import builtin_pools, operation
from hant.transformer.errors import UsageError


def names(pool: str | Path) -> list[str]:
    return [spec.name for spec in hant.pool(pool)]


def test_zero_shot_is_teacher_and_identity() -> None:
    assert names("zero-shot") == ["teacher", "identity"]


def test_fast_has_at_least_12_operations_of_at_least_5_families() -> None:
    pool = hant.pool("fast")
    assert 12 <= len(pool) <= 20
    assert {"teacher", "identity", "efn", "efnv2", "cb_stack", "cb_bottle", "cb_res"} <= {spec.family for spec in pool}


def test_names_make_the_specs_again() -> None:
    for spec in hant.pool("fast"):
        assert operation(spec.name) == spec


def test_list_keeps_order_and_drops_repeats() -> None:
    assert names("identity, cb_res_3x3 ,identity,teacher") == ["identity", "cb_res_3x3", "teacher"]


def test_single_name_is_a_pool_of_one() -> None:
    assert names("cb_stack_3x3_ex0.5") == ["cb_stack_3x3_ex0.5"]


def test_names_outside_the_full_pool_are_operations_too() -> None:
    assert operation("cb_stack_9x9_ex0.3").name == "cb_stack_9x9_ex0.3"
    assert operation("efn_3x3_e0.5_se1.00").name == "efn_3x3_e0.5_se1.00"
    assert operation("cb_stack_3x3_ex0.5_silu").name == "cb_stack_3x3_ex0.5_silu"


def test_default_activation_is_not_part_of_the_name() -> None:
    assert operation("efn_3x3_e1_se1.00_silu").name == "efn_3x3_e1_se1.00"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cb_stak_3x3_ex0.5", r"unknown operation 'cb_stak_3x3_ex0.5'; did you mean 'cb_stack_3x3_ex0.5'\?"),
        ("efn_4x4_e1_se1.00", "unknown operation 'efn_4x4_e1_se1.00'; did you mean"),
        ("efn_3x5_e1_se1.00", "unknown operation"),
        ("efn_3x3_e1_se2.00", "unknown operation"),
        ("cb_stack_3x3_ex0", "unknown operation"),
    ],
)
def test_unknown_operation_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        operation(name)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("fats", r"unknown pool 'fats'; did you mean 'fast'\?"),
        ("teacher,efnv3_3x3_e1_se1.00", r"unknown operation 'efnv3_3x3_e1_se1.00' in pool .*did you mean 'efnv2_3x3"),
        ("teacher,zzz_*", r"no operation matches 'zzz_\*' in pool"),
        ("", "has no operations"),
        ("teacher,!teacher", "has no operations"),
    ],
)
def test_bad_pool_is_one_clear_line(pool: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        hant.pool(pool)
    assert "\n" not in str(caught.value)


def test_user_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'description = "mine"\noperations = ["zero-shot", "efnv2_*_se1.00", "!efnv2_5x5_*", "cb_res_3x3"]\n'
    )
    expected = ["teacher", "identity"]
    expected += [f"efnv2_{k}x{k}_e{e}_se1.00" for k in (1, 3) for e in (1, 3, 6)]
    assert names(file) == names(str(file)) == [*expected, "cb_res_3x3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operations = [", "is not TOML"),
        ("operations = 3", "has no list of names under 'operations'"),
        ('operation = ["teacher"]', "unknown key 'operation'"),
        ('operations = ["taecher"]', r"unknown operation 'taecher' in pool .*did you mean 'teacher'\?"),
        ("operations = []", "has no operations"),
    ],
)
def test_bad_user_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        hant.pool(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_user_file_names_the_pools_that_ship(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read pool .*No such file.*zero-shot, fast, hant-197"):
        hant.pool(tmp_path / "none.toml")


def test_every_pool_that_ships_is_described() -> None:
    assert set(builtin_pools()) == {"zero-shot", "fast", "hant-197", "genet", "elastic"}
    assert all(builtin_pools().values())
