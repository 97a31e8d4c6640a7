import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families import tiny_checkpoint
from zsd.benchmark.contestants import Contestant
from zsd.benchmark.lineup import PIPELINE, RECIPE, line_up
from zsd.benchmark.race import is_reference
from zsd.labels import LabelSet

LABELS = LabelSet(names=("a", "b"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = dict(enumerate(LABELS.names))
    folder = tmp_path_factory.mktemp("student")
    return str(tiny_checkpoint(folder, "bert", num_labels=2, id2label=names, label2id={n: k for k, n in names.items()}))


def line(teacher: str, student: str, **changes: object) -> list[Contestant]:
    asked = {"compiled": (), "nli_classes": None, "engines": (), "threads": 1, "students": (student,)}
    return line_up(teacher=teacher, labels=LABELS, **(asked | changes))  # type: ignore[arg-type]


def test_without_a_choice_every_engine_that_can_run_the_teacher_takes_part(
    teacher_of: Callable[..., str], student: str
) -> None:
    found = line(teacher_of("bert"), student)
    engines = {(one.engine, one.precision) for one in found if one.kind == "teacher"}
    assert {("torch", "fp32"), ("torch", "bf16"), ("deepsparse", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"),
            ("onnxruntime", "fp32"), ("native", "bf16")} == engines  # fmt: skip
    assert [one.name for one in found[:2]] == [PIPELINE, RECIPE]
    assert [one.precision for one in found if one.kind == "student"] == ["fp32", "bf16", "bf16"]
    assert len({one.name for one in found}) == len(found)


def test_the_reference_takes_part_whatever_is_chosen_and_once(teacher_of: Callable[..., str], student: str) -> None:
    for engines in (("torch:bf16",), ("torch:bf16", "torch:fp32")):
        found = line(teacher_of("bert"), student, engines=engines)
        assert [one.name for one in found if one.kind == "teacher"] == ["teacher, torch fp32", "teacher, torch bf16"]
        assert sum(map(is_reference, found)) == 1


def test_a_compiled_form_is_named_after_its_directory(teacher_of: Callable[..., str], student: str) -> None:
    form = teacher_of("distilbert")
    found = line(teacher_of("bert"), student, compiled=(form,), engines=("torch:bf16",))
    (compiled,) = [one for one in found if one.kind == "compiled"]
    assert compiled.name == f"{Path(form).name}, torch bf16"
    assert compiled.model == form
    assert not is_reference(compiled)


def test_int8_takes_part_where_the_directory_holds_it(
    teacher_of: Callable[..., str], student: str, tmp_path: Path
) -> None:
    form = tmp_path / "compiled-int8"
    shutil.copytree(teacher_of("bert"), form)
    (form / "onnx").mkdir()
    (form / "onnx" / "int8.onnx").write_bytes(b"looked for, not read")
    found = line(teacher_of("bert"), student, compiled=(str(form),))
    names = [one.name for one in found if one.kind == "compiled"]
    assert sorted(names) == [
        f"compiled-int8, {one}" for one in ("deepsparse fp32", "deepsparse int8", "onnxruntime int8")
    ]
    assert not any(one.precision == "int8" for one in found if one.kind == "teacher")
    assert [one.name for one in found if one.kind == "recipe"] == [RECIPE, "old recipe, compiled-int8 int8"]
    itself = {(one.engine, one.precision) for one in line(str(form), student) if one.kind == "teacher"}
    assert {("deepsparse", "int8"), ("onnxruntime", "int8"), ("torch", "fp32")} <= itself


def test_students_of_every_kind_have_names_of_their_own(
    teacher_of: Callable[..., str], student: str, tmp_path: Path
) -> None:
    for folder, kind in (("static", "model2vec"), ("linear", "zsd-linear")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    shutil.copytree(student, tmp_path / "student-joint")
    students = (student, tmp_path / "static", tmp_path / "linear", student, tmp_path / "student-joint")
    found = line(teacher_of("bert"), student, students=students, student_engines=("openvino:bf16",))
    names = [one.name for one in found if one.kind == "student"]
    encoders = [f"{name}, openvino bf16" for name in ("student", "student #2", "student joint")]
    assert names == [encoders[0], "student static", "student linear", *encoders[1:]]
