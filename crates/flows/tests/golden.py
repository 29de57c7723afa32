#!/usr/bin/env python3
"""Golden values of planar flows, from the paper's formulas as printed, at 60 digits.

    pip install mpmath && python3 golden.py > golden.json

Independent of the crate: no softplus rearranged, the log-determinant as ln |1 + u_hat . psi|, and the
inverse found by bisection of the whole layer along w.
"""
import json
from mpmath import mp, mpf, tanh, exp, log, e, sqrt

mp.dps = 60


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def m(x, constraint):
    return -1 + log(1 + exp(x if constraint == "paper" else x + log(e - 1)))


def u_hat(u, w, constraint):
    wu = dot(w, u)
    return [ui + (m(wu, constraint) - wu) * wi / dot(w, w) for ui, wi in zip(u, w)]


def layer(z, u, w, b, constraint):
    uh, a = u_hat(u, w, constraint), dot(w, z) + b
    psi = [(1 - tanh(a) ** 2) * wi for wi in w]
    return [zi + ui * tanh(a) for zi, ui in zip(z, uh)], log(abs(1 + dot(uh, psi)))


def chain(z, layers, constraint):
    total = mpf(0)
    for u, w, b in layers:
        z, log_det = layer(z, u, w, b, constraint)
        total += log_det
    return z, total


def unchain(y, layers, constraint):
    for u, w, b in reversed(layers):
        uh = u_hat(u, w, constraint)
        s, c = dot(w, uh), dot(w, y)
        lo, hi = c - abs(s) - 1, c + abs(s) + 1
        for _ in range(220):
            mid = (lo + hi) / 2
            lo, hi = (lo, mid) if mid + s * tanh(mid + b) > c else (mid, hi)
        y = [yi - ui * tanh(lo + b) for yi, ui in zip(y, uh)]
    return y


def numbers(text):
    return [mpf(x) for x in text.split()]


CASES = {
    "one layer in one dimension": ("0.5", ["1.5", "-2", "0.25"]),
    "two dimensions": ("0.3 -1.2", ["0.7 -0.4", "1.1 0.6", "-0.3"]),
    "w.u = -20, where m rounds to -1 in f32": ("0.2 0.1", ["-10 -10", "1 1", "-0.25"]),
    "w.u = 50": ("-0.2 0.3", ["25 25", "1 1", "0.1"]),
    "w.u = -50 away from the plane": ("1.5 0.3", ["-50 0", "1 0", "0.5"]),
    "three layers in three dimensions": (
        "0.1 -0.7 1.9",
        ["0.4 -0.9 0.2", "1.3 0.8 -0.5", "0.6"],
        ["-1.1 0.3 0.7", "-0.2 0.9 1.4", "-0.8"],
        ["2.0 -0.6 0.5", "0.5 -1.2 0.3", "0.05"],
    ),
}

out = []
for name, (z, *layers) in CASES.items():
    layers = layers if isinstance(layers[0], list) else [layers]
    layers = [(numbers(u), numbers(w), mpf(b)) for u, w, b in layers]
    for constraint in ("paper", "identity"):
        value, log_det = chain(numbers(z), layers, constraint)
        back = unchain(value, layers, constraint)
        assert max(abs(a - b) for a, b in zip(back, numbers(z))) < mpf(10) ** -30, name
        out.append(
            {
                "name": name,
                "constraint": constraint,
                "raw": [[float(x) for x in (*u, *w, b)] for u, w, b in layers],
                "z": [float(x) for x in numbers(z)],
                "value": [float(x) for x in value],
                "log_det": float(log_det),
            }
        )
print(json.dumps(out, indent=1))
