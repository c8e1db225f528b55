"""The kernels' compilation: once, for this processor, wherever there is room; and what happens where it cannot be."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adapters import compiler
from adapters.compiler import CannotCompile, kernels
from adapters.engine import Engine, Request
from adapters.sampling import Sampling
from adapters.slots import Slots
from tests.decoders import adapter_of, loaded, write

ROOT = Path(__file__).resolve().parents[1]
QUIET = lambda _: None  # noqa: E731
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler here")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A library of one line, in milliseconds."""
    folder = tmp_path / "kernel"
    folder.mkdir()
    (folder / "answer.c").write_text("int answer(void) { return 42; }\n")
    monkeypatch.setattr(compiler, "SOURCES", folder)
    return folder / "answer.c"


@pytest.fixture
def cc(tmp_path, monkeypatch):
    """Puts a script in the compiler's place."""

    def put(script):
        path = tmp_path / "bin" / "cc"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(path) if name == "cc" else None)

    return put


def libraries(home):
    return sorted((home / ".cache" / "thumbtune").glob("*"))


def runs_without_kernels(folder):
    """The model loads, says why it has no kernels, and answers."""
    said = []
    model = loaded(folder, report=said.append)
    assert model.native is None
    adapter = adapter_of(model, 4)
    engine = Engine(model, Slots(model, adapter.shape, lambda uid, version: adapter, 2), 2)
    engine.add(Request("r", [1, 2, 3], ("ann", 1), 3, Sampling(temperature=0.0)))
    made = 0
    while engine.busy:
        made += len(engine.step())
    assert made
    return " ".join(said)


def test_without_a_compiler_the_model_runs_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(compiler, "find_spec", lambda _: None)
    with pytest.raises(
        CannotCompile, match=r"no C compiler \(cc\), and the package ziglang is not installed"
    ):
        kernels(QUIET)
    assert "PyTorch's own operations: there is no C compiler" in runs_without_kernels(
        write(tmp_path / "m", "llama")
    )


def test_a_compiler_that_fails_is_named_with_its_first_words(home, cc, tmp_path):
    cc("echo 'No room on the device' >&2; echo 'and more' >&2; exit 1")
    with pytest.raises(CannotCompile, match=r"bin/cc failed: No room on the device$"):
        kernels(QUIET)
    assert libraries(home) == [], "nothing half made is left"
    assert "failed: No room on the device" in runs_without_kernels(write(tmp_path / "m", "llama"))


@pytest.mark.parametrize("script", ["exit 1", "kill -9 $$", "sleep 20"])
def test_a_compiler_that_dies_or_hangs_without_a_word(home, cc, script, source, monkeypatch):
    monkeypatch.setattr(compiler, "PATIENCE", 0.5)
    cc(script)
    with pytest.raises(CannotCompile, match=r"bin/cc failed: .*(exit|died|timed out)"):
        kernels(QUIET)
    assert libraries(home) == []


def test_a_compiler_that_makes_no_library(cc, source):
    cc("while [ $1 != -o ]; do shift; done; echo 'this is no library' > $2")
    with pytest.raises(CannotCompile, match="cannot be kept or loaded"):
        kernels(QUIET)


@needs_cc
def test_a_library_that_others_could_have_written_is_not_loaded(home, source):
    kernels(lambda _: None)
    (library,) = (home / ".cache" / "thumbtune").glob("*.so")
    said: list[str] = []
    kernels(said.append)
    assert not said, "it is there"
    library.chmod(0o777)
    kernels(said.append)
    assert said, "it is made anew"


def test_the_package_is_the_compiler_where_the_machine_has_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(compiler, "find_spec", lambda name: name == "ziglang")
    assert compiler._compilers()[0][:4] == [sys.executable, "-m", "ziglang", "cc"]


@needs_cc
def test_a_library_is_compiled_once_and_loaded_ever_after(home, source, cc, tmp_path):
    cc(f'echo called >> {tmp_path}/calls; exec {shutil.which("cc")} "$@"')
    said = []
    assert kernels(said.append).answer() == 42
    assert kernels(said.append).answer() == 42
    assert (tmp_path / "calls").read_text().split() == ["called"]
    assert said == ["compiling the kernels for this processor, once"]
    assert len(libraries(home)) == 1
    assert home.joinpath(".cache", "thumbtune").stat().st_mode & 0o077 == 0, "nobody else puts code there"


@needs_cc
def test_other_sources_and_another_processor_are_another_library(home, source, monkeypatch):
    assert kernels(QUIET).answer() == 42
    source.write_text("int answer(void) { return 43; }\n")
    assert kernels(QUIET).answer() == 43
    monkeypatch.setattr(compiler, "_processor", lambda: "flags: another")
    assert kernels(QUIET).answer() == 43
    assert len(libraries(home)) == 3


@needs_cc
@pytest.mark.parametrize("left", [b"", b"\x7fELF and no more"])
def test_a_library_that_was_cut_off_is_made_anew(home, source, left, monkeypatch):
    said = []
    kernels(said.append)
    (whole,) = libraries(home)
    other = home.with_name("other")  # this process has the first one loaded, and would not look again
    monkeypatch.setenv("HOME", str(other))
    folder = other / ".cache" / "thumbtune"
    folder.mkdir(parents=True)
    (folder / whole.name).write_bytes(left)
    assert kernels(said.append).answer() == 42
    assert len(said) == 2
    assert [path.name for path in folder.iterdir()] == [whole.name]
    assert (folder / whole.name).stat().st_size == whole.stat().st_size


@needs_cc
def test_processes_that_start_together_all_get_the_library(home, source):
    code = (
        "import sys, pathlib; from adapters import compiler; compiler.SOURCES = pathlib.Path(sys.argv[1]);"
        "print(compiler.kernels(lambda _: None).answer())"
    )
    command = [sys.executable, "-c", code, str(source.parent)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in started] == ["42\n"] * 3
    assert len(libraries(home)) == 1


@needs_cc
@pytest.mark.parametrize("why", ["a file", "nobody"])
def test_without_a_home_to_write_to_the_library_lies_in_a_folder_of_its_own(
    why, home, source, monkeypatch, tmp_path
):
    if why == "a file":
        home.write_text("in the way")
    else:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert kernels(QUIET).answer() == 42
    (folder,) = tmp_path.glob("thumbtune-*")
    assert folder.stat().st_mode & 0o077 == 0
    assert len(list(folder.iterdir())) == 1


@needs_cc
def test_where_nothing_can_be_written_the_model_runs_all_the_same(home, source, monkeypatch, tmp_path):
    home.write_text("in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(home / "nowhere"))
    with pytest.raises(CannotCompile, match="cannot be kept or loaded"):
        kernels(QUIET)
