"""op_arithmetic.c"""
import torch
from golden import case, real, seed

inf, nan = float("inf"), float("nan")


def grid(values):
    """Every pair of these numbers: a column against a row."""
    return torch.tensor(values)[:, None].expand(-1, len(values)), torch.tensor(values)


functions = {
    "add": (torch.add, [0.0, -0.0, 1.0, inf, -inf, nan]),
    "sub": (torch.sub, [0.0, -0.0, 1.0, inf, -inf, nan]),
    "mul": (torch.mul, [0.0, -0.0, 2.0, inf, -inf, nan]),
    "div": (torch.div, [0.0, 2.0, -3.0, inf, -inf, nan]),
    "maximum": (torch.maximum, [0.0, -0.0, 1.0, -1.0, inf, -inf, nan]),
    "minimum": (torch.minimum, [0.0, -0.0, 1.0, -1.0, inf, -inf, nan]),
    "atan2": (torch.atan2, [0.0, 1.0, -1.0, inf, -inf, nan]),
    "hypot": (torch.hypot, [0.0, 1.0, -1.0, 1e200, nan]),
    "pow": (torch.pow, [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 0.5, -0.5, 4.0]),
}
for name, (function, special) in functions.items():
    seed(name)
    case(name, function, real(3, 4), real(3, 4))
    case(name, function, real(2, 1, 4), real(3, 1))
    case(name, function, real(4), real(2, 3, 4))
    case(name, function, real(), real(5))
    case(name, function, real(0, 3), real(1, 3))
    case(name, function, *grid(special))

seed("pow of positive bases")
case("pow", torch.pow, real(3, 4, low=0.1, high=3), real(3, 4))
case("pow", torch.pow, real(2, 1, 4, low=0.1, high=3), real(3, 1))
case("pow", torch.pow, torch.tensor([0.0, 0.0, 0.0, 1e-310, nan, inf]), torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0, 0.0]))

seed("lerp")
case("lerp", torch.lerp, real(3, 4), real(3, 4), real(3, 4, low=0, high=1))
case("lerp", lambda a, b, w: a + w * (b - a), real(4), real(3, 1), real(2, 1, 1))
case("lerp", torch.lerp, real(2, 5), real(2, 5), torch.tensor([0.0, 1.0, 0.5, -1.0, 2.0]).expand(2, 5))

seed("addcmul")
case("addcmul", lambda a, b, c: torch.addcmul(a, b, c, value=-1.5), real(3, 4), real(3, 4), real(3, 4), value=-1.5)
case("addcmul", lambda a, b, c: torch.addcmul(a, b, c), real(4), real(3, 1), real(2, 1, 1), value=1.0)
case("addcmul", lambda a, b, c: torch.addcmul(a, b, c, value=0.5), real(), real(2, 5), real(5), value=0.5)
