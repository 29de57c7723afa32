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


def programs(what, threads, flow):
    bench = [os.path.join(TARGET, "debug", "bench"), what]
    threads = ["--threads", str(threads)]

    def peer(program, *flags):
        return [sys.executable, os.path.join(HERE, program), what, *threads, *flags]

    ours = {OURS: bench}
    if what in ("fit", "sample"):
        return ours | {
            "FlowJAX, jit": peer("flow_jax.py"),
            "zuko, eager": peer("flow_torch.py", "--library", "zuko"),
            "nflows, eager": peer("flow_torch.py", "--library", "nflows"),
        }
    if flow not in (None, "planar"):
        return ours | {"JAX, jit": peer("vae_jax.py")}
    if what == "step":
        ours["floor (products + one pass)"] = [bench[0], "floor"]
        ours["the floor in a step's order"] = [bench[0], "floor-in-order"]
    return ours | {
        "JAX, jit": peer("vae_jax.py"),
        "PyTorch, eager": peer("vae_torch.py"),
        "PyTorch, compile": peer("vae_torch.py", "--compile"),
    }


def cpu():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


OURS = "burn-flows, flex"

# What is timed: its unit, the sizes of a run, and how often it is timed in a round.
WHATS = {
    "step": ("ms a step", {"layers": "0,10,80", "batch": "100", "flow": "planar"}, 60),
    "nll": ("images a second", {"layers": "0,10,80", "batch": "20"}, 1),
    "fit": ("ms a step", {"flows": "realnvp,maf,spline,spline-autoregressive", "latent": "16", "batch": "512"}, 60),
    "sample": ("ms a batch", {"flows": "realnvp,maf,spline,spline-autoregressive", "latent": "16", "batch": "1000"}, 10),
}

parser = argparse.ArgumentParser()
parser.add_argument("--what", choices=list(WHATS), default="step")
parser.add_argument("--layers", help="of the VAE's flow, for step and nll")
parser.add_argument("--flow", help="the VAE's flow, for step: planar, nice, iaf or sylvester-orthogonal, beside JAX")
parser.add_argument("--latent", help="dimensions of the points, for fit and sample")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--repeats", type=int, help="of each size in each round")
args = parser.parse_args()
threads = len(os.sched_getaffinity(0))
unit, sizes, repeats = WHATS[args.what]
repeats = args.repeats or repeats
for name in ("layers", "latent", "flow"):
    given = getattr(args, name)
    if given is not None and name not in sizes:
        parser.error(f"--{name}: --what {args.what} doesn't take it")
    sizes = sizes | ({name: given} if given is not None else {})
column = "layers" if "layers" in sizes else "flow"

results, peaks = {}, {}
for round in range(args.rounds):
    for name, command in programs(args.what, threads, sizes.get("flow")).items():
        flags = [flag for size, value in sizes.items() for flag in (f"--{size}", value)]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        command = [*command, *flags, "--repeats", str(repeats)]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
        for line in map(json.loads, output.splitlines()):
            results.setdefault(name, {}).setdefault(str(line[column]), []).append(line["median"])
            peaks[name] = max(peaks.get(name, 0), line["peak_mib"] or 0)
        print(f"round {round + 1}: {name}", file=sys.stderr)

columns = list(results[OURS])
medians = {name: {k: statistics.median(rounds[k]) for k in columns} for name, rounds in results.items()}
fixed = ", ".join(f"{name} {value}" for name, value in sizes.items() if name in ("latent", "batch", "flow"))
packages = ["jax", "flowjax", "zuko", "nflows", "torch"] if column == "flow" else ["torch", "jax"]
print(f"{unit}, {fixed}; {cpu()}, {threads} threads; medians of {args.rounds} rounds of {repeats}")
print(", ".join(f"{package} {version(package)}" for package in packages) + f", Python {platform.python_version()}")
print()
print("| | " + " | ".join(k if column == "flow" else f"K = {k}" for k in columns) + " | peak memory, MiB |")
print("|---|" + "---|" * (len(columns) + 1))
for name, row in medians.items():
    print(f"| {name} | " + " | ".join(f"{row[k]:.2f}" for k in columns) + f" | {peaks[name]:.0f} |")
# Round by round, so that a machine that is slow for a while is slow for both.
ours = results.pop(OURS)
for name, rounds in results.items():
    ratios = [
        statistics.median(b / a if args.what == "nll" else a / b for a, b in zip(ours[k], rounds[k])) for k in columns
    ]
    print(f"| our time / {name} | " + " | ".join(f"**{ratio:.2f}**" for ratio in ratios) + " | |")
