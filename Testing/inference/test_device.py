"""Threads, wait policy, device and number format, on machines that we only pretend to have."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference import (
    Device,
    SegmentOptions,
    available_threads,
    choose_device,
    prepare_environment,
)
from StrokeLesionSegLib.inference import device as device_module
from StrokeLesionSegLib.inference import precision as precision_module
from StrokeLesionSegLib.inference.device import cgroup_cpu_quota, torch_threads
from StrokeLesionSegLib.inference.precision import (
    choose_precision,
    compare,
    cpu_has_bfloat16,
    probe_crop,
)


def write(root, files: dict[str, str]):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V1 = "12:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/x"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        # The group's path is the host's; in the container only its own root is mounted.
        ({"proc/self/cgroup": "0::/../kubepods/x", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        # A parent may be tighter than the group itself.
        (
            {
                "proc/self/cgroup": "0::/slice/job",
                "sys/fs/cgroup/slice/job/cpu.max": "max 100000",
                "sys/fs/cgroup/slice/cpu.max": "300000 100000",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "20000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "10000",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        # Hybrid: the v2 hierarchy is empty, the CPU controller is v1's.
        (
            {
                "proc/self/cgroup": V1 + "\n0::/docker/ab",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "nonsense here"}, None),
    ],
)
def test_cgroup_quota(tmp_path, files, quota):
    assert cgroup_cpu_quota(write(tmp_path, files)) == quota


def machine(tmp_path, monkeypatch, *, cpus=16, allowed=None, siblings=None, quota=None):
    """A machine with these many CPUs; returns its root."""
    allowed = set(range(cpus)) if allowed is None else allowed
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota or "max 100000"}
    for cpu, text in (siblings or {}).items():
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = text
    return write(tmp_path, files)


def test_threads_are_the_smallest_of_all_limits(tmp_path, monkeypatch):
    def threads(name, **more):
        return available_threads(environ={}, root=machine(tmp_path / name, monkeypatch, **more))

    pairs = {cpu: f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)}
    assert threads("all") == 16
    assert threads("affinity", allowed={3, 4, 7}) == 3
    assert threads("quota", quota="150000 100000") == 2
    assert threads("tiny quota", quota="10000 100000") == 1
    assert threads("exact quota", quota="300000 100000") == 3
    assert threads("hyperthreads", siblings=pairs) == 8
    assert threads("two threads of one core", siblings=pairs, allowed={1, 9}) == 1
    assert threads("quota above affinity", quota="900000 100000", allowed={0, 1}) == 2


def test_the_user_goes_before_the_machine(tmp_path, monkeypatch):
    root = machine(tmp_path, monkeypatch)
    assert available_threads(5, environ={"OMP_NUM_THREADS": "3"}, root=root) == 5
    both = {"OMP_NUM_THREADS": "3", "STROKE_LESION_SEG_THREADS": "7"}
    assert available_threads(environ=both, root=root) == 7
    assert available_threads(environ={"OMP_NUM_THREADS": "3,2"}, root=root) == 3
    for bad in ("", "0", "-2", "many"):
        assert available_threads(environ={"OMP_NUM_THREADS": bad}, root=root) == 16


def test_systems_without_affinity_or_cgroups(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads(environ={}, root=tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads(environ={}, root=tmp_path) == 1


def test_threads_of_torch_are_restored():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_environment_is_prepared_and_the_user_is_respected():
    environ: dict[str, str] = {}
    prepare_environment(environ)
    assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environ["GOMP_SPINCOUNT"] == "0"
    assert int(environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]) >= 1
    chosen = {"OMP_WAIT_POLICY": "ACTIVE", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "3"}
    prepare_environment(chosen)
    assert chosen == {"OMP_WAIT_POLICY": "ACTIVE", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "3"}


def test_the_environment_reaches_openmp_before_torch(repository):
    """OpenMP itself says what it took (OMP_DISPLAY_ENV); importing us must not start torch."""
    code = (
        "import sys\n"
        "from StrokeLesionSegLib.inference import prepare_environment\n"
        "prepare_environment()\n"
        "assert 'torch' not in sys.modules and 'SimpleITK' not in sys.modules\n"
        "import torch\n"
        "torch.zeros(100, 100).sin()\n"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_WAIT", "GOMP", "KMP"))}
    environ.update(OMP_DISPLAY_ENV="TRUE", PYTHONPATH=str(repository / "StrokeLesionSeg"))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    shown = done.stderr + done.stdout
    if "OPENMP DISPLAY ENVIRONMENT" not in shown:
        pytest.skip("this torch's OpenMP does not show its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown.replace("[host] ", "")


# ------------------------------------------------------------------ devices


def test_cpu_can_always_be_had():
    assert choose_device("cpu") == Device("cpu", "asked for")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_gpu_is_an_input_error(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"device {name}") as caught:
        choose_device(name)
    assert "cpu" in caught.value.remedy
    auto = choose_device("auto")
    assert auto.name == "cpu"
    assert not auto.is_gpu
    assert "no GPU" in auto.reason


def test_a_gpu_is_found_by_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU 9000")
    for requested in ("auto", "cuda"):
        device = choose_device(requested)
        assert device.name == "cuda"
        assert device.is_gpu
        assert "Test GPU 9000" in device.reason
    assert choose_device("cpu").name == "cpu"


def test_a_broken_driver_is_no_crash(monkeypatch):
    def broken():
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").name == "cpu"


def test_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").name == choose_device("mps").name == "mps"


def test_unknown_device():
    with pytest.raises(InputError, match="no such device"):
        choose_device("tpu")


def test_peak_memory_counts_what_was_used(repository):
    """In a process of its own, whose peak nobody else has raised; the block is freed again."""
    code = (
        "from StrokeLesionSegLib.inference.device import peak_memory_bytes as peak\n"
        "before = peak(); block = bytearray(90_000_000); del block\n"
        "print(before, peak())"
    )
    environ = {**os.environ, "PYTHONPATH": str(repository / "StrokeLesionSeg")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    if "None" in done.stdout:
        pytest.skip("not known on this system")
    before, after = (int(number) for number in done.stdout.split())
    assert 2e6 < before < 200e6
    assert 80e6 < after - before < 110e6


# ------------------------------------------------------------------ number formats


def test_auto_takes_what_the_device_has(monkeypatch):
    cpu, cuda = Device("cpu", ""), Device("cuda", "")
    monkeypatch.setattr(precision_module, "cpu_has_bfloat16", lambda: True)
    assert choose_precision("auto", cpu)[0] == "bfloat16"
    monkeypatch.setattr(precision_module, "cpu_has_bfloat16", lambda: False)
    assert choose_precision("auto", cpu)[0] == "float32"
    assert "emulates" in choose_precision("bfloat16", cpu)[1]
    assert choose_precision("auto", cuda)[0] == "float16"
    assert choose_precision("float32", cuda) == ("float32", "asked for")
    for requested, device in (("float16", cpu), ("bfloat16", Device("mps", "")), ("int8", cpu)):
        with pytest.raises(InputError, match="precision"):
            choose_precision(requested, device)


def test_native_bfloat16_agrees_with_the_cpu_flags():
    flags = precision_module._cpu_flags()
    if not flags:
        pytest.skip("no /proc/cpuinfo here")
    assert cpu_has_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_bfloat16_is_not_native_where_its_instructions_are_forbidden(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = cpu_has_bfloat16()
    for limit in ("AVX2", "avx512_core"):
        monkeypatch.setenv(name, limit)
        assert not cpu_has_bfloat16()
    monkeypatch.setenv(name, "AVX512_CORE_AMX")
    assert cpu_has_bfloat16() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor : 0\nflags\t\t: fpu avx512_bf16 amx_tile\n",
            {"fpu", "avx512_bf16", "amx_tile"},
        ),
        ("processor : 0\nFeatures : fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("nothing known", set()),
    ],
)
def test_cpu_flags(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert precision_module._cpu_flags(path) == expected
    assert precision_module._cpu_flags(tmp_path / "absent") == frozenset()


def test_comparison_states_the_largest_difference():
    reference = np.linspace(0, 1, 400, dtype=np.float32).reshape(1, 20, 20)
    assert compare("bfloat16", reference, reference, 0.1).ok
    off = reference.copy()
    off[0, 3, 4] += 0.04
    check = compare("bfloat16", reference, off, 0.1)
    assert check.ok
    assert check.max_difference == pytest.approx(0.04, abs=1e-6)
    off[0, 3, 4] += 0.02
    assert not compare("bfloat16", reference, off, 0.1).ok
    off[0, 3, 4] = np.nan
    check = compare("float16", reference, off, 0.1)
    assert not check.ok
    assert check.max_difference == np.inf


def test_small_differences_at_the_threshold_count_as_lesions_lost():
    reference = np.full((1, 20, 20), 0.51, np.float32)
    check = compare("bfloat16", reference, reference - 0.02, 0.1)
    assert check.max_difference < 0.05
    assert check.dice == 0
    assert not check.ok


def test_masks_are_compared_where_the_model_decides():
    """At .5 nothing is seen of a network that answers between .08 and .12."""
    reference = np.full((1, 20, 20), 0.11, np.float32)
    reduced = reference - 0.02
    blind = compare("bfloat16", reference, reduced, 0.1)
    assert blind.ok
    assert blind.dice is None
    check = compare("bfloat16", reference, reduced, 0.1, (0.1,))
    assert check.dice == 0
    assert not check.ok
    reference[0, :10] = 0.8  # the lowest of the two counts
    assert compare("bfloat16", reference, reduced + 0.69, 0.1, (0.1, 0.7)).dice < 0.7


@pytest.mark.parametrize("most", [512 << 20, 32 << 20])
def test_old_glibc_takes_a_smaller_threshold(monkeypatch, most):
    """It refuses a mapping threshold above 32 MB; trimming is set all the same."""
    import ctypes
    import types

    done = []

    def mallopt(option, value):
        if option == device_module._M_MMAP_THRESHOLD and value > most:
            return 0
        done.append((option, value))
        return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device_module, "_keeps_freed", False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=mallopt))
    assert device_module.keep_freed_memory({})
    assert done == [
        (device_module._M_ARENA_MAX, 1),
        (device_module._M_MMAP_THRESHOLD, most),
        (device_module._M_TRIM_THRESHOLD, 512 << 20),
    ]


def test_gaps_are_given_back_or_kept(monkeypatch):
    trimmed = []
    monkeypatch.setattr(device_module, "_keeps_freed", True)
    monkeypatch.setattr(device_module, "_keeps_gaps", False)
    monkeypatch.setattr(device_module, "_trim", lambda: trimmed.append(1))
    device_module.release_gaps()
    assert len(trimmed) == 1
    with device_module.keeping_gaps():
        with device_module.keeping_gaps():
            device_module.release_gaps()
        device_module.release_gaps()
        assert len(trimmed) == 1
        device_module.release_gaps(always=True)
    device_module.release_gaps()
    assert len(trimmed) == 3
    # A process that keeps nothing has nothing to give.
    monkeypatch.setattr(device_module, "_keeps_freed", False)
    device_module.release_gaps(always=True)
    assert len(trimmed) == 3


def test_probe_lies_in_the_box():
    array = np.arange(30 * 120 * 110, dtype=np.float32).reshape(30, 120, 110)
    crop = probe_crop(array, (slice(5, 25), slice(10, 118), slice(4, 64)))
    assert crop.shape == (2, 80, 60)
    np.testing.assert_array_equal(crop, array[[13, 17], 24:104, 4:64])


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "bad",
    [
        {"views": "oblique"},
        {"align": "yes"},
        {"device": "tpu"},
        {"precision": "int8"},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"threads": -1},
        {"tta": "no"},
        {"crop": None},
    ],
)
def test_options_that_do_not_exist(bad):
    with pytest.raises(InputError) as caught:
        SegmentOptions(**bad)
    assert str(next(iter(bad.values()))) in str(caught.value) or next(iter(bad)) in str(
        caught.value
    )


def test_options_are_remembered():
    options = SegmentOptions(views="triplanar", tta=True, batch_size=4, threads=2)
    assert (options.views, options.tta, options.batch_size) == ("triplanar", True, 4)
    assert device_module.DEVICES == ("auto", "cpu", "cuda", "mps")
