"""Cut a multi-exit model into stages: one from each exit to the next.

    first, second, third = build_stages(model)
    logits, *carried = first([images])
    logits, *carried = second(carried)
    logits = third(carried)

Stage `i` computes what exit `i` needs beyond the exits before it, from the
tensors that earlier stages hand on. All stages together compute what the model
computes, once.
"""

import keras


def build_stages(model):
    """Return a functional `keras.Model` per exit; layers are shared.

    Each takes a list of tensors: the first the images, any other what the
    stage before it handed on. Each returns a list: the logits of its exit, and
    then the tensors to hand on; where there are none, Keras returns the logits
    alone.

    Args:
        model: a `MultiExitModel`.

    Raises:
        NotImplementedError: as `Graph.check_rows`.
    """
    graph = model.call_graph
    plan = graph.plan(model.exit_names)
    known, stages = dict(zip(graph.inputs, model.inputs, strict=True)), []
    for index, (name, calls) in enumerate(
        zip(model.exit_names, plan, strict=True)
    ):
        inputs = {
            tensor: keras.Input(value.shape[1:], dtype=value.dtype)
            for tensor, value in known.items()
        }
        values = graph.run(calls, inputs)
        needed = {graph.outputs[each] for each in model.exit_names[index + 1 :]}
        for later in plan[index + 1 :]:
            needed.update(*map(graph.tensors_into, later))
        known = {each: values[each] for each in sorted(values.keys() & needed)}
        if known:
            graph.check_rows(known)
        stages.append(
            keras.Model(
                list(inputs.values()),
                [values[graph.outputs[name]], *known.values()],
                name=f"{model.name}_stage_{index + 1}",
            )
        )
    return stages
