"""Two processes compute what one does, and stop and resume like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from conftest import digest, together

from sslx.core.training import checkpoint

ARGUMENTS = """
    run -p gedi --subset 100 --epochs 2 --batch-size 16 --devices 2 -e knn -o whole
    --set encoder.hidden=16 --set energy.chains=40 --set energy.steps=2
    --set train.log_every=1 --set train.checkpoint_steps=5
"""  # gedi, whose chains differ between processes


def test_a_run_of_two_processes_stops_and_resumes_exactly(sslx_command: Any, command: Any, tmp_path: Path) -> None:
    first, second = together(tmp_path, f"from sslx.cli import main; main({ARGUMENTS.split()})", 2)
    assert "\ngedi " in first and "whole: trained" in first and not second  # one process prints
    path, _ = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    assert path is not None and (path / "rank-1.pt").exists()

    # As if it had been killed between the checkpoint at step 10 and the end.
    before, log = digest(tmp_path / "whole"), (tmp_path / "whole" / "metrics.jsonl").read_text()
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    ranks = [torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"] for rank in (0, 1)]
    assert not torch.equal(*ranks)
    for child in path.iterdir():
        child.unlink()
    path.rmdir()
    (tmp_path / "whole" / "results.json").unlink()
    code, _, errors = command("resume", "whole", "--devices", "1")
    assert code == 1 and "resume it with --devices 2" in errors
    assert sslx_command("resume", "whole").returncode == 0
    assert digest(tmp_path / "whole") == before
    for rank, chains_of in enumerate(ranks):
        assert torch.equal(torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"], chains_of)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == log
    assert json.loads((tmp_path / "whole" / "results.json").read_text()) == results
