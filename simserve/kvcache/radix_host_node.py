"""A run of tokens that the GPU holds, the host, or both; and which of them goes next on either side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Segment


class HostedNode(RadixNode):
    """A node of `radix_host.HostedRadixCache`.

    Attributes:
        on_device, on_host: Where its KV entries are: at least one of both.
        device_children: Children that are on the device.
        host_locks: Who needs the host's copy of it or of a node below it.
    """

    __slots__ = ("device_children", "host_locks", "on_device", "on_host")

    parent: HostedNode | None
    children: dict[Hashable, HostedNode]  # type: ignore[assignment]

    def __init__(
        self, parent: RadixNode | None, place: Hashable, key: list[Segment], length: int, tick: int
    ) -> None:
        super().__init__(parent, place, key, length, tick)
        self.on_device = True
        self.on_host = False
        self.device_children = 0
        self.host_locks = 0

    @property
    def evictable(self) -> bool:
        """Whether it is a leaf of what the device holds, or of what the host alone holds, and not locked."""
        if self.locks or self.parent is None:
            return False
        if self.on_device:
            return not self.device_children
        return not self.children and not self.host_locks


class HostedEviction(EvictionPolicy):
    """Two policies as one: the device's leaves are its own, those of the host alone go to another.

    Args:
        device, host: The policies; of the same kind in SGLang.
    """

    def __init__(self, device: EvictionPolicy, host: EvictionPolicy) -> None:
        super().__init__()
        self._device = device
        self._host = host
        self.rising = device.rising
        self.ttl_ns = device.ttl_ns

    def offer(self, node: RadixNode) -> None:
        """Take in a leaf on the side on which it is one."""
        assert isinstance(node, HostedNode)
        (self._device if node.on_device else self._host).offer(node)

    def pop(self) -> RadixNode | None:
        """Give out the leaf that the device drops next, or None."""
        return self._pop(self._device, on_device=True)

    def pop_host(self) -> RadixNode | None:
        """Give out the leaf that the host drops next, or None."""
        return self._pop(self._host, on_device=False)

    def _pop(self, policy: EvictionPolicy, *, on_device: bool) -> RadixNode | None:
        while (node := policy.pop()) is not None:
            assert isinstance(node, HostedNode)
            if node.on_device == on_device:
                return node
            self.offer(node)  # it has changed sides since it was queued
        return None

    def evicted(self, node: RadixNode) -> None:
        """Hear that the device has dropped a node."""
        self._device.evicted(node)

    def evicted_from_host(self, node: RadixNode) -> None:
        """Hear that the host has dropped a node."""
        self._host.evicted(node)

    def find_stale(self, now_ns: int, tick: int) -> int:
        """Return the tick up to which unused nodes have outlived their time on the device; 0: none have."""
        return self._device.find_stale(now_ns, tick)

    def stale_at(self) -> int | None:
        """Return the next time at which `find_stale` may say more than before; None: never."""
        return self._device.stale_at()

    def clear(self) -> None:
        """Forget all nodes."""
        self._device.clear()
        self._host.clear()


def path_to(node: HostedNode) -> list[HostedNode]:
    """Return the nodes down to one, without the root."""
    path = []
    passed = node
    while passed.parent is not None:
        path.append(passed)
        passed = passed.parent
    path.reverse()
    return path


def nodes_below(node: HostedNode) -> Iterator[HostedNode]:
    """Yield all nodes below one, each before its children."""
    stack = list(reversed(node.children.values()))
    while stack:
        each = stack.pop()
        yield each
        stack.extend(reversed(each.children.values()))
