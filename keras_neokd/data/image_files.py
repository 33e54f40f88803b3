"""One image file: read, its header checked, decoded by Pillow."""

import contextlib
import io
import os
import stat

from keras_neokd.data import files

# Pillow looks into a file for its format, whatever the name says, and some
# other formats it hands to other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
# In bytes: more than an unpacked image of as many pixels as Pillow allows.
_LARGEST_FILE = 2**29
_NOT_REGULAR = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def pillow():
    """Return the module `PIL.Image`.

    Raises:
        ImportError: says what to install.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Images are decoded by Pillow, which is not installed. Run: pip "
            'install "keras-neokd[data]"'
        ) from error
    return Image


def read_image_file(path):
    """Return the content of a regular file; links are followed.

    Args:
        path: `pathlib.Path`.

    Raises:
        ValueError: if it is no regular file (reading a pipe may never end),
            or larger than 512 MiB.
        OSError: if it cannot be read.
    """
    _check_regular(path)
    return files.read_bytes(path, _LARGEST_FILE)


def check_header(path):
    """See that a file begins as an image that `decode` takes.

    Only what tells the format, the size and the channels is read: damage
    behind it is found when the image is decoded.

    Args:
        path: `pathlib.Path`.

    Raises:
        ValueError, OSError: as `read_image_file` and `decode`.
    """
    _check_regular(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with _naming(path, size), _opened(file) as image:
            _check_pixels(image)
            mode = image.mode
    if _is_deep(mode):
        raise _too_deep(path, mode)


def decode(content, name, mode="RGB"):
    """Return an image.

    Args:
        content: bytes of an image file.
        name: what an error calls it.
        mode: Pillow's name of the wanted channels. Defaults to "RGB"; "L" is
            grey.

    Returns:
        A Pillow image.

    Raises:
        ValueError: if it is damaged, no image, of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`, or has grey values of more than 8
            bits, which Pillow would clip.
        MemoryError: says how much is needed.
        ImportError: if Pillow is not installed.
    """
    with _naming(name, len(content)), _opened(io.BytesIO(content)) as image:
        _check_pixels(image)
        received = image.mode
        if not _is_deep(received):
            with files.memory_for(name, 8 * image.width * image.height):
                return image.convert(mode)
    raise _too_deep(name, received)


def _opened(file):
    return pillow().open(file, formats=_FORMATS)


def _check_regular(path):
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        kind = "a link to a file that is not there"
    else:
        if stat.S_ISREG(mode):
            return
        kind = _NOT_REGULAR.get(stat.S_IFMT(mode), "something else")
    raise ValueError(
        f"{path} is named as an image and is {kind}: expected a regular file, "
        "or a link to one. Take it out of the folder, or give it another name."
    )


@contextlib.contextmanager
def _naming(name, size):
    """Raise `ValueError` that names the image which Pillow cannot read."""
    try:
        yield
    except MemoryError:
        raise
    # A damaged file can raise anything: OSError, SyntaxError, struct.error.
    except Exception as error:
        # Pillow calls a file that it cannot identify by the buffer's address.
        is_unknown = isinstance(error, pillow().UnidentifiedImageError)
        reason = "not JPEG, PNG, BMP or WebP" if is_unknown else error
        raise ValueError(
            f"{name} is no image that can be read ({reason}); received "
            f"{size:,} bytes. Get the file again, or take it out of the data "
            "set."
        ) from error


def _check_pixels(image):
    """Raise if decoding an image takes more memory than images should."""
    most = pillow().MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise ValueError(
            f"{image.width} x {image.height} pixels, which are more than the "
            f"{most:,} of PIL.Image.MAX_IMAGE_PIXELS: scale it down"
        )


def _is_deep(mode):
    # Pillow's mode of 16 bits: "I;16", "I" before version 11.3.
    return mode.partition(";")[0] == "I"


def _too_deep(name, mode):
    return ValueError(
        f"{name} has grey values of more than 8 bits (Pillow's mode {mode!r}), "
        "and nothing says which range of them to show; expected 8 bits per "
        "channel. Scale it to 0 to 255 and write it anew."
    )
