"""One module for each trace format; each has `read(path, **options) -> Workload`."""
