"""op_matmul.c"""
import torch
import torch.nn.functional as F
from golden import case, real, seed

seed("matmul")
case("matmul", torch.matmul, real(2, 3), real(3, 4))
case("matmul", torch.matmul, real(5, 2, 3), real(3, 4))
case("matmul", torch.matmul, real(1, 2, 3), real(2, 3, 3, 1))
case("matmul", torch.matmul, real(3), real(3))
case("matmul", torch.matmul, real(3), real(3, 4))
case("matmul", torch.matmul, real(2, 3), real(3))
case("matmul", torch.matmul, real(3), real(2, 3, 4))
case("matmul", torch.matmul, real(2, 1, 4, 3), real(3))
case("matmul", torch.matmul, real(2, 0), real(0, 3))
case("matmul", torch.matmul, real(0), real(0))
case("matmul", torch.matmul, real(0), real(2, 0, 3))
case("matmul", torch.matmul, real(2, 0), real(0))

seed("linear")
case("linear", F.linear, real(2, 3), real(5, 3), real(5), transposed=False)
case("linear", F.linear, real(4, 2, 3), real(5, 3), transposed=False)
case("linear", F.linear, real(3), real(5, 3), real(5), transposed=False)
case("linear", lambda x, w, b: F.linear(x, w) + b, real(2, 3), real(5, 3), real(2, 5), transposed=False)
case("linear", torch.matmul, real(4, 2, 5), real(5, 3), transposed=True)
case("linear", F.linear, real(2, 0), real(3, 0), real(3), transposed=False)

seed("sum_outer")
case("sum_outer", lambda a, b: torch.einsum("rm,rn->mn", a, b), real(2, 3), real(2, 5))
case("sum_outer", lambda a, b: torch.einsum("qrm,qrn->mn", a, b), real(4, 2, 3), real(4, 2, 5))
case("sum_outer", torch.outer, real(3), real(5))
case("sum_outer", lambda a, b: torch.einsum("rm,rn->mn", a, b), real(0, 3), real(0, 5))
