"""Parts of `apps.benchmark`: who takes part, one process each, the figures.

- `contestants`: the work, who does it, settings;
- `worker`: the program of one contestant's process;
- `steps`, `tracing`: what that program does;
- `processes`: the parent's end of such a process;
- `rounds`: who works when;
- `summary`: medians and paired ratios;
- `report`: JSON record, table, plot;
- `computer`: cores, processor, how busy.

Only `steps` and `tracing` import Keras or a framework, inside functions.
"""
