"""The work that the processes of variants do, a class each.

A class takes JSON values, is ready when it is built, and has `step()`, which
returns a list of numbers, and `facts()`, a dictionary of JSON values. Modules
import their framework at the top: a process sets its threads before.
"""
