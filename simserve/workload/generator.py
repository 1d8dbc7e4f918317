"""Workloads made from arrival processes, length distributions, prefix groups and sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from simserve import rng
from simserve.errors import InputError
from simserve.workload.arrivals import MOST_REQUESTS, ArrivalProcess
from simserve.workload.client import Client
from simserve.workload.lengths import Lengths
from simserve.workload.prefixes import PrefixGroups
from simserve.workload.sessions import Sessions, Turns
from simserve.workload.workload import IntColumn, Labels, Workload


class LengthPairs(Protocol):
    """A joint distribution of prompt and output lengths."""

    def draw(self, seed: int, count: int) -> tuple[IntColumn, IntColumn]:
        """Return `count` prompt lengths and output lengths."""


@dataclass(frozen=True)
class IndependentLengths:
    """Prompt and output lengths that know nothing of each other."""

    prompt: Lengths
    output: Lengths

    def draw(self, seed: int, count: int) -> tuple[IntColumn, IntColumn]:
        """Return `count` prompt lengths and output lengths."""
        prompt = self.prompt.draw(rng.stream(seed, "prompt lengths"), count)
        return prompt, self.output.draw(rng.stream(seed, "output lengths"), count)


@dataclass(frozen=True, eq=False)
class TraceLengths:
    """Pairs of lengths drawn with replacement from the rows of a trace; a length of 0 is drawn as 1."""

    trace: Workload

    def draw(self, seed: int, count: int) -> tuple[IntColumn, IntColumn]:
        """Return `count` prompt lengths and output lengths."""
        rows = rng.stream(seed, "length pairs").integers(0, self.trace.count, count)
        return np.maximum(self.trace.prompt_tokens[rows], 1), np.maximum(self.trace.output_tokens[rows], 1)


@dataclass(frozen=True, eq=False)
class Generator:
    """A recipe for a workload; `generate` follows it.

    Attributes:
        lengths: Lengths of prompts (without prefix and former turns) and outputs.
        arrivals: When requests, or with `sessions` first turns, arrive; None: all at 0, for a closed loop.
        requests: How many, all turns counted; the last session is cut to it. None: as many as the duration
            gives.
        duration_s: First turns arrive before this time. None: no limit.
        prefixes, sessions: None: every prompt is of its own; every session has one turn.
        client: The load generator's limits.
    """

    lengths: LengthPairs
    arrivals: ArrivalProcess | None = None
    requests: int | None = None
    duration_s: float | None = None
    prefixes: PrefixGroups | None = None
    sessions: Sessions | None = None
    client: Client = field(default_factory=Client)

    def generate(self, seed: int, name: str = "generated") -> Workload:
        """Return the workload of a seed.

        Raises:
            InputError: If nothing arrives, or neither a number of requests nor a duration is given.
        """
        if self.prefixes is None and self.sessions is None:
            arrivals = self._arrivals(seed, self.requests)
            prompt, output = self.lengths.draw(seed, len(arrivals))
            load = Workload(name, arrivals, prompt, output)
        else:
            load = self._generate_sessions(seed, name)
        return replace(load, client=self.client, source=f"generated, seed {seed}")

    def _arrivals(self, seed: int, count: int | None) -> IntColumn:
        if self.arrivals is None:
            if count is None:
                raise InputError("a closed loop needs a number of requests")
            return np.zeros(count, dtype=np.int64)
        arrivals = self.arrivals.draw(rng.stream(seed, "arrivals"), count, self.duration_s)
        if not len(arrivals):
            raise InputError(
                "no request arrives within the duration; expected a higher rate or a longer duration"
            )
        return arrivals

    def _generate_sessions(self, seed: int, name: str) -> Workload:
        sessions = self.sessions or Sessions()
        turns, starts_ns = self._turns(seed, sessions)
        count = len(turns.turn)
        gaps_ns = np.where(turns.turn > 0, sessions.think_ns(seed, count), 0)
        elapsed = np.cumsum(gaps_ns)
        elapsed -= elapsed[np.arange(count) - turns.turn]
        arrivals = starts_ns[turns.session] + elapsed  # nominal: as if every turn completed at once
        order = np.argsort(arrivals, kind="stable")
        row_of = np.empty(count, dtype=np.int64)
        row_of[order] = np.arange(count)
        predecessor = np.where(turns.turn > 0, row_of[np.arange(count) - 1], -1)
        in_sessions = self.sessions is not None
        return Workload(
            name=name,
            arrival_ns=arrivals[order],
            prompt_tokens=turns.prompt_tokens[order],
            output_tokens=turns.output_tokens[order],
            shared_tokens=turns.shared_tokens[order],
            session=_session_labels(turns.session[order], len(starts_ns)) if in_sessions else None,
            prompts=turns.prompts(row_of, self._groups(seed, len(starts_ns))[0]).take(order),
            predecessor=predecessor[order] if in_sessions and bool(turns.turn.any()) else None,
            gap_ns=gaps_ns[order] if in_sessions and bool(turns.turn.any()) else None,
        )

    def _turns(self, seed: int, sessions: Sessions) -> tuple[Turns, IntColumn]:
        """The turns of all sessions, and when each session starts, in ns."""
        if self.requests is None:
            starts_ns = self._arrivals(seed, None)
            return self._turns_of(seed, sessions, len(starts_ns)), starts_ns
        number = max(1, self.requests // 8)
        while True:
            # Draws of a stream are the same however many follow, so more sessions leave the first ones as
            # they are.
            starts_ns = self._arrivals(seed, number)
            turns = self._turns_of(seed, sessions, len(starts_ns))
            if len(turns.turn) >= self.requests or len(starts_ns) < number:
                turns = turns.take(np.arange(min(self.requests, len(turns.turn)), dtype=np.int64))
                return turns, starts_ns
            number *= 2

    def _turns_of(self, seed: int, sessions: Sessions, number: int) -> Turns:
        counts = sessions.turns.draw(rng.stream(seed, "turns"), number)
        if counts.sum() > MOST_REQUESTS:
            raise InputError(
                f"the sessions have {counts.sum():.0e} turns; expected at most {MOST_REQUESTS:.0e}"
            )
        session, turn = Turns.lay_out(counts)
        groups, prefix_lengths = self._groups(seed, number)
        prompt, output = self.lengths.draw(seed, len(turn))
        if sessions.new_tokens is not None:
            new = sessions.new_tokens.draw(rng.stream(seed, "new tokens"), len(turn))
            prompt = np.where(turn > 0, new, prompt)
        turns = Turns(session, turn, prompt, output, prefix_lengths[groups])
        if sessions.max_context_tokens is None:
            return turns
        fits = (turns.prompt_tokens + output <= sessions.max_context_tokens) | (turn == 0)
        return turns.take(
            np.flatnonzero(fits)
        )  # contexts grow, so all turns behind one that is too long go too

    def _groups(self, seed: int, number: int) -> tuple[IntColumn, IntColumn]:
        if self.prefixes is None:
            return np.zeros(number, dtype=np.int64), np.zeros(1, dtype=np.int64)
        return self.prefixes.draw(seed, number)


def _session_labels(codes: IntColumn, number: int) -> Labels:
    return Labels(codes, tuple(f"s{index}" for index in range(number)))
