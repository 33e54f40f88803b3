"""Images that are decoded when they are indexed."""

from unittest import mock

import numpy as np
import pytest
from PIL import Image

from keras_neokd.base.randomness import host_bits
from keras_neokd.data import encoded
from keras_neokd.data import image_files
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.encoded import ImageFiles
from keras_neokd.data.encoded import View
from tests.data import folders

pytestmark = pytest.mark.any_backend


@pytest.fixture
def paths(tmp_path):
    """Six PNG files, which keep every pixel."""
    found = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(found):
        folders.write_image(path, number, 30 + number, 40)
    return found


def encode(paths, size=8):
    return EncodedImages(ImageFiles(paths), View(size))


def test_it_looks_like_an_array(paths):
    images = encode(paths)
    assert images.shape == (6, 8, 8, 3)
    assert (len(images), images.dtype) == (6, np.uint8)
    chosen = images[np.array([4, 1])]
    assert (chosen.shape, chosen.dtype) == ((2, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(chosen, images[:][[4, 1]])
    np.testing.assert_array_equal(chosen[:1], images[4:5])
    assert images[:0].shape == (0, 8, 8, 3)


def test_a_subset_keeps_its_order_and_decodes_nothing(paths):
    images = encode(paths)
    expected = images[:][[5, 0, 3]]
    subset = images.subset(np.array([5, 0, 3]))
    np.testing.assert_array_equal(subset[:], expected)
    paths[5].write_bytes(b"broken")
    again = images.subset(np.array([5, 0, 3])).subset(slice(1, None))
    np.testing.assert_array_equal(again[:], expected[1:])


def test_images_of_the_right_size_stay_as_they_are(tmp_path):
    path = tmp_path / "image.png"
    folders.write_image(path, 3, 16, 16)
    images = encode([path], 16)
    np.testing.assert_array_equal(images[:][0], folders.pixels(3, 16, 16))


def test_the_centre_of_the_resized_image_is_seen():
    # The shorter side of 60 becomes 30, the longer one of 100 becomes 50.
    image = Image.fromarray(folders.pixels(0, 60, 100))
    small = np.asarray(image.resize((50, 30), Image.BILINEAR))
    seen = View(size=20, resize=30).centre(image)
    np.testing.assert_array_equal(seen, small[5:25, 15:35])


def resized_whole(image, size, resize):
    """The centre of an image as one would compute it with memory to spare."""
    scale = resize / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    whole = np.asarray(image.resize((width, height), Image.BILINEAR))
    top, left = (height - size) // 2, (width - size) // 2
    return whole[top : top + size, left : left + size].astype(int)


@pytest.fixture
def resized_to(monkeypatch):
    """The sizes that images are resized to."""
    sizes = []
    resize = Image.Image.resize

    def remember(self, size, *arguments, **named):
        sizes.append(size)
        return resize(self, size, *arguments, **named)

    monkeypatch.setattr(Image.Image, "resize", remember)
    return sizes


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("short", [1, 3, 20])
@pytest.mark.parametrize(("size", "resize"), [(7, 7), (9, 12)])
def test_of_a_very_long_image_the_same_centre_is_seen(
    resized_to, is_wide, short, size, resize
):
    random = np.random.default_rng(short)
    for ratio in (2, 16, 17, 23.5):
        shape = (short, int(ratio * short) + 1)[:: 1 if is_wide else -1]
        image = Image.fromarray(random.integers(0, 256, (*shape, 3), "uint8"))
        expected = resized_whole(image, size, resize)
        resized_to.clear()
        seen = View(size, resize).centre(image)
        assert max(map(max, resized_to), default=0) <= 17 * resize
        # Of images that are not that long every bit is the same.
        most = 0 if ratio <= 15 else 2
        assert np.abs(seen - expected).max() <= most


def test_a_very_long_image_is_not_resized_as_a_whole(resized_to):
    """224 x 1,120,000 pixels would take 0.8 GB."""
    image = Image.fromarray(np.full((5000, 1, 3), 7, "uint8"))
    assert (View(224).centre(image) == np.full((224, 224, 3), 7)).all()
    assert resized_to == [(224, 224)]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_too_many_pixels_is_not_decoded(paths, monkeypatch):
    images = encode(paths[:1])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30 * 40 - 1)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(ValueError, match=r"0\.png.*40 x 30 pixels.*the 1,199"):
        images[:]


def test_a_file_that_is_too_large_for_an_image_is_not_read(paths, monkeypatch):
    monkeypatch.setattr(image_files, "_LARGEST_FILE", 100)
    with pytest.raises(ValueError, match=r"0\.png is not.*at most 100 bytes"):
        encode(paths[:1])[:]


def test_memory_that_an_image_needs_is_told(paths, monkeypatch):
    convert = mock.Mock(side_effect=MemoryError)
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(MemoryError, match=r"0\.png needs 9,600 bytes of mem"):
        encode(paths[:1])[:]


def test_an_image_without_pixels_is_refused(tmp_path):
    path = tmp_path / "empty.bmp"
    Image.fromarray(np.zeros((1, 1, 3), "uint8")).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = bytes(8)  # Width and height.
    path.write_bytes(content)
    with pytest.raises(ValueError, match="empty.bmp is no image"):
        encode([path])[:]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "image_size.*>= 1, received 0"),
        ((8.0,), TypeError, "image_size"),
        ((8, 7), ValueError, "resize.*>= 8, received 7"),
    ],
)
def test_an_impossible_view_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        View(*arguments)


def test_random_parts_depend_on_seed_epoch_and_index_only(paths):
    images = encode(paths)
    everything = np.arange(6)
    whole = images.random_parts(everything, everything, seed=1, epoch=2)
    chosen = np.array([4, 2])
    some = images.random_parts(chosen, chosen, seed=1, epoch=2)
    np.testing.assert_array_equal(some, whole[chosen])
    for seed, epoch in ((2, 2), (1, 3)):
        other = images.random_parts(everything, everything, seed, epoch)
        assert (other != whole).any(axis=(1, 2, 3)).all()
    same_index = images.random_parts(np.array([3, 3]), [7, 8], 1, 2)
    assert (same_index[0] != same_index[1]).any()


def test_a_random_part_is_that_box_of_the_image_resized(paths):
    images = encode(paths[:1])
    seen = images.random_parts(np.array([0]), [0], seed=0, epoch=0)[0]
    image = Image.open(paths[0])
    # The random numbers of one image, one by one.
    draws = [
        [
            (float(host_bits(0, 0, 0, attempt, use, 4)) + 0.5) / 2**32
            for use in range(4)
        ]
        for attempt in range(10)
    ]
    mirrored = host_bits(0, 0, 0, 5) % 2 == 1
    box = encoded.random_box(*image.size, draws)
    part = np.asarray(image.resize((8, 8), Image.BILINEAR, box=box))
    np.testing.assert_array_equal(seen, part[:, ::-1] if mirrored else part)


def test_random_boxes_have_the_areas_and_ratios_they_should():
    random = np.random.default_rng(0)
    boxes = np.array(
        [
            encoded.random_box(300, 200, random.random((10, 4)))
            for _ in range(2000)
        ]
    )
    left, top, right, bottom = boxes.T
    assert (left >= 0).all() and (right <= 300).all()
    assert (top >= 0).all() and (bottom <= 200).all()
    width, height = right - left, bottom - top
    shares, ratios = width * height / 60_000, width / height
    assert shares.min() > 0.075 and shares.max() <= 1
    assert ratios.min() > 0.72 and ratios.max() < 1.37
    # Drawn evenly: boxes of small area always fit.
    small = shares[shares < 0.3]
    assert np.mean(small < 0.19) == pytest.approx(0.5, abs=0.06)
    # Every place is possible: the corners, too.
    assert left.min() == 0 and right.max() == 300


@pytest.mark.parametrize(
    ("size", "box"),
    [
        # Nothing fits: all of the area at a ratio of 4/3 in a long image.
        ((400, 100), (133, 0, 266, 100)),
        ((100, 400), (0, 133, 100, 266)),
        ((90, 90), (0, 0, 90, 90)),
    ],
)
def test_without_a_fitting_draw_the_centre_is_taken(size, box):
    draws = np.full((10, 4), 0.999999)
    assert encoded.random_box(*size, draws) == box


def test_other_modes_become_rgb(tmp_path):
    for mode in ("L", "CMYK"):
        folders.write_image(tmp_path / f"{mode}.JPEG", 0, 9, 9, mode)
    found = sorted(tmp_path.iterdir())
    images = encode(found, 9)[:]
    assert images.shape == (2, 9, 9, 3)
    grey = images[1]
    assert (grey[..., 0] == grey[..., 2]).all()
    assert np.abs(images[0].astype(int) - folders.pixels(0, 9, 9)).mean() < 25


def test_a_damaged_image_is_named(paths):
    content = paths[2].read_bytes()
    images = encode(paths)
    for broken in (content[: len(content) // 2], b"", b"no image"):
        paths[2].write_bytes(broken)
        with pytest.raises(ValueError, match=r"2\.png is no image.*received"):
            images[:]
    assert len(images[3:]) == 3


@pytest.mark.parametrize(
    ("ending", "dtype", "message"),
    [
        ("png", "uint16", " has grey.*8 bits.*'I.*expected 8 bits"),
        *(
            ("tif", dtype, r" is no image .*\(not JPEG")
            for dtype in (">u2", "int32", "float32")
        ),
    ],
)
def test_what_8_bits_cannot_hold_is_refused(tmp_path, ending, dtype, message):
    """Pillow would make 255 of all larger values."""
    path = tmp_path / f"deep.{ending}"
    Image.fromarray(np.full((9, 9), 1000, dtype)).save(path)
    with pytest.raises(ValueError, match=f"{path.name}{message}"):
        encode([path], 9)[:]


def test_threads_keep_the_order():
    def slow_first(number):
        return sum(range(200_000 if number == 0 else 10)) and number

    assert list(encoded.in_order(slow_first, range(50))) == list(range(50))


def test_items_are_read_no_further_than_needed():
    read = []
    items = (read.append(number) or number for number in range(10_000))
    results = encoded.in_order(lambda number: number, items)
    assert next(results) == 0
    assert len(read) < 5_000
