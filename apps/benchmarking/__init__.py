"""Parts of `apps.benchmark`: who takes part, one process each, the figures.

- `contestants`: the work, who does it, settings;
- `worker`: the program of one contestant's process;
- `processes`: the parent's end of such a process;
- `rounds`: who works when;
- `summary`: medians and paired ratios;
- `report`: JSON record, table, plot.

Only `worker` imports Keras or a framework, and that inside functions.
"""
