"""What a network file may name: an explicit list of pure functions of torch. Nothing else is ever looked up."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingExtraError

_ELEMENTWISE = """
abs acos add addcdiv addcmul asin atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max
clamp_min clip copysign cos cosh deg2rad div eq erf erfc erfinv exp exp2 expm1 fix floor floor_divide fmod frac
ge greater greater_equal gt heaviside hypot isfinite isinf isnan le lerp less less_equal log log10 log1p log2
logaddexp logical_and logical_not logical_or logical_xor logit lt maximum minimum mul multiply nan_to_num ne neg
negative not_equal positive pow rad2deg reciprocal relu remainder round rsqrt sgn sigmoid sign sin sinc sinh
softmax log_softmax sqrt square sub subtract tan tanh true_divide trunc where xlogy selu celu prelu rrelu
threshold dropout alpha_dropout feature_dropout type_as masked_fill absolute acosh angle arccos arccosh arcsin
arcsinh arctan arctan2 arctanh asinh atanh bitwise_left_shift bitwise_right_shift conj conj_physical digamma divide
float_power fmax fmin gcd hardshrink i0 isclose isneginf isposinf isreal lcm ldexp lgamma logaddexp2 nextafter
polygamma resolve_conj rsub signbit fake_quantize_per_tensor_affine fake_quantize_per_channel_affine
"""
_REDUCTIONS = """
all amax amin any argmax argmin argsort cummax cummin cumprod cumsum kthvalue logsumexp max mean median min mode
norm prod quantile sort std std_mean sum topk var var_mean unique_consecutive count_nonzero aminmax corrcoef cov
dist logcumsumexp msort nanmean nanmedian nanquantile nansum norm_except_dim trace trapezoid
"""
_PRODUCTS = """
addbmm addmm addmv addr baddbmm bmm chain_matmul cross dot einsum inner kron matmul mm mv outer tensordot
bilinear cdist conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc cosine_similarity
det ger inverse logdet matrix_exp matrix_power pairwise_distance pdist pinverse vdot _weight_norm
"""
_SHAPES = """
broadcast_to cat chunk column_stack concat concatenate diag diag_embed diagonal dstack expand flatten flip
fliplr flipud gather hsplit hstack index_add index_fill index_put index_select masked_select meshgrid movedim
moveaxis narrow nonzero permute ravel repeat_interleave reshape roll rot90 scatter scatter_add select
select_scatter slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim
tensor_split tile transpose tril triu unbind unflatten unfold unsqueeze view_as_complex view_as_real vsplit
vstack block_diag cartesian_prod combinations clone adjoint argwhere atleast_1d atleast_2d atleast_3d
broadcast_tensors constant_pad_nd detach diagflat diagonal_scatter diff dsplit grid_sampler index_copy index_reduce
masked_scatter row_stack scatter_reduce unique unravel_index unsafe_chunk unsafe_split
"""
_FACTORIES = """
arange empty eye full linspace logspace ones rand randn randint randperm tensor zeros full_like ones_like
zeros_like empty_like rand_like randn_like bernoulli complex polar scalar_tensor as_tensor bucketize
searchsorted channel_shuffle pixel_shuffle pixel_unshuffle embedding multinomial poisson stft istft
"""
_NORMS = """
batch_norm group_norm instance_norm layer_norm rms_norm native_batch_norm
"""
_POOLS = """
adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d max_pool1d max_pool2d max_pool3d
"""

_TORCH = f"{_ELEMENTWISE} {_REDUCTIONS} {_PRODUCTS} {_SHAPES} {_FACTORIES} {_NORMS} {_POOLS}"
_FUNCTIONAL = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear celu
channel_shuffle conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity
dropout dropout1d dropout2d dropout3d elu embedding feature_alpha_dropout fold gelu glu grid_sample group_norm
gumbel_softmax hardshrink hardsigmoid hardswish hardtanh instance_norm interpolate layer_norm leaky_relu linear
local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d max_pool1d max_pool2d max_pool3d mish
multi_head_attention_forward normalize one_hot pad pairwise_distance pixel_shuffle pixel_unshuffle prelu relu
relu6 rms_norm rrelu scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign
tanh tanhshrink threshold unfold upsample upsample_bilinear upsample_nearest adaptive_max_pool1d_with_indices
adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices embedding_bag fractional_max_pool2d
fractional_max_pool3d lp_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices max_unpool1d
max_unpool2d max_unpool3d pdist
"""
_OPERATOR = """
add sub mul truediv floordiv mod pow neg pos matmul eq ne lt le gt ge and_ or_ xor invert not_ getitem setitem
"""
_LINALG = """
norm vector_norm matrix_norm cholesky cross det diagonal eigh eigvalsh householder_product inv lu_factor lu_solve
lstsq matmul matrix_exp matrix_power multi_dot pinv qr slogdet solve solve_triangular svd svdvals tensorinv
tensorsolve vander vecdot
"""
_SPECIAL = """
digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammainc gammaincc gammaln i0 i0e i1 i1e log1p log_ndtr log_softmax
logit logsumexp multigammaln ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy zeta
"""
_TORCHVISION = frozenset({"deform_conv2d", "nms", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"})
_PREFIX = "torch.ops.torchvision."
_FFT = """
fft fft2 fftn ifft ifft2 ifftn irfft irfft2 irfftn rfft rfft2 rfftn fftshift ifftshift
"""
_METHODS = f"""
{_ELEMENTWISE} {_REDUCTIONS} {_PRODUCTS} {_SHAPES} bfloat16 bool byte char contiguous cpu cuda detach dim double
element_size expand_as float half int is_floating_point long new_empty new_full new_ones new_zeros new_tensor
numel repeat reshape_as short size sum_to_size to type view view_as add_ clamp_ copy_ div_ fill_ masked_fill_
mul_ sub_ zero_ bernoulli bernoulli_ normal_ uniform_ index_copy_ index_add_ index_fill_ scatter_ scatter_add_
exponential_ relu_ sqrt_ __and__ __or__ __xor__ __matmul__ __getitem__ __floordiv__ __mod__ __invert__ mH
adjoint diff as_strided lerp_ log_ exp_
"""
ATTRIBUTES = frozenset({"device", "dtype", "shape", "T", "mT", "H", "mH", "real", "imag", "data", "ndim"})
"""Attributes of a tensor that ``getattr`` may read."""

METHODS = frozenset(name for name in _METHODS.split() if hasattr(Tensor, name))
"""Methods of a tensor that a network file may call."""


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Return torch's functions that a network file may call, by name such as ``torch.nn.functional.relu``."""
    owners = (
        ("torch.nn.functional", torch.nn.functional, _FUNCTIONAL),
        ("torch", torch, _TORCH),
        ("operator", operator, _OPERATOR),
        ("torch.linalg", torch.linalg, _LINALG),
        ("torch.special", torch.special, _SPECIAL),
        ("torch.fft", torch.fft, _FFT),
    )
    listed = {
        f"{prefix}.{name}": getattr(owner, name)
        for prefix, owner, names in owners
        for name in names.split()
        if hasattr(owner, name)
    }
    return {**listed, "getattr": getattr}


@cache
def _names() -> dict[Callable[..., Any], str]:
    names: dict[Callable[..., Any], str] = {}
    for name, function in functions().items():
        names.setdefault(function, name)
    return names


def function_of(name: Any) -> Callable[..., Any] | None:
    """Return the function of a listed name, or None where it is not on the list.

    Raises:
        MissingExtraError: one of torchvision's operators, which is not installed.
    """
    if not isinstance(name, str):
        return None
    if name.removeprefix(_PREFIX) in _TORCHVISION and name.startswith(_PREFIX):
        try:
            importlib.import_module("torchvision")  # registers its operators
        except (ImportError, RuntimeError) as error:
            raise MissingExtraError("torchvision", "timm", f"the operator {name}") from error
        found: Callable[..., Any] = getattr(torch.ops.torchvision, name.removeprefix(_PREFIX))
        return found
    return functions().get(name)


def name_of(function: Any) -> str | None:
    """Return the listed name of a function, or None where it is not on the list."""
    if isinstance(function, torch._ops.OpOverloadPacket):
        owner, _, name = function._qualified_op_name.partition("::")
        return f"{_PREFIX}{name}" if owner == "torchvision" and name in _TORCHVISION else None
    try:
        return _names().get(function)
    except TypeError:
        return None
