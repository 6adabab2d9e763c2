"""op_loss.c"""
import torch
import torch.nn.functional as F

from golden import case, index, real, seed

words = ("mean", "sum", "none")

seed("cross_entropy")
for word in words:
    case("cross_entropy", lambda x, k: F.cross_entropy(x, k, reduction=word), real(3, 5), index(3, below=5),
         reduction=word)
    case("cross_entropy", lambda x, k: F.cross_entropy(x.movedim(-1, 1), k, reduction=word),
         real(2, 3, 4, low=-100.0, high=100.0), index(2, 3, below=4), reduction=word)
case("cross_entropy", lambda x, k: F.cross_entropy(x, k), real(5), torch.tensor(3), reduction="mean")


def cross_entropy_grad(g, x, k, word):
    p = torch.softmax(x, -1) - F.one_hot(k, x.shape[-1])
    return p * (g[..., None] if word == "none" else g / (k.numel() if word == "mean" else 1))


seed("cross_entropy_grad")
for word in words:
    shape = (3,) if word == "none" else ()
    case("cross_entropy_grad", lambda g, x, k: cross_entropy_grad(g, x, k, word), real(*shape), real(3, 5),
         index(3, below=5), reduction=word)

# kinks, ties and zeros: -1, -0.5, 0, 0.5, 1 and beyond, where delta and beta are 0.5 and 1
steps = torch.tensor([-3.0, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 3])
zeros = torch.zeros(9)
pairs = (
    ("mse", F.mse_loss, {}),
    ("l1", F.l1_loss, {}),
    ("huber", F.huber_loss, {"delta": 1.0}),
    ("huber", F.huber_loss, {"delta": 0.5}),
    ("smooth_l1", F.smooth_l1_loss, {"beta": 1.0}),
    ("smooth_l1", F.smooth_l1_loss, {"beta": 0.5}),
    ("smooth_l1", F.smooth_l1_loss, {"beta": 0.0}),
)
for name, function, constants in pairs:
    seed(name)
    for word in words:
        def loss(a, b):
            a, b = torch.broadcast_tensors(a, b)
            return function(a, b, reduction=word, **constants)
        case(name, loss, real(3, 4), real(3, 4), reduction=word, **constants)
        case(name, loss, real(2, 3, 1), real(4), reduction=word, **constants)
        case(name, loss, steps, zeros, reduction=word, **constants)
        case(name, loss, 1e6 * steps, zeros, reduction=word, **constants)


def reduce(each, word):
    return each.mean() if word == "mean" else each.sum() if word == "sum" else each


seed("hinge")
for word in words:
    def hinge(x, y, margin=1.0):
        return reduce(torch.relu(margin - x * y), word)
    case("hinge", hinge, real(3, 4), 2.0 * index(3, 4, below=2) - 1, margin=1.0, reduction=word)
    case("hinge", hinge, torch.tensor([1.0, -1, 0, 2, -2]), torch.tensor([1.0, -1, 1, 1, 1]), margin=1.0,
         reduction=word)
    case("hinge", lambda x, y: hinge(x, y, 0.25), real(2, 3), 2.0 * index(3, below=2) - 1, margin=0.25,
         reduction=word)

def bce(x, y, w=None):
    """PyTorch's, with the gradient of the weight, which it does not have."""
    x, y = torch.broadcast_tensors(x, y)
    if w is None:
        return F.binary_cross_entropy(x, y, reduction=word)
    return reduce(F.binary_cross_entropy(x, y, reduction="none") * w, word)


seed("bce")
for word in words:
    case("bce", bce, real(3, 4, low=0.0, high=1.0), real(3, 4, low=0.0, high=1.0), reduction=word)
    case("bce", bce, real(3, 4, low=0.0, high=1.0), real(4, low=0.0, high=1.0), real(3, 1), reduction=word)
    case("bce", bce, torch.tensor([0.0, 0, 0, 1, 1, 1, 1e-30, 1e-13, 1 - 1e-13]),
         torch.tensor([0.0, 1, 0.5, 0, 1, 0.5, 1, 1, 0]), reduction=word)


def bce_with_logits(x, y, w=None, p=None):
    x, y = torch.broadcast_tensors(x, y)
    with torch.no_grad():
        known = F.binary_cross_entropy_with_logits(x, y, w, pos_weight=p, reduction=word)
    log_weight = 1 if p is None else 1 + (p - 1) * y
    each = (1 - y) * x - log_weight * F.logsigmoid(x)
    result = reduce(each if w is None else each * w, word)  # with the gradients of the weights
    assert torch.allclose(result, known, rtol=1e-12)
    return result


seed("bce_with_logits")
for word in words:
    case("bce_with_logits", bce_with_logits, real(3, 4), real(3, 4, low=0.0, high=1.0), reduction=word)
    case("bce_with_logits", bce_with_logits, real(3, 4), real(4, low=0.0, high=1.0), real(3, 1),
         reduction=word)
    case("bce_with_logits", bce_with_logits, real(3, 4), real(3, 4, low=0.0, high=1.0), real(3, 4),
         real(4, low=0.5, high=3.0), reduction=word)
    case("bce_with_logits", bce_with_logits, torch.tensor([-700.0, -700, 0, 0, 700, 700]),
         torch.tensor([0.0, 1, 0, 1, 0, 1]), reduction=word)



def kl_div(x, y):
    """PyTorch's gradient of a target that is 0 is NaN: that of y log y is 0 here."""
    result = reduce(y * torch.log(torch.where(y == 0, 1.0, y)) - y * x, word)
    assert torch.allclose(result, F.kl_div(x, y, reduction=word).detach(), rtol=1e-12)
    return result


seed("kl_div")
for word in words + ("batchmean",):
    case("kl_div", lambda x, y: F.kl_div(x, y, reduction=word), real(3, 4, low=-2.0, high=0.0),
         real(3, 4, low=0.1, high=1.0), log_target=0, reduction=word)
    case("kl_div", lambda x, y: F.kl_div(x, y, reduction=word, log_target=True),
         real(3, 4, low=-2.0, high=0.0), real(3, 4, low=-2.0, high=0.0), log_target=1, reduction=word)
for word in words:
    case("kl_div", kl_div, real(6, low=-2.0, high=0.0), torch.tensor([0.0, 0.25, 0.75, 0, 1, 0]), log_target=0,
         reduction=word)
