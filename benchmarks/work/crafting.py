"""Images of the training attack, crafted in a precision."""

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.base import randomness
from keras_neokd.evaluation import batches


class Crafting:
    """Craft all images with the max-average attack.

    Step k does so with seed k. It returns a number per image, what a model in
    float32 loses by it: the mean cross-entropy of all exits. Images that are
    equal have equal losses.

    Args:
        model: `.keras` file of a `MultiExitModel` in float32.
        images: `.npz` file with `images` and `labels`.
        epsilon: radius of PGD, whose steps are a quarter of it.
        num_steps: steps of PGD.
        batch_size: images at a time.
        crafting_dtype: as for `compile`.
    """

    def __init__(
        self, model, images, epsilon, num_steps, batch_size, crafting_dtype
    ):
        self._model = keras.saving.load_model(model, compile=False)
        self._attack = attacks.MaxAverage(
            attacks.PGD(epsilon, epsilon / 4, num_steps)
        )
        with np.load(images) as arrays:
            self._images, self._labels = batches.check(
                self._model, arrays["images"], arrays["labels"], batch_size
            )
        self._batch_size, self._seed = batch_size, -1
        self._dtype = crafting_dtype
        self._craft = backend.compile_per_example(
            self._crafted, self._model.variables
        )

    def _crafted(self, images, labels, index, seed):
        images = ops.convert_to_tensor(images)
        labels = ops.convert_to_tensor(labels)
        predict = self._model.exit_logits().frozen(self._dtype)
        keys = randomness.bits(seed, index)
        adversarial, _ = self._attack.generate(predict, images, labels, keys)
        logits = ops.stack(predict.exact(adversarial), axis=1)
        values = losses.cross_entropy(logits, labels)
        return {"loss": ops.mean(values, axis=1)}

    def step(self):
        """Craft all images once."""
        self._seed += 1

        def craft(images, labels, index):
            seed = np.full_like(index, self._seed)
            return self._craft(images, labels, index, seed)

        found = batches.over_examples(
            craft, self._images, self._labels, self._batch_size
        )
        return found["loss"]
