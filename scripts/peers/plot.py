"""Draws what scripts/scaling measured: one panel for each of K, D and the batch."""

import csv
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

source, target = sys.argv[1:]
with open(source) as file:
    rows = [{key: value if key == "way" else float(value) for key, value in row.items()} for row in csv.DictReader(file)]

names = {"stack": "fused", "stack-by-tensors": "tensor operations"}
fixed = {"layers": 10, "latent": 40, "batch": 100}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
panels = [("layers", "layers K"), ("latent", "dimensions D"), ("batch", "images of a batch")]
for axis, (key, label) in zip(axes, panels):
    for way, name in names.items():
        points = {
            row[key]: row["milliseconds"]
            for row in rows
            if row["way"] == way and all(row[other] == fixed[other] for other in fixed if other != key)
        }
        xs = sorted(points)
        axis.loglog(xs, [points[x] for x in xs], marker="o", markersize=3, label=name)
    others = ", ".join(f"{name} = {fixed[other]}" for other, name in [("layers", "K"), ("latent", "D"), ("batch", "batch")] if other != key)
    axis.set(xlabel=label, title=others)
    axis.grid(True, which="both", alpha=0.3)
axes[0].set_ylabel("forward and backward, ms")
axes[0].legend()
figure.savefig(target, dpi=120)
