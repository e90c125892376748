from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hant.backends.onnx.tile import tiled
from onnx import TensorProto, helper, numpy_helper


def test_large_constants_repeat_and_small_ones_stay() -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "large": random.standard_normal((50, 60), np.float32),
        "small": random.standard_normal(9, np.float32),
    }
    arrays["index"] = np.arange(1000, dtype=np.int64).reshape(10, 100)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(helper.make_graph([], "g", [given], [given], constants))
    before = model.SerializeToString()
    found = {item.name: numpy_helper.to_array(item) for item in tiled(model).graph.initializer}
    assert model.SerializeToString() == before
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        name: (array.shape, array.dtype) for name, array in arrays.items()
    }
    assert np.array_equal(found["small"], arrays["small"])
    flat = found["large"].reshape(-1)
    assert np.array_equal(flat[:1024], arrays["large"].reshape(-1)[:1024])
    assert np.array_equal(flat[1024:2048], flat[:1024])
    assert np.array_equal(flat[2048:], flat[: 3000 - 2048])
    assert found["index"].max() < 512
    assert isinstance(tiled(model), onnx.ModelProto)
