"""Parts of `apps.benchmark` and `apps.benchmark_methods`.

Who takes part, one process each, the figures.

- `contestants`: the work, who does it, settings;
- `methods`: which training methods, and their settings;
- `worker`: the program of one contestant's process;
- `steps`, `tracing`: what that program does;
- `processes`: the parent's end of such a process;
- `rounds`: who works when;
- `summary`: medians and paired ratios;
- `attackers`, `attack_programs`, `native`, `attack_report`: the same for
  evaluations beside other tools;
- `threads`: how many a framework takes;
- `report`: JSON record, table, plot;
- `method_report`: tables of training methods;
- `program`: flags, folder and console of both benchmarks;
- `computer`: cores, processor, how busy.

Only `steps` and `tracing` import Keras or a framework, inside functions.
"""
