"""op_activation.c"""
import torch
import torch.nn.functional as F
from golden import case, real, seed

inf, nan = float("inf"), float("nan")
ends = [0.0, -0.0, 1.0, -1.0, 20.0, -20.0, 800.0, -800.0, nan]

functions = {
    "sigmoid": (torch.sigmoid, {}, ends + [inf, -inf]),
    "tanh": (torch.tanh, {}, ends + [inf, -inf, 1e-200]),
    "relu": (F.relu, {}, ends + [inf, -inf]),
    "step": (lambda x: (x > 0).to(x.dtype), {}, [0.0, -0.0, 1e-300, -1e-300, inf, -inf]),
    "softplus": (lambda x: F.softplus(x, threshold=500), {}, ends + [inf, -inf]),
    "logsigmoid": (F.logsigmoid, {}, ends),
    "silu": (F.silu, {}, ends),
    "mish": (F.mish, {}, [0.0, -0.0, 1.0, -1.0, 20.0, -20.0, nan]),
    "gelu": (F.gelu, {}, ends),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), {}, ends),
    "softsign": (F.softsign, {}, ends),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), {"slope": 0.1}, ends + [inf, -inf]),
    "elu": (lambda x: F.elu(x, 1.5), {"alpha": 1.5}, ends[:-1] + [inf, -inf]),
    "selu": (F.selu, {}, ends[:-1] + [inf, -inf]),
    "clamp": (lambda x: x.clamp(-0.5, 1.0), {"low": -0.5, "high": 1.0}, ends + [-0.5, inf, -inf]),
    "between": (
        lambda x: ((x >= -0.5) & (x <= 1)).to(x.dtype),
        {"low": -0.5, "high": 1.0},
        ends + [-0.5, inf, -inf],
    ),
    "hardtanh": (
        lambda x: F.hardtanh(x, -0.5, 1.0),
        {"low": -0.5, "high": 1.0},
        ends + [-0.5, inf, -inf],
    ),
    # F.hardsigmoid's own derivative is 1/6 in f32, whatever the dtype
    "hardsigmoid": (lambda x: F.hardtanh(x + 3, 0.0, 6.0) / 6, {}, [0.0, 3.0, -3.0, 2.95, -2.95, 3.1, -3.1, inf, -inf]),
}
for name, (function, constants, special) in functions.items():
    seed(name)
    case(name, function, real(2, 3, 5, low=-4, high=4), **constants)
    case(name, function, real(), **constants)
    case(name, function, torch.tensor(special), **constants)
    case(name, function, real(2, 0), **constants)

seed("leaky_relu, other slopes")
case("leaky_relu", lambda x: F.leaky_relu(x, 0.0), torch.tensor(ends), slope=0.0)
case("leaky_relu", lambda x: F.leaky_relu(x, -2.0), real(3, 4), slope=-2.0)
case("elu", lambda x: F.elu(x, 0.0), real(3, 4), alpha=0.0)
case("clamp", lambda x: x.clamp(min=0.5), real(3, 4), low=0.5, high="inf")
case("clamp", lambda x: x.clamp(max=0.5), real(3, 4), low="-inf", high=0.5)
case("hardtanh", F.hardtanh, torch.tensor([1.0, -1.0, 0.5, 2.0]), low=-1.0, high=1.0)

companions = {
    "sigmoid_grad": lambda g, y: g * y * (1 - y),
    "tanh_grad": lambda g, y: g * (1 - y * y),
    "relu_grad": lambda g, x: torch.where(x <= 0, 0.0, g),
}
for name, function in companions.items():
    seed(name)
    case(name, function, real(3, 4), real(3, 4))
    case(name, function, real(2, 1, 4), real(3, 1))
    case(name, function, real(), real(2, 5))
    case(name, function, torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, -0.0, 1.0, -1.0]))
