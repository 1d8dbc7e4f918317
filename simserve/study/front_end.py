"""What client and server add to a request's latency outside of the engine's loop."""

from __future__ import annotations

# HTTP on both sides, tokenizer, the hop to the engine's process and back, detokenizer; seconds, once a
# request. Read off TTFTs that are little but this, the step in flight and the request's own: of Llama-2-7B
# with full prefix hits (0.15) and of Qwen3-14B's prompts of 250 tokens (0.23), each with at most five others
# in flight; there the measured TTFT is 5 +- 1 ms above that of the engine alone. The server's process is the
# same in 0.19, where no run measured from the client.
_FRONT_END_S = {"0.15": 0.005, "0.19": 0.005, "0.23": 0.005}


def front_end_s(version: str) -> float:
    """Return the seconds that client and server add to TTFT and E2EL of every request.

    It is a constant: under load a real server adds more, since its one Python process shares itself out.

    Args:
        version: An engine's release, `major.minor`.
    """
    return _FRONT_END_S[version]
