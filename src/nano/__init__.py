"""nano: a deep-learning framework for the CPU, in Python.

The public names, handed on from the floors below. Start reading at
``tensor.py`` and ``autograd/function.py``.
"""

from . import autograd, backends, config, errors
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
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
from .functions.binary import *
from .functions.conversion import *
from .functions.operands import result_type
from .functions.unary import *
from .random import Generator, default_generator, initial_seed, manual_seed, seed
from .tensor import Tensor, device

float = float32
double, half = float64, float16
long, int, short = int64, int32, int16

__version__ = "0.1.0"
