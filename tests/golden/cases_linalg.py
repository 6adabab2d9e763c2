"""op_linalg.c"""
import torch
import torch.nn.functional as F
from golden import case, mask, real, seed

inf, nan = float("inf"), float("nan")

seed("outer")
case("outer", torch.outer, real(3), real(5))
case("outer", torch.outer, real(1), real(4))
case("outer", torch.outer, real(2), real(0))

seed("dot")
case("dot", torch.dot, real(5), real(5))
case("dot", torch.dot, real(1), real(1))
case("dot", torch.dot, real(0), real(0))

seed("bilinear")
case("bilinear", F.bilinear, real(2, 3), real(2, 4), real(5, 3, 4), real(5))
case("bilinear", F.bilinear, real(3), real(2), real(4, 3, 2))
case("bilinear", F.bilinear, real(2, 3, 1), real(2, 3, 4), real(1, 1, 4), real(1))
case("bilinear", F.bilinear, real(0, 3), real(0, 2), real(4, 3, 2), real(4))


def addmm(beta, alpha):
    return lambda c, a, b: torch.addmm(c, a, b, beta=beta, alpha=alpha)


seed("addmm")
case("addmm", addmm(0.5, -2), real(2, 4), real(2, 3), real(3, 4), beta=0.5, alpha=-2)
case("addmm", addmm(1, 1), real(4), real(2, 3), real(3, 4), beta=1, alpha=1)
case("addmm", addmm(3, 1), real(2, 1), real(2, 3), real(3, 4), beta=3, alpha=1)
case("addmm", addmm(0, 2), torch.tensor([nan, inf, 0, 1]), real(2, 3), real(3, 4), beta=0, alpha=2)
case("addmm", addmm(-1, 2), real(2, 4), real(2, 0), real(0, 4), beta=-1, alpha=2)

special = torch.tensor([[1.0, inf, nan], [nan, -inf, 2.0], [inf, 3.0, nan]])
for name in ("tril", "triu"):
    f = getattr(torch, name)
    seed(name)
    case(name, lambda x: f(x), real(3, 4), diagonal=0)
    case(name, lambda x: f(x, -1), real(4, 3), diagonal=-1)
    case(name, lambda x: f(x, 2), real(2, 3, 5), diagonal=2)
    case(name, lambda x: f(x, 9), real(2, 3), diagonal=9)
    case(name, lambda x: f(x, -9), real(2, 3), diagonal=-9)
    case(name, lambda x: f(x), special, diagonal=0)
    case(name, lambda x: f(x), real(2, 0, 3), diagonal=0)
    case(name, lambda x: f(x), mask(3, 3), diagonal=0)


def diagonal(*where):
    return lambda x: torch.diagonal(x, *where)


seed("diagonal")
case("diagonal", diagonal(0, 0, 1), real(3, 4), offset=0, dim1=0, dim2=1)
case("diagonal", diagonal(-1, 1, 2), real(2, 5, 3), offset=-1, dim1=1, dim2=2)
case("diagonal", diagonal(2, 0, 2), real(4, 2, 5), offset=2, dim1=0, dim2=2)
case("diagonal", diagonal(1, 2, 0), real(4, 2, 5), offset=1, dim1=2, dim2=0)
case("diagonal", diagonal(7, 0, 1), real(2, 3), offset=7, dim1=0, dim2=1)
case("diagonal", diagonal(-2, 0, 1), real(2, 3), offset=-2, dim1=0, dim2=1)


def undiagonal(offset, dim1, dim2, *shape):
    return lambda x: torch.zeros(shape).diagonal_scatter(x, offset, dim1, dim2)


seed("undiagonal")
case("undiagonal", undiagonal(0, 0, 1, 3, 4), real(3), offset=0, dim1=0, dim2=1, rows=3, cols=4)
case("undiagonal", undiagonal(-1, 1, 2, 2, 5, 3), real(2, 3), offset=-1, dim1=1, dim2=2, rows=5, cols=3)
case("undiagonal", undiagonal(2, 2, 0, 5, 2, 4), real(2, 3), offset=2, dim1=2, dim2=0, rows=4, cols=5)
case("undiagonal", lambda x: torch.diag_embed(x, 1), real(2, 3), offset=1, dim1=1, dim2=2, rows=4, cols=4)
case("undiagonal", undiagonal(5, 0, 1, 2, 3), real(0), offset=5, dim1=0, dim2=1, rows=2, cols=3)
