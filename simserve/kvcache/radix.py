"""SGLang's radix cache: every cached prefix in one tree, token for token, in pages of 1 to 64 tokens.

Decides as SGLang 0.5.23 (docs/background/sglang.md): matching splits nodes and refreshes them, a locked path
is not evicted, leaves go in the order of an eviction policy. Keys are lists of segments, so that a prompt
costs a few operations and not one a token. The tree counts tokens; which slot of the pool holds which
token decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from simserve.errors import IntegrityError
from simserve.kvcache.eviction import EvictionPolicy, build_eviction
from simserve.kvcache.radix_node import RadixNode, check_node
from simserve.kvcache.radix_tree import RadixTree
from simserve.workload.request import Segment


class RadixCache(RadixTree):
    """A radix tree over the tokens whose KV is kept.

    Args:
        page_size: Tokens per page; every key is cut to a multiple of it.
        eviction: Chooses what goes; LRU by default. It belongs to this cache alone.
        disable: Keep nothing: every match is empty.
        split_keeps_creation: The upper part of a split node keeps its time of creation (SGLang's unified
            tree, its default), or is new (SGLang's classic one). FIFO and FILO see the difference.

    Attributes:
        evictable_tokens, protected_tokens: Tokens that nobody has locked, and those that somebody has.
        on_evict: Called with each node before it goes.
    """

    def __init__(
        self,
        page_size: int = 1,
        eviction: EvictionPolicy | None = None,
        *,
        disable: bool = False,
        split_keeps_creation: bool = True,
    ) -> None:
        super().__init__(page_size, eviction or build_eviction("lru"), split_keeps_creation)
        self.disable = disable
        self.on_evict: Callable[[RadixNode], None] | None = None
        self.evictable_tokens = 0
        self.protected_tokens = 0

    def reset(self) -> None:
        """Forget everything; the clock goes on."""
        self.root = self.node_type(None, None, [], 0, self._tick)
        self.evictable_tokens = 0
        self.protected_tokens = 0
        self.num_nodes = 0
        self._eviction.clear()

    @property
    def total_tokens(self) -> int:
        """Tokens in the tree."""
        return self.evictable_tokens + self.protected_tokens

    # -- looking up and entering --------------------------------------------------------------------------

    def match(
        self, segments: Sequence[Segment], tokens: int, namespace: Hashable = None
    ) -> tuple[RadixNode, int]:
        """Return the node at the end of the longest known prefix, and its tokens.

        Refreshes what it passes, and splits a node that it matches in part.

        Args:
            segments: Merged segments (`prefix_keys.token_segments`) of at least `tokens` tokens.
            tokens: How many leading tokens count, before they are cut to whole pages.
            namespace: Prefixes of different namespaces share nothing (LoRA adapter, cache salt).
        """
        if self.disable:
            return self.root, 0
        node, matched, _, _ = self._descend(segments, tokens - tokens % self.page_size, namespace)
        return node, matched

    def insert(
        self,
        segments: Sequence[Segment],
        tokens: int,
        priority: int = 0,
        inserted_tokens: int = 0,
        namespace: Hashable = None,
    ) -> tuple[RadixNode, int]:
        """Enter a prefix; return its last node, and how many of its tokens were there already.

        Args:
            segments, tokens, namespace: As for `match`.
            priority: Raises that of every node on the path.
            inserted_tokens: Nodes that end within the first so many tokens do not count a hit.
        """
        if self.disable:
            return self.root, 0
        tokens -= tokens % self.page_size
        node, matched, index, offset = self._descend(segments, tokens, namespace)
        passed = node
        while passed.parent is not None:
            if passed.priority < priority:
                passed.priority = priority
            if passed.depth > inserted_tokens:
                passed.hits += 1
            if passed.reach < tokens:
                passed.reach = tokens
            passed = passed.parent
        if matched < tokens:
            node = self._add_leaf(node, segments, index, offset, tokens - matched, namespace)
            self.evictable_tokens += node.length
            node.priority = priority
            node.hits = int(tokens > inserted_tokens)
            self._eviction.offer(node)
        elif not self._eviction.rising and node.evictable:
            self._eviction.offer(node)
        return node, matched

    # -- locks and eviction -------------------------------------------------------------------------------

    def lock(self, node: RadixNode) -> int:
        """Protect the path to a node from eviction; return how many tokens left the evictable ones."""
        protected = 0
        while node.parent is not None:
            if not node.locks and node.on_device:
                protected += node.length
            node.locks += 1
            node = node.parent
        self.evictable_tokens -= protected
        self.protected_tokens += protected
        return protected

    def unlock(self, node: RadixNode) -> int:
        """Take back one `lock` of a node; return how many tokens have become evictable.

        Raises:
            IntegrityError: If the node is not locked.
        """
        freed = 0
        while node.parent is not None:
            if not node.locks:
                raise IntegrityError(f"{node} is unlocked more often than it was locked")
            node.locks -= 1
            if not node.locks:
                if node.on_device:
                    freed += node.length
                if node.evictable:
                    self._eviction.offer(node)
            node = node.parent
        self.evictable_tokens += freed
        self.protected_tokens -= freed
        return freed

    def evict(self, tokens: int) -> int:
        """Drop evictable leaves until at least `tokens` tokens are gone or none is left; return how many."""
        evicted = 0
        pop = self._eviction.pop
        while evicted < tokens:
            node = pop()
            if node is None:
                break
            evicted += node.length
            self._drop(node)
        return evicted

    def expire(self, now_ns: int) -> int:
        """Drop what has outlived the eviction policy's time to live, if it has one; return the tokens.

        To be called before the tree is used at a new time; times must not go back.
        """
        stale = self._eviction.find_stale(now_ns, self._tick)
        expired = 0
        while stale:
            node = self._eviction.pop()
            if node is None:
                break
            if node.access > stale:
                self._eviction.offer(node)
                break
            expired += node.length
            self._drop(node)
        return expired

    def expires_at(self) -> int | None:
        """Return the next time at which `expire` may drop something; None: never."""
        return self._eviction.stale_at()

    def _drop(self, node: RadixNode) -> None:
        """Remove an evictable leaf that the policy has given out."""
        if self.on_evict is not None:
            self.on_evict(node)
        parent = node.parent
        assert parent is not None
        del parent.children[node.place]
        node.parent = None
        self.evictable_tokens -= node.length
        self.num_nodes -= 1
        self._eviction.evicted(node)
        if parent.evictable:
            self._eviction.offer(parent)

    # -- what logs and checks ask for ---------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Check links, lengths, locks and sums.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        evictable = protected = count = 0
        for node in self.nodes():
            check_node(node, self.page_size)
            count += 1
            evictable += 0 if node.locks else node.length
            protected += node.length if node.locks else 0
        if (evictable, protected) != (self.evictable_tokens, self.protected_tokens):
            raise IntegrityError(
                f"{evictable} evictable and {protected} protected tokens in the tree, "
                f"counted {self.evictable_tokens} and {self.protected_tokens}"
            )
        if count != self.num_nodes:
            raise IntegrityError(f"{count} nodes in the tree, counted {self.num_nodes}")
