"""The contract of all training methods, and sums of them.

A method turns what a step knows into loss terms; the training step weighs,
sums and logs them. A new method is one class with two methods, and a name if
it is to be built by one:

    @methods.register("penalty")
    class Penalty(Method):
        def extra_term_names(self):
            return ("penalty",)

        def extra_terms(self, context):
            values = ops.mean(ops.square(context.clean), axis=-1)
            return [Term("penalty", values, (0.5,) * values.shape[1])]

Equations are those of NEO-KD (arXiv 2311.00428).
"""

import numbers
from collections.abc import Sequence

import keras

from keras_neokd import losses
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.typing import Array
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term


class Method(Configurable):
    """Base class: clean plus adversarial cross-entropy, plus extra terms.

    Methods add up: `NEOKD() + 0.5 * ARD()` has the base terms of the first
    once, and the extra terms of both. An argument that is not as described
    raises `TypeError` or `ValueError`, one that does not fit the model when
    the model is compiled.

    Attributes:
        clean_weight, adversarial_weight: weights of the base terms at every
            exit. Default to 1.
        extras_use_attack: whether the extra terms need attacked images.
            Defaults to True.
        num_examples: size of the data set for a method that keeps something
            for each example, which then needs the labels `{"label": ...,
            "index": ...}`; else `None` (default).
        own_attack: an `attacks.Attack` that makes the images of training
            instead of the one given to `compile`; else `None` (default).
        needs_teacher: whether another network teaches. Defaults to False.
        teacher_network: this network, a frozen `keras.Model`; `None`
            (default) until one is given. It is the argument `teacher`, which
            configs name by a file, `teacher_file`.
        exit_arguments: names of the arguments that are exits, each an index,
            several or a word; configs count them from 1. Defaults to none.
    """

    clean_weight = 1.0
    adversarial_weight = 1.0
    extras_use_attack = True
    num_examples: int | None = None
    own_attack: Attack | None = None
    needs_teacher = False
    teacher_network: keras.Model | None = None
    exit_arguments: tuple[str, ...] = ()

    def __add__(self, other: "Method") -> "Sum":
        """Return a `Sum`."""
        if not isinstance(other, Method):
            return NotImplemented
        return Sum([*summands(self), *summands(other)])

    def __rmul__(self, weight: float) -> "Sum":
        """Return the method with its extra terms weighed, for a sum."""
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
            return NotImplemented
        return Sum([(weight * each, method) for each, method in summands(self)])

    __mul__ = __rmul__

    def base_weights(
        self, num_exits: int
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the weights of clean and adversarial cross-entropy.

        Returns:
            Two tuples with one number for each of `num_exits` exits.
        """
        return (
            (self.clean_weight,) * num_exits,
            (self.adversarial_weight,) * num_exits,
        )

    def uses_attack(self, num_exits: int) -> bool:
        """Return whether any term needs attacked images.

        Without them no batch is attacked, and `compile` needs no attack.
        """
        _, on_adversarial = self.base_weights(num_exits)
        return any(on_adversarial) or self.extras_use_attack

    def term_names(self, num_exits: int) -> tuple[str, ...]:
        """Return the names of all terms in the order they are returned."""
        base = ("clean", "adversarial")[: 1 + self.uses_attack(num_exits)]
        return (*base, *self.extra_term_names())

    def extra_term_names(self) -> tuple[str, ...]:
        """Return the names of the terms that `extra_terms` returns."""
        return ()

    def extra_terms(self, context: Context) -> list[Term]:
        """Return what the method adds to the base terms, a list of `Term`."""
        return []

    def __call__(self, context: Context) -> list[Term]:
        """Return all terms of the loss of a `Context`, a list of `Term`."""
        on_clean, on_adversarial = self.base_weights(context.clean.shape[1])
        clean = losses.cross_entropy(context.clean, context.labels)
        terms = [Term("clean", clean, on_clean)]
        if context.adversarial is not None:
            adversarial = losses.cross_entropy(
                context.adversarial, context.labels
            )
            terms.append(Term("adversarial", adversarial, on_adversarial))
        return terms + self.extra_terms(context)

    def begin_step(self, context: Context) -> None:
        """Change what the method keeps; called once per step, before attacks.

        The `Context` is that of the batch, without logits.
        """

    def training_attack(
        self, attack: Attack, context: Context, weight: float = 1.0
    ) -> Attack:
        """Return the attack of some examples of this step.

        A method with an inner objective of its own overrides this and
        returns `attack.with_loss(...)`. It must not change `context.state`:
        where a batch is attacked in slices, it is called for one of them.

        Args:
            attack: the attack given to `compile`.
            context: a `Context` of these examples, without logits.
            weight: what a sum multiplies the extra terms by. Defaults to 1.
        """
        return attack

    def initial_state(self, model: keras.Model) -> dict[str, Array]:
        """Return the variables that the method keeps from step to step.

        That is a dict from names to NumPy arrays. They are saved with the
        `MultiExitModel` that is compiled, and under several replicas all have
        to assign the same.
        """
        return {}

    def check_ready(self) -> None:
        """Raise an error if training cannot begin, before it does."""

    def with_teacher(self, teacher: keras.Model) -> "Method":
        """Return the method with another teacher network, a `keras.Model`.

        Raises:
            ValueError: if the method has no teacher network.
        """
        raise ValueError(
            f"{type(self).__name__} has no teacher network: only methods "
            "such as KDIGA are given one."
        )

    def validate(self, model: keras.Model) -> None:
        """Raise an error if the method does not fit a `MultiExitModel`."""

    def replaces_attack(self) -> bool:
        """Return whether the method has an inner objective of its own."""
        return type(self).training_attack is not Method.training_attack


@keras.saving.register_keras_serializable("keras_neokd")
class Sum(Method):
    """Several methods at once; written `NEOKD() + 0.5 * ARD()`.

    The base terms are those of the first method; weights apply to the extra
    terms only. If a method has an inner objective of its own, the sum's
    attack maximises that.

    Args:
        summands: list of pairs `(weight, method)`, weights >= 0.

    Raises:
        ValueError: also if two methods have a term of the same name, or both
            replace the inner attack.
    """

    def __init__(self, summands: Sequence[tuple[float, Method]]) -> None:
        wanted = "summands", "pairs (weight, method)"
        pairs = checks.sequence("summands", summands, wanted[1])
        pairs = [checks.sequence("summands", each, wanted[1]) for each in pairs]
        if not pairs:
            raise ValueError("A sum needs at least one method, received none.")
        for weight, method in pairs:
            checks.number("weight of a method", weight, minimum=0)
            if not isinstance(method, Method):
                raise TypeError(
                    f"A sum needs methods, received {checks.typed(method)}."
                )
        self.summands = pairs
        self._methods = [method for _, method in pairs]
        self.clean_weight = self._methods[0].clean_weight
        self.adversarial_weight = self._methods[0].adversarial_weight
        self._check_names()
        self._check_attacks()

    @property
    def extras_use_attack(self) -> bool:  # type: ignore[override]
        """True if the extra terms of a method need attacked images."""
        return any(method.extras_use_attack for method in self._methods)

    @property
    def num_examples(self) -> int | None:  # type: ignore[override]
        """The number of examples that a method keeps something for."""
        sizes = [method.num_examples for method in self._methods]
        return max((size for size in sizes if size), default=None)

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        for method in self._methods:
            method.validate(model)

    def base_weights(
        self, num_exits: int
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """See `Method.base_weights`."""
        return self._methods[0].base_weights(num_exits)

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        names = [method.extra_term_names() for method in self._methods]
        return tuple(name for each in names for name in each)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        return [
            term._replace(weights=tuple(weight * each for each in term.weights))
            for weight, method in self.summands
            for term in method.extra_terms(context)
        ]

    def begin_step(self, context: Context) -> None:
        """See `Method.begin_step`."""
        for method in self._methods:
            method.begin_step(context)

    def training_attack(
        self, attack: Attack, context: Context, weight: float = 1.0
    ) -> Attack:
        """See `Method.training_attack`."""
        for each, method in self.summands:
            attack = method.training_attack(attack, context, weight * each)
        return attack

    def replaces_attack(self) -> bool:
        """See `Method.replaces_attack`."""
        return any(method.replaces_attack() for method in self._methods)

    def initial_state(self, model: keras.Model) -> dict[str, Array]:
        """See `Method.initial_state`."""
        states = [method.initial_state(model) for method in self._methods]
        return {key: value for each in states for key, value in each.items()}

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]
        """True if a method needs a teacher."""
        return any(method.needs_teacher for method in self._methods)

    @property
    def teacher_network(self) -> keras.Model | None:  # type: ignore[override]
        """The teacher of the method that has one."""
        networks = [method.teacher_network for method in self._methods]
        return next((each for each in networks if each is not None), None)

    def check_ready(self) -> None:
        """See `Method.check_ready`."""
        for method in self._methods:
            method.check_ready()

    def with_teacher(self, teacher: keras.Model) -> Method:
        """See `Method.with_teacher`."""
        if not self.needs_teacher:
            return super().with_teacher(teacher)

        def given(method):
            if not method.needs_teacher:
                return method
            return method.with_teacher(teacher)

        return Sum([(weight, given(each)) for weight, each in self.summands])

    def _check_names(self):
        names = self.extra_term_names()
        if len(set(names)) != len(names):
            raise ValueError(
                "Methods that add up need terms of different names, received "
                f"{list(names)}. Use one method with a larger weight."
            )

    def _check_attacks(self):
        replacing = [each for each in self._methods if each.replaces_attack()]
        if len(replacing) > 1:
            raise ValueError(
                "Only one method of a sum can have an inner objective of its "
                f"own, received {' and '.join(map(repr, replacing))}: the "
                "attack cannot maximise both."
            )
        for method in self._methods:
            if method.own_attack is not None and len(self.summands) > 1:
                raise ValueError(
                    f"{method!r} trains on images of its own making, which "
                    "the other methods of a sum would have to do, too. Use "
                    "it alone."
                )

    def __repr__(self) -> str:
        return " + ".join(
            repr(method) if weight == 1 else f"{weight} * {method!r}"
            for weight, method in self.summands
        )


def summands(method):
    """Return the weighed parts of a sum; a method with a name is one part."""
    return method.summands if type(method) is Sum else [(1.0, method)]
