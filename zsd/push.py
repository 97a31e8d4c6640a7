"""`zsd push`: a student and its model card to a directory, an object store or the Hugging Face hub.

What goes: weights as safetensors, configuration, tokenizer, ``zsd.json`` and compiled forms; never a pickle, never a
path of this machine. ``zsd.json`` goes last: a target without it was not finished, and the same command finishes it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from zsd import storage
from zsd.console import say
from zsd.errors import ConfigError, OutputError, StudentError
from zsd.joint_encoder import PLACES
from zsd.model_card import model_card, portable
from zsd.push_config import HUB, PushConfig
from zsd.shards import MANIFEST, read_json
from zsd.students.folder import CARD, CONFIG, KINDS, STUDENT
from zsd.students.linear import VOCABULARY
from zsd.teachers.nli import checkpoint_fingerprint

README = "README.md"
SUFFIXES = {"": {".safetensors", ".model"}, "onnx": {".onnx"}, "openvino": {".xml", ".bin"}}
"""What is pushed of a student, by folder; of JSON and text, which may hold anything, what is named below."""
TOKENIZER_CONFIG = "tokenizer_config.json"
TEXT_FILES = {CARD, CONFIG, VOCABULARY, TOKENIZER_CONFIG, "vocab.txt", "merges.txt"} | {
    f"{name}.json"
    for name in ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "modules", "model.safetensors.index")
}
SOURCE_KEYS = ("_name_or_path", "name_or_path")
"""Keys under which transformers notes where a configuration or a tokenizer was loaded from."""


def push(config: PushConfig) -> dict[str, Any]:
    """Push a student; returns where it is and which files went.

    Raises:
        StudentError: there is no finished student.
        OutputError: the target holds something else, or cannot be written.
        ConfigError: the hub refuses.
    """
    source = student_location(config.model)
    names = _files(source)
    with tempfile.TemporaryDirectory(prefix="zsd-push-") as scratch:
        _gather(source, names, Path(scratch))
        (Path(scratch) / README).write_text(_card(config, source), encoding="utf-8")
        names = [*sorted({*names, README} - {CARD}), CARD]
        if config.to.startswith(HUB):
            where = _to_hub(Path(scratch), config)
        else:
            where = _to_storage(Path(scratch), config.to, names)
    say(f"push: {len(names)} files: {where}")
    return {"model": source.uri, "to": where, "files": names}


def student_location(model: str) -> storage.Location:
    """The folder of a finished student that ``--model`` means: itself, or the output of `zsd distill`, also a URI.

    Raises:
        StudentError: there is none.
    """
    for uri in (storage.resolve(model).uri, storage.join(model, STUDENT)):
        if storage.exists(storage.join(uri, CARD)) and storage.exists(storage.join(uri, CONFIG)):
            return storage.resolve(uri)
    raise StudentError(f"{model}: no finished student of zsd here: give its directory, or the --output of zsd distill")


def _files(source: storage.Location) -> list[str]:
    """Names of the files that go, relative to the student; what else lies there is named and stays."""
    found = []
    for folder, suffixes in SUFFIXES.items():
        place = source.join(folder) if folder else source
        for name in storage.list_names(place.uri):
            relative = f"{folder}/{name}" if folder else name
            if Path(name).suffix in suffixes or (not folder and name in TEXT_FILES):
                found.append(relative)
            elif name != README:
                say(f"push: {relative} stays: no file of a student")
    if not any(name.endswith(".safetensors") for name in found):
        raise StudentError(f"{source.uri}: holds no safetensors weights: nothing else is pushed")
    return found


def _gather(source: storage.Location, names: list[str], scratch: Path) -> None:
    """Copy the files here, without the paths of this machine in their JSON."""
    for name in names:
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.fs.open_input_stream(source.join(name).path) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if name in (CARD, CONFIG, TOKENIZER_CONFIG):
            content = json.loads(target.read_text(encoding="utf-8"))
            kept = portable(content) if name == CARD else {k: v for k, v in content.items() if k not in SOURCE_KEYS}
            if kept != content:
                target.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(config: PushConfig, source: storage.Location) -> str:
    card = read_json(source.join(CARD).uri)
    made = read_json(source.join(CONFIG).uri)
    kind = "joint" if PLACES in made else KINDS.get(str(made.get("model_type")), "encoder")
    target = config.to.removeprefix(HUB).partition("?")[0].rstrip("/")
    return model_card(
        config.title or target.rpartition("/")[2],
        kind,
        card,
        manifest=_manifest(source, card),
        quality=_quality(source),
        license_id=config.license,
    )


def _beside(source: storage.Location, *name: str) -> dict[str, Any] | None:
    """A JSON file of the output directory that the student lies in; None where it lies alone."""
    folder = source.path.rpartition("/")[0]
    address, _, query = source.uri.partition("?")
    root = address.rpartition("/")[0] + (f"?{query}" if query else "")
    if not folder or source.path.rpartition("/")[2] != STUDENT:
        return None
    file = storage.join(root, *name)
    return read_json(file) if storage.exists(file) else None


def _manifest(source: storage.Location, card: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the soft labels that the student was trained on, where they lie beside it."""
    manifest = _beside(source, MANIFEST)
    same = ("labels", "teacher_fingerprint")
    fits = manifest is not None and manifest.get("job") == "label" and all(manifest.get(k) == card.get(k) for k in same)
    return manifest if fits else None


def _quality(source: storage.Location) -> dict[str, Any] | None:
    """What `zsd benchmark` found of this very student, alone, on gold labels, where its report lies beside it."""
    asked, found = _beside(source, "job-benchmark.json"), _beside(source, "benchmark", "benchmark.json")
    if asked is None or found is None or not source.is_local or not found["task"]["gold"]:
        return None
    fits = asked.get("student_fingerprints") == [checkpoint_fingerprint(Path(source.path))]
    return found["quality"] if fits else None


def _to_storage(scratch: Path, to: str, names: list[str]) -> str:
    place = storage.resolve(to)
    target = storage.join(place.uri, CARD)
    try:
        there = {info.base_name for info in storage.infos(place)}
        if CARD in there and storage.read_bytes(target) == (scratch / CARD).read_bytes():
            say(f"push: {place.uri}: this student is there already, nothing to do")
            return place.uri
        if CARD in there or there - {name.partition("/")[0] for name in names}:
            raise OutputError(f"{to}: is not empty: nothing is overwritten, name a new directory with --to")
        for name in names:
            _copy(scratch / name, place.join(name))
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{to}: cannot be written: {storage.first_line(error)}: name another --to") from None
    return place.uri


def _copy(file: Path, target: storage.Location) -> None:
    if target.is_local:
        Path(target.path).parent.mkdir(parents=True, exist_ok=True)
    here = pafs.LocalFileSystem()
    storage.persistently(
        target,
        lambda: pafs.copy_files(str(file), target.path, source_filesystem=here, destination_filesystem=target.fs),
    )


def _to_hub(scratch: Path, config: PushConfig) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api, name = HfApi(), config.to.removeprefix(HUB)
    try:
        repository = api.create_repo(name, private=config.private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=scratch, commit_message="Push a student of zsd")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise ConfigError(
            f"--to {config.to}: the hub does not take it ({storage.first_line(error)}): log in with hf auth login or "
            "$HF_TOKEN, check the name and the network"
        ) from None
    return str(repository)
