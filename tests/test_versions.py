from pathlib import Path

from queuebench.monitor.versions import commit, processor, versions
from tests.local_sqs_fixtures import running

HASH = "0123456789abcdef0123456789abcdef01234567"


def test_what_takes_part_has_a_version_and_an_absent_local_sqs_none() -> None:
    found = versions("")
    assert {"python", "celery", "kombu", "redis", "cpu"} <= set(found)
    assert "local_sqs" not in found
    assert "local_sqs" not in versions("http://127.0.0.1:1")


def test_a_local_sqs_tells_its_options() -> None:
    with running("--latency", "0", "--fifo-quota", "50", "--throttling", "0.1") as server:
        assert versions(server.url)["local_sqs"] == "latency off, FIFO quota 50 calls/s, throttling 0.1"


def test_the_commit_is_known_in_a_checkout_a_worktree_and_after_packing(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git = tmp_path / "main" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text(HASH + "\n")
    assert commit(tmp_path / "main") == HASH[:12]
    (git / "refs" / "heads" / "main").unlink()
    (git / "packed-refs").write_text(f"# pack-refs\n{HASH} refs/heads/main\n")
    assert commit(tmp_path / "main") == HASH[:12]
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / ".git").write_text(f"gitdir: {git / 'worktrees' / 'tree'}\n")
    (git / "worktrees" / "tree").mkdir(parents=True)
    (git / "worktrees" / "tree" / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees" / "tree" / "commondir").write_text("../..\n")
    assert commit(tmp_path / "tree") == HASH[:12]
    (git / "HEAD").write_text(HASH)
    assert commit(tmp_path / "main") == HASH[:12]


def test_a_processor_without_a_name_is_told_by_its_kind(tmp_path: Path) -> None:
    assert processor(tmp_path / "none")
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
