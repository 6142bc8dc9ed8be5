"""Runs two revisions of the package on the same cases and compares what they have written."""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from cases import Case, quick, whole
from differences import differences

KEPT = Path("build/same")
_MODELS = Path("models").absolute()
_AT_WORK = 2
_LIMIT_SECONDS = 3600


def main() -> None:
    """Compares two revisions; ends with 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="scripts/same", description=__doc__)
    parser.add_argument("--whole", action="store_true", help="all runs, not only a few minutes")
    parser.add_argument("old", help="a revision")
    parser.add_argument("new", nargs="?", help="another one; the working tree if left out")
    chosen = parser.parse_args()
    cases = list(whole() if chosen.whole else quick())
    found = [_all(revision, cases) for revision in (chosen.old, chosen.new)]
    different = 0
    for case, old, new in zip(cases, *found, strict=True):
        lines = list(differences(old, new))
        different += bool(lines)
        for line in lines:
            print(f"{case.name}: {line}")
    print(f"{len(cases) - different} of {len(cases)} runs are the same.")
    sys.exit(1 if different else 0)


def _all(revision: str | None, cases: Sequence[Case]) -> list[Path]:
    """The folders that a revision has filled, one a case."""
    begun = perf_counter()
    with _checkout(revision) as code:
        folder = KEPT / _digest(code)
        with ThreadPoolExecutor(_AT_WORK) as pool:
            found = list(pool.map(lambda case: _run(case, code, folder), cases))
    seconds = perf_counter() - begun
    print(f"{revision or 'working tree'}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


@contextmanager
def _checkout(revision: str | None) -> Iterator[Path]:
    """The folder of a revision's package."""
    if revision is None:
        yield Path.cwd()
        return
    with tempfile.TemporaryDirectory(prefix="same-") as text:
        files = subprocess.run(
            ["git", "archive", "--format=tar", revision, "onnx_relusv"],
            capture_output=True,
            check=False,
        )
        if files.returncode:
            sys.exit(files.stderr.decode().strip())
        subprocess.run(["tar", "--extract", "--directory", text], input=files.stdout, check=True)
        yield Path(text)


def _digest(code: Path) -> str:
    """Of the package's code and of what it stands on."""
    digest = hashlib.sha256()
    for path in sorted((code / "onnx_relusv").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(code)}\n".encode() + path.read_bytes())
    for name in ("numpy", "scipy", "onnx", "onnxruntime", "onnx-graphsurgeon"):
        digest.update(f"{name} {version(name)}\n".encode())
    digest.update(str(os.cpu_count()).encode())
    return digest.hexdigest()[:16]


def _run(case: Case, code: Path, folder: Path) -> Path:
    """Runs a case, unless the very same code has, and returns its folder."""
    commands = hashlib.sha256(repr(case.commands).encode()).hexdigest()[:8]
    done = folder / f"{case.name}-{commands}"
    # One place for all revisions, since what is written names it; so one run of a case at a time.
    place = KEPT / "at_work" / case.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _make(case, code, place, done)
    return done


def _make(case: Case, code: Path, place: Path, done: Path) -> None:
    """Runs the commands of a case in a place, which becomes the finished folder."""
    begun = perf_counter()
    done.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "models").symlink_to(_MODELS)
    for number, command in enumerate(case.commands):
        ended = subprocess.run(
            [sys.executable, "-m", "onnx_relusv", *command, "--provider", "cpu"],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(code), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
        )
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
        lines = [f"exit code {ended.returncode}", *errors]
        (place / f"command_{number}.txt").write_text("\n".join(lines) + "\n")
        if ended.returncode:
            break
    (place / "models").unlink()
    place.rename(done)
    print(f"{perf_counter() - begun:6.1f} s {case.name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
