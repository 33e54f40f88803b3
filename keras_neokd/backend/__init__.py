"""The only framework code of the library: one module per Keras backend.

Each offers the same names; adding a backend means adding one module. What Keras
does well enough is in `plain`.

- `value_and_input_gradient(function, x)`: gradient of per-example values;
- `value_gradient_and_outputs(function, x)`: the same, with other outputs;
- `differentiable_input_gradient(function, x)`: the same for losses that are
  made of it;
- `call_with_factors(function, x, factors)`: a call whose gradient is computed
  at another scale;
- `frozen_state(variables, noise)`: scope in which a pass changes nothing;
- `global_batch(local_size)`: place of this replica in the global batch;
- `has_accelerator()`: whether there is more than processors;
- `gather_replicas(x)`: rows of all replicas;
- `gather_processes(values)`: a row of integers of each process;
- `compile_function(function, variables)`: compiled function of arrays;
- `compile_per_example(function, variables)`: the same on all devices, for
  arrays with one row per example;
- `convolution(images, kernel, ...)`: for layers, trained ones too;
- `convolve(images, kernel, bias, ...)`: for passes without training;
- `pool(images, size, strides, mode)`: the same for poolings;
- `convolve_image(image, kernel)`: with one channel, whose gradient for the
  image TensorFlow needs a form of its own for;
- `TrainStep`: mixin with Keras' `train_step` and `test_step`.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_neokd.backend.tensorflow import TrainStep
    from keras_neokd.backend.tensorflow import call_with_factors
    from keras_neokd.backend.tensorflow import compile_function
    from keras_neokd.backend.tensorflow import compile_per_example
    from keras_neokd.backend.tensorflow import convolution
    from keras_neokd.backend.tensorflow import convolve
    from keras_neokd.backend.tensorflow import convolve_image
    from keras_neokd.backend.tensorflow import differentiable_input_gradient
    from keras_neokd.backend.tensorflow import frozen_state
    from keras_neokd.backend.tensorflow import gather_processes
    from keras_neokd.backend.tensorflow import gather_replicas
    from keras_neokd.backend.tensorflow import global_batch
    from keras_neokd.backend.tensorflow import has_accelerator
    from keras_neokd.backend.tensorflow import pool
    from keras_neokd.backend.tensorflow import value_and_input_gradient
    from keras_neokd.backend.tensorflow import value_gradient_and_outputs
elif keras.backend.backend() == "jax":
    from keras_neokd.backend.jax import TrainStep
    from keras_neokd.backend.jax import call_with_factors
    from keras_neokd.backend.jax import compile_function
    from keras_neokd.backend.jax import compile_per_example
    from keras_neokd.backend.jax import convolution
    from keras_neokd.backend.jax import convolve
    from keras_neokd.backend.jax import convolve_image
    from keras_neokd.backend.jax import differentiable_input_gradient
    from keras_neokd.backend.jax import frozen_state
    from keras_neokd.backend.jax import gather_processes
    from keras_neokd.backend.jax import gather_replicas
    from keras_neokd.backend.jax import global_batch
    from keras_neokd.backend.jax import has_accelerator
    from keras_neokd.backend.jax import pool
    from keras_neokd.backend.jax import value_and_input_gradient
    from keras_neokd.backend.jax import value_gradient_and_outputs
elif keras.backend.backend() == "torch":
    from keras_neokd.backend.torch import TrainStep
    from keras_neokd.backend.torch import call_with_factors
    from keras_neokd.backend.torch import compile_function
    from keras_neokd.backend.torch import compile_per_example
    from keras_neokd.backend.torch import convolution
    from keras_neokd.backend.torch import convolve
    from keras_neokd.backend.torch import convolve_image
    from keras_neokd.backend.torch import differentiable_input_gradient
    from keras_neokd.backend.torch import frozen_state
    from keras_neokd.backend.torch import gather_processes
    from keras_neokd.backend.torch import gather_replicas
    from keras_neokd.backend.torch import global_batch
    from keras_neokd.backend.torch import has_accelerator
    from keras_neokd.backend.torch import pool
    from keras_neokd.backend.torch import value_and_input_gradient
    from keras_neokd.backend.torch import value_gradient_and_outputs
else:
    raise ImportError(
        "keras_neokd trains with the Keras backends tensorflow, jax and "
        f"torch; KERAS_BACKEND is {keras.backend.backend()!r}."
    )

__all__ = [
    "TrainStep",
    "call_with_factors",
    "compile_function",
    "compile_per_example",
    "convolution",
    "convolve",
    "convolve_image",
    "differentiable_input_gradient",
    "frozen_state",
    "gather_processes",
    "gather_replicas",
    "global_batch",
    "has_accelerator",
    "pool",
    "value_and_input_gradient",
    "value_gradient_and_outputs",
]
