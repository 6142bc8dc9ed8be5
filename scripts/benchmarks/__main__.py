"""Runs one benchmark by name and prints its table."""

import sys

import accuracy
import cluster
import dense
import drop
import files
import gpu
import growth
import inspection
import int8
import large
import latency
import nsfw
import peers
import pruning
import resnet50
import scale
import spectra
import speed
import text_detector

BENCHMARKS = {
    "inspect": inspection.main,
    "int8": int8.main,
    "detector": text_detector.main,
    "pruning": pruning.main,
    "nsfw": nsfw.main,
    "resnet50": resnet50.main,
    "spectra": spectra.main,
    "growth": growth.main,
    "gpu": gpu.main,
    "cluster": cluster.main,
    "scale": scale.main,
}
# Those that are told the words behind their name, with what these are.
WITH_WORDS = {
    "accuracy": (accuracy.main, "[--effort NAME]"),
    "speed": (speed.main, "[EFFORT ...]"),
    "drop": (drop.main, "[MODEL ...]"),
    "peers": (peers.main, "[METHOD ...]"),
    "files": (files.main, "[NAME ...]"),
    "latency": (latency.main, "[MODEL ...]"),
    "large": (large.main, "[WIDTH]"),
    "dense": (dense.main, "[WIDTH ...]"),
}

if __name__ == "__main__":
    name, *words = sys.argv[1:] or [""]
    if name in WITH_WORDS:
        WITH_WORDS[name][0](words)
    elif name in BENCHMARKS and not words:
        BENCHMARKS[name]()
    else:
        choices = [*BENCHMARKS, *(f"{each} {told}" for each, (_, told) in WITH_WORDS.items())]
        sys.exit(f"usage: scripts/bench {' | '.join(choices)}")
