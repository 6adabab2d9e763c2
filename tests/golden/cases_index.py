"""op_index.c"""
import torch
import torch.nn.functional as F
from golden import case, index, mask, real, seed

seed("embedding")
case("embedding", lambda w, i: F.embedding(i, w), real(5, 3), index(2, 4, below=5))
case("embedding", lambda w, i: F.embedding(i, w), real(4, 2), torch.tensor(3))
case("embedding", lambda w, i: F.embedding(i, w), real(4, 3), torch.tensor([1, 1, 1, 0, 1]))
case("embedding", lambda w, i: F.embedding(i, w), real(4, 3), index(2, 0, below=4))


def scatter_rows(x, i, rows):
    return torch.zeros(rows, x.shape[-1]).index_add(0, i.flatten(), x.reshape(-1, x.shape[-1]))


seed("scatter_rows")
case("scatter_rows", lambda x, i: scatter_rows(x, i, 5), real(2, 4, 3), index(2, 4, below=5), rows=5)
case("scatter_rows", lambda x, i: scatter_rows(x, i, 3), real(6, 2), torch.tensor([2, 2, 0, 2, 0, 2]), rows=3)
case("scatter_rows", lambda x, i: scatter_rows(x, i, 3), real(4), torch.tensor(1), rows=3)

seed("gather")
case("gather", lambda x, i: x.gather(1, i), real(3, 5), index(3, 4, below=5), dim=1)
case("gather", lambda x, i: x.gather(0, i), real(4, 3, 5), index(6, 2, 5, below=4), dim=0)
case("gather", lambda x, i: x.gather(1, i), real(2, 3, 4), torch.full((1, 5, 3), 2), dim=1)
case("gather", lambda x, i: x.gather(0, i), real(5), torch.tensor([4, 0, 0, 4, 4, 1, 0]), dim=0)
case("gather", lambda x, i: x.gather(0, i), real(), torch.tensor(0), dim=0)
case("gather", lambda x, i: x.gather(1, i), real(3, 0), index(3, 0, below=1), dim=1)
case("gather", lambda x, i: x.gather(1, i), mask(2, 3), index(2, 4, below=3), dim=1)

seed("scatter_add")
case("scatter_add", lambda x, i, s: x.scatter_add(1, i, s), real(3, 5), index(3, 4, below=5), real(3, 4), dim=1)
case("scatter_add", lambda x, i, s: x.scatter_add(0, i, s), real(4, 3, 5), index(6, 2, 5, below=4), real(6, 2, 5),
     dim=0)
case("scatter_add", lambda x, i, s: x.scatter_add(0, i, s), real(3), torch.tensor([2, 2, 2, 0, 2]), real(5), dim=0)
case("scatter_add", lambda x, i, s: x.scatter_add(0, i, s), real(), torch.tensor(0), real(), dim=0)
case("scatter_add", lambda x, i, s: x.scatter_add(1, i, s), real(2, 3), index(2, 0, below=3), real(2, 0), dim=1)

seed("index_select")
case("index_select", lambda x, i: x.index_select(0, i), real(5, 3), index(4, below=5), dim=0)
case("index_select", lambda x, i: x.index_select(1, i), real(2, 5, 3), torch.tensor([4, 4, 0, 4]), dim=1)
case("index_select", lambda x, i: x.index_select(1, i), real(2, 3), torch.tensor(2), dim=1)
case("index_select", lambda x, i: x.index_select(0, i), real(2, 3), index(0, below=2), dim=0)
case("index_select", lambda x, i: x.index_select(0, i), real(), torch.tensor([0]), dim=0)
case("index_select", lambda x, i: x.index_select(0, i), index(4, 2, below=9), torch.tensor([3, 0]), dim=0)

seed("one_hot")
case("one_hot", lambda i: F.one_hot(i, 5), index(2, 3, below=5), classes=5)
case("one_hot", lambda i: F.one_hot(i, 7), torch.tensor([6, 0, 6]), classes=7)
case("one_hot", lambda i: F.one_hot(i, 1), torch.tensor(0), classes=1)
case("one_hot", lambda i: F.one_hot(i, 3), index(2, 0, below=3), classes=3)
