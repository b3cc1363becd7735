"""What `nann evaluate --sweep` shows: a table, and a plot of agreement against cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from nann.cli._console import shell_command
from nann.errors import MissingDependencyError
from nann.files import staged_file

if TYPE_CHECKING:
    from nann.training import Sweep, SweepPoint

_SHOWN_USERS = 5


def some_users(users: tuple[int, ...]) -> str:
    """The first of these ids, which stay short enough for a line."""
    return ", ".join(map(str, users[:_SHOWN_USERS])) + (", ..." if len(users) > _SHOWN_USERS else "")


def sweep_table(found: Sweep) -> Table:
    """A line for each walk and each beam of level 0."""
    table = Table(title=f"agreement@{found.k} with brute force, {found.users:,} users, {found.items:,} items")
    for name in ("walk", "beam", "agreement", "95 % interval", "worst 5 %", "scored", "ms"):
        table.add_column(name, justify="left" if name == "walk" else "right", no_wrap=True)
    for point in found.points:
        table.add_row(
            point.walk,
            f"{point.level_topn[-2]:,}",
            f"{point.agreement:.3f}",
            f"{point.agreement_low:.3f} to {point.agreement_high:.3f}",
            f"{point.agreement_worst_5_percent:.3f}",
            f"{point.items_scored:,.0f}",
            f"{point.milliseconds:.2f}",
        )
    widest = {point.walk: some_users(point.worst_users) for point in found.points}
    table.caption = "Least served users, by the widest beam of each walk: " + "; ".join(
        f"{walk} {users}" for walk, users in widest.items()
    )
    return table


def recommendation(found: Sweep) -> str:
    """The fastest walk and beams that reach the target, as options of `nann export`."""
    point = found.recommended
    if point is None:
        best = max(found.points, key=lambda each: each.agreement)
        return (
            f"None reaches an agreement of {found.target:g}; the best is {best.agreement:.3f}, of the "
            f"{best.walk} walk with {_beams(best)}."
        )
    return (
        f"Fastest with an agreement of {found.target:g} or more: the {point.walk} walk with {_beams(point)} "
        f"({point.agreement:.3f}, {point.items_scored:,.0f} items scored, {point.milliseconds:.2f} ms)."
    )


def _beams(point: SweepPoint) -> str:
    return shell_command("--level-topn", ",".join(map(str, point.level_topn)))


def plot_sweep(found: Sweep, path: Path) -> None:
    """Draw agreement, with its interval, and that of the worst 5 % against items scored and milliseconds.

    Raises MissingDependencyError without matplotlib.
    """
    try:
        from nann.bench.plots import COLOURS, plain_log_ticks, styled_figure
    except ImportError as error:
        raise MissingDependencyError(
            "matplotlib is not installed, which draws the plot. Install it with `pip install nann[bench]`."
        ) from error
    with styled_figure(10.0, 4.0) as (figure, first):
        first.remove()
        costs = (("items_scored", "items scored per request"), ("milliseconds", "milliseconds per request"))
        axes: Any = figure.subplots(1, 2, sharey=True)
        for axis, (cost, label) in zip(axes, costs, strict=True):
            for colour, walk in zip(COLOURS, dict.fromkeys(p.walk for p in found.points), strict=False):
                points = [point for point in found.points if point.walk == walk]
                x = [getattr(point, cost) for point in points]
                means = [point.agreement for point in points]
                below = [point.agreement - point.agreement_low for point in points]
                above = [point.agreement_high - point.agreement for point in points]
                axis.errorbar(x, means, yerr=[below, above], color=colour, marker="o", capsize=3, label=walk)
                worst = [point.agreement_worst_5_percent for point in points]
                axis.plot(
                    x, worst, color=colour, linestyle=":", marker=".", label=f"{walk}, worst 5 % of users"
                )
            axis.set_xscale("log")
            plain_log_ticks(axis.xaxis)
            axis.set_xlabel(label)
            axis.axhline(found.target, color="grey", linewidth=0.8)
            if found.recommended is not None:
                point = found.recommended
                axis.plot(
                    getattr(point, cost),
                    point.agreement,
                    color="black",
                    marker="o",
                    markersize=12,
                    fillstyle="none",
                    linestyle="none",
                    label=f"fastest with {found.target:g}",
                )
        axes[0].set_ylabel(f"agreement@{found.k} with brute force")
        axes[1].legend(loc="lower right", fontsize=8)
        with staged_file(path) as staged:
            figure.savefig(staged, format="png", dpi=150)
