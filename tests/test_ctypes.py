"""The library from another language, with nothing but its foreign function interface (here: ctypes).

    python3 test_ctypes.py libtapeloop.so

Ops are enumerated and applied by name, constants are JSON; numbers are checked against plain Python.
Two structs are all that is mirrored: tl_var and tl_op_info."""

import ctypes
import json
import math
import random
import sys
import unittest
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_uint32, c_void_p

F32, F64, I64, U8 = range(4)
OK, ERR_SHAPE, ERR_ARGUMENT = 0, 2, 5
MAX_DIMS = 8


class Var(ctypes.Structure):
    _fields_ = [("tape", c_void_p), ("id", c_uint32), ("generation", c_uint32)]


class OpInfo(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("equation", c_char_p), ("attributes", c_char_p),
                ("least", c_int), ("most", c_int), ("differentiable", c_int)]


def load(path):
    lib = ctypes.CDLL(path)
    shape = POINTER(c_int64)
    prototypes = {
        "tl_op_count": (c_int,),
        "tl_op_describe": (c_int, c_int, POINTER(OpInfo)),
        "tl_tape_new": (c_void_p, c_void_p),
        "tl_tape_free": (None, c_void_p),
        "tl_tape_reset": (None, c_void_p),
        "tl_tape_status": (c_int, c_void_p),
        "tl_tape_message": (c_char_p, c_void_p),
        "tl_tensor_from": (c_void_p, c_int, c_int, shape, c_void_p, c_void_p),
        "tl_tensor_release": (None, c_void_p),
        "tl_constant_from": (Var, c_void_p, c_int, c_int, shape, c_void_p),
        "tl_leaf": (Var, c_void_p, c_void_p, c_void_p),
        "tl_apply_named": (Var, c_void_p, c_char_p, c_int, POINTER(Var), c_char_p),
        "tl_backward": (c_int, c_void_p, Var),
        "tl_gradient": (Var, c_void_p, Var),
        "tl_item": (c_double, c_void_p, Var),
        "tl_var_shape": (c_int, c_void_p, Var, shape, POINTER(c_int)),
        "tl_var_read": (c_int, c_void_p, Var, c_int64, POINTER(c_double)),
    }
    for name, (result, *arguments) in prototypes.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Tape:
    """What a binding would look like, in thirty lines."""

    def __init__(self):
        self.handle = lib.tl_tape_new(None)
        self.tensors = []

    def close(self):
        lib.tl_tape_free(self.handle)
        for tensor in self.tensors:
            lib.tl_tensor_release(tensor)

    @staticmethod
    def _arrays(values, shape, kind):
        return (c_int64 * len(shape))(*shape), (kind * len(values))(*values)

    def constant(self, values, shape, dtype=F64):
        kind = {F32: ctypes.c_float, F64: c_double, I64: c_int64, U8: ctypes.c_uint8}[dtype]
        sizes, numbers = self._arrays(values, shape, kind)
        return lib.tl_constant_from(self.handle, dtype, len(shape), sizes, numbers)

    def leaf(self, values, shape):
        sizes, numbers = self._arrays(values, shape, c_double)
        self.tensors.append(lib.tl_tensor_from(F64, len(shape), sizes, numbers, None))
        return lib.tl_leaf(self.handle, self.tensors[-1], None)

    def apply(self, name, *operands, **constants):
        given = (Var * len(operands))(*operands)
        return lib.tl_apply_named(self.handle, name.encode(), len(operands), given,
                                  json.dumps(constants).encode())

    def shape(self, v):
        sizes, dtype = (c_int64 * MAX_DIMS)(), c_int()
        count = lib.tl_var_shape(self.handle, v, sizes, ctypes.byref(dtype))
        return None if count < 0 else list(sizes[:count])

    def read(self, v):
        numbers = (c_double * math.prod(self.shape(v)))()
        assert lib.tl_var_read(self.handle, v, len(numbers), numbers) == OK
        return list(numbers)

    def gradient(self, v):
        return self.read(lib.tl_gradient(self.handle, v))

    def message(self):
        return lib.tl_tape_message(self.handle).decode()


class Ctypes(unittest.TestCase):
    def setUp(self):
        self.t = Tape()

    def tearDown(self):
        self.t.close()

    def near(self, actual, expected, places=12):
        self.assertEqual(len(actual), len(expected))
        for a, b in zip(actual, expected):
            self.assertAlmostEqual(a, b, places)

    def test_ops_are_enumerated(self):
        info, ops = OpInfo(), {}
        for k in range(lib.tl_op_count()):
            self.assertEqual(lib.tl_op_describe(k, info), OK)
            ops[info.name.decode()] = (info.attributes.decode(), info.least, info.most,
                                       info.differentiable)
            self.assertTrue(info.equation)
        self.assertEqual(len(ops), lib.tl_op_count())
        self.assertEqual(ops["tanh"], ("", 1, 1, 1))
        self.assertEqual(ops["select"], ("dim=i0 index=i1", 1, 1, 1))
        self.assertNotEqual(lib.tl_op_describe(lib.tl_op_count(), info), OK)

    def test_a_recurrent_network(self):
        """h = tanh(w h + u x), three steps, by the tape and by the chain rule in Python."""
        t, w, u, xs = self.t, 0.8, -0.5, [0.3, -1.2, 0.7]
        w_leaf, u_leaf = t.leaf([w], [1]), t.leaf([u], [1])
        h, hs = t.constant([0.1], [1]), [0.1]
        for x in xs:
            a = t.apply("add", t.apply("mul", w_leaf, h), t.apply("mul", u_leaf, t.constant([x], [1])))
            h = t.apply("tanh", a)
            hs.append(math.tanh(w * hs[-1] + u * x))
        loss = t.apply("sum", t.apply("square", h), axes=[0], keepdim=False)
        self.assertAlmostEqual(lib.tl_item(t.handle, loss), hs[-1] ** 2, 15)
        self.assertEqual(t.shape(loss), [])
        self.assertEqual(lib.tl_backward(t.handle, loss), OK)
        g, dw, du = 2 * hs[-1], 0.0, 0.0
        for k in reversed(range(3)):
            g *= 1 - hs[k + 1] ** 2
            dw, du = dw + g * hs[k], du + g * xs[k]
            g *= w
        self.near(t.gradient(w_leaf), [dw])
        self.near(t.gradient(u_leaf), [du])

    def test_matrices(self):
        t, d = self.t, random.Random(1)
        a, b = [d.uniform(-1, 1) for _ in range(6)], [d.uniform(-1, 1) for _ in range(12)]
        va, vb = t.leaf(a, [2, 3]), t.leaf(b, [3, 4])
        y = t.apply("matmul", va, vb)
        self.assertEqual(t.shape(y), [2, 4])
        self.near(t.read(y), [sum(a[3 * i + k] * b[4 * k + j] for k in range(3))
                              for i in range(2) for j in range(4)])
        column = t.apply("permute", t.apply("slice", y, dim=1, start=1, stop=4, step=2), order=[1, 0])
        self.assertEqual(t.shape(column), [2, 2])
        loss = t.apply("sum", column, axes=[0, 1], keepdim=False)
        self.assertEqual(lib.tl_backward(t.handle, loss), OK)
        self.near(t.gradient(va), [b[4 * k + 1] + b[4 * k + 3] for _ in range(2) for k in range(3)])
        self.near(t.gradient(vb), [(a[k] + a[3 + k]) * (j % 2) for k in range(3) for j in range(4)])

    def test_indices(self):
        t, logits = self.t, [1.0, 2.0, 0.5, -1.0, 0.0, 3.0]
        x, target = t.leaf(logits, [2, 3]), t.constant([1, 0], [2], I64)
        loss = t.apply("cross_entropy", x, target, reduction="sum")
        exps = [[math.exp(v) for v in logits[r:r + 3]] for r in (0, 3)]
        p = [[e / sum(row) for e in row] for row in exps]
        self.assertAlmostEqual(lib.tl_item(t.handle, loss), -math.log(p[0][1]) - math.log(p[1][0]), 12)
        self.assertEqual(lib.tl_backward(t.handle, loss), OK)
        self.near(t.gradient(x), [p[0][0], p[0][1] - 1, p[0][2], p[1][0] - 1, p[1][1], p[1][2]])

    def test_errors_are_words(self):
        t = self.t
        bad = t.apply("matmul", t.leaf([1, 2], [1, 2]), t.leaf([1, 2, 3], [3, 1]))
        self.assertEqual(lib.tl_tape_status(t.handle), ERR_SHAPE)
        self.assertEqual(t.message(), "matmul: inner sizes differ: [1,2] x [3,1]")
        self.assertIsNone(t.shape(bad))
        lib.tl_tape_reset(t.handle)
        t.apply("select", t.constant([1, 2], [2]), dim=0)
        self.assertEqual(lib.tl_tape_status(t.handle), ERR_ARGUMENT)
        self.assertEqual(t.message(), 'select: constant "index" is missing: an integer')
        lib.tl_tape_reset(t.handle)
        self.assertEqual(t.read(t.constant([1, 0], [2], U8)), [1, 0])
        self.assertEqual(t.read(t.constant([], [0, 2], F32)), [])


lib = load(sys.argv.pop(1))
unittest.main()
