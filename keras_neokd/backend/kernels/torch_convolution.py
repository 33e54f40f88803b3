"""Convolve images of few channels under PyTorch, on processors.

oneDNN takes longer for the input gradient of one or three channels than for
that of dozens. Here it is a matrix product, one row per tap of the kernel, and
a sum of shifted rows.
"""

import torch
from torch.nn import functional

# Those of images.
_FEW_CHANNELS = 3


def convolve(images, kernel, bias, strides, padding, dilation, groups):
    """Convolve as `torch.nn.functional.conv2d`, for gradients of images only.

    Args:
        images: `(batch, channels, height, width)`.
        kernel: `(filters, channels / groups, rows, columns)`.
        bias: `(filters,)`.
        strides, dilation: pairs of integers.
        padding: zeros to add on both sides of rows and of columns.
        groups: number of groups of channels.
    """
    if (
        images.shape[1] <= _FEW_CHANNELS
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and (groups, *dilation) == (1, 1, 1)
    ):
        return _Convolution.apply(images, kernel, bias, strides, padding)
    return functional.conv2d(
        images, kernel, bias, strides, padding, dilation, groups
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context, images, kernel, bias, strides, padding):
        context.save_for_backward(kernel)
        context.plan = images.shape[2:], strides, padding
        return functional.conv2d(images, kernel, bias, strides, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, upstream):
        (kernel,) = context.saved_tensors
        (height, width), strides, padding = context.plan
        filters, channels, rows, columns = kernel.shape
        batch, _, high, wide = upstream.shape
        taps = torch.matmul(
            kernel.permute(2, 3, 1, 0).reshape(-1, filters),
            upstream.permute(0, 2, 3, 1).reshape(-1, filters).t(),
        ).reshape(rows, columns, channels, batch, high, wide)
        padded = upstream.new_zeros(
            (channels, batch, height + 2 * padding[0], width + 2 * padding[1])
        )
        for row in range(rows):
            for column in range(columns):
                padded[
                    :,
                    :,
                    row : row + strides[0] * high : strides[0],
                    column : column + strides[1] * wide : strides[1],
                ] += taps[row, column]
        inside = padded[
            :,
            :,
            padding[0] : padding[0] + height,
            padding[1] : padding[1] + width,
        ]
        return inside.transpose(0, 1), None, None, None, None
