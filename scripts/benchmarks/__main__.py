"""Runs one benchmark by name and prints its table."""

import sys

import accuracy
import cluster
import dense
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

if __name__ == "__main__":
    if sys.argv[1:2] == ["peers"]:
        peers.main(sys.argv[2:])
    elif sys.argv[1:2] == ["accuracy"]:
        accuracy.main(sys.argv[2:])
    elif sys.argv[1:2] == ["speed"]:
        speed.main(sys.argv[2:])
    elif sys.argv[1:2] == ["files"]:
        files.main(sys.argv[2:])
    elif sys.argv[1:2] == ["latency"]:
        latency.main(sys.argv[2:])
    elif sys.argv[1:2] == ["large"]:
        large.main(sys.argv[2:])
    elif sys.argv[1:2] == ["dense"]:
        dense.main(sys.argv[2:])
    elif len(sys.argv) != 2 or sys.argv[1] not in BENCHMARKS:
        names = "|".join(BENCHMARKS)
        sys.exit(
            f"usage: scripts/bench {names}|accuracy [--effort NAME]|speed [EFFORT ...]"
            "|peers [METHOD ...]|files [NAME ...]|large [WIDTH]|dense [WIDTH ...]"
            "|latency [MODEL ...]"
        )
    else:
        BENCHMARKS[sys.argv[1]]()
