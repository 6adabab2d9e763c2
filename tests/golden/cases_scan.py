"""op_scan.c"""
import torch
from golden import case, real, seed

zeros = torch.tensor([[2.0, 0.0, -3.0, 4.0, 0.5], [0.0, 3.0, 0.0, 1.0, 2.0], [1.0, 2.0, -0.0, -4.0, 5.0]])

seed("cumsum")
case("cumsum", lambda x: x.cumsum(1), real(2, 3, 4), dim=1, reverse=False)
case("cumsum", lambda x: x.cumsum(0), real(5, 3), dim=0, reverse=False)
case("cumsum", lambda x: x.flip(2).cumsum(2).flip(2), real(2, 3, 4), dim=2, reverse=True)
case("cumsum", lambda x: x.cumsum(0), real(), dim=0, reverse=False)
case("cumsum", lambda x: x.cumsum(0), real(0, 3), dim=0, reverse=False)

seed("cumprod")
case("cumprod", lambda x: x.cumprod(1), real(2, 3, 4), dim=1)
case("cumprod", lambda x: x.cumprod(1), zeros, dim=1)
case("cumprod", lambda x: x.cumprod(0), zeros, dim=0)
case("cumprod", lambda x: x.cumprod(0), real(), dim=0)
case("cumprod", lambda x: x.cumprod(1), real(3, 0), dim=1)


def recurrence(reverse):
    def f(a, b, h=None):
        h = torch.zeros_like(a[0]) if h is None else h
        hs = [None] * len(a)
        for t in reversed(range(len(a))) if reverse else range(len(a)):
            h = hs[t] = a[t] * h + b[t]
        return torch.stack(hs)

    return f


seed("linear_recurrence")
for reverse in False, True:
    for block in 0, 1, 3, 4, 100:
        case("linear_recurrence", recurrence(reverse), real(7, 2), real(7, 2), block=block, reverse=reverse)
        case("linear_recurrence", recurrence(reverse), real(8, 1, 3), real(8, 1, 3), real(1, 3), block=block,
             reverse=reverse)
    case("linear_recurrence", recurrence(reverse), zeros, real(3, 5), real(5), block=2, reverse=reverse)
    case("linear_recurrence", recurrence(reverse), real(4), real(4), real(), block=3, reverse=reverse)
    case("linear_recurrence", recurrence(reverse), real(1, 2), real(1, 2), block=0, reverse=reverse)
