"""op_math.c"""
import torch
from golden import case, real, seed

inf, nan = float("inf"), float("nan")
ends = [0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 1e-200, -1e200]

functions = {
    # name: (function, low, high, what is special about it)
    "neg": (torch.neg, -2, 2, ends),
    "abs": (torch.abs, -2, 2, [0.0, -0.0, 1.0, -1.0, inf, -inf, -1e200]),  # 0 at the kink
    "sign": (torch.sign, -2, 2, [0.0, -0.0, 1.0, -1.0, inf, -inf, -1e200]),
    "reciprocal": (torch.reciprocal, 0.2, 3, ends),
    "square": (torch.square, -2, 2, ends),
    "sqrt": (torch.sqrt, 0, 3, ends),
    "rsqrt": (torch.rsqrt, 0.2, 3, ends),
    "exp": (torch.exp, -2, 2, ends + [709.0, -745.0]),
    "expm1": (torch.expm1, -2, 2, ends + [1e-10]),
    "log": (torch.log, 0.2, 3, ends),
    "log1p": (torch.log1p, -0.9, 3, ends + [1e-10]),
    "log2": (torch.log2, 0.2, 3, ends + [8.0, 2.0**-30]),
    "sin": (torch.sin, -4, 4, [0.0, -0.0, inf, nan, 1e3]),
    "cos": (torch.cos, -4, 4, [0.0, -0.0, inf, nan, 1e3]),
    "tan": (torch.tan, -1.2, 1.2, [0.0, -0.0, inf, nan, 1.57]),
    "atan": (torch.atan, -4, 4, ends),
    "sinh": (torch.sinh, -2, 2, ends),
    "cosh": (torch.cosh, -2, 2, ends),
    "erf": (torch.erf, -2, 2, ends),
    "floor": (torch.floor, -4, 4, [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, inf, -inf, nan, 1e200]),
    "ceil": (torch.ceil, -4, 4, [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, inf, -inf, nan, 1e200]),
    "round": (torch.round, -4, 4, [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, inf, -inf, nan, 1e200]),
}
for name, (function, low, high, special) in functions.items():
    seed(name)
    case(name, function, real(2, 3, 5, low=low, high=high))
    case(name, function, real(low=low, high=high))
    case(name, function, torch.tensor(special))
    case(name, function, real(2, 0))

seed("affine")
case("affine", lambda x: 2 * x - 3, real(2, 3, 4), scale=2.0, shift=-3.0)
case("affine", lambda x: 0 * x + 1.5, real(5), scale=0.0, shift=1.5)
case("affine", lambda x: -x + 0.25, torch.tensor([0.0, -0.0, inf, -inf, nan, 1e300]), scale=-1.0, shift=0.25)

seed("pow_scalar")
zeros = [0.0, -0.0, 1.0, -1.0, inf, nan]
for p in [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 4.0, 1.5, -0.5, 0.25]:
    case("pow_scalar", lambda x: torch.pow(x, p), real(3, 4), p=p)
    # halves are square roots in PyTorch: NaN for -inf, 1 / -0 is -inf; C's pow says inf
    case("pow_scalar", lambda x: torch.pow(x, p), torch.tensor([0.0, 2.0, *zeros[2:]] if p == -0.5 else zeros), p=p)
    if p == int(p):
        case("pow_scalar", lambda x: torch.pow(x, p), torch.tensor([-inf, -2.0, -1e200]), p=p)
