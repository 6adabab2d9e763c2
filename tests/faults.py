#!/usr/bin/env python3
"""Plants faults in every derivative rule, one at a time, and reports which tests notice.

    python3 tests/faults.py                     all of it: some minutes, one compilation
    python3 tests/faults.py --op lerp --op sum  the rules of these ops only
    python3 tests/faults.py --list              the faults, none of them tried

It wants what the tests want (cmake, a C compiler, the libraries) and Python's standard library, and is
no part of ctest: it takes minutes. Exit status 1: a fault that no test notices.

A rule is a function that an op names as its partial, vjp, backward or forward_add, the forward of an op
called *_grad, a kernel called *_grad, the functions that only such functions use, and the places
in backward.c and forward_mode.c that add terms (IN_THE_WALK, below). They are found in the sources;
a new op needs no entry here.

A fault is one small change of a rule's text: a sign flipped, a term or a factor dropped, a constant
changed, operands exchanged, `=` for `+=`, an axis or an order that is not the right one. Each is a copy of
its function in a copy of the tree, chosen at run time by the environment variable TL_FAULT:

    static tl_var sin_partial(const tl_call *c, int k, tl_var g)
    {
        switch (tl_fault) {
        case 17: return sin_partial_17(c, k, g);
        default: return sin_partial_0(c, k, g);
        }
    }

so that everything is compiled once: some 1300 faults in 130 rules take two minutes on two cores. The
tests are run until one fails: test_golden and test_ops with TL_TEST_OPS, which restricts them to the ops
concerned, then everything. A test counts only if it passes without the fault. Changes that change no
result are in EQUIVALENT, each with its reason; left out by construction are: the sign of what is squared,
operands of symmetric functions exchanged, the 1 that tl_masked_fill puts where a quotient is not used
(that the mask is dropped is tried).
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT = 60  # seconds; a test that a fault keeps from ending has noticed it

# Faults that cannot be noticed: (function, the change as --list prints it) and why.
# Both are regular expressions that must match from beginning to end.
EQUIVALENT = [
    (r"lstm_gates_vjp_fused", r"off by one: 5 \* n -> .* \+ 1", "tl_slice clips to the size, which is 5 n"),
    (r"gru_gates_vjp_fused", r"off by one: 7 \* n -> .* \+ 1", "tl_slice clips to the size, which is 7 n"),
    (r"gelu_tanh_partial", r"constant: -?40 -> .*", "tanh u is 1 or -1 from 20 on as well"),
    (r"zeros_of|gather_vjp", r"sign: (tl_expand\(t, tl_full|zeros_of).*", "zeros of either sign, to be added to"),
    (r"column_vjp", r"exchange operands: tl_sum_outer.*", "[K,1] or [1,K]: reshaped to [K]"),
    (r"logsumexp_vjp", r"constant: (-?most|c->y.dtype == TL_F32.*) -> .*", "what stands for an infinite y cancels"),
    (r"linear_recurrence_vjp", r".*attr->i\[0\] -> (.*\+ 1|attr->i\[1\])", "the steps of a block: a matter of speed"),
    (r"linear_recurrence_vjp", r"exchange operands: c->x\[0\] -> .*", "a and b have one shape"),
    (r"select_vjp", r"off by one: 1 -> \(1\) \+ 1", "the step of a slice of one element is of no account"),
]

# Where the walks add up terms: file, function, text, text of the fault, what it is.
IN_THE_WALK = [
    ("autograd/backward.c", "accumulate", "tl_var both = tl_add(t, tl_var_of(t, id_of(x->gradient)), dx);",
     "tl_var both = dx;", "drop what was there"),
    ("autograd/backward.c", "accumulate", "tl_var both = tl_add(t, tl_var_of(t, id_of(x->gradient)), dx);",
     "tl_var both = tl_var_of(t, id_of(x->gradient));", "drop the new term"),
    ("autograd/backward.c", "add_in_place", "tl_add_into(tl_node_array(term), tl_node_array(sum));",
     "tl_copy(tl_node_array(term), tl_node_array(sum));", "= for +="),
    ("autograd/backward.c", "add_in_place", "tl_add_into(tl_node_array(term), tl_node_array(sum));",
     ";", "drop the new term"),
    ("autograd/backward.c", "add_in_place", "call.op->forward_add(&call);",
     "call.op->forward(&call);", "= for +="),
    ("autograd/backward.c", "keep_gradient",
     "tl_var sum = tl_add(t, tl_var_of(t, id_of(n->kept)), tl_var_of(t, id_of(handle)));",
     "tl_var sum = tl_var_of(t, id_of(handle));", "drop what was there"),
    ("autograd/backward.c", "fit", "return tl_sum_to(t, dx, to->ndim, to->shape);", "return dx;",
     "do not sum over what was broadcast"),
    ("autograd/backward.c", "push_elementwise", "n->op->partial(&c, k, g)", "n->op->partial(&c, 0, g)",
     "always operand 0"),
    ("autograd/backward.c", "push_terms", "deliver(t, n, k, c->in[k].id, dx[k]);",
     "deliver(t, n, k, c->in[0].id, dx[k]);",
     "always operand 0"),
    ("autograd/forward_mode.c", "add_term", "tl_add(t, sum, term)", "term", "drop what was there"),
    ("autograd/forward_mode.c", "add_term", "tl_add(t, sum, term)", "sum", "drop the new term"),
    ("autograd/forward_mode.c", "add_term", "tl_add(t, sum, term)", "tl_sub(t, sum, term)", "- for +"),
    ("autograd/forward_mode.c", "along_elementwise", "c->op->partial(c, k, u)",
     "c->op->partial(c, 0, u)", "always operand 0"),
    ("autograd/forward_mode.c", "along_general", "tl_mul(t, u, dx[k])", "dx[k]", "drop the tangent"),
    ("tensor/map.c", "tl_add_into", "tl_array operands[2] = {y, x};", "tl_array operands[2] = {x, x};",
     "drop what was there"),
]

# ---- C, as much of it as is needed ---------------------------------------------------------------


def blank_comments(text):
    """The same text with comments and strings blanked, so that places stay the same."""
    def blank(m):
        s = m.group(0)
        if s[0] in "\"'":
            return s[0] + " " * (len(s) - 2) + s[0]
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def closing(text, at):
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
            if depth == 0:
                return i
    raise ValueError("a bracket is not closed: " + text[at:at + 60])


def split(text, begin, end, separator=","):
    """Places [(begin, end)] of the parts of text[begin:end] between separators outside brackets."""
    parts, depth, start = [], 0, begin
    for i in range(begin, end):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
        elif text[i] == separator and depth == 0:
            parts.append((start, i))
            start = i + 1
    parts.append((start, end))
    return [trim(text, a, b) for a, b in parts]


def trim(text, begin, end):
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    return begin, end


def depth_within(text, begin, at, brackets):
    """How many of these brackets are open at `at`."""
    opening, closing_ = brackets
    return text.count(opening, begin, at) - text.count(closing_, begin, at)


class Function:
    """A function's definition. `raw` is its file, `text` the same with comments and strings blanked;
    body: with its braces."""

    def __init__(self, path, raw, text, begin, brace, end):
        self.path, self.raw, self.text, self.begin, self.brace, self.end = path, raw, text, begin, brace, end
        head = text[begin:brace].strip()
        self.head = head
        m = re.match(r"KERNEL\((\w+)\)$", head)
        if m:
            self.name, self.call = m.group(1), "R({})"
            self.parameters = ["n", "x", "y", "scalar"]
            self.returns = "void"
            return
        m = re.search(r"(?:R\((\w+)\)|\b(\w+))\(", head)
        self.name, self.call = (m.group(1), "R({})") if m.group(1) else (m.group(2), "{}")
        opened = head.index("(", m.end() - 1)
        inside = [head[a:b] for a, b in split(head, opened + 1, closing(head, opened))]
        self.types = [re.sub(r"\s*\w+(\[\w*\])?$", "", p) for p in inside]
        named = r"\(\*(\w+)\)\(.*\)$|(\w+)(?:\[\w*\])*$"
        self.parameters = ["".join(re.search(named, p, flags=re.S).groups("")) for p in inside if p != "void"]
        self.returns = re.sub(r"\b(TL_CLONES|TL_API|static|inline|const)\b", "", head[:m.start()]).strip()

    @property
    def is_static(self):
        return "static" in self.head or "KERNEL" in self.head

    @property
    def body(self):
        return self.text[self.brace:self.end]

    def line(self, at):
        return self.text.count("\n", 0, at) + 1

    def tape(self):
        """How this function says `the tape`; None: it has none."""
        m = re.search(r"tl_call \*(\w+)", self.head)
        if m:
            return m.group(1) + "->tape"
        m = re.search(r"tl_tape \*(\w+)", self.head)
        return m.group(1) if m else None

    def renamed(self, suffix, body):
        if "KERNEL(" in self.head:
            head = f"KERNEL({self.name}{suffix})"
        else:
            head = re.sub(r"\b" + self.name + r"\b", self.name + suffix, self.head, count=1)
        if self.is_static or "KERNEL(" in head:
            return head + "\n" + body + "\n"
        return "static " + head.replace("TL_API ", "") + "\n" + body + "\n"


def functions_of(path):
    raw = path.read_text()
    text = blank_comments(raw)
    found = []
    for m in re.finditer(r"^\{$", text, flags=re.M):
        lines_end = m.start()
        begin = lines_end
        while True:  # the head: the lines above, up to an empty one or a directive
            start = text.rfind("\n", 0, begin - 1) + 1
            line = text[start:begin].strip()
            if not line or line.startswith("#") or line.endswith((";", "}", "\\")) or start == begin:
                break
            begin = start
            if start == 0:
                break
        if "(" in text[begin:lines_end]:
            found.append(Function(path, raw, text, begin, m.start(), closing(text, m.start()) + 1))
    return found


class Call:
    def __init__(self, name, begin, end, args):
        self.name, self.begin, self.end, self.args = name, begin, end, args
        self.parent = None
        self.place = 0  # among the parent's arguments


class Prototypes:
    """Types of the parameters of functions that return a variable."""

    def __init__(self, root):
        self.types = {}
        for header in ("autograd/ops.h", "autograd/tape.h", "autograd/op.h"):
            text = blank_comments((root / header).read_text())
            for m in re.finditer(r"\btl_var (\w+)\(", text):
                end = closing(text, m.end() - 1)
                parts = [text[a:b] for a, b in split(text, m.end(), end)]
                self.types[m.group(1)] = [re.sub(r"\s*\b\w+$", "", p) for p in parts]

    def of(self, name, local):
        return local.get(name) or self.types.get(name)


def calls_of(f, prototypes, local):
    """The calls of functions that return a variable, outermost first, each with its parent."""
    calls = []
    for m in re.finditer(r"\b(\w+)\(", f.text[f.brace:f.end]):
        name = m.group(1)
        if not prototypes.of(name, local):
            continue
        begin, opened = f.brace + m.start(), f.brace + m.end() - 1
        end = closing(f.text, opened)
        calls.append(Call(name, begin, end + 1, split(f.text, opened + 1, end)))
    for c in calls:
        inside = [p for p in calls if p.begin < c.begin and c.end < p.end]
        if inside:
            c.parent = max(inside, key=lambda p: p.begin)
            c.place = [k for k, (a, b) in enumerate(c.parent.args) if a <= c.begin and c.end <= b][0]
    return calls


# ---- the changes -----------------------------------------------------------------------------------

EVEN = {"tl_square", "tl_abs", "tl_cos", "tl_cosh", "tl_hypot", "tl_isfinite", "tl_isnan", "tl_isinf"}
COMMUTATIVE = {"tl_add", "tl_mul", "tl_hypot", "tl_maximum", "tl_minimum", "tl_eq", "tl_ne",
               "tl_logical_and", "tl_logical_or", "tl_logical_xor"}
# A sign flipped inside is a sign flipped outside.
PASSES_SIGNS = {"tl_mul", "tl_div", "tl_neg", "tl_sum", "tl_sum_axes", "tl_mean", "tl_mean_axes", "tl_sum_to",
                "tl_reshape", "tl_permute", "tl_transpose", "tl_expand", "tl_slice", "tl_unslice",
                "tl_select", "tl_contiguous", "tl_matmul", "tl_linear_op", "tl_linear_transposed",
                "tl_sum_outer", "tl_embedding_op", "tl_scatter_rows", "tl_sin", "tl_tanh", "tl_erf",
                "tl_atan", "tl_sinh", "tl_tan", "tl_sign", "tl_detach", "fit", "sum_last", "tl_reciprocal"}


class Edits:
    """All faults of one function: (begin, end, new text, what it is)."""

    def __init__(self, f, prototypes, local, masks, operands):
        self.f, self.prototypes, self.local = f, prototypes, local
        self.masks, self.operands = masks, operands
        self.found, self.seen = [], set()

    def add(self, begin, end, new, what):
        whole = self.f.text[self.f.brace:begin] + new + self.f.text[end:self.f.end]
        key = re.sub(r"\s+", "", whole)
        if key in self.seen or key == re.sub(r"\s+", "", self.f.body):
            return
        self.seen.add(key)
        self.found.append((begin, end, new, what))

    def source(self, begin, end):
        return self.f.text[begin:end]

    # -- rules made of tape ops --

    def of_calls(self):
        tape = self.f.tape()
        for c in calls_of(self.f, self.prototypes, self.local):
            types = self.prototypes.of(c.name, self.local)
            text = self.source(c.begin, c.end)
            args = [self.source(a, b) for a, b in c.args]
            if len(args) != len(types):
                continue
            variables = [k for k, t in enumerate(types) if t == "tl_var"]
            put = lambda new, what: self.add(c.begin, c.end, new, what)
            self.sign(c, text, tape, put)
            zero = lambda x: f"tl_affine({tape}, {x}, 0, 0)"
            one = lambda x: f"tl_affine({tape}, {x}, 0, 1)"
            if c.name in ("tl_add", "tl_sub"):
                other = "tl_sub" if c.name == "tl_add" else "tl_add"
                t, a, b = args
                put(f"{other}({t}, {a}, {b})", "sign")
                put(f"{c.name}({t}, {zero(a)}, {b})", "drop first term")
                put(f"{c.name}({t}, {a}, {zero(b)})", "drop second term")
            elif c.name == "tl_mul":
                t, a, b = args
                put(f"tl_mul({t}, {one(a)}, {b})", "drop first factor")
                put(f"tl_mul({t}, {a}, {one(b)})", "drop second factor")
            elif c.name == "tl_div":
                t, a, b = args
                put(f"tl_div({t}, {one(a)}, {b})", "drop numerator")
                put(f"tl_div({t}, {a}, {one(b)})", "drop denominator")
                put(f"tl_mul({t}, {a}, {b})", "times for by")
            elif c.name == "tl_masked_fill":
                put(args[1], "drop the mask")
                if args[3] == "1":  # a guard: it keeps zeros out of a divisor where the quotient is not used
                    continue
            elif len(variables) == 1 and len(args) == 2 and c.name not in ("tl_contiguous", "tl_detach"):
                put(args[variables[0]], "drop the function")
            elif len(variables) >= 2 and c.name not in COMMUTATIVE:
                a, b = variables[-2:]
                if "TL_NONE" in (args[a], args[b]) and len(variables) > 2:
                    a, b = variables[:2]
                if "TL_NONE" not in (args[a], args[b]):
                    changed = list(args)
                    changed[a], changed[b] = args[b], args[a]
                    put(f"{c.name}({', '.join(changed)})", "exchange operands")
            if c.name != "tl_apply":  # its count goes with an array's length
                self.numbers(c, args, types)

    def sign(self, c, text, tape, put):
        if c.name == "tl_neg":
            put(self.source(*c.args[1]), "sign")
            return
        if c.name in self.masks or re.search(r"arg|mask|index|_like", c.name):
            return
        if c.parent and (c.parent.name in PASSES_SIGNS | EVEN or c.parent.name in ("tl_add", "tl_sub")):
            return  # of add and sub: below, by exchanging the two
        if c.parent and c.parent.name == "tl_affine" and self.source(*c.parent.args[3]) == "0":
            return
        put(f"tl_neg({tape}, {text})", "sign")

    def numbers(self, c, args, types):
        for (a, b), text, kind in zip(c.args, args, types):
            if kind == "double":
                if re.fullmatch(r"0(\.0*)?", text):
                    self.add(a, b, "0.25", "constant")
                else:
                    self.add(a, b, f"-({text})", "sign of a constant")
                    if "INFINITY" not in text:
                        self.add(a, b, f"0.5 * ({text})", "constant")
            elif kind == "bool":
                self.add(a, b, f"!({text})", "choice")
            elif kind in ("int", "int64_t") and not text.endswith("ndim"):
                self.add(a, b, f"({text}) + 1", "off by one")
                if text != "0":
                    self.add(a, b, f"({text}) - 1", "off by one")

    def of_statements(self):
        """Assignments and returns of variables."""
        tape, body = self.f.tape(), self.f.brace
        for m in re.finditer(r"\b(return|dx\[[^\]]+\] =)\s+([^;]+);", self.f.body):
            a, b = body + m.start(2), body + m.end(2)
            text = self.source(a, b)
            if m.group(1) == "return" and self.f.returns != "tl_var":
                continue
            if text == "TL_NONE":
                if "g" in self.f.parameters:
                    self.add(a, b, "g", "a derivative that is none")
                continue
            if not text.startswith("(void)"):
                self.add(a, b, "TL_NONE", "drop")
            if "TL_NONE" not in re.sub(r"\([^()]*\)", "", text) and not re.fullmatch(r"\w+\(.*\)", text):
                self.add(a, b, f"tl_neg({tape}, {text})", "sign")
        for m in re.finditer(r"((\w+)(\[[^=;]*\])?(?:\.\w+)* ([-+*/]?=) ([^;{}]+);)", self.f.body):
            before = self.f.body[:m.start()].rstrip()
            if m.group(2) in ("dx", "return") or not re.search(r"[;{})]$|\belse$", before):
                continue
            a, b = body + m.start(1), body + m.end(1)
            self.add(a, b, ";", "drop")
            inverse = re.fullmatch(r"(\w+)\[(.+\[.+\])\] = (\w+);", m.group(1))
            if inverse:
                name, at, value = inverse.groups()
                self.add(a, b, f"{name}[{value}] = (int)({at});", "order for its inverse")

    def of_choices(self):
        """Which operand, which constant, which axis."""
        f, body = self.f, self.f.brace
        for m in re.finditer(r"\b(\w+)->(in|x)\[([^\]]+)\](\.dtype)?", f.body):
            if self.operands < 2 or m.group(4):
                continue
            if m.group(2) == "x" and re.match(r"\.layout->(ndim|dtype)", f.body[m.end():]):
                continue
            a, b = body + m.start(), body + m.end(3) + 1
            name, which, index = m.group(1, 2, 3)
            self.add(a, b, f"{name}->{which}[({index}) == 0 ? 1 : 0]", "exchange operands")
        for m in re.finditer(r"\b(\w+)->out\b", f.body):
            self.add(body + m.start(), body + m.end(), f"{m.group(1)}->in[0]", "x for y")
        for m in re.finditer(r"\bk == \d\b", f.body):
            self.add(body + m.start(), body + m.end(), f"!({m.group(0)})", "which operand")
        for m in re.finditer(r"\battr->f\[(\d)\]", f.body):
            other = 1 - int(m.group(1))
            self.add(body + m.start(), body + m.end(), f"attr->f[{other}]", "another constant")
        for m in re.finditer(r"\battr->i\[(\d)\]", f.body):
            other = int(m.group(1)) + 1
            self.add(body + m.start(), body + m.end(), f"attr->i[{other}]", "another constant")
        for m in re.finditer(r"\b(\w+->)*flag == \w+", f.body):
            self.add(body + m.start(), body + m.end(), f"!({m.group(0)})", "choice")
        for m in re.finditer(r"\b(double|bool|int|int64_t) (\w+ = [^;]+);", f.body):
            if re.search(r"for \($", f.body[:m.start()]):
                continue
            for a, b in split(f.text, body + m.start(2), body + m.end(2)):
                d = re.match(r"(\w+ = )(.+)$", self.source(a, b), flags=re.S)
                if not d or d.group(2).startswith("{"):
                    continue
                at, value = a + d.end(1), d.group(2)
                if m.group(1) == "double":
                    self.add(at, b, f"-({value})", "sign of a constant")
                    self.add(at, b, f"0.5 * ({value})", "constant")
                elif m.group(1) == "bool":
                    self.add(at, b, f"!({value})", "choice")
                else:
                    self.add(at, b, f"({value}) + 1", "off by one")

    # -- derivations on numbers --

    def of_arithmetic(self):
        """Loops over numbers: operators, constants and assignments outside of indices."""
        f, work = self.f, self.f.body
        for m in re.finditer(r"\b(for|if|while|switch) (?=\()|\belse\b|TL_SIMD\w*(\(\w*\))?", f.body):
            end = closing(work, m.end()) + 1 if m.group(1) else m.end()
            work = work[:m.start()] + " " * (end - m.start()) + work[end:]  # heads: what follows counts
        for m in re.finditer(r"[^;{}]+;", work):
            a, b = trim(work, m.start(), m.end())
            if not re.match(r"(int64_t|int|size_t|char|bool|tl_\w+|const|return|case|enum|lstm_rows)\b|\(void\)", work[a:b]):
                self.arithmetic_statement(f.brace + a, f.brace + b)

    def arithmetic_statement(self, begin, end):
        f = self.f
        m = re.match(r"[^=;]*? ([-+*/]?=) ", self.source(begin, end))
        if m:
            a, b = begin + m.start(1), begin + m.end(1)
            sign = m.group(1)
            if sign == "+=":
                self.add(a, b, "=", "= for +=")
                self.add(a, b, "-=", "sign")
            elif sign == "-=":
                self.add(a, b, "+=", "sign")
        for m in re.finditer(r" ([-+*/]) |(?<![\w.\[])(\d+(?:\.\d+)?)(?![\w.\]])|([<>]=?)(?= )", self.source(begin, end)):
            at = begin + m.start()
            if depth_within(f.text, begin, at, "[]") or self.is_address(begin, at):
                continue
            if m.group(1):
                a, b = begin + m.start(1), begin + m.end(1)
                self.add(a, b, {"+": "-", "-": "+", "*": "/", "/": "*"}[m.group(1)], "operator")
            elif m.group(2):
                a, b = begin + m.start(2), begin + m.end(2)
                value = float(m.group(2))
                self.add(a, b, "1" if value == 0 else repr(value / 2), "constant")
            else:
                a, b = begin + m.start(3), begin + m.end(3)
                self.add(a, b, ">" if m.group(3)[0] == "<" else "<", "comparison")
                self.add(a, b, m.group(3)[0] if m.group(3)[1:] else m.group(3) + "=", "at a tie")

    def is_address(self, begin, at):
        """Within an argument that reckons with bytes?"""
        start = max(self.f.text.rfind(c, begin, at) for c in ",;={(")
        rest = re.match(r"[^,;]*", self.f.text[at:]).group(0)
        return bool(re.search(r"char \*|bytes|data\b|stride|ndim|shape\b", self.f.text[max(start, begin):at] + rest))

    def all(self):
        f = self.f
        rule = f.tape() and (f.returns == "tl_var" or "tl_var *dx" in f.head)
        if rule:
            self.of_calls()
            self.of_statements()
            self.of_choices()
        else:
            self.of_arithmetic()
        return self.found


# ---- which functions are rules --------------------------------------------------------------------


class Op:
    def __init__(self, name, struct, text):
        self.name, self.struct = name, struct
        self.fields = dict(re.findall(r"\.(\w+)\s*=\s*([^,}]+)", text))
        self.text = text

    def operands(self):
        most = self.fields.get("most", "1").strip()
        return 9 if most.startswith("-") or not most.isdigit() else int(most)


def ops_of(path):
    text, blanked = path.read_text(), blank_comments(path.read_text())
    found = []
    for m in re.finditer(r"\btl_op (\w+) = \{", blanked):
        end = closing(blanked, m.end() - 1)
        name = re.search(r'\.name = "(\w+)"', text[m.start():end])
        found.append(Op(name.group(1) if name else m.group(1), m.group(1), blanked[m.start():end + 1]))
    return found


class Rule:
    def __init__(self, f, ops, operands, plus=False):
        self.f, self.ops, self.operands, self.plus = f, ops, operands, plus
        self.faults = []


RULE_FIELDS = ("partial", "vjp", "backward", "forward_add")


def words(text):
    return set(re.findall(r"\b[A-Za-z_]\w*\b", text))


def rules_of_file(path):
    """The rules of an op_*.c, each with the ops that use it."""
    functions = {f.name: f for f in functions_of(path)}
    ops = ops_of(path)
    uses = {name: words(f.body) for name, f in functions.items()}
    users = {}  # name -> ops
    roots, others = set(), set()
    for op in ops:
        for field, value in op.fields.items():
            value = value.strip()
            if value not in functions:
                continue
            derivative = field in RULE_FIELDS or (field == "forward" and op.name.endswith("_grad"))
            (roots if derivative else others).add(value)
            if derivative:
                users.setdefault(value, set()).add(op.name)
    for name, f in functions.items():
        if re.search(r"_partial$|_vjp\w*$", name):
            roots.add(name)
            users.setdefault(name, set())
        elif not f.is_static:
            others.add(name)

    def reach(start, stop):
        reached, todo = set(), list(start)
        while todo:
            name = todo.pop()
            for used in uses[name] & set(functions):
                if used not in reached and used not in stop:
                    reached.add(used)
                    todo.append(used)
        return reached

    elsewhere = others - roots | reach(others - roots, roots)
    own = roots | (reach(roots, set()) - elsewhere)
    structs = {op.struct: op for op in ops}
    for _ in range(8):  # a helper's ops are those of its users, also through an op of its own
        for name in own:
            for used in uses[name]:
                if used in own and used != name:
                    users.setdefault(used, set()).update(users.get(name, set()))
                elif used in structs and not structs[used].struct.startswith("tl_op_"):
                    for value in structs[used].fields.values():
                        if value.strip() in own:
                            users.setdefault(value.strip(), set()).update(users.get(name, set()))
    by_name = {op.name: op for op in ops}
    rules = []
    for name, f in functions.items():
        if name not in own:
            continue
        concerned = users.get(name, set())
        if not concerned:
            stem = re.sub(r"_(partial|vjp\w*)$", "", name)
            concerned = {stem}
        operands = max([by_name[n].operands() for n in concerned if n in by_name] or [2])
        plus = any(op.fields.get("forward_add", "").strip() == name for op in ops)
        rules.append(Rule(f, sorted(concerned), operands, plus))
    return rules


def kernel_rules(root, op_texts):
    """Kernels called *_grad, with the ops whose section names them."""
    rules = []
    for path in sorted(root.glob("tensor/kernels*.inl")):
        for f in functions_of(path):
            if not f.name.endswith("_grad"):
                continue
            concerned = {op for op, text in op_texts.items() if f"tl_kernel_{f.name}" in text or f"tl_{f.name}(" in text}
            rules.append(Rule(f, sorted(concerned or {f.name}), 2))
    return rules


class Fault:
    def __init__(self, rule, line, before, after, what, body):
        self.rule, self.line, self.what, self.body = rule, line, what, body
        self.change = f"{squeeze(before)} -> {squeeze(after)}"
        self.number, self.noticed, self.reason = 0, None, None

    def __str__(self):
        f = self.rule.f
        return f"{self.number}: {f.path.name}:{self.line}: {f.name}: {self.what}: {self.change}"


def squeeze(text):
    text = re.sub(r"\s+", " ", text).strip()
    return text if text else "(nothing)"


def make_faults(root):
    prototypes = Prototypes(root)
    paths = sorted(root.glob("autograd/op_*.c"))
    masks = {"tl_" + op.name for path in paths for op in ops_of(path) if "mask_result" in op.fields}
    rules, texts = [], {}
    for path in paths:
        local = {f.name: f.types for f in functions_of(path) if f.returns == "tl_var" and hasattr(f, "types")}
        functions = {f.name: f for f in functions_of(path)}
        for op in ops_of(path):
            section = op.text + "".join(f.body for n, f in functions.items() if n in words(op.text))
            texts[op.name] = texts.get(op.name, "") + section
        found = rules_of_file(path)
        for rule in found:  # kernels are named in functions further down
            for name in rule.ops:
                texts[name] = texts.get(name, "") + rule.f.body
        for rule in found:
            edits = Edits(rule.f, prototypes, local, masks, rule.operands).all() if not rule.plus else []
            rule.faults = [fault_of(rule, e) for e in edits]
            if rule.plus:
                rule.faults.append(set_for_add(rule))
        rules += found
    for rule in kernel_rules(root, texts):
        rule.faults = [fault_of(rule, e) for e in Edits(rule.f, prototypes, {}, masks, 2).all()]
        rules.append(rule)
    rules += walk_rules(root)
    tried = {r.f.name for r in rules if r.faults}
    for path in paths:
        for op in ops_of(path):
            named = {op.fields[x].strip() for x in RULE_FIELDS if x in op.fields}
            for name in sorted(named - tried):
                body = next((f.body for f in functions_of(path) if f.name == name), "")
                if words(body) & tried:  # only chooses among rules
                    continue
                sys.exit(f"faults.py: {path.name}: no fault was found for {name} of {op.name}")
    number, stale = 0, set(EQUIVALENT)
    for rule in rules:
        for fault in rule.faults:
            number += 1
            fault.number = number
            for function, change, reason in EQUIVALENT:
                if re.fullmatch(function, rule.f.name) and re.fullmatch(change, f"{fault.what}: {fault.change}"):
                    fault.reason = reason
                    stale.discard((function, change, reason))
    for function, change, _ in stale:
        sys.exit(f"faults.py: EQUIVALENT: nothing matches {function}, {change}")
    return [r for r in rules if r.faults]


def fault_of(rule, edit):
    begin, end, new, what = edit
    f = rule.f
    body = f.raw[f.brace:begin] + new + f.raw[end:f.end]
    return Fault(rule, f.line(begin), f.text[begin:end], new, what, body)


def set_for_add(rule):
    """y = op(x) in a function that should say y += op(x)."""
    f = rule.f
    c = f.parameters[0]
    clear = f"memset({c}->y.data, 0, (size_t){c}->y.layout->count * tl_dtype_size({c}->y.dtype));"
    return Fault(rule, f.line(f.brace), "", clear, "= for +=", "{\n    " + clear + "\n" + f.raw[f.brace + 1:f.end])


def walk_rules(root):
    rules = {}
    for file, name, before, after, what in IN_THE_WALK:
        f = next((f for f in functions_of(root / file) if f.name == name), None)
        at = f.text.find(before, f.brace, f.end) if f else -1
        if at < 0:
            sys.exit(f"faults.py: IN_THE_WALK: {file}, {name}: there is no \"{before}\"")
        rule = rules.setdefault((file, name), Rule(f, [], 2))
        rule.faults.append(fault_of(rule, (at, at + len(before), after, what)))
    return list(rules.values())


# ---- the tree with all faults in it -----------------------------------------------------------------


def dispatcher(f, faults):
    suffixes = [f"_fault_{x.number}" for x in faults]
    out = [f.renamed("_fault_0", f.raw[f.brace:f.end])]
    out += [f.renamed(s, x.body) for s, x in zip(suffixes, faults)]
    arguments = ", ".join(f.parameters)
    void = f.returns == "void"

    def go(suffix):
        call = f"{f.call.format(f.name + suffix)}({arguments});"
        return f"{call} return;" if void else f"return {call}"
    cases = "".join(f"    case {x.number}: {go(s)}\n" for s, x in zip(suffixes, faults))
    head = f.head.replace("TL_CLONES ", "")
    if "KERNEL(" in head:
        head = f"static void R({f.name})(int64_t n, const void *const *x, void *y, const double *scalar)"
    out.append(f"{head}\n{{\n    switch (tl_fault) {{\n{cases}    default: {go('_fault_0')}\n    }}\n}}\n")
    return "\n".join(out)


def plant(rules, tree):
    by_path = {}
    for rule in rules:
        by_path.setdefault(rule.f.path, []).append(rule)
    for path, some in by_path.items():
        text = path.read_text()
        for rule in sorted(some, key=lambda r: -r.f.begin):
            f = rule.f
            text = text[:f.begin] + dispatcher(f, [x for x in rule.faults if not x.reason]) + text[f.end:]
        (tree / path.relative_to(ROOT)).write_text("#include <string.h>\nextern int tl_fault;\n" + text)
    (tree / "autograd" / "fault.c").write_text(
        "#include <stdlib.h>\nint tl_fault;\n"
        "__attribute__((constructor)) static void choose(void)\n"
        "{\n    const char *n = getenv(\"TL_FAULT\");\n    tl_fault = n ? atoi(n) : 0;\n}\n")


def build(tree, jobs):
    out = tree / "build"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    subprocess.run(["cmake", "-S", str(tree), "-B", str(out), *ninja, "-DCMAKE_BUILD_TYPE=None",
                    "-DCMAKE_C_FLAGS=-O1 -w", "-DTAPELOOP_EXAMPLES=OFF", "-DTAPELOOP_BENCH=OFF"],
                   check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(["cmake", "--build", str(out), "-j", str(jobs), "--", "-k" + ("0" if ninja else "")],
                          capture_output=True, text=True)
    return out / "tests", made.stdout + made.stderr if made.returncode else ""


def plant_and_build(rules, tree, jobs):
    """Leaves away what is not C: the compiler says where."""
    for _ in range(5):
        plant(rules, tree)
        folder, errors = build(tree, jobs)
        if not errors:
            return folder
        bad = set()
        for name, line in re.findall(r"^(\S+?\.(?:c|inl)):(\d+):\d+: error:", errors, flags=re.M):
            above = pathlib.Path(name).read_text().split("\n")[:int(line)]
            numbers = [n for text in above for n in re.findall(r"^\S.*_fault_(\d+)\(", text)]
            bad.update(int(n) for n in numbers[-1:])
        found = [x for r in rules for x in r.faults if x.number in bad and not x.reason]
        if not found:
            break
        for x in found:
            x.reason = "not C"
            print(f"not C, left away: {x}")
    print(errors[-6000:])
    sys.exit("faults.py: the tree with faults does not compile")


# ---- trying them --------------------------------------------------------------------------------------


class Runner:
    def __init__(self, folder):
        self.folder = folder
        self.without = {}  # (program, ops): what fails without a fault
        programs = sorted(p.name for p in folder.glob("test_*") if p.is_file() and os.access(p, os.X_OK))
        first = ["test_ops", "test_golden", "test_backward"]
        slow = ["test_threads", "test_blas", "test_kernels", "test_long", "test_safetensors"]
        self.programs = ([p for p in first if p in programs] +
                         [p for p in programs if p not in first + slow] + [p for p in slow if p in programs])

    def run(self, program, ops, fault):
        """The names of the tests that fail."""
        env = dict(os.environ, TL_FAULT=str(fault), CMOCKA_MESSAGE_OUTPUT="STDOUT")
        env.pop("TL_TEST_OPS", None)
        if ops:
            env["TL_TEST_OPS"] = ops
        try:
            done = subprocess.run([self.folder / program], env=env, stdout=subprocess.PIPE, cwd=self.folder,
                                  stderr=subprocess.STDOUT, timeout=TIMEOUT, preexec_fn=limits)
        except subprocess.TimeoutExpired:
            return ["(does not end)"]
        if done.returncode == 0:
            return []
        names = re.findall(rb"^\[  FAILED  \] (\w+)\s*$", done.stdout, flags=re.M)
        return list(dict.fromkeys(n.decode() for n in names)) or ["(crash)"]

    def fails_without(self, program, ops):
        key = program, ops
        if key not in self.without:
            self.without[key] = self.run(program, ops, 0)
        return self.without[key]

    def notice(self, fault):
        """The first test that fails with the fault and passes without."""
        ops = ",".join(fault.rule.ops)
        trials = [(p, ops) for p in ("test_golden", "test_ops") if ops and p in self.programs]
        trials += [(p, "") for p in self.programs]
        for program, some in trials:
            known = self.fails_without(program, some)
            for name in self.run(program, some, fault.number):
                if name not in known:
                    return program if program == "test_golden" else f"{program}: {name}"
        return None


def limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))


def report(rule):
    counted = [x for x in rule.faults if not x.reason]
    by = {}
    for x in counted:
        if x.noticed:
            by[x.noticed] = by.get(x.noticed, 0) + 1
    missed = [x for x in counted if not x.noticed]
    equal = len(rule.faults) - len(counted)
    where = ", ".join(f"{test} {n}" for test, n in sorted(by.items(), key=lambda p: -p[1]))
    print(f"{rule.f.path.name:24} {rule.f.name:32} {len(counted):3} faults, {len(counted) - len(missed):3} noticed"
          f"{f', {equal} equivalent' if equal else ''}: {where}", flush=True)
    for x in missed:
        print(f"    NOT NOTICED  {x}", flush=True)
    return len(missed)


def main():
    parser = argparse.ArgumentParser(description="Plants faults in derivative rules; reports which tests notice.")
    parser.add_argument("--op", action="append", help="only the rules of this op; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--keep", metavar="FOLDER", help="where to build, and keep what was built")
    options = parser.parse_args()
    rules = make_faults(ROOT)
    if options.op:
        rules = [r for r in rules if set(r.ops) & set(options.op)]
    if options.list:
        for rule in rules:
            for fault in rule.faults:
                print(fault, f"(equivalent: {fault.reason})" if fault.reason else "")
        print(f"{sum(len(r.faults) for r in rules)} faults in {len(rules)} rules")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(options.keep or scratch) / "tree"
        shutil.copytree(ROOT, tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", "build*"))
        return try_all(rules, Runner(plant_and_build(rules, tree, options.jobs)), options.jobs)


def try_all(rules, runner, jobs):
    known = [f"{p}: {name}" for p in runner.programs for name in runner.fails_without(p, "")]
    if known:
        print("fail without any fault, and notice nothing:", ", ".join(known))
    faults = [x for r in rules for x in r.faults if not x.reason]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        answers = pool.map(runner.notice, faults)
        for rule in rules:
            for fault in rule.faults:
                fault.noticed = None if fault.reason else next(answers)
            missed += report(rule)
    equal = sum(1 for r in rules for x in r.faults if x.reason)
    noticed = len(faults) - missed
    print(f"{len(faults)} faults in {len(rules)} rules, {noticed} noticed "
          f"({100 * noticed / max(len(faults), 1):.1f} %); {equal} equivalent ones left out")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
