"""Read one image file: check its header, decode it by Pillow."""

import contextlib
import io
import os
import pathlib
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
    """Return the module `PIL.Image`, or raise `ImportError` with the remedy."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Images are decoded by Pillow, which is not installed. Run: pip "
            'install "keras-neokd[data]"'
        ) from error
    return Image


def read_image_file(path):
    """Return the content of a file; links are followed.

    Raises `ValueError` if it is no regular file (reading a pipe may never
    end), or larger than 512 MiB, and `OSError` if it cannot be read.
    """
    _check_regular(path)
    return files.read_bytes(pathlib.Path(path), _LARGEST_FILE)


def check_header(path):
    """Check that a file begins as an image that `decode` takes.

    Only format, size and channels are read: damage behind the header is found
    when the image is decoded. Raises as `read_image_file` and `decode`.
    """
    _check_regular(path)
    with open(path, "rb") as file:
        with _opened(file, path, os.fstat(file.fileno()).st_size):
            pass


def decode(content, name, mode="RGB"):
    """Return the Pillow image in the bytes of an image file.

    Args:
        content: bytes of an image file.
        name: its name in errors.
        mode: Pillow's name of the wanted channels. Defaults to "RGB"; "L" is
            grey.

    Raises:
        ValueError: if it is damaged, no image, of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`, or has grey values of more than 8
            bits, which Pillow would clip.
        MemoryError: says how much is needed.
    """
    with _opened(io.BytesIO(content), name, len(content)) as image:
        with files.memory_for(name, 8 * image.width * image.height):
            return image.convert(mode)


@contextlib.contextmanager
def _opened(file, name, size):
    """Yield a Pillow image whose header was checked, not decoded yet.

    Raises `ValueError` as `decode`, also for damage found in the `with` block.
    """
    try:
        with pillow().open(file, formats=_FORMATS) as image:
            _check_header(image, name)
            yield image
    except (MemoryError, _TooDeepError):
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


def _check_regular(path):
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not os.path.islink(path):
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


class _TooDeepError(ValueError):
    """An image that 8 bits per channel cannot hold."""


def _check_header(image, name):
    """Raise for pixels of too much memory, or of more than 8 bits."""
    most = pillow().MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise ValueError(
            f"{image.width} x {image.height} pixels, which are more than the "
            f"{most:,} of PIL.Image.MAX_IMAGE_PIXELS: scale it down"
        )
    # Pillow's mode of 16 bits: "I;16", "I" before version 11.3.
    if image.mode.partition(";")[0] == "I":
        raise _TooDeepError(
            f"{name} has grey values of more than 8 bits (Pillow's mode "
            f"{image.mode!r}), and nothing says which range of them to show; "
            "expected 8 bits per channel. Scale it to 0 to 255 and write it "
            "anew."
        )
