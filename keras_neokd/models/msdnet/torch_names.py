"""List the tensors of the public MSDNet-PyTorch code by name and shape.

Its modules are numbered by place: `blocks.1.3.layers.0.conv_down.net.3.weight`
is block 1 (from 0), module 3 of it (a transition is a module of its own),
scale 0 of those that survive, second convolution. The network is laid out
anew here from the settings, since ours leaves out maps that no exit uses.
"""

from typing import NamedTuple

from keras_neokd.models.msdnet.plan import plan_layers


class Unit(NamedTuple):
    """Tensors of one Keras layer.

    Attributes:
        layer: its name.
        shapes: dict from names to shapes, both as in PyTorch, in the order of
            the layer's weights.
    """

    layer: str
    shapes: dict[str, tuple[int, ...]]


def units(settings):
    """Yield a `Unit` for every layer with weights of the published network."""
    yield from _stem(settings)
    width = settings.initial_channels
    maps = range(1, settings.num_scales + 1)
    block = position = 0
    for plan in plan_layers(settings):
        if plan.block != block:
            if block:
                yield from _head(settings, block, width)
            block, position = plan.block, 1 if plan.block == 1 else 0
        scales = range(
            settings.num_scales - plan.num_scales + 1, settings.num_scales + 1
        )
        theirs = f"blocks.{block - 1}.{position}"
        ours = f"block_{block}_layer_{plan.index}"
        yield from _layer(settings, theirs, ours, width, maps, scales)
        width += settings.growth_rate
        position += 1
        if plan.transition_width is not None:
            for number, scale in enumerate(scales):
                factor = settings.growth_factors[scale - 1]
                yield from _unit(
                    f"blocks.{block - 1}.{position}.m.{number}.net",
                    f"{ours}_transition_scale_{scale}",
                    (plan.transition_width * factor, width * factor, 1),
                )
            width = plan.transition_width
            position += 1
        maps = scales
    yield from _head(settings, block, width)


def _stem(settings):
    """Yield the units that make the first map of every scale."""
    channels = settings.input_shape[-1]
    for scale, factor in enumerate(settings.growth_factors, start=1):
        width = settings.initial_channels * factor
        is_strided = scale == 1 and settings.stem == "imagenet"
        theirs = f"blocks.0.0.layers.{scale - 1}"
        yield from _unit(
            theirs if is_strided else f"{theirs}.net",
            f"block_1_stem_scale_{scale}",
            (width, channels, 7 if is_strided else 3),
            use_bias=is_strided,
        )
        channels = width


def _layer(settings, theirs, ours, width, maps, scales):
    """Yield the units of one layer, on every scale that it keeps.

    Args:
        settings: A `Settings`.
        theirs: Name of the module.
        ours: Beginning of the names of Keras layers.
        width: Channels before the growth factor.
        maps: Scales before the layer.
        scales: Scales after it.
    """
    factors = settings.growth_factors
    for number, scale in enumerate(scales):
        new = settings.growth_rate * factors[scale - 1]
        paths = [("normal", scale)]
        if scale - 1 in maps:
            new //= 2
            paths.append(("down", scale - 1))
        for path, source in paths:
            channels = width * factors[source - 1]
            squeezed = min(
                channels, settings.bottleneck_factors[source - 1] * new
            )
            net = f"{theirs}.layers.{number}.conv_{path}.net"
            name = f"{ours}_scale_{scale}_{path}"
            yield from _unit(net, f"{name}_bottleneck", (squeezed, channels, 1))
            yield from _unit(net, name, (new, squeezed, 3), first=3)


def _head(settings, block, width):
    """Yield the units of an exit, and its dense layer."""
    channels = width * settings.growth_factors[-1]
    filters = settings.head_channels or channels
    theirs, ours = f"classifier.{block - 1}", f"exit_{block}"
    for number, received in enumerate((channels, filters)):
        yield from _unit(
            f"{theirs}.m.{number}.net",
            f"{ours}_unit_{number + 1}",
            (filters, received, 3),
        )
    shape = (settings.num_classes, filters)
    linear = f"{theirs}.linear"
    yield Unit(ours, {f"{linear}.weight": shape, f"{linear}.bias": shape[:1]})


def _unit(theirs, ours, sizes, first=0, use_bias=False):
    """Yield convolution and batch norm, which follow each other in a list.

    Args:
        theirs: Name of the list.
        ours: Beginning of the names of the two Keras layers.
        sizes: Output channels, input channels, height and width of a filter.
        first: Place of the convolution in the list.
        use_bias: Whether the convolution has a bias.
    """
    outputs, inputs, size = sizes
    conv, norm = f"{theirs}.{first}", f"{theirs}.{first + 1}"
    shapes = {f"{conv}.weight": (outputs, inputs, size, size)}
    if use_bias:
        shapes[f"{conv}.bias"] = (outputs,)
    yield Unit(f"{ours}_conv", shapes)
    yield Unit(
        f"{ours}_batch_norm",
        {
            f"{norm}.{name}": (outputs,)
            for name in ("weight", "bias", "running_mean", "running_var")
        },
    )
