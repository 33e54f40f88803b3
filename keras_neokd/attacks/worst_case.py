"""The worst of several attacks, image by image.

WorstCase([PGD(epsilon=0.1, step_size=0.01, num_steps=100),
           APGD(epsilon=0.1), Square(epsilon=0.1)])
"""

import keras
from keras import ops

from keras_neokd import checks
from keras_neokd import randomness
from keras_neokd.attacks import search
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.objective import check_objective


@keras.saving.register_keras_serializable("keras_neokd")
class WorstCase(Attack):
    """Try one attack after another on the images that still resist.

    An image keeps what the first attack that fooled it made of it; one that
    no attack fools comes back clean, and so does one that is misclassified
    already.

    Args:
        attacks: list of at least one `Attack`, all of one norm.
        objective: which exits, and when an image counts as fooled, whatever
            the objectives of the attacks say. Defaults to `AverageExits()`:
            all exits, every one wrong.

    Raises:
        TypeError: if `attacks` or `objective` is something else.
        ValueError: if there is no attack, or the norms differ.
    """

    may_be_unbounded = True

    def __init__(self, attacks, objective=None):
        attacks = checks.sequence("attacks", attacks, "Attacks")
        if not all(isinstance(each, Attack) for each in attacks):
            raise TypeError(
                "`attacks` needs a list of Attacks, received "
                f"{checks.shown(attacks)}."
            )
        norms = sorted({each.norm for each in attacks})
        if len(norms) != 1:
            raise ValueError(
                "`attacks` needs attacks of one norm, to have one ball: "
                f"received {len(attacks)} attacks of norms {norms}."
            )
        radii = [each.epsilon for each in attacks]
        super().__init__(None if None in radii else max(radii), norms[0])
        self.attacks = attacks
        self.objective = check_objective(objective)

    @property
    def members(self):
        """All attacks in order, those of other `WorstCase`s one by one."""
        return tuple(
            member
            for attack in self.attacks
            for member in getattr(attack, "members", (attack,))
        )

    def validate(self, num_exits, num_classes=None):
        """See `Attack.validate`."""
        self.objective.check(num_exits)
        for attack in self.attacks:
            attack.validate(num_exits, num_classes)

    def perturb(self, predict, images, labels, keys):
        """See `Attack.perturb`; `info` holds `fooled`, `(batch, 1)`."""
        problem = search.Problem(predict, self.objective, images, labels, keys)
        found = {
            "adversarial": images,
            "fooled": problem.fooled(problem.logits(images)),
        }
        for number, attack in enumerate(self.members):
            candidate, _ = attack.generate(
                predict, images, labels, self._keys(keys, number)
            )
            fooled = problem.fooled(problem.logits(candidate))
            found = search.merge(
                found, {"adversarial": candidate, "fooled": fooled}
            )
        fooled = ops.cast(found["fooled"], "float32")
        return found["adversarial"], {"fooled": ops.expand_dims(fooled, 1)}

    def _keys(self, keys, number):
        # A single attack draws what it draws alone.
        if len(self.members) == 1:
            return keys
        return randomness.bits(keys, number)
