"""Writes a text file so that a reader sees the old one or the new one, never half of one."""

from pathlib import Path

from onnx_relusv.publishing import Publication, not_written, staged


def write_text(text: str, path: Path, *, force: bool) -> None:
    """Writes a UTF-8 file in a hidden folder beside its place, then puts it there.

    Args:
        text: Its content.
        path: Its place.
        force: Whether a regular file that is there may be replaced.

    Raises:
        UsageError: The file cannot be written there, or something is there that may not be
            replaced.
    """
    with staged(path) as folder:
        made = folder / "text"
        make_text(text, made, path)
        publication = Publication(force=force)
        publication.add(made, path)
        publication.commit()


def make_text(text: str, made: Path, target: Path) -> None:
    """Writes a UTF-8 file where nobody sees it yet.

    Args:
        text: Its content.
        made: Where it is made.
        target: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    # Paths that are not UTF-8 reach us with lone surrogates; as \\udcxx they remain readable, and
    # in JSON that is their proper escape.
    try:
        made.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise not_written(target, error) from error
