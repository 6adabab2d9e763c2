"""op_neural.c"""
import torch
import torch.nn.functional as F

from golden import case, mask, real, seed

for name, function in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
    seed(name)
    case(name, lambda x, f=function: f(x, -1), real(3, 4))
    case(name, lambda x, f=function: f(x, -1), real(2, 1, 5, low=-300.0, high=300.0))
    case(name, lambda x, f=function: f(x, -1), torch.tensor([[1e4, 1e4, -1e4], [0.0, 0.0, 0.0]]))
    case(name, lambda x, f=function: f(x, -1), real(4, 1))


def philox(counter, key):
    """Salmon et al., SC 2011, Philox4x32-10."""
    x, k = list(counter), list(key)
    for _ in range(10):
        even, odd = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(odd >> 32) ^ x[1] ^ k[0], odd & 0xFFFFFFFF, (even >> 32) ^ x[3] ^ k[1], even & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x


def dropout(x, p, number):
    key = (number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF)
    words = [philox((i // 4, 0, 2, 0), key)[i % 4] for i in range(x.numel())]
    kept = torch.tensor([word >= p * 2**32 for word in words]).reshape(x.shape)
    return torch.where(kept, x / (1 - p) if p < 1 else 0 * x, torch.zeros_like(x))


seed("dropout")
for p, number, shape in ((0.5, 1, (3, 7)), (0.3, 1 << 40 | 5, (2, 3, 5)), (0.9, -7, (41,)),
                         (0.0, 3, (2, 3)), (1.0, 3, (5,))):
    case("dropout", lambda x: dropout(x, p, number), real(*shape), p=p, seed=number)

seed("layer_norm")
case("layer_norm", lambda x: F.layer_norm(x, (5,)), real(3, 5), dims=1, eps=1e-5)
case("layer_norm", lambda x, w: F.layer_norm(x, (3, 4), w), real(2, 3, 4), real(3, 4), dims=2, eps=1e-5)
case("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b, 0.1), real(2, 3, 4), real(4), real(4),
     dims=1, eps=0.1)
case("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b, 1e-3),
     torch.tensor([[2.0, 2, 2, 2], [0, 0, 0, 0]]), real(4), real(4), dims=1, eps=1e-3)  # no variance

seed("rms_norm")
case("rms_norm", lambda x: F.rms_norm(x, (5,), None, 1e-5), real(3, 5), dims=1, eps=1e-5)
case("rms_norm", lambda x, w: F.rms_norm(x, (3, 4), w, 0.1), real(2, 3, 4), real(3, 4), dims=2, eps=0.1)
case("rms_norm", lambda x, w: F.rms_norm(x, (4,), w, 1e-3),
     torch.tensor([[2.0, 2, 2, 2], [0, 0, 0, 0]]), real(4), dims=1, eps=1e-3)

seed("batch_norm")
case("batch_norm", lambda x: F.batch_norm(x, None, None, training=True), real(5, 3), given=False, eps=1e-5)
case("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, 0.2), real(2, 3, 4),
     real(3), real(3), given=False, eps=0.2)
case("batch_norm", lambda x, w: F.batch_norm(x, None, None, w, None, True), real(2, 3, 2, 4), real(3),
     given=False, eps=1e-5)


def evaluated(x, m, v, w=None, b=None, eps=1e-5):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    with torch.no_grad():
        known = F.batch_norm(x, m, v, w, b, False, 0.1, eps)
    y = (x - m.reshape(shape)) / torch.sqrt(v.reshape(shape) + eps)
    y = y if w is None else y * w.reshape(shape)
    y = y if b is None else y + b.reshape(shape)
    assert torch.allclose(y, known, rtol=1e-12, atol=1e-13)  # PyTorch's has no gradient for m and v
    return y


case("batch_norm", evaluated, real(5, 3), real(3), real(3, low=0.5), given=True, eps=1e-5)
case("batch_norm", evaluated, real(2, 3, 4), real(3), real(3, low=0.0), real(3), real(3), given=True,
     eps=1e-5)

seed("scaled_dot_product_attention")
name, attention = "scaled_dot_product_attention", F.scaled_dot_product_attention
case(name, attention, real(3, 4), real(5, 4), real(5, 2), scale=0.0, causal=False)
case(name, lambda q, k, v: attention(q, k, v, is_causal=True), real(2, 3, 4), real(2, 5, 4), real(2, 5, 3),
     scale=0.0, causal=True)
case(name, lambda q, k, v: attention(q, k, v, is_causal=True, scale=0.3), real(2, 1, 5, 4),
     real(2, 1, 3, 4), real(2, 1, 3, 2), scale=0.3, causal=True)
case(name, lambda q, k, v, m: attention(q, k, v, m.bool()), real(2, 3, 4, 2), real(2, 3, 5, 2),
     real(2, 3, 5, 3), mask(4, 5), scale=0.0, causal=False)
nobody = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.uint8)
case(name, lambda q, k, v, m: attention(q, k, v, m.bool()), real(3, 4, low=-40.0, high=40.0),
     real(3, 4, low=-40.0, high=40.0), real(3, 2), nobody, scale=0.0, causal=False)

seed("cosine_similarity")
case("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, 1), real(3, 4), real(3, 4), dim=1, eps=1e-8)
case("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, 1), real(2, 3, 4), real(3, 1), dim=1,
     eps=1e-8)
case("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, -1, 1e-3),
     torch.tensor([[0.0, 0, 0], [1, 2, 3], [0, 0, 0]]), torch.tensor([[1.0, 2, 3], [2, 4, -6], [0, 0, 0]]),
     dim=1, eps=1e-3)  # vectors of length 0
