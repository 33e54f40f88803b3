"""What the readers of local files share: looking for files, reading them."""

import gzip
import tarfile
import zlib

#: What reading a damaged gzip or tar file can raise.
DAMAGED = (EOFError, OSError, tarfile.TarError, zlib.error)


def not_found(name, paths):
    """Return the error for a data set whose files are not there.

    Args:
        name: name of the data set.
        paths: every path that was looked for.
    """
    listed = "\n".join(f"  {path}" for path in paths)
    return FileNotFoundError(
        f"The files of the data set {name!r} were not found. Looked for:\n"
        f"{listed}\n"
        "Put them at one of these places, or point `data_dir` "
        "(--config.data.dir) or the environment variable KERAS_NEOKD_DATA to "
        "the folder that holds them."
    )


def wrong_size(file, expected, received):
    """Return the error for a file with too few or too many bytes."""
    return ValueError(
        f"{file} is damaged or not the file that its name says: expected "
        f"{expected:,} bytes of content, received {received:,}. Download "
        "it again."
    )


def read_file(path):
    """Return the content of a file, unpacked where its name ends in .gz.

    Raises:
        ValueError: if it is not a complete gzip file.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except DAMAGED as error:
        raise ValueError(
            f"{path} is not a complete gzip file ({error}); received "
            f"{path.stat().st_size:,} bytes. Download it again."
        ) from error


def read_archive(path, names, optional=()):
    """Return the contents of members of a .tar.gz; nothing is extracted.

    Args:
        path: the archive.
        names: names of the wanted members.
        optional: names of members that may be missing.

    Returns:
        Dictionary from name to bytes, in the order of `names`.

    Raises:
        ValueError: if the archive is damaged or a member is not in it.
    """
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                wanted = member.name in names or member.name in optional
                if wanted and member.isfile():
                    contents[member.name] = archive.extractfile(member).read()
    except DAMAGED as error:
        raise ValueError(
            f"{path} is not a complete .tar.gz archive ({error}); received "
            f"{path.stat().st_size:,} bytes. Download it again."
        ) from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise ValueError(
            f"{path} is not the archive that its name says: expected the "
            f"members {', '.join(names)}; missing {', '.join(missing)}."
        )
    return {
        name: contents[name] for name in (*names, *optional) if name in contents
    }
