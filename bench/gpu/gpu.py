"""./dev gpu: builds, checks and measures on a CUDA machine, in steps that can be stopped and taken up again.

Needs nvcc, CMake, ninja, Python and, for the peers, PyTorch there; what else it needs, --pack gathers here beforehand.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

root = Path(__file__).resolve().parents[2]
pack_folder = root / "gpu-pack"
work = root / "out" / "gpu"
build_folder = work / "build"
pack_limit = 60 * 2**20
least_seconds = 10  # with less left nothing is started
headers = {  # what is packed: where it may lie here, and the Debian package that has it
    "catch2/catch.hpp": "catch2",
    "nlohmann/json.hpp": "nlohmann-json3-dev",
    "CLI/CLI.hpp": "libcli11-dev",
}
# The peers that a machine with PyTorch and transformers lacks.
wheels = ["liger-kernel", "trl", "datasets", "dill", "multiprocess"]
suites = ["gpu-conformance", "gpu-drivers"]
sanitizers = ["memcheck", "racecheck", "initcheck", "synccheck"]
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


def run(command, limit, log, environment=None):
    """Exit code and output; 124 where the time was up. The output is added to the log."""
    started = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=max(1, limit), env=environment)
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        code, text = 124, late.stdout or b""
    except OSError as error:
        code, text = 127, str(error).encode()
    text = text.decode(errors="replace")
    with open(log, "a") as file:
        file.write(f"$ {' '.join(map(str, command))}\n{text}\n[exit code {code}, {time.monotonic() - started:.1f} s]\n\n")
    return code, text


def build(time_left):
    """0 when everything is built, 124 when the time was up; ninja goes on where it was stopped."""
    if not (build_folder / "build.ninja").exists():
        packed = [f"-DRLHF_GPU_PACK={pack_folder}"] if pack_folder.exists() else []
        code, text = run(["cmake", "-S", root / "bench" / "gpu", "-B", build_folder, "-G", "Ninja"] + packed,
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
    """Name and command of each; expected output is an exit code of 0."""
    binaries = build_folder / "bin"
    golden = sorted((root / "tests" / "golden").glob("*.jsonl"))
    not_built = root / "tests" / "golden" / "not-built.txt"
    items = [(suite.removeprefix("gpu-"), [binaries / f"{suite}-whole"]) for suite in suites]
    items.append(("linear", [binaries / "gpu-linear"]))
    for dtype in ("f64", "f32"):
        items.append((f"golden {dtype}", [binaries / "rlhf-eval", "--check", "--not-built", not_built, "--backend", "cuda",
                                          "--dtype", dtype, *golden]))
    for tool in sanitizers:
        items.append((f"{tool} of conformance", ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9",
                                                 binaries / "gpu-conformance-few"]))
    items.append(("memcheck of golden f32", ["compute-sanitizer", "--tool=memcheck", "--error-exitcode=9",
                                             binaries / "rlhf-eval", "--check", "--backend", "cuda", "--dtype", "f32",
                                             root / "tests" / "golden" / "token_logp.jsonl"]))
    items.append(("determinism, ten runs", [binaries / "rlhf-gpu-bench", "--determinism", "--divisor", "8"]))
    for example in ("losses_from_logits", "step_in_a_graph"):
        items.append((f"example {example}", [binaries / example]))
    return items


def identity(command):
    """Changes when a program of the command does."""
    digest = hashlib.sha256()
    for word in command:
        digest.update(str(word).encode())
        if isinstance(word, Path) and word.is_file():
            digest.update(word.read_bytes())
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


def check(time_left, items):
    """Runs what has not been run with these programs; keeps each result at once."""
    state = work / "checks.json"
    results = read_json(state, {})
    for name, command in items:
        known = identity(command)
        old = results.get(name, {})
        if old.get("identity") == known and old.get("code") not in (None, 124):
            continue
        if time_left.left() < least_seconds:
            say("not all is checked yet: run it again")
            break
        say(name)
        started = time.monotonic()
        code, text = run(command, time_left.left(), work / "checks.txt")
        tail = next((line for line in reversed(text.splitlines()) if line.strip()), "")
        results[name] = {"code": code, "seconds": round(time.monotonic() - started, 1), "said": tail[:200], "identity": known}
        write_json(state, results)
    return [{"name": name, **{k: v for k, v in results.get(name, {"code": None, "seconds": 0, "said": "not run yet"}).items()
                              if k != "identity"}} for name, _ in items]


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


def bench(time_left):
    """Ours part by part, then the peers; parts that have been measured with this program stay."""
    program = build_folder / "bin" / "rlhf-gpu-bench"
    state = read_json(work / "bench.json", {})
    known = identity([program])
    if state.get("identity") != known:
        state = {"identity": known, "parts": {}}
    for part in ("logits", "tokens", "sequences", "linear"):
        if part in state["parts"] or time_left.left() < 30:
            continue
        say("bench", part)
        code, text = run([program, "--only", part], time_left.left(), work / "checks.txt")
        if code == 0:
            state["parts"][part] = lines(text)
            write_json(work / "bench.json", state)
        else:
            say(f"bench {part}: exit code {code}\n" + text[-1000:])
    peers = read_json(work / "peers.json", {})
    if not peers.get("whole") and time_left.left() > 60:
        say("peers")
        environment = dict(os.environ, PYTHONUNBUFFERED="1", RLHF_GPU_WHEELS=str(pack_folder / "wheels"))
        code, text = run([sys.executable, root / "bench" / "gpu" / "peers.py"], time_left.left(), work / "checks.txt", environment)
        write_json(work / "peers.json", {"whole": code == 0, "rows": lines(text)})
    tool = shutil.which("cuobjdump")
    if tool and program.exists() and not (work / "resources.txt").exists() and time_left.left() > 10:
        run([tool, "--dump-resource-usage", program], time_left.left(), work / "resources.txt")
    if len(state["parts"]) < 4:
        say("not all is measured yet: run it again")


def merged(device, checked, measured, peers):
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
    return {"device": device, "checks": checked, "bench": rows,
            "all_checks_passed": bool(checked) and all(c["code"] == 0 for c in checked),
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
    asked = subprocess.run([tool, "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True)
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
    time_left = clock(options.limit)
    work.mkdir(parents=True, exist_ok=True)
    if options.anew:
        for name in ("checks.json", "bench.json", "peers.json", "checks.txt", "resources.txt"):
            (work / name).unlink(missing_ok=True)
    steps = [options.step] if options.step else ["build", "check", "bench"]
    built = build(time_left)  # quick where nothing changed; what does not compile fails its own checks, not the others
    items = checks()
    checked = check(time_left, items if "check" in steps and built != 124 else [])
    if not checked:
        results = read_json(work / "checks.json", {})
        checked = [{"name": n, "code": results[n]["code"], "seconds": results[n]["seconds"], "said": results[n]["said"]}
                   for n, _ in items if n in results]
    if "bench" in steps and built != 124:
        bench(time_left)
    report = merged(device, checked, read_json(work / "bench.json", {}), read_json(work / "peers.json", {}))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "gpu-report.json", report)
    for name in details:
        if (work / name).exists():
            shutil.copy(work / name, options.out / name)
    print(table(report))
    bad = [c for c in checked if c["code"] not in (0, None)]
    return 1 if bad or built != 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
