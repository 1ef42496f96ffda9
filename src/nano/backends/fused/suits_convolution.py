"""Which convolutions are computed here, and how: asked at every call, hence short and light.

Those of many channels by Winograd's algorithm, those of few as they are written, with vectors
filled better than oneDNN's; what is between is oneDNN's. In bfloat16, the gradients of weights
where the processor has registers for tiles. Measured with
``python -m benchmarks.convolution`` and shapes like those there.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from .. import precision
from ..onednn.library import UnavailableError, library
from ..reference.windows import output_size
from .processor import multiplies_tiles
from .suits import BFLOAT16, FLOAT32

__all__ = [
    "conv2d",
    "conv2d_epilogue",
    "conv2d_moments",
    "conv2d_weight",
    "conv_transpose2d",
    "directly",
    "few_channels",
    "few_outputs",
]

#: Products for which a kernel is compiled; oneDNN needs some tens of microseconds for fewer.
_WORTH_COMPILING = 1 << 22
#: The same for bfloat16 numbers, of which the processor multiplies more at a time.
_WORTH_TILES = 1 << 24


def conv2d(x, weight, bias, stride, padding, dilation, groups, token=None):
    if x.dtype is BFLOAT16:
        size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        return _small_images(x, weight, size, groups)
    answer = directly(x, weight, padding, stride, dilation, groups)
    if answer is True:
        return answer
    return _either(_plain_winograd(x, weight, stride, padding, dilation, groups), answer)


def conv2d_moments(x, weight, bias, stride, padding, dilation, groups, token=None):
    if len(weight) % 16:
        return "mean and variance come beside whole vectors of channels"
    if x.dtype is FLOAT32 and directly(x, weight, padding, stride, dilation, groups) is True:
        return "the direct sums do without them"
    return _plain_winograd(x, weight, stride, padding, dilation, groups)


def conv2d_epilogue(
    x,
    weight,
    bias,
    scale,
    residual,
    activation,
    stride,
    padding,
    dilation,
    groups,
    token=None,
):
    if activation is not None and activation[0] != "relu":
        return "Winograd's algorithm comes with a ReLU, not with other activations"
    return _plain_winograd(x, weight, stride, padding, dilation, groups)


def conv_transpose2d(x, weight, bias, output_size, stride, padding, dilation, groups, token=None):
    if x.dtype is BFLOAT16:
        return _small_images(x, weight, output_size, groups)
    answer = few_channels(x, weight, stride, dilation, groups)
    if answer is True:
        return answer
    if _widest(padding) > 2:
        return _either("the weight turned round would need a negative padding", answer)
    return _either(
        _winograd(x, weight, weight.shape, output_size, stride, dilation, groups), answer
    )


def conv2d_weight(grad_output, x, kernel_size, stride, padding, dilation, groups, dtype=None):
    if dtype is not None and dtype != x.dtype and (x.dtype is not BFLOAT16 or dtype != FLOAT32):
        return f"the loops make no {dtype} of {x.dtype}"
    if x.dtype is BFLOAT16:
        return _in_tiles(grad_output, x, kernel_size, groups)
    shape = (grad_output.shape[1], x.shape[1], *kernel_size)
    answer = few_outputs(x, grad_output, shape, padding, stride, dilation, groups)
    if answer is True:
        return answer
    if _widest(padding) > 2:
        return _either("weights that meet nothing but padding would not be exactly 0", answer)
    size = grad_output.shape[2:]
    found = _winograd(x, grad_output, shape, size, stride, dilation, groups, fewest=32)
    return _either(found, answer)


def _either(answer: bool | str, other: Any) -> bool | str:
    """True if the answer is; else it and the ``other`` reason."""
    return True if answer is True else f"{answer}; {other}"


def _plain_winograd(
    x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool | str:
    (top, bottom), (left, right) = padding
    size = (x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2)
    return _winograd(x, weight, weight.shape, size, stride, dilation, groups)


def _widest(padding: Any) -> int:
    (top, bottom), (left, right) = padding
    return max(top, bottom, left, right)


def _winograd(
    x: Any,
    other: Any,
    weight: Any,
    size: Any,
    stride: Any,
    dilation: Any,
    groups: int,
    fewest: int = 64,
) -> bool | str:
    """For a weight and images of a result of these shapes.

    Measured (benchmarks/convolution.py): it pays for many channels, or some that are whole
    vectors, and many tiles of 4x4 pixels, of which 10 at least are in the image.
    """
    o, c, kh, kw = weight
    if kh != 3 or kw != 3 or stride != (1, 1) or dilation != (1, 1) or groups != 1:
        return "Winograd's algorithm is for 3x3 kernels of stride 1"
    h, w = size
    tiles = -(-h // 4) * -(-w // 4)
    if h * w < 10 * tiles:
        return "Winograd's algorithm pays where tiles of 4x4 pixels fit the image"
    tiles *= len(x)
    if max(o, c) <= 64 and not o % 16 and not c % 16:  # whole vectors, and no library's calls
        enough = tiles * o * c >= 1 << 18
    else:
        enough = min(o, c) >= 64 and tiles >= fewest and tiles * o * c >= 1 << 20
    if not enough:
        return "Winograd's algorithm pays for more channels and pixels"
    if x.dtype is not FLOAT32 or other.dtype is not FLOAT32:
        return f"Winograd's algorithm is exact enough in float32, not in {x.dtype}"
    if precision.rounds_to_bfloat16():
        return "products may be rounded, in which oneDNN is faster still"
    try:
        library()
    except UnavailableError as reason:
        return f"the products are oneDNN's: {reason}"
    return True


def directly(
    x: Any, weight: Any, padding: Any, stride: Any, dilation: Any, groups: int
) -> bool | str:
    """For the convolution of images x: few outputs, or many of a single channel."""
    if single_channel(x, weight, stride, dilation, groups) is True:
        return True
    return few_outputs(x, weight, weight.shape, padding, stride, dilation, groups)


def few_outputs(
    x: Any, other: Any, weight: Any, padding: Any, stride: Any, dilation: Any, groups: int
) -> bool | str:
    """For images x, and a weight or the gradient of its result; ``weight`` is the weight's shape.

    Measured, against oneDNN: up to 8 outputs, of which two pixels fill a vector, are 1.0 to 1.7
    times as fast; a few channels seen through large windows 1.0 to 1.3.
    """
    o, c, kh, kw = weight
    even = not (x.shape[3] + padding[1][0] + padding[1][1] - kw + 1) % 2
    pairs = o <= 8 and c <= 64 and kw > 1 and even
    if not (pairs or (4 <= c <= 12 and o <= 24 and kh * kw >= 25)):
        return "its direct sums pay for few channels"
    return _direct(x, other, weight, stride, dilation, groups)


def single_channel(x: Any, weight: Any, stride: Any, dilation: Any, groups: int) -> bool | str:
    """For grey images x and many outputs: 1.2 to 1.5 times as fast as oneDNN.

    The gradient of the weight is not: it waits for memory.
    """
    o, c, _, _ = weight.shape
    if c != 1 or not 32 <= o <= 128:
        return "its direct sums pay for few channels"
    return _direct(x, weight, weight.shape, stride, dilation, groups)


def few_channels(x: Any, weight: Any, stride: Any, dilation: Any, groups: int) -> bool | str:
    """For the transpose of images x: up to 12 channels of results.

    Measured, against oneDNN: 1.2 to 3.9 times as fast.
    """
    _, c, _, kw = weight.shape
    if c > 12 or kw == 1:
        return "its direct sums pay for few channels"
    return _direct(x, weight, weight.shape, stride, dilation, groups)


def _small_images(x: Any, weight: Any, size: Any, groups: int) -> bool | str:
    """For bfloat16 images x and a result of that size, by a convolution or its transpose.

    Measured, against oneDNN: 512 channels of 4x4 pixels 2.4 times as fast, 7x7 1.2 times.
    """
    o, c, kh, kw = weight.shape
    n = len(x)
    if groups != 1 or o % 32 or c % 32 or not x.size:
        return "tiles (AMX) are for multiples of 32 channels"
    if weight.dtype is not BFLOAT16:
        return f"tiles (AMX) are for bfloat16, not for {weight.dtype}"
    if kh * kw == 1 or min(size[0] * size[1], x.shape[2] * x.shape[3]) << 12 > o * c:
        return "tiles (AMX) pay for smaller images of more channels"
    if -n % 32 > n // 2 or n * size[0] * size[1] * o * c * kh * kw < _WORTH_TILES:
        return "tiles (AMX) pay for more images"
    return multiplies_tiles()


def _in_tiles(grad_output: Any, x: Any, kernel_size: Any, groups: int) -> bool | str:
    """For bfloat16 images and the gradient of their result: the gradient of the weight.

    Measured, against oneDNN: 1.2 to 5 times as fast; ResNet-18's 1.5 to 3.
    """
    n, o, h, w = grad_output.shape
    c = x.shape[1]
    taps, pixels, pairs = kernel_size[0] * kernel_size[1], n * h * w, (w + 1) // 2
    images = 16 // gcd(pairs, 16)  # whose rows share tiles
    if groups != 1 or o % 32 or c % 32 or not x.size:
        return "tiles (AMX) are for multiples of 32 channels"
    if grad_output.dtype is not BFLOAT16:
        return f"tiles (AMX) are for bfloat16, not for {grad_output.dtype}"
    if taps > 25 or pixels < 256 or pixels * o * c * taps < _WORTH_TILES:
        return "tiles (AMX) pay for more pixels and fewer taps"
    if -(-n // images) * images * pairs * h * 2 > 1.5 * pixels:
        return "tiles (AMX) of rows so long would be half empty"
    return multiplies_tiles()


def _direct(x: Any, other: Any, weight: Any, stride: Any, dilation: Any, groups: int) -> bool | str:
    o, c, kh, kw = weight
    if stride != (1, 1) or dilation != (1, 1) or groups != 1 or max(kh, kw) > 7:
        return "its direct sums are for kernels up to 7x7 of stride 1"
    if x.dtype is not FLOAT32 or other.dtype is not FLOAT32:
        return f"its direct sums are for float32, not for {x.dtype}"
    n, _, h, w = x.shape
    if n * h * w * o * c * kh * kw < _WORTH_COMPILING:
        return "its direct sums pay for more pixels"
    return True
