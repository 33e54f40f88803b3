"""Log training and testing: every term and accuracy of every exit.

Names, for exits `exit_1` ... and terms such as `clean`, `adversarial`, `nkd`:

- `loss`: the optimised loss, regularisers included; in validation and
  `evaluate`, where methods do not matter, the sum over exits of the
  cross-entropies of clean and, if there is a validation attack, attacked
  images, plus regularisers;
- `clean_accuracy`, `adversarial_accuracy`, `<term>_loss`: means over exits;
- `<exit>_clean_accuracy`, `<exit>_<term>_loss` ...: the same for one exit;
- `<exit>_selected_share`: share of images whose max-average candidate came
  from the attack on this exit.

Terms are logged as they enter the loss: weighted by `sample_weight`, not yet
by alpha, beta and gamma. Accuracies are unweighted. Logits that are NaN or
infinite have no accuracy: it is NaN, and so are the metrics of their exit.
"""

import functools
import inspect

import keras
import numpy as np
from keras import ops

KINDS = ("clean", "adversarial")


class NamedMeans(keras.metrics.Metric):
    """Means of many named per-example values, in two variables.

    A model with seven exits logs more than fifty numbers in each step: too
    many for a metric object each.
    """

    def __init__(self, names, name):
        super().__init__(name=name, dtype="float32")
        self.names = tuple(names)
        self.total = self.add_variable(
            (len(self.names),), initializer="zeros", name="total"
        )
        self.count = self.add_variable((), initializer="zeros", name="count")

    def update_state(self, values):
        """Add a batch of values `(batch, len(names))`."""
        self.total.assign(self.total + ops.sum(values, axis=0))
        self.count.assign(
            self.count + ops.cast(ops.shape(values)[0], "float32")
        )

    def result(self):
        """Return a dict from names to means."""
        means = self.total / ops.maximum(self.count, 1.0)
        return {name: means[i] for i, name in enumerate(self.names)}


class Recorder:
    """Turn the results of steps into metrics.

    Args:
        name: name of the recorder, unique in a model.
        exit_names: names of the exits in depth order.
        attack: an `attacks.Attack`, or `None` for clean images only.
        terms: names of the loss terms; `None` for the kinds of images.
        metrics: dict from `(kind, exit index)` to lists of Keras metrics.
    """

    def __init__(self, name, exit_names, attack, terms, metrics):
        self._exit_names = exit_names
        self._kinds = KINDS[:1] if attack is None else KINDS
        self._terms = terms or self._kinds
        logged = {} if attack is None else attack.logged(len(exit_names))
        self._logged_by_attack = tuple(logged)
        quantities = [f"{kind}_accuracy" for kind in self._kinds]
        quantities += [f"{term}_loss" for term in self._terms]
        of_exits = {
            **dict.fromkeys(quantities, range(len(exit_names))),
            **logged,
        }
        self._means = NamedMeans(
            ["loss", *quantities]
            + [
                f"{exit_names[index]}_{quantity}"
                for quantity, exits in of_exits.items()
                for index in exits
            ],
            name=name,
        )
        self._metrics = [
            (kind, index, metric)
            for (kind, index), found in metrics.items()
            for metric in found
            if kind in self._kinds
        ]

    @property
    def metrics(self):
        """All metric objects."""
        return [self._means, *(metric for _, _, metric in self._metrics)]

    def update(self, batch, result, info):
        """Add a batch, and return a dict of the means since the last reset.

        Args:
            batch: a `batch.Batch`.
            result: a `batch.Result`.
            info: dict from the attack.
        """
        logits = {"clean": result.clean, "adversarial": result.adversarial}
        quantities = [
            _correct(logits[kind], batch.labels) for kind in self._kinds
        ]
        quantities += [result.terms[term] for term in self._terms]
        columns = [ops.expand_dims(result.examples, 1)]
        columns += [ops.mean(each, 1, keepdims=True) for each in quantities]
        columns += quantities
        columns += [info[name] for name in self._logged_by_attack]
        self._means.update_state(ops.concatenate(columns, axis=1))
        for kind, index, metric in self._metrics:
            metric.update_state(batch.labels, logits[kind][:, index])
        return self.results()

    def results(self):
        """Return a dict of the means since the last reset."""
        results = self._means.result()
        for kind, index, metric in self._metrics:
            accuracy = results[f"{self._exit_names[index]}_{kind}_accuracy"]
            for name, value in _named(metric).items():
                results[name] = ops.where(
                    ops.isnan(accuracy), accuracy, ops.cast(value, "float32")
                )
        return results

    def has_data(self):
        """Return whether there was a batch since the last reset."""
        return float(ops.convert_to_numpy(self._means.count)) > 0


class Logs:
    """Hold the recorders of training and testing.

    Args:
        exit_names: names of the exits in depth order.
        settings: namespace of the arguments of `compile`, as objects.
    """

    def __init__(self, exit_names, settings):
        makers = [_maker(each) for each in _as_list(settings.metrics)]
        _check_unique([make("") for make in makers if make])
        # Training and testing share them: each resets them first.
        metrics = {
            (kind, index): [
                make(f"{exit_name}_{kind}_") for make in makers if make
            ]
            for kind in KINDS
            for index, exit_name in enumerate(exit_names)
        }
        method, num_exits = settings.method, len(exit_names)
        attack = settings.attack if method.uses_attack(num_exits) else None
        terms = method.term_names(num_exits)
        self.training = Recorder("training", exit_names, attack, terms, metrics)
        self.testing = Recorder(
            "testing", exit_names, settings.validation_attack, None, metrics
        )

    @property
    def metrics(self):
        """All metric objects."""
        training, *metrics = self.training.metrics
        testing, *others = self.testing.metrics
        known = {id(metric) for metric in metrics}
        others = [metric for metric in others if id(metric) not in known]
        return [training, *metrics, testing, *others]

    @functools.cached_property
    def training_names(self):
        """Return the names of everything that training logs, in order."""
        return list(self.training.results())

    def results_with_data(self):
        """Return the results of the recorders that saw data since the reset."""
        return {
            name: value
            for recorder in (self.training, self.testing)
            if recorder.has_data()
            for name, value in recorder.results().items()
        }


def _correct(logits, labels):
    """Return 1 for right answers and 0 for wrong ones, `(batch, exits)`.

    NaN where logits are NaN or infinite: the largest of them says nothing.
    """
    answers = ops.cast(ops.argmax(logits, axis=-1), "int32")
    correct = ops.equal(answers, ops.expand_dims(labels, 1))
    finite = ops.all(ops.isfinite(logits), axis=-1)
    return ops.where(finite, ops.cast(correct, "float32"), np.nan)


def _named(metric):
    """Return the results of a Keras metric as a dict."""
    result = metric.result()
    return result if isinstance(result, dict) else {metric.name: result}


def _as_list(metrics):
    if metrics is None:
        return []
    if not isinstance(metrics, (list, tuple)):
        raise TypeError(
            "`metrics` needs a list of Keras metrics; each is applied to "
            f"every exit. Received {metrics!r}."
        )
    return metrics


def _check_unique(metrics):
    names = [metric.name for metric in metrics]
    if len(set(names)) != len(names):
        raise ValueError(
            f"Each metric needs a name of its own, received {names}: give "
            "name=... where it is made."
        )


def _maker(metric):
    """Return a function that makes the metric for a prefix, or `None`."""
    if isinstance(metric, str) and metric in ("accuracy", "acc"):
        return None  # Always logged, as clean_ and adversarial_accuracy.
    metric = keras.metrics.get(metric)
    if inspect.isclass(metric):
        metric = metric()
    is_object = isinstance(metric, keras.metrics.Metric)
    kind = type(metric).__name__ if is_object else metric.__name__
    config = metric.get_config() if is_object else {}
    _check_metric(kind.lower().replace("_", ""), config, metric)
    if not is_object:
        return lambda prefix: keras.metrics.MeanMetricWrapper(
            metric, f"{prefix}{metric.__name__}"
        )
    return lambda prefix: type(metric).from_config(
        {**config, "name": f"{prefix}{metric.name}"}
    )


def _check_metric(kind, config, metric):
    """Refuse Keras' metrics that misread integer labels or logits."""
    if kind.startswith(("categorical", "topkcategorical", "binary")):
        raise ValueError(
            f"`metrics` get integer labels, and {metric!r} needs one-hot or "
            "binary ones. Use its relative whose name begins with Sparse."
        )
    if kind == "sparsecategoricalcrossentropy" and not config.get(
        "from_logits"
    ):
        raise ValueError(
            f"`metrics` get logits, and {metric!r} expects probabilities. Use "
            "keras.metrics.SparseCategoricalCrossentropy(from_logits=True)."
        )
