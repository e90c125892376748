import pytest
import torch
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.transformer.errors import UnfitError

MAP = TensorSpec((16, 8, 8))


def test_teacher_always_fits_and_is_never_built() -> None:
    teacher = operation("teacher")
    assert teacher.unfit(MAP, TensorSpec((10,), layout=Layout.FLAT)) is None
    with pytest.raises(UnfitError, match="it is made of the block's own module"):
        teacher.build(MAP, MAP)


@pytest.mark.parametrize("spec", [MAP, TensorSpec((10,), layout=Layout.FLAT), TensorSpec((5, 4), layout=Layout.TOKENS)])
def test_identity_keeps_anything(spec: TensorSpec) -> None:
    x = spec.random(2)
    assert torch.equal(operation("identity").build(spec, spec)(x), x)


@pytest.mark.parametrize(
    "output",
    [TensorSpec((32, 8, 8)), TensorSpec((16, 8, 8), dtype="float16"), TensorSpec((16, 8, 8), batch=2)],
)
def test_identity_needs_the_whole_contract(output: TensorSpec) -> None:
    with pytest.raises(
        UnfitError, match=f"identity keeps its input 16x8x8, but the output is {output}".replace("*", r"\*")
    ):
        operation("identity").build(MAP, output)
