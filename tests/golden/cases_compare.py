"""op_compare.c"""
import torch
from golden import case, index, mask, real, seed

inf, nan = float("inf"), float("nan")
numbers = torch.tensor([0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 1e-300])
tokens = torch.tensor([0, 1, -1, 2**62, 2**62 + 1, -(2**63)])  # which doubles would confuse

for name in ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]:
    function = getattr(torch, name)
    seed(name)
    case(name, function, real(3, 4), real(3, 4))
    case(name, function, real(2, 1, 4).round(), real(3, 1).round())
    case(name, function, index(4, below=3), index(2, 3, 4, below=3))
    case(name, function, mask(5), mask(2, 1))
    case(name, function, numbers[:, None].expand(8, 8), numbers)
    case(name, function, tokens[:, None].expand(6, 6), tokens)
    case(name, function, real(3, 4).float().round(), real(4).float().round())
    case(name, function, real(0, 3), real(3))

for name in ["logical_not", "isnan", "isfinite"]:
    function = getattr(torch, name)
    seed(name)
    case(name, function, numbers)
    case(name, function, tokens)
    case(name, function, mask(3, 4))
    case(name, function, real(2, 3).float())
    case(name, function, real())
    case(name, function, real(2, 0))


def where(m, a, b):
    return torch.where(m != 0, a, b)


seed("where")
case("where", where, mask(3, 4), real(3, 4), real(3, 4))
case("where", where, mask(4), real(3, 1), real(2, 1, 1))
case("where", where, mask(2, 3, 4), real(), real(4))
case("where", where, mask(), real(4), real(3, 1))
case("where", where, mask(8), numbers, numbers.flip(0))
case("where", where, torch.tensor([0, 1, 2, 255], dtype=torch.uint8), real(4), real(3, 4))
case("where", where, mask(3, 4), index(4, below=9), index(3, 1, below=9))
case("where", where, mask(3, 4), mask(4), mask(3, 1))
case("where", where, mask(0, 4), real(4), real(1, 1))


def fill(value):
    return lambda x, m: torch.broadcast_tensors(x, m)[0].masked_fill(m != 0, value)


seed("masked_fill")
case("masked_fill", fill(-7.5), real(3, 4), mask(3, 4), value=-7.5)
case("masked_fill", fill(-inf), real(3, 1), mask(2, 1, 4), value="-inf")
case("masked_fill", fill(0.0), numbers, torch.tensor([0, 1, 2, 0, 1, 0, 0, 255], dtype=torch.uint8), value=0.0)
case("masked_fill", fill(-3), index(2, 3, below=9), mask(3), value=-3.0)
case("masked_fill", fill(1), mask(2, 3), mask(), value=1.0)
case("masked_fill", fill(1.0), real(2, 0), mask(1), value=1.0)

seed("cast")
f64, f32, i64, u8 = torch.float64, torch.float32, torch.int64, torch.uint8
case("cast", lambda x: x.to(f64), real(3, 4).float(), dtype="f64")
case("cast", lambda x: x.to(f64), index(2, 3, below=9) - 4, dtype="f64")
case("cast", lambda x: x.to(f64), mask(5), dtype="f64")
case("cast", lambda x: x.to(i64), torch.tensor([0.5, -0.5, 1.999, -1.999, 2.0**52, -0.0]), dtype="i64")
case("cast", lambda x: x.to(i64), mask(2, 0), dtype="i64")
case("cast", lambda x: x.to(u8), torch.tensor([0.5, 1.999, 255.0, 0.0]), dtype="u8")
case("cast", lambda x: x.to(u8), index(3, 4, below=256), dtype="u8")
case("cast", lambda x: x.clone(), index(3, 1, below=9) + 2**60, dtype="i64")
case("cast", lambda x: x.clone(), real(), dtype="f64")
