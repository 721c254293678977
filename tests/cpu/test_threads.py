"""How many threads a call may use, as the user, other libraries, the system and a container say."""

import os
import subprocess
import sys

import pytest

from sparseacc.cpu import limits


def run(code, **environment):
    others = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", code], env=others | environment, capture_output=True, text=True, timeout=60, check=False
    )


def number(before="", **environment):
    return int(run(f"{before}\nimport sparseacc; print(sparseacc.get_num_threads())", **environment).stdout)


def test_the_variable_comes_first():
    assert number(SPARSEACC_NUM_THREADS="7", OMP_NUM_THREADS="3") == 7
    error = run("import sparseacc", SPARSEACC_NUM_THREADS="many").stderr
    assert error.endswith("ValueError: SPARSEACC_NUM_THREADS is 'many', but must be a whole number from 1\n")


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("4,2", 4), (" 5 , 2", 5)])
def test_the_first_number_for_openmp_comes_next(text, threads):
    assert number(OMP_NUM_THREADS=text) == threads


@pytest.mark.parametrize("text", ["many", "0", "-2", "1.5", ",3", "9" * 5000])
def test_what_openmp_cannot_use_is_ignored(text):
    assert number(OMP_NUM_THREADS=text) == limits.processors()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_the_default_respects_affinity():
    assert number("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])") == 1


def system(root, cgroup, **files):
    """A root of /proc and /sys/fs/cgroup, where the process is in `cgroup`."""
    files = {"proc/self/cgroup": cgroup} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.fixture
def many(monkeypatch):
    """A process that may run on 64 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000", 64),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("800000 100000", 8),
        ("9900000 100000", 64),
        ("800000 0", 64),
        ("", 64),
        ("8", 64),
    ],
)
def test_a_quota_is_rounded_up(many, tmp_path, quota, threads):
    assert limits.processors(system(tmp_path, "0::/", **{"cpu.max": quota})) == threads


def test_the_least_quota_of_a_group_and_those_around_it_counts(many, tmp_path):
    files = {"a/cpu.max": "700000 100000", "a/b/cpu.max": "1000000 100000", "c/cpu.max": "1 100000"}
    assert limits.processors(system(tmp_path, "0::/a/b", **files)) == 7


@pytest.mark.parametrize("group", ["", "slice/job"])
@pytest.mark.parametrize(("quota", "threads"), [("250000", 3), ("-1", 64)])
def test_quotas_of_the_first_version_count(many, tmp_path, group, quota, threads):
    cgroup = f"12:cpu,cpuacct:/{group}\n3:memory:/other\n1:name=systemd:/\n0::/"
    files = {f"cpu/{group}/cpu.cfs_quota_us": quota, f"cpu/{group}/cpu.cfs_period_us": "100000"}
    assert limits.processors(system(tmp_path, cgroup, **files)) == threads


@pytest.mark.parametrize("path", ["/docker/0123", "/../../elsewhere"])
def test_a_container_that_is_told_a_path_of_the_host_finds_its_own_limits(many, tmp_path, path):
    one = {"cpu.max": "300000 100000", "memory.max": "1000000"}
    assert limits.processors(system(tmp_path / "2", f"0::{path}", **one)) == 3
    assert limits.memory(system(tmp_path / "2", f"0::{path}", **one)) == 10**6
    two = {
        "cpu/cpu.cfs_quota_us": "300000",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "1000000",
    }
    assert limits.processors(system(tmp_path / "1", f"4:memory:{path}\n5:cpu:{path}", **two)) == 3
    assert limits.memory(system(tmp_path / "1", f"4:memory:{path}\n5:cpu:{path}", **two)) == 10**6


def test_a_system_without_groups_has_no_such_limits(many, tmp_path):
    assert limits.processors(tmp_path) == 64
    machine = limits.memory(tmp_path)
    assert machine == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for most in ("max", "9223372036854771712"):
        assert limits.memory(system(tmp_path, "0::/", **{"memory.max": most})) == machine


@pytest.mark.parametrize("imports", ["sparseacc, threadpoolctl", "threadpoolctl, sparseacc"])
def test_threadpoolctl_sees_and_sets_the_number(imports):
    pytest.importorskip("threadpoolctl", "3.2", reason="threadpoolctl is not installed, or older than 3.2")
    shown = run(
        f"""
import {imports}
for pool in threadpoolctl.threadpool_info():
    if pool["user_api"] == "sparseacc":
        print(pool["num_threads"], pool["version"] == sparseacc.__version__)
for limits in (1, {{"sparseacc": 2}}, {{"blas": 1}}):
    with threadpoolctl.threadpool_limits(limits):
        print(sparseacc.get_num_threads())
print(sparseacc.get_num_threads())
""",
        SPARSEACC_NUM_THREADS="3",
    )
    assert shown.stdout.split() == ["3", "True", "1", "2", "3", "3"], shown.stderr


def test_where_threadpoolctl_is_missing_nothing_is_said():
    shown = run("import sys; sys.modules['threadpoolctl'] = None; import sparseacc")
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not list threads in /proc")
def test_calls_of_torch_use_no_more_threads_than_torch_does():
    """Those that C repeats, those of Python, and those through DLPack; NumPy's do not ask torch."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    shown = run("""
import os, numpy as np, torch, sparseacc, sparseacc.torch

def started(call):
    before = len(os.listdir("/proc/self/task"))
    call()
    return len(os.listdir("/proc/self/task")) - before

n = 64
i = np.arange(n * n)
rule = sparseacc.Rule(i // n, i % n, 0 * i, np.ones(n * n), (n, n, 1))
product = sparseacc.torch.product
sparseacc.set_num_threads(6)
torch.set_num_threads(1)
torch.ones(10).sum().requires_grad_().backward()  # threads of torch's own
for dtype in (torch.float32, torch.bfloat16):
    x = torch.ones(40_000, n, dtype=dtype)
    g = x.clone().requires_grad_()
    for call in (
        lambda: product(rule, x, x),
        lambda: torch.autograd.grad(product(rule, g, x).sum(), g),
        lambda: torch.autograd.grad(product(rule, g, g).sum(), g),
        lambda: rule(x, x),
        lambda: rule.vjp(x[:, :1], x, x),
    ):
        print(started(call), started(call))
torch.set_num_threads(3)
x = torch.ones(40_000, n)
print(started(lambda: product(rule, x, x)))
torch.set_num_threads(4)
print(started(lambda: rule(x, x)))
torch.set_num_threads(1)
print(started(lambda: rule(x.numpy(), x.numpy())))
""")
    assert shown.stdout.split() == ["0"] * 20 + ["2", "1", "2"], shown.stderr
