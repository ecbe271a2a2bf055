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

    def test_without_time_nothing_is_started(self):
        self.assertEqual(self.check(5)[0], {"name": "one", "code": None, "seconds": 0, "said": "not run yet"})
        self.assertEqual(self.runs(), 0)

    def test_a_program_that_is_not_there(self):
        self.assertEqual(self.check(command=["/nonexistent/program"])[0]["code"], 127)

    def test_state_that_cannot_be_read_is_none(self):
        (gpu.work / "checks.json").write_text("{ torn")
        self.assertEqual(self.check()[0]["code"], 0)


class Steps(unittest.TestCase):
    """The whole of it, with stand-ins for the device and the tools."""

    def run_with(self, ninja, arguments):
        with tempfile.TemporaryDirectory() as folder:
            tools = Path(folder) / "tools"
            tools.mkdir()
            for name, text in (("nvidia-smi", "echo a device, 1.2"), ("ninja", ninja), ("cmake", "touch $4/build.ninja")):
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
            return code, json.loads((Path(folder) / "out" / "gpu-report.json").read_text())

    def test_what_did_not_compile_fails_its_own_check_only(self):
        code, report = self.run_with("exit 1", ["check"])
        self.assertEqual(code, 1)
        self.assertEqual([c["code"] for c in report["checks"]], [0, 127])
        self.assertEqual(report["device"], "a device, 1.2")

    def test_a_build_that_is_not_done_is_not_checked(self):
        code, report = self.run_with("exec sleep 30", ["check", "--limit", "1"])
        self.assertEqual((code, report["checks"], report["all_checks_passed"]), (1, [], False))


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
        json.dumps(report)

    def test_table(self):
        checks = [{"name": "one", "code": 0, "seconds": 1, "said": "ok"}, {"name": "two", "code": 9, "seconds": 2, "said": "bad"},
                  {"name": "three", "code": None, "seconds": 0, "said": "not run yet"}]
        text = gpu.table(gpu.merged("a device", checks, self.measured, self.peers))
        for words in ("device: a device", "passed", "FAIL 9", "not run", "quick 3.000 ms", "1.50", "goals reached: 1 of 2"):
            self.assertIn(words, text)

    def test_lines(self):
        self.assertEqual(gpu.lines('noise\n{"name": 1}\n{torn\n {"no": 2}\n'), [{"name": 1}])

    def test_at_most_six_files(self):
        self.assertLessEqual(len(gpu.details) + 1, 6)

    def test_every_check_names_a_program_that_is_built(self):
        built = (Path(gpu.root) / "bench/gpu/CMakeLists.txt").read_text()
        for name, command in gpu.checks():
            program = next(word for word in command if isinstance(word, Path)).name
            stem = program.removesuffix("-whole").removesuffix("-few").removeprefix("gpu-") if "linear" not in program else program
            self.assertIn(stem, built, name)


if __name__ == "__main__":
    unittest.main()
