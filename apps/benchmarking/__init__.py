"""Parts of the benchmarks: who takes part, one process each, the figures.

Of all of them:

- `program`: flags, folder, console;
- `contestants`: the work, who does it, what all settings have in common;
- `processes`: the parent's end of a contestant's process;
- `worker`: the program of such a process; `threads`: how many it takes;
- `steps`, `tracing`, `arithmetic`, `convolutions`: what that program does;
- `rounds`: who works when;
- `summary`: medians and paired ratios;
- `report`: JSON record, tables, figures;
- `computer`: cores, processor, how busy.

Of single ones:

- `methods`, `method_report`: `apps.benchmark_methods`;
- `attackers`, `attack_programs`, `native`, `attack_report`:
  `apps.benchmark_attacks`, evaluations beside other tools;
- `exits`, `exit_report`: `apps.benchmark_exits`;
- `optimisations`, `optimisation_turns`, `optimisation_report`:
  `apps.benchmark_optimisations`.

The parent imports no framework. In a worker, frameworks are imported where its
program is made, so that threads can be set before and imports be timed.
"""
