"""`simserve report`: a run's folder as files for other tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import InputError

if TYPE_CHECKING:
    from simserve.report.run_folder import RunFolder


def write_reports(
    folder: str, *, html: str | None, perfetto: str | None, prometheus: str | None, vllm_bench: str | None
) -> None:
    """Write each file that was asked for, from the run's folder alone; without any, print the summary.

    Raises:
        InputError: If the folder holds no run, or a file cannot be written.
    """
    from simserve.report.run_folder import RunFolder

    run = RunFolder.read(folder)
    if perfetto is not None:
        from simserve.report.perfetto import write_perfetto

        _write(write_perfetto, run, perfetto)
    if prometheus is not None:
        from simserve.report.prometheus import write_prometheus

        _write(write_prometheus, run, prometheus)
    if vllm_bench is not None:
        from simserve.report.vllm_bench import write_vllm_bench

        _write(write_vllm_bench, run, vllm_bench)
    if html is not None:
        from simserve.report.run_page import write_run_page

        _write(write_run_page, run, html)
    if (html, perfetto, prometheus, vllm_bench) == (None,) * 4:
        from simserve.report.summary_text import print_summary

        print_summary(dict(run.summary))


def _write(write: Callable[[RunFolder, Path], None], run: RunFolder, file: str) -> None:
    """Write under a temporary name first: a file is there whole, or as it was."""
    path = Path(file)
    fresh = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(run, fresh)
        fresh.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=file) from error
    finally:
        fresh.unlink(missing_ok=True)
    print(f"written to {file}")
