"""What the peers' programs share: the command line, the clock, and one line of JSON for each size."""

import argparse
import json
import resource
import statistics
import time

PIXELS, LATENT, UNITS, WINDOW = 784, 40, 400, 4
LN_2_PI = 1.8378770664093453


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["step", "nll"])
    parser.add_argument("--layers", default="0,10,80")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="PyTorch: torch.compile instead of eager")
    parser.add_argument("--device", default="cpu", help="PyTorch: cpu or cuda")
    return parser.parse_args()


def median_seconds(repeats, work):
    for _ in range(-(-repeats // 10)):
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(args, backend, step, nll):
    """`step(layers)` and `nll(layers)` return what is to be timed."""
    for layers in map(int, args.layers.split(",")):
        work = step(layers) if args.what == "step" else nll(layers)
        seconds = median_seconds(args.repeats, work)
        result = {
            "backend": backend,
            "batch": args.batch,
            "layers": layers,
            "median": seconds * 1e3 if args.what == "step" else args.batch / seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(result), flush=True)
