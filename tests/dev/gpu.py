"""The parts of ./dev gpu that need no device: what is run again and what is not, limits of time, and the report."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "gpu"))
sys.dont_write_bytecode = True
import gpu


class Checks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        gpu.work = Path(self.folder.name)
        gpu.least_seconds = 10
        gpu.check_seconds = 180
        self.count = gpu.work / "count"
        self.count.write_text("")
        self.program = gpu.work / "program"
        self.set_program("echo said so")

    def set_program(self, then):
        self.program.write_text(f"#!/bin/sh\nprintf x >>{self.count}\n{then}\n")
        self.program.chmod(0o755)

    def check(self, seconds=60, command=None):
        return gpu.check(gpu.clock(seconds), [("one", command or [self.program])])

    def runs(self):
        return len(self.count.read_text())

    def test_a_result_is_kept_until_the_program_changes(self):
        first = self.check()
        self.assertEqual([(c["name"], c["code"], c["said"]) for c in first], [("one", 0, "said so")])
        self.assertEqual(self.check(), first)
        self.assertEqual(self.runs(), 1)
        self.set_program("exit 3")
        self.assertEqual(self.check()[0]["code"], 3)
        self.assertEqual(self.check()[0]["code"], 3)  # a failure is a result too
        self.assertEqual(self.runs(), 2)

    def test_what_ran_out_of_time_is_run_again(self):
        self.set_program("exec sleep 30")
        started = gpu.time.monotonic()
        gpu.least_seconds = 0.1
        self.assertEqual(self.check(1)[0]["code"], 124)
        self.assertLess(gpu.time.monotonic() - started, 20)
        self.set_program("true")
        self.assertEqual(self.check()[0]["code"], 0)

    def test_a_slow_check_does_not_starve_the_rest(self):
        gpu.least_seconds, gpu.check_seconds = 0.1, 1
        self.set_program("exec sleep 30")
        items = [("slow", [self.program]), ("quick", ["true"])]
        self.assertEqual([c["code"] for c in gpu.check(gpu.clock(8), items)], [124, 0])
        self.assertEqual(self.runs(), 1)
        others = [*items, ("other", [self.program])]
        self.assertEqual([c["code"] for c in gpu.check(gpu.clock(4), others)], [124, 0, 124])  # the new one first
        state = json.loads((gpu.work / "checks.json").read_text())
        self.assertEqual((state["slow"]["late"], state["other"]["late"]), (2, 1))
        gpu.check(gpu.clock(8), items)
        self.assertEqual(self.runs(), 3)  # late twice: failed, and not run again
        self.assertIn("2 of 2", gpu.check(gpu.clock(8), items)[0]["said"])

    def test_all_that_a_check_started_ends_with_it(self):
        child = gpu.work / "child"
        self.set_program(f"trap '' TERM\nsleep 30 &\necho $! >{child}\nwait\nsleep 30")
        gpu.least_seconds = 0.1
        self.assertEqual(self.check(1)[0]["code"], 124)
        number = child.read_text().strip()
        status = Path(f"/proc/{number}/stat")
        for _ in range(50):  # a zombie until somebody collects it
            if not status.exists() or status.read_text().split(")")[-1].split()[0] == "Z":
                break
            gpu.time.sleep(0.1)
        else:
            self.fail("a grandchild is alive")

    def test_results_of_another_program_are_none(self):
        items = [("one", [self.program])]
        self.check()
        results = gpu.read_json(gpu.work / "checks.json", {})
        self.assertEqual(gpu.of_now(results, items)[0]["code"], 0)
        self.set_program("echo another")
        two = gpu.of_now(results, [*items, ("two", ["true"])])
        self.assertEqual([c["code"] for c in two], [None, None])
        self.assertIn("this program", two[0]["said"])

    def test_a_tool_that_is_not_there_is_not_run(self):
        found = self.check(command=["no-such-tool-anywhere", self.program])[0]
        self.assertEqual((found["code"], found["said"]), (None, "not run: no-such-tool-anywhere was not found"))

    def test_logs_keep_their_ends(self):
        log = gpu.work / "log"
        for k in range(8):
            gpu.run([sys.executable, "-c", f"print('x' * 100000, 'end of', {k})"], 60, log)
        text = log.read_text()
        self.assertLessEqual(len(text), gpu.log_bytes)
        self.assertIn("end of 7", text)
        self.assertNotIn("end of 0", text)

    def test_without_time_nothing_is_started(self):
        self.assertEqual(self.check(5)[0], {"name": "one", "code": None, "seconds": 0, "said": "not run yet"})
        self.assertEqual(self.runs(), 0)

    def test_a_program_that_is_not_there(self):
        self.assertEqual(self.check(command=[Path("/nonexistent/program")])[0]["code"], 127)

    def test_state_that_cannot_be_read_is_none(self):
        (gpu.work / "checks.json").write_text("{ torn")
        self.assertEqual(self.check()[0]["code"], 0)


class Steps(unittest.TestCase):
    """The whole of it, with stand-ins for the device and the tools."""

    def run_with(self, ninja, arguments):
        with tempfile.TemporaryDirectory() as folder:
            tools = Path(folder) / "tools"
            tools.mkdir()
            for name, text in (("nvidia-smi", "echo a device, 1.2"), ("ninja", ninja), ("cmake", f'echo "$@" >>{folder}/cmake')):
                (tools / name).write_text(f"#!/bin/sh\n{text}\n")
                (tools / name).chmod(0o755)
            gpu.work = Path(folder) / "work"
            gpu.build_folder = gpu.work / "build"
            gpu.build_folder.mkdir(parents=True)
            gpu.least_seconds = 0
            path = gpu.os.environ["PATH"]
            self.addCleanup(gpu.os.environ.__setitem__, "PATH", path)
            gpu.os.environ["PATH"] = f"{tools}:{path}"
            checks = gpu.checks
            self.addCleanup(setattr, gpu, "checks", checks)
            gpu.checks = lambda: [("good", ["true"]), ("not built", [gpu.build_folder / "nothing"])]
            code = gpu.main([*arguments, "--out", str(Path(folder) / "out")])
            self.assertIn("-DRLHF_GPU_PACK=", (Path(folder) / "cmake").read_text())
            return code, json.loads((Path(folder) / "out" / "gpu-report.json").read_text())

    def test_what_did_not_compile_fails_its_own_check_only(self):
        code, report = self.run_with("exit 1", ["check"])
        self.assertEqual(code, 1)
        self.assertEqual([c["code"] for c in report["checks"]], [0, 127])
        self.assertEqual(report["device"], "a device, 1.2")

    def test_a_build_that_is_not_done_is_not_checked(self):
        code, report = self.run_with("exec sleep 30", ["check", "--limit", "1"])
        self.assertEqual((code, [c["code"] for c in report["checks"]], report["all_checks_passed"]), (1, [None, None], False))

    def test_checks_that_have_not_run_are_said(self):
        code, report = self.run_with("true", ["build"])
        self.assertEqual((code, report["built"], [c["code"] for c in report["checks"]]), (0, 0, [None, None]))
        self.assertFalse(report["all_checks_passed"])

    def test_the_slow_checks_come_after_the_benches(self):
        order = []
        for name in ("check", "bench"):
            self.addCleanup(setattr, gpu, name, getattr(gpu, name))
        gpu.check = lambda time_left, items: order.append([name for name, _ in items])
        gpu.bench = lambda time_left, device: order.append("bench")
        self.addCleanup(setattr, gpu, "slow", gpu.slow)
        gpu.slow = lambda item: item[0] == "not built"
        self.assertEqual(self.run_with("true", [])[0], 3)
        self.assertEqual(order, [["good"], "bench", ["good", "not built"]])


class Report(unittest.TestCase):
    row = {"name": "gpu/a", "seconds": 2e-3, "of_ceiling": 0.95, "goal": 0.9, "reached": True}
    measured = {"parts": {"logits": [{"name": "ceilings", "bytes_per_second": 4e12, "operations_per_second": 7e14}, row],
                          "tokens": [{**row, "name": "gpu/b", "reached": False}]}}
    peers = {"rows": [{"name": "gpu/a", "peer": "slow", "seconds": 8e-3}, {"name": "gpu/a", "peer": "quick", "seconds": 3e-3},
                      {"name": "gpu/a", "peer": "failed", "seconds": None}]}

    def test_merging(self):
        checks = [{"name": "one", "code": 0, "seconds": 1, "said": ""}, {"name": "two", "code": None, "seconds": 0, "said": ""}]
        report = gpu.merged("a device", checks, self.measured, self.peers)
        a, b = report["bench"]
        self.assertEqual((a["best_peer"], a["bytes_per_second"], len(a["peers"])), ("quick", 4e12, 3))
        self.assertAlmostEqual(a["times_faster"], 1.5)
        self.assertEqual((b["best_peer"], b["times_faster"], b["bytes_per_second"]), (None, None, None))
        self.assertEqual((report["goals_reached"], report["goals"], report["all_checks_passed"]), (1, 2, False))
        self.assertTrue(gpu.merged("", checks[:1], {}, {})["all_checks_passed"])
        self.assertFalse(gpu.merged("", [], {}, {})["all_checks_passed"])  # nothing checked is not passed
        self.assertFalse(gpu.merged("", checks[:1], {}, {}, 1)["all_checks_passed"])  # what does not compile is not checked
        json.dumps(report)

    def test_table(self):
        checks = [{"name": "one", "code": 0, "seconds": 1, "said": "ok"}, {"name": "two", "code": 9, "seconds": 2, "said": "bad"},
                  {"name": "three", "code": None, "seconds": 0, "said": "not run yet"}]
        text = gpu.table(gpu.merged("a device", checks, self.measured, self.peers))
        for words in ("device: a device", "passed", "FAIL 9", "not run", "quick 3.000 ms", "1.50", "goals reached: 1 of 2"):
            self.assertIn(words, text)

    def test_peers_are_taken_up_where_they_were_left(self):
        row = {"name": "a", "peer": "eager", "seconds": 1}
        begun = {"name": "a", "peer": "other", "begins": True}
        state = {"identity": "x", "whole": False, "rows": []}
        state = gpu.with_rows(state, 124, [{**row, "begins": True}, row, begun])
        self.assertEqual([(r["peer"], r["seconds"], gpu.is_done(r)) for r in state["rows"]],
                         [("eager", 1, True), ("other", None, False)])
        again = gpu.with_rows(state, 124, [begun])
        self.assertEqual([gpu.is_done(r) for r in again["rows"]], [True, True])  # late twice: given up
        state = gpu.with_rows(state, 0, [begun, {"name": "a", "peer": "other", "seconds": 2}])
        self.assertEqual(([r["seconds"] for r in state["rows"]], state["whole"], state["identity"]), ([1, 2], True, "x"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.json"
            gpu.write_json(path, state)
            self.assertEqual(gpu.kept(path, "x", {}), state)
            self.assertEqual(gpu.kept(path, "y", {"rows": []}), {"identity": "y", "rows": []})

    def test_quick_checks_come_first(self):
        slow = [gpu.slow(item) for item in gpu.checks()]
        self.assertEqual(slow, sorted(slow))
        self.assertEqual(slow.count(False), 8)

    def test_lines(self):
        self.assertEqual(gpu.lines('noise\n{"name": 1}\n{torn\n {"no": 2}\n'), [{"name": 1}])

    def test_at_most_six_files(self):
        self.assertLessEqual(len(gpu.details) + 1, 6)

    def test_every_check_names_a_program_that_is_built(self):
        built = (Path(gpu.root) / "bench/gpu/CMakeLists.txt").read_text()
        for name, command in gpu.checks():
            program = next(word for word in command if isinstance(word, Path)).name  # the first path: after a tool and its options
            stem = program.removesuffix("-whole").removesuffix("-few").removeprefix("gpu-") if "linear" not in program else program
            self.assertIn(stem, built, name)


if __name__ == "__main__":
    unittest.main()
