"""Tables, figures and a page from the records of `apps.evaluate`.

- `records`: records read and checked; `version_1` reads those of version 1;
- `layout`, `measurements`, `overview`: records to tables; `grouping` says what
  they compare;
- `figures`: records to figures;
- `method_sweeps`: runs that differ in a setting of their method;
- `page`: one HTML file with all of it;
- `writing`: all of these into a folder.

`apps.tables` writes tables, `apps.plots` draws.
"""
