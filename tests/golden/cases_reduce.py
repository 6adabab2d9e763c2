"""op_reduce.c"""
from golden import case, real, seed

seed("sum")
case("sum", lambda x: x.sum(1), real(2, 3, 4), axes=[1], keepdim=False)
case("sum", lambda x: x.sum((0, 2), keepdim=True), real(2, 3, 4), axes=[0, 2], keepdim=True)
case("sum", lambda x: x.sum(), real(3, 5), axes=[0, 1], keepdim=False)

seed("sum_to")
case("sum_to", lambda x: x.sum_to_size(3, 1), real(2, 3, 4), shape=[3, 1])
case("sum_to", lambda x: x.sum_to_size(4), real(3, 4), shape=[4])
case("sum_to", lambda x: x.sum_to_size(2, 1, 5, 1), real(2, 3, 5, 4), shape=[2, 1, 5, 1])
