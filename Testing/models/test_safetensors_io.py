"""Our safetensors reader and writer against the reference package, and against damaged files."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models.safetensors_io import (
    parse_header,
    parse_safetensors,
    read_safetensors,
    serialize_safetensors,
    write_safetensors,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.int64]


def sample() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(3, 2, 3, 3, generator=generator),
        "half": torch.randn(5, generator=generator).half(),
        "brain": torch.randn(2, 7, generator=generator).bfloat16(),
        "count": torch.tensor(2**40 + 1),
        "ünï / 名": torch.tensor([1.5]),
        "none": torch.zeros(0, 4),
        "special": torch.tensor([float("inf"), float("-inf"), float("nan"), -0.0, 1e-45]),
    }


def bits(tensor: torch.Tensor) -> list[int]:
    # Only the bits tell NaN from NaN and 0 from -0.
    return tensor.reshape(-1).view(torch.uint8).tolist() if tensor.numel() else []


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """The same names, types, shapes and bits."""
    return set(a) == set(b) and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and bits(a[n]) == bits(b[n])
        for n in a
    )


def test_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, sample(), {"format": "pt"})
    assert identical(read_safetensors(path), sample())
    assert parse_header(path.read_bytes())[2] == {"format": "pt"}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_reference_package_reads_ours(tmp_path):
    reference = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    path = tmp_path / "w.safetensors"
    write_safetensors(path, sample())
    assert identical(reference.load_file(path), sample())


def test_we_read_the_reference_package(tmp_path):
    reference = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    path = tmp_path / "w.safetensors"
    reference.save_file(sample(), path, metadata={"a": "b"})
    assert identical(read_safetensors(path), sample())
    assert parse_header(path.read_bytes())[2] == {"a": "b"}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(
            lambda s: s != "__metadata__" and "\0" not in s and s.isprintable()
        ),
        st.tuples(
            st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4), st.integers(0, 99)
        ),
        max_size=5,
    )
)
def test_both_directions_for_any_tensors(spec):
    reference = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    tensors = {}
    for name, (dtype, shape, seed) in spec.items():
        generator = torch.Generator().manual_seed(seed)
        tensors[name] = (torch.randn(shape, generator=generator) * 100).to(dtype)
    ours = serialize_safetensors(tensors)
    assert ours == serialize_safetensors(dict(reversed(list(tensors.items()))))
    assert identical(reference.load(ours), tensors)
    assert identical(parse_safetensors(reference.save(tensors)), tensors)


def test_views_are_stored_as_they_look():
    base = torch.arange(12.0).reshape(3, 4)
    stored = parse_safetensors(serialize_safetensors({"t": base.t(), "part": base[:, 1]}))
    assert torch.equal(stored["t"], base.t())
    assert torch.equal(stored["part"], base[:, 1])


def test_loaded_tensors_own_their_memory():
    data = serialize_safetensors({"a": torch.ones(4)})
    first = parse_safetensors(data)["a"]
    first.zero_()
    assert torch.equal(parse_safetensors(data)["a"], torch.ones(4))


def test_every_tensor_is_aligned_to_its_type():
    data = serialize_safetensors(sample())
    entries, start, _ = parse_header(data)
    for name, entry in entries.items():
        assert (start + entry.begin) % sample()[name].element_size() == 0, name


@pytest.mark.parametrize("bad", [torch.ones(2, dtype=torch.float64), torch.ones(2) > 0])
def test_other_types_are_refused(bad):
    with pytest.raises(ValueError, match="cannot be stored"):
        serialize_safetensors({"a": bad})


def file(header, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = b"\0" * 8


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (b"\xff" * 8, "claims"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "claims"),
        (file(b"{"), "not valid"),
        (file(b"\xff\xfe"), "not valid"),
        (file(b"[" * 100_000), "nested|not valid"),
        (file([]), "not a JSON object"),
        (file({"__metadata__": {"a": 1}}), "metadata"),
        (file({"a": []}), "malformed"),
        (file({"a": {**entry(), "more": 1}}, EIGHT), "malformed"),
        (file({"a": entry(dtype="F64", shape=(1,))}, EIGHT), "unsupported type"),
        (file({"a": entry(dtype=["F32"])}, EIGHT), "unsupported type"),
        (file({"a": entry(shape=(-2,))}, EIGHT), "impossible shape"),
        (file({"a": entry(shape=(True, 2))}, EIGHT), "impossible shape"),
        (file({"a": entry(shape=(2.0,))}, EIGHT), "impossible shape"),
        (file({"a": entry(shape=[1] * 99 + [2])}, EIGHT), "impossible shape"),
        (file({"a": entry(shape=(0, 2**70), offsets=(0, 0))}), "impossible shape"),
        (file({"a": entry(offsets=(0, 8, 9))}, EIGHT), "impossible offsets"),
        (file({"a": entry(offsets=(-8, 0))}, EIGHT), "impossible offsets"),
        (file({"a": entry(shape=(3,))}, EIGHT), "needs 12 bytes"),
        (file({"a": entry(offsets=(8, 0))}, EIGHT), "needs 8 bytes"),
        (file({"a": entry(offsets=(4, 12))}, b"\0" * 12), "gap"),
        (file({"a": entry(), "b": entry()}, EIGHT), "overlaps"),
        (file({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12), "overlaps"),
        (file({"a": entry()}, b"\0" * 7), "cut short"),
        (file({"a": entry()}, b"\0" * 9), "something else"),
        (
            file(
                b'{"a":'
                + json.dumps(entry()).encode()
                + b',"a":'
                + json.dumps(entry()).encode()
                + b"}",
                EIGHT,
            ),
            "twice",
        ),
    ],
)
def test_what_contradicts_the_format_is_refused(tmp_path, data, cause):
    with pytest.raises(ValueError, match=cause):
        parse_header(data)
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_safetensors(path)
    assert caught.value.where == str(path)


def test_a_huge_claim_costs_no_memory():
    size = 4 * 10**8
    data = file({"a": entry(shape=(10**8,), offsets=(0, size))}, EIGHT)
    tracemalloc.start()
    with pytest.raises(ValueError, match="cut short"):
        parse_safetensors(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(InputError, match="missing"):
        read_safetensors(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        read_safetensors(tmp_path)


# --------------------------------------------------------------------------------------- fuzzing

SOUND = serialize_safetensors(
    {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half(), "c": torch.tensor(7)},
    {"format": "pt"},
)
HEADER_END = 8 + int.from_bytes(SOUND[:8], "little")


def survives(data: bytes) -> None:
    """Either sound tensors that fit the file, or ValueError; nothing else."""
    try:
        tensors = parse_safetensors(data)
    except ValueError:
        return
    assert sum(t.numel() * t.element_size() for t in tensors.values()) <= len(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), max_size=4))
def test_flipped_bytes(changes):
    data = bytearray(SOUND)
    for position, value in changes:
        data[position] = value
    survives(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SOUND)), st.binary(max_size=40))
def test_truncated_and_extended(cut, tail):
    data = SOUND[:cut] + tail
    if data == SOUND:
        return
    # Whatever keeps the header whole changes the length, unless the same number came back.
    if len(data) != len(SOUND):
        with pytest.raises(ValueError, match=r"."):
            parse_safetensors(data)
    survives(data)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["F32", "F16", "BF16", "I64", "dtype", "shape"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a", ""]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
near_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F64", 3]),
        "shape": st.lists(st.integers(-1, 2**40) | st.integers(0, 3), max_size=4),
        "data_offsets": st.lists(st.integers(-1, 2**40) | st.integers(0, 32), max_size=3),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__", ""]), near_entries | json_values, max_size=3
    ),
    st.binary(max_size=32),
)
def test_hostile_headers(header, body):
    survives(file(header, body))
