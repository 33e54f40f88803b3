"""Kernels that replace forms which a framework is slow at.

Each is named by its framework, and stays as long as the measurement says so:
time of a NEO-KD step with PGD-7 and batches of 128 on two threads of a
processor, without the kernel to with it (docs/performance.md).

| kernel | SmallCNN | MSDNet |
|---|---|---|
| `jax_convolution` | 4.54 (3.99 to 4.97) | 2.01 (1.87 to 2.19) |
| `jax_pooling` | 1.35 (1.17 to 1.56) | |
| `tensorflow_convolution` | 1.13 (1.04 to 1.32) | |
| `torch_convolution` | 1.05 (0.91 to 1.17) | 1.02 (0.92 to 1.09) |

`tensorflow_convolution` was measured again on a processor without AVX-512, in
one process and by turns: median 1.17, quartiles 1.02 and 1.32 of 40 pairs.

`torch_convolution` is within the noise of that run, and stays because a step
of SmallCNN without it took 1.06 to 1.16 times as long as one of version 0.1.0
in four runs by turns, and 1.01 times with it.
"""
