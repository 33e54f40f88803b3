"""Random numbers: one pure function, the same on the host and on devices."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_neokd import backend
from keras_neokd.base import randomness
from tests.reference import equations

LARGEST = 2**31 - 1


def unsigned(tensor):
    return ops.convert_to_numpy(tensor).view("uint32")


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def drawn_by(draw, seed, index, shape):
    """Draw for the keys (seed, index), in one compiled function."""

    def function(index):
        return draw(randomness.bits(seed, index), shape)

    index = ops.convert_to_tensor(np.asarray(index, "int32"))
    return to_numpy(backend.compile_function(function, [])(index))


def uniform_noise(seed, count, shape):
    return drawn_by(randomness.example_uniform, seed, range(count), shape)


def correlation(first, second):
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]


# The mixing function.


@pytest.mark.parametrize(
    "words",
    [
        *((0,), (1,), (LARGEST,), (-1,), (0, 0), (0, 1), (1, 0), (7, 1, 2, 3)),
        # With the top bit set.
        *((2**31,), (2**32 - 600_000_000,), (-(2**31),)),
    ],
)
def test_device_host_and_plain_integers_give_equal_bits(words):
    expected = equations.bits_of_words(*words)
    assert int(randomness.host_bits(*words)) == expected
    assert int(unsigned(randomness.bits(*words))) == expected


def test_mixing_is_lowbias32_as_its_published_inverse_undoes_it():
    def inverse(x):  # Hash prospector, lowbias32_r
        x ^= x >> 16
        x = x * 0x43021123 % 2**32
        x ^= x >> 15 ^ x >> 30
        x = x * 0x1D69E2A5 % 2**32
        return x ^ x >> 16

    for word in (0, 1, 2, 12345, 2**31, 2**32 - 1):
        assert inverse(equations.mix(word)) == word
    # The state starts at 0, so one word is mixed twice.
    mixed = int(randomness.host_bits(12345))
    assert inverse(inverse(mixed)) - 0x9E3779B9 == 12345


def test_large_arrays_have_equal_bits_on_host_and_device():
    rows = np.arange(-500, 500, dtype="int32")[:, None] * 4_000_037
    columns = np.arange(40, dtype="int32")
    device = unsigned(randomness.bits(3, rows, columns))
    assert device.shape == (1000, 40)
    np.testing.assert_array_equal(
        device, randomness.host_bits(3, rows, columns)
    )
    np.testing.assert_array_equal(
        device[:9, :9], equations.bits(3, rows[:9], columns[:9])
    )


def test_words_may_be_tensors_numbers_and_arrays():
    index = np.array([0, 5, LARGEST])
    expected = equations.bits(4, 9, index)
    for word in (index, index.astype("uint32"), ops.convert_to_tensor(index)):
        mixed = randomness.bits(np.int64(4), ops.convert_to_tensor(9), word)
        np.testing.assert_array_equal(unsigned(mixed), expected)


def test_order_and_number_of_words_matter():
    seen = {
        int(randomness.host_bits(*words))
        for words in ((), (0,), (0, 0), (1, 2), (2, 1), (1, 2, 0))
    }
    assert len(seen) == 6


def test_one_word_after_another_is_a_bijection():
    mixed = randomness.host_bits(7, np.arange(2**16))
    assert len(np.unique(mixed)) == 2**16


def test_flipping_any_bit_of_any_word_flips_half_of_the_bits():
    words = np.random.default_rng(0).integers(0, 2**31, size=(3, 4096))
    before = randomness.host_bits(*words)
    for place in range(3):
        for bit in range(31):
            changed = words.copy()
            changed[place] ^= 1 << bit
            flipped = np.bitwise_count(randomness.host_bits(*changed) ^ before)
            # Standard error 0.044.
            assert abs(flipped.mean() - 16) < 0.25, (place, bit)


# Uniform numbers.


def test_uniform_numbers_are_the_middles_of_2_to_23_cells():
    expected = equations.uniform(5, np.arange(1000))
    drawn = to_numpy(randomness.uniform(5, np.arange(1000, dtype="int32")))
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("pattern", [0, -1, 2**31 - 1, -(2**31), 511, 512])
def test_every_bit_pattern_gives_a_number_inside_the_open_interval(
    monkeypatch, pattern
):
    monkeypatch.setattr(
        randomness,
        "bits",
        lambda *words: ops.convert_to_tensor(np.int32(pattern)),
    )
    drawn = to_numpy(randomness.uniform(0))
    assert 0 < drawn < 1
    assert drawn == (pattern % 2**32 // 512 + 0.5) / 2**23


def test_uniform_numbers_are_uniform():
    noise = uniform_noise(0, 300, (28, 28, 1))
    assert noise.shape == (300, 28, 28, 1)
    assert 0 < noise.min() and noise.max() < 1
    # Standard errors 0.0006 and 0.00015.
    assert noise.mean() == pytest.approx(0.5, abs=0.003)
    assert noise.var() == pytest.approx(1 / 12, abs=0.0008)
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3


def test_each_pixel_and_each_image_alone_is_uniform_too():
    noise = uniform_noise(1, 1000, (30, 30))
    by_pixel = noise.mean(axis=0).ravel()
    by_image = noise.mean(axis=(1, 2))
    # Means of n uniform numbers: normal with variance 1 / (12 n).
    for means, count in ((by_pixel, 1000), (by_image, 900)):
        scaled = (means - 0.5) * np.sqrt(12 * count)
        assert stats.kstest(scaled, "norm").pvalue > 1e-3
        assert abs(scaled).max() < 5


def test_neighbours_are_uncorrelated():
    shape = (40, 40)
    noise = uniform_noise(2, 200, shape)
    next_seed = uniform_noise(3, 200, shape)
    pairs = {
        "image": (noise[1:], noise[:-1]),
        "row": (noise[:, 1:], noise[:, :-1]),
        "column": (noise[:, :, 1:], noise[:, :, :-1]),
        "half image": (noise[:, 20:], noise[:, :20]),
        "seed": (noise, next_seed),
        "image and pixel": (noise[1:, 1:], noise[:-1, :-1]),
    }
    for name, pair in pairs.items():
        # Standard error below 0.003 for at least 160,000 pairs.
        assert abs(correlation(*pair)) < 0.01, name


def test_lowest_bit_of_the_drawn_cell_is_fair():
    noise = uniform_noise(4, 100, (1000,))
    lowest = np.floor(noise.astype("float64") * 2**23) % 2
    assert lowest.mean() == pytest.approx(0.5, abs=0.01)


# Keys: an example's numbers depend on nothing but its key.


@pytest.mark.parametrize(
    ("draw", "tolerance"),
    [
        (randomness.example_uniform, 0),
        # Vector units may round log and cos differently at the end of an
        # array, by one unit in the last place.
        (randomness.example_normal, 1e-6),
    ],
)
def test_noise_does_not_depend_on_split_or_order_of_the_batch(draw, tolerance):
    shape = (5, 4, 3)
    whole = drawn_by(draw, 0, range(9), shape)
    thirds = [drawn_by(draw, 0, range(i, i + 3), shape) for i in (0, 3, 6)]
    order = [5, 2, 8]
    shuffled = drawn_by(draw, 0, order, shape)
    alone = drawn_by(draw, 0, [4], shape)

    def assert_equal(received, expected):
        np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance)

    assert_equal(np.concatenate(thirds), whole)
    assert_equal(shuffled, whole[order])
    assert_equal(alone, whole[4:5])


def test_noise_equals_the_reference():
    keys = equations.bits(6, np.arange(3))
    np.testing.assert_array_equal(
        uniform_noise(6, 3, (2, 3)),
        equations.example_uniform(keys, (2, 3)),
    )


def test_different_keys_give_different_noise():
    noise = uniform_noise(0, 2000, (4,))
    assert len(np.unique(noise, axis=0)) == 2000


# Normal numbers.


def test_normal_numbers_equal_box_and_muller():
    drawn = drawn_by(randomness.example_normal, 8, range(20), (6, 6))
    keys = equations.bits(8, np.arange(20))
    expected = equations.example_normal(keys, (6, 6))
    np.testing.assert_allclose(drawn, expected, atol=2e-5)


def test_normal_numbers_are_normal():
    drawn = drawn_by(randomness.example_normal, 9, range(300), (600,))
    assert np.isfinite(drawn).all()
    assert drawn.mean() == pytest.approx(0, abs=0.012)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    assert abs(correlation(drawn[:, 1:], drawn[:, :-1])) < 0.01
    assert abs(correlation(drawn[1:], drawn[:-1])) < 0.01


# Seeds.


def test_seeds_are_integers_from_0_to_the_largest_of_int32():
    # As `checks.integer`, whose tests try other kinds of values.
    for seed in (0, LARGEST, np.int64(3)):
        checked = randomness.check_seed(seed)
        assert (type(checked), checked) == (int, seed)
    for seed, message in (
        (-1, "`seed` needs an integer >= 0, received -1"),
        (2**31, "`seed` needs an integer <= 2147483647, received 2147483648"),
    ):
        with pytest.raises(ValueError, match=message):
            randomness.check_seed(seed)
    with pytest.raises(TypeError, match="`seed` needs an integer, .* of type"):
        randomness.check_seed(1.0)
