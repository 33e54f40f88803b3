"""Measure what steps and attacks cost; not installed with keras_neokd.

- `run`: the command; `scenarios`: what can be measured, as rows;
- `scenario`: a scenario, its variants and their unit;
- `measuring`, `processes`: the order of the measurements; one process each;
- `worker`, `work/`: the program of such a process, and what it times;
- `report`: rows with medians, paired ratios and intervals, JSON and Markdown;
- `computer`: cores, processor, how busy;
- `torch_baseline/`: network, attack and step in plain PyTorch.
"""
