"""What an engine's requests find in the tiers behind its KV pool, and what they leave there.

The rules are those of vLLM's own connector, `OffloadingConnectorScheduler` (vllm/distributed/kv_transfer/
kv_connector/v1/offloading/scheduler.py), for loads beside the steps, and those of LMCache's
(`get_num_new_matched_tokens` in lmcache/integration/vllm/vllm_v1_adapter.py) for loads that a step waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from simserve.errors import InputError
from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.chunk_keys import ChunkKeys
from simserve.kvcache.tier import TierCounts
from simserve.kvcache.tier_moves import Move
from simserve.kvcache.tiers import Stretch, TierStack
from simserve.scheduler.batch import Landing, Transfer
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sequence import Sequence


class Match(NamedTuple):
    """What the tiers have for a sequence behind its hits on the GPU.

    Attributes:
        tokens: Up to where it counts as computed with both.
        keys, skip: Chunks that were looked for, and how many of them the GPU has.
        found, chosen: Where the others lie, and what of it is to be loaded.
    """

    tokens: int
    keys: list[int]
    skip: int
    found: list[Stretch]
    chosen: list[Stretch]


class RemoteChunks:
    """The tiers' chunks, as requests ask for them.

    Args:
        plan: The tiers.
        block_size: Tokens per block of the KV pool.
        shares_gpu: Whether requests find each other's blocks on the GPU: what one loads another need not.

    Attributes:
        connector: Times what moves.
        is_async: Whether a request waits for its load by itself, while others go on.
        prefetches: Whether what lower tiers have is to come nearer as soon as a request comes.

    Raises:
        InputError: If a chunk is not whole blocks.
    """

    def __init__(self, plan: TierPlan, block_size: int, *, shares_gpu: bool) -> None:
        if plan.chunk_tokens % block_size:
            raise InputError(
                f"kv_cache.chunk_tokens {plan.chunk_tokens} is no multiple of block_size {block_size}; "
                f"expected for example {block_size * max(1, plan.chunk_tokens // block_size)}"
            )
        self.connector = KVConnector(plan)
        self.is_async = plan.load == "async"
        self.prefetches = plan.prefetch
        self._plan = plan
        self._stack = TierStack(plan.specs, plan.bytes_per_token, plan.chunk_tokens)
        self._shares_gpu = shares_gpu
        self._chunks = ChunkKeys(plan.chunk_tokens)
        # Keys of chunks on their way to the GPU beside the steps.
        self._coming: dict[int, None] = {}
        self._moves: list[Move] = []

    @property
    def counts(self) -> Mapping[str, TierCounts]:
        """What each tier was asked and has moved, by its name."""
        return self._stack.counts

    # -- loading ------------------------------------------------------------------------------------------

    def match(self, sequence: Sequence, gpu_tokens: int) -> Match | None:
        """Return what the tiers have behind the first `gpu_tokens` tokens of a sequence.

        None: somebody else is loading a part of it; the request is asked for again when that has landed. A
        load beside the steps brings a chunk's worth of tokens at least, and may bring all that are known:
        then the last is computed again. One that a step waits for leaves that token out.
        """
        chunk = self._plan.chunk_tokens
        known = sequence.known
        keys = self._lookup_keys(sequence)
        skip = gpu_tokens // chunk
        found = self._stack.find(keys, skip)
        chosen = found
        if found and self._plan.recompute_s is not None:
            recompute_s = self._plan.recompute_s
            chosen = self._stack.choose_fetch(found, known, recompute_s, keys, self.connector)
        end = chosen[-1].end * chunk if chosen else 0
        if known == 1 or end - gpu_tokens < (chunk if self.is_async else 1):
            return Match(gpu_tokens, keys, skip, found, [])
        if self._coming and any(key in self._coming for key in keys[skip : chosen[-1].end]):
            return None
        if end == known and not self.is_async:
            end -= 1
        return Match(end, keys, skip, found, chosen)

    def take(self, sequence: Sequence, match: Match) -> list[Move]:
        """Note what was asked for a sequence that has got its blocks; return what is loaded for it."""
        if match.chosen:
            # What was loaded lies in the tiers; only what comes behind is offered to them.
            self._chunks.note_offered(sequence.request, match.chosen[-1].end)
        return self._stack.fetch(match.keys, match.found, match.chosen, match.skip)

    def load_beside(self, sequence: Sequence, match: Match) -> Landing:
        """Begin a load beside the steps, and return when it has landed."""
        if self._shares_gpu:
            self._coming.update(dict.fromkeys(match.keys[match.skip : match.chosen[-1].end]))
        return self.connector.start(self.take(sequence, match))

    def note_landed(self, sequence: Sequence) -> None:
        """Note that the chunks of a load beside the steps are on the GPU."""
        for key in self._chunks.keep(sequence.request)[: sequence.computed // self._plan.chunk_tokens]:
            self._coming.pop(key, None)

    def load_before(self, sequence: Sequence, match: Match) -> list[Transfer]:
        """Return a load as transfers that the step waits for."""
        layers = self._plan.layers if self._plan.load == "layerwise" else 0
        return self.connector.awaited(self.take(sequence, match), layers)

    def prefetch(self, sequence: Sequence, gpu_tokens: int) -> None:
        """Bring what lower tiers have for a request that has just come into the first tier."""
        skip = gpu_tokens // self._plan.chunk_tokens
        moves = self._stack.prefetch(self._lookup_keys(sequence), skip)
        self.connector.defer(moves, sequence.request.id)

    # -- storing ------------------------------------------------------------------------------------------

    def store(self, sequence: Sequence, tokens: int) -> None:
        """Offer the whole chunks of a sequence's first tokens to the tiers; they move beside the steps."""
        keys = self._chunks.offer(sequence.request, tokens)
        if keys:
            self._moves += self._stack.publish(keys)

    @property
    def has_moves(self) -> bool:
        """Whether stores wait for the next decision to begin."""
        return bool(self._moves)

    def start_stores(self) -> None:
        """Begin them."""
        if self._moves:
            self.connector.start(self._moves)
            self._moves = []

    def forget(self, sequence: Sequence) -> None:
        """Note that a request has ended."""
        self._chunks.forget(sequence.request)
        self.connector.forget(sequence.request.id)

    def check_integrity(self) -> None:
        """Check the tiers. Raises IntegrityError."""
        self._stack.check_integrity()

    # -- keys ---------------------------------------------------------------------------------------------

    def _lookup_keys(self, sequence: Sequence) -> list[int]:
        """Return the chunks that may be found: those another request may have, or it itself had before."""
        tokens = sequence.known
        if not sequence.preemptions:
            tokens = min(tokens, sequence.request.shared_tokens)
        return self._chunks.keep(sequence.request)[: tokens // self._plan.chunk_tokens]
