"""nano: a deep-learning framework for the CPU, in Python.

The public names, handed on from the floors below. Start reading at
``tensor.py`` and ``autograd/function.py``.
"""

from typing import Any as _Any

from . import autograd, backends, config, errors
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .backends.precision import get_float32_matmul_precision, set_float32_matmul_precision
from .backends.threads import get_num_threads, set_flush_denormal, set_num_threads
from .devices import device
from .dtypes import (
    bfloat16,
    can_cast,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .dtypes import bool_ as bool
from .formatting import printoptions, set_printoptions
from .functions.adaptive_pooling import adaptive_avg_pool1d
from .functions.along import *
from .functions.autocast import autocast, get_autocast_dtype, is_autocast_enabled
from .functions.binary import *
from .functions.choosing import *
from .functions.comparison import *
from .functions.conversion import *
from .functions.convolution import *
from .functions.creation import *
from .functions.drawing import *
from .functions.einsum import *
from .functions.extremes import *
from .functions.indexing import *
from .functions.joining import *
from .functions.matmul import *
from .functions.movement import *
from .functions.operands import result_type
from .functions.parts import *
from .functions.pooling import avg_pool1d, max_pool1d, max_pool2d
from .functions.rearrange import *
from .functions.reduction import *
from .functions.rounding import *
from .functions.selection import *
from .functions.softmax import *
from .functions.statistics import *
from .functions.unary import *
from .hook import compilers as _compilers
from .layouts import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    memory_format,
    preserve_format,
)
from .random import Generator, default_generator, initial_seed, manual_seed, seed
from .tensor import Tensor

float = float32
double, half = float64, float16
long, int, short = int64, int32, int16

__version__ = "0.1.0"

_ON_FIRST_USE = {"checkpoint", "compiler", "data", "models", "nn", "optim", "profiler"}
_ON_FIRST_USE |= {"train", "viz"}


def _compile(*args: _Any, **options: _Any) -> _Any:
    from .optimized import compile

    return compile(*args, **options)


_compilers.append(_compile)


def __getattr__(name: str) -> _Any:
    """``nano.nn`` and its neighbours are imported when they are first asked for."""
    if name in _ON_FIRST_USE:
        from importlib import import_module

        return import_module(f"nano.{name}")
    if name == "compile":
        from .optimized import compile

        return compile
    raise AttributeError(f"module 'nano' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE, "compile"})
