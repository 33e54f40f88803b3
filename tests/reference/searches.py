"""The searching attacks once more, in plain NumPy and float64.

Written from the equations of the papers and auto-attack's settings, one image
at a time, and importing nothing from keras_neokd. What is random comes from
`equations.py`.
"""

import numpy as np
from keras import ops

from tests.reference import equations as reference
from tests.reference.equations import loss_and_gradient

STEPS_PER_ROUND = 10


class QuadraticExits(reference.LinearExits):
    """Exits whose logits are quadratic in the pixels, so gradients change.

    The larger `alike`, the more do exits agree on an image.
    """

    def __init__(self, num_exits, image_shape, num_classes, scale=0.3, alike=1):
        super().__init__(num_exits, image_shape, num_classes, scale)
        rng = np.random.default_rng(12)
        self.bends = 4 * scale * rng.normal(size=self.weights.shape)
        for each in (self.weights, self.offsets, self.bends):
            each += alike * each.mean(axis=0)

    def __call__(self, images, exits):
        flat = ops.reshape(images, (-1, self.weights.shape[1]))
        bends = ops.convert_to_tensor(self.bends, "float32")
        linear = super().__call__(images, exits)
        squares = ops.square(flat - 0.5)
        return [
            ops.matmul(squares, bends[i]) + logits
            for i, logits in zip(exits, linear, strict=True)
        ]

    def logits(self, images, exit_):
        """Logits of one exit."""
        flat = np.asarray(images, "float64").reshape(len(images), -1)
        return (
            super().logits(images, exit_)
            + (flat - 0.5) ** 2 @ (self.bends[exit_])
        )

    def jacobian(self, image, exit_):
        """Gradients of the logits for one image: `(pixels, classes)`."""
        flat = np.asarray(image, "float64").ravel()
        return (
            self.weights[exit_]
            + 2 * (flat[:, None] - 0.5) * (self.bends[exit_])
        )


class Example:
    """One image under attack: what an attack may ask about it.

    `success` is "all", "any" or "never": that no image ever counts as fooled
    keeps a search going to its end.
    """

    def __init__(
        self,
        model,
        image,
        label,
        key,
        loss="cross_entropy",
        target=None,
        exits=None,
        success="all",
    ):
        self.model = model
        self.image = np.asarray(image, "float64")
        self.label = label
        self.key = key
        self.loss = loss
        self.target = target
        self.exits = range(model.num_exits) if exits is None else exits
        self.success = success

    def logits(self, x):
        return [self.model.logits(x[None], i)[0] for i in self.exits]

    def fooled(self, x):
        wrong = [each.argmax() != self.label for each in self.logits(x)]
        if self.success == "never":
            return False
        return any(wrong) if self.success == "any" else all(wrong)

    def value_and_gradient(self, x, loss=None):
        """Mean loss over the exits, and its gradient for the pixels."""
        loss = self.loss if loss is None else loss
        values, gradients = [], []
        for i, logits in zip(self.exits, self.logits(x), strict=True):
            value, pull = loss_and_gradient(
                loss, logits, self.label, self.target
            )
            values.append(value)
            gradients.append(self.model.jacobian(x, i) @ pull)
        gradient = np.mean(gradients, axis=0).reshape(x.shape)
        return np.mean(values), gradient

    def likely_classes(self):
        """Wrong classes, the most likely on the clean image first."""
        mean = sum(reference.softmax(each) for each in self.logits(self.image))
        return [each for each in np.argsort(-mean) if each != self.label]

    def project(self, x, epsilon, norm):
        return reference.project(x[None], self.image[None], epsilon, norm)[0]

    def random_direction(self, key, norm):
        """A vector of length 1."""
        shape = self.image.shape
        if norm == "linf":
            noise = 2 * reference.example_uniform([key], shape)[0] - 1
            return noise / abs(noise).max()
        noise = reference.example_normal([key], shape)[0]
        return noise / np.linalg.norm(noise)


def several_attempts(example, attempt, num_attempts=1):
    """What the first successful attempt found, and the number of the attempt.

    The clean image and `None` if none did, or if it is fooled already.

    Args:
        example: an `Example`.
        attempt: function of the example and the number of the attempt.
        num_attempts: number of attempts.
    """
    if not example.fooled(example.image):
        for number in range(num_attempts):
            found = attempt(example, number)["found"]
            if found is not None:
                return found, number
    return example.image, None


# APGD.


def apgd(example, epsilon, num_steps, norm, checkpoints, attempt=0, rho=0.75):
    """One attempt of Auto-PGD.

    `checkpoints` are the numbers of iterations after which the step may be
    halved. Returns a dict: `found` (an image or `None`), and `x`, `best`,
    `best_x` and `step` at the end.
    """
    key = reference.bits_of_words(example.key, attempt)
    noise = epsilon * example.random_direction(key, norm)
    x = before = np.clip(example.image + noise, 0, 1)
    value, gradient = example.value_and_gradient(x)
    found = x if example.fooled(x) else None
    best, best_x, best_gradient = value, x, gradient
    step, halved, best_then = 2 * epsilon, True, value
    # auto-attack compares the first loss with 0.
    value_before, rises, last_check = 0.0, 0, 0
    for done in range(1, num_steps + 1):
        if done % STEPS_PER_ROUND == 1 and found is not None:
            break
        direction = np.sign(gradient)
        if norm == "l2":
            direction = gradient / np.linalg.norm(gradient)
        ascended = example.project(x + step * direction, epsilon, norm)
        if done == 1:
            new = ascended
        else:
            new = x + 0.75 * (ascended - x) + 0.25 * (x - before)
        before, x = x, example.project(new, epsilon, norm)
        value, gradient = example.value_and_gradient(x)
        if example.fooled(x):
            found = x
        rises += value > value_before
        value_before = value
        if value > best:
            best, best_x, best_gradient = value, x, gradient
        if done in checkpoints:
            stuck = not halved and best <= best_then
            halved = rises <= rho * (done - last_check) or stuck
            if halved:
                step, x, gradient = step / 2, best_x, best_gradient
            best_then, rises, last_check = best, 0, done
    return {
        "found": found,
        "x": x,
        "best": best,
        "best_x": best_x,
        "step": step,
    }


# FAB.


def move_to_plane(point, normal, level, norm):
    """Shortest move inside [0, 1] onto `normal . x = level`.

    All pixels move at once, at speed 1 or at the speed of their weight,
    until they reach 0 or 1. The times at which they do are sorted, and the
    answer lies between two of them.
    """
    x, w = point.ravel(), normal.ravel()
    need = abs(w @ x - level)
    # Where the sum is too large, pixels of positive weight go down.
    direction = np.sign(w) * (1 if w @ x < level else -1)
    room = np.where(direction > 0, 1 - x, np.where(direction < 0, x, 0))
    speed = np.ones_like(w) if norm == "linf" else abs(w)
    moving = abs(w) > 0
    times = np.zeros_like(w)
    times[moving] = room[moving] / speed[moving]

    def reached(time):
        return abs(w) @ np.minimum(time * speed, room)

    earlier = 0.0
    for time in np.sort(times):
        if reached(time) >= need:
            slope = abs(w) @ (speed * (times >= time) * moving)
            time = earlier + (need - reached(earlier)) / slope
            break
        earlier = time
    move = direction * np.minimum(time * speed, room)
    return move.reshape(point.shape)


def length(x, norm):
    return abs(x).max() if norm == "linf" else np.linalg.norm(x)


def fab(example, epsilon, num_steps, norm, attempt=0, is_first=True, draw=0.9):
    """An attempt of FAB; returns `found` (or `None`) and the last point `x`."""
    clean, label = example.image, example.label
    x = clean
    if not is_first:
        key = reference.bits_of_words(example.key, attempt)
        noise = example.random_direction(key, norm)
        x = np.clip(clean + epsilon / 2 * noise, 0, 1)
    dual = {"linf": 1, "l2": 2}[norm]
    found = None
    for done in range(1, num_steps + 1):
        if done % STEPS_PER_ROUND == 1 and found is not None:
            break
        logits = np.mean(example.logits(x), axis=0)
        jacobian = np.mean(
            [example.model.jacobian(x, i) for i in example.exits], axis=0
        )
        others = [c for c in range(len(logits)) if c != label]
        if example.target is not None:
            others = [example.target]
        planes = [
            (logits[c] - logits[label], jacobian[:, c] - jacobian[:, label])
            for c in others
        ]
        difference, normal = min(
            planes,
            key=lambda each: abs(each[0]) / np.linalg.norm(each[1], dual),
        )
        level = normal @ x.ravel() - difference
        there = move_to_plane(x, normal, level, norm)
        back = move_to_plane(clean, normal, level, norm)
        far = max(length(there, norm), 1e-8)
        near = max(length(back, norm), 1e-8)
        weight = min(far / (far + near), 0.1)
        x = np.clip(
            (1 - weight) * (x + 1.05 * there) + weight * (clean + 1.05 * back),
            0,
            1,
        )
        if example.fooled(x):
            if length(x - clean, norm) <= epsilon:
                found = x
            x = clean + draw * (x - clean)
    return {"found": found, "x": x}


# Square.


def queries(example, key, x, sides, count, propose):
    """Keep what helps of the images that queries with random numbers propose.

    Returns `found` (or `None`), the last image `x` and its score `best`.
    """
    best = example.value_and_gradient(x)[0]
    for query, side in enumerate(sides):
        if example.fooled(x):
            break
        query_key = reference.bits_of_words(key, query)
        numbers = reference.example_uniform([query_key], (count,))[0]
        candidate = propose(x, side, numbers)
        score = example.value_and_gradient(candidate)[0]
        if score > best or example.fooled(candidate):
            x, best = candidate, score
    return {"found": x if example.fooled(x) else None, "x": x, "best": best}


def window(numbers, side, shape):
    """A square of pixels at a random place."""
    row, column = (
        int(share * (size - side))
        for share, size in zip(numbers, shape[:2], strict=True)
    )
    return slice(row, row + side), slice(column, column + side)


def square(example, epsilon, sides, attempt=0):
    """One attempt of the square attack, with one side for each query."""
    clean = example.image
    _, width, channels = clean.shape
    key = reference.bits_of_words(example.key, attempt)
    drawn = reference.example_uniform([key], (1, width, channels))[0]
    x = np.clip(clean + epsilon * np.where(drawn < 0.5, -1, 1), 0, 1)

    def propose(x, side, numbers):
        change = np.zeros_like(clean)
        signs = np.where(numbers[2:] < 0.5, -1, 1)
        change[window(numbers[:2], side, clean.shape)] = 2 * epsilon * signs
        return example.project(x + change, epsilon, "linf")

    return queries(example, key, x, sides, 2 + channels, propose)


def square_l2(example, epsilon, sides, attempt=0):
    """One attempt of the square attack in L2, as `square`.

    Written after the equations and pseudo-code of the paper (section 3.3):
    pixel by pixel where the library works with masks.
    """
    clean = example.image
    channels = clean.shape[2]
    key = reference.bits_of_words(example.key, attempt)
    x = scaled(clean, first_bumps(clean.shape, key), epsilon)

    def propose(x, side, numbers):
        to = window(numbers[:2], side, clean.shape)
        out_of = window(numbers[2:4], side, clean.shape)
        change = x - clean
        both = np.zeros((*clean.shape[:2], 1))
        both[to] = both[out_of] = 1
        unused = max(epsilon**2 - (change**2).sum(), 0) / channels
        bump = bumps(side)
        bump = bump.T if numbers[4] < 0.5 else bump
        new = np.zeros((side, side, channels))
        for channel in range(channels):
            there = ((change * both)[..., channel] ** 2).sum()
            kept = change[to][..., channel]
            kept = kept / (np.linalg.norm(kept) + 1e-12)
            sign = -1 if numbers[5 + channel] < 0.5 else 1
            mixed = sign * bump + kept
            mixed = mixed / (np.linalg.norm(mixed) + 1e-12)
            new[..., channel] = mixed * np.sqrt(unused + there)
        change[out_of] = 0
        change[to] = new
        return scaled(clean, change, epsilon)

    return queries(example, key, x, sides, 5 + channels, propose)


def scaled(clean, change, epsilon):
    """The image after a change of length epsilon."""
    change = change / (np.linalg.norm(change) + 1e-12) * epsilon
    return np.clip(clean + change, 0, 1)


def first_bumps(shape, key):
    """Bumps all over the image, each with its own sign and direction."""
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    drawn = reference.example_uniform([key], (rows, columns, 1 + channels))[0]
    change = np.zeros(shape)
    for i in range(rows):
        for j in range(columns):
            bump = bumps(side).T if drawn[i, j, 0] < 0.5 else bumps(side)
            signs = np.where(drawn[i, j, 1:] < 0.5, -1, 1)
            start = top + i * side, left + j * side
            change[start[0] : start[0] + side, start[1] : start[1] + side] = (
                bump[..., None] * signs
            )
    return change


def bumps(side):
    """Two bumps of opposite sign, one above the other, of length 1."""
    parts = []
    for rows in (side // 2, side - side // 2):
        part = np.zeros((rows, side))
        for (i, j), _ in np.ndenumerate(part):
            # Rings grow from the centre, each cut off at the edge; all of
            # them that reach a pixel add to it.
            ring = max(abs(i - rows // 2), abs(j - side // 2))
            last = max(rows // 2, side // 2)
            part[i, j] = sum(1 / (k + 1) ** 2 for k in range(ring, last + 1))
        norm = np.linalg.norm(part)
        parts.append(part / norm if norm else part)
    both = np.concatenate([parts[0], -parts[1]])
    return both / np.linalg.norm(both)


# CW.


def cw(example, c, kappa, num_steps, learning_rate, epsilon=None):
    """Carlini and Wagner's attack with Adam.

    Returns `found` (the image closest to the clean one, or `None`) and the
    number of `steps` after which the image was left alone.
    """
    clean = example.image
    w = np.arctanh(np.clip(2 * clean - 1, -1 + 1e-6, 1 - 1e-6))
    first = second = np.zeros_like(w)
    found, shortest, cost_before = None, np.inf, np.inf
    for step in range(num_steps):
        x = (np.tanh(w) + 1) / 2
        gradient, hinges = 2 * (x - clean), []
        for i, logits in zip(example.exits, example.logits(x), strict=True):
            margin, pull = loss_and_gradient("margin", logits, example.label)
            hinges.append(max(-margin, -kappa))
            if -margin > -kappa:
                weights = example.model.jacobian(x, i) @ pull
                gradient -= c * weights.reshape(x.shape) / len(example.exits)
        distance = np.linalg.norm(x - clean)
        if (
            example.fooled(x)
            and distance < shortest
            and (epsilon is None or distance <= epsilon)
        ):
            found, shortest = x, distance
        if step % max(num_steps // 10, 1) == 0:
            cost = distance**2 + c * np.mean(hinges)
            if cost > cost_before:
                break
            cost_before = cost
        gradient *= (1 - np.tanh(w) ** 2) / 2
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1))
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1)))
        w = w - learning_rate * unbiased / (scale + 1e-8)
    return {"found": found, "steps": step + 1}
