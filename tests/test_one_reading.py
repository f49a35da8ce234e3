"""A translation loads each generator once, plans once and hashes the weights once."""

from collections import Counter
from pathlib import Path

from helpers import head, stored
from program import msgan_cli

from msgan import paths
from msgan.runs.bundled import located
from msgan.training import checkpoint
from msgan.translate import generation


def test_msgan_translate_reads_everything_once(tmp_path, monkeypatch):
    """Of a model: its weights are also held to the hashes that its card states."""
    loaded, hashed, planned = Counter(), Counter(), []
    load, sha, plan = checkpoint.load_weights, paths._sha256, generation.plan

    def loading(module, path):
        loaded[Path(path).parent.name] += 1
        return load(module, path)

    def hashing(path, *digest):
        if path.suffix == ".safetensors":
            hashed[path.parent.name] += 1
        return sha(path, *digest)

    def planning(*words, **options):
        planned.append(words)
        return plan(*words, **options)

    monkeypatch.setattr(checkpoint, "load_weights", loading)
    monkeypatch.setattr(paths, "_sha256", hashing)
    monkeypatch.setattr(generation, "plan", planning)
    paths._remembered.cache_clear()
    scales = {p.parent.name for p in located("brain-phantom-t2").glob("s*/*.safetensors")}
    assert len(scales) > 1
    source = stored(tmp_path / "t1.nii", head((40, 36, 30)))
    msgan_cli("translate", "brain-phantom-t2", source, tmp_path / "t2.nii")
    assert loaded == hashed == dict.fromkeys(scales, 1)
    assert len(planned) == 1
