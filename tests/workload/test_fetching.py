"""Downloads, against a local server: checked, whole or not at all, and clear when there is no network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simserve.errors import InputError, UnknownNameError
from simserve.workload import public_traces
from simserve.workload.fetching import FetchError, cache_folder, fetch_trace
from simserve.workload.public_traces import PUBLIC_TRACES, PublicTrace
from simserve.workload.trace import read_trace

CONTENT = b"arrival_s,prompt_tokens,output_tokens\n0,5,6\n"
TRACE = PublicTrace(
    "owner/repository", "c0ffee", "data/t.csv", hashlib.sha256(CONTENT).hexdigest(), "MIT", "Nobody: Nothing"
)


class Server:
    """A mirror that remembers what it was asked for, and can misbehave."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.content = CONTENT
        self.length = len(CONTENT)
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(outer.length))
                self.end_headers()
                self.wfile.write(outer.content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running mirror with the trace `tiny`."""
    monkeypatch.setitem(public_traces.PUBLIC_TRACES, "tiny", TRACE)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_a_trace_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = fetch_trace("tiny", tmp_path, server.url)
    assert path == tmp_path / "tiny" / "t.csv"
    assert read_trace(path).count == 1
    assert fetch_trace("tiny", tmp_path, server.url) == path
    assert server.asked == ["/owner/repository/c0ffee/data/t.csv"]


def test_a_damaged_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    path = fetch_trace("tiny", tmp_path, server.url)
    path.write_text("damaged")
    assert fetch_trace("tiny", tmp_path, server.url).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_another_checksum_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT.replace(b"5", b"7")
    with pytest.raises(FetchError, match=r"expected [0-9a-f]{64}; it was not kept"):
        fetch_trace("tiny", tmp_path, server.url)
    assert not list((tmp_path / "tiny").iterdir())


def test_a_cut_download_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:20]
    with pytest.raises(FetchError):
        fetch_trace("tiny", tmp_path, server.url)
    assert not list((tmp_path / "tiny").iterdir())


def test_a_missing_file_says_the_status(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(FetchError, match="the server answered 404"):
        fetch_trace("tiny", tmp_path, server.url)


def test_offline_is_said_clearly(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(FetchError, match=r"cannot download .*Connection refused.*Without a network"):
        fetch_trace("tiny", tmp_path, server.url)
    assert not list((tmp_path / "tiny").iterdir())


def test_wrong_names_and_mirrors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'azure-2023-conv'"):
        fetch_trace("azure-2023-con", tmp_path)
    with pytest.raises(InputError, match="is no http"):
        fetch_trace("azure-2023-conv", tmp_path, "file:///etc")


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "simserve" / "traces"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "simserve" / "traces"


# The copies that the collection calls byte-exact; their checksums are those of the public files.
COPIES = {
    "azure-2023-code": "azure/AzureLLMInferenceTrace_code.csv.gz",
    "azure-2023-conv": "azure/AzureLLMInferenceTrace_conv.csv.gz",
    "mooncake-conversation": "mooncake/conversation_trace.jsonl.gz",
    "mooncake-synthetic": "mooncake/synthetic_trace.jsonl.gz",
    "vidur-arxiv-summarization": "vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz",
    "sarathi-sharegpt-8k": "sarathi/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz",
    "llmservingsim-mixed": "llmservingsim/workload_me2_01_mixed.jsonl.gz",
}


@pytest.mark.parametrize("name", COPIES)
def test_checksums_of_the_public_files(data_dir: Path, name: str) -> None:
    import gzip

    content = gzip.decompress((data_dir / "traces" / COPIES[name]).read_bytes())
    assert hashlib.sha256(content).hexdigest() == PUBLIC_TRACES[name].sha256
    assert (data_dir / "traces" / COPIES[name]).name == PUBLIC_TRACES[name].file_name + ".gz"


def test_addresses() -> None:
    for trace in PUBLIC_TRACES.values():
        assert trace.url().startswith("https://")
        assert trace.url().endswith(f"/{trace.repository}/{trace.commit}/{trace.path}")
        assert len(trace.commit) == 40
        assert len(trace.sha256) == 64
