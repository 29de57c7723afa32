"""Runs every program in turn, round after round, and prints medians over the rounds, of times and of ratios."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", "target")


def programs(what, threads):
    bench = [os.path.join(TARGET, "debug", "bench")]
    torch = [sys.executable, os.path.join(HERE, "vae_torch.py"), what]
    jax = [sys.executable, os.path.join(HERE, "vae_jax.py"), what]
    ours = {"burn-flows, flex": bench + [what]}
    if what == "step":
        ours["floor (products + one pass)"] = bench + ["floor"]
        ours["the floor in a step's order"] = bench + ["floor-in-order"]
    return ours | {
        "JAX, jit": jax + ["--threads", str(threads)],
        "PyTorch, eager": torch + ["--threads", str(threads)],
        "PyTorch, compile": torch + ["--threads", str(threads), "--compile"],
    }


def cpu():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


parser = argparse.ArgumentParser()
parser.add_argument("--what", choices=["step", "nll"], default="step")
parser.add_argument("--layers", default="0,10,80")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--repeats", type=int, help="of each size in each round")
args = parser.parse_args()
threads = len(os.sched_getaffinity(0))
repeats = args.repeats or (60 if args.what == "step" else 1)
batch = 100 if args.what == "step" else 20

results, peaks = {}, {}
for round in range(args.rounds):
    for name, command in programs(args.what, threads).items():
        command = command + ["--layers", args.layers, "--repeats", str(repeats), "--batch", str(batch)]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
        for line in map(json.loads, output.splitlines()):
            results.setdefault(name, {}).setdefault(line["layers"], []).append(line["median"])
            peaks[name] = max(peaks.get(name, 0), line["peak_mib"] or 0)
        print(f"round {round + 1}: {name}", file=sys.stderr)

layers = [int(k) for k in args.layers.split(",")]
medians = {name: {k: statistics.median(rounds[k]) for k in layers} for name, rounds in results.items()}
unit = "ms a step" if args.what == "step" else "images a second"
print(f"{unit}, batch {batch}; {cpu()}, {threads} threads; medians of {args.rounds} rounds of {repeats}")
print(f"torch {version('torch')}, jax {version('jax')}, Python {platform.python_version()}")
print()
print("| | " + " | ".join(f"K = {k}" for k in layers) + " | peak memory, MiB |")
print("|---|" + "---|" * (len(layers) + 1))
for name, row in medians.items():
    print(f"| {name} | " + " | ".join(f"{row[k]:.2f}" for k in layers) + f" | {peaks[name]:.0f} |")
# Round by round, so that a machine that is slow for a while is slow for both.
ours = results.pop("burn-flows, flex")
for name, rounds in results.items():
    ratios = [
        statistics.median(a / b if args.what == "step" else b / a for a, b in zip(ours[k], rounds[k])) for k in layers
    ]
    print(f"| our time / {name} | " + " | ".join(f"**{ratio:.2f}**" for ratio in ratios) + " | |")
