"""op_sort.c"""
import torch
from golden import case, real, seed

nan, inf = float("nan"), float("inf")
special = torch.tensor([[1.0, nan, -inf, inf, 0.0, -0.0], [2.0, 2.0, nan, 1.0, 2.0, nan]])
long = torch.arange(40).remainder(7).to(torch.float64).reshape(2, 20)

for op, f in ("argsort", lambda x, d, r: torch.argsort(x, dim=d, descending=r, stable=True)), \
        ("sort", lambda x, d, r: torch.sort(x, dim=d, descending=r, stable=True)[0]):
    seed(op)
    for down in False, True:
        case(op, lambda x: f(x, 1, down), real(2, 3, 4), dim=1, descending=down)
        case(op, lambda x: f(x, 0, down), real(37, 2), dim=0, descending=down)
        case(op, lambda x: f(x, 1, down), special, dim=1, descending=down)
        case(op, lambda x: f(x, 1, down), long, dim=1, descending=down)
        case(op, lambda x: f(x, 0, down), real(), dim=0, descending=down)
        case(op, lambda x: f(x, 1, down), real(2, 0), dim=1, descending=down)

seed("topk")
for largest in False, True:
    case("topk", lambda x: x.topk(2, 1, largest)[0], real(2, 3, 4), dim=1, k=2, largest=largest)
    case("topk", lambda x: x.topk(20, 0, largest)[0], real(37, 2), dim=0, k=20, largest=largest)
    case("topk", lambda x: x.topk(1, 1, largest)[0], special[:1], dim=1, k=1, largest=largest)
    case("topk", lambda x: x.topk(1, 0, largest)[0], real(), dim=0, k=1, largest=largest)
    case("topk", lambda x: x.topk(0, 1, largest)[0], real(2, 3), dim=1, k=0, largest=largest)
    case("topk", lambda x: x.topk(3, 1, largest)[0], real(2, 3), dim=1, k=3, largest=largest)
