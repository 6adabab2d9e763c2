"""op_reduce.c"""
import torch
from golden import case, real, seed

seed("sum")
case("sum", lambda x: x.sum(1), real(2, 3, 4), axes=[1], keepdim=False)
case("sum", lambda x: x.sum((0, 2), keepdim=True), real(2, 3, 4), axes=[0, 2], keepdim=True)
case("sum", lambda x: x.sum(), real(3, 5), axes=[0, 1], keepdim=False)

seed("sum_to")
case("sum_to", lambda x: x.sum_to_size(3, 1), real(2, 3, 4), shape=[3, 1])
case("sum_to", lambda x: x.sum_to_size(4), real(3, 4), shape=[4])
case("sum_to", lambda x: x.sum_to_size(2, 1, 5, 1), real(2, 3, 5, 4), shape=[2, 1, 5, 1])

seed("mean")
case("mean", lambda x: x.mean(1), real(2, 3, 4), axes=[1], keepdim=False)
case("mean", lambda x: x.mean((0, 2), keepdim=True), real(2, 3, 4), axes=[2, 0], keepdim=True)
case("mean", lambda x: x.mean(), real(3, 5), axes=[0, 1], keepdim=False)
case("mean", lambda x: x.mean(0), real(0, 2), axes=[0], keepdim=False)

ties = torch.tensor([[1.0, 3.0, 3.0, -1.0], [-0.0, 0.0, -2.0, -2.0], [5.0, 5.0, 5.0, 5.0]])
extremes = torch.tensor([[float("inf"), 1.0, float("inf")], [-float("inf"), -float("inf"), 2.0]])
nans = torch.tensor([[1.0, float("nan"), 2.0, float("nan")], [4.0, 3.0, 2.0, 1.0]])
for op, f in ("max", torch.amax), ("min", torch.amin):
    seed(op)
    case(op, lambda x: f(x, 1), real(2, 3, 4), axes=[1], keepdim=False)
    case(op, lambda x: f(x, (0, 2), keepdim=True), real(2, 3, 4), axes=[2, 0], keepdim=True)
    case(op, lambda x: f(x), real(3, 5), axes=[0, 1], keepdim=False)
    case(op, lambda x: f(x, 1), ties, axes=[1], keepdim=False)
    case(op, lambda x: f(x, 0), ties, axes=[0], keepdim=False)
    case(op, lambda x: f(x), ties, axes=[0, 1], keepdim=False)
    case(op, lambda x: f(x, 1), extremes, axes=[1], keepdim=False)
    case(op, lambda x: f(x, 1), nans, axes=[1], keepdim=False)
    case(op, lambda x: f(x), real(), axes=[], keepdim=False)

for op, f in ("argmax", torch.argmax), ("argmin", torch.argmin):
    seed(op)
    case(op, lambda x: f(x, 1), real(2, 3, 4), dim=1, keepdim=False)
    case(op, lambda x: f(x, 0, keepdim=True), real(3, 4), dim=0, keepdim=True)
    case(op, lambda x: f(x, 1), ties, dim=1, keepdim=False)
    case(op, lambda x: f(x, 0), ties, dim=0, keepdim=False)
    case(op, lambda x: f(x, 1), extremes, dim=1, keepdim=False)
    case(op, lambda x: f(x, 1), nans, dim=1, keepdim=False)
    case(op, lambda x: f(x, 1), real(0, 3), dim=1, keepdim=False)
    case(op, lambda x: f(x, 0, keepdim=True), real(), dim=0, keepdim=True)

seed("prod")
zeros = torch.tensor([[2.0, 0.0, -3.0, 4.0, 0.5], [0.0, 3.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, -4.0, 5.0]])
case("prod", lambda x: x.prod(1), real(2, 3, 4), axes=[1], keepdim=False)
case("prod", lambda x: x.prod(0, keepdim=True).prod(2, keepdim=True), real(2, 3, 4), axes=[2, 0], keepdim=True)
case("prod", lambda x: x.prod(), real(3, 5), axes=[0, 1], keepdim=False)
case("prod", lambda x: x.prod(1), zeros, axes=[1], keepdim=False)
case("prod", lambda x: x.prod(0), zeros, axes=[0], keepdim=False)
case("prod", lambda x: x.prod(0), real(0, 2), axes=[0], keepdim=False)

seed("logsumexp")
case("logsumexp", lambda x: x.logsumexp(1), real(2, 3, 4), axes=[1], keepdim=False)
case("logsumexp", lambda x: x.logsumexp((0, 2), keepdim=True), real(2, 3, 4), axes=[2, 0], keepdim=True)
case("logsumexp", lambda x: x.logsumexp((0, 1)), 1000 * real(3, 5), axes=[0, 1], keepdim=False)
case("logsumexp", lambda x: x.logsumexp(1), extremes, axes=[1], keepdim=False)
case("logsumexp", lambda x: x.logsumexp(1), nans, axes=[1], keepdim=False)
case("logsumexp", lambda x: x.logsumexp(1), real(2, 0), axes=[1], keepdim=False)

seed("norm")
norm = torch.linalg.vector_norm
inf = float("inf")
for p in 2.0, 1.0, inf, -inf, 3.0, 1.5, 0.5, -1.0, 4.0:
    constant = str(p) if abs(p) == inf else p
    case("norm", lambda x: norm(x, p, 1), real(2, 3, 4), axes=[1], p=constant, keepdim=False)
    case("norm", lambda x: norm(x, p, (0, 2), keepdim=True), real(2, 3, 4), axes=[0, 2], p=constant, keepdim=True)
    case("norm", lambda x: norm(x, p, 1), zeros, axes=[1], p=constant, keepdim=False)
    case("norm", lambda x: norm(x, p, 1), torch.zeros(2, 3), axes=[1], p=constant, keepdim=False)
    case("norm", lambda x: norm(x, p, 1), ties, axes=[1], p=constant, keepdim=False)
case("norm", lambda x: norm(x, 0, 1) + 0 * x.sum(1), zeros, axes=[1], p=0.0, keepdim=False)
case("norm", lambda x: norm(x, 3, 1), real(2, 0), axes=[1], p=3.0, keepdim=False)

for op, f in ("var", torch.var), ("std", torch.std):
    seed(op)
    equal = torch.tensor([[0.1, 0.1, 0.1], [0.7, 0.7, 0.7], [1.0, 2.0, 4.0]])
    case(op, lambda x: f(x, 1, correction=1), real(2, 3, 4), axes=[1], correction=1.0, keepdim=False)
    case(op, lambda x: f(x, (0, 2), correction=0, keepdim=True), real(2, 3, 4), axes=[0, 2], correction=0.0,
         keepdim=True)
    case(op, lambda x: f(x, (0, 1), correction=2), real(3, 5), axes=[0, 1], correction=2.0, keepdim=False)
    case(op, lambda x: f(x, 1, correction=1), equal, axes=[1], correction=1.0, keepdim=False)
    case(op, lambda x: f(x, 1, correction=1), real(3, 1), axes=[1], correction=1.0, keepdim=False)
    case(op, lambda x: f(x, 0, correction=0), 10 + real(5, 2), axes=[0], correction=0.0, keepdim=False)

for op, f in ("any", torch.any), ("all", torch.all):
    seed(op)
    few = torch.tensor([[[0, 0, 0], [0, 3, 0]], [[1, 1, -2], [1, 0, 1]]])
    case(op, lambda x: f(x, 2), few, axes=[2], keepdim=False)
    case(op, lambda x: f(f(x, 0, keepdim=True), 2, keepdim=True), few, axes=[0, 2], keepdim=True)
    case(op, lambda x: f(x), few.to(torch.uint8), axes=[0, 1, 2], keepdim=False)
    case(op, lambda x: f(x, 1), few.to(torch.float64), axes=[1], keepdim=False)
    case(op, lambda x: f(x, 1), nans * 0, axes=[1], keepdim=False)
    case(op, lambda x: f(x, 1), real(2, 0), axes=[1], keepdim=False)
