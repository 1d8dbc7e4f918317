"""`simserve calibrate`: fit constants to measured kernels, and compare such tables with the model."""

from __future__ import annotations

from datetime import date as calendar
from typing import Annotated

import typer

app = typer.Typer(
    name="calibrate",
    help="Fit the cost model to measured kernels, or compare measured kernels with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder of tables, or one (.parquet or .csv).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Plot = Annotated[
    str | None,
    typer.Option(metavar="FILE.html", help="Draw measured against predicted, and residuals by size."),
]
Families = Annotated[list[str] | None, typer.Option("--family", help="Only this kernel family; repeatable.")]


@app.command(epilog="Example: simserve calibrate fit KERNELS --hardware h100-sxm --out build/h100-sxm.yaml")
def fit(
    data: Data,
    hardware: Annotated[
        str, typer.Option(help="Accelerator: a catalog name, an alias or a YAML file; or `all`.")
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Calibration file to write; of `all`: the folder.")
    ],
    family: Families = None,
    date: Annotated[str | None, typer.Option(help="Date to write into the file; without it today's.")] = None,
    provenance: Annotated[str, typer.Option(help="Where the tables are from, to write into the file.")] = "",
    plot: Plot = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Processes that fit; the constants are the same.")
    ] = 1,
    json: Json = False,
) -> None:
    """Fit one accelerator's constants to tables in the documented columns.

    Rows are fitted by kernel family, framework, dtype and variant; the stated errors are cross-validated over
    shapes. Other accelerators' rows are left out. `--hardware all` fits every accelerator of the catalog that
    the tables hold, and the generic constants that price the others, each accelerator left out in turn. With
    `--family` the other families of an existing file stay as they are.
    """
    from simserve.cli.calibration import FitOptions, fit_all, fit_file

    today = date or calendar.today().isoformat()
    options = FitOptions(frozenset(family or ()), today, provenance, plot, json, workers)
    if hardware == "all":
        fit_all(data, out, options)
    else:
        fit_file(data, hardware, out, options)


@app.command(epilog="Example: simserve calibrate check KERNELS --by hardware,op")
def check(
    data: Data,
    json: Json = False,
    plot: Plot = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Predict serving (cold caches) and not the benchmark (warm).")
    ] = False,
    cross_validate: Annotated[
        bool, typer.Option("--cross-validate", help="Predict each row from new fits on other shapes (slow).")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Sum up over all but these keys: hardware,framework,dtype,op."),
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(metavar="FILE", help="A calibration file to use for its accelerator.")
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Hardware file of an accelerator that is in no catalog."),
    ] = None,
) -> None:
    """Compare measured kernels with the model: errors in percent by hardware, dtype, operator and size.

    "seen" rows have a shape among those fitted, "unseen" ones have not; "excluded" ones cannot be used.
    """
    from simserve.cli.calibration import check_data
    from simserve.cost.calibrate.checking import Condition
    from simserve.errors import InputError

    if cold and cross_validate:
        raise InputError("--cold and --cross-validate exclude each other: measured times are warm")
    condition = Condition.COLD if cold else Condition.UNSEEN if cross_validate else Condition.WARM
    check_data(data, calibration, condition, by, hardware, plot=plot, as_json=json)
