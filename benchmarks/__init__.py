"""Measure what steps and attacks cost; not installed with keras_neokd.

- `run`: the command; `scenarios`: what can be measured, as rows;
- `scenario`: a scenario, its variants and their unit; which are chosen;
- `measuring`, `worker`: the order of the measurements; one process each;
- `work/`: what such a process times;
- `report`: rows with medians, paired ratios and intervals, JSON and Markdown;
- `torch_baseline/`: network, attack and step in plain PyTorch.
"""
