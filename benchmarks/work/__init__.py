"""The work that the processes of variants do, a class each.

A class is ready when it is built, and has `step()`, which returns numbers.
Modules import their framework at the top: a process sets its threads before.
"""
