"""./dev gpu: builds, checks and measures on a CUDA machine, in steps that can be stopped and taken up again.

Needs nvcc, CMake, ninja, Python and, for the peers, PyTorch there; what else it needs, --pack gathers here beforehand.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

root = Path(__file__).resolve().parents[2]
pack_folder = root / "gpu-pack"
work = root / "out" / "gpu"
build_folder = work / "build"
pack_limit = 60 * 2**20
least_seconds = 10  # with less left nothing is started
check_seconds = 180  # what a check gets at first; one that needs more waits until the others are done, then gets what is left
tries = 2  # so often may a check, or a peer, run out of time that it was given whole
log_bytes = 200_000  # of each log its end is kept, and of one command's output a fifth of that
headers = {  # what is packed: where it may lie here, and the Debian package that has it
    "catch2/catch.hpp": "catch2",
    "nlohmann/json.hpp": "nlohmann-json3-dev",
    "CLI/CLI.hpp": "libcli11-dev",
}
# The peers that a machine with PyTorch and transformers lacks.
wheels = ["liger-kernel", "trl", "datasets", "dill", "multiprocess"]
suites = ["gpu-conformance", "gpu-drivers"]
sanitizers = ["memcheck", "racecheck", "initcheck", "synccheck"]
parts = ("logits", "tokens", "sequences", "linear")
peers_program = root / "bench" / "gpu" / "peers.py"
details = ["checks.txt", "bench.json", "peers.json", "resources.txt", "build.txt"]  # and gpu-report.json: six


def say(*words):
    print("dev gpu:", *words, file=sys.stderr, flush=True)


def pack():
    """Gathers headers and wheels; what cannot be had is said and left out."""
    shutil.rmtree(pack_folder, ignore_errors=True)
    (pack_folder / "include").mkdir(parents=True)
    for header, package in headers.items():
        folder = header.split("/")[0]
        for base in ("/usr/include", "/usr/local/include", "/opt/homebrew/include"):
            if (Path(base) / header).exists():
                shutil.copytree(Path(base) / folder, pack_folder / "include" / folder)
                break
        else:
            sys.exit(f"dev gpu: {header} was not found here (Debian: {package})")
    with_wheels = pack_folder / "wheels"
    with_wheels.mkdir()
    platforms = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any"]
    for name in wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", "-d", str(with_wheels)]
        for platform in platforms:
            command += ["--platform", platform]
        try:
            got = subprocess.run(command + [name], timeout=120).returncode == 0
        except subprocess.TimeoutExpired:
            got = False
        if not got:
            say(f"no wheel of {name}: pip could not get it; its rows will be missing")
    size = sum(f.stat().st_size for f in pack_folder.rglob("*") if f.is_file())
    if size > pack_limit:
        sys.exit(f"dev gpu: {pack_folder} has {size} bytes, more than {pack_limit}")
    print(f"packed {size / 2**20:.1f} MiB into {pack_folder.relative_to(root)}: " +
          ", ".join(sorted(p.name for p in pack_folder.glob("*/*"))))


class clock:
    """What is left of the time of this call."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()


def stop(process):
    """Ends a process and all that it started: politely, then not."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
        except OSError:  # the group is gone
            pass
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass


def add_to_log(log, text):
    old = log.read_text(errors="replace") if log.exists() else ""
    log.write_text((old + text)[-log_bytes:])


def run(command, limit, log, environment=None):
    """Exit code and output; 124 where the time was up, 127 where the program is not there. The output is added to the log."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:  # a pipe would wait for whoever else holds it
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
                                       start_new_session=True)
            try:
                code = process.wait(max(1, limit))
            except subprocess.TimeoutExpired:
                code = 124
                stop(process)
            except BaseException:
                stop(process)
                raise
            output.seek(0)
            text = output.read().decode(errors="replace")
        except OSError as error:
            code, text = 127, str(error)
    add_to_log(log, f"$ {' '.join(map(str, command))}\n{text[-log_bytes // 5:]}\n"
                    f"[exit code {code}, {time.monotonic() - started:.1f} s]\n\n")
    return code, text


def find_toolkit():
    """Puts the CUDA toolkit's programs in front of PATH: nvcc is often not on it."""
    nvcc = shutil.which("nvcc")
    places = [Path(nvcc).resolve().parent] if nvcc else []
    places += [Path(os.environ[name]) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    for place in [*places, Path("/usr/local/cuda/bin")]:
        if (place / "nvcc").exists():
            os.environ["PATH"] = f"{place}{os.pathsep}{os.environ.get('PATH', '')}"
            return


def build(time_left):
    """0 when everything is built, 124 when the time was up; ninja goes on where it was stopped."""
    packed = pack_folder if pack_folder.exists() else ""  # asked each time: it may have come since
    code, text = run(["cmake", "-S", root / "bench" / "gpu", "-B", build_folder, "-G", "Ninja", f"-DRLHF_GPU_PACK={packed}"],
                     time_left.left(), work / "build.txt")
    if code != 0:
        say("cmake failed:\n" + text[-3000:])
        return code
    # Units that are nearly done when the time is up start again: the long ones come first by themselves, ninja is not told.
    code, text = run(["ninja", "-C", build_folder, "-k", "0"], time_left.left(), work / "build.txt")
    if code == 124:
        say("not all is built yet: run it again")
    elif code != 0:
        say("the build failed:\n" + text[-3000:])
    return code


def checks():
    """Name and command of each, the quick ones first; expected output is an exit code of 0."""
    binaries = build_folder / "bin"
    golden = sorted((root / "tests" / "golden").glob("*.jsonl"))
    not_built = root / "tests" / "golden" / "not-built.txt"
    eval_of = {dtype: [binaries / "rlhf-eval", "--check", "--not-built", not_built, "--backend", "cuda", "--dtype", dtype, *golden]
               for dtype in ("f64", "f32")}
    examples = ("losses_from_logits", "step_in_a_graph")

    def under(tool, command):
        return ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", *command]

    items = [(suite.removeprefix("gpu-"), [binaries / f"{suite}-whole"]) for suite in suites]
    items.append(("linear", [binaries / "gpu-linear"]))
    items += [(f"golden {dtype}", command) for dtype, command in eval_of.items()]
    items.append(("determinism, ten runs", [binaries / "rlhf-gpu-bench", "--determinism", "--divisor", "8"]))
    items += [(f"example {name}", [binaries / name]) for name in examples]
    # The suites take their memory from a pool of their own; of the others every array is the runtime's, its ends are watched.
    items += [(f"memcheck of example {name}", under("memcheck", [binaries / name])) for name in examples]
    items += [(f"{tool} of golden f32", under(tool, eval_of["f32"])) for tool in ("memcheck", "initcheck")]
    items += [(f"{tool} of conformance", under(tool, [binaries / "gpu-conformance-few"])) for tool in sanitizers]
    return items


def slow(item):
    return item[1][0] == "compute-sanitizer"


known_files = {}  # what was hashed in this call


def identity(command):
    """Changes when a program of the command does, or a file that it reads."""
    digest = hashlib.sha256()
    for word in command:
        digest.update(str(word).encode())
        if isinstance(word, Path) and word.is_file():
            of = word.stat()
            key = (word, of.st_mtime_ns, of.st_size)
            if key not in known_files:
                known_files[key] = hashlib.sha256(word.read_bytes()).digest()
            digest.update(known_files[key])
    return digest.hexdigest()


def read_json(path, otherwise):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return otherwise


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.replace(path)


def of_now(results, items):
    """What is known of each check: results of other programs do not count. Pure but for the files."""
    listed = []
    for name, command in items:
        old = results.get(name, {})
        same = old.get("identity") == identity(command)
        other = "not run yet" if not old else "not run yet with this program"
        listed.append({"name": name, "code": old["code"], "seconds": old["seconds"], "said": old["said"]} if same
                      else {"name": name, "code": None, "seconds": 0, "said": other})
    return listed


def check(time_left, items):
    """Runs what has not been run with these programs; keeps each result at once. What ran out of time comes last."""
    state = work / "checks.json"
    results = read_json(state, {})

    def late(name, known):
        old = results.get(name, {})
        return old.get("late", 0) if old.get("identity") == known else 0

    todo = []
    for name, command in items:
        known = identity(command)
        old = results.get(name, {})
        done = old.get("identity") == known and old.get("code") is not None and (old["code"] != 124 or late(name, known) >= tries)
        if not done:
            todo.append((late(name, known), name, command, known))
    for times, name, command, known in sorted(todo, key=lambda item: item[0]):
        if time_left.left() < least_seconds:
            say("not all is checked yet: run it again")
            break
        say(name)
        started = time.monotonic()
        limit = time_left.left() if times else min(time_left.left(), check_seconds)
        code, text = run(command, limit, work / "checks.txt")
        tail = next((line for line in reversed(text.splitlines()) if line.strip()), "")[:200]
        if code == 127 and not isinstance(command[0], Path):  # a tool, not a program of ours
            code, tail = None, f"not run: {command[0]} was not found"
        if code == 124:
            times += limit >= check_seconds  # with less it had no fair chance
            tail = f"out of time after {limit:.0f} s, {times} of {tries} times"
        results[name] = {"code": code, "seconds": round(time.monotonic() - started, 1), "said": tail, "identity": known,
                         "late": times}
        write_json(state, results)
    return of_now(results, items)


def lines(text):
    """The JSON objects among the lines of an output."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    return found


def kept(path, known, otherwise):
    """What was measured with this program."""
    state = read_json(path, {})
    return state if state.get("identity") == known else {"identity": known, **otherwise}


def measured_now():
    return kept(work / "bench.json", identity([build_folder / "bin" / "rlhf-gpu-bench"]), {"parts": {}})


def peers_now(device):
    return kept(work / "peers.json", identity([peers_program, device]), {"whole": False, "rows": []})


def with_rows(state, code, found):
    """The peers' rows so far and what another call found; one that it did not end was late, and is given up in the end. Pure."""
    rows = {(r["name"], r["peer"]): r for r in state["rows"]}
    unfinished = None
    for row in found:
        key = (row["name"], row["peer"])
        if row.get("begins"):
            unfinished = key
        else:
            rows[key], unfinished = row, None
    if unfinished and code != 0:
        late = rows.get(unfinished, {}).get("late", 0) + 1
        rows[unfinished] = {"name": unfinished[0], "peer": unfinished[1], "seconds": None, "error": f"exit code {code}", "late": late}
    return {**state, "whole": code == 0, "rows": list(rows.values())}


def is_done(row):
    return row.get("late", tries) >= tries


def bench(time_left, device):
    """Ours part by part, then the peers; what has been measured with this program stays."""
    program = build_folder / "bin" / "rlhf-gpu-bench"
    state = measured_now()
    for part in parts:
        if part in state["parts"] or time_left.left() < 30:
            continue
        say("bench", part)
        code, text = run([program, "--only", part], time_left.left(), work / "checks.txt")
        if code == 0:
            state["parts"][part] = lines(text)
            write_json(work / "bench.json", state)
        else:
            say(f"bench {part}: exit code {code}\n" + text[-1000:])
    peers = peers_now(device)
    if not peers["whole"] and time_left.left() > 60:
        say("peers")
        done = work / "peers-done.json"
        write_json(done, [[r["name"], r["peer"]] for r in peers["rows"] if is_done(r)])
        environment = dict(os.environ, PYTHONUNBUFFERED="1", RLHF_GPU_WHEELS=str(pack_folder / "wheels"))
        code, text = run([sys.executable, peers_program, "--done", done], time_left.left(), work / "checks.txt", environment)
        write_json(work / "peers.json", with_rows(peers, code, lines(text)))
    tool = shutil.which("cuobjdump")
    if tool and program.exists() and time_left.left() > 10:
        (work / "resources.txt").unlink(missing_ok=True)
        run([tool, "--dump-resource-usage", program], time_left.left(), work / "resources.txt")
    if len(state["parts"]) < len(parts):
        say("not all is measured yet: run it again")


def merged(device, checked, measured, peers, built=0):
    """The report: checks, and rows with what they reached, the best peer beside each. Pure."""
    rows = []
    for part in measured.get("parts", {}).values():
        ceilings = next((r for r in part if r["name"] == "ceilings"), {})
        for row in part:
            if row["name"] == "ceilings":
                continue
            same = [p for p in peers.get("rows", []) if p.get("name") == row["name"]]
            best = min((p for p in same if p.get("seconds")), key=lambda p: p["seconds"], default=None)
            rows.append({**row, "bytes_per_second": ceilings.get("bytes_per_second"),
                         "operations_per_second": ceilings.get("operations_per_second"),
                         "best_peer": best["peer"] if best else None,
                         "best_peer_seconds": best["seconds"] if best else None,
                         "times_faster": best["seconds"] / row["seconds"] if best else None,
                         "peers": same})
    return {"device": device, "built": built, "checks": checked, "bench": rows,
            "all_checks_passed": built == 0 and bool(checked) and all(c["code"] == 0 for c in checked),
            "goals_reached": sum(1 for r in rows if r["reached"]), "goals": len(rows)}


def table(report):
    """The report as text."""
    text = [f"device: {report['device']}", ""]
    if report["checks"]:
        text.append(f"{'check':36} {'':8} {'seconds':>8}  said")
        for c in report["checks"]:
            state = "not run" if c["code"] is None else "passed" if c["code"] == 0 else f"FAIL {c['code']}"
            text.append(f"{c['name']:36} {state:8} {c['seconds']:8.1f}  {c['said'][:60]}")
        text.append("")
    if report["bench"]:
        text.append(f"{'row':48} {'ms':>9} {'of ceiling':>10} {'goal':>6} {'':4} {'best peer':>24} {'times':>6}")
        for r in report["bench"]:
            peer = f"{r['best_peer']} {r['best_peer_seconds'] * 1e3:.3f} ms" if r["best_peer"] else "-"
            times = f"{r['times_faster']:.2f}" if r["best_peer"] else "-"
            text.append(f"{r['name']:48} {r['seconds'] * 1e3:9.3f} {r['of_ceiling']:10.3f} {r['goal']:6.2f} "
                        f"{'yes' if r['reached'] else 'NO':4} {peer:>24} {times:>6}")
        text.append(f"goals reached: {report['goals_reached']} of {report['goals']}")
    return "\n".join(text)


def device_name():
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    asked = subprocess.run([tool, "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True,
                           timeout=60)
    return asked.stdout.strip().splitlines()[0] if asked.returncode == 0 and asked.stdout.strip() else None


def main(arguments):
    parser = argparse.ArgumentParser(prog="./dev gpu", description=__doc__)
    parser.add_argument("step", nargs="?", choices=["build", "check", "bench"], help="without one: all three, as far as the time goes")
    parser.add_argument("--pack", action="store_true", help="on a machine with Internet: gather what a bare one lacks into gpu-pack")
    parser.add_argument("--out", type=Path, default=work / "report", help="where gpu-report.json and the details go")
    parser.add_argument("--limit", type=float, default=525, help="seconds after which a step stops, to be taken up by the next call")
    parser.add_argument("--anew", action="store_true", help="forget what was checked and measured")
    options = parser.parse_args(arguments)
    if options.pack:
        pack()
        if options.step is None:
            return 0
    device = device_name()
    if device is None:
        say("there is no CUDA device here (nvidia-smi lists none); the tests that need none: ./dev test")
        return 2
    find_toolkit()
    time_left = clock(options.limit)
    work.mkdir(parents=True, exist_ok=True)
    if options.anew:
        for name in ("checks.json", "bench.json", "peers.json", "checks.txt", "resources.txt"):
            (work / name).unlink(missing_ok=True)
    steps = [options.step] if options.step else ["build", "check", "bench"]
    built = build(time_left)  # quick where nothing changed; what does not compile fails its own checks, not the others
    items = checks()
    # Without a step: the quick checks, then the benches, then the sanitizers, which need the most time.
    if built != 124:
        if "check" in steps:
            check(time_left, [item for item in items if not slow(item)])
        if "bench" in steps:
            bench(time_left, device)
        if "check" in steps:
            check(time_left, items)
        checked = of_now(read_json(work / "checks.json", {}), items)
    else:
        checked = [{"name": name, "code": None, "seconds": 0, "said": "not run: the build is not done"} for name, _ in items]
    report = merged(device, checked, measured_now(), peers_now(device), built)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "gpu-report.json", report)
    for name in details:
        if (work / name).exists():
            shutil.copy(work / name, options.out / name)
    print(table(report))
    bad = [c for c in checked if c["code"] not in (0, None)]
    if bad or built != 0:
        return 1
    return 3 if "check" in steps and not report["all_checks_passed"] else 0  # 3: what has run has passed, but not all has run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
