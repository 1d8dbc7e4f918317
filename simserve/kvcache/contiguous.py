"""KV memory in one piece a request, as engines had it before paging: reserved at admission, or grown.

How much is reserved: see `reservation`. With `grow` a region that is full is doubled, in its place where the
memory behind it is free, else in a new place to which its tokens are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from simserve.errors import CapacityError, InputError, IntegrityError, nearest
from simserve.kvcache.allocator import NOWHERE, Allocator
from simserve.kvcache.buddy import BuddyAllocator
from simserve.kvcache.fragmentation import FragmentationLog
from simserve.kvcache.holes import BestFitAllocator, FirstFitAllocator
from simserve.kvcache.occupancy import Occupancy
from simserve.kvcache.pool import KVPool
from simserve.kvcache.reservation import Reservation
from simserve.kvcache.run import Hits, Table
from simserve.kvcache.unshared import Holder, UnsharedCache

ALLOCATORS: dict[str, Callable[[int], Allocator]] = {
    "first_fit": FirstFitAllocator,
    "best_fit": BestFitAllocator,
    "buddy": BuddyAllocator,
}


class Region:
    """The memory of one request.

    Attributes:
        start, size: Its units.
        asked_tokens: Tokens that it was made for; more fit where units and allocators round up.
        final_tokens: Tokens that the request has at its end.
    """

    __slots__ = ("asked_tokens", "final_tokens", "size", "start")

    def __init__(self, start: int, size: int, asked_tokens: int, final_tokens: int) -> None:
        self.start = start
        self.size = size
        self.asked_tokens = asked_tokens
        self.final_tokens = final_tokens


class ContiguousCache(UnsharedCache):
    """One region a request over one memory, with the interface of `PagedCache`. Nothing is shared.

    Args:
        num_blocks: Units of the memory, one (vLLM's null block, which a paged pool has) left out.
        block_size: Tokens of a unit.
        allocator: Which hole a region comes from: see ALLOCATORS.
        reserve: How much a region takes: see `reservation`.
        max_model_len: Longest prompt and output.

    Attributes:
        pool: Its units; those in a region are not free.
        fragmentation: Where the memory went.
        free_suffices: False: a free unit does not mean that a region can grow.

    Raises:
        InputError: For an unknown allocator or reservation.
        CapacityError: If not even one region of `max` fits.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        allocator: str = "first_fit",
        reserve: str = "max",
        max_model_len: int,
    ) -> None:
        if allocator not in ALLOCATORS:
            raise InputError(f"unknown KV allocator {allocator!r}{nearest(allocator, ALLOCATORS)}")
        self.pool = KVPool(num_blocks)
        self.block_size = block_size
        self._occupancy = Occupancy(self.pool.num_free * block_size)
        self.fragmentation: FragmentationLog = self._occupancy.log
        self._reservation = Reservation(reserve, max_model_len)
        self._allocator = ALLOCATORS[allocator](self.pool.num_free)
        self._regions: dict[int, Region] = {}
        # Tokens copied that nobody has asked about yet.
        self._moved = 0
        if reserve == "max" and self._units(max_model_len) > self._allocator.largest_possible:
            fits = self._allocator.largest_possible * block_size
            raise CapacityError(
                f"a region of max_model_len {max_model_len:,} tokens does not fit into the KV memory, whose "
                f"largest holds {fits:,}; lower max_model_len, or reserve less than `max`"
            )

    # -- what a scheduler asks for ------------------------------------------------------------------------

    def admit(self, table: Table, hits: Hits, hit_tokens: int, tokens: int, room_for: int) -> bool:
        """Give a sequence without memory its region.

        Args:
            table: The sequence.
            hits, hit_tokens: What `lookup` returned.
            tokens: Tokens to hold now.
            room_for: Tokens for which there must be room; with `grow` they are reserved.

        Returns:
            False, and nothing has changed, if no hole is large enough.
        """
        request = table.request
        known = tokens if tokens > room_for else room_for
        wanted = max(tokens, self._reservation.tokens(request, known))
        size = self._allocator.rounded(self._units(wanted))
        start = self._allocator.allocate(size)
        if start == NOWHERE:
            self._refuse(request.id, size)
            return False
        final = self._reservation.final_tokens(request)
        self._regions[request.id] = region = Region(start, size, wanted, final)
        self._enter(region)
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Make room for `tokens` tokens, of which `computed_tokens` are there; or return False."""
        region = self._regions[table.request.id]
        if tokens <= region.size * self.block_size or self._enlarge(region, computed_tokens, tokens):
            return True
        self._refuse(table.request.id, self._allocator.rounded(self._units(tokens)))
        return False

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a sequence can have before its region must grow."""
        return self._regions[table.request.id].size * self.block_size

    def release(self, table: Table) -> None:
        """Return a sequence's region, if it has one."""
        region = self._regions.pop(table.request.id, None)
        if region is not None:
            self._leave(region)
            self._allocator.free(region.start, region.size)
            self.pool.num_free = self._allocator.num_free

    # -- what steps, logs and checks ask for --------------------------------------------------------------

    def sample(self, step: int, tables: Iterable[Holder], steps: int = 1, decoders: int = 0) -> None:
        """Sum up the state of steps whose batch is decided, and in which no region changes.

        Args:
            step, steps: The first step's number, and how many there are.
            tables: Those that hold memory, as of the first step.
            decoders: How many of them compute a token more in each further step.
        """
        used = 0
        for table in tables:
            used += table.computed
        free, hole = self.pool.num_free, self._allocator.largest_hole
        size = self.block_size
        self._occupancy.sample(step, steps, used, decoders, free * size, hole * size)

    def take_moved_tokens(self) -> int:
        """Return how many tokens were copied to a new place since this was last asked."""
        moved, self._moved = self._moved, 0
        return moved

    def check_integrity(self, tables: Iterable[Holder]) -> None:
        """Check that regions and holes tile the memory and that the sums are right. Raises IntegrityError."""
        self._allocator.check_integrity()
        held = list(tables)
        owners = sorted(table.request.id for table in held)
        if owners != sorted(self._regions):
            raise IntegrityError(
                f"requests {owners[:8]} hold memory, regions are of {sorted(self._regions)[:8]}"
            )
        pieces = [(region.start, region.size) for region in self._regions.values()]
        end = 0
        for start, size in sorted([*pieces, *self._allocator.holes()]):
            if start != end:
                raise IntegrityError(f"memory is lost, or owned twice, between units {start} and {end}")
            end = start + size
        if end != self.pool.num_blocks - 1 or self.pool.num_free != self._allocator.num_free:
            raise IntegrityError(f"{end} units of {self.pool.num_blocks - 1}, or a wrong number of free ones")
        for table in held:
            if table.computed > self.capacity_tokens(table):
                raise IntegrityError(f"request {table.request.id} has more tokens than its region has places")
        places = [self._places(region) for region in self._regions.values()]
        counted = (self._occupancy.asked, self._occupancy.final)
        if counted != (sum(asked for asked, _ in places), sum(final for _, final in places)):
            raise IntegrityError("the places that were asked for, or will be used, do not add up")

    # -- sizes --------------------------------------------------------------------------------------------

    def _units(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def _places(self, region: Region) -> tuple[int, int]:
        """Return the places that a region was made for, and those that will ever be used."""
        final = min(region.final_tokens, region.size * self.block_size)
        return max(region.asked_tokens, final), final

    # -- regions ------------------------------------------------------------------------------------------

    def _enlarge(self, region: Region, computed_tokens: int, tokens: int) -> bool:
        """Double a region, or give it just what `tokens` need: in its place, or else in a new one."""
        allocator = self._allocator
        need = allocator.rounded(self._units(tokens))
        longest = allocator.rounded(self._units(self._reservation.max_model_len))
        double = max(need, min(allocator.rounded(2 * region.size), longest))
        start = region.start
        for size in (double, need):
            if allocator.extend(start, region.size, size):
                self._leave(region)
                region.size, region.asked_tokens = size, size * self.block_size
                self._enter(region)
                return True
        for size in (double, need):
            place = allocator.allocate(size)
            if place != NOWHERE:
                self._leave(region)
                allocator.free(start, region.size)
                region.start, region.size, region.asked_tokens = place, size, size * self.block_size
                self._enter(region)
                self.fragmentation.moves += 1
                self.fragmentation.moved_tokens += computed_tokens
                self._moved += computed_tokens
                return True
        return False

    def _refuse(self, request_id: int, size: int) -> None:
        self._occupancy.refuse(request_id, would_fit=size <= self._allocator.num_free)

    def _enter(self, region: Region) -> None:
        asked, final = self._places(region)
        self._occupancy.change(asked, final)
        self.pool.num_free = self._allocator.num_free

    def _leave(self, region: Region) -> None:
        asked, final = self._places(region)
        self._occupancy.change(-asked, -final)
        self.pool.num_free = self._allocator.num_free
