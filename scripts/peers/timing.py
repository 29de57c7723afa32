"""What the peers' programs share: the command line, the clock, and one line of JSON for each size."""

import argparse
import json
import resource
import statistics
import time

PIXELS, LATENT, UNITS, WINDOW, VECTORS = 784, 40, 400, 4, 8
LN_2_PI = 1.8378770664093453

# Of flows as densities.
TRANSFORMS, HIDDEN, BINS, BOUND = 5, 64, 8, 5.0


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["step", "nll"])
    parser.add_argument("--layers", default="0,10,80")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flow", default="planar", choices=["planar", "nice", "iaf", "sylvester-orthogonal"])
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


def flow_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["fit", "sample"])
    parser.add_argument("--flows", default="realnvp,maf,spline,spline-autoregressive")
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--library", choices=["zuko", "nflows"], help="of those on PyTorch")
    return parser.parse_args()


def run_flows(args, backend, fit, sample):
    """`fit(flow)` and `sample(flow)` return what is to be timed."""
    for flow in args.flows.split(","):
        work = fit(flow) if args.what == "fit" else sample(flow)
        result = {
            "backend": backend,
            "batch": args.batch,
            "dim": args.latent,
            "flow": flow,
            "median": median_seconds(args.repeats, work) * 1e3,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(result), flush=True)
