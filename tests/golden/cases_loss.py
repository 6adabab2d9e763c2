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

seed("nll")


def nll(x, k, w=None, ignored=-100):
    """PyTorch's, with the gradient of the weights, which it does not have."""
    rows, k = x.reshape(-1, x.shape[-1]), k.reshape(-1)
    kept = k != ignored
    own = (torch.ones(x.shape[-1]) if w is None else w)[k * kept] * kept
    each = torch.where(kept, -rows.gather(1, (k * kept)[:, None])[:, 0], 0.0) * own
    result = each.sum() / own.sum() if word == "mean" else reduce(each, word)
    with torch.no_grad():
        known = F.nll_loss(rows, k, w, ignore_index=ignored, reduction=word)
    assert torch.allclose(result, known, rtol=1e-12, equal_nan=True)
    return result.reshape(x.shape[:-1]) if word == "none" else result


for word in words:
    options = {"ignore_index": -100, "reduction": word}
    case("nll", nll, real(3, 5, low=-3.0, high=0.0), index(3, below=5), **options)
    case("nll", nll, real(2, 3, 4, low=-3.0, high=0.0), index(2, 3, below=4), real(4, low=0.1), **options)
    case("nll", lambda x, k, w: nll(x, k, w, 1), real(7, 3), index(7, below=3), real(3, low=0.1), ignore_index=1,
         reduction=word)
    case("nll", nll, real(4, 3), torch.tensor([-100, 2, -100, 0]), **options)
    case("nll", nll, torch.tensor([[-torch.inf, -1.0], [-2.0, -torch.inf]]), torch.tensor([-100, 0]),
         real(2), **options)
    case("nll", nll, real(2, 3), torch.tensor([-100, -100]), **options)  # the mean is NaN

seed("cross_entropy_with")


def cross_entropy(x, q, w=None, ignored=-100, smoothing=0.0):
    """PyTorch's, in its own words where it has no gradient of the weights."""
    rows, target = x.reshape(-1, x.shape[-1]), q.reshape(-1) if q.dtype == torch.int64 else q.flatten(0, -2)
    with torch.no_grad():
        known = F.cross_entropy(rows, target, w, ignore_index=ignored, reduction=word, label_smoothing=smoothing)
    classes = x.shape[-1]
    weight = torch.ones(classes) if w is None else w
    if q.dtype == torch.int64:
        kept = target != ignored
        hot, divisor = F.one_hot(target * kept, classes), (weight[target * kept] * kept).sum()
        hot = (1 - smoothing) * hot + smoothing / classes
        each = torch.where(kept, -(torch.log_softmax(rows, -1) * hot * weight).sum(-1), 0.0)
    else:
        hot, divisor = (1 - smoothing) * target + smoothing / classes, rows.shape[0]
        each = -(torch.log_softmax(rows, -1) * hot * weight).sum(-1)
    result = each.sum() / divisor if word == "mean" else reduce(each, word)
    assert torch.allclose(result, known, rtol=1e-12, equal_nan=True)
    return result.reshape(x.shape[:-1]) if word == "none" else result


for word in words:
    for ignored, smoothing in ((-100, 0.0), (-100, 0.2), (1, 0.0), (1, 0.3)):
        options = {"ignore_index": ignored, "label_smoothing": smoothing, "reduction": word}

        def loss(x, q, w=None):
            return cross_entropy(x, q, w, ignored, smoothing)
        case("cross_entropy_with", loss, real(3, 5), index(3, below=5), **options)
        case("cross_entropy_with", loss, real(2, 4, 3, low=-50.0, high=50.0), index(2, 4, below=3),
             real(3, low=0.1), **options)
        case("cross_entropy_with", loss, real(2, 3), torch.tensor([ignored, ignored]), **options)
        if ignored < 0:
            case("cross_entropy_with", loss, real(3, 5), torch.softmax(real(3, 5), -1), **options)
            case("cross_entropy_with", loss, real(2, 3, 4), torch.softmax(real(2, 3, 4), -1), real(4), **options)

seed("ctc_loss")


def ctc_loss(x, target, inputs, labels, blank=0, zero_infinity=False):
    """The recursion of Graves et al., 2006, in plain logarithms; checked against PyTorch's value, and its
    gradient through log_softmax."""
    losses = []
    for b in range(x.shape[1]):
        e = [blank]
        for label in target[b, :labels[b]].tolist():
            e += [label, blank]
        alpha = [None] * len(e)  # None: not reached
        for t in range(inputs[b]):
            before = alpha
            alpha = []
            for s in range(len(e)):
                ways = [before[s], before[s - 1] if s > 0 else None]
                if s > 1 and e[s] != blank and e[s] != e[s - 2]:
                    ways.append(before[s - 2])
                if t == 0:
                    ways = [torch.tensor(0.0)] if s < 2 else []
                ways = [way for way in ways if way is not None]
                alpha.append(torch.stack(ways).logsumexp(0) + x[t, b, e[s]] if ways else None)
        if inputs[b] == 0 and len(e) == 1:
            alpha = [torch.tensor(0.0)]
        found = [way for way in alpha[-2:] if way is not None]
        impossible = torch.tensor(0.0 if zero_infinity else torch.inf)
        losses.append(-torch.stack(found).logsumexp(0) if found else impossible)
    each = torch.stack(losses)
    return (each / labels.clamp(min=1)).mean() if word == "mean" else reduce(each, word)


def agrees_with_pytorch(x, *rest, blank, zero_infinity):
    grads = []
    for function in (ctc_loss, F.ctc_loss):
        logits = x.detach().clone().requires_grad_(True)
        more = {} if function is ctc_loss else {"reduction": word}
        y = function(torch.log_softmax(logits, -1), *rest, blank=blank, zero_infinity=zero_infinity, **more)
        grads.append((y.detach(), torch.autograd.grad(y.sum(), logits)[0]))
    for ours, theirs in zip(*grads):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12), (ours, theirs)


def ctc_case(x, target, inputs, labels, blank, zero_infinity=0, compare=True):
    rest = (target, torch.tensor(inputs), torch.tensor(labels))
    if compare:
        agrees_with_pytorch(x, *rest, blank=blank, zero_infinity=bool(zero_infinity))
    case("ctc_loss", lambda x, *rest: ctc_loss(x, *rest, blank, bool(zero_infinity)), torch.log_softmax(x, -1), *rest,
         blank=blank, zero_infinity=zero_infinity, reduction=word)


for word in words:
    ctc_case(real(5, 2, 4), torch.tensor([[1, 2], [3, 3]]), [5, 5], [2, 2], 0)
    ctc_case(real(6, 3, 3), torch.tensor([[0, 1, 0], [1, 1, -1], [9, 9, 9]]), [6, 4, 5], [3, 2, 0], 2)
    ctc_case(real(3, 2, 3, low=-60.0, high=60.0), torch.tensor([[1], [2]]), [3, 1], [1, 1], 0)
    # a repetition that does not fit, no frames for a label, neither frames nor labels
    ctc_case(real(4, 3, 3), torch.tensor([[1, 1], [1, 2], [1, 2]]), [2, 0, 4], [2, 1, 2], 0, 1, compare=False)
    ctc_case(real(4, 2, 3), torch.tensor([[1, 1, 1], [1, 2, 1]]), [4, 0], [3, 0], 0, compare=False)
