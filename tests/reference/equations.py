"""The library's mathematics once more, in plain NumPy and float64.

Written from the equations (NEO-KD, arXiv 2311.00428; PGD as in triple-wins)
and from the description of the random numbers, and importing nothing from
keras_neokd, so that a mistake there cannot hide here. Formulas are the
textbook ones, without the tricks that make them stable.
"""

import math

import numpy as np
from keras import ops

_WORD = 2**32


def mix(word):
    """Chris Wellons' "lowbias32" on Python integers."""
    word ^= word >> 16
    word = word * 0x7FEB352D % _WORD
    word ^= word >> 15
    word = word * 0x846CA68B % _WORD
    return word ^ word >> 16


def bits_of_words(*words):
    """Mix Python integers into one 32-bit integer."""
    state = 0
    for word in words:
        hashed = mix((word + 0x9E3779B9) % _WORD)
        state = mix(state * 0x85EBCA6B % _WORD ^ hashed)
    return state


def bits(*words):
    """Mix integer arrays that broadcast, as an object array of integers."""
    return np.vectorize(bits_of_words, otypes=[object])(
        *(np.asarray(word, object) for word in words)
    )


def uniform(*words):
    """Numbers in (0, 1): the upper 23 bits, in the middle of their cell."""
    return (np.array(bits(*words) // 2**9, "float64") + 0.5) / 2**23


def example_uniform(keys, shape):
    """One array of uniform numbers per key."""
    pixels = np.arange(math.prod(shape)).astype(object)
    return uniform(np.asarray(keys, object)[:, None], pixels).reshape(
        (-1, *shape)
    )


def example_normal(keys, shape):
    """One array of standard normal numbers per key, by Box and Muller."""
    first = example_uniform(bits(keys, 0), shape)
    second = example_uniform(bits(keys, 1), shape)
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)


def softmax(logits):
    """Probabilities over the last axis."""
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def confidence(kind, probabilities):
    """How sure predictions are, from 0 to 1."""
    ordered = np.sort(probabilities, axis=-1)
    if kind == "entropy":
        return 1 - entropy(probabilities) / np.log(probabilities.shape[-1])
    return ordered[..., -1] - (kind == "margin") * ordered[..., -2]


def cross_entropy(logits, labels):
    """`-log p_y` of `(batch, classes)` or `(batch, exits, classes)`."""
    log_p = np.log(softmax(np.asarray(logits, "float64")))
    rows = np.arange(len(labels))
    return -log_p[rows, ..., labels]


def soft_cross_entropy(logits, targets, temperature=1.0):
    """`-sum q log p`."""
    return -np.sum(targets * np.log(softmax(logits / temperature)), axis=-1)


def entropy(targets):
    """`-sum q log q`, where 0 log 0 is 0."""
    logs = np.log(np.where(targets > 0, targets, 1.0))
    return -np.sum(targets * logs, axis=-1)


def kl(logits, targets, temperature=1.0):
    """`KL(targets || softmax(logits / temperature))`."""
    cross = soft_cross_entropy(logits, targets, temperature)
    return cross - entropy(targets)


def kl_of_logits(first, second, temperature=1.0):
    """`KL(softmax(first) || softmax(second))`, both softened."""
    return kl(second, softmax(first / temperature), temperature)


def loss_and_gradient(name, logits, label, target=None):
    """A loss of the logits of one image, and its gradient.

    `margin`: the largest wrong logit minus the true one; `dlr`: the same,
    divided by the largest logit minus the third; both with `targeted_` for
    one wrong class, where the ratio's divisor is the largest logit minus the
    mean of the third and the fourth.
    """
    one = np.eye(len(logits))
    rank = np.argsort(-logits)
    if name == "cross_entropy":
        p = softmax(logits)
        return -np.log(p[label]), p - one[label]
    wrong, rest = target, one[rank[2:4]].sum(axis=0) / 2
    if not name.startswith("targeted"):
        wrong = next(each for each in rank if each != label)
        rest = one[rank[2:3]].sum(axis=0)
    gradient = one[wrong] - one[label]
    value = gradient @ logits
    if name.endswith("margin"):
        return value, gradient
    scale = one[rank[0]] - rest
    size = scale @ logits
    return value / size, gradient / size - value / size**2 * scale


def _losses(name, logits, labels, targets=None):
    targets = [None] * len(labels) if targets is None else targets
    rows = zip(logits, labels, targets, strict=True)
    return np.array([loss_and_gradient(name, *row)[0] for row in rows])


def margin(logits, labels):
    """Margin of `(batch, classes)`."""
    return _losses("margin", logits, labels)


def dlr(logits, labels):
    """Difference of logits ratio of `(batch, classes)`."""
    return _losses("dlr", logits, labels)


def targeted_dlr(logits, labels, targets):
    """Targeted difference of logits ratio of `(batch, classes)`."""
    return _losses("targeted_dlr", logits, labels, targets)


def neighbor_teacher(clean, radius):
    """Mean of softmaxes over neighbours, exit by exit (Eq. 5)."""
    predictions = softmax(clean)
    last = clean.shape[1] - 1
    teachers = []
    for exit_ in range(last + 1):
        first, stop = max(0, exit_ - radius), min(last, exit_ + radius) + 1
        teachers.append(predictions[:, first:stop].mean(axis=1))
    return np.stack(teachers, axis=1)


def orthogonal_targets(clean, allowed):
    """Kept probabilities divided by their sum (Eq. 6)."""
    kept = softmax(clean) * allowed
    return kept / kept.sum(axis=-1, keepdims=True)


def eokd_key(seed, *words):
    """What EOKD draws classes from: the seed, its stream, and more words.

    The stream is part of the contract, since a changed number would change
    every resumed run.
    """
    return bits_of_words(seed, 0x0E0CD, *words)


def orthogonal_classes(label, num_exits, num_classes, key):
    """Classes of each exit for one example, as a list of sets."""
    order = []
    for each in range(num_classes):
        score = bits_of_words(key, each)
        # Compared as signed numbers, like int32.
        signed = score - _WORD if score >= _WORD // 2 else score
        order.append((signed, each))
    others = [each for _, each in sorted(order) if each != label]
    size = (num_classes - 1) // num_exits
    return [
        {label, *others[size * i : size * (i + 1)]} for i in range(num_exits)
    ]


def allowed_classes(labels, keys, num_exits, num_classes):
    """The same for a batch: ones and zeros `(batch, exits, classes)`."""
    allowed = np.zeros((len(labels), num_exits, num_classes))
    for row, (label, key) in enumerate(zip(labels, keys, strict=True)):
        sets = orthogonal_classes(int(label), num_exits, num_classes, key)
        for exit_, kept in enumerate(sets):
            allowed[row, exit_, list(kept)] = 1
    return allowed


def central_difference(function, x, width=1e-5):
    """Gradient of `function(x).sum()` for a float64 array."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = width
        rise = np.sum(function(x + moved)) - np.sum(function(x - moved))
        gradient[place] = rise / (2 * width)
    return gradient


class LinearExits:
    """Exits whose logits are linear in the pixels: gradients are known.

    Calling the object is the Keras version, for `ExitLogits`; it notes which
    exits it was asked for in `calls`.
    """

    def __init__(self, num_exits, image_shape, num_classes, scale=1.0):
        rng = np.random.default_rng(11)
        pixels = math.prod(image_shape)
        self.weights = scale * rng.normal(size=(num_exits, pixels, num_classes))
        self.offsets = scale * rng.normal(size=(num_exits, num_classes))
        self.num_exits = num_exits
        self.calls = []

    def __call__(self, images, exits):
        self.calls.append(exits)
        flat = ops.reshape(images, (-1, self.weights.shape[1]))
        weights = ops.convert_to_tensor(self.weights, "float32")
        offsets = ops.convert_to_tensor(self.offsets, "float32")
        return [ops.matmul(flat, weights[i]) + offsets[i] for i in exits]

    def logits(self, images, exit_):
        """Logits of one exit."""
        flat = np.asarray(images, "float64").reshape(len(images), -1)
        return flat @ self.weights[exit_] + self.offsets[exit_]

    def score(self, images, labels, exits, loss="cross_entropy"):
        """Mean loss over exits, `(batch,)`."""
        function = {"cross_entropy": cross_entropy, "margin": margin}[loss]
        values = [function(self.logits(images, i), labels) for i in exits]
        return np.mean(values, axis=0)

    def gradient(self, images, labels, exits, loss="cross_entropy"):
        """Gradient of the score of each image with respect to its pixels."""
        total = np.zeros((len(images), self.weights.shape[1]))
        for i in exits:
            logits = self.logits(images, i)
            for row, label in enumerate(labels):
                pull = loss_and_gradient(loss, logits[row], label)[1]
                total[row] += self.weights[i] @ pull / len(exits)
        return total.reshape(np.shape(images))


def lengths(x):
    """L2 norm of each example, shaped to broadcast."""
    axes = tuple(range(1, x.ndim))
    return np.sqrt(np.sum(x**2, axis=axes, keepdims=True))


def project(points, images, epsilon, norm):
    """Onto the ball around the images, then onto [0, 1]."""
    change = points - images
    if norm == "linf":
        change = np.clip(change, -epsilon, epsilon)
    else:
        size = lengths(change)
        change = np.where(size > epsilon, change * epsilon / size, change)
    return np.clip(images + change, 0, 1)


def random_start(images, keys, epsilon, norm):
    """A random point of the ball, clipped to [0, 1]."""
    shape = images.shape[1:]
    if norm == "linf":
        noise = epsilon * (2 * example_uniform(keys, shape) - 1)
    else:
        noise = example_normal(keys, shape)
        noise *= epsilon / lengths(noise)
        noise *= uniform(keys, _WORD - 1).reshape(-1, *(1,) * len(shape))
    return np.clip(images + noise, 0, 1)


def pgd(
    model,
    images,
    labels,
    exits,
    start,
    epsilon,
    step_size,
    num_steps,
    norm="linf",
    loss="cross_entropy",
):
    """Projected gradient ascent; returns all iterates, the start first."""
    iterates = [start]
    for _ in range(num_steps):
        gradient = model.gradient(iterates[-1], labels, exits, loss)
        if norm == "linf":
            direction = np.sign(gradient)
        else:
            direction = gradient / lengths(gradient)
        moved = iterates[-1] + step_size * direction
        iterates.append(project(moved, images, epsilon, norm))
    return iterates
