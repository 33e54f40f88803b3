"""PyTorch on CPUs: the first convolution of a network.

oneDNN's gradient for an image of one or three channels takes longer than that
for dozens of channels. Here it is a matrix product, with a row for each tap
of the kernel, and a sum of shifted rows.
"""

import torch
from torch.nn import functional


class ImageConvolution(torch.autograd.Function):
    """Convolve images of few channels with a kernel that needs no gradient.

    `apply(images, kernel, bias, strides, padding)` takes images
    `(batch, channels, height, width)`, a kernel `(filters, channels, rows,
    columns)`, a bias `(filters,)`, a pair of strides, and one of zeros to add
    on both sides.
    """

    @staticmethod
    def forward(context, images, kernel, bias, strides, padding):
        """Return `(batch, filters, new height, new width)`."""
        context.save_for_backward(kernel)
        context.plan = images.shape[2:], strides, padding
        return functional.conv2d(images, kernel, bias, strides, padding)

    @staticmethod
    def backward(context, upstream):
        """Return the gradient of the images, and nothing for the others."""
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
        images = padded[
            :,
            :,
            padding[0] : padding[0] + height,
            padding[1] : padding[1] + width,
        ]
        return images.transpose(0, 1), None, None, None, None
