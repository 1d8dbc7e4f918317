"""Host time of a step: what the CPU does around the kernels, and what of it the accelerator waits for.

The CPU schedules, prepares the inputs, launches the kernels, samples and hands out the outputs. An engine
that schedules ahead does so while the accelerator runs the step before: then a step takes the longer of the
two. One that does not makes the accelerator wait. Without CUDA graphs every kernel is launched by itself, and
a step is never shorter than its launches.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostProfile:
    """Host times of one engine release on one kind of host: six constants.

    Attributes:
        step_s: Scheduling, input preparation, sampling and output processing, a step. sequence_s: The same
        for each sequence in the batch. worker_s: More a step with several ranks: inputs are broadcast and
        workers answer. launch_s: Host time to launch one kernel of a compiled model without a CUDA graph.
        eager_launch_s: The same where the model runs eagerly, one Python operator after the other.
        exposed_s: What the accelerator waits for even where the next step is scheduled ahead: kernels of
            input preparation and sampling outside of the graph, and the graph's launch. A part of `step_s`.
        uses_graphs: Whether steps are replayed as CUDA graphs.
        overlaps: Whether the next step is scheduled while one runs, by default.
        source: Where the constants are from.
    """

    step_s: float
    sequence_s: float
    worker_s: float
    launch_s: float
    eager_launch_s: float
    exposed_s: float
    uses_graphs: bool
    overlaps: bool
    source: str = ""

    def scaled(self, factor: float) -> HostProfile:
        """Return the same on a host `factor` times as slow."""
        return HostProfile(
            self.step_s * factor, self.sequence_s * factor, self.worker_s * factor, self.launch_s * factor,
            self.eager_launch_s * factor, self.exposed_s * factor, self.uses_graphs, self.overlaps,
            self.source,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostTime:
    """Host time as a step feels it.

    Attributes:
        step_s, sequence_s: Added to every step, and for each sequence in it.
        hidden_step_s, hidden_sequence_s: A step is at least this long, and this for each sequence.
        launch_s: For each kernel outside of a CUDA graph, a step is at least this long (beside the hidden).
        graph_sizes: Captured batch sizes in tokens, ascending; () without CUDA graphs.
    """

    step_s: float = 0.0
    sequence_s: float = 0.0
    hidden_step_s: float = 0.0
    hidden_sequence_s: float = 0.0
    launch_s: float = 0.0
    graph_sizes: tuple[int, ...] = ()


NO_HOST = HostTime()


def resolve_host(
    profile: HostProfile, *, ranks: int, overlaps: bool | None, graph_sizes: tuple[int, ...]
) -> HostTime:
    """Return the host time of an engine.

    Args:
        profile: Of its release.
        ranks: Of the instance, all stages together.
        overlaps: Whether it schedules ahead (asynchronous scheduling, or several batches in a pipeline);
            None: as the release does.
        graph_sizes: Captured sizes; () for `enforce_eager`.
    """
    step_s = profile.step_s + (profile.worker_s if ranks > 1 else 0.0)
    sizes = graph_sizes if profile.uses_graphs else ()
    launch_s = profile.launch_s if sizes else profile.eager_launch_s
    if profile.overlaps if overlaps is None else overlaps:
        hidden_s = step_s - profile.exposed_s
        return HostTime(profile.exposed_s, 0.0, hidden_s, profile.sequence_s, launch_s, sizes)
    return HostTime(step_s, profile.sequence_s, 0.0, 0.0, launch_s, sizes)
