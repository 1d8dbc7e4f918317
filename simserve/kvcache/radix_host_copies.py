"""The host's copies of a radix tree's nodes: making one, making room for one, and what both sides drop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar, cast

from simserve.errors import IntegrityError
from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_host_node import HostedEviction, HostedNode, nodes_below, path_to
from simserve.kvcache.radix_node import RadixNode, check_node
from simserve.kvcache.tier import WriteMode

# SGLang's write_through_threshold: hits after which a node is copied; "back" counts none.
_HITS_TO_COPY = {"through": 1, "second_use": 2, "back": 0}


class HostCopies(RadixCache):
    """What a hosted tree does with its copies; see `radix_host.HostedRadixCache`.

    Attributes:
        write: When a node is copied to the host.
        host_capacity, host_tokens, host_reserved: Tokens for which the host has room, those of copies, and
            room that is held for tokens on their way from behind the host.
        on_copy: Called with each node that gets a copy from the device.
        on_host_evict: Called with each node before the host drops it.
    """

    node_type: ClassVar[type[RadixNode]] = HostedNode
    _eviction: HostedEviction

    def __init__(
        self,
        page_size: int,
        eviction: EvictionPolicy,
        host_eviction: EvictionPolicy,
        host_capacity: int,
        write: WriteMode = "through",
        *,
        disable: bool = False,
    ) -> None:
        super().__init__(page_size, HostedEviction(eviction, host_eviction), disable=disable)
        self.write: WriteMode = write
        self.host_capacity = host_capacity - host_capacity % page_size
        self.host_tokens = 0
        self.host_reserved = 0
        self.on_copy: Callable[[HostedNode], None] | None = None
        self.on_host_evict: Callable[[HostedNode], None] | None = None
        # With write "back": nodes on both sides, whose copies go first. As in SGLang they keep their places
        # when the device drops them, and lose them when `_drop_second_copies` comes across them meanwhile.
        self._twice: dict[HostedNode, None] = {}
        # What is entered at the root from behind the host has its priority: the greatest of any insertion.
        self.root.priority = -sys.maxsize

    @property
    def host_free(self) -> int:
        """Tokens for which the host has room left."""
        return self.host_capacity - self.host_tokens - self.host_reserved

    # -- copies -------------------------------------------------------------------------------------------

    def _count_hit(self, node: HostedNode) -> None:
        """Count an insertion through a node on the device, and copy it to the host if it is time to."""
        if self.write == "back":
            return
        node.hits += 1
        if not node.on_host and node.hits >= _HITS_TO_COPY[self.write]:
            self._copy_with_ancestors(node)

    def _copy_with_ancestors(self, node: HostedNode) -> None:
        """Copy a node and those above it that have no copy, from the root on, as far as there is room."""
        chain: list[HostedNode] = []
        above: HostedNode | None = node
        while above is not None and above.parent is not None and not above.on_host:
            chain.append(above)
            above = above.parent
        for each in reversed(chain):
            if not self._back_up(each):
                return

    def _back_up(self, node: HostedNode) -> bool:
        """Copy a node of the device to the host; False, and it has no copy, if there is no room for it."""
        missing = node.length - self.host_free
        if missing > 0 and self.evict_host(missing) < missing:
            return False
        self._hold_copy(node)
        if self.on_copy is not None:
            self.on_copy(node)
        return True

    def _hold_copy(self, node: HostedNode) -> None:
        node.on_host = True
        self.host_tokens += node.length
        if self.write == "back" and node.on_device:
            self._twice.setdefault(node)

    def _release_copy(self, node: HostedNode) -> None:
        if self.on_host_evict is not None:
            self.on_host_evict(node)
        node.on_host = False
        self.host_tokens -= node.length

    def _take_up(self, node: HostedNode) -> None:
        """Note that a node that the host alone had is on the device too."""
        assert node.parent is not None
        node.on_device = True
        node.queued = None
        node.parent.device_children += 1
        if node.locks:
            self.protected_tokens += node.length
        else:
            self.evictable_tokens += node.length
            if node.evictable:
                self._eviction.offer(node)
        if self.write == "back":
            self._twice.setdefault(node)

    # -- what is dropped ----------------------------------------------------------------------------------

    def evict_host(self, tokens: int) -> int:
        """Let the host drop copies until at least `tokens` tokens are gone or none is left; return how many.

        With write "back" those go first that the device has too, and of these first those that the device is
        not about to drop.
        """
        evicted = self._drop_second_copies(tokens) if self._twice else 0
        while evicted < tokens:
            leaf = cast("HostedNode | None", self._eviction.pop_host())
            if leaf is None:
                break
            evicted += leaf.length
            self._remove_from_host(leaf)
        return evicted

    def _drop_second_copies(self, tokens: int) -> int:
        evicted = 0
        passed: list[HostedNode] = []
        for spares_leaves in (True, False):
            for node in self._twice:
                if evicted >= tokens:
                    break
                if not node.on_device or not node.on_host:
                    passed.append(node)
                elif not node.host_locks and not (spares_leaves and node.evictable):
                    evicted += node.length
                    self._release_copy(node)
                    passed.append(node)
        for node in passed:
            self._twice.pop(node, None)
        return evicted

    def _remove_from_host(self, node: HostedNode) -> None:
        """Take a leaf that the host alone has out of the tree."""
        self._release_copy(node)
        self._twice.pop(node, None)
        parent = node.parent
        assert parent is not None
        del parent.children[node.place]
        node.parent = None
        self.num_nodes -= 1
        self._eviction.evicted_from_host(node)
        if not parent.on_device and parent.evictable:
            self._eviction.offer(parent)

    def _drop(self, node: RadixNode) -> None:
        """Let the device drop a leaf of its own; without a copy it leaves the tree, with all below it."""
        assert isinstance(node, HostedNode)
        parent = node.parent
        assert parent is not None
        parent.device_children -= 1
        if not node.on_host:
            for each in reversed(list(nodes_below(node))):
                self._remove_from_host(each)
            self._twice.pop(node, None)
            super()._drop(node)
            return
        node.on_device = False
        self.evictable_tokens -= node.length
        self._eviction.evicted(node)
        if node.evictable:
            self._eviction.offer(node)
        if parent.evictable:
            self._eviction.offer(parent)

    # -- locks of the host's copies -----------------------------------------------------------------------

    def lock_host(self, node: HostedNode) -> None:
        """Keep the host's copies of the path to a node."""
        for each in path_to(node):
            each.host_locks += 1

    def unlock_host(self, node: HostedNode) -> None:
        """Take back one `lock_host`."""
        for each in path_to(node):
            each.host_locks -= 1
            if not each.on_device and each.evictable:
                self._eviction.offer(each)

    # -- the tree -----------------------------------------------------------------------------------------

    def _split(self, node: RadixNode, tokens: int) -> RadixNode:
        upper = super()._split(node, tokens)
        assert isinstance(upper, HostedNode)
        assert isinstance(node, HostedNode)
        upper.on_device, upper.on_host = node.on_device, node.on_host
        upper.host_locks = node.host_locks
        upper.device_children = int(node.on_device)
        if node.on_device and node.on_host and self.write == "back":
            self._twice.setdefault(upper)
        return upper

    def check_integrity(self) -> None:
        """Check both sides: sums, locks, and that every node is where its neighbours say.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        evictable = protected = copies = count = 0
        for each in self.nodes():
            node = cast("HostedNode", each)
            check_node(node, self.page_size)
            self._check_place(node)
            count += 1
            evictable += node.length if node.on_device and not node.locks else 0
            protected += node.length if node.on_device and node.locks else 0
            copies += node.length if node.on_host else 0
        seen = evictable, protected, copies, count
        counted = self.evictable_tokens, self.protected_tokens, self.host_tokens, self.num_nodes
        if seen != counted:
            raise IntegrityError(
                f"evictable, protected, copied tokens and nodes are {seen}, counted {counted}"
            )
        if self.host_free < 0 or self.host_reserved < 0:
            raise IntegrityError(f"the host holds more than its {self.host_capacity} tokens")

    def _check_place(self, node: HostedNode) -> None:
        parent = node.parent
        assert parent is not None
        if not node.on_device and not node.on_host:
            raise IntegrityError(f"{node} lies nowhere")
        if node.on_device and not parent.on_device:
            raise IntegrityError(f"{node} is on the device below one that is not")
        if node.on_host and self.write != "back" and parent.parent is not None and not parent.on_host:
            raise IntegrityError(f"{node} has a copy on the host below one that has none")
        if node.device_children != sum(child.on_device for child in node.children.values()):
            raise IntegrityError(f"{node} has other children on the device than it counts")
        if self.write == "back" and node.on_device and node.on_host and node not in self._twice:
            raise IntegrityError(f"{node} is on both sides, which is not noted")
