"""Studies: many runs, or a run and what was measured."""
