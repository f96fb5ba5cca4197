"""The manifest of a bundle: plain YAML with the fields that we know, or refused with its fault."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from re2pix_node.bundle.manifest import manifest_text, parse_manifest
from re2pix_node.bundle.reader import Bundle, render_signature, signatures
from re2pix_node.errors import BundleError
from tests.support.damaged_bundle import edit_manifest, refusal
from tests.support.tiny_bundle import tiny_manifest


def test_a_manifest_survives_its_own_text(tiny: Bundle) -> None:
    assert parse_manifest(manifest_text(tiny.manifest), "there") == tiny.manifest


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda m: m.update(schema=2), "schema version 2 is not supported"),
        (lambda m: m.pop("schema"), "schema version None is not supported"),
        (lambda m: m.update(colour="red"), "unknown field 'colour'"),
        (lambda m: m["image"].update(depth=3), "image: unknown field 'depth'"),
        (lambda m: m.pop("licence"), "the field 'licence' is missing"),
        (lambda m: m["time"].pop("jitter"), "time: the field 'jitter' is missing"),
        (lambda m: m["image"].update(height="128"), "image.height: expected a whole number, found text ('128')"),
        (lambda m: m["image"].update(height=True), "image.height: expected a whole number, found true or false (True)"),
        (lambda m: m["time"].update(stride=float("nan")), "time.stride: expected a number"),
        (lambda m: m["time"].update(horizons=[1, 1, 2]), "rising whole multiples"),
        (lambda m: m["time"].update(horizons=[]), "rising whole multiples"),
        (lambda m: m["time"].update(jitter=0.06), "jitter must lie from 0"),
        (lambda m: m["time"].update(context=10**9), "time: context must lie from 1 to 64, is 1000000000"),
        (lambda m: m["time"].update(context=0), "time: context must lie from 1 to 64, is 0"),
        (lambda m: m["time"].update(stride=10**400), "a number of 401 digits"),
        (lambda m: m["image"].update(height=2**32, width=2**32), "3] needs 55340232221128654848"),
        (lambda m: m["time"].update(stride_min=0.2), "stride_min <= stride"),
        (lambda m: m["labels"]["classes"][1].update(id=0), "class id occurs twice"),
        (lambda m: m["labels"]["classes"][1].update(id=255), "labels.classes[1]: id must lie from 0 to 254"),
        (lambda m: m["labels"]["classes"][0].update(color=[1, 2]), "labels.classes[0].color: expected 3 entries"),
        (lambda m: m["labels"].update(classes={}), "labels.classes: expected a list, found a mapping"),
        (lambda m: m["graphs"]["encode"].update(file="../encode.onnx"), "plain name inside the bundle"),
        (lambda m: m["graphs"]["encode"].update(file="/etc/passwd"), "plain name inside the bundle"),
        (lambda m: m["graphs"]["encode"].update(sha256="abc"), "64 lower-case hex digits"),
        (lambda m: m["graphs"].pop("forecast"), "graphs: the field 'forecast' is missing"),
        (lambda m: m["proof"].update(cosine=1.5), "cosine must lie from 0 to 1"),
        (lambda m: m["proof"].update(every=0), "every must be at least 1, is 0"),
        (lambda m: m["proof"].update(every=8), "'encode.features' has 32896 bytes, float32 [1024] needs 4096"),
        (lambda m: m.update(samples=0), "samples must be at least 1"),
        (lambda m: m["features"].update(channels=17), "'encode.features' has 32896 bytes, float32 [1, 16, 32, 17]"),
        (lambda m: m["features"].update(height=32, width=16), "'encode.features' is float32 [1, 16, 32, 16]"),
    ],
)
def test_a_wrong_manifest_is_named(copy: Path, edit, expected: str) -> None:
    edit_manifest(copy, edit)
    message = refusal(copy)
    assert "proof.npz" in message or "bundle.yaml" in message
    assert expected in message


def test_without_a_render_graph_a_manifest_reads_as_ever(tiny: Bundle, drawing: Bundle) -> None:
    fields = yaml.safe_load(manifest_text(tiny_manifest(render=True)))
    del fields["render"]
    old = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)
    assert manifest_text(tiny_manifest()) == old
    assert parse_manifest(old, "there") == tiny_manifest()
    assert [graph for graph in ("encode", "forecast") if drawing.graph(graph) != tiny.graph(graph)] == []


WARMTH = {"name": "warmth", "dtype": "float32", "shape": [16, 32], "relative_l2": 0.02}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([WARMTH], "the array 'forecast.warmth' is missing"),  # of the proof
        ([WARMTH, {**WARMTH, "shape": [*WARMTH["shape"]]}], "an output occurs twice in ['warmth', 'warmth']"),
        ([{**WARMTH, "name": "labels"}], "outputs[0]: 'labels' cannot be the name of an optional output"),
        ([{**WARMTH, "name": "../warmth"}], "outputs[0]: name has odd characters: '../warmth'"),
        ([{**WARMTH, "dtype": "int64"}], "outputs[0]: dtype must be one of float32, float16, uint8, is 'int64'"),
        ([{**WARMTH, "shape": [16, 0]}], "outputs[0]: shape must be positive, is [16, 0]"),
        ([{**WARMTH, "relative_l2": 2}], "outputs[0]: relative_l2 must lie from 0 to 1, is 2"),
        ("warmth", "outputs: expected a list, found text ('warmth')"),
    ],
)
def test_bad_optional_outputs_are_named(copy: Path, outputs: object, expected: str) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(outputs=outputs))
    assert expected in refusal(copy)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda m: m["render"].pop("psnr"), "render: the field 'psnr' is missing"),
        (lambda m: m["render"].update(steps=4), "render: unknown field 'steps'"),
        (lambda m: m["render"].update(noise=0), "render: noise must be at least 1, is 0"),
        (lambda m: m["render"].update(noise=2.5), "render.noise: expected a whole number, found a number (2.5)"),
        (lambda m: m["render"].update(psnr=-1), "render: psnr must be positive, is -1"),
        (lambda m: m["render"].update(file="../render.onnx"), "plain name inside the bundle"),
        (lambda m: m["render"].update(sha256="abc"), "64 lower-case hex digits"),
        (lambda m: m.update(render="render.onnx"), "render: expected a mapping of fields, found text"),
        (lambda m: m.update(render=None), "the array 'render.image' is unknown"),
        (lambda m: m["render"].update(noise=255), "'render.noise' is float32 [1, 256], the manifest asks for"),
    ],
)
def test_a_wrong_render_field_is_named(drawing: Bundle, tmp_path: Path, edit, expected: str) -> None:
    path = Path(shutil.copytree(drawing.path, tmp_path / "copy"))
    edit_manifest(path, edit)
    assert expected in refusal(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "schema: 1\nname: !!python/object/apply:os.system ['touch HERE']\n",
            "line 2: the YAML tag 'tag:yaml.org,2002:python",
        ),
        ("schema: !!int 1\n", "line 1: the YAML tag 'tag:yaml.org,2002:int'"),
        ("a: &a [1, 2]\nb: [*a, *a]\n", "line 2: the YAML alias '*a'"),
        ("schema: 1\nname: x\nname: y\n", "line 3: the field 'name' occurs twice"),
        ("schema: [1\n", "not valid YAML"),
        ("version: 2024-13-01\n", "not valid YAML: month must be in 1..12"),
        ("schema: 1\n? [a, b]\n: 2\n", "line 2: the name of a field must be text, is a list or a mapping"),
        ("[" * 3000 + "]" * 3000, "is nested too deeply"),
        ("schema: 1\nsamples: " + "9" * 5000, "line 2: a number of 5000 digits"),
        ("schema: 0x" + "f" * 5000, "line 1: a number of 5002 digits"),
        ("schema: 1\n? " + "9" * 5000, "line 2: a number of 5000 digits"),
        ("schema: 1:1" + ":59" * 5000, "line 1: a number of 15003 digits"),
        ("schema: 190:20:30.15", "line 1: '190:20:30.15' is a number in base 60"),
        ("schema: 190:20:30", "line 1: '190:20:30' is a number in base 60"),
        ("schema: 1" + ":59" * 400 + ".5", "line 1: a number of 1203 characters"),
        ('schema: 1\nname: "\\ud800"', "line 2: text with half a character"),
        ("schema: 1\n<<: {name: x}\n", "line 2: the merge key '<<' is not allowed"),
        ("schema: " + "x" * 300_000, "293 KiB large, the limit is 200 KiB: set RE2PIX_MAX_TEXT_BYTES to raise it"),
        ("just words\n", "expected a mapping of fields"),
        ("", "expected a mapping of fields"),
    ],
)
def test_yaml_is_plain_or_refused(copy: Path, text: str, expected: str) -> None:
    canary = copy / "executed"
    (copy / "bundle.yaml").write_text(text.replace("HERE", str(canary)))
    assert expected in refusal(copy)
    assert not canary.exists()


def test_a_manifest_has_a_limited_number_of_values(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RE2PIX_MAX_TEXT_VALUES", "50")
    assert "has too many values, the limit is 50 values: set RE2PIX_MAX_TEXT_VALUES to raise it" in refusal(copy)


def test_a_manifest_that_is_no_text_is_named(copy: Path) -> None:
    (copy / "bundle.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(copy)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_the_manifest_gives_a_traceback(tiny: Bundle, data: st.DataObject) -> None:
    text = (tiny.path / "bundle.yaml").read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    inserted = data.draw(st.text(max_size=5))
    skip = data.draw(st.integers(0, 8))
    damaged = text[:at] + inserted + text[at + skip :]
    with contextlib.suppress(BundleError):  # some damage is harmless, the rest is named
        parse_manifest(damaged, "there")


def test_signatures_follow_the_manifest() -> None:
    manifest = tiny_manifest(height=64, width=96, context=2, horizons=5, samples=3)
    encode, forecast = signatures(manifest).values()
    assert str(encode.inputs["frame"]) == "uint8 [1, 64, 96, 3]"
    assert list(forecast.inputs) == ["context_0", "context_1"]
    assert forecast.outputs["features"].shape == (3, 5, 8, 12, 16)
    assert forecast.outputs["labels"].shape == (3, 6, 32, 48)


def test_a_render_graph_takes_one_horizon_and_what_it_was_made_from() -> None:
    manifest = tiny_manifest(height=64, width=96, context=2, samples=3, render=True)
    manifest = dataclasses.replace(manifest, noise=7, features=dataclasses.replace(manifest.features, carried=5))
    signature = render_signature(manifest)
    assert {name: str(tensor) for name, tensor in signature.inputs.items()} == {
        "features": "float32 [1, 8, 12, 16]",
        "frame": "uint8 [1, 64, 96, 3]",
        "horizon": "float32 [1]",
        "noise": "float32 [1, 96]",
        "context_0": "float32 [1, 8, 12, 21]",
        "context_1": "float32 [1, 8, 12, 21]",
    }
    assert {name: str(tensor) for name, tensor in signature.outputs.items()} == {"image": "float32 [1, 64, 96, 3]"}


def test_manifests_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_manifest().name = "other"  # type: ignore[misc]
